"""Where configurations lie in a search space, and how far they are apart: from 0 to 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

__all__ = ["are_numbers", "distances", "gap_sizes", "place_of", "position", "value_at"]


def position(distribution: BaseDistribution, value: Any) -> float:
    """Return a value's place in its range, from 0 to 1 on its own scale; a choice's index.

    Example:
        >>> position(FloatDistribution(1e-4, 1.0, log=True), 1e-2)
        0.5
    """
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if low == high:
        return 0.0
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def value_at(distribution: BaseDistribution, place: float) -> Any:
    """Return the value at a place from 0 to 1 on the range's own scale; choices divide it.

    Example:
        >>> value_at(IntDistribution(1, 5), 0.5)
        3
        >>> value_at(CategoricalDistribution(["relu", "gelu"]), 0.5)
        'gelu'
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return choices[min(int(place * len(choices)), len(choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    value = low * (high / low) ** place if distribution.log else low + (high - low) * place
    if step is not None and not distribution.log:
        value = low + round((value - low) / step) * step
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def place_of(ranges: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> list[float]:
    """Return the place of a configuration, NaN for a parameter that it does not have."""
    return [
        position(distribution, params[name]) if name in params else math.nan
        for name, distribution in ranges.items()
    ]


def are_numbers(ranges: Mapping[str, BaseDistribution]) -> NDArray[np.bool_]:
    """Tell of each parameter whether it is a number, and no choice."""
    found = [not isinstance(d, CategoricalDistribution) for d in ranges.values()]
    return np.array(found, dtype=bool)


def gap_sizes(
    places: NDArray[np.float64], here: NDArray[np.float64], is_number: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far places are from one, in each parameter, from 0 to 1.

    A place that differs in a choice, or in having a parameter at all, is as far away in it as the
    two ends of a range.

    Args:
        places: Shape (n, parameters).
        here: Shape (parameters,).
        is_number: Shape (parameters,).

    Returns:
        Shape (n, parameters).
    """
    gaps = places - here
    sizes = np.where(is_number, np.abs(gaps), np.abs(np.sign(gaps)))
    absent_in_both = np.isnan(places) & np.isnan(here)
    found: NDArray[np.float64] = np.where(absent_in_both, 0.0, np.nan_to_num(sizes, nan=1.0))
    return found


def distances(
    ranges: Mapping[str, BaseDistribution],
    configurations: Iterable[Mapping[str, Any]],
    others: Iterable[Mapping[str, Any]],
) -> NDArray[np.float64]:
    """Return the distances between configurations: root mean squares over the parameters.

    Args:
        ranges: The parameters, each with its range; at least one.
        configurations: A trial's params each, n of them, at least one.
        others: Such ones too, m of them.

    Returns:
        Shape (n, m), from 0 to 1.

    Example:
        >>> ranges = {"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(["a", "b"])}
        >>> here, there = {"x": 0.0, "kind": "a"}, {"x": 0.0, "kind": "b"}
        >>> distances(ranges, [here], [here, there]).round(3).tolist()
        [[0.0, 0.707]]
    """
    rows, columns = (
        np.array([place_of(ranges, each) for each in some], dtype=np.float64)
        for some in (configurations, others)
    )
    is_number = are_numbers(ranges)
    squares = [(gap_sizes(columns, row, is_number) ** 2).mean(axis=1) for row in rows]
    found: NDArray[np.float64] = np.sqrt(np.array(squares))
    return found
