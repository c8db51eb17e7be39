"""What each row contributes to a metric: numbers by row, whose mean is the metric.

Where a metric is a mean over rows, they are the rows' own values. Where it is a smooth function of
means, or a U-statistic, they are its jackknife's pseudo-values, ``n * metric - (n - 1) * metric
without the row``, shifted so that their mean is the metric (Efron, "The Jackknife, the Bootstrap
and Other Resampling Plans", 1982, chapters 2 and 3): their spread over the root of their number is
the standard error of the metric on other rows. (The first-order influence of rows has smaller
errors, which on few rows or rare classes are too small.) Here they have closed forms; any other
metric is computed again without some rows at a time, see `jackknife`.

Rows have weights, (n,) of 0 or above, or None: each counts alike. All arrays are of NumPy.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Weights = NDArray[np.float64] | None

__all__ = [
    "accuracy",
    "agrees",
    "as_row_scores",
    "auc",
    "average",
    "balanced_accuracy",
    "by_unit",
    "f1",
    "jackknife",
    "macro_f1",
    "mean",
    "r2",
    "ratio",
    "root_mean",
]

_N_GROUPS = 40
# Of so many groups or more, one that alone changes a metric is the row of a maximum.
_FEW_GROUPS = 10
# Sums of many float32 numbers are no closer; another definition of a metric is further away.
_ROUNDING = 1e-4


def mean(values: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the mean of values (n,).

    Of weights, the sum is as random as the rows are.

    Example:
        >>> mean([1.0, 0.0, 1.0])
        array([1., 0., 1.])
        >>> float(mean([1.0, 0.0, 1.0], np.array([2.0, 1.0, 1.0])).mean())
        0.75
    """
    rows = np.asarray(values, np.float64)
    return rows if weights is None else ratio(weights * rows, weights)


def ratio(numerators: Floats, denominators: Floats) -> Floats:
    """Return contributions (n,) to the ratio of two sums over rows."""
    value = float(np.sum(numerators) / np.sum(denominators))
    return _pseudo_values(value, _ratios_without(numerators, denominators))


