"""Scores by row as text, and in groups where they are many."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab.objectives.packed_rows import RowScores


@pytest.mark.parametrize("n", [2, 1000, 10_000, 25_000])
def test_scores_survive_their_text(n):
    scores = np.random.default_rng(0).normal(size=n)
    found = RowScores.of(scores)
    assert found.n == n
    assert len(found.values) == min(n, 10_000)
    assert found.values.mean() == pytest.approx(scores.mean())
    text = found.as_text()
    again = RowScores.of_text(text)
    assert again.n == n
    np.testing.assert_allclose(again.values, found.values, rtol=1e-6)
    assert len(text) < 60_000


def test_two_models_have_the_same_groups():
    rng = np.random.default_rng(1)
    users = rng.normal(size=30_000)
    one, other = users + rng.normal(size=(2, 30_000)) / 10
    packed = RowScores.of(one).values - RowScores.of(other).values
    error = packed.std(ddof=1) / np.sqrt(len(packed))
    expected = (one - other).std(ddof=1) / np.sqrt(30_000)
    assert error == pytest.approx(expected, rel=0.03)
