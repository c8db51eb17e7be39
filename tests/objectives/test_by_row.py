"""What rows contribute to a metric: their mean is the metric, their spread its standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from hpolab.objectives.by_row import (
    accuracy,
    agrees,
    as_row_scores,
    auc,
    balanced_accuracy,
    by_unit,
    f1,
    jackknife,
    macro_f1,
    mean,
    r2,
    root_mean,
)

if TYPE_CHECKING:
    from collections.abc import Callable

N = 250
Arrays = tuple[np.ndarray, np.ndarray]


def labels(rng: np.random.Generator, n: int) -> Arrays:
    truth = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    return np.where(rng.random(n) < 0.7, truth, rng.integers(3, size=n)), truth


def binary(rng: np.random.Generator, n: int) -> Arrays:
    truth = rng.random(n) < 0.3
    return np.where(rng.random(n) < 0.75, truth, rng.random(n) < 0.3), truth


def ranked(rng: np.random.Generator, n: int) -> Arrays:
    truth = rng.random(n) < 0.3
    return np.round(rng.normal(size=n) + truth, 1), truth  # with ties


def numbers(rng: np.random.Generator, n: int) -> Arrays:
    truth = rng.gamma(2, size=n)
    return truth * 0.7 + rng.normal(size=n), truth


# Contributions, the metric by scikit-learn, and what draws (predictions, targets).
Row = tuple["Callable[..., Any]", "Callable[..., Any]", "Callable[..., Arrays]"]
CLOSED: dict[str, Row] = {
    "accuracy": (
        accuracy,
        lambda guess, truth, w: accuracy_score(truth, guess, sample_weight=w),
        labels,
    ),
    "balanced_accuracy": (
        balanced_accuracy,
        lambda guess, truth, w: balanced_accuracy_score(truth, guess, sample_weight=w),
        labels,
    ),
    "macro_f1": (
        macro_f1,
        lambda guess, truth, w: f1_score(truth, guess, average="macro", sample_weight=w),
        labels,
    ),
    "f1": (f1, lambda guess, truth, w: f1_score(truth, guess, sample_weight=w), binary),
    "auc": (auc, lambda score, truth, w: roc_auc_score(truth, score, sample_weight=w), ranked),
    "r2": (r2, lambda guess, truth, w: r2_score(truth, guess, sample_weight=w), numbers),
    "rmse": (
        lambda guess, truth, w=None: root_mean((guess - truth) ** 2, w),
        lambda guess, truth, w: root_mean_squared_error(truth, guess, sample_weight=w),
        numbers,
    ),
    "mse": (
        lambda guess, truth, w=None: mean((guess - truth) ** 2, w),
        lambda guess, truth, w: np.average((guess - truth) ** 2, weights=w),
        numbers,
    ),
}


def error_of(contributions: np.ndarray) -> float:
    return float(contributions.std(ddof=1) / np.sqrt(len(contributions)))


def delete_one(metric: Callable[[np.ndarray], float], n: int) -> float:
    """Return the standard error by leaving each row out."""
    without = np.array([metric(np.delete(np.arange(n), i)) for i in range(n)])
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", CLOSED)
def test_mean_of_contributions_is_the_metric(name: str, weighted: bool) -> None:
    contributions, metric, draw = CLOSED[name]
    rng = np.random.default_rng(0)
    guess, truth = draw(rng, N)
    weights = rng.gamma(1, size=N) * (rng.random(N) > 0.1) if weighted else None
    found = contributions(guess, truth, weights)
    assert found.shape == (N,)
    assert found.mean() == pytest.approx(metric(guess, truth, weights), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", CLOSED)
def test_spread_of_contributions_is_that_of_leaving_each_row_out(name: str, weighted: bool) -> None:
    contributions, metric, draw = CLOSED[name]
    rng = np.random.default_rng(1)
    guess, truth = draw(rng, N)
    weights = rng.gamma(2, size=N) if weighted else None

    def of(rows: np.ndarray) -> float:
        return float(metric(guess[rows], truth[rows], None if weights is None else weights[rows]))

    error = error_of(contributions(guess, truth, weights))
    assert error == pytest.approx(delete_one(of, N), rel=1e-9)


@pytest.mark.parametrize("name", CLOSED)
def test_contributions_follow_their_rows(name: str) -> None:
    contributions, _, draw = CLOSED[name]
    rng = np.random.default_rng(2)
    guess, truth = draw(rng, N)
    order = rng.permutation(N)
    np.testing.assert_allclose(
        contributions(guess[order], truth[order]), contributions(guess, truth)[order], rtol=1e-9
    )


def delong(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the placements of positives and of negatives, written out pair by pair."""
    gaps = scores[truth][:, None] - scores[~truth]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_variance_of_an_auc_is_that_of_delong() -> None:
    scores, truth = ranked(np.random.default_rng(3), 400)
    of_positives, of_negatives = delong(scores, truth)
    variance = of_positives.var(ddof=1) / truth.sum() + of_negatives.var(ddof=1) / (~truth).sum()
    assert error_of(auc(scores, truth)) == pytest.approx(np.sqrt(variance), rel=0.01)


def test_variance_of_a_difference_of_two_aucs_is_that_of_delong() -> None:
    rng = np.random.default_rng(4)
    one, truth = ranked(rng, 400)
    other = np.round(0.5 * one + 0.5 * rng.normal(size=400), 1)
    found = [delong(each, truth) for each in (one, other)]
    variance = (found[0][0] - found[1][0]).var(ddof=1) / truth.sum()
    variance += (found[0][1] - found[1][1]).var(ddof=1) / (~truth).sum()
    error = error_of(auc(one, truth) - auc(other, truth))
    assert error == pytest.approx(np.sqrt(variance), rel=0.01)


