"""What a study's values depend on beside params and seed, compared before a trial is spent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.errors import RecipeMismatch
from hpolab.logs import get_logger
from hpolab.studies.recipe import FACTS_KEY, REFERENCES_KEY
from hpolab.studies.trials import holds_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

__all__ = ["Facts", "check_facts", "compare_facts", "note_facts", "stored_facts"]

_logger = get_logger(__name__)

_KNOWN_KEY = "hpolab:known_facts"
_NOTED_KEY = "hpolab:noted_facts"


@dataclass(frozen=True)
class Facts:
    """What the values of an objective depend on, as plain values by name.

    Attributes:
        declared: What a user, or a subclass, has declared. All of it must be as it was.
        known: What the objective knows of itself. A name that a study lacks is added to it, as
            another version of hpolab may have begun it.
        noted: What may change where it leaves the values as they are, such as the code of a
            function; that it has changed is said once.
    """

    declared: Mapping[str, Any]
    known: Mapping[str, Any]
    noted: Mapping[str, Any]


# What earlier versions stored of settings that are the default by now, of which no fact is stored.
_DEFAULTS = (("memory_format", "auto"),)


def check_facts(study: Study, facts: Facts) -> None:
    """Compare what an objective's values depend on with what is stored, and store what is new.

    A study that holds no value yet takes any facts.

    Raises:
        RecipeMismatch: If a fact differs; the message shows both sides.
    """
    if not any(map(holds_values, study.get_trials(deepcopy=False))):
        _begin(study, facts)
        return
    compare_facts(study, facts)
    _warn_of_changes(study, facts.noted)
    if facts.declared and FACTS_KEY not in study.user_attrs:
        study.set_user_attr(FACTS_KEY, _plain(facts.declared))
    _add(study, _KNOWN_KEY, facts.known)
    _add(study, _NOTED_KEY, facts.noted)


def note_facts(study: Study, noted: Mapping[str, Any]) -> None:
    """Store what may change of a plain function; say once that it has, if the study holds values.

    Args:
        study: The study.
        noted: As in `Facts`.
    """
    if any(map(holds_values, study.get_trials(deepcopy=False))):
        _warn_of_changes(study, noted)
    _add(study, _NOTED_KEY, noted)


def _warn_of_changes(study: Study, noted: Mapping[str, Any]) -> None:
    stored = study.user_attrs.get(_NOTED_KEY, {})
    changed = [
        name
        for name, value in _plain(noted).items()
        if name in stored and _has_changed(stored[name], value)
    ]
    if changed:
        _logger.warning(
            f"Study {study.study_name!r}: since its last run {_listed(changed)} changed. Its "
            "values can be compared only if that leaves them as they were; otherwise take another "
            "`study_name`."
        )


def _add(study: Study, key: str, facts: Mapping[str, Any]) -> None:
    stored = study.user_attrs.get(key, {})
    both = {**stored, **_plain(facts)}
    if both != stored:
        study.set_user_attr(key, both)


def compare_facts(study: Study, facts: Facts) -> None:
    """Compare what an objective's values depend on with what is stored; store nothing.

    Raises:
        RecipeMismatch: If a fact differs; the message shows both sides.
    """
    attrs = study.user_attrs
    differences = _differences(attrs.get(_KNOWN_KEY, {}), _plain(facts.known), shared_only=True)
    # A study with known facts was begun with all that was declared; of an older one without facts
    # nobody knows.
    if FACTS_KEY in attrs or _KNOWN_KEY in attrs:
        stored = attrs.get(FACTS_KEY, {})
        declared = {name: fact for name, fact in stored.items() if (name, fact) not in _DEFAULTS}
        differences += _differences(declared, _plain(facts.declared), shared_only=False)
    if differences:
        raise RecipeMismatch(
            f"Study {study.study_name!r} has values of another kind, which cannot be compared with "
            "these; nothing was changed.\n  " + "\n  ".join(differences),
            "\nTake another `study_name`, or go on with what the study was begun with.",
        )


def stored_facts(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all facts that are stored among a study's user attributes, by name."""
    return {**attrs.get(_KNOWN_KEY, {}), **attrs.get(FACTS_KEY, {})}


def _begin(study: Study, facts: Facts) -> None:
    """Store the facts of a study without a value, in place of those that it was tried with."""
    asked = {
        FACTS_KEY: _plain(facts.declared),
        _KNOWN_KEY: _plain(facts.known),
        _NOTED_KEY: _plain(facts.noted),
    }
    stored = study.user_attrs
    is_other = any(stored.get(key, {}) != asked[key] for key in (FACTS_KEY, _KNOWN_KEY))
    if is_other and stored.get(REFERENCES_KEY):
        study.set_user_attr(REFERENCES_KEY, {})
    for key, value in asked.items():
        if stored.get(key, {}) != value:
            study.set_user_attr(key, value)


def _differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], *, shared_only: bool
) -> list[str]:
    names = stored.keys() & asked.keys() if shared_only else stored.keys() | asked.keys()
    return [
        f"{name!r}: stored {stored.get(name)!r}, asked for {asked.get(name)!r}"
        for name in sorted(names)
        if stored.get(name) != asked.get(name)
    ]


def _has_changed(stored: Any, asked: Any) -> bool:
    """Tell whether a noted fact has changed; code that another Python has compiled has not."""
    pair = (stored, asked)
    versions = [each["python"] for each in pair if isinstance(each, dict) and "python" in each]
    return len(set(versions)) < 2 and stored != asked


def _listed(names: list[str]) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{' and '.join(names)} {verb}"


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    return plain
