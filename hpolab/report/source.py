"""Finds what a name stands for in a storage: a study, comparison, confirmation or sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.study import get_all_study_names

from hpolab.analysis.trained.compare import comparisons_in, load_comparison
from hpolab.analysis.trained.confirm import load_confirmation
from hpolab.analysis.trained.sweep import load_sweep, sweeps_in
from hpolab.analysis.trained.trainings import tuning_studies
from hpolab.errors import InvalidArgument, StudyNotFound, hint
from hpolab.studies.study import stored_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    loads: dict[str, Callable[..., Source]] = {
        **dict.fromkeys(sweeps_in(storage), load_sweep),
        **dict.fromkeys(comparisons_in(storage), load_comparison),
    }
    if name is None:
        name = _only(names, loads)
    if name not in names and name in loads:
        return loads[name](name, storage=storage)
    if name not in names:
        known = sorted({*names, *loads})
        listed = ", ".join(map(repr, known)) or "no study"
        raise StudyNotFound(
            f"No study, comparison or sweep {name!r}; the storage has {listed}.{hint(name, known)}"
        )
    study = stored_study(name, storage)
    try:
        return load_confirmation(study)
    except InvalidArgument:
        return study  # not a confirmation, or an unfinished one


def _only(names: list[str], wholes: Iterable[str]) -> str:
    tuned = tuning_studies(names)
    if len(tuned) != 1:
        listed = ", ".join(sorted({*names, *wholes})) or "none"
        raise StudyNotFound(f"Name one of the studies, or a comparison or sweep of them: {listed}.")
    return tuned[0]
