"""The underscored names of Optuna that hpolab cannot do without, in this file alone.

Optuna has no public way to pop a given WAITING trial, to requeue a RUNNING trial, to report a
step again after a restart, to write to a study's system attributes, or to let ``Study.stop`` work
outside ``Study.optimize``. Each function here is one of these, written on ``BaseStorage``'s
contract where there is one.
"""

from __future__ import annotations

import copy
import math
import re
import threading
from contextlib import contextmanager
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import _split_trials, default_weights
from optuna.search_space import IntersectionSearchSpace
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.study._multi_objective import _is_pareto_front
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


SLOT_KEY = "hpolab:slot"
NUMBER_KEY = "hpolab:number"
"""A system attribute of a trial to be created: the only number under which it may be."""
_PRUNED_KEY = "hpolab:pruned_at"

# Where `Study.enqueue_trial` keeps the parameters of a trial, and `Trial` looks for them.
_FIXED_PARAMS = "fixed_params"

# What stands between a genetic sampler's class and a generation's number, in the study's attribute
# that keeps the parents.
_PARENTS = ":parent:"

# Keys of the study's attributes in which optuna-dashboard keeps what belongs to one trial.
_OF_A_TRIAL = re.compile(
    r"(?P<before>dashboard:|dashboard:artifacts:|preference:skip_trial:)(?P<id>\d+)"
    r"(?P<after>(?::.*)?)",
    re.DOTALL,
)

# Trials back which tell whether a study has other workers now.
_RECENT = 10


class HeldTrials(NamedTuple):
    """A study's trials as this process holds them, once it has asked the storage what is new.

    Attributes:
        held: What holds them: another object if the study is another one.
        n_trials: How many there are, numbered from 0.
        get: Returns the one of a number; raises KeyError while one before others is not known yet.
    """

    held: object
    n_trials: int
    get: Callable[[int], FrozenTrial]


def held_trials(storage: BaseStorage, study_id: int) -> HeldTrials:
    """Ask a storage what is new in a study, without a look at what is known.

    ``BaseStorage.get_all_trials`` lists all trials for each new one. Storages of hpolab's say it
    by a method of this name.

    Args:
        storage: The storage, Optuna's cache included.
        study_id: The study's id there.

    Raises:
        KeyError: If there is no such study.
    """
    if isinstance(storage, optuna.storages.InMemoryStorage):
        by_number: Any = storage._studies[study_id].trials
        return HeldTrials(by_number, len(by_number), by_number.__getitem__)
    if isinstance(storage, _CachedStorage):
        storage._read_trials_from_remote_storage(study_id)
        by_number = storage._studies[study_id].trials
        return HeldTrials(by_number, len(by_number), by_number.__getitem__)
    own: Any = getattr(storage, "held_trials", None)
    if own is not None:
        found: HeldTrials = own(study_id)
        return found
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return HeldTrials(type(storage), len(trials), trials.__getitem__)


