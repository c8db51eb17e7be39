"""OneByOne: the crew of a worker that trains each trial to its end."""

from __future__ import annotations

import optuna

from hpolab.objectives.crew import OneByOne


def test_a_trial_is_left_to_the_objective_and_holds_no_place():
    crew = OneByOne(lambda trial: trial.suggest_float("x", 1.0, 2.0))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):
        trial = study.ask()
        outcome = crew.begin(trial)
        assert outcome is not None
        assert outcome(trial) == trial.params["x"]
        assert crew.has_room
        assert crew.trials == crew.advance() == []
    crew.requeue()
    assert [trial.state.name for trial in study.trials] == ["RUNNING"] * 2
