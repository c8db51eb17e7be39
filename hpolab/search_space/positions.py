"""Where a value lies in its range, from 0 to 1 on the range's own scale, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["position_of", "value_at"]


def position_of(distribution: BaseDistribution, value: Any) -> float:
    """Return where a value lies in a range of numbers.

    Example:
        >>> position_of(FloatDistribution(0.001, 0.1, log=True), 0.01)
        0.5
    """
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def value_at(distribution: BaseDistribution, position: float) -> Any:
    """Return the value at a position: the inverse of `position_of`.

    Choices divide the interval from 0 to 1 among them.

    Example:
        >>> value_at(IntDistribution(1, 5), 0.5)
        3
        >>> value_at(CategoricalDistribution(["relu", "gelu"]), 0.5)
        'gelu'
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return choices[min(int(position * len(choices)), len(choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    value = low * (high / low) ** position if distribution.log else low + (high - low) * position
    if step is not None and not distribution.log:
        value = low + round((value - low) / step) * step
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)
