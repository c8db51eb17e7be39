"""Ids: columns of one type, and codes of what is known."""

from __future__ import annotations

import uuid

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hpolab import InvalidArgument, InvalidType
from hpolab.recommender.ids import encode_ids, open_column

UUIDS = sorted(uuid.UUID(int=n) for n in (3, 7, 9))


@pytest.mark.parametrize(
    ("values", "n_distinct"),
    [
        ([np.int64(1), 2, 1], 2),
        ([2**63 + 1, 2**63 + 2, 5], 3),
        ([2**70, 2**70 + 1, -1], 3),
        ([-1, 2**63 + 1, 2**63 + 2], 3),
        ([1, 2.5, 1.0], 2),
        (["a", np.str_("a"), "b"], 2),
        (UUIDS, 3),
        (pl.Series(["a", "b", "a"]), 2),
        (pd.Series(["a", "b", "a"], dtype="category"), 2),
        (np.array([1, 2, 2], np.uint8), 2),
    ],
    ids=repr,
)
def test_ids_that_differ_stay_apart(values, n_distinct):
    assert len(np.unique(open_column("users", values))) == n_distinct


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            [1, None],
            InvalidArgument,
            "`users` must have no missing values, got 1 missing, .* row 1",
        ),
        ([1, pd.NA], InvalidArgument, "1 missing"),
        (pd.array(["a", None], dtype="string"), InvalidArgument, "1 missing"),
        (pl.Series([1, None]), InvalidArgument, "1 missing"),
        (np.array(["NaT"], "datetime64[D]"), InvalidArgument, "1 missing"),
        (["a", 1], InvalidType, "must be of one type, got int, str"),
        ({"a"}, InvalidArgument, r"must be of shape \(rows,\), got \(\)"),
    ],
    ids=repr,
)
def test_bad_ids_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        open_column("users", values)


@pytest.mark.parametrize(
    ("known", "asked", "codes"),
    [
        ([3, 7, 9], [9, 3, 5, 10], [2, 0, -1, -1]),
        ([3, 7, 9], np.array([7.0, 7.5]), [1, -1]),
        ([3, 7, 9], [], []),
        (["a", "b"], ["b", "abc"], [1, -1]),
        ([2**63 + 1, 2**63 + 2], [2**63 + 2, 1], [1, -1]),
        ([2**63 + 1], [-1], [-1]),
        ([1, 2], [2**64 + 1], [-1]),
        (UUIDS, [UUIDS[1], uuid.UUID(int=4)], [1, -1]),
    ],
    ids=repr,
)
def test_codes_are_the_places_among_the_known(known, asked, codes):
    assert encode_ids("user_ids", open_column("users", known), asked).tolist() == codes


@pytest.mark.parametrize(("known", "asked"), [([3], ["3"]), (["3"], [3]), (UUIDS, ["3"])], ids=repr)
def test_ids_of_another_type_are_refused(known, asked):
    with pytest.raises(InvalidType, match="`user_ids` must be of the type of the known ids"):
        encode_ids("user_ids", open_column("users", known), asked)
