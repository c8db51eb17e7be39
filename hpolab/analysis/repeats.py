"""Statistics of repeated tunings: which contender does better when each is tuned several times.

All functions are pure. A repeat gives each contender one score, that of the best configuration its
tuning has found. Repeats are independent of each other, and paired over contenders.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.effects import Effect
from hpolab.analysis.statistics import CONFIDENCE, differences, share_interval
from hpolab.display import Displayed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "WORTH_IT",
    "Outperforming",
    "improvements_over_repeats",
    "outperforming",
    "repeats_to_tell",
    "winning",
]

WORTH_IT = 0.75
"""The probability of outperforming that is worth it (Bouthillier et al. 2021)."""

# Draws behind the largest of several t statistics: an error of 0.001 at the 5 % level.
_N_DRAWS = 40_000
_CHUNK = 4_000


@dataclass(frozen=True, repr=False)
class Outperforming(Displayed):
    """How often one contender does better than another when both are tuned.

    Attributes:
        wins: The number of repeats in which it did better; ties count half.
        n: The number of repeats.
        low: Lower end of the interval of the probability.
        high: Upper end of the interval.
    """

    wins: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, wins: float, n: int, *, n_comparisons: int = 1) -> Outperforming:
        """Return the probability with its exact interval (Clopper & Pearson 1934).

        The interval needs no normality. It is that of a binomial count. Ties that count half make
        the count vary less, and repeats of unequal data sets too (Hoeffding 1956, "On the
        distribution of the number of successes in independent trials"), so it holds for these.

        Args:
            wins: The number of wins; ties count half.
            n: The number of repeats, 1 or above.
            n_comparisons: The number of intervals that hold together.

        Example:
            >>> found = Outperforming.of(5, 5)
            >>> round(found.low, 3), found.high
            (0.478, 1.0)
        """
        return cls(wins, n, *share_interval(wins, wins, n, n_together=n_comparisons))

    @property
    def probability(self) -> float:
        """The estimated probability of outperforming."""
        return self.wins / self.n

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def _in_one_line(self) -> str:
        shares = [f"{100 * each:.0f} %" for each in (self.probability, self.low, self.high)]
        return f"wins {self.wins:g} of {self.n}, {shares[0]} ({shares[1]} to {shares[2]})"


def outperforming(
    scores: Mapping[str, Sequence[float]], leader: str, *, maximize: bool
) -> dict[str, Outperforming]:
    """Return how probably the leader outperforms each rival in another tuning of both.

    The intervals hold together over all pairs of contenders, because the leader may have been
    chosen by the same scores (Bonferroni).

    Args:
        scores: Contender -> its score in each repeat, the same repeats for all. NaN where its
            configuration could not be trained, which loses against any score.
        leader: The contender to compare with the others.
        maximize: Whether a higher score is better.

    Returns:
        Rival -> probability.

    Example:
        >>> scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.7, 0.9]}
        >>> outperforming(scores, "a", maximize=True)["b"].wins
        2.5
    """
    losses = dict(zip(scores, _losses(scores, maximize=maximize), strict=True))
    n_pairs = _n_pairs(len(scores))
    mine, found = losses[leader], {}
    for name, theirs in losses.items():
        if name != leader:
            wins = float(np.sum(mine < theirs) + 0.5 * np.sum(mine == theirs))
            found[name] = Outperforming.of(wins, len(mine), n_comparisons=n_pairs)
    return found


def winning(scores: Mapping[str, Sequence[float]], *, maximize: bool) -> dict[str, Outperforming]:
    """Return how probably each contender does best of all in another tuning of all.

    The intervals hold together for all contenders (Bonferroni).

    Args:
        scores: As in `outperforming`; those that are the best together share the win.
        maximize: Whether a higher score is better.

    Example:
        >>> found = winning({"a": [0.9, 0.8], "b": [0.8, 0.8], "c": [0.1, 0.1]}, maximize=True)
        >>> [each.wins for each in found.values()]
        [1.5, 0.5, 0.0]
    """
    losses = _losses(scores, maximize=maximize)
    first = losses == losses.min(axis=0)
    wins = (first / first.sum(axis=0)).sum(axis=1)
    return {
        name: Outperforming.of(float(won), losses.shape[1], n_comparisons=len(losses))
        for name, won in zip(scores, wins, strict=True)
    }


def improvements_over_repeats(
    scores: Mapping[str, Sequence[float]],
    leader: str,
    *,
    maximize: bool,
    min_difference: float | None = None,
) -> dict[str, Effect]:
    """Return by how much the leader is better than each rival, in the mean over repeats.

    Paired t statistics. Intervals and p-values hold together over all pairs of contenders, because
    the leader may have been chosen by the same scores: they use the largest statistic of all pairs
    of equal contenders. Unequal spreads make it smaller, as they do for Tukey's range (Hayter 1984,
    "A proof of the conjecture that the Tukey-Kramer multiple comparisons procedure is
    conservative"). That the mean over repeats is nearly normal is assumed.

    Args:
        scores: Contender -> its score in each repeat, the same repeats for all, 2 or more.
            Contenders with a NaN are left out.
        leader: The contender to compare with the others.
        maximize: Whether a higher score is better.
        min_difference: The smallest improvement that matters.

    Returns:
        Rival -> improvement of the leader over it.

    Example:
        >>> scores = {"a": [0.9, 0.8, 0.91, 0.89], "b": [0.8, 0.7, 0.8, 0.8]}
        >>> improvements_over_repeats(scores, "a", maximize=True)["b"].is_better
        True
    """
    known = {name: each for name, each in scores.items() if not any(map(math.isnan, each))}
    n = len(scores[leader])
    if leader not in known or n < 2:
        return {}
    sign = 1.0 if maximize else -1.0
    found = {
        name: _improvement(sign * differences(known[leader], each), len(scores))
        for name, each in known.items()
        if name != leader
    }
    return {name: replace(effect, min_difference=min_difference) for name, effect in found.items()}


def repeats_to_tell(n_contenders: int) -> int:
    """Return the smallest number of repeats that can tell who outperforms whom.

    With fewer, even a contender that wins all of them may be one that wins every other.

    Example:
        >>> repeats_to_tell(2), repeats_to_tell(5)
        (6, 9)
    """
    return math.ceil(math.log2(2 * _n_pairs(n_contenders) / (1 - CONFIDENCE)))


def _improvement(paired: NDArray[np.float64], n_contenders: int) -> Effect:
    """Return the mean of paired differences, simultaneous over all pairs of the contenders."""
    n, mean = len(paired), float(paired.mean())
    error = float((paired - paired[0]).std(ddof=1)) / math.sqrt(n)
    if error == 0:
        # No spread to test by: the chance that the same sign comes n times.
        p = 1.0 if mean == 0 else min(1.0, _n_pairs(n_contenders) * 2.0 ** (1 - n))
        half = 0.0 if mean == 0 or p <= 1 - CONFIDENCE else math.inf
        return Effect.tested((mean, mean - half, mean + half), p)
    half = _critical(n_contenders, n) * error
    p = _p_value(mean / error, n_contenders, n)
    found = Effect.tested((mean, mean - half, mean + half), p)
    return replace(found, error=error, freedom=n - 1.0)


def _critical(n_contenders: int, n: int) -> float:
    """Return what the largest |t| of all pairs of equal contenders exceeds in 5 %."""
    from scipy.special import stdtrit

    if n_contenders == 2:
        return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return float(np.quantile(_largest(n_contenders, n), CONFIDENCE))


def _p_value(statistic: float, n_contenders: int, n: int) -> float:
    from scipy.special import stdtr

    bound = min(1.0, _n_pairs(n_contenders) * 2 * float(stdtr(n - 1, -abs(statistic))))
    if n_contenders == 2 or bound < 0.005:  # Bonferroni's bound is exact enough there
        return bound
    draws = _largest(n_contenders, n)
    return min(bound, 1 - float(np.searchsorted(draws, abs(statistic))) / len(draws))


@lru_cache(maxsize=64)
def _largest(n_contenders: int, n: int) -> NDArray[np.float64]:
    """Return sorted draws of the largest |t| of all pairs of equal contenders over n repeats."""
    rng = np.random.default_rng(0)
    pairs = np.array(list(itertools.combinations(range(n_contenders), 2)))
    found = []
    for _ in range(_N_DRAWS // _CHUNK):
        scores = rng.normal(size=(_CHUNK, n_contenders, n))
        largest = np.zeros(_CHUNK)
        for one, other in pairs:
            paired = scores[:, one] - scores[:, other]
            error = paired.std(axis=1, ddof=1) / math.sqrt(n)
            largest = np.maximum(largest, np.abs(paired.mean(axis=1)) / error)
        found.append(largest)
    return np.sort(np.concatenate(found))


def _losses(scores: Mapping[str, Sequence[float]], *, maximize: bool) -> NDArray[np.float64]:
    """Return scores such that lower is better, equal but for rounding made equal, inf for NaN."""
    found = np.array(list(scores.values()), float)
    known = np.where(np.isnan(found), 0.0, found)
    rounded = differences(known, np.zeros(found.shape[1]))
    return np.where(np.isnan(found), np.inf, -rounded if maximize else rounded)


def _n_pairs(n_contenders: int) -> int:
    return math.comb(n_contenders, 2)