def test_an_auc_without_one_of_the_classes_has_no_contributions() -> None:
    with np.errstate(all="ignore"):
        found = auc(np.arange(5.0), np.ones(5, bool))
    assert not agrees(found, 1.0)


def test_units_keep_the_mean_and_take_their_rows_together() -> None:
    rng = np.random.default_rng(5)
    effects = rng.normal(size=60)
    units = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 6, size=60)))
    rows = effects[units] + 0.1 * rng.normal(size=len(units))
    found = by_unit(rows, units)
    assert found.shape == (60,)
    assert found.mean() == pytest.approx(rows.mean())
    # A ratio of sums over units, left out one by one.
    expected = delete_one(lambda kept: float(rows[np.isin(units, kept)].mean()), 60)
    assert error_of(found) == pytest.approx(expected, rel=0.05)
    assert error_of(found) > 1.5 * error_of(rows)


def test_units_come_in_the_order_of_their_first_rows() -> None:
    rows = np.array([1.0, 2.0, 3.0, 7.0])
    found = by_unit(rows, np.array(["b", "b", "a", "c"]))
    assert np.argsort(found).tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.mean(), rows.mean())


def test_units_keep_the_mean_and_have_the_variance_of_their_bootstrap() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, size=60))
    scores = rng.normal(size=60)[groups] + 0.3 * rng.normal(size=len(groups))
    found = by_unit(scores, groups)
    assert found.mean() == pytest.approx(scores.mean())
    sums, sizes = np.bincount(groups, scores), np.bincount(groups)
    drawn_groups = rng.integers(60, size=(4000, 60))
    means = sums[drawn_groups].sum(axis=1) / sizes[drawn_groups].sum(axis=1)
    assert found.std(ddof=1) / np.sqrt(60) == pytest.approx(means.std(), rel=0.07)


OTHERS: dict[str, tuple[Callable[..., Any], Callable[..., Arrays]]] = {
    "average precision": (lambda s, y: average_precision_score(y, s), ranked),
    "kappa": (lambda p, y: cohen_kappa_score(y, p), labels),
    "mcc": (lambda p, y: matthews_corrcoef(y, p), labels),
    "accuracy": (lambda p, y: (p == y).mean(), labels),
    "correlation": (lambda p, y: np.corrcoef(p, y)[0, 1], numbers),
    "sum": (lambda p, y: np.abs(p - y).sum(), numbers),
}


@pytest.mark.parametrize("n", [30, 41, 500])
@pytest.mark.parametrize("name", OTHERS)
def test_any_metric_has_contributions_of_random_groups(name: str, n: int) -> None:
    metric, draw = OTHERS[name]
    guess, truth = draw(np.random.default_rng(6), n)
    value = float(metric(guess, truth))
    found = jackknife(lambda rows: metric(guess[rows], truth[rows]), n, value=value)
    assert found is not None
    assert found.shape == (min(n, 40),)
    assert found.mean() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_spread_of_random_groups_holds_the_standard_error(name: str) -> None:
    metric, draw = OTHERS[name]
    rng = np.random.default_rng(7)
    values, errors = [], []
    for _ in range(150):
        guess, truth = draw(rng, 310)  # groups of two sizes
        values.append(float(metric(guess, truth)))
        found = jackknife(lambda r, g=guess, t=truth: metric(g[r], t[r]), 310, value=values[-1])
        assert found is not None
        errors.append(error_of(found))
    # A standard deviation of 150 numbers is known to 6 %.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.2)


def test_groups_are_the_same_for_each_model() -> None:
    rng = np.random.default_rng(8)
    one, other = rng.normal(size=(2, 333))
    first, second, both = (
        jackknife(lambda rows, x=x: x[rows].mean(), 333, value=x.mean())
        for x in (one, other, one - other)
    )
    np.testing.assert_allclose(first - second, both)


@pytest.mark.parametrize(
    "metric",
    [
        lambda rows: 1 / 0,
        lambda rows: np.nan,
        lambda rows: np.inf if 3 not in rows else 1.0,
        lambda rows: float(rows.max()),
    ],
    ids=["raises", "nan", "infinite without a group", "maximum"],
)
def test_what_cannot_be_left_out_has_no_contributions(metric: Callable[..., float]) -> None:
    assert jackknife(metric, 300, value=299.0) is None


def test_one_row_tells_nothing_of_others() -> None:
    assert jackknife(lambda rows: 1.0, 1, value=1.0) is None
    assert jackknife(lambda rows: 1.0, 5, value=float("nan")) is None


@pytest.mark.parametrize("found", ["text", [[1.0, 2.0]], 3.0, [], [object()], {"a": 1}])
def test_row_scores_are_numbers_of_one_axis(found: Any) -> None:
    assert as_row_scores(found) is None


def test_other_numbers_do_not_agree_with_a_metric() -> None:
    scores = np.array([0.0, 1.0, 1.0])
    assert agrees(scores, 2 / 3)
    assert agrees(scores, float(np.float32(2 / 3)))
    assert not agrees(scores, 0.667)
    assert not agrees(scores, float("nan"))
    assert not agrees(np.array([0.0, np.nan]), float("nan"))
