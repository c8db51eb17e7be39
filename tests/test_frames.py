"""Frames: columns of every library are read alike."""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from hpolab import InvalidArgument, InvalidType
from hpolab.frames import (
    collected,
    is_frame,
    is_missing,
    n_rows,
    read_columns,
    read_rows,
    rows_with_gaps,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = {"a": [1, 2, 3], "word": ["x", "y", "x"]}
FORMS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas, index of its own": lambda: pd.DataFrame(COLUMNS, index=[7, 7, 0]),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars, lazy": lambda: pl.DataFrame(COLUMNS).lazy(),
    "lists by name": lambda: COLUMNS,
    "arrays by name": lambda: {name: np.array(values) for name, values in COLUMNS.items()},
    "series by name": lambda: {"a": pd.Series([1, 2, 3]), "word": pl.Series(COLUMNS["word"])},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_frame_has_the_same_columns(form):
    frame = FORMS[form]()
    columns = read_columns("frame", frame)
    assert is_frame(frame)
    assert {name: column.values() for name, column in columns.items()} == COLUMNS
    assert columns["a"].numbers().tolist() == columns["a"].array().tolist() == [1, 2, 3]
    assert [column.is_numeric for column in columns.values()] == [True, False]
    assert read_rows("frame", frame)[1] == {"a": 2, "word": "y"}


def test_pyarrow_tables_are_frames():
    pa = pytest.importorskip("pyarrow")
    words = pa.array(["x", None]).dictionary_encode()
    columns = read_columns("frame", pa.table({"a": [1, None], "flag": [True, None], "w": words}))
    np.testing.assert_array_equal(columns["a"].numbers(), [1, np.nan])
    np.testing.assert_array_equal(columns["flag"].numbers(), [1, np.nan])
    assert columns["w"].is_categorical


NUMERIC: dict[str, Any] = {
    "Int64": pd.Series([1, None], dtype="Int64"),
    "Float32": pd.Series([1, None], dtype="Float32"),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "sparse": pd.Series(pd.arrays.SparseArray([1, np.nan])),
    "polars Int128": pl.Series([1, None], dtype=pl.Int128),
    "polars Decimal": pl.Series([1, None], dtype=pl.Decimal(10, 2)),
    "polars Boolean": pl.Series([True, None]),
    "list": [1, None],
    "list with NA": [1, pd.NA],
    "array of objects": np.array([True, None], dtype=object),
}


@pytest.mark.parametrize("name", NUMERIC)
def test_missing_number_of_any_type_is_nan(name):
    column = read_columns("frame", {"a": NUMERIC[name]})["a"]
    assert column.is_numeric
    np.testing.assert_array_equal(column.numbers().astype(float), [1, np.nan])


NOT_NUMERIC: dict[str, Any] = {
    "text": ["1", "2"],
    "dates": [date(2020, 1, 1)] * 2,
    "pandas datetimes": pd.to_datetime(pd.Series(["2020", "2021"])),
    "pandas periods": pd.Series(pd.period_range("2020", periods=2)),
    "pandas objects": pd.Series([1, "a"], dtype=object),
    "polars durations": pl.Series([date(2020, 1, 1)] * 2) - date(2019, 1, 1),
    "complex numbers": np.array([1j, 2j]),
    "lists": [[1], [2, 3]],
}


@pytest.mark.parametrize("name", NOT_NUMERIC)
def test_what_is_no_number_is_not_numeric(name):
    assert not read_columns("frame", {"a": NOT_NUMERIC[name]})["a"].is_numeric


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (pd.Categorical(["x", None], categories=["z", "x"]), ("z", "x")),
        (pd.Categorical(["x", None], categories=["z", "x"], ordered=True), ("z", "x")),
        (pd.Categorical([2, None], categories=[3, 2]), (3, 2)),
        (pl.Series(["x", None], dtype=pl.Enum(["z", "x"])), ("z", "x")),
        (pl.Series(["x", None], dtype=pl.Categorical), None),
    ],
    ids=["pandas", "pandas ordered", "pandas numbers", "Enum", "Categorical"],
)
def test_categories_are_those_that_the_type_declares(values, categories):
    values = pd.Series(values) if isinstance(values, pd.Categorical) else values
    column = read_columns("frame", {"a": values})["a"]
    assert column.is_categorical
    assert column.categories == categories
    assert is_missing(column.values()[1])


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT, np.datetime64("NaT")], ids=repr)
def test_missing_values_are_known(value):
    assert is_missing(value)