def root_mean(values: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the root of the mean of values (n,), such as squared errors."""
    rows = np.asarray(values, np.float64)
    counts = np.ones(len(rows)) if weights is None else weights
    without = np.sqrt(np.maximum(_ratios_without(counts * rows, counts), 0))
    return _pseudo_values(math.sqrt(np.average(rows, weights=counts)), without)


def r2(predicted: ArrayLike, targets: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to 1 - residual / total sum of squares, of numbers (n,)."""
    guess, truth = np.asarray(predicted, np.float64), np.asarray(targets, np.float64)
    counts = np.ones(len(truth)) if weights is None else weights
    residuals = counts * (truth - guess) ** 2
    squares = counts * (truth - np.average(truth, weights=counts)) ** 2
    # Without a row, the mean moves, too.
    total, weight = squares.sum(), counts.sum()
    totals = total - squares * weight / (weight - counts)
    without = 1 - (residuals.sum() - residuals) / totals
    return _pseudo_values(1 - float(residuals.sum() / total), without)


def accuracy(predicted: ArrayLike, targets: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the share of labels (n,), or rows of labels, that are right."""
    hits = np.asarray(predicted) == np.asarray(targets)
    return mean(hits.reshape(len(hits), -1).all(axis=1), weights)


def balanced_accuracy(predicted: ArrayLike, targets: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the mean over classes of the share of its rows that is right."""
    guess, truth = np.asarray(predicted), np.asarray(targets)
    counts = np.ones(len(truth)) if weights is None else weights
    return average(
        ratio(counts * ((guess == each) & (truth == each)), counts * (truth == each))
        for each in np.unique(truth[counts > 0])
    )


def macro_f1(predicted: ArrayLike, targets: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the mean F1 over classes that either side holds."""
    guess, truth = np.asarray(predicted), np.asarray(targets)
    counts = np.ones(len(truth)) if weights is None else weights
    found = np.unique(np.concatenate([guess[counts > 0], truth[counts > 0]]))
    return average(f1(guess == each, truth == each, weights) for each in found)


def f1(predicted: ArrayLike, targets: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the F1 of one class, 0 where neither side holds it."""
    guess, truth = np.asarray(predicted, bool), np.asarray(targets, bool)
    counts = np.ones(len(truth)) if weights is None else weights
    size = counts * (guess.astype(np.float64) + truth)
    return ratio(2 * counts * (guess & truth), size) if size.any() else np.zeros(len(truth))


def auc(scores: ArrayLike, positive: ArrayLike, weights: Weights = None) -> Floats:
    """Return contributions (n,) to the area under the ROC curve of scores (n,), ties by half.

    They come from the placements of each row among those of the other class, whose variances make
    that of the area: DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 44, 1988. NaN where there is
    no row of one of the classes.

    Example:
        >>> float(auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]).mean())
        0.75
    """
    values, is_positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    counts = np.ones(len(values)) if weights is None else weights
    if not counts[is_positive].any() or not counts[~is_positive].any():
        return np.full(len(values), math.nan)
    area, without = math.nan, np.empty(len(values))
    for rows, others in ((is_positive, ~is_positive), (~is_positive, is_positive)):
        below = _share_below(values[rows], values[others], counts[others])
        placements = below if rows is is_positive else 1 - below
        area = float(np.average(placements, weights=counts[rows]))
        without[rows] = _ratios_without(counts[rows] * placements, counts[rows])
    return _pseudo_values(area, without)


def average(parts: Iterable[Floats]) -> Floats:
    """Return contributions (n,) to the mean of several metrics, of those to each."""
    # One at a time: of a thousand classes they would fill the memory.
    total: Floats | float = 0.0
    n_parts = 0
    for part in parts:
        total, n_parts = total + part, n_parts + 1
    averaged: Floats = np.asarray(total) / n_parts
    return averaged


def by_unit(contributions: Floats, units: NDArray[Any]) -> Floats:
    """Return the contributions of units that were drawn as wholes, such as a query's rows.

    That of a unit is the mean of all rows, plus what its rows add to it times the number of units.
    So units of several sizes count by their rows, as in the ratio estimator of cluster samples
    (Cochran, "Sampling Techniques", 1977, section 9A).

    Args:
        contributions: (n,) of rows.
        units: (n,) the unit of each row.

    Returns:
        (units,) in the order in which units first appear, with the same mean.

    Example:
        >>> by_unit(np.array([1.0, 1.0, 0.0, 0.0]), np.array(["a", "a", "a", "b"]))
        array([0.75, 0.25])
    """
    _, first, codes = np.unique(units, return_index=True, return_inverse=True)
    center = contributions.mean()
    sums = np.bincount(codes.ravel(), contributions - center)[np.argsort(first)]
    of_units: Floats = center + sums * len(sums) / len(contributions)
    return of_units


def jackknife(
    metric: Callable[[NDArray[np.int64]], float], n_units: int, *, value: float
) -> Floats | None:
    """Return contributions of random groups of rows to any metric: a delete-a-group jackknife.

    Each group's, of m of the n rows, is ``value + G * (n - m) / n * (value - metric without it)``,
    shifted so that their mean is the metric (Efron 1982, chapter 2; of groups Shao and Tu, "The
    Jackknife and Bootstrap", 1995, section 2.3). The groups are the same for all models of as many
    rows. They are 40: of a metric that jumps from row to row, such as a median, a jackknife over
    single rows is wrong at any number of rows (section 2.1 there), and more groups than that tell
    little more of the others.

    Args:
        metric: Indices of rows, sorted, (m,) -> the metric of these rows alone.
        n_units: Rows, or what else was drawn independently.
        value: The metric of all of them.

    Returns:
        (groups,), of single rows where they are 40 or fewer; None where the metric cannot be
        computed without a group, or only one group has any influence, as of a maximum, about which
        a jackknife knows nothing.

    Example:
        >>> rows = np.array([1.0, 2.0, 6.0])
        >>> jackknife(lambda kept: rows[kept].mean(), 3, value=3.0)
        array([1., 2., 6.])
    """
    if n_units < 2 or not math.isfinite(value):
        return None
    order = np.arange(n_units)
    if n_units > _N_GROUPS:
        order = np.random.default_rng(0).permutation(n_units)
    groups = np.array_split(order, min(n_units, _N_GROUPS))
    moves = np.empty(len(groups))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for place, group in enumerate(groups):
            try:
                without = float(metric(np.delete(np.arange(n_units), group)))
            except Exception:  # noqa: BLE001 - such as a class that only this group has
                return None
            moves[place] = len(groups) * (n_units - len(group)) / n_units * (value - without)
    if not np.isfinite(moves).all():
        return None
    if len(groups) >= _FEW_GROUPS and np.count_nonzero(moves) == 1:
        return None
    contributions: Floats = value + moves - moves.mean()
    return contributions


def as_row_scores(found: Any) -> Floats | None:
    """Return numbers as an array (n,), of one or more; None if they are no such numbers."""
    found = found.detach().cpu() if hasattr(found, "detach") else found  # a tensor
    try:
        scores = np.asarray(found, np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return scores if scores.ndim == 1 and len(scores) else None


def agrees(contributions: Floats, value: float) -> bool:
    """Tell whether contributions (n,) have a metric as their mean, to the rounding of float32.

    Example:
        >>> agrees(np.array([1.0, 0.0]), 0.5), agrees(np.array([1.0, 0.0]), 0.51)
        (True, False)
    """
    if not (math.isfinite(value) and np.isfinite(contributions).all()):
        return False
    size = max(abs(value), float(np.abs(contributions).mean()))
    return abs(float(contributions.mean()) - value) <= _ROUNDING * size


def _pseudo_values(value: float, without: Floats) -> Floats:
    """Return contributions (n,) to a metric, of which ``without`` (n,) is without each row."""
    moves = (len(without) - 1) * (value - without)
    contributions: Floats = value + moves - moves.mean()
    return contributions


def _ratios_without(numerators: Floats, denominators: Floats) -> Floats:
    """Return the ratio of two sums without each row (n,); as it is without the only one of all."""
    above, below = float(numerators.sum()), float(denominators.sum())
    left = below - denominators
    # Of rounding something may be left where nothing is.
    is_left = left > 1e-12 * below
    ratios: Floats = (above - numerators) / np.where(is_left, left, 1)
    return np.where(is_left, ratios, above / below)


def _share_below(values: Floats, others: Floats, weights: Floats) -> Floats:
    """Return the weighted share of others below each value, those of the same value by half."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    mass = np.append(0.0, np.cumsum(weights[order]))
    below, up_to = (mass[np.searchsorted(ranked, values, side)] for side in ("left", "right"))
    share: Floats = (below + up_to) / (2 * mass[-1])
    return share
