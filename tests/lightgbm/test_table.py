"""Labels and class weights: classes of any type, and what an objective asks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from hpolab import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    LightGBMObjective,
    SearchSpace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :10]
DIABETES = load_diabetes(return_X_y=True)
N = len(Y)
DRAWN = {"num_leaves": 7, "bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.6}
SPACE = SearchSpace({**DRAWN, "num_leaves": (3, 30)})


def make(train: Any, **options: Any) -> LightGBMObjective:
    settings: dict[str, Any] = {
        "objective": "binary",
        "folds": 3,
        "max_rounds": 10,
        "search_space": SPACE,
    }
    return LightGBMObjective(train, **settings | options)


def value(objective: LightGBMObjective) -> float:
    """Return the value of one trial."""
    return objective.train(DRAWN, objective.reporter(seed=1))


WORDS_OF_Y = np.array(["ill", "well"])[Y]
CLASSES: dict[str, Any] = {
    "strings": WORDS_OF_Y,
    "pandas str": pd.Series(WORDS_OF_Y),
    "pandas object": pd.Series(WORDS_OF_Y, dtype=object),
    "pandas category": pd.Series(WORDS_OF_Y, dtype="category"),
    "polars String": pl.Series(WORDS_OF_Y.tolist()),
    "polars Categorical": pl.Series(WORDS_OF_Y.tolist(), dtype=pl.Categorical),
    "booleans": Y.astype(bool),
    "pandas boolean": pd.Series(Y.astype(bool), dtype="boolean"),
    "-1 and 1": 2 * Y - 1,
    "Int64": pd.Series(Y, dtype="Int64"),
    "floats": Y * 1.0,
    "column": Y[:, None],
}


@pytest.mark.parametrize("name", CLASSES)
def test_two_classes_of_any_type_train_alike(name):
    objective = make((X, CLASSES[name]))
    assert value(objective) == value(make((X, Y)))
    classes = objective.fit({}, seed=0, n_rounds=1).classes
    assert classes == tuple(np.unique(np.asarray(CLASSES[name])).tolist())


def test_many_classes_may_be_strings():
    rows = np.random.default_rng(0).normal(size=(300, 4))
    codes = rows[:, :3].argmax(axis=1)
    words = np.array(["a", "bb", "ccc"])[codes]
    named, coded = (make((rows, labels), objective="multiclass") for labels in (words, codes))
    assert value(named) == value(coded)
    assert named.fit({}, seed=0, n_rounds=1).predict(rows).shape == (300, 3)


def test_half_stars_are_classes():
    rows = np.random.default_rng(0).normal(size=(300, 4))
    stars = np.round(np.clip(rows[:, 0] + 3, 0.5, 5) * 2) / 2
    classes = (
        make((rows, stars), objective="multiclass", folds=2).fit({}, seed=0, n_rounds=1).classes
    )
    assert classes == tuple(np.unique(stars).tolist())


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
@pytest.mark.parametrize("objective", ["binary", "regression", "multiclass"])
def test_missing_labels_are_refused(objective, missing):
    labels = pd.Series(Y.tolist(), dtype=object)
    labels[3] = missing
    with pytest.raises(
        InvalidArgument,
        match=r"`train` labels must have no missing values, got 1 missing, .* row 3",
    ):
        make((X, labels), objective=objective)


@pytest.mark.parametrize("dtype", ["Int64", "string", "str", "category", "polars"])
def test_missing_labels_of_any_type_are_refused(dtype):
    values = [None, *map(str if "str" in dtype else int, Y[1:])]
    labels = pl.Series(values) if dtype == "polars" else pd.Series(values, dtype=dtype)
    with pytest.raises(InvalidArgument, match="1 missing, the first in row 0"):
        make((X, labels))


# What is refused

QUERIES = np.arange(len(DIABETES[1])) // 13
GRADES = (DIABETES[1] // 90).astype(int)


def ranking(**options: Any) -> LightGBMObjective:
    settings = {"train": (DIABETES[0], GRADES), "objective": "lambdarank", "metric": "ndcg@5"}
    return make(**settings | options)


REFUSED: dict[str, tuple[type[HpolabError], str, Callable[[], Any]]] = {
    "infinite labels": (
        InvalidArgument,
        "`train` labels must be finite, got 2 infinite",
        lambda: make((X, np.r_[np.inf, -np.inf, Y[2:]]), objective="regression"),
    ),
    "constant labels": (
        InvalidArgument,
        "`train` labels must differ, got 2.0 for all 569",
        lambda: make((X, np.full(N, 2.0)), objective="regression"),
    ),
    "one class": (
        InvalidArgument,
        "`train` labels must be of two classes .* got 1",
        lambda: make((X, np.ones(N))),
    ),
    "one of many classes": (
        InvalidArgument,
        "`train` labels must be of at least two classes .* got 'a'",
        lambda: make((X, ["a"] * N), objective="multiclass"),
    ),
    "three classes": (
        InvalidArgument,
        "`train` labels must be of two classes for objective 'binary', got 0, 1, 2",
        lambda: make((X, np.arange(N) % 3)),
    ),
    "classes of two types": (
        InvalidType,
        "`train` labels must be of one type",
        lambda: make((X, pd.Series(["x", *Y[1:]], dtype=object))),
    ),
    "strings to regress": (
        InvalidType,
        "`train` labels must be numbers for objective 'regression', got others: .*'ill'",
        lambda: make((X, WORDS_OF_Y), objective="regression"),
    ),
    "intervals": (
        InvalidType,
        "`train` labels must be text, numbers or booleans, got Interval: convert them",
        lambda: make((X, pd.cut(pd.Series(X[:, 0]), 3)), objective="multiclass"),
    ),
    "bytes": (
        InvalidType,
        "`train` labels must be text, numbers or booleans, got bytes",
        lambda: make((X, WORDS_OF_Y.astype(bytes))),
    ),
    "real numbers as classes": (
        InvalidArgument,
        "`train` labels must be classes .* distinct real numbers, .* take an objective of regr",
        lambda: make((X, X[:, 0]), objective="multiclass"),
    ),
    "labels of two columns": (
        InvalidArgument,
        r"`train` .* got \(569, 2\)",
        lambda: make((X, np.column_stack([Y, Y]))),
    ),
    "negative counts": (
        InvalidArgument,
        "poisson.* negative",
        lambda: make((X, Y - 1.0), objective="poisson"),
    ),
    "unknown class in score": (
        InvalidArgument,
        "`score` labels must be of the classes trained on, 0, 1, got 2",
        lambda: make((X, Y), score=(X, Y + 1)),
    ),
    "class_weight without a class": (
        InvalidArgument,
        "`class_weight` must have a weight for each class, 0, 1, got 0",
        lambda: make((X, Y), class_weight={0: 1.0}),
    ),
    "class_weight unknown": (
        InvalidArgument,
        "`class_weight` must be 'balanced'",
        lambda: make((X, Y), class_weight="balance"),
    ),
    "class_weight negative": (
        InvalidArgument,
        "`class_weight` must be finite, 0 or above",
        lambda: make((X, Y), class_weight={0: -1, 1: 1}),
    ),
    "class_weight of strings": (
        InvalidType,
        "`class_weight` must hold numbers",
        lambda: make((X, Y), class_weight={0: "much", 1: 1}),
    ),
    "class_weight a number": (
        InvalidType,
        "`class_weight` must be 'balanced', a mapping or None, got int",
        lambda: make((X, Y), class_weight=2),
    ),
    "class_weight to regress": (
        InvalidArgument,
        "`class_weight` must be None where labels are no classes",
        lambda: make((X, Y), objective="regression", class_weight="balanced"),
    ),
    "ranks that are no grades": (
        InvalidArgument,
        "`train` labels must be whole numbers of 0 or above .* got 1.5",
        lambda: ranking(train=(DIABETES[0], GRADES + 0.5), groups=QUERIES),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_labels_are_refused_by_argument_rule_and_value(case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct()
