"""Repeated tunings: probabilities of outperforming and improvements that hold what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, studentized_range, ttest_rel

from hpolab.analysis.repeats import (
    Outperforming,
    improvements_over_repeats,
    outperforming,
    repeats_to_tell,
    winning,
)


def named(scores: np.ndarray) -> dict[str, list[float]]:
    return {f"c{place}": row.tolist() for place, row in enumerate(scores)}


@pytest.mark.parametrize(("wins", "n"), [(0, 3), (1, 4), (5, 5), (7, 10), (13, 20)])
def test_interval_of_a_probability_is_clopper_pearsons(wins, n):
    expected = binomtest(wins, n).proportion_ci(method="exact")
    found = Outperforming.of(wins, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.probability == wins / n


def test_ties_count_half_though_scores_differ_by_rounding():
    scores = {"a": [0.1 + 0.2, 0.5, 7.0], "b": [0.3, 0.4, 9.0]}
    found = outperforming(scores, "a", maximize=True)["b"]
    assert (found.wins, found.n) == (1.5, 3)
    assert outperforming(scores, "a", maximize=False)["b"].wins == 1.5


@pytest.mark.parametrize("maximize", [True, False])
def test_tuning_without_a_score_loses_and_has_no_mean(maximize):
    scores = {"a": [1.0, 1.0, math.nan], "b": [math.nan, 1.0, math.nan]}
    assert outperforming(scores, "a", maximize=maximize)["b"].wins == 2.0
    assert improvements_over_repeats(scores, "a", maximize=maximize) == {}


@pytest.mark.parametrize("chances", [(0.5, 0.5, 0.0), (0.3, 0.3, 0.4), (0.8, 0.1, 0.1)])
@pytest.mark.parametrize("n", [3, 10])
def test_interval_holds_the_probability_with_ties_too(chances, n):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, chances, size=4000)
    wins = counts @ [1.0, 0.0, 0.5]
    true = chances[0] + chances[2] / 2
    found = {each: true in Outperforming.of(each, n) for each in np.unique(wins)}
    assert np.mean([found[each] for each in wins]) > 0.95 - 0.01


@pytest.mark.parametrize("n_contenders", [2, 3, 6])
def test_fewest_repeats_are_those_whose_interval_can_leave_one_half(n_contenders):
    least, n_pairs = repeats_to_tell(n_contenders), math.comb(n_contenders, 2)
    assert Outperforming.of(least, least, n_comparisons=n_pairs).low > 0.5
    assert Outperforming.of(least - 1, least - 1, n_comparisons=n_pairs).low <= 0.5


def test_improvement_of_two_is_the_paired_t_test():
    scores = np.random.default_rng(2).normal(size=(2, 7))
    expected = ttest_rel(*scores)
    found = improvements_over_repeats(named(scores), "c0", maximize=True)["c1"]
    assert found.p_value == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_many_repeats_of_several_approach_tukeys_range():
    scores = np.random.default_rng(3).normal(size=(4, 300))
    found = improvements_over_repeats(named(scores), "c0", maximize=True)["c1"]
    expected = studentized_range.ppf(0.95, 4, np.inf) / math.sqrt(2)
    assert (found.high - found.estimate) / found.error == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("n_contenders", "n"), [(2, 3), (3, 5), (5, 8)])
@pytest.mark.parametrize("law", ["normal", "unequal", "skewed"])
def test_equal_contenders_are_called_better_in_five_percent(n_contenders, n, law):
    rng = np.random.default_rng(4)
    n_comparisons, claims, intervals_hold = 500, 0, 0
    for _ in range(n_comparisons):
        scores = rng.normal(size=(n_contenders, n))
        if law == "unequal":
            scores *= np.geomspace(0.2, 5, n_contenders)[:, None]
        if law == "skewed":
            scores = rng.exponential(size=scores.shape)
        contenders = named(scores)
        leader = max(contenders, key=lambda name: sum(contenders[name]))
        claims += any(
            each.is_significant
            for each in improvements_over_repeats(contenders, leader, maximize=True).values()
        )
        intervals_hold += all(
            0 in each
            for name in contenders
            for each in improvements_over_repeats(contenders, name, maximize=True).values()
        )
    error = math.sqrt(0.05 * 0.95 / n_comparisons)
    assert claims / n_comparisons < 0.05 + 3 * error
    assert intervals_hold / n_comparisons > 0.95 - 3 * error


def test_intervals_agree_with_p_values():
    rng = np.random.default_rng(5)
    for _ in range(200):
        scores = named(rng.normal(size=(3, 6)) + np.array([[1.5], [0.0], [0.0]]))
        for effect in improvements_over_repeats(scores, "c0", maximize=True).values():
            assert effect.is_significant == (0 not in effect)


def test_planted_difference_is_found():
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(200):
        scores = named(rng.normal(size=(3, 10)) + np.array([[2.5], [0.0], [0.0]]))
        effects = improvements_over_repeats(scores, "c0", maximize=True)
        found += all(each.is_better for each in effects.values())
    assert found / 200 > 0.8


@pytest.mark.parametrize(("n", "is_found"), [(3, False), (7, True)])
def test_differences_without_spread_are_tested_by_their_number(n, is_found):
    scores = {"a": [0.9] * n, "b": [0.8] * n}
    effect = improvements_over_repeats(scores, "a", maximize=True)["b"]
    assert effect.is_better is is_found
    assert (0 not in effect) is is_found


def test_improvement_within_the_margin_is_practically_none():
    scores = {"a": [1.0, 1.001, 0.999, 1.0], "b": [1.0, 1.0, 1.0, 1.001]}
    effect = improvements_over_repeats(scores, "a", maximize=True, min_difference=0.1)["b"]
    assert effect.answer == "practically the same"


@pytest.mark.parametrize("maximize", [True, False])
def test_wins_of_all_contenders_are_shared_and_sum_to_the_repeats(maximize):
    scores = named(np.round(np.random.default_rng(7).normal(size=(4, 9)), 0))
    found = winning(scores, maximize=maximize)
    assert sum(each.wins for each in found.values()) == pytest.approx(9)
    best = max if maximize else min
    expected = 0.0
    for column in zip(*scores.values(), strict=True):
        expected += (column[0] == best(column)) / column.count(best(column))
    assert found["c0"].wins == pytest.approx(expected)


def test_intervals_of_pairs_hold_together():
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(1000):
        scores = named(rng.normal(size=(4, 12)))
        held += all(
            0.5 in each
            for leader, _ in itertools.product(scores, [0])
            for each in outperforming(scores, leader, maximize=True).values()
        )
    assert held / 1000 > 0.95
