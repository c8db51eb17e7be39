"""Statistics of scores: pure functions, none of which trains anything.

The number of seeds of a confirmation is decided by the spread of the scores alone, never by which
configuration is ahead. Under a normal distribution, means and spreads are independent. So whatever
the spread decides, the means are those of a sample of fixed size: a t interval keeps its 95 %, a t
test its 5 %, and looks cost nothing (Stein 1945, "A two-sample test for a linear hypothesis whose
power is independent of the variance"). A look at the spread does bias the spread itself, because
one that is small by chance ends the confirmation. So the seeds that had been run at the last look
that could have ended it are *spent*: the spread for the intervals is that of the later seeds about
the mean of all before them (`spread`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CONFIDENCE",
    "POWER",
    "Estimate",
    "Seeds",
    "chance_worse",
    "depends_on_seed",
    "differences",
    "intervals",
    "p_values",
    "seeds_to_run",
    "share_interval",
    "spread",
    "squares_of_later",
]

CONFIDENCE = 0.95
"""How often an interval contains what it estimates."""

POWER = 0.8
"""How often a difference of the given size is to be found."""

# The confidence of a look that the spread is no larger than assumed: three seeds say little about a
# spread (Kieser & Wassmer 1996, "On the use of the upper confidence limit for the
# variance from a pilot sample for sample size determination").
_ASSURANCE = 0.8

# The relative difference up to which two scores are equal but for rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval that contains the true one in 95 of 100 cases."""

    mean: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Seeds:
    """The number of seeds of a confirmation.

    Attributes:
        n: Seeds to run, judged by those run so far.
        n_spent: Those of them whose spread has decided the number; 1 if none has.
    """

    n: int
    n_spent: int


