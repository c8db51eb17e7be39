"""Seeds and rows as crossed random effects, against a bootstrap and simulations of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from hpolab.analysis.crossed import on_new_rows, on_these_rows
from hpolab.analysis.simultaneous import simultaneous_intervals


def drawn(rng, *, n_seeds, n_rows, rows, seeds, rest, k=1):
    """Return (k, n_seeds, n_rows) scores of mean zero with these standard deviations."""
    return (
        rows * rng.normal(size=(k, 1, n_rows))
        + seeds * rng.normal(size=(k, n_seeds, 1))
        + rest * rng.normal(size=(k, n_seeds, n_rows))
    )


def test_on_these_rows_is_the_t_test_over_seeds():
    scores = np.random.default_rng(0).normal(0.3, 1, size=(1, 9))
    found = on_these_rows(scores)
    expected = ttest_1samp(scores[0], 0)
    assert found.means[0] / found.errors[0] == pytest.approx(expected.statistic)
    assert found.freedom.tolist() == [expected.df]
    interval = expected.confidence_interval()
    assert simultaneous_intervals(found)[0, 1:] == pytest.approx([interval.low, interval.high])


def test_seeds_that_change_nothing_leave_the_t_test_over_rows():
    rows = np.random.default_rng(0).normal(size=30)
    scores = np.tile(rows, (1, 5, 1))
    found = on_new_rows(scores.mean(axis=2), scores)
    assert found.errors[0] == pytest.approx(rows.std(ddof=1) / np.sqrt(30), rel=0.03)
    assert found.freedom[0] == pytest.approx(29, abs=8)
    assert found.parts[0].seeds == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(
    "world",
    [
        {"n_seeds": 8, "n_rows": 200, "rows": 1.0, "seeds": 0.1, "rest": 0.5},
        {"n_seeds": 12, "n_rows": 40, "rows": 0.3, "seeds": 0.5, "rest": 1.0},
    ],
)
def test_errors_are_those_of_the_pigeonhole_bootstrap(world):
    """Owen's bootstrap draws rows and seeds anew; it counts the rest twice, which is small here."""
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(12):
        scores = drawn(rng, **world)
        seeds = rng.integers(world["n_seeds"], size=(400, world["n_seeds"]))
        rows = rng.integers(world["n_rows"], size=(400, world["n_rows"]))
        means = [scores[0][np.ix_(s, r)].mean() for s, r in zip(seeds, rows, strict=True)]
        found = on_new_rows(scores.mean(axis=2), scores)
        ratios.append(found.errors[0] / np.std(means))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(
    ("n_seeds", "n_rows", "n_spent", "rows", "seeds", "rest"),
    [
        (10, 200, 1, 1.0, 0.0, 0.0),
        (10, 200, 1, 1.0, 0.02, 0.3),
        (6, 100, 3, 0.2, 0.3, 1.0),
        (3, 50, 1, 0.0, 0.3, 1.0),
        (5, 20, 1, 1.0, 0.3, 1.0),
    ],
)
def test_intervals_on_new_data_hold_together(n_seeds, n_rows, n_spent, rows, seeds, rest):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        shape = {"n_seeds": n_seeds, "n_rows": n_rows, "rows": rows, "seeds": seeds, "rest": rest}
        scores = drawn(rng, k=4, **shape) - drawn(rng, **shape)
        found = on_new_rows(scores.mean(axis=2), scores, n_spent=n_spent)
        _, low, high = simultaneous_intervals(found).T
        held.append(((low <= 0) & (high >= 0)).all())
    assert np.mean(held) >= 0.91  # 95 %, three standard errors of 1.3 %


def test_parts_add_up_to_the_variance():
    scores = drawn(np.random.default_rng(0), n_seeds=40, n_rows=60, rows=1, seeds=1, rest=1, k=3)
    found = on_new_rows(scores.mean(axis=2), scores)
    assert [each.total for each in found.parts] == pytest.approx(
        (found.errors**2).tolist(), rel=0.1
    )
    assert [each.rows for each in found.parts] == pytest.approx([1 / 60] * 3, rel=0.5)
    assert [each.seeds for each in found.parts] == pytest.approx([1 / 40] * 3, rel=0.5)