def claim_trial(
    study: Study,
    trials: Sequence[FrozenTrial],
    unfinished: Sequence[FrozenTrial],
    n_trials: int,
    *,
    mark: tuple[str, Any],
    is_mine: Callable[[FrozenTrial], bool],
    first_params: Mapping[str, Any] | None = None,
    window: int | None = None,
    shared: bool = False,
    may_open: bool = True,
    only_enqueued: bool = False,
    is_given_up: Callable[[FrozenTrial], bool] = lambda _: False,
) -> Trial | None:
    """Start the next trial numbered below ``n_trials``, or return None if there is none now.

    (Optuna's ``ask`` knows no bound.) The storage lets one worker alone pop a WAITING trial, and,
    where it is hpolab's, one alone create the trial of a number. A lone worker creates its trials
    itself. Where others have run some lately, a trial is popped from a slot, a WAITING trial, and
    whoever pops the last one opens the next, so that workers seldom ask for the same number.

    Args:
        study: The study.
        trials: Its trials as they were just now.
        unfinished: Those of them that run or wait.
        n_trials: The budget: trials of all states together.
        mark: A user attribute (key, value) that a worker's trials carry. A popped one gets it
            just after it is RUNNING, when nobody else writes it any more; `SLOT_KEY` holds the
            value of the worker that tried last, for the case that one is killed in between.
        is_mine: Tells of a trial whether no other worker has run it.
        first_params: Parameters of trial 0, unless it was enqueued with its own.
        window: Trials that may run at once where the study must not depend on timing: trial n
            starts when all numbered below n - window + 1 are finished, and sees no other.
        shared: Whether other workers start with this one; those that come later are known by the
            trials they have run.
        may_open: Whether to open a slot though the last one's worker should: it may be dead, or
            have a smaller budget.
        only_enqueued: Whether only trials that have parameters may start: the sampler has no
            others.
        is_given_up: Tells of a trial that was enqueued whether its params are not to be tried any
            more, so that the sampler draws others.
    """
    storage = study._storage
    # As in `Study.ask`: the samplers' view of the trials is read afresh once a trial.
    study._thread_local.cached_all_trials = None
    n_finished = unfinished[0].number if unfinished else len(trials)
    alone = not shared and all(map(is_mine, trials[-_RECENT:]))

    def may_start(number: int) -> bool:
        return number < n_trials and (window is None or number - window < n_finished)

    following = trials[-1].number + 1 if trials else 0
    slots = [
        trial
        for trial in unfinished
        if trial.state == TrialState.WAITING and (not only_enqueued or is_enqueued(trial))
    ]
    started, is_new = None, True
    for slot in slots:
        if not may_start(slot.number):
            return None
        popped = _pop(storage, slot, mark)
        if popped:
            started = _Started(slot._trial_id, slot.number)
            is_new = not slot.params and not enqueued_params(slot)
            if not slot.params and is_given_up(slot):
                storage.set_trial_system_attr(slot._trial_id, _FIXED_PARAMS, {})
            break
        if popped is False:
            return None
    if started is None:
        if only_enqueued or not may_start(following):
            return None
        if not alone and not may_open and trials and trials[-1].state == TrialState.RUNNING:
            return None
        started = _create(study, following, TrialState.RUNNING, dict([mark]))
        if started is None:
            return None
        if not may_start(started.number):  # a storage that is not hpolab's has numbered it anew
            storage.set_trial_state_values(started.trial_id, TrialState.WAITING)
            return None
    if not alone and not only_enqueued and started.number + 1 >= following:
        open_slot(study, started.number + 1, n_trials)
    if started.number == 0 and first_params and is_new:
        storage.set_trial_system_attr(started.trial_id, _FIXED_PARAMS, dict(first_params))
    if window is not None:
        study = _with_past_only(study, started.number, below=started.number - window + 1)
    return optuna.Trial(study, started.trial_id)


class _Started(NamedTuple):
    trial_id: int
    number: int


def is_enqueued(trial: FrozenTrial) -> bool:
    """Tell whether a trial waits that has parameters: enqueued ones, or those of an earlier life.

    A slot has none; the sampler draws them.
    """
    known = bool(trial.params) or _FIXED_PARAMS in trial.system_attrs
    return trial.state == TrialState.WAITING and known


def open_slot(study: Study, number: int, n_trials: int) -> None:
    """Add a WAITING trial, if ``number`` is the next one's and within the budget."""
    if number < n_trials and (
        _creates_by_number(study) or len(study.get_trials(deepcopy=False)) == number
    ):
        _create(study, number, TrialState.WAITING, {SLOT_KEY: None})


def enqueue_as(
    study: Study, number: int, params: Mapping[str, Any], user_attrs: Mapping[str, Any]
) -> None:
    """Enqueue params as the trial of a number, unless another worker has created that one."""
    if _creates_by_number(study) or len(study.get_trials(deepcopy=False)) == number:
        fixed = {_FIXED_PARAMS: dict(params)}
        _create(study, number, TrialState.WAITING, dict(user_attrs), fixed)


