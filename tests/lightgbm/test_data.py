"""What `LightGBMObjective` takes as data: pairs and Datasets, weights, queries."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
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
    from pathlib import Path

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :10]
NAMES = [f"f{i}" for i in range(X.shape[1])]
DIABETES = load_diabetes(return_X_y=True)
N = len(Y)
DRAWN = {"num_leaves": 7, "bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.6}
SPACE = SearchSpace({**DRAWN, "num_leaves": (3, 30)})
LEAVES = SearchSpace({"num_leaves": (3, 300)})


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


def binned_file(folder: Path) -> lgb.Dataset:
    lgb.Dataset(X, Y, params={"verbosity": -1}).save_binary(folder / "data.bin")
    return lgb.Dataset(folder / "data.bin")


def dataset(**options: Any) -> lgb.Dataset:
    return lgb.Dataset(X, Y, params={"verbosity": -1}, **options)


FORMS: dict[str, Callable[[], Any]] = {
    "array in Fortran's order": lambda: (np.asfortranarray(X), Y),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "pandas": lambda: (pd.DataFrame(X, columns=NAMES), pd.Series(Y)),
    "pandas, index of its own": lambda: (
        pd.DataFrame(X, index=np.arange(N)[::-1] + 1000),
        pd.Series(Y, index=np.random.default_rng(0).permutation(N)),
    ),
    "pandas, labels as a frame": lambda: (pd.DataFrame(X), pd.DataFrame({"y": Y})),
    "polars": lambda: (pl.DataFrame(X, schema=NAMES), pl.Series(Y)),
    "polars, labels as a frame": lambda: (pl.DataFrame(X, schema=NAMES), pl.DataFrame({"y": Y})),
    "polars, lazy": lambda: (pl.DataFrame(X, schema=NAMES).lazy(), pl.DataFrame({"y": Y}).lazy()),
    "columns by name": lambda: ({name: X[:, i] for i, name in enumerate(NAMES)}, Y),
    "columns by name, lists": lambda: ({name: X[:, i].tolist() for i, name in enumerate(NAMES)}, Y),
    "CSR matrix": lambda: (sparse.csr_matrix(X), Y),
    "CSC array": lambda: (sparse.csc_array(X), Y),
    "COO array": lambda: (sparse.coo_array(X), Y),
    "Dataset": dataset,
    "Dataset of pandas": lambda: lgb.Dataset(pd.DataFrame(X), pd.Series(Y)),
    "Dataset of polars": lambda: lgb.Dataset(pl.DataFrame(X, schema=NAMES), pl.Series(Y)),
    "Dataset binned and kept": lambda: dataset(free_raw_data=False).construct(),
    "Dataset binned and freed": lambda: dataset().construct(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_value(form):
    assert value(make(FORMS[form]())) == value(make((X, Y)))


def test_dataset_in_a_binary_file_gives_the_same_value(tmp_path: Path):
    assert value(make(binned_file(tmp_path))) == value(make((X, Y)))


@pytest.mark.parametrize("form", [form for form in FORMS if "freed" not in form])
def test_every_form_may_steer_and_score(form):
    both = make(FORMS[form](), folds=None, valid=FORMS[form](), score=FORMS[form]())
    plain = make((X, Y), folds=None, valid=(X, Y), score=(X, Y))
    assert value(both) == value(plain)


@pytest.mark.parametrize("n", [4, 6, 10])
def test_very_small_data_trains(n):
    rows = np.r_[np.flatnonzero(Y == 0)[: n // 2], np.flatnonzero(Y == 1)[: n // 2]]
    assert np.isfinite(value(make((X[rows], Y[rows]), folds=2)))


# Weights and groups

WEIGHT = np.random.default_rng(0).uniform(0.1, 3.0, N)


@pytest.mark.parametrize(
    "weighted",
    [
        lambda: {"train": (X, Y), "weight": WEIGHT.tolist()},
        lambda: {"train": (X, Y), "weight": pd.Series(WEIGHT, index=np.arange(N)[::-1])},
        lambda: {"train": (X, Y), "weight": pl.Series(WEIGHT)},
        lambda: {"train": dataset(weight=WEIGHT)},
        lambda: {"train": dataset(weight=WEIGHT).construct()},
        lambda: {"train": dataset(), "weight": WEIGHT},
    ],
    ids=["list", "pandas", "polars", "Dataset", "Dataset freed", "beside a Dataset"],
)
def test_weights_train_and_count_in_the_metric(weighted):
    assert value(make(**weighted())) == value(make((X, Y), weight=WEIGHT))
    assert value(make((X, Y), weight=WEIGHT)) != value(make((X, Y)))


def test_row_of_weight_zero_changes_no_metric():
    extended = np.r_[X, np.full((20, 10), 1e6)], np.r_[Y, np.zeros(20, int)]
    weight = np.r_[np.ones(N), np.zeros(20)]
    objective = make(extended, weight=weight, folds=None, valid=0.5)
    model = objective.fit({}, seed=0, n_rounds=3)
    weighted = lgb.Dataset(*extended, weight=weight)
    plain = objective.evaluate(model, (X, Y))["binary_logloss"]
    assert objective.evaluate(model, weighted)["binary_logloss"] == pytest.approx(plain)


QUERIES = np.arange(len(DIABETES[1])) // 13
GRADES = (DIABETES[1] // 90).astype(int)
RANKED: dict[str, Callable[[], dict[str, Any]]] = {
    "pandas": lambda: {"groups": pd.Series(QUERIES, index=np.arange(442)[::-1])},
    "polars": lambda: {"groups": pl.Series(QUERIES)},
    "Dataset": lambda: {"train": lgb.Dataset(DIABETES[0], GRADES, group=np.bincount(QUERIES))},
    "Dataset freed": lambda: {
        "train": lgb.Dataset(
            DIABETES[0], GRADES, group=np.bincount(QUERIES), params={"verbosity": -1}
        ).construct()
    },
}


def ranking(**options: Any) -> LightGBMObjective:
    settings = {"train": (DIABETES[0], GRADES), "objective": "lambdarank", "metric": "ndcg@5"}
    return make(**settings | options)


@pytest.mark.parametrize(
    ("form", "folds"),
    # Of a freed Dataset a hold-out has other bins: those of all rows.
    [*itertools.product(RANKED, [3]), *itertools.product(["pandas", "polars", "Dataset"], [None])],
)
def test_queries_come_as_groups_of_any_form(form, folds):
    expected = value(ranking(groups=QUERIES, folds=folds))
    assert value(ranking(**RANKED[form](), folds=folds)) == expected
    assert 0 < expected <= 1


def test_names_of_queries_do_not_matter_across_data():
    half = QUERIES < 17
    parts = [
        lgb.Dataset(DIABETES[0][rows], GRADES[rows], group=np.bincount(QUERIES[rows])[-17:])
        for rows in (half, ~half)
    ]
    named = ranking(
        train=(DIABETES[0][half], GRADES[half]),
        groups=[f"q{query}" for query in QUERIES[half]],
        folds=None,
        valid=parts[1],
        score=parts[1],
    )
    both = ranking(train=parts[0], folds=None, valid=parts[1], score=parts[1])
    assert value(named) == value(both)


# What is refused

REFUSED: dict[str, tuple[type[HpolabError], str, Callable[[], Any]]] = {
    "nothing": (InvalidType, r"`train` must be a pair .* got NoneType", lambda: make(None)),
    "features alone": (InvalidType, "`train` must be a pair .* got ndarray", lambda: make(X)),
    "a triple": (
        InvalidType,
        "`train` must be a pair .* got a tuple of 3",
        lambda: make((X, Y, Y)),
    ),
    "lengths": (
        InvalidArgument,
        "`train` features and labels must be of one length, got 569 and 100",
        lambda: make((X, Y[:100])),
    ),
    "no rows": (InvalidArgument, r"`train`.* got \(0,\)", lambda: make((X[:0], []))),
    "weight too short": (
        InvalidArgument,
        "`weight` must be as long as `train`, got 5 for 569",
        lambda: make((X, Y), weight=np.ones(5)),
    ),
    "negative weight": (
        InvalidArgument,
        "`weight` must be finite, 0 or above, .* got -1.0 to 1.0",
        lambda: make((X, Y), weight=np.r_[-1.0, np.ones(N - 1)]),
    ),
    "missing weight": (
        InvalidArgument,
        "`weight` must be finite",
        lambda: make((X, Y), weight=np.r_[np.nan, np.ones(N - 1)]),
    ),
    "no weight above 0": (
        InvalidArgument,
        "`weight` must be .* somewhere above 0",
        lambda: make((X, Y), weight=np.zeros(N)),
    ),
    "weight of strings": (
        InvalidType,
        "`weight` must hold numbers",
        lambda: make((X, Y), weight=WORDS_OF_Y),
    ),
    "groups too short": (
        InvalidArgument,
        "`groups` must be as long as `train`",
        lambda: make((X, Y), groups=[1, 2]),
    ),
    "missing groups": (
        InvalidArgument,
        "`groups` must have no missing values, got 1 missing, the first in row 0",
        lambda: make((X, Y), groups=[None, *range(1, N)]),
    ),
    "ranking without groups": (
        InvalidArgument,
        "`groups` must name the query of each row of `train` for objective 'lambdarank', got None",
        lambda: ranking(),
    ),
    "ranking valid without groups": (
        InvalidArgument,
        "`groups` must name the query of each row of `valid`",
        lambda: ranking(groups=QUERIES, folds=None, valid=(DIABETES[0], GRADES)),
    ),
    "scattered queries": (
        InvalidArgument,
        "`groups` must hold the rows of a query one after another, got 0 in",
        lambda: ranking(groups=np.arange(442) % 20),
    ),
    "Dataset without labels": (
        InvalidArgument,
        "`train` must have labels, got a Dataset without",
        lambda: make(lgb.Dataset(X)),
    ),
    "Dataset with initial scores": (
        InvalidArgument,
        "`train` must have no initial scores",
        lambda: make(dataset(init_score=Y * 1.0)),
    ),
    "binned Dataset with initial scores": (
        InvalidArgument,
        "`train` must have no initial scores",
        lambda: make(dataset(init_score=Y * 1.0).construct()),
    ),
    "Dataset of no file": (
        InvalidArgument,
        "`train` cannot be read by LightGBM, got '/nowhere/data.bin'",
        lambda: make(lgb.Dataset("/nowhere/data.bin")),
    ),
    "binned Dataset to score": (
        InvalidArgument,
        "`score` must hold raw data, .* `free_raw_data=False`",
        lambda: make((X, Y), score=dataset().construct()),
    ),
    "binned Dataset with valid": (
        InvalidArgument,
        "`valid` must be a fraction where `train` is a Dataset that is binned",
        lambda: make(dataset().construct(), folds=None, valid=(X, Y)),
    ),
    "bins of a binned Dataset in the space": (
        InvalidArgument,
        "`search_space` must leave the bins of a Dataset that is binned as they are, got 'max_bin'",
        lambda: make(dataset().construct(), search_space=SearchSpace({"max_bin": (15, 255)})),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_data_is_refused_by_argument_rule_and_value(case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct()


GRADED = (X, np.arange(N) % 3)
PLACES = np.arange(N) % 10


@pytest.mark.parametrize("construct", [False, True])
@pytest.mark.parametrize("argument", ["train", "valid", "score"])
def test_positions_are_refused_as_initial_scores_are(argument, construct):
    sizes = [N - 9, 9]

    def dataset(position: Any) -> lgb.Dataset:
        made = lgb.Dataset(
            *GRADED, group=sizes, position=position, free_raw_data=False, params={"verbosity": -1}
        )
        return made.construct() if construct else made

    options: dict[str, Any] = {"objective": "lambdarank", "metric": "ndcg@3", "folds": None}
    data = {"train": dataset(None), "valid": dataset(None), "score": dataset(None)}
    make(**data, **options)
    with pytest.raises(InvalidArgument, match=f"`{argument}` must have no positions"):
        make(**data | {argument: dataset(PLACES)}, **options)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_the_scale_of_equal_weights_changes_no_model(scale, kind):
    rng = np.random.default_rng(0)
    y = X[:, 0] if kind == "regression" else (X[:, 0] > 14).astype(int)
    valid = (X[:80], rng.permutation(y[:80]))  # of another kind than the other rows
    options: dict[str, Any] = {
        "objective": kind,
        "folds": None,
        "valid": valid,
        "params": {"min_sum_hessian_in_leaf": 0},
    }

    def fitted(**more: Any) -> np.ndarray:
        objective = make((X, y), **options, **more)
        return objective.fit({"num_leaves": 7}, seed=0, n_rounds=10).predict(X)

    assert np.allclose(fitted(weight=np.full(N, scale)), fitted(), rtol=1e-4)
    weighed = lgb.Dataset(*valid, weight=np.full(80, scale))
    assert np.allclose(fitted(), fitted(**{"weight": np.ones(N)}), rtol=1e-6)
    options["valid"] = weighed
    plain = fitted()
    options["valid"] = valid
    assert np.allclose(plain, fitted(), rtol=1e-4)


def test_relative_weights_of_the_rows_that_steer_are_kept():
    heavy = np.r_[np.full(40, 5.0), np.ones(40)]
    weighed = make((X, Y), folds=None, valid=lgb.Dataset(X[:80], Y[:80], weight=heavy))
    scaled = make((X, Y), folds=None, valid=lgb.Dataset(X[:80], Y[:80], weight=heavy * 1e3))
    plain = make((X, Y), folds=None, valid=(X[:80], Y[:80]))
    assert value(weighed) == pytest.approx(value(scaled), rel=1e-6)
    assert value(weighed) != pytest.approx(value(plain), rel=1e-3)


def test_categories_among_the_params_of_a_dataset_are_refused():
    # LightGBM warns that it ignores them, and then does not.
    dataset = lgb.Dataset(X, Y, params={"categorical_feature": "0,1"})
    with pytest.raises(InvalidArgument, match="`train` must name categorical columns by `categ"):
        make(dataset)
