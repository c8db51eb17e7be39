"""delete_study: a study with all that belongs to it, or a comparison or sweep with its studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.study import get_all_study_names
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.analysis.trained.compare import comparisons_in, studies_of_comparison
from hpolab.analysis.trained.confirm import studies_of_confirmations
from hpolab.analysis.trained.sweep import studies_of_sweep, sweeps_in
from hpolab.analysis.trained.trainings import ENSEMBLE
from hpolab.errors import InvalidArgument, StudyNotFound, hint
from hpolab.keywords import checks_keywords
from hpolab.staged.artifacts import default_cache
from hpolab.storage.url import open_storage
from hpolab.studies.study import post_studies_of
from hpolab.trial.checkpoint import TrialCheckpoints, default_store
from hpolab.trial.lease import requeue_dead_trials

if TYPE_CHECKING:
    from os import PathLike

    from optuna import Study
    from optuna.storages import BaseStorage

__all__ = ["Deletion", "delete_study", "plan_deletion"]


@dataclass(frozen=True)
class Deletion:
    """What deleting a study removes.

    Attributes:
        studies: Name -> number of trials, what belongs to others first.
        running: Name -> numbers of the trials that are running.
    """

    studies: dict[str, int]
    running: dict[str, list[int]]


@checks_keywords()
def delete_study(
    study_name: str,
    *,
    storage: str | PathLike[str] | BaseStorage | None = None,
    force: bool = False,
) -> list[str]:
    """Delete a study for good, with its confirmations, ensemble, post-processing and checkpoints.

    Of a comparison or a sweep all studies are deleted. Artifacts of staged trainings are kept by
    what they were made from, so other studies may use them: they go with the storage's last study.

    Args:
        study_name: The name of a study, a comparison or a sweep.
        storage: As in `make_study`.
        force: Whether to delete it although trials of it are running, whose workers then fail.

    Returns:
        The names of the studies that were deleted.

    Raises:
        StudyNotFound: If the storage has nothing of that name, or there is no storage yet
            (`StorageNotFound`).
        InvalidArgument: If trials are running whose workers live, or cannot be seen from here.
        StorageUnavailable: If the storage cannot be opened.

    Example:
        >>> from optuna.storages import InMemoryStorage
        >>> from hpolab import make_study
        >>> storage = InMemoryStorage()
        >>> study = make_study("squares", storage=storage)
        >>> delete_study("squares", storage=storage)
        ['squares']
    """
    opened = open_storage(storage, create=False)
    plan = plan_deletion(study_name, opened)
    if plan.running and not force:
        name, numbers = next(iter(plan.running.items()))
        raise InvalidArgument(
            f"`study_name` must be a study that nobody runs, got {name!r} with {len(numbers)} "
            f"running: trial {', '.join(map(str, numbers))}. End the workers (Ctrl-C requeues "
            "their trials) and delete it again; or delete it with `force=True` (`--force`), and "
            "they fail."
        )
    for name in plan.studies:
        study = optuna.load_study(study_name=name, storage=opened)
        _remove_checkpoints(study)
        if len(get_all_study_names(opened)) == 1 and _optuna.storage_file(study) is not None:
            cache = default_cache(study)
            if cache is not None:
                cache.clear()
        optuna.delete_study(study_name=name, storage=opened)
    return list(plan.studies)


def plan_deletion(study_name: str, storage: BaseStorage) -> Deletion:
    """Return what `delete_study` would remove; trials of dead workers are requeued before.

    Raises:
        StudyNotFound: If the storage has nothing of that name.
    """
    names = get_all_study_names(storage)
    heads = [*studies_of_comparison(study_name, storage), *studies_of_sweep(study_name, storage)]
    heads += [study_name] if study_name in names else []
    if not heads:
        known = sorted({*names, *comparisons_in(storage), *sweeps_in(storage)})
        listed = ", ".join(map(repr, known)) or "no study"
        raise StudyNotFound(
            f"No study, comparison or sweep {study_name!r}; the storage has {listed}."
            f"{hint(study_name, known)}"
        )
    found = dict.fromkeys(each for head in heads for each in _belonging(head, names, storage))
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in found}
    running = {name: _running(study) for name, study in studies.items()}
    return Deletion(
        {name: len(study.get_trials(deepcopy=False)) for name, study in studies.items()},
        {name: numbers for name, numbers in running.items() if numbers},
    )


def _belonging(study_name: str, names: list[str], storage: BaseStorage) -> list[str]:
    """Return a study's name, behind those of the studies that mean nothing without it."""
    found = [*post_studies_of(study_name, names), *studies_of_confirmations(study_name, storage)]
    found += [name for name in (f"{study_name}{ENSEMBLE}",) if name in names]
    return [*found, study_name]


def _running(study: Study) -> list[int]:
    if study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        requeue_dead_trials(study)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial.number for trial in running]


def _remove_checkpoints(study: Study) -> None:
    store = default_store(study)
    if store is None:
        return
    for trial in study.get_trials(deepcopy=False):
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            TrialCheckpoints(store, study.study_name, trial.number).remove()
