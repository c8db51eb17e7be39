"""Finds what a name stands for in a storage: a study, comparison, confirmation or sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.study import get_all_study_names

from hpolab.analysis.trained.compare import load_comparison
from hpolab.analysis.trained.confirm import load_confirmation
from hpolab.analysis.trained.sweep import load_sweep
from hpolab.analysis.trained.trainings import tuning_studies
from hpolab.errors import InvalidArgument, StudyNotFound
from hpolab.studies.study import stored_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import BaseStorage

    from hpolab.report.write import Source

__all__ = ["find_source"]


def find_source(name: str | None, storage: BaseStorage) -> Source:
    """Return what to report.

    Args:
        name: The name of a study, comparison, confirmation or sweep; None for the only study of the
            storage. Studies that belong to it, such as its confirmation, do not count.
        storage: The storage.

    Raises:
        StudyNotFound: If there is nothing of that name, or no name and several studies.
    """
    names = get_all_study_names(storage)
    if name is None:
        name = _only(names)
    if name not in names:
        loads: list[Callable[..., Source]] = [load_comparison, load_sweep]
        for load in loads:
            try:
                return load(name, storage=storage)
            except StudyNotFound:
                continue  # after the last one, the error below lists the studies
    study = stored_study(name, storage)
    try:
        return load_confirmation(study)
    except InvalidArgument:
        return study  # not a confirmation, or an unfinished one


def _only(names: list[str]) -> str:
    tuned = tuning_studies(names)
    if len(tuned) != 1:
        listed = ", ".join(sorted(names)) or "none"
        raise StudyNotFound(f"Name one of the studies, or a comparison of them: {listed}.")
    return tuned[0]
