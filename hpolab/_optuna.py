"""The underscored names of Optuna that hpolab cannot do without, in this file alone.

Optuna has no public way to pop a given WAITING trial, to put a RUNNING trial back, to report a
step again after a restart, or to let ``Study.stop`` work outside ``Study.optimize``. Each function
here is one of these, written on ``BaseStorage``'s contract where there is one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


def claim_trial(
    study: Study,
    n_trials: int,
    *,
    mark: tuple[str, Any],
    first_params: Mapping[str, Any] | None = None,
) -> Trial | None:
    """Start the next trial numbered below ``n_trials``, or return None if there is none.

    The first WAITING trial is popped; without one, a trial is created as long as the study has
    fewer than ``n_trials``. The storage numbers trials one by one, whoever creates them, so that
    any number of workers spend the numbers below ``n_trials`` and no other. (Optuna's ``ask``
    knows no bound.) Workers that create the last trial in the same instant leave at most one
    WAITING trial each beyond the bound, which a larger budget uses.

    Args:
        study: The study.
        n_trials: The budget: trials of all states together.
        mark: A user attribute (key, value) that is there before the trial is RUNNING, so that a
            worker killed at any moment leaves no RUNNING trial that nobody owns.
        first_params: Parameters of trial 0, unless it was enqueued with its own.
    """
    storage = study._storage
    # As in `Study.ask`: the samplers' view of the trials is read afresh once a trial.
    study._thread_local.cached_all_trials = None
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.number >= n_trials:
            return None
        if trial.state == TrialState.WAITING and _pop(storage, trial._trial_id, mark):
            break
    else:
        if len(trials) >= n_trials:
            return None
        running = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=dict([mark]))
        trial_id = storage.create_new_trial(study._study_id, running)
        trial = storage.get_trial(trial_id)
        if trial.number >= n_trials:
            storage.set_trial_state_values(trial_id, TrialState.WAITING)
            return None
    is_new = not trial.params and _FIXED_PARAMS not in trial.system_attrs
    if trial.number == 0 and first_params and is_new:
        storage.set_trial_system_attr(trial._trial_id, _FIXED_PARAMS, dict(first_params))
    return optuna.Trial(study, trial._trial_id)


# Where `Study.enqueue_trial` keeps the parameters of a trial, and `Trial` looks for them.
_FIXED_PARAMS = "fixed_params"


def _pop(storage: BaseStorage, trial_id: int, mark: tuple[str, Any]) -> bool:
    key, value = mark
    try:
        storage.set_trial_user_attr(trial_id, key, value)
        popped = storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False  # another worker has popped and finished it since the list was read
    if popped and storage.get_trial(trial_id).user_attrs[key] != value:
        # A worker that lost the race wrote its own mark in between.
        storage.set_trial_user_attr(trial_id, key, value)
    return popped


def put_back(study: Study, number: int) -> None:
    """Make a RUNNING trial WAITING again, with its number, parameters and reports."""
    storage = study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    storage.set_trial_state_values(trial_id, TrialState.WAITING)
    study._thread_local.cached_all_trials = None


def report_again(trial: Trial, value: float, step: int) -> None:
    """Store a report over the one that the trial's earlier life left at the same step."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
    trial._cached_frozen_trial.intermediate_values[step] = value


def stored_reports(trial: Trial) -> dict[int, float]:
    """Return the reports that the trial brings from an earlier life: step -> value."""
    return dict(trial._cached_frozen_trial.intermediate_values)


def should_prune(trial: Trial, reports: Mapping[int, float]) -> bool:
    """Ask the pruner as `Trial.should_prune` does, showing it no report but ``reports``."""
    frozen: FrozenTrial = trial._get_latest_trial()
    frozen.intermediate_values = dict(reports)
    return bool(trial.study.pruner.prune(trial.study, frozen))


def gp_params_drawn(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a GP has drawn for a trial before, {} if it has not.

    The GP stores its draw for other workers to see, and would take that of a trial that was put
    back for another running trial's, and keep away from it.
    """
    from optuna.samplers._gp.sampler import _get_params

    return {name: value for name, value in _get_params(trial).items() if name not in trial.params}


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
    """Tell whether ``study.stop()`` has been called in the current loop."""
    return study._stop_flag
