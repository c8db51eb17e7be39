"""Improvements on the test data: paired by seed, with interval and corrected p-value, in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpolab import Effect
from hpolab.analysis.effects import improvements
from hpolab.analysis.statistics import holm, intervals, p_values
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
    for effect, expected in zip(found.values(), intervals(pairs), strict=True):
        assert [effect.estimate, effect.low, effect.high] == pytest.approx(expected.tolist())
    corrected = holm(p_values(pairs).tolist())
    assert [effect.p_value for effect in found.values()] == pytest.approx(corrected)
    # though seeds scatter by 0.05
    assert [effect.is_significant for effect in found.values()] == [True, False]


def test_improvement_has_the_direction_of_the_metric():
    forth, back = (improvements(SCORES, "b", maximize=way)["a"] for way in (True, False))
    assert forth.estimate == pytest.approx(-back.estimate)
    assert (forth.is_worse, back.is_better) == (True, True)
    worse, better = compared(forth, "a"), compared(back, "a")
    assert worse.startswith("is significantly worse than a by 0.1")
    assert worse.replace("worse", "better") == better


def test_improvement_that_is_not_significant_is_not_claimed():
    effect = improvements(SCORES, "a", maximize=True)["c"]
    assert compared(effect, "c").startswith("is not significantly ")
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
