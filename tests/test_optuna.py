"""What is built on Optuna's underscored names."""

from __future__ import annotations

import copy

import optuna
import pytest
from optuna.importance import get_param_importances
from optuna.trial import TrialState, create_trial

from hpolab import _optuna, make_study, run
from hpolab.storage.url import open_storage

FLOAT = optuna.distributions.FloatDistribution(0, 1)


@pytest.fixture(params=["memory", "sqlite", "journal"])
def study(request, tmp_path):
    urls = {
        "memory": "memory://",
        "sqlite": f"sqlite:///{tmp_path}/study.db",
        "journal": f"journal:///{tmp_path}/study.log",
    }
    study = make_study("s", storage=open_storage(urls[request.param]), sampler="random")
    run(study, lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    return study


def test_a_study_as_if_it_had_other_trials(study):
    trials = study.get_trials(deepcopy=False)
    shown = _optuna.with_trials(study, [trials[2], create_trial(state=TrialState.PRUNED)])
    assert [trial.state.name for trial in shown.trials] == ["COMPLETE", "PRUNED"]
    assert shown.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) == [trials[2]]
    assert shown.trials[0] is not trials[2]
    assert (shown.study_name, shown.directions) == (study.study_name, study.directions)
    assert len(study.trials) == 4


def test_evaluators_see_the_trials_that_are_shown(study):
    other = {"x": FLOAT, "y": FLOAT}
    trials = [
        create_trial(params={"x": i / 9, "y": i / 9}, distributions=other, value=float(i))
        for i in range(10)
    ]
    assert set(get_param_importances(_optuna.with_trials(study, trials))) == {"x", "y"}


def test_a_view_of_a_view_can_be_copied(study):
    shown = _optuna.with_trials(_optuna.with_trials(study, []), study.trials[:1])
    assert len(copy.copy(shown).trials) == 1
    assert _optuna.storage_of(shown) is study._storage
    assert copy.copy(shown._storage).get_all_trials(study._study_id) == shown.trials
