"""Intervals that hold together, p-values that agree with them, and what to expect of the best."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import dunnett

from hpolab.analysis.crossed import Contrasts, on_these_rows
from hpolab.analysis.simultaneous import simultaneous_intervals, simultaneous_p_values, winner


def test_p_values_are_those_of_dunnett_where_spreads_are_known_well():
    rng = np.random.default_rng(0)
    control, *others = rng.normal(size=(4, 400)) + np.array([[0], [0.1], [-0.15], [0.2]])
    expected = dunnett(*others, control=control, rng=np.random.default_rng(0)).pvalue
    errors = np.full(3, np.sqrt(2 * np.var([control, *others], axis=1, ddof=1).mean() / 400))
    correlations = np.full((3, 3), 0.5) + np.eye(3) / 2
    means = np.array([each.mean() - control.mean() for each in others])
    found = Contrasts(means, errors, np.full(3, 4.0 * 399), correlations)
    assert simultaneous_p_values(found) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_interval_excludes_zero_exactly_where_p_is_below_its_level(k):
    rng = np.random.default_rng(k)
    for _ in range(200):
        found = on_these_rows(rng.normal(0.8, 1, size=(k, 8)))
        _, low, high = simultaneous_intervals(found).T
        assert ((low > 0) | (high < 0)).tolist() == (simultaneous_p_values(found) < 0.05).tolist()


def test_differences_without_spread_are_tested_by_their_signs():
    few, many = on_these_rows(np.ones((1, 4))), on_these_rows(np.ones((1, 9)))
    assert simultaneous_p_values(few).tolist() == [1 / 8]
    assert simultaneous_intervals(few).tolist() == [[1, 0, 1]]
    assert simultaneous_intervals(many).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("means", "deviations", "n_seeds", "n_spent"),
    [
        ([0.0, 0.0], [1, 1], 10, 1),
        ([0.0] * 5, [1] * 5, 10, 1),
        ([0.0] * 5, [1] * 5, 6, 3),
        ([0.5] * 5, [1, 0.1, 1, 3, 1], 10, 1),
        ([2.0, 0.0, 0.0], [1, 1, 1], 8, 1),
        ([0.1 * i for i in range(10)], [1] * 10, 10, 1),
    ],
)
def test_what_is_expected_of_the_best_holds_and_is_above_as_often_as_below(
    means, deviations, n_seeds, n_spent
):
    rng = np.random.default_rng(0)
    held, above = [], []
    for _ in range(400):
        own = np.array(deviations)[:, None] * rng.normal(size=(len(means), n_seeds))
        found = on_these_rows(np.array(means)[:, None] + own - rng.normal(size=n_seeds))
        place, expected = winner(found)
        held.append(expected.low <= means[place] <= expected.high)
        above.append(expected.mean > means[place])
    assert 0.92 <= np.mean(held) <= 0.985  # 95 %, three standard errors of 1.1 %
    assert 0.37 <= np.mean(above) <= 0.58


def test_best_of_coarse_scores_is_expected_within_its_interval():
    """Ties between two configurations once gave an interval of one point."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        right = (rng.random((5, 40)) < 0.8).mean(axis=1, keepdims=True)
        found = on_these_rows(np.tile(right, 6) - 0.8 + 0.001 * rng.normal(size=(5, 6)))
        errors = np.full(5, np.sqrt(0.8 * 0.2 / 40))
        found = Contrasts(found.means.round(3), errors, np.full(5, 39.0), np.eye(5))
        _, expected = winner(found, grid=1 / 40)
        held.append(expected.low <= 0 <= expected.high)
    assert np.mean(held) >= 0.91


def test_one_configuration_is_expected_as_it_was_measured():
    found = on_these_rows([[0.7, 0.8, 0.9]])
    place, expected = winner(found, grid=0.1)
    assert place == 0
    measured = [expected.mean, expected.low, expected.high]
    assert measured == simultaneous_intervals(found)[0].tolist()


def test_first_of_equals_is_the_best():
    errors, freedom = np.full(4, 0.1), np.full(4, 9.0)
    for first in range(3):
        means = np.array([0.1, 0.1, 0.1, 0.1])
        means[first] = means[3] = 0.2
        found = Contrasts(means, errors, freedom, np.eye(4))
        assert winner(found, grid=0.1)[0] == first


def test_what_is_expected_of_a_winner_is_never_more_than_was_found():
    """Where others vary more than the best, being the best bounds it from above as well."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.standard_normal((12, 1))
        scores = 0.5 + rows * np.array([0.1, 0.2, 0.3]) + 0.01 * rng.standard_normal((12, 3))
        found = on_these_rows(list(scores.T))
        place, expected = winner(found)
        assert expected.low <= expected.mean <= found.means[place]
