"""What an analysis reads of a study: the trials that count, and one range for each parameter."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpolab import InvalidArgument, influence


def test_what_is_not_complete_is_left_out_and_counted(study_of, draw, noise):
    states = [TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING]
    found = influence(study_of(noise(20).tolist(), draw(20), states=states), n_resamples=2)
    assert found.n_trials == 20
    assert found.left_out == {"fail": 1, "pruned": 2, "waiting": 1}
    assert found.verdict[0] == "20 complete trials; left out: 1 fail, 2 pruned, 1 waiting."


def test_parameter_of_one_value_is_skipped_and_says_so(study_of, draw, noise):
    params = [{"lr": each["lr"], "layers": 4} for each in draw(12)]
    found = influence(study_of(noise(12).tolist(), params))
    assert found.skipped == {"layers": "it has one value, 4, in all trials"}
    assert "layers: not judged, it has one value, 4, in all trials." in found.verdict


def test_parameter_that_some_trials_lack_is_not_said_to_be_in_all(study_of, draw, noise):
    params = [{"lr": each["lr"], "layers": 4} for each in draw(12)]
    del params[3]["layers"]
    found = influence(study_of(noise(12).tolist(), params))
    assert found.skipped == {"layers": "it has one value, 4, in the 11 trials that have it"}


def test_widened_range_is_one_range(study_of, draw, noise):
    study = study_of(noise(12).tolist(), draw(12))
    wider = {**study.trials[0].distributions, "lr": FloatDistribution(1e-5, 1.0, log=True)}
    for value, each in zip(noise(12, 1), draw(12, 1), strict=True):
        study.add_trial(create_trial(value=value, params=each, distributions=wider))
    assert influence(study, n_resamples=2)["lr"].n_trials == 24


def test_several_objective_values_are_refused():
    with pytest.raises(InvalidArgument, match="one objective value"):
        influence(optuna.create_study(directions=["minimize", "minimize"]))
