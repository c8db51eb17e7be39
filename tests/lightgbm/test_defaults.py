"""The default space: what is tuned trains, and has an effect, whatever is fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from hpolab import LightGBMObjective, lightgbm_space
from hpolab.lightgbm.defaults import default_space

X, Y = load_breast_cancer(return_X_y=True)


def make(**params: Any) -> LightGBMObjective:
    return LightGBMObjective(
        X, Y, objective="binary", metric="auc", folds=3, max_rounds=10, params=params
    )


@pytest.mark.parametrize(
    "params",
    [
        {"boosting": "rf"},
        {"boosting": "Random_Forest"},
        {"boosting_type": "rf", "bagging_fraction": 0.5},
        {"boosting": "rf", "bagging_freq": 3},
        {"boosting": "rf", "bagging_freq": 0},
        {"boosting": "rf", "bagging_fraction": 1.0},
        {"boosting": "rf", "feature_fraction": 0.5},
        {"boosting": "rf", "data_sample_strategy": "goss"},
        {"boosting": "rf", "learning_rate": 0.3},
        {"boosting": "dart"},
        {"boosting": "goss"},
        {"data_sample_strategy": "goss"},
        {"bagging_freq": 0},
        {"bagging_fraction": 1.0},
    ],
)
def test_every_boosting_trains_in_the_default_space(trials_of, params):
    objective = make(**params)
    trials = trials_of(objective, 4)
    assert [t.state.name for t in trials] == ["COMPLETE"] * 4
    assert all(t.value > 0.9 for t in trials)
    assert all(0.1 <= t.params.get("bagging_fraction", 0.5) <= 1 for t in trials)


def tuned(**fixed: Any) -> set[str]:
    return set(default_space(1_000, fixed).distributions())


@pytest.mark.parametrize(
    ("fixed", "void"),
    [
        ({"boosting": "rf"}, {"learning_rate"}),
        ({"boosting": "rf", "bagging_freq": 0}, {"learning_rate", "bagging_fraction"}),
        ({"bagging_freq": 0}, {"bagging_fraction"}),
        ({"boosting": "goss"}, {"bagging_fraction"}),
        ({"num_leaves": 7}, {"num_leaves"}),
        ({}, set()),
    ],
)
def test_what_has_no_effect_is_not_tuned(fixed, void):
    assert tuned() - tuned(**fixed) == void


def test_nothing_fixed_is_lightgbm_s_space():
    assert default_space(5_000, {}) == lightgbm_space(n_rows=5_000)


def test_reports_of_a_forest_do_not_depend_on_a_rate_that_it_does_not_read(make, value):
    objective = make(
        params={"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        search_space={"learning_rate": (0.01, 1.0, "log")},
    )
    steps = []
    for rate in (0.01, 0.1, 1.0):
        reporter = objective.reporter(seed=1)
        objective.train({"learning_rate": rate}, reporter)
        steps.append(reporter.best_step)
    assert len(set(steps)) == 1


@pytest.mark.parametrize(
    ("n_rows", "options", "message"),
    [
        (16, {}, "no split among the 12 rows .* 20 rows in each leaf"),
        (200, {"params": {"min_data_in_leaf": 100}}, "no split among .* 100 rows in each leaf"),
        (200, {"weight": 1e-6}, "no split among the 150 rows that it trains on: the model"),
        (200, {"params": {"min_gain_to_split": 1e9}}, "no split among the 150 rows"),
    ],
)
def test_a_default_that_learns_nothing_is_told(n_rows, options, message):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], n_rows // 2)
    x = rng.normal(size=(n_rows, 3)) + y[:, None]
    if "weight" in options:
        options = {"weight": np.full(n_rows, options["weight"])}
    objective = LightGBMObjective(
        (x, y), objective="binary", metric="auc", folds=4, max_rounds=5, **options
    )
    with pytest.warns(UserWarning, match=message):
        objective.check()
