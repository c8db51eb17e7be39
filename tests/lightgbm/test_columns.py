"""Columns of features: types, missing values, names and categories."""

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
from sklearn.datasets import load_breast_cancer

from hpolab import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    LightGBMModel,
    LightGBMObjective,
    SearchSpace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :10]
NAMES = [f"f{i}" for i in range(X.shape[1])]
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
    objective = make((frame, labels), params=fine, folds=2, search_space={"num_leaves": (3, 300)})
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
    objective = make((ends, Y), search_space={"num_leaves": (3, 300)})
    assert (objective.fit({}, seed=0, n_rounds=5).predict(ends) == plain).all()


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


def test_codes_that_lightgbm_would_cast_are_refused():
    large = np.column_stack([NOISE, CODES + 2.0**31 - 5])
    make((large - [0, 1], LABELS), categorical=[1])
    with pytest.raises(InvalidArgument, match="categorical column 1, got 2147483648"):
        make((large, LABELS), categorical=[1])


@pytest.mark.parametrize(
    ("trained", "predicted"), [(CODES, CODES.astype(str)), (CODES.astype(str), CODES)], ids=str
)
def test_categories_of_another_type_are_refused(trained, predicted):
    model = make((pd.DataFrame({"c": pd.Categorical(trained)}), LABELS)).fit({}, seed=0, n_rounds=1)
    for rows in (predicted, predicted[:1]):
        with pytest.raises(InvalidType, match=r"`features` must hold categories .* column 'c'"):
            model.predict(pd.DataFrame({"c": rows}))
    assert np.isfinite(model.predict(pd.DataFrame({"c": [None, None]}))).all()


@pytest.mark.parametrize("names", [["", "b"], ["a b", "a,b"], ["", "_"], ["ä", "{}"]], ids=repr)
def test_columns_of_any_name_can_be_saved_and_loaded(names, tmp_path):
    frame = pd.DataFrame(X[:, :2], columns=names)
    model = make((frame, Y)).fit({}, seed=0, n_rounds=2)
    model.save(tmp_path / "model.txt")
    loaded = LightGBMModel.load(tmp_path / "model.txt")
    assert (loaded.predict(frame[names[::-1]]) == model.predict(frame)).all()


def test_entries_of_a_sparse_matrix_add_up_and_it_is_left_as_it_was():
    data, indices = np.repeat(X / 2, 2, axis=1), np.repeat(np.arange(X.shape[1]), 2)
    starts = np.arange(N + 1) * 2 * X.shape[1]
    twice = sparse.csr_matrix((data.ravel(), np.tile(indices, N), starts), shape=X.shape)
    assert value(make((twice, Y))) == value(make((X, Y)))
    assert twice.nnz == 2 * X.size


def test_masked_values_are_missing_ones():
    hidden = np.random.default_rng(0).random(X.shape) < 0.2
    masked = np.ma.masked_array(X, hidden)
    assert value(make((masked, Y))) == value(make((np.where(hidden, np.nan, X), Y)))


# What is refused

FRAME = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
STAMP = pd.Timestamp(2020, 1, 1)