def _create(
    study: Study,
    number: int,
    state: TrialState,
    user_attrs: dict[str, Any],
    fixed_params: Mapping[str, Any] = MappingProxyType({}),
) -> _Started | None:
    """Create the trial of a number; return None if another worker has.

    Only a storage of hpolab's can do both as one step. Optuna's gRPC server passes the condition on
    to its storage, which may be one. Any other numbers the trial as it comes.
    """
    storage = study._storage
    is_sure = _creates_by_number(study)
    template = optuna.trial.create_trial(
        state=state,
        user_attrs=user_attrs,
        system_attrs={
            **fixed_params,
            **({NUMBER_KEY: number} if is_sure or _is_grpc(storage) else {}),
        },
    )
    try:
        trial_id = storage.create_new_trial(study._study_id, template)
        return _Started(trial_id, number if is_sure else storage.get_trial_number_from_id(trial_id))
    except KeyError:  # also of a study that was deleted, which the next read finds out
        return None


def _creates_by_number(study: Study) -> bool:
    """Tell whether the study's storage itself creates a trial under one number or not at all."""
    storages = (study._storage, _backend(study))
    return any(getattr(each, "creates_by_number", False) for each in storages)


def _is_grpc(storage: Any) -> bool:
    """Tell whether a storage is reached by Optuna's gRPC server."""
    return isinstance(storage, optuna.storages.GrpcStorageProxy)


def _pop(storage: BaseStorage, slot: FrozenTrial, mark: tuple[str, Any]) -> bool | None:
    """Pop a slot; return False if another worker has, None if it is long finished.

    The cache of Optuna's gRPC server, and of other servers of SQL, keeps a trial as waiting for
    good if it is popped and told before the call that has created it has noted it there.
    """
    try:
        storage.set_trial_user_attr(slot._trial_id, SLOT_KEY, mark[1])
        if not storage.set_trial_state_values(slot._trial_id, TrialState.RUNNING):
            return False
        storage.set_trial_user_attr(slot._trial_id, *mark)
    except optuna.exceptions.UpdateFinishedTrialError:
        return None
    return True


def enqueued_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return what a trial was enqueued with; None for any other trial."""
    found: dict[str, Any] | None = trial.system_attrs.get(_FIXED_PARAMS)
    return found


def set_enqueued_params(study: Study, number: int, params: Mapping[str, Any]) -> None:
    """Store what a trial that waits is enqueued with, in place of what it was."""
    study._storage.set_trial_system_attr(_trial_id(study, number), _FIXED_PARAMS, dict(params))


def params_to_try(trial: Any) -> Mapping[str, Any]:
    """Return what a running trial was enqueued with; nothing for a trial of any other kind."""
    found: Mapping[str, Any] = getattr(trial, "_fixed_params", {})
    return found


def try_params(trial: Any, params: Mapping[str, Any]) -> None:
    """Let a running trial try other params than it was enqueued with."""
    trial.storage.set_trial_system_attr(trial._trial_id, _FIXED_PARAMS, dict(params))
    trial._fixed_params = dict(params)


def requeue(study: Study, number: int) -> None:
    """Make a RUNNING trial WAITING again, with its number, parameters and reports."""
    storage = study._storage
    storage.set_trial_state_values(_trial_id(study, number), TrialState.WAITING)
    if isinstance(storage, optuna.storages.InMemoryStorage):
        # It looks for WAITING trials only behind the last one popped.
        storage._prev_waiting_trial_number[study._study_id] = 0
    study._thread_local.cached_all_trials = None


def is_in_memory(study: Study) -> bool:
    """Tell whether a study's storage is gone with its process."""
    return isinstance(storage_of(study), optuna.storages.InMemoryStorage)


def storage_file(study: Study) -> str | None:
    """Return the path of the file that a study's storage is, or None if it is a server."""
    backend = _backend(study)
    path = getattr(backend, "path", getattr(backend, "_file_path", None))
    if path is not None:
        return str(path)
    is_sqlite = isinstance(backend, optuna.storages.RDBStorage) and backend.engine.name == "sqlite"
    return backend.engine.url.database if is_sqlite else None


def folder_beside(study: Study, what: str) -> str | None:
    """Return where a study's files of a kind lie, or None for a study in memory.

    Beside the storage's file, ``<file>.<what>``; of a server, whose workers share the folder that
    they run in, ``hpolab-<what>`` there.
    """
    if is_in_memory(study):
        return None
    file = storage_file(study)
    return f"hpolab-{what}" if file is None else f"{file}.{what}"


