"""What trials tell a model: scores of every kind of trial, and which branches they show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpolab.studies.scores import conditions_seen, scores_of


def numbered(*trials: FrozenTrial) -> list[FrozenTrial]:
    for number, trial in enumerate(trials):
        trial.number = number
    return list(trials)


def complete(value: float, *reports: float, dead: bool = False) -> FrozenTrial:
    return create_trial(
        value=value,
        intermediate_values=dict(enumerate(reports)),
        constraints={"dead": 1.0} if dead else None,
    )


def pruned(*reports: float, dead: bool = False) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED,
        intermediate_values=dict(enumerate(reports)),
        constraints={"dead": 1.0} if dead else None,
    )


@pytest.mark.parametrize(("direction", "sign"), [("minimize", -1), ("maximize", 1)])
def test_the_better_half_is_told_by_its_values_and_the_rest_as_worse(direction, sign):
    values = np.random.default_rng(0).normal(size=21)
    scores = scores_of(numbered(*map(complete, values)), direction)
    best, middle = max(sign * values), float(np.median(sign * values))
    for number, value in enumerate(sign * values):
        assert scores[number] == max(value, middle - (best - middle) / 2)


def test_a_loss_of_millions_does_not_hide_the_others():
    scores = scores_of(numbered(*map(complete, [1.0, 2.0, 3.0, 4e7, math.inf])), "minimize")
    assert list(scores.values()) == [-1.0, -2.0, -3.0, -3.25, -3.25]


def test_ties_of_the_best_leave_the_worse_ones_where_they_are():
    scores = scores_of(numbered(*map(complete, [1.0, 1.0, 1.0, 2.0, 3.0])), "minimize")
    assert list(scores.values()) == [-1.0, -1.0, -1.0, -2.0, -3.0]


def test_a_pruned_trial_is_carried_on_as_complete_ones_went_on():
    trials = numbered(
        complete(0.9, 0.5, 0.7), complete(0.8, 0.5, 0.6), complete(0.7, 0.4, 0.5), pruned(0.3, 0.55)
    )
    # At step 1 complete trials had 0.2 to gain.
    assert scores_of(trials, "maximize")[3] == pytest.approx(0.75)


@pytest.mark.parametrize(
    "trial", [pruned(0.5, dead=True), complete(9.0, dead=True), pruned(), pruned(math.nan)]
)
def test_what_died_or_told_nothing_is_the_worst(trial):
    scores = scores_of(numbered(complete(1.0), complete(2.0), complete(2.5), trial), "maximize")
    assert scores[3] == min(scores.values())


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_other_trials_tell_nothing(state):
    assert scores_of(numbered(complete(1.0), create_trial(state=state)), "minimize") == {0: -1.0}


def test_before_the_first_number_there_is_no_score():
    assert scores_of(numbered(pruned(), pruned(0.5, dead=True)), "minimize") == {}


def test_pruned_trials_alone_are_told_by_their_reports():
    scores = scores_of(numbered(pruned(3.0), pruned(1.0), pruned(2.0)), "minimize")
    assert scores == {0: -2.5, 1: -1.0, 2: -2.0}


RANGES = {
    "act": CategoricalDistribution(["relu", "gelu"]),
    "model": CategoricalDistribution(["svm", "knn", "tree"]),
    "C": FloatDistribution(0, 1),
    "depth": FloatDistribution(0, 1),
}


def test_branches_are_known_by_the_choice_that_explains_them():
    params = [
        {"act": "relu", "model": "svm", "C": 0.5},
        {"act": "gelu", "model": "knn"},
        {"act": "gelu", "model": "svm", "C": 0.1},
    ]
    # A tree was not tried, and may have it; of the depth nothing is known yet.
    assert conditions_seen(params, RANGES) == {"C": (("model", frozenset({"svm", "tree"})),)}


def test_a_parameter_that_no_choice_explains_has_no_condition():
    params = [{"model": "svm", "act": "relu", "C": 0.5}, {"model": "svm", "act": "relu"}]
    assert conditions_seen(params, RANGES) == {}


def test_conditions_of_random_trials_are_those_that_drew_them():
    rng = np.random.default_rng(0)
    params = []
    for _ in range(40):
        model = str(rng.choice(["svm", "knn", "tree"]))
        drawn = {"act": str(rng.choice(["relu", "gelu"])), "model": model}
        extra = {"svm": {"C": rng.random()}, "tree": {"depth": rng.random()}, "knn": {}}[model]
        params.append(drawn | extra)
    assert conditions_seen(params, RANGES) == {
        "C": (("model", frozenset({"svm"})),),
        "depth": (("model", frozenset({"tree"})),),
    }
