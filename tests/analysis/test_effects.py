"""Improvements on the test data: paired by seed, with interval and corrected p-value, in words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hpolab import Effect
from hpolab.analysis.effects import improvements
from hpolab.analysis.statistics import intervals, p_values
from hpolab.analysis.wording import compared

RNG = np.random.default_rng(0)
SEEDS = RNG.normal(scale=0.05, size=8)
SCORES = {
    "a": (0.9 + SEEDS).tolist(),
    "b": (0.8 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
    "c": (0.9 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
}


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


def test_effect_without_a_p_value_is_not_significant():
    assert not Effect.tested([0.2, 0.1, 0.3], None).is_significant


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


@pytest.mark.parametrize(
    ("ends", "p", "answer"),
    [
        ((0.2, 0.1, 0.3), 0.01, "better"),
        ((-0.2, -0.3, -0.1), 0.01, "worse"),
        ((0.0, -0.3, 0.3), 0.9, "not known yet"),
        ((0.01, 0.005, 0.015), 0.01, "practically the same"),
        ((0.0, -0.04, 0.04), 0.9, "practically the same"),
        ((0.03, 0.01, 0.05), 0.01, "better"),
        ((0.01, 0.01, 0.01), None, "not known yet"),
    ],
)
def test_answer_is_one_of_four_with_a_smallest_difference_of_a_twentieth(ends, p, answer):
    effect = dataclasses.replace(Effect.tested(ends, p), min_difference=0.05)
    assert effect.answer == answer
    assert effect.is_better == (answer == "better")
    assert effect.is_worse == (answer == "worse")
