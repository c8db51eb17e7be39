"""The statistics of a confirmation: against scipy, and on studies whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from hpolab.analysis.statistics import (
    Seeds,
    differences,
    intervals,
    p_values,
    seeds_to_run,
    spread,
)

N_STUDIES = 1000


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_and_p_value_are_scipys(n):
    sample = normal(n, n) + 0.5
    expected = stats.ttest_1samp(sample, 0.0)
    interval = expected.confidence_interval(0.95)
    assert intervals(sample) == pytest.approx([sample.mean(), *interval])
    assert p_values(sample) == pytest.approx(expected.pvalue)


def test_paired_test_is_scipys():
    scores, baseline = normal(0, 2, 8)
    expected = stats.ttest_rel(scores, baseline).pvalue
    assert p_values(differences(scores, baseline)) == pytest.approx(expected)


@pytest.mark.parametrize("n_spent", [1, 2, 3, 7])
def test_spread_is_that_which_the_spent_seeds_do_not_hold(n_spent):
    sample = normal(n_spent, 10)
    squares = [((part - part.mean()) ** 2).sum() for part in (sample, sample[:n_spent])]
    expected = np.sqrt((squares[0] - squares[1]) / (10 - n_spent))
    assert spread(sample, n_spent=n_spent) == pytest.approx(expected)


def test_spread_of_spent_seeds_stands_in_where_later_ones_have_none():
    assert spread([1.0, 0.0, 0.5, 0.5, 0.5], n_spent=3) == pytest.approx(
        np.std([1.0, 0.0, 0.5, 0.5, 0.5], ddof=1)
    )


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.1, 0.25)])
def test_sample_without_spread_has_a_p_value_and_no_division_by_zero(value, p):
    assert p_values([value] * 3) == p
    assert intervals([value] * 3) == pytest.approx([value] * 3)


def test_rounding_is_no_difference():
    assert differences([0.1 + 0.2, 1e9], [0.3, 1e9]).tolist() == [0.0, 0.0]
    assert differences([0.0], [0.0]).tolist() == [0.0]


@pytest.mark.parametrize("leads", [(0.1, 0.1), (3.0, 2.0), (1.0, 8.0), (30.0, 30.0)])
@pytest.mark.parametrize("shift", [-100.0, 0.5, 100.0])
def test_number_of_seeds_does_not_depend_on_who_leads(leads, shift):
    for seed in range(50):
        scores = normal(seed, 3, 40)
        shifted = scores + np.array([[0.0], [shift], [-shift / 2]])
        plain, moved = (
            seeds_to_run(each, leads, min_seeds=6, n_seeds=40) for each in (scores, shifted)
        )
        assert plain == moved


@pytest.mark.parametrize("leads", [(0.1,), (3.0,), (8.0,), (0.0,)])
def test_number_of_seeds_is_the_same_whether_asked_on_the_way_or_at_the_end(leads):
    for seed in range(50):
        scores = normal(seed, 2, 60)
        n = 0
        while (seeds := seeds_to_run(scores[:, :n], leads, min_seeds=6, n_seeds=60)).n > n:
            n = seeds.n
        assert seeds == seeds_to_run(scores, leads, min_seeds=6, n_seeds=60)


@pytest.mark.parametrize("min_seeds", [2, 3, 6, 7, 10])
@pytest.mark.parametrize("n_seeds", [10, 11, 40])
@pytest.mark.parametrize("lead", [0.0, 2.0, 5.0, 1e6])
def test_number_of_seeds_stays_in_its_bounds_and_leaves_some_to_measure_the_spread(
    lead, n_seeds, min_seeds
):
    for seed in range(20):
        seeds = seeds_to_run(normal(seed, 2, 40), [lead], min_seeds=min_seeds, n_seeds=n_seeds)
        assert min_seeds <= seeds.n <= n_seeds
        assert 1 <= seeds.n_spent < seeds.n


def test_large_lead_in_question_takes_the_fewest_seeds_and_an_unknown_one_all():
    scores = normal(0, 2, 40)
    assert seeds_to_run(scores, [1e3], min_seeds=6, n_seeds=40).n == 6
    assert seeds_to_run(scores, [0.0], min_seeds=6, n_seeds=40).n == 40


def test_seed_that_changes_nothing_takes_the_fewest_seeds():
    scores = [[0.5] * 10, [0.7] * 10]
    assert seeds_to_run(scores, [0.0], min_seeds=6, n_seeds=10) == Seeds(6, 3)


@dataclass
class Simulated:
    """What many confirmations of one truth have come to.

    Attributes:
        means_covered: Share of intervals of means that hold the truth.
        leads_covered: Likewise of leads.
        claimed: Share of confirmations that claim any difference.
        found: Share of configurations that are told from the baseline, on the right side.
        n_seeds: Seeds taken, (studies,).
    """

    means_covered: float
    leads_covered: float
    claimed: float
    found: float
    n_seeds: np.ndarray


def simulate(
    truth: tuple[float, ...],
    *,
    in_question: float,
    n_seeds: int = 10,
    scales: tuple[float, ...] = (),
    common: float = 0.5,
    n_studies: int = N_STUDIES,
    seed: int = 0,
) -> Simulated:
    """Confirm many times: scores are normal, those of one seed go up and down together.

    Args:
        truth: True leads of the k configurations.
        in_question: The lead that decides on the number of seeds.
        n_seeds: The largest number of seeds.
        scales: Standard deviations of baseline and configurations; by default those that give
            every paired difference a standard deviation of 1.
        common: The standard deviation of what the scores of a seed share.
        n_studies: How many confirmations.
        seed: Of the simulation.
    """
    rng = np.random.default_rng(seed)
    means = np.array([0.0, *truth])
    deviations = np.array(scales or [np.sqrt(0.5)] * len(means))
    scores = means[:, None] + deviations[:, None] * rng.normal(
        size=(n_studies, len(means), n_seeds)
    )
    scores += common * rng.normal(size=(n_studies, 1, n_seeds))
    asked = [in_question] * len(truth)
    stops = [seeds_to_run(each, asked, min_seeds=6, n_seeds=n_seeds) for each in scores]
    means_covered = np.empty((n_studies, len(means)), bool)
    leads_covered = np.empty((n_studies, len(truth)), bool)
    signs, p = np.empty((n_studies, len(truth))), np.empty((n_studies, len(truth)))
    for stop in set(stops):
        rows = [row for row, each in enumerate(stops) if each == stop]
        taken = scores[rows, :, : stop.n]
        leads = taken[:, 1:] - taken[:, :1]
        means_covered[rows] = covers(intervals(taken, n_spent=stop.n_spent), means)
        leads_covered[rows] = covers(intervals(leads, n_spent=stop.n_spent), np.array(truth))
        p[rows] = p_values(leads, n_spent=stop.n_spent)
        signs[rows] = np.sign(leads.mean(axis=-1))
    differs = corrected(p) <= 0.05
    return Simulated(
        means_covered.mean(),
        leads_covered.mean(),
        differs.any(axis=1).mean(),
        (differs & (signs == np.sign(truth))).mean(),
        np.array([stop.n for stop in stops]),
    )


def corrected(p: np.ndarray) -> np.ndarray:
    """Return p-values (n, k) corrected for the k of a row (Holm 1979)."""
    order = np.argsort(p, axis=1)
    factors = np.arange(p.shape[1], 0, -1)
    rising = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * factors, axis=1)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.minimum(rising, 1.0), axis=1)
    return found


def seeds_of_power(difference: float, n_comparisons: int) -> int:
    """Return the number of seeds whose t test finds a difference in 80 % of cases."""
    n = 2
    while True:
        bound = stats.t.isf(0.025 / n_comparisons, n - 1)
        if stats.nct.sf(bound, n - 1, difference * np.sqrt(n)) >= 0.8:
            return n
        n += 1


def covers(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (found[..., 1] <= truth) & (truth <= found[..., 2])


# Leads in question, in standard deviations of a paired difference: never enough, in between, where
# chance decides on the number of seeds, and enough at once.
IN_QUESTION = [0.5, 4.0, 8.0, 12.0, 100.0]
UNEQUAL = (0.2, 1.0, 3.0, 0.5, 0.1, 1.0)


@pytest.mark.parametrize("scales", [(), UNEQUAL])
@pytest.mark.parametrize("in_question", IN_QUESTION)
@pytest.mark.parametrize("truth", [(0.0,) * 5, (2.0, 1.0, 0.5, 0.0, -1.0)])
def test_intervals_hold_the_truth_in_93_to_97_percent(truth, in_question, scales):
    simulated = simulate(truth, in_question=in_question, scales=scales, seed=1)
    assert 0.93 <= simulated.means_covered <= 0.97
    assert 0.93 <= simulated.leads_covered <= 0.97


@pytest.mark.parametrize("n_seeds", [6, 20, 40])
@pytest.mark.parametrize("in_question", [1.0, 2.0, 6.0])
def test_intervals_hold_the_truth_whatever_the_budget(in_question, n_seeds):
    simulated = simulate((0.5,) * 3, in_question=in_question, n_seeds=n_seeds, seed=2)
    assert 0.93 <= simulated.means_covered <= 0.97
    assert 0.93 <= simulated.leads_covered <= 0.97


@pytest.mark.parametrize("in_question", IN_QUESTION)
def test_no_difference_is_claimed_in_more_than_5_percent_where_there_is_none(in_question):
    assert simulate((0.0,) * 5, in_question=in_question, seed=3).claimed <= 0.05


@pytest.mark.parametrize("n_configurations", [1, 5])
@pytest.mark.parametrize("in_question", IN_QUESTION)
def test_claims_where_there_is_no_difference_are_5_percent_but_for_the_chance_of_simulation(
    in_question, n_configurations
):
    # Nothing is to spare here: with one configuration the test is exact, and with noise that is
    # each configuration's own Holm's correction nearly so.
    simulated = simulate(
        (0.0,) * n_configurations,
        in_question=in_question,
        scales=UNEQUAL[: n_configurations + 1],
        n_studies=4000,
        seed=4,
    )
    assert simulated.claimed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize("n_configurations", [1, 5])
def test_difference_of_2_standard_errors_is_found_in_80_percent_with_the_seeds_asked_for(
    n_configurations,
):
    # Of the standard error that ten seeds would have; ten seeds alone find it half the time.
    lead = 2 / np.sqrt(10)
    truth = (lead,) * n_configurations
    asked = simulate(truth, in_question=lead, n_seeds=200, seed=5)
    assert asked.found >= 0.80
    least = seeds_of_power(lead, n_configurations)
    assert np.median(asked.n_seeds) < 3 * least
    assert simulate(truth, in_question=lead, n_seeds=10, seed=5).found < 0.80
