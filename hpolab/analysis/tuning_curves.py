"""Tuning curves: the best value against the number of trials, and how sure it is.

All functions are pure. Trials of random search are independent draws, so one tuning tells with an
exact band how another would go. Trials of a sampler that learns are not: only whole tunings,
repeated, tell how another would go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.statistics import CONFIDENCE
from hpolab.display import Displayed
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TuningCurve",
    "curve_of_random_trials",
    "curve_of_repeats",
    "order_bounds",
]

# Of the level of the bounds, on a log scale.
_N_HALVINGS = 24


@dataclass(frozen=True, repr=False)
class TuningCurve(Displayed):
    """The median best value after 1, 2, ... trials, and its interval.

    Attributes:
        median: Median of the best value by number of trials, (n,); NaN where it is not known.
        low: Lower ends of the intervals, (n,); -inf where nothing bounds it.
        high: Upper ends, (n,); inf where nothing bounds it.
        confidence: How often the intervals hold.
        simultaneous: Whether they hold for all numbers of trials at once, or each by itself.
    """

    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float
    simultaneous: bool

    def _in_one_line(self) -> str:
        n = len(self.median)
        ends = f"{self.low[-1]:.5g} to {self.high[-1]:.5g}" if n else ""
        return (
            f"median best value after {n} trials {self.median[-1]:.5g} ({ends})" if n else "empty"
        )

    def _parts(self) -> list[str | TextTable]:
        n = len(self.median)
        shown = [place for place in (1, 2, 5, 10, 20, 50, 100, 200, 500) if place < n] + [n] * (
            n > 0
        )
        rows = [
            [str(at), *(f"{each[at - 1]:.5g}" for each in (self.median, self.low, self.high))]
            for at in shown
        ]
        whose = "for all numbers of trials at once" if self.simultaneous else "each by itself"
        note = f"Intervals hold with {100 * self.confidence:.0f} %, {whose}."
        return [TextTable(["trials", "median best value", "low", "high"], rows, note=note)]


def curve_of_random_trials(values: ArrayLike, n_trials: int, *, maximize: bool) -> TuningCurve:
    """Return the tuning curve of random search, with its exact simultaneous band.

    If the trials are independent draws of one continuous distribution, the band holds the true
    curve for all numbers of trials at once with 95 %, whatever the distribution (Lourie, Cho and He
    2024, "Show Your Work with Confidence: Confidence Bands for Tuning Curves", NAACL). The bounds
    are those of Learned-Miller and DeStefano (`order_bounds`), only as wide as these numbers of
    trials need. With equal values the band holds more often.

    Args:
        values: (n,) values of the trials, in any order. NaN, of a trial that failed, is worse than
            any value.
        n_trials: How far the curve goes, 1 or above.
        maximize: Whether a higher value is better.

    Example:
        >>> curve = curve_of_random_trials(np.linspace(0, 1, 50), 3, maximize=True)
        >>> curve.median.round(2).tolist(), curve.high.round(2).tolist()
        ([0.49, 0.71, 0.8], [0.67, 0.86, 0.92])
    """
    values = np.asarray(values, float)
    rising = np.sort(np.where(np.isnan(values), -np.inf, values if maximize else -values))
    n = len(rising)
    # The best of k draws is below the q-quantile of one with probability q^k.
    quantiles = 0.5 ** (1 / np.arange(1, n_trials + 1))
    least, most = _counts_below(n, n_trials)
    lower = np.concatenate([[-np.inf], rising])[least]
    upper = np.concatenate([rising, [np.inf]])[most]
    middle = rising[np.minimum(np.ceil(quantiles * n - 1e-9).astype(int) - 1, n - 1)]
    return _as_given(middle, lower, upper, CONFIDENCE, simultaneous=True, maximize=maximize)


def curve_of_repeats(curves: Sequence[ArrayLike], *, maximize: bool) -> TuningCurve:
    """Return the median of several tunings' best values so far, each with its own interval.

    The interval of a median is that of order statistics, which holds for any distribution. With
    fewer than six tunings it is the whole range, and its confidence is lower than 95 %.

    Args:
        curves: Best values after 1, 2, ... trials, one for each tuning; NaN before the first. They
            are cut to the shortest.
        maximize: Whether a higher value is better.

    Example:
        >>> curve = curve_of_repeats([[1, 2], [2, 3], [3, 5]], maximize=True)
        >>> curve.median.tolist(), curve.low.tolist(), curve.confidence
        ([2.0, 3.0], [1.0, 2.0], 0.75)
    """
    n_trials = min(len(np.asarray(each)) for each in curves)
    found = np.array([np.asarray(each, float)[:n_trials] for each in curves])
    rising = np.sort(np.where(np.isnan(found), -np.inf, found if maximize else -found), axis=0)
    rank, confidence = _ranks_of_median(len(curves))
    # Between two infinities there is no middle.
    with np.errstate(invalid="ignore"):
        middle = np.median(rising, axis=0)
    lower, upper = rising[rank], rising[-1 - rank]
    return _as_given(middle, lower, upper, confidence, simultaneous=False, maximize=maximize)


@lru_cache(maxsize=64)
def _counts_below(n: int, n_trials: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many of n draws are below each quantile of a tuning curve: at least, at most.

    They hold together with 95 %, and come from the narrowest bounds that do.
    """
    quantiles = 0.5 ** (1 / np.arange(1, n_trials + 1))

    def counts(log_level: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low, high = _beta_bounds(n, math.exp(log_level))
        return np.searchsorted(high, quantiles), np.searchsorted(low, quantiles)

    surely, hardly = math.log((1 - CONFIDENCE) / n) - 1e-6, math.log(0.5)
    for _ in range(_N_HALVINGS):
        middle = (surely + hardly) / 2
        if _chance_of_counts(n, quantiles, *counts(middle)) >= CONFIDENCE:
            surely = middle
        else:
            hardly = middle
    return counts(surely)


@lru_cache(maxsize=64)
def order_bounds(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return bounds of a distribution at the n sorted draws of it, which hold together with 95 %.

    Each is an equal-tailed interval of a beta distribution, widened until all hold together
    (Learned-Miller and DeStefano 2008, "A probabilistic upper bound on differential entropy"). How
    wide is computed exactly rather than simulated.

    Args:
        n: The number of draws, 1 or above.

    Returns:
        (n,) lower bounds and (n,) upper bounds of the probability below the i-th sorted draw.

    Example:
        >>> low, high = order_bounds(1)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.025], [0.975])
    """
    from scipy.optimize import brentq

    def excess(log_level: float) -> float:
        return _chance_within(*_beta_bounds(n, math.exp(log_level))) - CONFIDENCE

    # Between Bonferroni's level and that of one interval.
    least, most = math.log((1 - CONFIDENCE) / n) - 1e-6, math.log(1 - CONFIDENCE) + 1e-6
    return _beta_bounds(n, math.exp(brentq(excess, least, most, xtol=1e-6)))


def _beta_bounds(n: int, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.special import betaincinv

    places = np.arange(1, n + 1)
    low = betaincinv(places, n + 1 - places, level / 2)
    return low, 1 - low[::-1]


def _chance_within(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Return the probability that n sorted uniform draws lie within their bounds."""
    times = np.unique(np.concatenate([low, high]))
    # Before a draw's lower bound it has not come; at its upper bound it has.
    least, most = np.searchsorted(high, times, side="right"), np.searchsorted(low, times)
    return _chance_of_counts(len(low), times, least, most)


