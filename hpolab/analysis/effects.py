"""Differences between means: how large, how sure, and whether a test finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.simultaneous import simultaneous_intervals, simultaneous_p_values
from hpolab.analysis.statistics import CONFIDENCE
from hpolab.display import Displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hpolab.analysis.crossed import Contrasts

__all__ = ["BETTER", "SAME", "UNKNOWN", "WORSE", "Effect", "effects"]

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "practically the same", "not known yet"
"""The answers to whether something is better than something else."""


@dataclass(frozen=True, repr=False)
class Effect(Displayed):
    """A difference between two means, its interval, and what a test says of it.

    Attributes:
        estimate: The difference: above 0 where the first is better, below 0 where it is worse.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: The p-value of no difference; None where nothing could be tested.
        is_significant: Whether the test finds a difference, in either direction.
        min_difference: The smallest difference that matters; None if none was given.
        error: The standard error of the difference; None where it is not known.
        freedom: The degrees of freedom of that error.
    """

    estimate: float
    low: float
    high: float
    p_value: float | None
    is_significant: bool
    min_difference: float | None = None
    error: float | None = None
    freedom: float | None = None

    @classmethod
    def tested(cls, interval: Iterable[float], p_value: float | None) -> Effect:
        """Return an effect that is significant where its p-value is 5 % or less.

        Args:
            interval: The difference, and the lower and the upper end of its interval.
            p_value: The p-value; None where nothing could be tested.

        Example:
            >>> Effect.tested([0.2, 0.1, 0.3], 0.01).is_better
            True
        """
        estimate, low, high = map(float, interval)
        is_significant = p_value is not None and p_value <= 1 - CONFIDENCE
        return cls(estimate, low, high, p_value, is_significant)

    @property
    def answer(self) -> str:
        """One of "better", "worse", "practically the same" and "not known yet".

        Two are practically the same if the interval lies within ``min_difference`` on either side
        of zero, whether the test finds a difference or not.
        """
        if self.is_same:
            return SAME
        if not self.is_significant:
            return UNKNOWN
        return BETTER if self.estimate > 0 else WORSE

    @property
    def is_same(self) -> bool:
        """Whether any difference is smaller than what matters."""
        margin = self.min_difference
        if margin is None or self.p_value is None:
            return False
        return -margin < self.low and self.high < margin

    @property
    def is_better(self) -> bool:
        """Whether the first is significantly better, and not practically the same."""
        return self.answer == BETTER

    @property
    def is_worse(self) -> bool:
        """Whether the first is significantly worse, and not practically the same."""
        return self.answer == WORSE

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def _in_one_line(self) -> str:
        interval = f"{self.estimate:.4g} ({self.low:.3g} to {self.high:.3g})"
        p = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        return f"{interval}{p}, {'significant' if self.is_significant else 'not significant'}"


def effects(
    contrasts: Contrasts, is_tested: Sequence[bool], *, min_difference: float | None = None
) -> list[Effect]:
    """Return differences with intervals that hold together and p-values that agree with them.

    Args:
        contrasts: k mean differences.
        is_tested: Whether there is any chance to test each by; if not, it has no p-value.
        min_difference: The smallest difference that matters.
    """
    ends = simultaneous_intervals(contrasts).tolist()
    tested = simultaneous_p_values(contrasts).tolist()
    return [
        Effect(
            estimate,
            low,
            high,
            p_value=p if is_tested[place] else None,
            is_significant=is_tested[place] and p <= 1 - CONFIDENCE,
            min_difference=min_difference,
            error=float(contrasts.errors[place]),
            freedom=float(contrasts.freedom[place]),
        )
        for place, ((estimate, low, high), p) in enumerate(zip(ends, tested, strict=True))
    ]
