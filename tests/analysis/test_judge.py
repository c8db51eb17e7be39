"""Configurations against a baseline by their scores on seeds and rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from hpolab.analysis.judge import Scored, improvements, judge, share_of_seeds
from hpolab.analysis.statistics import intervals, p_values
from hpolab.analysis.wording import compared

RNG = np.random.default_rng(0)
SEEDS = RNG.normal(scale=0.05, size=8)
SCORES = {
    "a": (0.9 + SEEDS).tolist(),
    "b": (0.8 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
    "c": (0.9 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
}


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


def test_improvements_are_paired_by_seed():
    found = improvements(SCORES, "a", maximize=True)
    pairs = [np.subtract(SCORES["a"], SCORES[name]) for name in "bc"]
    assert list(found) == ["b", "c"]
    for effect, alone in zip(found.values(), intervals(pairs), strict=True):
        assert effect.estimate == pytest.approx(alone[0])
        assert 1 < (effect.high - effect.low) / (alone[2] - alone[1]) < 1.4
    for effect, alone in zip(found.values(), p_values(pairs), strict=True):
        assert alone < effect.p_value * (1 + 1e-6) <= 2.001 * alone
    # though seeds scatter by 0.05
    assert [effect.is_significant for effect in found.values()] == [True, False]


def test_improvement_has_the_direction_of_the_metric():
    forth, back = (improvements(SCORES, "b", maximize=way)["a"] for way in (True, False))
    assert forth.estimate == pytest.approx(-back.estimate)
    assert (forth.is_worse, back.is_better) == (True, True)
    worse, better = compared(forth, "a"), compared(back, "a")
    assert worse.startswith("is worse than a by 0.1")
    assert worse.replace("worse", "better") == better


def test_improvement_that_is_not_significant_is_not_claimed():
    effect = improvements(SCORES, "a", maximize=True)["c"]
    assert compared(effect, "c").startswith("is not known yet to differ from c: ")
    assert not effect.is_better
    assert not effect.is_worse


@pytest.mark.parametrize(
    "scores",
    [
        {"a": [], "b": [0.1, 0.2]},
        {"a": [0.1], "b": [0.1]},
        {"a": [0.1, 0.2], "b": [0.1]},
        {"a": [0.1, 0.2], "b": [0.1, math.nan]},
        {"a": [0.1, math.nan], "b": [0.1, 0.2]},
        {"a": [0.1, 0.2]},
    ],
)
def test_without_the_same_seeds_there_is_no_improvement(scores):
    assert improvements(scores, "a", maximize=True) == {}


def test_rows_widen_what_is_said_of_new_data():
    rng = np.random.default_rng(1)
    right = {name: (rng.random((6, 40)) < 0.8).astype(float) for name in "ab"}
    scores = {name: rows.mean(axis=1).tolist() for name, rows in right.items()}
    same = {name: np.repeat(rows[:1], 6, axis=0) for name, rows in right.items()}
    here = improvements(scores, "a", maximize=True)["b"]
    new = improvements(scores, "a", maximize=True, rows=right)["b"]
    assert new.estimate == here.estimate
    fixed = {name: rows.mean(axis=1).tolist() for name, rows in same.items()}
    assert improvements(fixed, "a", maximize=True)["b"].p_value is None
    of_rows = improvements(fixed, "a", maximize=True, rows=same)["b"]
    assert 0 < of_rows.p_value < 1
