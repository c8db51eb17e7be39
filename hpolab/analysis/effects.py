"""Differences between means: how large, how sure, and whether a test finds them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.statistics import CONFIDENCE, differences, holm, intervals, p_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Effect", "improvements"]


@dataclass(frozen=True)
class Effect:
    """A difference between two means, its interval, and what a test says of it.

    Attributes:
        estimate: The difference: above 0 where the first is better, below 0 where it is worse.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: The p-value of no difference; None where nothing could be tested.
        is_significant: Whether the test finds a difference, in either direction.
    """

    estimate: float
    low: float
    high: float
    p_value: float | None
    is_significant: bool

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
    def is_better(self) -> bool:
        """Whether the first is significantly better."""
        return self.is_significant and self.estimate > 0

    @property
    def is_worse(self) -> bool:
        """Whether the first is significantly worse."""
        return self.is_significant and self.estimate < 0

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def improvements(
    scores: Mapping[str, Sequence[float]], leader: str, *, maximize: bool
) -> dict[str, Effect]:
    """Return by how much the leader is better than each rival, seed by seed.

    A rival that was scored on other seeds, or whose training diverged on one, is left out.
    p-values are corrected for the number of rivals (Holm).

    Args:
        scores: Contender -> scores on the test data, in the order of the seeds.
        leader: The contender to compare with the others. It must not be chosen by these scores, or
            its improvement is an overestimate.
        maximize: Whether a higher score is better.

    Returns:
        Rival -> improvement of the leader over it.

    Example:
        >>> scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.7, 0.7], "c": [0.9]}
        >>> list(improvements(scores, "a", maximize=True))
        ['b']
    """
    of_leader = scores[leader]
    if len(of_leader) < 2 or any(map(math.isnan, of_leader)):
        return {}
    rivals = [
        name
        for name, found in scores.items()
        if name != leader and len(found) == len(of_leader) and not any(map(math.isnan, found))
    ]
    if not rivals:
        return {}
    sign = 1.0 if maximize else -1.0
    paired = [sign * differences(of_leader, scores[name]) for name in rivals]
    corrected = holm(p_values(paired).tolist())
    return {
        rival: Effect.tested(row, p)
        for rival, row, p in zip(rivals, intervals(paired).tolist(), corrected, strict=True)
    }