def buffer_reports(trial: Trial) -> None:
    """Let the storage write a trial's reports together, if it can."""
    storage = _report_buffer(trial.study)
    if storage is not None:
        storage.buffer_reports(trial._trial_id)


def report_together(study: Study, reports: Sequence[Any]) -> bool:
    """Report steps of several trials to a storage that writes them together, if it can."""
    storage = _report_buffer(study)
    if storage is not None:
        storage.report_together(reports)
    return storage is not None


def _report_buffer(study: Study) -> Any:
    """Return what lets reports wait of a study's storage and what stands behind it, or None."""
    storages = (storage_of(study), _backend(study))
    return next((each for each in storages if hasattr(each, "buffer_reports")), None)


def _backend(study: Study) -> Any:
    """Return what stands behind Optuna's cache, or behind its journal."""
    storage: Any = study._storage
    return getattr(storage, "_backend", storage)


def storage_of(study: Study) -> BaseStorage:
    """Return a study's storage, for another study in the same one."""
    storage: Any = study._storage
    while isinstance(storage, _StorageView):  # it shows this study's trials alone as they are
        storage = storage._storage
    found: BaseStorage = storage
    return found


def place(study: Study) -> tuple[Any, int]:
    """Return what keeps a study behind Optuna's cache or journal, and the study's id there."""
    return _backend(study), study._study_id


def copy_system_attrs(source: Study, target: Study) -> None:
    """Copy what samplers and the dashboard keep with a study; ``target`` has the same trials.

    Some of it names trials by their ids, which differ from study to study and from storage to
    storage: the parents of a genetic sampler's generations, and the dashboard's notes, artifacts
    and skipped trials. ``optuna.copy_study`` leaves the ids, which are other trials' there.
    """
    attrs = source._storage.get_study_system_attrs(source._study_id)
    if not attrs:
        return
    copies = [trial._trial_id for trial in target.get_trials(deepcopy=False)]
    ids = {
        trial._trial_id: copies[trial.number]
        for trial in source.get_trials(deepcopy=False)
        if trial.number < len(copies)
    }
    for key, value in attrs.items():
        if _PARENTS in key:
            value = [ids[trial_id] for trial_id in value if trial_id in ids]
        named = _OF_A_TRIAL.fullmatch(key)
        if named is not None:
            trial_id = int(named["id"])
            if trial_id not in ids:
                continue  # it is of no trial of this study, and would be of one of the copy's
            key = f"{named['before']}{ids[trial_id]}{named['after']}"
        target._storage.set_study_system_attr(target._study_id, key, value)


def reread(study: Study, number: int) -> FrozenTrial:
    """Return a trial as the storage has it now."""
    return study._storage.get_trial(_trial_id(study, number))


def set_user_attr(study: Study, number: int, key: str, value: Any) -> None:
    """Set a user attribute of a trial that this process does not run."""
    study._storage.set_trial_user_attr(_trial_id(study, number), key, value)


