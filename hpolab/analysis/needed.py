"""What would have to be added to know whether a difference is real: seeds, rows, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.statistics import CONFIDENCE, POWER
from hpolab.analysis.wording import short

if TYPE_CHECKING:
    from hpolab.analysis.crossed import Parts
    from hpolab.analysis.effects import Effect

__all__ = ["Needed", "needed"]

_MOST = 1_000_000


@dataclass(frozen=True)
class Needed:
    """How many seeds or rows would find a difference in 80 % of cases.

    Attributes:
        difference: The difference that is to be found.
        what: "seeds" or what the rows are, such as "test rows".
        low: The least number.
        high: The largest; None where the difference may be so small that no number is enough.
        n: How many there are now.
        factor: By how much seeds and rows must be multiplied if neither alone is enough; None
            otherwise.
    """

    difference: float
    what: str
    low: int
    high: int | None
    n: int
    factor: float | None = None

    def __str__(self) -> str:
        size = f"a difference of {short(self.difference, 2)}"
        if self.factor is not None:
            return (
                f"To find {size} would take at least {self.factor:.2g} times as many {self.what} "
                "and seeds"
            )
        if self.high is None:
            return f"To know would take at least {self.low:,} {self.what}; {self.n:,} were used"
        return (
            f"To find {size} would take {self.low:,} to {self.high:,} {self.what}; {self.n:,} were "
            "used"
        )


def needed(
    effect: Effect,
    parts: Parts | None,
    *,
    n_seeds: int,
    n_rows: int | None,
    n_compared: int = 1,
    rows: str = "test rows",
) -> Needed | None:
    """Return what would find a difference that is not known yet; None if nothing would.

    Without a smallest difference that matters, the difference is the largest that the interval
    holds, so the number is the least. With one, the number is a range, as few seeds know their
    spread badly.

    Args:
        effect: The difference as it is known now.
        parts: What its variance is made of; None if all of it is the seeds'.
        n_seeds: Seeds so far.
        n_rows: Rows so far.
        n_compared: How many differences are tested together.
        rows: What the rows are called.
    """
    from scipy.special import chdtri, ndtri

    if effect.error is None or effect.freedom is None or effect.error == 0:
        return None
    margin = effect.min_difference
    difference = max(abs(effect.low), abs(effect.high)) if margin is None else margin
    level = (1 - CONFIDENCE) / 2 / n_compared
    variance = (difference / float(ndtri(1 - level) + ndtri(POWER))) ** 2
    # Of the spread that was found, what the true one may be: 95 of 100 times within.
    spreads = [effect.freedom / float(chdtri(effect.freedom, p)) for p in (0.025, 0.975)]
    scales = [1.0] if margin is None else spreads
    of_rows, of_seeds, rest = (
        (0.0, effect.error**2, 0.0) if parts is None else (parts.rows, parts.seeds, parts.rest)
    )

    def times_seeds(scale: float) -> float:
        return _times(of_seeds + rest, of_rows, variance, scale)

    def times_rows(scale: float) -> float:
        return _times(of_rows + rest, of_seeds, variance, scale)

    by_seeds, by_rows = max(times_seeds(1.0), 1.0), max(times_rows(1.0), 1.0)
    # If the largest difference would have been found already, either is enough: take what the
    # variance comes from.
    seeds_help = of_seeds >= of_rows if by_seeds == by_rows else by_seeds < by_rows
    if n_rows is None or parts is None or seeds_help:
        times, what, n = times_seeds, "seeds", n_seeds
    else:
        times, what, n = times_rows, rows, n_rows
    factors = [times(scale) for scale in scales]
    if math.isinf(factors[0]):
        both = effect.error**2 / variance * scales[0]
        return Needed(difference, rows, 0, None, n, max(both, 1.0))
    if n * factors[0] >= _MOST:
        return None
    # What was used has not been enough, be it by chance.
    low = max(n + 1, math.ceil(n * factors[0]))
    if margin is None or n * factors[-1] >= _MOST:
        return Needed(difference, what, low, None, n)
    return Needed(difference, what, low, max(low, math.ceil(n * factors[-1])), n)


def _times(shrinks: float, stays: float, wanted: float, scale: float) -> float:
    """Return how many times as many are needed, if a part of the variance shrinks with them."""
    left = wanted / scale - stays
    return shrinks / left if left > 0 else math.inf
