"""Digests of a study's finished trials: one for all threads, gone with the study's storage."""

from __future__ import annotations

import copy
import gc
import random
import weakref

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpolab import _optuna, make_pruner, make_study, run


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    for step in range(9):
        trial.report(x**2 + 1 / (1 + step), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x**2


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "wilcoxon", "race", "patient"])
def test_a_storage_is_let_go_with_its_studies(pruner):
    storage = InMemoryStorage()
    study = make_study("s", storage=storage, sampler="tpe", pruner=pruner)
    run(study, objective, n_trials=15)
    gone = weakref.ref(storage)
    del study, storage
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("pruner", ["median", "hyperband", "race"])
def test_threads_of_one_study_share_them(pruner):
    study = make_study("s", storage="memory://", sampler="tpe", pruner=pruner)
    study.optimize(objective, n_trials=60, n_jobs=4)
    assert len(study.trials) == 60
    assert all(trial.state.is_finished() for trial in study.trials)


def test_studies_of_one_storage_have_their_own():
    storage = InMemoryStorage()
    first = make_study("a", storage=storage, sampler="tpe", pruner="median")
    run(first, objective, n_trials=20)
    alone = make_study("b", storage="memory://", sampler="tpe", pruner="median")
    beside = make_study("b", storage=storage, sampler="tpe", pruner="median")
    for study in (alone, beside):
        run(study, objective, n_trials=20)
    assert [t.params for t in beside.trials] == [t.params for t in alone.trials]
    assert [t.state for t in beside.trials] == [t.state for t in alone.trials]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ["median", "wilcoxon", "race"])
def test_trial_that_must_not_depend_on_timing_is_judged_by_those_before_its_window_alone(name):
    """Trials that run at once see different ones, and ask in any order."""
    rng = random.Random(0)
    trials = []
    for number in range(120):
        reports = [rng.random() + 1 / (1 + number) for _ in range(6)]
        trials.append(
            create_trial(
                value=sum(reports) / 6,
                intermediate_values=dict(enumerate(reports)),
                state=TrialState.COMPLETE,
            )
        )
    study = optuna.create_study()
    study.add_trials(trials)
    pruner, width, decisions = make_pruner(name), 6, []
    for first in (10, 40, 41, 100):
        together = list(range(first, first + width))
        rng.shuffle(together)
        for number in together:
            below = number - width + 1
            past = optuna.create_study()
            past.add_trials(trials[:below])
            frozen = copy.copy(study.get_trials(deepcopy=False)[number])
            values = frozen.intermediate_values
            frozen.intermediate_values = {step: values[step] for step in range(3)}
            view = _optuna._with_past_only(study, number, below)
            decisions.append(pruner.prune(view, frozen))
            assert decisions[-1] == make_pruner(name).prune(past, frozen)
    assert True in decisions or name == "wilcoxon"
    assert False in decisions
