"""What `LightGBMObjective` takes as data, and what it refuses before a trial is spent."""

from __future__ import annotations

import itertools
from datetime import date
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from hpolab import HpolabError, InvalidArgument, InvalidType, LightGBMObjective, SearchSpace

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


# One table in every form


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


def test_steering_data_is_matched_by_name():
    train, other = (pd.DataFrame(X, columns=NAMES) for _ in range(2))
    mixed = other[NAMES[::-1]]
    plain = make((train, Y), folds=None, valid=(other, Y))
    assert value(make((train, Y), folds=None, valid=(mixed, Y))) == value(plain)


def whole_numbers(dtype: Any) -> np.ndarray:
    return X.clip(0, 100).astype(np.uint8).astype(dtype)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        *itertools.product(["array", "pandas", "polars"], ["u1", "i1", "i8", "f2", "f4"]),
        *itertools.product(["sparse"], ["u1", "i8", "f4"]),  # SciPy has no sparse float16
    ],
)
def test_type_of_numbers_changes_no_value(form, dtype):
    form = {
        "array": np.asarray,
        "pandas": pd.DataFrame,
        "polars": pl.DataFrame,
        "sparse": sparse.csr_matrix,
    }[form]
    numbers = whole_numbers(np.uint8).astype(np.float64)
    assert value(make((form(whole_numbers(dtype)), Y))) == value(make((numbers, Y)))


def test_neighboring_large_whole_numbers_stay_apart():
    ids = 2**24 + np.arange(200)
    labels = ids % 2
    frame = pd.DataFrame({"id": ids})
    fine = {"max_bin": 1000, "min_data_in_bin": 1}
    objective = make((frame, labels), params=fine, folds=2, search_space=LEAVES)
    model = objective.fit({"min_data_in_leaf": 1, "num_leaves": 200}, seed=0, n_rounds=1)
    assert len(set(model.predict(frame)[:2])) == 2


TRUTH = np.array([None, True, False] * 200)
NUMBERS = np.array([None, 3, 1] * 200)
NOISE = np.random.default_rng(1).normal(size=600)
TRUE = (NOISE + np.array([0, 1, -1] * 200) > 0).astype(int)
WITH_MISSING: dict[str, tuple[Any, Any]] = {
    "boolean": (TRUTH, pd.array(TRUTH.tolist(), dtype="boolean")),
    "polars Boolean": (TRUTH, pl.Series(TRUTH.tolist())),
    "Int64": (NUMBERS, pd.array(NUMBERS.tolist(), dtype="Int64")),
    "Float64": (NUMBERS, pd.array(NUMBERS.tolist(), dtype="Float64")),
    "UInt8": (NUMBERS, pd.array(NUMBERS.tolist(), dtype="UInt8")),
    "polars Int64": (NUMBERS, pl.Series(NUMBERS.tolist())),
    "polars UInt8": (NUMBERS, pl.Series(NUMBERS.tolist(), dtype=pl.UInt8)),
    "sparse": (NUMBERS, pd.arrays.SparseArray([np.nan, 3.0, 1.0] * 200)),
}


@pytest.mark.parametrize("name", WITH_MISSING)
def test_missing_value_of_any_type_is_nan(name):
    plain, column = WITH_MISSING[name]
    frame_of = pl.DataFrame if name.startswith("polars") else pd.DataFrame
    array = np.column_stack([plain.astype(float), NOISE])
    assert np.isnan(array).any()
    typed = make((frame_of({"a": column, "b": NOISE}), TRUE))
    assert value(typed) == value(make((array, TRUE)))


def test_booleans_are_numbers():
    flags = np.median(X, axis=0) < X
    values = {
        value(make((data, Y)))
        for data in (flags, flags * 1.0, pd.DataFrame(flags), pl.DataFrame(flags))
    }
    assert len(values) == 1


