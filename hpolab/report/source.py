"""What a storage has to report under a name: a study, comparison, confirmation or sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.study import get_all_study_names

from hpolab.analysis.confirmation import CONFIRMED
from hpolab.analysis.trained.compare import load_comparison
from hpolab.analysis.trained.confirm import load_confirmation
from hpolab.analysis.trained.sweep import load_sweep
from hpolab.errors import InvalidArgument, StudyNotFound
from hpolab.studies.study import stored_study, without_post_studies

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import BaseStorage

    from hpolab.report.write import Source

__all__ = ["find_source"]


def find_source(name: str | None, storage: BaseStorage) -> Source:
    """Return what is to be reported.

    Args:
        name: A study's, comparison's, confirmation's or sweep's; None for the only study that
            there is, its confirmation not counted.
        storage: Where it is.

    Raises:
        StudyNotFound: If there is none of that name, or several and no name.
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
                continue  # after the last, what follows says which studies there are
    study = stored_study(name, storage)
    try:
        return load_confirmation(study)
    except InvalidArgument:
        return study  # no confirmation, or not a finished one


def _only(names: list[str]) -> str:
    confirmed = {f"{name}{CONFIRMED}" for name in names}
    tuned = [name for name in without_post_studies(names) if name not in confirmed]
    if len(tuned) != 1:
        listed = ", ".join(sorted(names)) or "none"
        raise StudyNotFound(f"Name one of the studies, or a comparison of them: {listed}.")
    return tuned[0]
