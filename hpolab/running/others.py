"""Other workers of a study that train something else than this one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpolab.errors import RecipeMismatch
from hpolab.logs import get_logger
from hpolab.running.described import this_worker
from hpolab.studies.history import history_of
from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["refuse_other_objective"]

_logger = get_logger(__name__)

# How often another worker's lease is looked at, to see whether it lives.
_LOOK_SECONDS = 0.5


def refuse_other_objective(study: Study, name: str) -> None:
    """Refuse a study whose trials another worker trains with an objective of another name.

    hpolab objectives are compared by their facts, functions by this alone. A worker on another
    host, which may be dead, is watched for as long as it may be silent.

    Args:
        study: The study.
        name: What this worker's leases call its objective.

    Raises:
        RecipeMismatch: If there is one.
    """
    seen: dict[int, tuple[Lease, float]] = {}
    has_said_so = False
    while True:
        may_live = False
        for number, lease in _others(study, name).items():
            before, since = seen.setdefault(number, (lease, time.monotonic()))
            if lease.host == Lease.mine().host or lease != before:
                raise RecipeMismatch(
                    f"Study {study.study_name!r} has a worker with another objective: process "
                    f"{lease.pid} on {lease.host.partition('/')[0]} trains trial {number} with "
                    f"{lease.objective!r}, and {this_worker()} was given {name!r}.",
                    " Give the same objective, or take another study.",
                )
            may_live = may_live or time.monotonic() - since < lease.grace_seconds
        if not may_live:
            return
        if not has_said_so:
            _logger.warning(
                f"Trials {', '.join(map(str, seen))} of study {study.study_name!r} were begun with "
                "another objective on another host; waiting to see whether their workers live."
            )
            has_said_so = True
        time.sleep(_LOOK_SECONDS)


def _others(study: Study, name: str) -> dict[int, Lease]:
    """Return the leases of running trials whose workers train something else and may live."""
    found: dict[int, Lease] = {}
    for trial in history_of(study).running:
        lease = Lease.of(trial)
        if lease is None or lease.is_mine or lease.objective in ("", name):
            continue
        if not lease.process_is_dead():
            found[trial.number] = lease
    return found
