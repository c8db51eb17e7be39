"""Splits of the rows: hold-outs and folds, by class, by group and by query."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from hpolab import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    LightGBMObjective,
    SearchSpace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightgbm as lgb

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
QUERIES = np.arange(len(DIABETES[1])) // 13
GRADES = (DIABETES[1] // 90).astype(int)


def ranking(**options: Any) -> LightGBMObjective:
    settings = {"train": (DIABETES[0], GRADES), "objective": "lambdarank", "metric": "ndcg@5"}
    return make(**settings | options)


@pytest.mark.parametrize("splitter", [3, GroupKFold(3)], ids=["number", "splitter"])
def test_folds_keep_groups_whole(splitter):
    groups = np.random.default_rng(0).integers(0, 60, N)
    seen = []

    def metric(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        # Each label is its row's group.
        seen.append(set(rows.get_label()))
        return "nothing", 0.0, False

    objective = make(
        (X, groups * 1.0), groups=groups, objective="regression", folds=splitter, metric=metric
    )
    seen.clear()
    value(objective)
    first, second, third = seen[:3]
    assert first | second | third == set(range(60))
    assert len(first) + len(second) + len(third) == 60


def test_splitter_that_ignores_groups_says_so():
    with pytest.warns(UserWarning, match="groups parameter is ignored by KFold"):
        make((X, Y), groups=np.arange(N) // 2, folds=KFold(3))


REFUSED: dict[str, tuple[type[HpolabError], str, Callable[[], Any]]] = {
    "query cut by a fold": (
        InvalidArgument,
        "`folds` must leave queries whole .* got query 15 in both parts: take GroupKFold",
        lambda: ranking(groups=QUERIES, folds=[(np.arange(200), np.arange(200, 442))]),
    ),
    "fold of a missing class": (
        InvalidArgument,
        r"`folds` must fit every class .* without \[1\]",
        lambda: make((X, Y), folds=[(np.flatnonzero(Y == 0), np.flatnonzero(Y == 1))]),
    ),
    "rare class": (
        InvalidArgument,
        "`train` must hold each class .* folds, 3, got 'rare' 2 times",
        lambda: make((X, np.r_[["rare"] * 2, WORDS_OF_Y[2:]]), objective="multiclass"),
    ),
    "rare class held out": (
        InvalidArgument,
        "`valid` must leave rows to both parts: .*rare",
        lambda: make((X, np.r_[["rare"], WORDS_OF_Y[1:]]), objective="multiclass", folds=None),
    ),
    "fold of equal labels": (
        InvalidArgument,
        "`folds` must train on labels that differ, got 0.0 for all 5 rows",
        lambda: make(
            (X, np.r_[np.zeros(5), np.ones(N - 5)]),
            objective="regression",
            folds=[(np.arange(5), np.arange(5, N))],
        ),
    ),
    "fold out of range": (
        InvalidArgument,
        "`folds` must hold rows of 0 .. 568, got 3 .. 569",
        lambda: make((X, Y), folds=[(np.arange(300), [3, 569])]),
    ),
    "fold of negative rows": (
        InvalidArgument,
        "`folds` must hold rows of 0 .. 568, got -1 .. 299",
        lambda: make((X, Y), folds=[(np.arange(-1, 300), np.arange(300, 400))]),
    ),
    "overlapping fold": (
        InvalidArgument,
        "`folds` must keep fitted and scored rows apart, got 10 rows in both",
        lambda: make((X, Y), folds=[(np.arange(300), np.arange(290, 400))]),
    ),
    "empty fold": (
        InvalidArgument,
        "`folds` must hold row indices, one or more",
        lambda: make((X, Y), folds=[(np.arange(300), [])]),
    ),
    "no fold": (InvalidArgument, "`folds` must hold at least one", lambda: make((X, Y), folds=[])),
    "one fold": (
        InvalidArgument,
        "`folds` must be 2 or above and .* got 1",
        lambda: make((X, Y), folds=1),
    ),
    "too many folds": (
        InvalidArgument,
        "`folds` must be 2 or above and at most the 442 rows, got 443",
        lambda: make(DIABETES, objective="regression", folds=443),
    ),
    "folds True": (
        InvalidType,
        "`folds` must be an int, .* got bool",
        lambda: make((X, Y), folds=True),
    ),
    "folds a string": (InvalidType, "`folds` must be .* str", lambda: make((X, Y), folds="5")),
    "folds of numbers": (
        InvalidType,
        r"`folds` must hold \(train, valid\) pairs of row indices, got int",
        lambda: make((X, Y), folds=[1, 2]),
    ),
    "stratified folds of numbers": (
        InvalidArgument,
        "`folds` must be able to split .*: Supported target types",
        lambda: make(
            (DIABETES[0], DIABETES[1] + 0.5), objective="regression", folds=StratifiedKFold(3)
        ),
    ),
    "folds and valid": (
        InvalidArgument,
        "`valid` must be None where `folds` are given",
        lambda: make((X, Y), valid=0.2),
    ),
    "fraction 0": (
        InvalidArgument,
        "`valid` must be a fraction between 0 and 1, got 0.0",
        lambda: make((X, Y), folds=None, valid=0.0),
    ),
    "fraction 1": (
        InvalidArgument,
        "`valid` must be a fraction between 0 and 1, got 1.0",
        lambda: make((X, Y), folds=None, valid=1.0),
    ),
    "a number as valid": (
        InvalidType,
        "`valid` must be a pair",
        lambda: make((X, Y), folds=None, valid=100),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_splits_are_refused_by_argument_rule_and_value(case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct()


class ByIndex:
    """A splitter of the user's own that looks at the rows themselves."""

    def __init__(self, day_of: Any) -> None:
        self.day_of = day_of

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        day = self.day_of(X)
        for start in (100, 200):
            scored = (day >= start) & (day < start + 90)
            yield np.flatnonzero(day < start - 5), np.flatnonzero(scored)


DAYS = pd.DataFrame(X, index=pd.RangeIndex(len(X)), columns=[f"f{i}" for i in range(X.shape[1])])


@pytest.mark.parametrize(
    ("features", "day_of"),
    [
        (DAYS, lambda rows: rows.index),
        (DAYS, lambda rows: rows["f0"].rank(method="first") - 1),
        (pl.DataFrame(DAYS.assign(day=range(len(X)))), lambda rows: rows["day"].to_numpy()),
        (np.c_[X, np.arange(len(X))], lambda rows: rows[:, -1]),
        (csr_matrix(np.c_[X, np.arange(len(X))]), lambda rows: rows[:, [-1]].toarray().ravel()),
    ],
)
def test_a_splitter_sees_the_features_as_they_came(features, day_of):
    found = make((features, Y), folds=ByIndex(day_of))
    pairs = list(ByIndex(day_of).split(features))
    assert value(found) == value(make((features, Y), folds=pairs))
    assert pickle.loads(pickle.dumps(found)).facts == found.facts


def test_a_splitter_that_asks_for_what_the_rows_have_not_is_refused():
    for folds in (ByIndex(lambda rows: rows.index), ByIndex(lambda rows: rows[:, 99])):
        with pytest.raises(InvalidArgument, match=r"`folds` must be able to split .*ndarray"):
            make((X, Y), folds=folds)


@pytest.mark.parametrize("fraction", [np.float32(0.25), np.float64(0.25), Fraction(1, 4)])
def test_a_fraction_is_any_real_number(fraction):
    assert value(make((X, Y), folds=None, valid=fraction)) == value(
        make((X, Y), folds=None, valid=0.25)
    )
