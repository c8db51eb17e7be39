"""The best columns by partition are those of a whole, stable sort."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab.recommender.top import best_columns

RNG = np.random.default_rng(0)
TABLES = {
    "distinct": RNG.normal(size=(20, 1500)),
    "constant": np.zeros((5, 1500)),
    "few values": RNG.integers(0, 4, (20, 1500)).astype(float),
    "rare ones": (RNG.random((20, 1500)) < 0.004).astype(float),
    "narrow": RNG.integers(0, 4, (20, 7)).astype(float),
    "negative": -np.abs(RNG.normal(size=(20, 1500))).round(1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3, 10, 100])
@pytest.mark.parametrize("name", TABLES)
def test_best_columns_are_those_of_a_stable_sort(name, k, dtype):
    table = TABLES[name].astype(dtype)
    expected = np.argsort(-table, axis=1, kind="stable")[:, :k]
    found = best_columns(table, k)
    assert found.shape == (len(table), k)
    assert (found[:, : expected.shape[1]] == expected).all()
    assert (found[:, expected.shape[1] :] == -1).all()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_columns_of_minus_infinity_are_never_among_the_best(k):
    table = TABLES["few values"].copy()
    table[:, :-2] = -np.inf
    found = best_columns(table, k)
    assert (np.sort(found[:, :2])[:, -1] >= 1498).all()
    assert (found[:, 2:] == -1).all()


def test_table_without_rows_has_none():
    assert best_columns(np.empty((0, 9)), 3).shape == (0, 3)
