"""Tuning curves: exact bands of random search, and medians of repeated tunings."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab.analysis.tuning_curves import (
    curve_of_random_trials,
    curve_of_repeats,
    order_bounds,
)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_bounds_of_sorted_draws_hold_together_with_95_percent(n):
    low, high = order_bounds(n)
    draws = np.sort(np.random.default_rng(0).random((40_000, n)), axis=1)
    assert np.mean(((low <= draws) & (draws <= high)).all(axis=1)) == pytest.approx(0.95, abs=0.004)


def test_bounds_are_those_of_opda():
    # opda 0.8.0, ld_equal_tailed, n = 20, simulated with 100,000 draws.
    low, high = order_bounds(20)
    assert low[[0, -1]] == pytest.approx([1.2108e-4, 0.73991], rel=0.03)
    assert high[[0, -1]] == pytest.approx([0.26009, 0.999879], rel=0.03)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("n", [24, 60])
def test_band_is_within_that_of_opda_which_holds_for_all_quantiles(maximize, n):
    nonparametric = pytest.importorskip("opda.nonparametric")
    values = np.random.default_rng(1).normal(size=n)
    upper, _, lower = nonparametric.EmpiricalDistribution.confidence_bands(
        values, 0.95, generator=np.random.default_rng(0), method="ld_equal_tailed", n_jobs=1
    )
    numbers = np.arange(1, n + 1)
    curve = curve_of_random_trials(values, n, maximize=maximize)
    low, high = (
        each.quantile_tuning_curve(numbers, minimize=not maximize) for each in (lower, upper)
    )
    assert np.all((low <= curve.low) & (curve.high <= high))
    places = [np.searchsorted(np.sort(values), ends) for ends in (low, curve.low)]
    assert np.abs(places[0] - places[1]).max() <= 2


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize(("n", "n_failed"), [(3, 0), (10, 0), (70, 0), (40, 6)])
def test_band_of_random_search_holds_the_true_curve_at_all_numbers(maximize, n, n_failed):
    rng = np.random.default_rng(2)
    numbers = np.arange(1, n + 1)
    held, n_studies = 0, 1500
    failing = n_failed / n
    # The best of k draws is below x with probability F(x)^k; a failed one is worse than any.
    quantiles = (0.5 ** (1 / numbers) - failing) / (1 - failing)
    true = np.where(quantiles > 0, -np.log(1 - np.clip(quantiles, 0, 1)), -np.inf)
    for _ in range(n_studies):
        values = rng.exponential(size=n)
        values[rng.random(n) < failing] = np.nan
        curve = curve_of_random_trials(values if maximize else -values, n, maximize=maximize)
        low, high = (curve.low, curve.high) if maximize else (-curve.high, -curve.low)
        held += bool(np.all((low <= true) & (true <= high)))
    assert held / n_studies >= 0.93
    if n >= 10 and not n_failed:  # few draws leave few bounds to choose from
        assert held / n_studies <= 0.97


def test_band_is_open_where_nothing_bounds_it():
    curve = curve_of_random_trials(np.arange(20.0), 20, maximize=True)
    assert np.isfinite(curve.high[0])
    assert curve.high[-1] == np.inf
    assert np.isfinite(curve.low[-1])
    assert (curve.confidence, curve.simultaneous) == (0.95, True)


@pytest.mark.parametrize(("n", "confidence"), [(2, 0.5), (5, 0.9375), (6, 0.96875), (9, 0.9609375)])
def test_median_of_tunings_is_in_its_interval_as_often_as_it_says(n, confidence):
    draws = np.random.default_rng(3).normal(size=(4000, n, 1))
    curves = [curve_of_repeats(list(each), maximize=True) for each in draws]
    assert {curve.confidence for curve in curves} == {confidence}
    assert not curves[0].simultaneous
    held = np.mean([curve.low[0] <= 0 <= curve.high[0] for curve in curves])
    assert held == pytest.approx(confidence, abs=0.015)


@pytest.mark.parametrize("maximize", [True, False])
def test_tunings_without_a_value_yet_count_as_worse_and_curves_are_cut(maximize):
    sign = 1 if maximize else -1
    curves = [np.array([np.nan, 1.0, 2.0]) * sign, np.array([0.0, 3.0]) * sign]
    curve = curve_of_repeats(curves, maximize=maximize)
    assert np.isnan(curve.median[0])
    assert (curve.median[1], len(curve.median)) == (2.0 * sign, 2)