@pytest.mark.parametrize("odd", [np.nan, 1.0], ids=["missing", "constant"])
def test_column_that_says_nothing_is_no_harm(odd):
    extended = np.column_stack([X, np.full(N, odd)])
    model = make((extended, Y)).fit({}, seed=0, n_rounds=3)
    assert model.importance()["Column_10"] == 0


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinite_features_train_as_in_lightgbm(infinity):
    ends = np.where(np.quantile(X, 0.9, axis=0) < X, infinity, X)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    plain = lgb.train(settings, lgb.Dataset(ends, Y), 5).predict(ends)
    objective = make((ends, Y), search_space=LEAVES)
    assert (objective.fit({}, seed=0, n_rounds=5).predict(ends) == plain).all()


@pytest.mark.parametrize("n", [4, 6, 10])
def test_very_small_data_trains(n):
    rows = np.r_[np.flatnonzero(Y == 0)[: n // 2], np.flatnonzero(Y == 1)[: n // 2]]
    assert np.isfinite(value(make((X[rows], Y[rows]), folds=2)))


# Categories

WORDS = np.array(["red", "green", "None", "aqua", "nan", "zinc"])
CODES = np.random.default_rng(2).integers(0, 6, 600)
COLOR = WORDS[CODES].astype(object)
COLOR[::9] = None
LABELS = (CODES % 2 + np.random.default_rng(3).normal(size=600) > 0.5).astype(int)
ORDER = sorted(WORDS)
AS_CODES = np.array([np.nan if word is None else ORDER.index(word) for word in COLOR])


def pandas_frame(dtype: Any) -> pd.DataFrame:
    return pd.DataFrame({"noise": NOISE, "color": pd.Series(COLOR, dtype=dtype)})


def polars_frame(dtype: Any) -> pl.DataFrame:
    return pl.DataFrame({"noise": NOISE, "color": pl.Series(COLOR.tolist(), dtype=dtype)})


CATEGORICAL: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "pandas category": (lambda: pandas_frame("category"), []),
    "pandas object": (lambda: pandas_frame(object), ["color"]),
    "pandas str": (lambda: pandas_frame("str"), ["color"]),
    "pandas string": (lambda: pandas_frame("string"), ["color"]),
    "polars String": (lambda: polars_frame(pl.String), ["color"]),
    "polars Categorical": (lambda: polars_frame(pl.Categorical), []),
    "polars Enum": (lambda: polars_frame(pl.Enum(ORDER)), []),
}


@pytest.mark.parametrize("form", CATEGORICAL)
def test_categories_of_any_type_train_like_their_codes(form):
    # Categories that polars saw earlier in the process shall not matter.
    pl.Series(["violet", "zinc", "red"], dtype=pl.Categorical)
    make_frame, declared = CATEGORICAL[form]
    by_codes = make((np.column_stack([NOISE, AS_CODES]), LABELS), categorical=[1])
    objective = make((make_frame(), LABELS), categorical=declared)
    assert value(objective) == value(by_codes)
    as_number = make((np.column_stack([NOISE, AS_CODES]), LABELS))
    assert value(as_number) != value(by_codes)


@pytest.mark.parametrize("form", CATEGORICAL)
def test_dataset_of_a_frame_keeps_its_categories(form):
    make_frame, declared = CATEGORICAL[form]
    by_codes = make((np.column_stack([NOISE, AS_CODES]), LABELS), categorical=[1])
    given = lgb.Dataset(make_frame(), LABELS, categorical_feature=declared or "auto")
    assert value(make(given)) == value(by_codes)


@pytest.mark.parametrize("declared", [["b"], [1]], ids=["name", "position"])
def test_dataset_of_an_array_keeps_its_names_and_categories(declared):
    array = np.column_stack([NOISE, AS_CODES])
    given = lgb.Dataset(array, LABELS, feature_name=["a", "b"], categorical_feature=declared)
    objective = make(given)
    assert value(objective) == value(make((array, LABELS), categorical=[1]))
    assert set(objective.fit({}, seed=0, n_rounds=1).importance()) == {"a", "b"}


def test_numbers_may_be_declared_categories_in_any_form():
    codes = pd.Series(AS_CODES)
    frames = [
        pd.DataFrame({"a": codes, "b": NOISE}),
        pd.DataFrame({"a": codes.astype("Int64"), "b": NOISE}),
        pl.DataFrame({"a": pl.Series(codes).fill_nan(None).cast(pl.Int8), "b": NOISE}),
    ]
    expected = value(make((np.column_stack([codes, NOISE]), LABELS), categorical=[0]))
    assert {value(make((frame, LABELS), categorical=["a"])) for frame in frames} == {expected}


def test_sparse_codes_train_like_dense_ones():
    codes = np.column_stack([NOISE, CODES])
    dense = make((codes, LABELS), categorical=[1])
    assert value(make((sparse.csr_matrix(codes), LABELS), categorical=[1])) == value(dense)


@pytest.mark.parametrize("missing", [None, "violet"], ids=["missing", "unseen"])
@pytest.mark.parametrize("form", CATEGORICAL)
def test_unseen_category_is_predicted_like_a_missing_one(form, missing):
    make_frame, declared = CATEGORICAL[form]
    model = make((make_frame(), LABELS), categorical=declared).fit({}, seed=0, n_rounds=5)
    row = make_frame()[:1]
    if isinstance(row, pd.DataFrame):
        row = row.assign(color=pd.Series([missing], dtype=object))
    else:
        row = row.with_columns(color=pl.Series([missing], dtype=pl.String))
    expected = model.booster.predict(np.array([[NOISE[0], np.nan]]))
    assert model.predict(row) == expected


def test_category_none_is_no_missing_value():
    frame = pandas_frame(object)
    model = make((frame, LABELS), categorical=["color"]).fit({}, seed=0, n_rounds=5)
    rows = pd.DataFrame({"noise": [0.0, 0.0], "color": ["None", None]})
    named, missing = model.predict(rows)
    assert named != missing


def test_column_of_mixed_objects_may_be_declared():
    mixed = pd.Series(["x", 1, 2.5, None, True, np.int64(7)] * 100, dtype=object)
    frame = pd.DataFrame({"mixed": mixed, "noise": NOISE})
    objective = make((frame, LABELS), categorical=["mixed"])
    assert np.isfinite(value(objective))
    model = objective.fit({}, seed=0, n_rounds=3)
    assert (model.predict(frame) == model.predict(frame.assign(mixed=mixed.copy()))).all()


@pytest.mark.parametrize("position", [0, 1])
def test_codes_of_arrays_must_be_whole_and_not_negative(position):
    bad = np.column_stack([AS_CODES - 1, AS_CODES + 0.5])
    with pytest.raises(InvalidArgument, match=rf"categorical column {position}, got -?\d"):
        make((bad, LABELS), categorical=[position])


# Labels

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


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
@pytest.mark.parametrize("objective", ["binary", "regression", "multiclass"])
def test_missing_labels_are_refused(objective, missing):
    labels = pd.Series(Y.tolist(), dtype=object)
    labels[3] = missing
    with pytest.raises(
        InvalidArgument, match=r"`train` labels must all be there, got 1 missing, .* row 3"
    ):
        make((X, labels), objective=objective)


@pytest.mark.parametrize("dtype", ["Int64", "string", "str", "category", "polars"])
def test_missing_labels_of_any_type_are_refused(dtype):
    values = [None, *map(str if "str" in dtype else int, Y[1:])]
    labels = pl.Series(values) if dtype == "polars" else pd.Series(values, dtype=dtype)
    with pytest.raises(InvalidArgument, match="1 missing, the first in row 0"):
        make((X, labels))


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


# What is refused

FRAME = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
STAMP = pd.Timestamp(2020, 1, 1)

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
    "1-D features": (InvalidArgument, r"`train`.* got \(569,\)", lambda: make((X[:, 0], Y))),
    "3-D features": (InvalidArgument, r"`train`.* got \(569", lambda: make((X[:, None], Y))),
    "no columns": (InvalidArgument, r"`train`.* got \(569, 0\)", lambda: make((X[:, :0], Y))),
    "no columns of a frame": (
        InvalidArgument,
        "`train` must have at least one column, got none",
        lambda: make((FRAME[[]], Y)),
    ),
    "array of objects": (
        InvalidType,
        "`train` must hold numbers, got an array of object",
        lambda: make((X.astype(object), Y)),
    ),
    "array of strings": (
        InvalidType,
        "`train` must hold numbers",
        lambda: make((X.astype(str), Y)),
    ),
    "lazy frame": (
        InvalidArgument,
        r"`train` must be of shape \(rows, columns\)",
        lambda: make((pl.DataFrame(X).lazy(), Y)),
    ),
    "str column": (
        InvalidType,
        "`train` must hold .* column 'd' of str: name it in `categorical`",
        lambda: make((FRAME.assign(d="x"), Y)),
    ),
    "object column": (
        InvalidType,
        "column 'd' of object: name it in `categorical`",
        lambda: make((FRAME.assign(d=pd.Series([1, "x", 2.5] * 190, dtype=object)), Y)),
    ),
    "datetime column": (
        InvalidType,
        "column 'd' of datetime64",
        lambda: make((FRAME.assign(d=STAMP), Y)),
    ),
    "timedelta column": (
        InvalidType,
        "column 'd' of timedelta64",
        lambda: make((FRAME.assign(d=STAMP - STAMP), Y)),
    ),
    "polars String": (
        InvalidType,
        "column 'd' of String: name it in `categorical`",
        lambda: make((pl.DataFrame({"d": ["x"] * N}), Y)),
    ),
    "polars Date": (
        InvalidType,
        "column 'd' of Date",
        lambda: make((pl.DataFrame({"d": [date(2020, 1, 1)] * N}), Y)),
    ),
    "same name twice": (
        InvalidArgument,
        r"`train` must have each column once, got \['a'\] twice",
        lambda: make((FRAME.set_axis(["a", "b", "a"], axis=1), Y)),
    ),
    "names that differ in type": (
        InvalidArgument,
        r"got \['1'\] twice",
        lambda: make((FRAME.set_axis([1, "1", "a"], axis=1), Y)),
    ),
    "categorical unknown": (
        InvalidArgument,
        "`categorical` must be one of 'a', 'b', 'c', got 'd'",
        lambda: make((FRAME, Y), categorical=["d"]),
    ),
    "categorical out of range": (
        InvalidArgument,
        "`categorical` must name columns 0 to 2, got 3",
        lambda: make((FRAME, Y), categorical=[3]),
    ),
    "categorical negative": (
        InvalidArgument,
        "`categorical` must name columns 0 to 2, got -1",
        lambda: make((FRAME, Y), categorical=[-1]),
    ),
    "categorical a fraction": (
        InvalidArgument,
        "`categorical` .* got 1.5",
        lambda: make((FRAME, Y), categorical=[1.5]),
    ),
    "categorical one name": (
        InvalidType,
        "`categorical` must be a list of columns, got 'a'",
        lambda: make((FRAME, Y), categorical="a"),
    ),
    "categorical one position": (
        InvalidType,
        "`categorical` must be a list of columns, got 1",
        lambda: make((FRAME, Y), categorical=1),
    ),
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
    "other columns in score": (
        InvalidArgument,
        r"`score` must have the columns trained on, got one without \['c'\] and with \['d'\]",
        lambda: make((FRAME, Y), score=(FRAME.rename(columns={"c": "d"}), Y)),
    ),
    "other columns in valid": (
        InvalidArgument,
        "`valid` must have the 10 columns trained on, got 3",
        lambda: make((X, Y), folds=None, valid=(X[:, :3], Y)),
    ),
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
        "`groups` must all be there, got 1 missing, the first in row 0",
        lambda: make((X, Y), groups=[None, *range(1, N)]),
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
    "query cut by a fold": (
        InvalidArgument,
        "`folds` must leave queries whole .* got query 15 in both parts: take GroupKFold",
        lambda: ranking(groups=QUERIES, folds=[(np.arange(200), np.arange(200, 442))]),
    ),
    "ranks that are no grades": (
        InvalidArgument,
        "`train` labels must be whole numbers of 0 or above .* got 1.5",
        lambda: ranking(train=(DIABETES[0], GRADES + 0.5), groups=QUERIES),
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
def test_bad_data_is_refused_by_argument_rule_and_value(case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct()


def test_splitter_that_ignores_groups_says_so():
    with pytest.warns(UserWarning, match="groups parameter is ignored by KFold"):
        make((X, Y), groups=np.arange(N) // 2, folds=KFold(3))
