"""A study's summary says what its trials say."""

from __future__ import annotations

import optuna
import pytest

from hpolab.studies.summary import summarize


def test_counts_best_and_running_trials_are_those_of_the_study() -> None:
    study = optuna.create_study(study_name="squares", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    study.enqueue_trial({"x": 0.5})
    pending = study.ask()
    study.enqueue_trial({"x": 0.5})

    summary = summarize(study._storage, "squares")

    assert (summary.tally.complete, summary.tally.running, summary.tally.waiting) == (3, 1, 1)
    assert summary.best == (study.best_trial.number, study.best_value)
    assert [trial.number for trial in summary.running] == [pending.number]


def test_a_study_with_several_objective_values_has_no_best() -> None:
    study = optuna.create_study(study_name="pair", directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=1)
    assert summarize(study._storage, "pair").best is None


def test_a_study_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        summarize(optuna.storages.InMemoryStorage(), "nothing")
