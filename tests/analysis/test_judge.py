"""Configurations against a baseline by their scores on seeds and rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from hpolab.analysis.judge import Scored, judge, share_of_seeds


def scored(rows):
    rows = np.asarray(rows, float)
    return Scored(rows.mean(axis=1), rows)


def test_without_rows_of_all_it_is_about_these_rows():
    rng = np.random.default_rng(0)
    baseline, one, other = (scored(rng.random((5, 30))) for _ in range(3))
    whole = judge(baseline, {0: one, 1: other}, maximize=True)
    partly = judge(baseline, {0: one, 1: Scored(other.by_seed)}, maximize=True)
    assert whole.contrasts.parts
    assert not partly.contrasts.parts
    assert partly.improvements == partly.on_these_rows == whole.on_these_rows


def test_trainings_without_chance_are_judged_by_rows_and_by_nothing_else():
    rows = np.random.default_rng(0).random((2, 30))
    baseline, other = (scored(np.tile(each, (4, 1))) for each in rows)
    by_row = judge(baseline, {3: other}, maximize=True)
    by_seed = judge(Scored(baseline.by_seed), {3: Scored(other.by_seed)}, maximize=True)
    assert by_row.improvements[3].p_value is not None
    assert by_row.on_these_rows[3].p_value is None
    assert by_seed.improvements[3].p_value is None
    assert by_seed.best == 3


def test_direction_turns_the_signs():
    rng = np.random.default_rng(0)
    baseline, other = (scored(rng.random((5, 30))) for _ in range(2))
    up, down = (judge(baseline, {0: other}, maximize=way).improvements[0] for way in (True, False))
    assert (up.estimate, up.low) == pytest.approx((-down.estimate, -down.high))
    assert up.p_value == down.p_value


@pytest.mark.parametrize(("n_better", "n_seeds"), [(0, 6), (6, 6), (9, 10), (5, 20)])
def test_share_of_seeds_has_the_exact_interval(n_better, n_seeds):
    found = share_of_seeds(n_better, 0, n_seeds)
    expected = binomtest(n_better, n_seeds).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == n_better / n_seeds


def test_equal_seeds_count_half_and_widen_the_interval():
    found, without = share_of_seeds(4, 2, 10), share_of_seeds(4, 0, 10)
    assert found.mean == 0.5
    assert found.low == without.low
    assert found.high > without.high
