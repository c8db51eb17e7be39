"""Pairs are looked up as sets of them are."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab import Interactions
from hpolab.recommender.pairs import are_among, distinct_pairs, pairs_of


def some_rows(seed: int, n: int) -> Interactions:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 9, n), rng.integers(0, 7, n)
    return Interactions(*codes, np.arange(9), np.arange(7))


@pytest.mark.parametrize("n", [0, 1, 30])
def test_pairs_are_found_as_in_a_set(n):
    asked, parts = some_rows(0, 40), [some_rows(1, n), some_rows(2, n)]
    known = {pair for part in parts for pair in zip(part.users, part.items, strict=True)}
    found = are_among(pairs_of(asked), distinct_pairs(*parts))
    pairs = zip(asked.users, asked.items, strict=True)
    assert found.tolist() == [pair in known for pair in pairs]
    assert distinct_pairs(*parts).tolist() == sorted(user * 7 + item for user, item in known)


def test_of_no_rows_there_are_no_pairs():
    assert distinct_pairs().tolist() == []
