"""Metrics: LightGBM's own names and directions, cuts of rankings, and functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from hpolab.studies.trials import METRICS_KEY

if TYPE_CHECKING:
    import lightgbm as lgb

DIABETES = load_diabetes(return_X_y=True)
QUERIES = np.arange(len(DIABETES[1])) // 13
GRADES = (DIABETES[1] // 90).astype(int)
RANKING: dict[str, Any] = {
    "train": (DIABETES[0], GRADES),
    "objective": "lambdarank",
    "metric": "ndcg@5",
    "groups": QUERIES,
}


def test_own_metric_that_grows_with_quality_maximizes(make, trials_of):
    def accuracy(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        return "accuracy", float(np.mean((predictions > 0.5) == rows.get_label())), True

    def squares(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        return "mse", float(np.mean((predictions - rows.get_label()) ** 2)), False

    objective = make(folds=3, metric=accuracy, metrics=["auc", squares])
    assert objective.direction == "maximize"
    (trial,) = trials_of(objective, 1)
    assert list(trial.user_attrs[METRICS_KEY]) == ["rounds", "accuracy", "auc", "mse"]
    assert trial.value > 0.8


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("auc", "maximize"),
        ("average_precision", "maximize"),
        ("binary_logloss", "minimize"),
        ("binary_error", "minimize"),
        (None, "minimize"),
    ],
)
def test_direction_is_what_lightgbm_says_of_the_metric(make, metric, direction):
    assert make(metric=metric).direction == direction


@pytest.mark.parametrize("metric", ["ndcg@3", "map@3", None])
def test_rankings_are_maximized(make, trials_of, metric):
    objective = make(**RANKING | {"metric": metric})
    assert objective.direction == "maximize"
    (trial,) = trials_of(objective, 1)
    assert list(trial.user_attrs[METRICS_KEY]) == ["rounds", metric or "ndcg@10"]


def test_metric_has_lightgbm_s_own_name_whatever_it_was_called(make, trials_of):
    objective = make(DIABETES, objective="regression", metric="mse", metrics=["mae", "l2_root"])
    (trial,) = trials_of(objective, 1)
    assert list(trial.user_attrs[METRICS_KEY]) == ["rounds", "l2", "l1", "rmse"]


def test_cuts_of_several_rankings_are_kept_apart(make, trials_of):
    objective = make(**RANKING | {"metrics": ["ndcg@1", "map@3"]})
    (trial,) = trials_of(objective, 1)
    assert list(trial.user_attrs[METRICS_KEY]) == ["rounds", "ndcg@5", "ndcg@1", "map@3"]