def differences(scores: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """Return paired differences, rid of rounding errors.

    Args:
        scores: (..., n) scores, one for each seed.
        baseline: (n,) scores of the baseline, on the same seeds.

    Returns:
        (..., n) differences.

    Example:
        >>> differences([0.1 + 0.2, 0.5], [0.3, 0.4]).round(3).tolist()
        [0.0, 0.1]
    """
    scores, baseline = np.asarray(scores, float), np.asarray(baseline, float)
    exact: NDArray[np.float64] = scores - baseline
    largest = max(np.abs(scores).max(initial=0.0), np.abs(baseline).max(initial=0.0))
    grid = _ROUNDING * largest
    return exact if grid == 0 else np.round(exact / grid) * grid


def spread(samples: ArrayLike, *, n_spent: int = 1) -> NDArray[np.float64]:
    """Return the standard deviation of samples, independent of their first numbers.

    Each number is compared with the mean of those before it. Scaled, these n - 1 residuals are
    independent draws of the sample's spread, and independent of its mean. All of them together give
    the ordinary standard deviation; those after the first ``n_spent`` numbers give one that is
    independent of these (Brown, Durbin & Evans 1975, "Techniques for testing the constancy of
    regression relationships over time", section 2).

    Args:
        samples: (..., n) numbers, n of 2 or above, in the order of their seeds.
        n_spent: How many of the first numbers have decided n, below n.

    Returns:
        (...) standard deviations.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0]) == np.std([1.0, 2.0, 3.0, 4.0], ddof=1)
        np.True_
    """
    deviations: NDArray[np.float64] = np.sqrt(squares_of_later(samples, n_spent=n_spent))
    return deviations


def squares_of_later(samples: ArrayLike, *, n_spent: int = 1) -> NDArray[np.float64]:
    """Return the variances that `spread` takes the roots of, (...)."""
    samples = np.asarray(samples, float)
    n_before = np.arange(1, samples.shape[-1])
    # Relative to the first number: equal numbers have no spread, not even one of rounding.
    centered = samples - samples[..., :1]
    residuals = centered[..., 1:] - np.cumsum(centered, axis=-1)[..., :-1] / n_before
    squares = residuals**2 * n_before / (n_before + 1)
    left = squares[..., n_spent - 1 :].mean(axis=-1)
    # If scores are coarse, such as an accuracy of few rows, the later seeds may not differ.
    variances: NDArray[np.float64] = np.where(left > 0, left, squares.mean(axis=-1))
    return variances


def depends_on_seed(*scores: ArrayLike) -> bool:
    """Tell whether trainings depend on their seed: whether scores of several seeds differ at all.

    Copies of one score are no evidence, however many there are.

    Args:
        *scores: Scores of each configuration, in the order of the seeds.

    Example:
        >>> depends_on_seed([0.9, 0.9], [0.8, 0.8]), depends_on_seed([0.9, 0.9], [0.8, 0.7])
        (False, True)
    """
    return any(len(np.unique(np.asarray(each, float))) > 1 for each in scores)


def share_interval(
    at_least: float, at_most: float, n: int, *, n_together: int = 1
) -> tuple[float, float]:
    """Return the exact interval of a share, of which n draws have shown so many.

    It is that of a binomial count and assumes nothing else (Clopper and Pearson 1934, "The use of
    confidence or fiducial limits illustrated in the case of the binomial").

    Args:
        at_least: The count that its lower end is of.
        at_most: The count that its upper end is of, as large or larger.
        n: The number of draws.
        n_together: The number of intervals that hold together (Bonferroni).

    Example:
        >>> low, high = share_interval(9, 9, 10)
        >>> round(low, 3), round(high, 3)
        (0.555, 0.997)
    """
    from scipy.special import betaincinv

    level = (1 - CONFIDENCE) / (2 * n_together)
    low = 0.0 if at_least <= 0 else float(betaincinv(at_least, n - at_least + 1, level))
    high = 1.0 if at_most >= n else float(betaincinv(at_most + 1, n - at_most, 1 - level))
    return low, high


def chance_worse(estimate: float, error: float, freedom: float) -> float:
    """Return the chance that a true difference is below 0.

    Nothing is known of the difference beforehand: its posterior distribution is Student's t around
    the estimate.

    Args:
        estimate: The estimated difference: above 0 where it is better.
        error: Its standard error, 0 or above.
        freedom: The degrees of freedom of that error.

    Example:
        >>> chance_worse(0.0, 1.0, 9), round(chance_worse(2.0, 1.0, 9), 3)
        (0.5, 0.038)
    """
    from scipy.special import stdtr

    if error == 0:
        return 0.5 if estimate == 0 else float(estimate < 0)
    return float(stdtr(freedom, -estimate / error))


def intervals(samples: ArrayLike, *, n_spent: int = 1) -> NDArray[np.float64]:
    """Return the means of samples and their t intervals.

    Args:
        samples: (..., n) numbers, n of 2 or above, in the order of their seeds.
        n_spent: How many of the first numbers have decided n, below n.

    Returns:
        (..., 3): mean, lower end, upper end.

    Example:
        >>> intervals([1.0, 2.0, 3.0]).round(3).tolist()
        [2.0, -0.484, 4.484]
    """
    from scipy.special import stdtrit

    samples = np.asarray(samples, float)
    n = samples.shape[-1]
    mean = samples.mean(axis=-1)
    quantile = stdtrit(n - n_spent, (1 + CONFIDENCE) / 2)
    half = quantile * spread(samples, n_spent=n_spent) / np.sqrt(n)
    stacked: NDArray[np.float64] = np.stack([mean, mean - half, mean + half], axis=-1)
    return stacked


def p_values(samples: ArrayLike, *, n_spent: int = 1) -> NDArray[np.float64]:
    """Return the two-sided p-values of t tests of samples' means against zero.

    Args:
        samples: (..., n) paired differences, n of 2 or above, in the order of their seeds.
        n_spent: How many of the first numbers have decided n, below n.

    Returns:
        (...) p-values. Equal numbers have no spread to test by, so they get that of a sign test.

    Example:
        >>> p_values([[0.1, 0.3, 0.2], [0.0, 0.0, 0.0]]).round(3).tolist()
        [0.074, 1.0]
    """
    from scipy.special import stdtr

    samples = np.asarray(samples, float)
    n = samples.shape[-1]
    mean, deviation = samples.mean(axis=-1), spread(samples, n_spent=n_spent)
    fixed = deviation == 0
    statistic = np.abs(mean) / np.where(fixed, 1.0, deviation) * np.sqrt(n)
    without_spread = np.where(mean == 0, 1.0, 2.0 ** (1 - n))
    tested: NDArray[np.float64] = np.where(
        fixed, without_spread, 2 * stdtr(n - n_spent, -statistic)
    )
    return tested


def seeds_to_run(
    scores: ArrayLike, to_find: Sequence[float], *, min_seeds: int, n_seeds: int
) -> Seeds:
    """Return the number of seeds that a confirmation needs, judged by the scores so far.

    It looks at n = ``min_seeds`` / 2 seeds, then at twice as many, and so on. If some number of
    seeds up to 2 n suffices to find every difference, the confirmation ends with it; otherwise the
    next look is at 2 n. There is no look if 2 n seeds are the budget: it could change little. Looks
    use the spread of the differences alone.

    Args:
        scores: (1 + k, n) scores of the baseline and k configurations on the seeds so far.
        to_find: (k,) differences from the baseline that are to be found; with one of 0, all seeds
            are run.
        min_seeds: The smallest number of seeds, 2 or above.
        n_seeds: The largest number.

    Returns:
        The final number; or, if there are fewer scores yet, the number to run before the next look.

    Example:
        >>> scores = [[0.50, 0.51, 0.52], [0.81, 0.79, 0.80]]
        >>> seeds_to_run(scores, [0.3], min_seeds=6, n_seeds=10)
        Seeds(n=6, n_spent=3)
        >>> seeds_to_run(scores, [0.01], min_seeds=6, n_seeds=10)
        Seeds(n=10, n_spent=3)
    """
    scores = np.asarray(scores, float)
    n_spent, n = 1, max(2, (min_seeds + 1) // 2)
    while 2 * n < n_seeds:
        if scores.shape[1] < n:
            return Seeds(max(n, min_seeds), n_spent)
        looked_at = scores[:, :n]
        n_spent = n
        enough = _enough(looked_at, to_find, max(n + 1, min_seeds))
        if enough is not None:
            return Seeds(enough, n_spent)
        n *= 2
    return Seeds(n_seeds, n_spent)


def _enough(scores: NDArray[np.float64], to_find: Sequence[float], least: int) -> int | None:
    """Return the smallest number of seeds, up to twice those run, that finds all differences."""
    if not np.ptp(scores, axis=1).any():
        return least  # the seed changes nothing, so more seeds show nothing new
    n = scores.shape[1]
    deviations = spread(differences(scores[1:], scores[0]))
    for n_seeds in range(least, 2 * n + 1):
        factor = _detectable(n, n_seeds, len(to_find)) * _upper_factor(n - 1)
        if np.all(factor * deviations <= np.abs(to_find)) and np.all(to_find):
            return n_seeds
    return None


@lru_cache(maxsize=4096)
def _detectable(n_spent: int, n_seeds: int, n_comparisons: int) -> float:
    """Return the difference, in standard deviations, that so many seeds find at this power."""
    from scipy.special import stdtrit

    df = n_seeds - n_spent
    level = (1 - CONFIDENCE) / (2 * n_comparisons)
    return float((stdtrit(df, 1 - level) + stdtrit(df, POWER)) / np.sqrt(n_seeds))


@lru_cache(maxsize=256)
def _upper_factor(df: int) -> float:
    """Return the factor by which a spread may exceed the measured one, at this confidence."""
    from scipy.special import chdtri

    return float(np.sqrt(df / chdtri(df, _ASSURANCE)))
