"""Names of a study's actors, and what tells two runs of one study apart."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from hpolab import _optuna
from hpolab.identity import captured_data, code_digest, function_settings, read_by
from hpolab.objectives.base import Objective
from hpolab.running.described import name_of
from hpolab.storage.redaction import redact
from hpolab.studies.facts import stored_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from hpolab.running.plan import Plan

__all__ = ["PREFIX", "describe", "namespace_of", "storage_address"]

PREFIX = "hpolab-"

# How deep functions that a function calls are compared.
_DEPTH = 3


def namespace_of(study: Study) -> str:
    """Return the namespace of a study's actors: the same in every process, no other study's."""
    place, study_id = _optuna.place(study)
    digest = _digest([storage_address(place), study_id, study.study_name])
    shown = "".join(char if char.isalnum() or char in "-_." else "-" for char in study.study_name)
    return f"{PREFIX}{shown[:60]}-{digest}"


def storage_address(place: Any) -> str:
    """Return where a storage is, without user and password.

    Args:
        place: What keeps the study behind Optuna's cache or journal, or a study's storage.
    """
    path = getattr(place, "path", getattr(place, "_file_path", None))
    if path is not None:
        return f"journal:{path}"
    engine = getattr(place, "engine", None)
    if engine is not None:
        url = engine.url
        return f"{url.get_backend_name()}://{url.host or ''}:{url.port or ''}/{url.database}"
    address = getattr(place, "address", None)
    if address is not None:
        return f"grpc://{address}"
    url = getattr(place, "_url", None)  # Optuna's own backend for Redis has it under this name, too
    return redact(url).rpartition("@")[2] if isinstance(url, str) else type(place).__name__


def describe(
    study: Study, objective: Any, plan: Plan, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return what workers are for, in texts that are equal in every process that asks for the same.

    Args:
        study: The study, whose facts are this objective's.
        objective: The objective.
        plan: The budget and the rules.
        settings: The executor's.
    """
    rules = {
        name: getattr(plan, name)
        for name in ("n_trials", "max_failures", "max_retries", "grace_seconds", "window", "fuse")
    }
    if isinstance(objective, Objective):
        code = _digest(stored_facts(study.user_attrs))
    else:
        code = _digest(_identity_of(objective))
    callbacks = _digest([_identity_of(callback) for callback in plan.callbacks])
    shown = {name: str(value) for name, value in {**settings, **rules}.items()}
    return {"objective": name_of(objective), "its code": code, "callbacks": callbacks, **shown}


def _identity_of(function: Any, depth: int = _DEPTH) -> Any:
    """Return what a function is, with what it reads, and the functions of its own that it calls."""
    module = getattr(function, "__module__", None)
    called = {
        name: _identity_of(each, depth - 1)
        for name, each in read_by(function).items()
        if depth and hasattr(each, "__code__") and getattr(each, "__module__", None) == module
    }
    return [function_settings(function), code_digest(function), captured_data(function), called]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str).encode(errors="surrogatepass")
    return blake2b(text, digest_size=8).hexdigest()
