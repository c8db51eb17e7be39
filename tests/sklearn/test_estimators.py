"""What `SklearnObjective` takes as a pair: rows of every form, lazy frames included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from hpolab import InvalidArgument, InvalidType
from hpolab.sklearn.estimators import open_pair, take_rows

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
FRAME = {"a": X[:, 0], "b": X[:, 1]}


@pytest.mark.parametrize(
    "pair",
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        (sparse.csr_matrix(X), Y),
        (pd.DataFrame(FRAME, index=range(6, 0, -1)), pd.Series(Y)),
        (pl.DataFrame(FRAME), pl.Series(Y)),
        (pl.LazyFrame(FRAME), pl.LazyFrame({"y": Y})),
    ],
    ids=["arrays", "lists", "sparse", "pandas", "polars", "polars, lazy"],
)
def test_rows_can_be_taken_of_every_form(pair):
    inputs, targets = open_pair("train", pair)
    taken = take_rows(inputs, np.array([4, 1]))
    dense = taken.toarray() if hasattr(taken, "toarray") else np.asarray(taken)
    assert dense.tolist() == X[[4, 1]].tolist()
    assert np.ravel(take_rows(targets, np.array([4, 1]))).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (X, InvalidType, r"must be a pair \(inputs, targets\), got ndarray"),
        ((X, Y, Y), InvalidType, "got a tuple of 3"),
        ((X, Y[:4]), InvalidArgument, "of one length, got 6 and 4"),
        ((X[:0], Y[:0]), InvalidArgument, "at least one row"),
        ((X, np.where(Y, np.nan, 0.0)), InvalidArgument, "must be finite, got 3 NaN"),
    ],
    ids=["no pair", "a triple", "lengths", "no row", "missing targets"],
)
def test_bad_pairs_are_refused(pair, error, message):
    with pytest.raises(error, match=f"`train` .*{message}"):
        open_pair("train", pair)
