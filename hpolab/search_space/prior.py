"""Priors: where in a range good values are expected, and how widely they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.search_space.places import position
from hpolab.search_space.ranges import one_minus

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Prior", "as_prior", "misfit", "without_priors"]


@dataclass(frozen=True)
class Prior:
    """Where in a range good values are expected, in the trainer's units.

    About two thirds of the good values lie between ``median / spread`` and ``median * spread`` on
    a log scale, and between ``median - spread`` and ``median + spread`` on a linear one. Of a
    range that is sampled as 1 - value, the factor is one of 1 - value: ``Prior(0.99, 3.0)`` spans
    0.97 to 0.9967. A prior never narrows its range; a sampler may begin near it.

    Args:
        median: A value inside the range.
        spread: A factor above 1 on a log scale; a distance above 0, in the parameter's own unit, on
            a linear scale.
        source: Where it comes from: a paper, a table of runs.

    Raises:
        InvalidArgument: If ``median`` is not finite, or ``spread`` is not finite or not above 0.
            `SearchSpace` refuses a median outside its range and a factor of 1 or below.
        InvalidType: If either is no number, or ``source`` is no string.

    Example:
        >>> from hpolab import SearchSpace
        >>> space = SearchSpace(
        ...     {"lr": (1e-4, 1e-2, "log")}, priors={"lr": Prior(1e-3, 3.0, "our last ten models")}
        ... )
        >>> space.priors()
        {'lr': Prior(median=0.001, spread=3.0, source='our last ten models')}
    """

    median: float
    spread: float
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "median", _finite("median", self.median))
        object.__setattr__(self, "spread", _finite("spread", self.spread))
        if self.spread <= 0:
            raise InvalidArgument(f"`spread` must be above 0, got {self.spread!r}.")
        if not isinstance(self.source, str):
            raise InvalidType(f"`source` must be a string, got {type(self.source).__name__}.")

    def in_unit_interval(
        self, distribution: BaseDistribution, *, is_one_minus: bool = False
    ) -> tuple[float, float]:
        """Return the prior's mean and standard deviation where its range is 0 to 1.

        The range is taken on its own scale: on a log scale, 0.5 is the geometric mean of its ends.

        Args:
            distribution: The range in trial units, as in `SearchSpace.distributions`.
            is_one_minus: Whether trials hold 1 - value, as `SearchSpace.is_one_minus` tells.

        Returns:
            (mean, standard deviation); (0.5, 0.5) for a range of one value.

        Raises:
            InvalidArgument: If the prior does not fit the distribution.

        Example:
            >>> from optuna.distributions import FloatDistribution
            >>> mean, std = Prior(1e-3, 10.0).in_unit_interval(FloatDistribution(1e-4, 1, log=True))
            >>> round(mean, 6), round(std, 6)
            (0.25, 0.25)
            >>> Prior(3.0, 1.0).in_unit_interval(FloatDistribution(1.0, 5.0))
            (0.5, 0.25)
        """
        broken = misfit(self, distribution, is_one_minus=is_one_minus)
        if broken is not None:
            raise InvalidArgument(f"the prior {broken}")
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        d, median = distribution, _in_trial_units(self.median, is_one_minus)
        if d.low == d.high:
            return 0.5, 0.5
        std = math.log(self.spread, d.high / d.low) if d.log else self.spread / (d.high - d.low)
        return position(d, median), std

    def to_dict(self) -> dict[str, Any]:
        """Return the prior as JSON-able values: the arguments that make it."""
        return {"median": self.median, "spread": self.spread, "source": self.source}

    def words(self, *, is_log: bool) -> str:
        """Return the prior as a table shows it.

        Example:
            >>> Prior(1e-3, 3.0, "a paper").words(is_log=True)
            'prior: 0.001 times or divided by 3, a paper'
            >>> Prior(0.5, 0.25).words(is_log=False)
            'prior: 0.5 plus or minus 0.25'
        """
        way = "times or divided by" if is_log else "plus or minus"
        said = f"prior: {self.median:.6g} {way} {self.spread:.6g}"
        return f"{said}, {self.source}" if self.source else said


def as_prior(name: str, value: Any) -> Prior:
    """Return a prior that was given as one, or as (median, spread) or (median, spread, source).

    Raises:
        InvalidArgument: If a number breaks a rule of `Prior`, or a tuple has another length.
        InvalidType: If ``value`` is neither.

    Example:
        >>> as_prior("lr", (1e-3, 3.0))
        Prior(median=0.001, spread=3.0, source='')
    """
    if isinstance(value, Prior):
        return value
    if not isinstance(value, tuple):
        raise InvalidType(
            f"a prior must be a Prior or a tuple (median, spread), got {type(value).__name__} for "
            f"{name!r}"
        )
    if len(value) not in (2, 3):
        raise InvalidArgument(
            f"a prior must be a tuple (median, spread) or (median, spread, source), got {value!r} "
            f"for {name!r}"
        )
    try:
        return Prior(*value)
    except (InvalidArgument, InvalidType) as error:
        raise type(error)(f"the prior of {name!r}: {error}") from None


def misfit(prior: Prior, distribution: BaseDistribution, *, is_one_minus: bool) -> str | None:
    """Return which rule a prior breaks for its range, with what came; None if it fits.

    Args:
        prior: The prior.
        distribution: The range in trial units.
        is_one_minus: Whether trials hold 1 - value.

    Example:
        >>> from optuna.distributions import FloatDistribution
        >>> misfit(Prior(1.0, 3.0), FloatDistribution(1e-4, 0.1, log=True), is_one_minus=False)
        'must have its median in 0.0001 .. 0.1, got 1.0'
    """
    if isinstance(distribution, CategoricalDistribution):
        return f"must be one of a numeric range, got the choices {list(distribution.choices)!r}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if not low <= _in_trial_units(prior.median, is_one_minus) <= high:
        ends = sorted(_in_trial_units(end, is_one_minus) for end in (low, high))
        return f"must have its median in {ends[0]!r} .. {ends[1]!r}, got {prior.median!r}"
    if distribution.log and prior.spread <= 1:
        return f"must have a factor above 1 as `spread` on a log scale, got {prior.spread!r}"
    return None


def without_priors(values: Any) -> Any:
    """Return what `SearchSpace.to_dict` wrote, without its priors.

    Example:
        >>> without_priors({"parameters": [{"name": "lr", "prior": {"median": 0.1}}]})
        {'parameters': [{'name': 'lr'}]}
    """
    if isinstance(values, list):
        return [without_priors(each) for each in values]
    if isinstance(values, dict):
        return {key: without_priors(value) for key, value in values.items() if key != "prior"}
    return values


def _in_trial_units(value: float, is_one_minus: bool) -> float:
    return one_minus(value) if is_one_minus else value


def _finite(argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"`{argument}` must be a number, got {type(value).__name__}.")
    if not math.isfinite(value):
        raise InvalidArgument(f"`{argument}` must be finite, got {value!r}.")
    return int(value) if isinstance(value, Integral) else float(value)