@pytest.mark.parametrize(
    "value", [0, "", "nan", False, [], np.zeros(2), date(2020, 1, 1)], ids=repr
)
def test_other_values_are_not_missing(value):
    assert not is_missing(value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "rows.csv",
        [[1]],
        [{"a": 1}],
        np.zeros((2, 2)),
        sparse.dok_matrix((2, 2)),
        pd.Series([1]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_other_data_is_no_frame(data):
    assert not is_frame(data)
    with pytest.raises(InvalidType, match="`rows` must be a data frame or a mapping of columns"):
        read_columns("rows", data)


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (pd.DataFrame(np.zeros((1, 2)), columns=["a", "a"]), InvalidArgument, r"\['a'\] twice"),
        (pd.DataFrame(np.zeros((1, 2)), columns=["1", 1]), InvalidArgument, r"\['1'\] twice"),
        ({"a": [1], "b": [1, 2]}, InvalidArgument, "columns of one length, got {'a': 1, 'b': 2}"),
        ({"a": 1}, InvalidType, "got int for 'a'"),
        ({"a": "word"}, InvalidType, "got str for 'a'"),
        ({"a": np.zeros((2, 2))}, InvalidType, "got ndarray for 'a'"),
    ],
    ids=["same name", "same name in text", "lengths", "a number", "a word", "a table"],
)
def test_bad_frames_are_refused(frame, error, message):
    with pytest.raises(error, match=message):
        read_columns("frame", frame)


def test_only_lazy_frames_are_collected():
    frame = pd.DataFrame(np.zeros((1, 2)), columns=["a", "a"])
    rows = [[1]]
    assert collected(frame) is frame
    assert collected(rows) is rows
    assert isinstance(collected(pl.LazyFrame(COLUMNS)), pl.DataFrame)


@pytest.mark.parametrize(
    "data",
    [[1, 2], np.zeros((2, 3)), sparse.csr_matrix((2, 3)), pd.DataFrame({"a": [1, 2]}), (1, 2)],
    ids=lambda data: type(data).__name__,
)
def test_rows_are_counted(data):
    assert n_rows(data) == 2


NUMBERS = [[1.0, 2.0], [math.nan, 0.0], [3.0, 4.0], [5.0, math.inf]]


@pytest.mark.parametrize(
    "data",
    [
        NUMBERS,
        np.array(NUMBERS, np.float32),
        np.array(NUMBERS, object),
        sparse.csr_matrix(np.array(NUMBERS)),
        pd.DataFrame(NUMBERS),
        pl.DataFrame(NUMBERS, schema=["a", "b"], orient="row"),
        pl.DataFrame(NUMBERS, schema=["a", "b"], orient="row").lazy(),
        {"a": [1.0, math.nan, 3.0, 5.0], "b": np.array([2.0, 0.0, 4.0, math.inf])},
    ],
)
def test_rows_with_missing_or_infinite_values_are_found(data):
    assert rows_with_gaps(data).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    "data",
    [
        [["a", 1], [None, 2]],
        np.array([["a", 1], [None, 2]], object),
        pd.DataFrame({"a": ["a", None], "n": [1, 2]}),
        pd.DataFrame({"a": pd.array([1, pd.NA], "Int64")}),
        pd.DataFrame({"a": pd.Categorical(["x", None])}),
        pl.DataFrame({"a": ["a", None]}),
        {"a": [1.0, None]},
    ],
)
def test_rows_without_a_value_are_found_in_any_type(data):
    assert rows_with_gaps(data).tolist() == [False, True]


def test_data_without_numbers_has_no_gaps():
    assert not rows_with_gaps(["text", "more"]).any()
    assert not rows_with_gaps(np.array(["text", "more"])).any()
    assert not rows_with_gaps([[1], [2, 3]]).any()
    assert not rows_with_gaps(np.zeros((3, 2, 2), int)).any()