def _trial_id(study: Study, number: int) -> int:
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def report_again(trial: Trial, value: float, step: int) -> None:
    """Store a report over the one that the trial's earlier life left at the same step."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
    trial._cached_frozen_trial.intermediate_values[step] = value


def note_report(trial: Trial, value: float, step: int) -> int:
    """Let a trial know of a report that is written past it; return its id in its storage."""
    trial._cached_frozen_trial.intermediate_values[step] = value
    return trial._trial_id


def stored_reports(trial: Trial) -> dict[int, float]:
    """Return the reports that the trial brings from an earlier life: step -> value."""
    return dict(trial._cached_frozen_trial.intermediate_values)


def should_prune(
    trial: Trial,
    step: int,
    seen: Sequence[FrozenTrial] | None = None,
    *,
    pruner: BasePruner | None = None,
) -> bool:
    """Ask the pruner as `Trial.should_prune` does; decide the same after a kill at any moment.

    Args:
        trial: The running trial.
        step: The step it has just reported.
        seen: The study's trials, this report included, where they have just been read.
        pruner: The one to ask; the study's by default.

    Hyperband and ASHA store a trial's rung before they decide on it, so a worker killed between
    the decision and its `tell` would leave a trial that passes this rung unasked. Here what a
    pruner stores is written after its decision to prune, and the decision before it.
    """
    pruner = pruner or trial.study.pruner
    if type(pruner) is optuna.pruners.NopPruner:
        return False
    latest = trial._get_latest_trial() if seen is None else copy.copy(seen[trial.number])
    pruned = latest.user_attrs.get(_PRUNED_KEY)
    if pruned is not None and pruned["step"] == step:
        for key, value in pruned["writes"]:
            trial.storage.set_trial_system_attr(trial._trial_id, key, value)
        return True
    storage = trial.study._storage
    writes = _HeldBackWrites(storage if seen is None else _GivenTrials(storage, seen))
    study = _as_shown(trial.study, writes)
    prune = bool(pruner.prune(study, latest))
    if prune and writes.held_back:
        trial.set_user_attr(_PRUNED_KEY, {"step": step, "writes": writes.held_back})
    for key, value in writes.held_back:
        trial.storage.set_trial_system_attr(trial._trial_id, key, value)
    return prune


def with_trials(study: Study, trials: Sequence[FrozenTrial]) -> Study:
    """Return a study as if it had these trials, for samplers, evaluators and plots to read."""
    return _as_shown(study, _GivenTrials(study._storage, trials))


def with_best(study: Study, best: Sequence[FrozenTrial]) -> Study:
    """Return a study as if it had these trials, of which the first is the best by its value."""
    return _as_shown(study, _GivenBest(study._storage, best))


def _as_shown(study: Study, view: _StorageView) -> Study:
    """Return a study that reads its storage through a view."""
    shown = copy.copy(study)
    shown._storage = view  # type: ignore[assignment]
    return shown


def without_bracket(study: Study) -> Study:
    """Return the study of which Hyperband shows a part."""
    whole: Study = getattr(study, "_study", study)
    return whole


def window_of(study: Study) -> Window | None:
    """Return what a trial may see of a study that must not depend on timing; None of any other."""
    view: Any = study._storage
    while isinstance(view, _StorageView):
        if isinstance(view, _PastOnly):
            return view.window
        view = view._storage
    return None


def give_search_space(
    sampler: BaseSampler, make: Callable[[bool], IntersectionSearchSpace]
) -> None:
    """Give a sampler of Optuna's what it takes its search space from.

    Args:
        sampler: The sampler.
        make: Makes it, with pruned trials or without.
    """
    for name in ("_search_space", "_intersection_search_space"):
        found = getattr(sampler, name, None)
        if type(found) is IntersectionSearchSpace:
            setattr(sampler, name, make(found._include_pruned))


def trials_needed(sampler: BaseSampler) -> float:
    """Return how many trials a sampler of Optuna's must see at least to do as it was told."""
    if isinstance(sampler, TPESampler):
        # Functions of the number of all trials.
        weights = sampler._parzen_estimator_parameters.weights
        if sampler._gamma is not None or weights is not default_weights:
            return math.inf
    if getattr(sampler, "_consider_pruned_trials", False):
        return math.inf
    # The trials of a generation are not always told in one go.
    generation = 4 * (getattr(sampler, "_popsize", None) or 0)
    return max(generation, getattr(sampler, "_n_startup_trials", 0))


def best_for_tpe(
    directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial], n_trials: int
) -> list[FrozenTrial]:
    """Return what TPE takes for the good ones of many trials.

    Args:
        directions: The study's.
        trials: Complete and pruned ones.
        n_trials: How many TPE takes.

    Returns:
        The best ones in its order: complete ones by their value, pruned ones by how far they came,
        infeasible ones by how much they violate; of several objective values the Pareto front, and
        of other trials the best ones. What is left out stays out, whatever comes later.
    """
    study: Any = SimpleNamespace(directions=directions, direction=directions[0])
    trials = sorted(trials, key=lambda trial: trial.number)
    if len(directions) == 1:
        return list(_split_trials(study, trials, n_trials)[0])
    ranked = [t for t in trials if t.state == TrialState.COMPLETE and not _violates(t)]
    others = [t for t in trials if t.state != TrialState.COMPLETE or _violates(t)]
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]
    front: list[FrozenTrial] = []
    if ranked:
        losses = np.array([trial.values for trial in ranked]) * signs
        is_best = _is_pareto_front(losses, assume_unique_lexsorted=False)
        front = [trial for trial, best in zip(ranked, is_best, strict=True) if best]
    return front + list(_split_trials(study, others, n_trials)[0])


