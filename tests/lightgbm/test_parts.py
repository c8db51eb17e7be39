"""Parts of the data of which a metric says nothing, or that teach nothing, are refused."""

from __future__ import annotations

import math
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold

from hpolab import InvalidArgument

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
FOLDS = list(KFold(3).split(X))
# The first of three unshuffled folds has the first class, or the number, alone.
TWO = np.r_[np.zeros(100), RNG.integers(0, 2, 200)]
THREE = np.r_[np.zeros(100), RNG.integers(0, 3, 200)]
NUMBERS = np.r_[np.full(100, 2.0), RNG.exponential(size=200)]
GRADES = np.r_[np.zeros(100), RNG.integers(0, 3, 200)]
QUERIES = np.arange(300) // 10
BLIND = [
    ("binary", TWO, "auc"),
    ("binary", 1 - TWO, "auc"),
    ("binary", TWO, "average_precision"),
    ("cross_entropy", TWO, "auc"),
    ("multiclass", THREE, "auc_mu"),
    ("regression", NUMBERS, "r2"),
    ("regression", NUMBERS, "auc"),  # all numbers are above 0, which is its one class
    ("lambdarank", GRADES, "ndcg@3"),
    ("lambdarank", GRADES, "map@5"),
]
SEEING = [
    ("binary", TWO, "binary_logloss"),
    ("binary", TWO, "binary_error"),
    ("multiclass", THREE, "multi_logloss"),
    ("multiclass", THREE, "multi_error"),
    ("regression", NUMBERS, "l2"),
    ("regression", NUMBERS, "mape"),
    ("poisson", NUMBERS, "poisson"),
    ("quantile", NUMBERS, "quantile"),
    ("regression", NUMBERS, "gamma"),
    ("regression", NUMBERS, "gamma_deviance"),
    ("regression_l1", NUMBERS, "tweedie"),
    ("gamma", NUMBERS * 1e3, "gamma"),
    ("tweedie", NUMBERS, "rmse"),
]


def kept_whole(objective: str) -> dict[str, Any]:
    return {"groups": QUERIES} if objective == "lambdarank" else {}


@pytest.mark.parametrize(("objective", "y", "metric"), BLIND)
def test_a_fold_of_which_a_metric_says_nothing_is_refused(make, objective, y, metric):
    options = {"objective": objective, "folds": FOLDS, **kept_whole(objective)}
    message = rf"`folds` must score rows on which '{metric}' .* got fold [01], whose 100 rows"
    with pytest.raises(InvalidArgument, match=message):
        make((X, y), metric=metric, **options)
    if objective == "binary":
        with pytest.raises(InvalidArgument, match=message):
            make((X, y), metrics=[metric], **options)


@pytest.mark.parametrize(("objective", "y", "metric"), BLIND)
@pytest.mark.parametrize("argument", ["valid", "score"])
def test_data_of_which_a_metric_says_nothing_is_refused(make, objective, y, metric, argument):
    if objective == "lambdarank":
        data: Any = lgb.Dataset(X[:100], y[:100], group=[10] * 10)
    else:
        data = (X[:100], y[:100])
    rest = {"groups": QUERIES[100:]} if objective == "lambdarank" else {}
    if metric == "auc" and objective == "regression":
        y = np.r_[y[:100], RNG.integers(0, 2, 200)]
    with pytest.raises(InvalidArgument, match=f"`{argument}` must score rows .*, got data"):
        make((X[100:], y[100:]), objective=objective, metric=metric, **rest, **{argument: data})


@pytest.mark.parametrize(("objective", "y", "metric"), SEEING)
def test_a_fold_of_one_label_is_taken_where_the_metric_tells_models_apart(
    make, objective, y, metric
):
    make((X, y), objective=objective, metric=metric, folds=FOLDS)


@pytest.mark.parametrize(
    ("objective", "metric"), [("binary", "binary_error"), ("multiclass", "multi_error")]
)
def test_no_number_of_rows_is_refused_by_chance(make, objective, metric):
    for n in range(4, 44, 2):
        y = np.arange(n) % 2
        make((X[:n], y), objective=objective, metric=metric, folds=2)


