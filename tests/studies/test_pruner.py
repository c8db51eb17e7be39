"""Pruners by name."""

from __future__ import annotations

import optuna
import pytest
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
)

from hpolab import (
    PRUNERS,
    InvalidArgument,
    Objective,
    Reporter,
    SearchSpace,
    make_pruner,
    make_study,
    run,
)
from hpolab.studies.pruner import needs_running_reports
from hpolab.studies.quick_pruners import _StepValues


@pytest.mark.parametrize("name", PRUNERS)
def test_every_name_makes_a_pruner_of_its_own(name):
    pruner = make_pruner(name)
    assert isinstance(pruner, optuna.pruners.BasePruner)
    assert make_pruner(name) is not pruner


def test_a_pruner_object_of_ones_own_is_returned_as_it_is():
    class Mine(MedianPruner):
        pass

    for pruner in (Mine(n_warmup_steps=3), NopPruner()):
        assert make_pruner(pruner) is pruner


def test_a_pruner_object_of_optunas_keeps_its_settings_and_its_state():
    pruner = MedianPruner(n_warmup_steps=3)
    made = make_pruner(pruner)
    assert isinstance(made, MedianPruner)
    assert vars(made) is vars(pruner)
    patient = make_pruner(PatientPruner(pruner, patience=2))
    assert vars(vars(patient)["_wrapped_pruner"]) is vars(pruner)


@pytest.mark.parametrize("asked", ["median", MedianPruner(n_warmup_steps=1)])
def test_asking_it_does_not_read_the_finished_trials_again(asked, monkeypatch):
    """Whether `Trial.should_prune` asks or a `Reporter`."""
    taken_in = []
    add = _StepValues.add

    def counting(self, trials):
        taken_in.append(len(trials))
        add(self, trials)

    monkeypatch.setattr(_StepValues, "add", counting)
    study = make_study("s", storage="memory://", sampler="random", pruner=asked)

    def objective(trial: optuna.Trial) -> float:
        reporter = Reporter(trial) if trial.number % 2 else None
        for step in range(5):
            if reporter is not None:
                reporter.report(1.0, step)
                continue
            trial.report(1.0, step)
            assert not trial.should_prune()
        return trial.suggest_float("x", 0, 1)

    run(study, objective, n_trials=30)
    assert taken_in == [1] * 29


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InvalidArgument, match=r"`pruner` must be one of .* Did you mean 'median'"):
        make_pruner("Medium")


def test_none_never_prunes():
    assert isinstance(make_pruner("none"), NopPruner)


def test_asha_decides_from_the_first_step_whatever_has_finished():
    """Optuna's own guess of the first rung changes with a restart."""
    pruner = make_pruner("asha")
    assert isinstance(pruner, SuccessiveHalvingPruner)
    assert vars(pruner)["_min_resource"] == 1


def test_hyperband_takes_the_objectives_steps_for_the_longest_training():
    class Long(Objective):
        def train(self, params, reporter):
            for step in reporter.steps(self.max_steps):
                reporter.report(params["x"], step)
            return reporter.best_value

    objective = Long(search_space=SearchSpace({"x": (0.0, 1.0)}), direction="minimize", max_steps=9)
    study = make_study("s", storage="memory://", sampler="random", pruner="hyperband")
    run(study, objective, n_trials=2)
    assert isinstance(study.pruner, HyperbandPruner)
    assert vars(study.pruner)["_max_resource"] == 9


# What a trial reports may wait in memory where no other trial's pruner reads it.


class OneOfTheUsers(MedianPruner):
    pass


@pytest.mark.parametrize("name", PRUNERS)
def test_no_pruner_by_name_needs_the_reports_of_trials_that_run(name):
    assert not needs_running_reports(make_pruner(name))


@pytest.mark.parametrize("pruner", [OneOfTheUsers(), PatientPruner(OneOfTheUsers(), patience=1)])
def test_a_pruner_of_the_users_may_need_them(pruner):
    assert needs_running_reports(pruner)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_decision_is_the_same_whatever_running_trials_have_reported(name):
    """Of the three trials that run, one decides each time, beside others that report or do not."""
    decided = []
    for others in ([], [-1e9, 0.5, 1e9]):
        study = make_study("a", storage="memory://", sampler="random", pruner=name, seed=0)
        neighbors = [study.ask() for _ in range(2)]
        for number in range(12):
            trial = study.ask()
            for step in range(9):
                trial.report(number + 0.1 * step, step)
                trial.should_prune()
            study.tell(trial, float(number))
        decisions = []
        trial = study.ask()
        for step in range(9):
            for neighbor in neighbors if others else ():
                neighbor.report(others[step % 3], step)
            trial.report(6.0 + 0.1 * step, step)
            decisions.append(trial.should_prune())
        decided.append(decisions)
    assert decided[0] == decided[1]
