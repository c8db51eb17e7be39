"""What would have to be added to know: seeds, rows, or both."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from hpolab.analysis.crossed import Contrasts, Parts
from hpolab.analysis.effects import effects
from hpolab.analysis.needed import needed


def effect(estimate, error, freedom=9.0, min_difference=None):
    found = Contrasts(np.array([estimate]), np.array([error]), np.array([freedom]), np.eye(1))
    return effects(found, [True], min_difference=min_difference)[0]


def seeds_of_power(difference: float) -> int:
    """Return the number of seeds whose t test finds a difference, in deviations, in 80 %."""
    n = 2
    while stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, difference * np.sqrt(n)) < 0.8:
        n += 1
    return n


def test_number_of_seeds_is_that_of_the_power_of_a_t_test():
    found = needed(
        effect(0.0, 0.1 / np.sqrt(10), min_difference=0.03), None, n_seeds=10, n_rows=None
    )
    exact = seeds_of_power(0.3)
    assert found.what == "seeds"
    assert found.low < exact < found.high
    assert str(found).startswith("To find a difference of 0.03 would take ")


def test_without_a_smallest_difference_it_is_at_least_what_the_largest_would_need():
    wide = effect(0.05, 0.05)
    found = needed(wide, None, n_seeds=10, n_rows=None)
    assert found.high is None
    assert found.low <= max(11, seeds_of_power(wide.high / (0.05 * np.sqrt(10))))
    assert "at least" in str(found)


@pytest.mark.parametrize(
    ("parts", "what"),
    [(Parts(9e-4, 1e-4, 0.0), "test rows"), (Parts(1e-4, 9e-4, 0.0), "seeds")],
)
@pytest.mark.parametrize("errors", [0.6, 1.9])
def test_what_has_the_larger_part_of_the_variance_is_to_be_added(parts, what, errors):
    """Also where the largest difference in the interval would have been found already."""
    doubtful = effect(errors * np.sqrt(parts.total), np.sqrt(parts.total), freedom=30)
    found = needed(doubtful, parts, n_seeds=10, n_rows=400)
    assert found.what == what
    assert found.n == (400 if what == "test rows" else 10)


def test_where_neither_alone_is_enough_both_are_needed():
    parts = Parts(5e-4, 5e-4, 0.0)
    doubtful = effect(0.0, np.sqrt(parts.total), freedom=30, min_difference=0.02)
    found = needed(doubtful, parts, n_seeds=10, n_rows=400)
    assert found.factor > 1
    assert "times as many test rows and seeds" in str(found)


def test_nothing_is_asked_for_where_no_number_would_do():
    tiny = dataclasses.replace(effect(0.0, 0.1), low=-1e-9, high=1e-9)
    assert needed(tiny, None, n_seeds=10, n_rows=None) is None


def test_least_number_of_seeds_is_rarely_more_than_the_truth():
    rng, truth, too_many = np.random.default_rng(0), seeds_of_power(0.3), []
    for _ in range(300):
        sample = rng.normal(0.3, 1, size=10)
        doubtful = effect(sample.mean(), sample.std(ddof=1) / np.sqrt(10))
        if not doubtful.is_significant:
            too_many.append(needed(doubtful, None, n_seeds=10, n_rows=None).low > truth)
    assert np.mean(too_many) <= 0.08


def test_more_is_asked_for_than_was_used():
    doubtful = effect(0.02, 0.002, min_difference=0.5)
    found = needed(dataclasses.replace(doubtful, high=0.6), None, n_seeds=10, n_rows=None)
    assert found.low == 11
    assert found.high >= found.low