REFUSED: dict[str, tuple[type[HpolabError], str, Callable[[], Any]]] = {
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
    "str column": (
        InvalidType,
        "column 'd' with 569 different strings in 569 rows: they look like ids",
        lambda: make((FRAME.assign(d=[f"patient {i}" for i in range(N)]), Y)),
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
        "column 'd' with 569 different strings in 569 rows: they look like ids",
        lambda: make((pl.DataFrame({"d": [f"patient {i}" for i in range(N)]}), Y)),
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
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_columns_are_refused_by_argument_rule_and_value(case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct()


KINDS = np.arange(N) % 4
BINNED = pd.DataFrame(X[:, :3], columns=["size", "two words", "b"]).assign(
    kind=pd.Categorical(np.array(["a", "b", "c", "d"])[KINDS])
)
OF_BINNED = ((X[:, 0] > 14) ^ (KINDS == 2)).astype(int)


def binned(frame: Any, **options: Any) -> lgb.Dataset:
    return lgb.Dataset(frame, OF_BINNED, params={"verbosity": -1}, **options).construct()


@pytest.mark.parametrize(
    ("columns", "order"),
    [
        (["size", "b"], ["b", "size"]),
        (["size", "two words", "b"], ["two words", "b", "size"]),
        (["size", "two words", "b", "kind"], ["kind", "b", "two words", "size"]),
        (["kind", "size"], ["size", "kind"]),
    ],
)
def test_a_dataset_that_is_binned_keeps_names_and_categories(tmp_path, columns, order):
    objective = make(binned(BINNED[columns]))
    model = objective.fit({**DRAWN}, seed=0, n_rounds=20)
    expected = model.booster.predict(BINNED[columns])
    assert np.allclose(model.predict(BINNED[columns]), expected)
    assert np.allclose(model.predict(BINNED[order]), expected)
    assert np.allclose(model.predict(pl.from_dict(as_lists(BINNED[order]))), expected)
    model.save(tmp_path / "model.txt")
    assert np.allclose(LightGBMModel.load(tmp_path / "model.txt").predict(BINNED[order]), expected)
    assert objective.evaluate(model, (BINNED[order], OF_BINNED))["binary_logloss"] < 0.69
    with pytest.raises(InvalidArgument, match="must have the columns trained on, got one without"):
        model.predict(BINNED[order].rename(columns={"size": "other"}))


def as_lists(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: frame[name].tolist() for name in frame}


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (BINNED.assign(kind=BINNED["kind"].cat.as_ordered()), {}),
        (BINNED.assign(more=pd.Categorical(KINDS, ordered=True)), {}),
        (BINNED.assign(code=KINDS), {"categorical_feature": ["code"]}),
    ],
)
def test_categories_whose_column_is_not_known_are_refused_before_training(frame, options):
    with pytest.raises(InvalidArgument, match=r"`train` must keep its raw data .* ordered categ"):
        make(binned(frame, **options))
    make(binned(frame, free_raw_data=False, **options))


@pytest.mark.parametrize("construct", [False, True])
def test_names_given_with_an_array_match_a_frame_s(construct):
    dataset = lgb.Dataset(X[:, :3], OF_BINNED, feature_name=["x", "y", "z"])
    model = make(dataset.construct() if construct else dataset).fit({}, seed=0, n_rounds=10)
    frame = pd.DataFrame(X[:, :3], columns=["x", "y", "z"])
    expected = model.predict(X[:, :3])
    assert (model.predict(frame[["z", "x", "y"]]) == expected).all()
    with pytest.raises(InvalidArgument, match="must have the columns trained on"):
        model.predict(frame.rename(columns={"x": "other"}))
    if not construct:
        assert (model.predict(pd.DataFrame(X[:, :3])) == expected).all()


def test_frames_of_any_name_follow_the_order_of_an_array():
    model = make((X, Y)).fit({}, seed=0, n_rounds=10)
    for frame in (pd.DataFrame(X), pl.DataFrame(X), pd.DataFrame(X, columns=NAMES)):
        assert (model.predict(frame) == model.predict(X)).all()
    with pytest.raises(InvalidArgument, match="must have the 10 columns trained on, got 9"):
        model.predict(pd.DataFrame(X[:, :9]))


@pytest.mark.parametrize(
    ("trained", "predicted"),
    [
        (["a", "b", "c"], ["A", "B", "C"]),
        (["a", "b", "c"], [" a", " b", " c"]),
        ([1, 2, 3], [1.5, 2.5, 3.5]),
        ([date(2020, 1, d) for d in (1, 2, 3)], [f"{d}.1.2020" for d in (1, 2, 3)]),
    ],
)
def test_a_column_of_which_no_category_is_known_is_told(trained, predicted):
    places = np.arange(N) % 3
    frame = pd.DataFrame({"x": X[:, 0], "kind": [trained[i] for i in places]})
    other = frame.assign(kind=[predicted[i] for i in places])
    model = make((frame, Y), categorical=["kind"]).fit({}, seed=0, n_rounds=5)
    with pytest.warns(UserWarning, match="`features` has no category that training has seen in"):
        model.predict(other)
    model.predict(other[:5])  # of a few rows all may be new
    half_known = other.assign(kind=np.where(places == 0, frame["kind"], other["kind"]))
    model.predict(half_known)


@pytest.mark.parametrize("code", [2**31, 2.0**40, -1, 0.5])
@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("binned_already", [False, True])
def test_codes_of_an_array_s_categories_are_checked_in_whatever_is_predicted(
    code, form, binned_already
):
    train = lgb.Dataset(
        np.c_[X[:, :2], np.arange(N) % 4], Y, categorical_feature=[2], params={"verbosity": -1}
    )
    model = make(train.construct() if binned_already else train).fit({}, seed=0, n_rounds=5)
    assert len(model.predict(form(np.c_[X[:, :2], np.arange(N) % 4]))) == N
    with pytest.raises(InvalidArgument, match=r"`features` must hold .* in categorical column 2"):
        model.predict(form(np.c_[X[:, :2], np.full(N, code)]))
