"""copy_study: a study copied to another storage, where it resumes as it would have here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import get_all_study_names
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import InvalidArgument, StorageUnavailable, check_text
from hpolab.keywords import checks_keywords
from hpolab.running.progress import progress_bar
from hpolab.storage.bulk import write_trials
from hpolab.storage.location import url_of
from hpolab.storage.redaction import redact
from hpolab.storage.url import default_url, open_storage
from hpolab.studies.recipe import read_recipe
from hpolab.studies.study import COPY_KEY, post_studies_of, stored_study
from hpolab.trial.checkpoint import TrialCheckpoints, default_store
from hpolab.trial.lease import Lease, requeue_dead_trials, requeue_trial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["copy_study"]

# Trials written together: at a few kilobytes each, what every server takes in one request.
_BATCH = 500


@checks_keywords()
def copy_study(
    study_name: str,
    *,
    storage: str | PathLike[str] | BaseStorage | None = None,
    to_storage: str | PathLike[str] | BaseStorage,
    to_study_name: str | None = None,
    requeue_running: bool = False,
    show_progress_bar: bool | None = None,
) -> int:
    """Copy a study to another storage, where it resumes exactly as it would have here.

    Everything is copied: the recipe, all attributes, each trial under its number in its state,
    with its parameters, reports and times, and the checkpoints of unfinished trials, as far as
    they lie in the default folders. (``optuna.copy_study`` copies a running trial as running,
    which nobody ever finishes, and the ids of NSGA-II's parents, which are other trials there.)
    The studies of a staged objective's post-processing parameters are copied too; artifacts stay
    in their folder.

    The copy stores where it is from, under its user attribute `hpolab:copy`.

    The trials of dead workers are first requeued in ``storage``, as `run` would; nothing else is
    changed there. A copy that is interrupted leaves half a study that `make_study` and
    `load_study` refuse, and that the next `copy_study` replaces.

    Two things do not follow a study to another *name*: Hyperband, which deals trials to its
    brackets by the study's name, and checkpoints in an artifact store of your own.

    Args:
        study_name: The study's name.
        storage: Where it is, as in `make_study`.
        to_storage: Where to copy it to.
        to_study_name: The copy's name; None for the same.
        requeue_running: Whether to requeue running trials in the copy, whose workers then run them
            again under their numbers, with their parameters and reports. The original is not
            disturbed, so both may run the same trial.
        show_progress_bar: None shows it in a terminal and in a notebook.

    Returns:
        The number of trials.

    Raises:
        StudyNotFound: If ``storage`` has no such study.
        RecipeMismatch: If a newer hpolab has written it.
        InvalidArgument: If ``to_storage`` has a study of that name already, which is left as it
            is; if a trial is running whose worker lives, or cannot be seen from here; or if
            ``to_storage`` is ``memory://``.
        StorageUnavailable: If a storage cannot be opened, or the study went on while it was
            copied.

    Example:
        >>> from optuna.storages import InMemoryStorage
        >>> from hpolab import load_study, make_study, run
        >>> here, there = InMemoryStorage(), InMemoryStorage()
        >>> study = make_study("squares", storage=here, sampler="random")
        >>> run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
        >>> copy_study("squares", storage=here, to_storage=there)
        5
        >>> load_study("squares", storage=there).best_value == study.best_value
        True
    """
    if to_storage == "memory://":
        raise InvalidArgument("`to_storage` must outlive this process, got 'memory://'.")
    source_storage = open_storage(storage, create=False)
    source = stored_study(study_name, source_storage)
    read_recipe(source)  # refuses what a newer hpolab has written: nobody here knows how to copy it
    if to_study_name is not None:
        check_text("`to_study_name`", to_study_name)
    target_storage = open_storage(to_storage)
    trials = _settled_trials(source, requeue_running)
    states = [trial.state for trial in trials]
    origin = {"storage": _name_of(storage), "study_name": study_name, "n_trials": len(trials)}
    target = _new_study(
        to_study_name or study_name, target_storage, source, origin, _name_of(to_storage)
    )
    for name, suffix in post_studies_of(study_name, get_all_study_names(source_storage)).items():
        copied = target.study_name + suffix
        _remove_copy_of(name, copied, target_storage)
        copy_study(
            name,
            storage=source_storage,
            to_storage=target_storage,
            to_study_name=copied,
            requeue_running=requeue_running,
            show_progress_bar=False,
        )
    with progress_bar(target.study_name, len(trials), show_progress_bar) as move:
        for first in range(0, len(trials), _BATCH):
            batch = trials[first : first + _BATCH]
            write_trials(*_optuna.place(target), batch)
            if move is not None:
                move(first + len(batch), "")
    _copy_what_is_not_a_trial(source, target, trials)
    if not requeue_running and states != [t.state for t in source.get_trials(deepcopy=False)]:
        raise StorageUnavailable(
            f"Study {study_name!r} went on while it was copied. Wait until its workers have ended "
            "and copy it again."
        )
    target.set_user_attr(COPY_KEY, origin | {"done": True})
    return len(trials)


def _settled_trials(source: Study, requeue_running: bool) -> list[FrozenTrial]:
    """Return a study's trials, or refuse those that cannot be copied as they are."""
    trials = source.get_trials(deepcopy=False)
    if any(trial.state == TrialState.RUNNING for trial in trials):
        requeue_dead_trials(source)
        trials = source.get_trials(deepcopy=False)
    running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    if running and not requeue_running:
        raise InvalidArgument(
            f"`study_name` must be a study that nobody runs, got {source.study_name!r} with "
            f"{len(running)} running: trial {', '.join(map(str, running))}. End the workers "
            "(Ctrl-C requeues their trials) and copy it again; or copy it with "
            "`requeue_running=True` (`--requeue-running`), and the copy runs these again."
        )
    if [trial.number for trial in trials] != list(range(len(trials))):
        raise InvalidArgument(
            f"`study_name` must be a study with all its trials, got {source.study_name!r}, some "
            "of whose trials were deleted: the others would get other numbers."
        )
    return trials


def _new_study(
    name: str, storage: BaseStorage, source: Study, origin: dict[str, Any], where: str
) -> Study:
    """Create the study to copy to, marked as half a copy; the half of an earlier copy is deleted.

    A study without anything is taken as it is: it may be that of an earlier copy, killed before
    it was marked.
    """
    directions = source.directions
    found = _find_study(name, storage)
    if found is not None:
        if _is_dead_half(found):
            optuna.delete_study(study_name=name, storage=storage)
        elif found.user_attrs or found.get_trials(deepcopy=False) or found.directions != directions:
            raise InvalidArgument(
                f"`to_study_name` must be new in {where}, got {name!r}, which is there already; "
                "nothing was changed. Take another name (`--name`)."
            )
    target = optuna.create_study(
        study_name=name, storage=storage, directions=directions, load_if_exists=True
    )
    _, lease = Lease.mine().as_mark()
    target.set_user_attr(COPY_KEY, origin | {"done": False, "lease": lease})
    return target


def _remove_copy_of(name: str, copied: str, storage: BaseStorage) -> None:
    """Delete what an interrupted copy has made of a study that belongs to the one it copied."""
    found = _find_study(copied, storage)
    if found is not None and found.user_attrs.get(COPY_KEY, {}).get("study_name") == name:
        optuna.delete_study(study_name=copied, storage=storage)


def _find_study(name: str, storage: BaseStorage) -> Study | None:
    if name not in get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _is_dead_half(study: Study) -> bool:
    copied = study.user_attrs.get(COPY_KEY)
    if copied is None or copied["done"]:
        return False
    lease = Lease.read(copied["lease"])
    # Of a process on another host nothing is known; its half cannot be all that is left.
    return lease.is_mine or lease.host != Lease.mine().host or lease.process_is_dead()


def _copy_what_is_not_a_trial(source: Study, target: Study, trials: Sequence[FrozenTrial]) -> None:
    _optuna.copy_system_attrs(source, target)
    for key, value in source.user_attrs.items():
        if key != COPY_KEY:
            target.set_user_attr(key, value)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            requeue_trial(target, trial.number)
        if not trial.state.is_finished():
            _copy_checkpoint(source, target, trial.number)


def _copy_checkpoint(source: Study, target: Study, number: int) -> None:
    stores = default_store(source), default_store(target)
    if stores[0] is None or stores[1] is None:
        return
    found = TrialCheckpoints(stores[0], source.study_name, number).load()
    copied = TrialCheckpoints(stores[1], target.study_name, number)
    if found is None:
        copied.remove()  # it would be of another study that once had this name
    else:
        copied.save(found)


def _name_of(storage: str | PathLike[str] | BaseStorage | None) -> str:
    if isinstance(storage, BaseStorage):
        return type(storage).__name__
    return redact(default_url() if storage is None else url_of(storage))
