"""trials_frame: a study as a table, in the trainer's names."""

from __future__ import annotations

import math
import sys

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpolab import (
    FunctionObjective,
    MissingExtra,
    SearchSpace,
    make_study,
    run,
    trials_frame,
)

SPACE = SearchSpace.choice(
    "optimizer",
    {
        "adam": SearchSpace({"beta2": (0.9, 0.999), "value": 1}, one_minus=["beta2"]),
        "sgd": SearchSpace({"momentum": (0.0, 0.9)}),
    },
)


def train(params, reporter):
    reporter.record(loss=0.5, optimizer=7.0)
    if reporter.trial.number == 2:
        return math.nan
    if reporter.trial.number == 3:
        raise OSError("disk full")
    return params.get("momentum", 1.0)


@pytest.fixture(scope="module")
def study():
    objective = FunctionObjective(train, search_space=SPACE, direction="minimize", max_steps=1)
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    study.enqueue_trial({"optimizer": "adam", "adam.one_minus_beta2": 0.001})
    study.enqueue_trial({"optimizer": "sgd", "sgd.momentum": 0.5})
    run(study, objective, n_trials=4, max_failures=9, show_progress_bar=False)
    study.add_trial(create_trial(state=TrialState.WAITING))
    return study


def test_a_row_is_a_trial_with_its_state_value_and_duration(study):
    frame = trials_frame(study)
    assert frame.index.name == "number"
    assert list(frame.index) == [0, 1, 2, 3, 4]
    assert list(frame.state) == ["complete", "complete", "pruned", "failed", "waiting"]
    assert frame.value[0] == 1.0
    assert frame.value[1] == 0.5
    assert math.isnan(frame.value[3])
    assert frame.duration_seconds[1] >= 0
    assert math.isnan(frame.duration_seconds[4])


def test_parameters_stand_under_the_trainer_s_names_in_its_units(study):
    frame = trials_frame(study)
    assert frame.beta2[0] == 0.999
    assert math.isnan(frame.beta2[1])
    assert frame.momentum[1] == 0.5
    assert not [name for name in frame if "one_minus" in name or "." in name]


def test_metrics_stand_beside_and_a_name_that_is_taken_says_what_it_is(study):
    frame = trials_frame(study)
    assert frame.loss[0] == 0.5
    assert frame.optimizer[0] == "adam"
    assert frame["optimizer (metric)"][0] == 7.0
    assert frame["value (parameter)"][0] == 1


def test_study_of_optuna_s_own_is_shown_as_it_is():
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 2.0), n_trials=1)
    frame = trials_frame(study)
    assert list(frame) == ["state", "value_0", "value_1", "duration_seconds", "x"]
    assert frame.x[0] == frame.value_0[0]


def test_study_without_trials_is_an_empty_table():
    assert len(trials_frame(make_study("s", storage="memory://"))) == 0


def test_missing_pandas_is_named_with_its_extra(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"`trials_frame` needs pandas: .*hpolab\[frames\]"):
        trials_frame(study)
