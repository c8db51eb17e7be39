"""Metrics: LightGBM's own names and directions, cuts of rankings, and functions."""

from __future__ import annotations

import re
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.metrics import accuracy_score

from hpolab import HpolabError, InvalidArgument
from hpolab.studies.trials import METRICS_KEY

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


@pytest.mark.parametrize("metrics", [[], ["auc"]])
def test_params_of_an_own_metric_train_and_fit(make, metrics):
    def accuracy(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        return "accuracy", float(np.mean((predictions > 0.5) == rows.get_label())), True

    X, y = load_breast_cancer(return_X_y=True)
    objective = make((X, y), folds=3, metric=accuracy, metrics=metrics)
    params = objective.params_of(objective.search_space.defaults())
    model = objective.fit(params, n_rounds=3)
    assert objective.evaluate(model, (X, y))["accuracy"] > 0.8
    rows = lgb.Dataset(X, y)
    booster = lgb.train({**params, "verbosity": -1}, rows, 3, valid_sets=[rows], feval=accuracy)
    assert set(booster.best_score["training"]) == {"accuracy", *metrics}


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


LABELS = (DIABETES[1] > 140).astype(int)


def in_their_order(y_true: Any, y_pred: Any) -> tuple[str, float, bool]:
    return "accuracy", float((y_true == (y_pred > 0.5)).mean()), True


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (in_their_order, r"`metric` must be a function of \(predictions, Dataset\), .*in_their_or"),
        (accuracy_score, r"`metric` must be a function of .* 'accuracy_score' raised"),
        (lambda predictions: 0.0, "`metric` must be a function of"),
        (lambda predictions, data: 1 / 0, "'<lambda>' raised ZeroDivisionError"),
        (lambda predictions, data: ("acc", 1.0), r"must return \(name, .* got \('acc', 1\.0\)"),
        (lambda predictions, data: 0.5, "must return .*, got 0.5 from '<lambda>'"),
        (lambda predictions, data: (1.0, "acc", True), "must return"),
        (lambda predictions, data: ("acc", 1.0, "maximize"), "must return"),
        (lambda predictions, data: ("acc", predictions, True), "must return"),
        (lambda predictions, data: None, "must return .*, got None"),
        (lambda predictions, data: [("a", 1.0, True), ("b", 2.0, True)], "must return one value"),
    ],
)
def test_a_function_of_another_form_is_refused_by_name(make, metric, message):
    with pytest.raises(HpolabError, match=message):
        make((DIABETES[0], LABELS), metric=metric)
    with pytest.raises(HpolabError, match=message):
        make((DIABETES[0], LABELS), metric="auc", metrics=[metric])


def test_numbers_and_booleans_of_numpy_are_taken_from_a_function(make):
    make(
        (DIABETES[0], LABELS),
        metric=lambda predictions, data: ("acc", np.float32(0.5), np.bool_(True)),
    )


@pytest.mark.parametrize(
    ("kind", "metric", "hint"),
    [
        ("multiclass", "auc", "'auc_mu'"),
        ("multiclass", "binary_logloss", "'multi_logloss'"),
        ("multiclass", "error", "'multi_error'"),
        ("binary", "roc_auc", "'auc'"),
        ("binary", "binary_eror", "'binary_error'"),
        ("binary", "auc_mu", "'auc'"),
        ("binary", "multi_logloss", "'binary_logloss'"),
        ("regression", "rms", "'rmse'"),
        ("regression", "ndcg@5", "'l2'"),
    ],
)
def test_an_error_about_a_name_hints_at_one_that_works(make, kind, metric, hint):
    labels = {"multiclass": GRADES, "binary": LABELS, "regression": DIABETES[1] - 140}[kind]
    train = (DIABETES[0], labels)
    with pytest.raises(InvalidArgument) as caught:
        make(train, objective=kind, metric=metric)
    assert hint in str(caught.value)
    (names,) = re.findall(r"Of its own it takes (.*)\.", str(caught.value))
    for name in names.split(", "):
        make(train, objective=kind, metric=name.strip("'"))


@pytest.mark.parametrize("name", ["ndcg", "ndcg@", "map@x", "NDCG@1.5", "map@"])
def test_a_cut_is_one_number(make, name):
    base = name.partition("@")[0].lower()
    with pytest.raises(InvalidArgument, match=f"where it cuts, such as '{base}@10', got "):
        make(**RANKING | {"metric": name})
    with pytest.raises(InvalidArgument, match="`metric` must be one name, got 'ndcg@1,5'"):
        make(**RANKING | {"metric": "ndcg@1,5"})
