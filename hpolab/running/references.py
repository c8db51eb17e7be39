"""What simple solutions reach, computed once a data set behind a study's trials and stored."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from hpolab import _optuna
from hpolab.errors import error_text
from hpolab.logs import get_logger
from hpolab.objectives.packed_rows import RowScores
from hpolab.studies.recipe import REFERENCE_ROWS_PREFIX, REFERENCES_KEY
from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from optuna import Study

    from hpolab.objectives.base import Objective

__all__ = ["note_references"]

_logger = get_logger(__name__)

_OF_KEY = "hpolab:references_of"
"""What they depend on, as `Objective.references_key` tells it."""

_CLAIM_KEY = "hpolab:references_claim"
"""Who computes them."""

# A claim of a process on another host, which cannot be looked up, counts for so long.
_CLAIM_SECONDS = 3600.0

# Key -> what a study stores of them: all studies of a process that rank the same share them.
_known: dict[str, dict[str, Any]] = {}
_lock = Lock()


def note_references(study: Study, objective: Objective) -> None:
    """Store what simple solutions reach, unless it is stored; one process of a study does so.

    They are looked for in this process and among the storage's studies before they are computed.
    An error is logged, as the trials are what a run is about, and nothing is stored. So is
    nothing where the process is interrupted: the next `run` of the study does it.

    Args:
        study: A study that has run.
        objective: What it was run with.
    """
    names = objective.reference_names()
    if names is not None and not names:
        return
    attrs = study.user_attrs
    if attrs.get(REFERENCES_KEY) or _is_claimed(attrs):
        return
    try:
        key = objective.references_key()
        found = None if key is None else _known.get(key) or _stored_elsewhere(study, key)
        if found is None:
            study.set_user_attr(_CLAIM_KEY, Lease.mine().as_mark()[1])
            if names is not None:
                _logger.info(
                    f"Study {study.study_name!r}: computing what simple solutions reach on the "
                    f"same data, once: {', '.join(names)}."
                )
            found = _computed(objective)
    except Exception as error:  # noqa: BLE001 - of the user's own code, perhaps
        _logger.warning(
            f"Study {study.study_name!r} has no simple solutions beside its trials, as computing "
            f"them failed: {error_text(error)}"
        )
        return
    if not found:
        return
    if key is not None:
        with _lock:
            _known[key] = found
        study.set_user_attr(_OF_KEY, key)
    # What is left of references on other data.
    stale = {name: "" for name in attrs if name.startswith(REFERENCE_ROWS_PREFIX)}
    for name, value in {**stale, **found}.items():
        study.set_user_attr(name, value)


def _is_claimed(attrs: dict[str, Any]) -> bool:
    """Tell whether another process that lives computes them."""
    stored = attrs.get(_CLAIM_KEY)
    if not stored:
        return False
    claim = Lease.read(stored)
    if claim.is_mine or claim.process_is_dead():
        return False
    return claim.is_here or time.time() - claim.beat_at < _CLAIM_SECONDS


def _computed(objective: Objective) -> dict[str, Any]:
    """Return what a study stores of references, attribute by attribute; {} where there are none."""
    metrics: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name, reference in objective.scored_references().items():
        if isinstance(reference, str):
            metrics[name] = reference
            continue
        metrics[name] = dict(reference.metrics)
        if reference.rows is not None:
            # One attribute each: a column of MySQL holds 64 kB.
            found[f"{REFERENCE_ROWS_PREFIX}{name}"] = RowScores.of(reference.rows).as_text()
    return {**found, REFERENCES_KEY: metrics} if metrics else {}


def _stored_elsewhere(study: Study, key: str) -> dict[str, Any] | None:
    """Return what another study of the storage has stored under the same key."""
    for other in _optuna.storage_of(study).get_all_studies():
        attrs = other.user_attrs
        if attrs.get(_OF_KEY) == key and attrs.get(REFERENCES_KEY):
            rows = {each: attrs[each] for each in attrs if each.startswith(REFERENCE_ROWS_PREFIX)}
            return {**rows, REFERENCES_KEY: attrs[REFERENCES_KEY]}
    return None