def _chance_of_counts(
    n: int, times: NDArray[np.float64], least: NDArray[np.int64], most: NDArray[np.int64]
) -> float:
    """Return the probability that the count of n uniform draws is within bounds at some times.

    Given their total, the counts are a Poisson process (Moscovich and Nadler 2017, "Fast
    calculation of boundary crossing probabilities for Poisson processes").
    """
    from scipy.special import gammaln

    counts = np.arange(n + 1)
    log_factorials = gammaln(counts + 1)
    chances, before = np.zeros(n + 1), 0.0
    chances[0] = 1.0
    for time, low, high in zip([*times, 1.0], [*least, n], [*most, n], strict=True):
        rate = n * (time - before)
        if rate > 0:
            steps = np.exp(counts * math.log(rate) - rate - log_factorials)
            chances = np.convolve(chances, steps)[: n + 1]
        chances[high + 1 :] = 0.0
        chances[:low] = 0.0
        before = time
    return float(chances[n] / math.exp(n * math.log(n) - n - log_factorials[n]))


def _ranks_of_median(n: int) -> tuple[int, float]:
    """Return how many of n sorted values to leave out at each end, and the confidence then."""
    from scipy.special import bdtr

    rank = 0
    while 2 * rank + 2 < n and 1 - 2 * bdtr(rank + 1, n, 0.5) >= CONFIDENCE:
        rank += 1
    return rank, float(1 - 2 * bdtr(rank, n, 0.5)) if n > 1 else 0.0


def _as_given(
    middle: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    confidence: float,
    *,
    simultaneous: bool,
    maximize: bool,
) -> TuningCurve:
    """Return a curve of values, higher is better, in the direction that was given."""
    middle = np.where(np.isfinite(middle), middle, np.nan)
    low, high = (lower, upper) if maximize else (-upper, -lower)
    return TuningCurve(middle if maximize else -middle, low, high, confidence, simultaneous)
