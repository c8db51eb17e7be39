"""The configuration half way between two others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.distributions import FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

    from hpolab.analysis.candidates import Candidate

__all__ = ["between"]

# Of the middle of two numbers, whose last digits are those of the arithmetic.
_DIGITS = 12


def between(
    ranges: Mapping[str, BaseDistribution],
    best: Candidate,
    robust: Candidate,
    *,
    grids: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Return the params half way between two candidates, as a trial stores them.

    Args:
        ranges: Parameter -> its distribution, on whose scale a number is half way.
        best: One candidate, whose choices are taken.
        robust: The other.
        grids: Parameter -> the values that it may take, where it may not take all of its range.
    """
    other = robust.trial_params
    return {
        name: _middle(ranges[name], value, other[name], grids.get(name))
        if name in other and name in ranges
        else value
        for name, value in best.trial_params.items()
    }


def _middle(
    distribution: BaseDistribution, one: Any, other: Any, grid: Sequence[float] | None
) -> Any:
    if not isinstance(distribution, FloatDistribution | IntDistribution) or one == other:
        return one
    middle = math.sqrt(one * other) if distribution.log else (one + other) / 2
    if grid is not None:
        # Of two that are as near but for rounding, the one beside the best.
        nearest = min(
            grid,
            key=lambda each: (round(_distance(distribution, each, middle), 9), abs(each - one)),
        )
        return type(one)(nearest)
    if distribution.step is not None and not distribution.log:
        steps = round((middle - distribution.low) / distribution.step)
        middle = distribution.low + steps * distribution.step
    if isinstance(distribution, IntDistribution):
        return round(middle)
    # A person would write 0.15, not 0.15000000000000002.
    return min(max(float(f"{middle:.{_DIGITS}g}"), min(one, other)), max(one, other))


def _distance(distribution: FloatDistribution | IntDistribution, one: float, other: float) -> float:
    """Return how far two numbers are apart, in parts of the range on its own scale."""
    low, high = distribution.low, distribution.high
    if distribution.log:
        return abs(math.log(one / other)) / math.log(high / low)
    return abs(one - other) / (high - low)