def test_a_hold_out_without_a_class_is_refused(make):
    patients = np.arange(300) // 10
    ill = (patients < 3).astype(int)
    with pytest.raises(InvalidArgument, match=r"`valid` .* 'auc' .* the label 0 alone"):
        make((X, ill), metric="auc", groups=patients, seed=1)
    with pytest.raises(InvalidArgument, match=r"`folds` .* 'auc' .* the label 0 alone"):
        make((X, ill), metric="auc", groups=patients, folds=GroupKFold(5))


@pytest.mark.parametrize("metric", ["auc", "binary_logloss", "binary_error"])
def test_rows_without_weight_score_nothing(make, metric):
    weight = np.ones(300)
    weight[FOLDS[1][1]] = 0
    mixed = RNG.integers(0, 2, 300)
    with pytest.raises(InvalidArgument, match="weight above 0, got fold 1 with 0 for all 100"):
        make((X, mixed), metric=metric, folds=FOLDS, weight=weight)


def test_rows_of_a_class_without_weight_are_not_of_that_class(make):
    mixed = RNG.integers(0, 2, 300)
    weight = np.ones(300)
    weight[FOLDS[2][1]] = mixed[FOLDS[2][1]]
    with pytest.raises(InvalidArgument, match=r"got fold 2, whose .* the label 1 alone"):
        make((X, mixed), metric="auc", folds=FOLDS, weight=weight)
    make((X, mixed), metric="binary_logloss", folds=FOLDS, weight=weight)


def test_nothing_is_trained_on_rows_without_weight_or_of_one_class(make):
    mixed = np.r_[RNG.integers(0, 2, 298), 0, 1]
    last = [(np.arange(200), np.arange(200, 300))]
    with pytest.raises(InvalidArgument, match="`folds` must train on rows with a weight above 0"):
        make((X, mixed), folds=last, weight=np.r_[np.zeros(200), np.ones(100)])
    with pytest.raises(InvalidArgument, match="`folds` must train on labels that differ, got 1"):
        make((X, mixed), folds=FOLDS, weight=mixed)
    with pytest.raises(InvalidArgument, match="`class_weight` must train on labels that differ"):
        make((X, mixed), folds=FOLDS, class_weight={0: 0.0, 1: 1.0})


def test_queries_of_one_grade_are_counted_and_told(make):
    grades = RNG.integers(0, 3, 300)
    grades[:20] = 0
    options = {"objective": "lambdarank", "metric": "ndcg@3", "groups": QUERIES, "folds": FOLDS}
    with pytest.warns(UserWarning, match="2 of the 30 queries of `folds` have one label"):
        make((X, grades), **options)
    grades[[0, 10]] = 1
    make((X, grades), **options)


def test_a_function_without_a_value_for_a_fold_is_refused(make):
    def auc(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        labels = rows.get_label()
        if len(np.unique(labels)) < 2:
            return "own auc", math.nan, True
        return "own auc", float(roc_auc_score(labels, predictions)), True

    with pytest.raises(InvalidArgument, match=r"'own auc' .* got fold 0"):
        make((X, TWO), metric=auc, folds=FOLDS)
    make((X, TWO), metric=auc, folds=KFold(3, shuffle=True, random_state=0))


def test_a_model_is_not_evaluated_by_what_says_nothing_of_the_data(make):
    mixed = RNG.integers(0, 2, 300)
    objective = make((X, mixed), metric="auc", metrics=["binary_logloss"])
    model = objective.fit({}, seed=0, n_rounds=3)
    ones = (X[mixed == 1], mixed[mixed == 1])
    with pytest.raises(InvalidArgument, match="`data` must score rows on which 'auc'"):
        objective.evaluate(model, ones)
    other = make((X, mixed), metric="binary_logloss", metrics=["auc"])
    metrics = other.evaluate(model, ones)
    assert math.isnan(metrics["auc"])
    assert metrics["binary_logloss"] > 0