def _violates(trial: FrozenTrial) -> bool:
    return any(violation > 0 for violation in trial.constraints.values())


class Window(NamedTuple):
    """What a trial may see of a study that must not depend on timing.

    Attributes:
        number: The trial itself.
        below: It sees the trials numbered below this, which have all finished.
    """

    number: int
    below: int

    @property
    def width(self) -> int:
        """Trials that may run at once."""
        return self.number - self.below + 1


class _StorageView:
    """Read-through proxy of a storage; subclasses override what a sampler or pruner sees."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        if name == "_storage":  # asked for by `copy` and `pickle` before `__init__` has set it
            raise AttributeError(name)
        return getattr(self._storage, name)


class _GivenTrials(_StorageView):
    """Shows these trials."""

    def __init__(self, storage: Any, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(storage)
        self._trials = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Any = None
    ) -> list[FrozenTrial]:
        kept = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(kept) if deepcopy else kept


class _GivenBest(_GivenTrials):
    """Shows these trials, the best one first."""

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        if not self._trials:
            raise ValueError("No trials are completed yet.")
        return self._trials[0]


class _HeldBackWrites(_StorageView):
    """Keeps the system attributes that a pruner sets on its trial back instead of writing them."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        self.held_back: list[tuple[str, Any]] = []

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.held_back.append((key, value))


class _PastOnly(_StorageView):
    """Shows one trial, and the trials numbered below a bound."""

    def __init__(self, storage: Any, *, number: int, below: int) -> None:
        super().__init__(storage)
        self.window = Window(number, below)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Any = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [t for t in trials if t.number < self.window.below or t.number == self.window.number]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        # NSGA-II caches a generation's parents here, as the trial that came first saw them.
        return {}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        return


def _with_past_only(study: Study, number: int, below: int) -> Study:
    """Return the study as trial ``number`` may see it: finished trials numbered below ``below``."""
    view = _as_shown(study, _PastOnly(study._storage, number=number, below=below))
    view._thread_local = study._thread_local
    view.stop = study.stop  # type: ignore[method-assign]
    return view


class _Place(threading.local):
    number: int


def gp_params_drawn(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a GP has drawn for a trial before, {} if it has not.

    The GP stores its draw for other workers to see, and would take that of a requeued
    trial for another running trial's, and keep away from it.
    """
    from optuna.samplers._gp.sampler import _get_params

    return {name: value for name, value in _get_params(trial).items() if name not in trial.params}


class NumberedQMCSampler(optuna.samplers.QMCSampler):
    """Optuna's QMC sampler, with a trial's number as its place in the sequence.

    Optuna counts the places that were asked for in the storage, so a requeued trial would
    take a second one, and two workers may take the same.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._place.number = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._place.number

    # One for all samplers: it is set and read within one call.
    _place = _Place()


@contextmanager
def optimize_loop(study: Study) -> Iterator[None]:
    """Let ``study.stop()`` be called inside, by an objective, a callback or a sampler."""
    if study._thread_local.in_optimize_loop:
        raise RuntimeError("`run` cannot be called from inside an objective of the same study.")
    study._stop_flag = False
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = False


def stop_requested(study: Study) -> bool:
    """Tell whether ``study.stop()`` has been called in the current loop, or in the last one."""
    return study._stop_flag


def request_stop(study: Study, requested: bool = True) -> None:
    """Set whether ``study.stop()`` has been called, as another process or a sampler has it."""
    study._stop_flag = requested


def is_deleted(study: Study) -> bool:
    """Tell whether a study is no longer in its storage, or another one has its name."""
    try:
        found: int = study._storage.get_study_id_from_name(study.study_name)
    except KeyError:
        return True
    return found != study._study_id
