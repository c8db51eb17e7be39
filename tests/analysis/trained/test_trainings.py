"""Trainings on fresh seeds: trials of their own study, run once each, whatever fails."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from hpolab import TooManyFailures, confirm


def test_trainings_are_trials_of_a_study_of_their_own(thrower, tuned, trainings):
    objective = thrower()
    study = tuned(objective)
    confirmation = confirm(study, objective, test=10.0, top_k=2)
    trials = trainings(study)
    assert len(study.trials) == 3
    assert len(trials) == 3 * confirmation.n_seeds
    assert {t.params["skill"] for t in trials} == {1.0, 2.0, 3.0}
    assert trials[0].user_attrs["hpolab:metrics"].keys() == {"points", "shame"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_score_that_is_no_number_is_a_divergence(thrower, tuned, value):
    class Broken(thrower):
        def evaluate(self, model, data):
            return {"points": value if model > 2.5 else model}

    objective = Broken()
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert set(confirmation.configurations[0].lost.values()) == {
        f"diverged: the objective returned {value}"
    }


def test_failed_training_is_tried_once_more_when_called_again(thrower, tuned):
    objective = thrower(broken={3.0: OSError("disk full")})
    study = tuned(objective)
    first = confirm(study, objective, test=0.0, top_k=1)
    assert list(first.configurations[0].lost.values()) == ["OSError: disk full"]
    second = confirm(study, objective, test=0.0, top_k=1)
    assert not second.configurations[0].lost
    assert second.winner is not None
    assert second == confirm(tuned(thrower()), thrower(), test=0.0, top_k=1)


def test_first_training_that_fails_ends_it_at_once(thrower, tuned):
    class Broken(thrower):
        def evaluate(self, model, data):
            raise KeyError("no such column")

    objective = Broken()
    with pytest.raises(TooManyFailures, match="no such column"):
        confirm(tuned(objective), objective, test=0.0)
    assert len(objective.fitted) == 1


def test_training_enqueued_by_two_callers_is_run_once(thrower, interrupted, tuned):
    objective = thrower()
    study = tuned(objective)
    first = confirm(study, objective, test=0.0, top_k=1)

    other = tuned(thrower())
    interrupt = interrupted(after=2)
    with pytest.raises(KeyboardInterrupt):
        confirm(other, interrupt, test=0.0, top_k=1)
    stored = optuna.load_study(study_name="throws-confirm", storage=other._storage)
    for trial in stored.get_trials(deepcopy=False):
        stored.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"hpolab:place": trial.user_attrs["hpolab:place"]},
            )
        )
    objective = thrower()
    assert confirm(other, objective, test=0.0, top_k=1) == first
    assert len(interrupt.fitted) - 1 + len(objective.fitted) == 2 * first.n_seeds


def test_callbacks_see_each_training(thrower, tuned):
    seen = []
    objective = thrower()
    found = confirm(
        tuned(objective),
        objective,
        test=0.0,
        top_k=1,
        callbacks=[lambda study, trial: seen.append(trial.number)],
    )
    assert len(seen) == 2 * found.n_seeds


@pytest.mark.usefixtures("warm_workers")
def test_several_workers_find_what_one_finds(thrower, tuned, trainings, tmp_path):
    whole = confirm(tuned(thrower()), thrower(), test=0.0, top_k=2)
    study = tuned(thrower(), storage=f"sqlite:///{tmp_path}/study.db")
    assert confirm(study, thrower(), test=0.0, top_k=2, n_workers=2) == whole
    assert len(trainings(study)) == 3 * whole.n_seeds
