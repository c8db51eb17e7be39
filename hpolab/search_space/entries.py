"""What a name in a search space stands for: a range or a fixed value (a choice is in `space`)."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Draw = Callable[[str, BaseDistribution], Any]

__all__ = ["Entry", "Fixed", "Range", "make_distribution", "make_fixed", "merge", "refuse_both"]

# Neighboring floats just below 1 are half of this apart: what 1 - x loses at most.
_SPACING_AT_ONE = 2.0**-52


class Entry(ABC):
    """What one name of a search space stands for; the name itself is kept by the space.

    Two kinds of names occur. A *trainer name* is what the training code reads (``beta2``); a
    *trial name* is what Optuna stores (``one_minus_beta2``, ``adam.lr``).
    """

    @abstractmethod
    def names(self, name: str) -> set[str]:
        """Return the trainer names that this entry may fill."""

    @abstractmethod
    def addresses(self, name: str) -> list[str]:
        """Return the names under which `SearchSpace.override` reaches into this entry."""

    @abstractmethod
    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        """Return the distributions by trial name."""

    @abstractmethod
    def defaults(self, name: str) -> dict[str, Any]:
        """Return the default configuration by trainer name."""

    @abstractmethod
    def sources(self, name: str) -> dict[str, str]:
        """Return where each range comes from, by address."""

    @abstractmethod
    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        """Return trainer params; ``draw`` gives the value of a trial name and distribution."""

    @abstractmethod
    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Pop this entry's trainer names from ``params`` and return the trial's params."""

    @abstractmethod
    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Pop this entry's trial or trainer names from ``params`` and return trainer params."""

    @abstractmethod
    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        """Return what stands in place of this entry once ``changes`` (by address) are made."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-able values."""

    @abstractmethod
    def lines(self, name: str) -> list[str]:
        """Return the entry as lines of a `repr`."""


@dataclass(frozen=True)
class Fixed(Entry):
    """A value that no trial changes."""

    value: Any

    def names(self, name: str) -> set[str]:
        return {name}

    def addresses(self, name: str) -> list[str]:
        return [name]

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        return {}

    def defaults(self, name: str) -> dict[str, Any]:
        return {name: self.value}

    def sources(self, name: str) -> dict[str, str]:
        return {}

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        return {name: self.value}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        value = params.pop(name, self.value)
        if value != self.value:
            raise InvalidArgument(f"{name!r} is fixed at {self.value!r}, got {value!r}")
        return {}

    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        return {name: params.pop(name, self.value)}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        if name not in changes:
            return {name: self}
        value = changes[name]
        if not isinstance(value, BaseDistribution | tuple | list):
            return {name: make_fixed(name, value)}
        distribution = make_distribution(name, value)
        return {name: Range(distribution, _nearest(distribution, self.value), _OVERRIDDEN)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "fixed", "value": self.value}

    def lines(self, name: str) -> list[str]:
        return [f"{name} = {self.value!r}"]


@dataclass(frozen=True)
class Range(Entry):
    """A distribution with its default and its source.

    Attributes:
        distribution: What Optuna samples from, in trial units.
        default: The default in trainer units.
        source: Where the range comes from.
        one_minus: Whether the trial holds 1 - value instead of the value.
    """

    distribution: BaseDistribution
    default: Any
    source: str = ""
    one_minus: bool = False

    @classmethod
    def between(cls, distribution: BaseDistribution, source: str) -> Range:
        """Return a range whose default is its middle, or the first of its choices."""
        return cls(distribution, _middle(distribution), source)

    @classmethod
    def near_one(cls, name: str, bounds: Any, source: str) -> Range:
        """Return a range whose trial holds 1 - value on a log scale.

        Args:
            name: The parameter, for messages.
            bounds: (low, high) in trainer units, 0 <= low < high < 1.
            source: Where the range comes from.

        Raises:
            InvalidArgument: If the bounds are not inside [0, 1).
            InvalidType: If ``bounds`` is not a pair of numbers.
        """
        low, high = _bounds(name, bounds)
        if not 0 <= low < high < 1:
            raise InvalidArgument(
                f"a range sampled as 1 - value must lie in [0, 1), got {low=}, {high=} for {name!r}"
            )
        distribution = FloatDistribution(_one_minus(high), _one_minus(low), log=True)
        return cls(distribution, _one_minus(_middle(distribution)), source, one_minus=True)

    def with_default(self, name: str, default: Any) -> Range:
        """Return the range with another default, in trainer units.

        Raises:
            InvalidArgument: If the default lies outside the range.
        """
        found = self.to_trial(f"defaults[{name!r}]", default)
        return replace(self, default=_one_minus(found) if self.one_minus else found)

    def trial_name(self, name: str) -> str:
        """Return the name under which Optuna stores the parameter."""
        return f"one_minus_{name}" if self.one_minus else name

    def to_trial(self, name: str, value: Any) -> Any:
        """Return the trial's value for a trainer's value.

        Raises:
            InvalidArgument: If the value lies outside the range.
        """
        found = self._in_trial_units(value)
        if not _contains(self.distribution, found):
            raise InvalidArgument(f"{name!r} must be in {self._text()}, got {value!r}")
        if isinstance(self.distribution, FloatDistribution):
            return float(found)
        return int(found) if isinstance(self.distribution, IntDistribution) else found

    def grid(self, n: int) -> list[Any]:
        """Return ``n`` values in trial units, both ends included, on the range's own scale."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        assert isinstance(d, FloatDistribution | IntDistribution)
        if d.step is not None and not d.log:
            last = round((d.high - d.low) / d.step)
            steps = np.unique(np.linspace(0, last, n).round().astype(int)).tolist()
            return [d.low + step * d.step for step in steps]
        points = (np.geomspace if d.log else np.linspace)(d.low, d.high, n)
        whole = isinstance(d, IntDistribution)
        values: list[Any] = np.unique(points.round().astype(int) if whole else points).tolist()
        return values

    def names(self, name: str) -> set[str]:
        return {name}

    def addresses(self, name: str) -> list[str]:
        return [name]

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        return {self.trial_name(name): self.distribution}

    def defaults(self, name: str) -> dict[str, Any]:
        return {name: self.default}

    def sources(self, name: str) -> dict[str, str]:
        return {name: self.source}

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        value = draw(self.trial_name(name), self.distribution)
        return {name: _one_minus(value) if self.one_minus else value}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            raise InvalidArgument(f"`params` must have {name!r}, which is missing")
        return {self.trial_name(name): self.to_trial(name, params.pop(name))}

    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        trial_name = self.trial_name(name)
        if trial_name != name and trial_name in params:
            refuse_both(params, trial_name, name)
            return {name: _one_minus(params.pop(trial_name))}
        return {name: params.pop(name)} if name in params else {}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        if name not in changes:
            return {name: self}
        value = changes[name]
        if not isinstance(value, BaseDistribution | tuple | list):
            return {name: make_fixed(name, value)}
        if self.one_minus and isinstance(value, tuple):
            moved = Range.near_one(name, value, _OVERRIDDEN)
            default = _one_minus(_nearest(moved.distribution, _one_minus(self.default)))
            return {name: replace(moved, default=default)}
        distribution = make_distribution(name, value, like=self.distribution)
        return {name: Range(distribution, _nearest(distribution, self.default), _OVERRIDDEN)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "range",
            "distribution": json.loads(distribution_to_json(self.distribution)),
            "default": self.default,
            "source": self.source,
            "one_minus": self.one_minus,
        }

    def lines(self, name: str) -> list[str]:
        return [f"{name}: {self._text()}, default {self.default!r}"]

    def _in_trial_units(self, value: Any) -> Any:
        if not self.one_minus or not isinstance(value, Real):
            return value
        d = self.distribution
        assert isinstance(d, FloatDistribution)
        found = _one_minus(value)
        bound = min(max(found, d.low), d.high)
        return bound if abs(found - bound) <= _SPACING_AT_ONE else found

    def _text(self) -> str:
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return " | ".join(repr(choice) for choice in d.choices)
        assert isinstance(d, FloatDistribution | IntDistribution)
        if self.one_minus:
            return f"{_one_minus(d.high)!r} .. {_one_minus(d.low)!r} (log scale of 1 - value)"
        scale = " (log scale)" if d.log else ""
        step = f" (step {d.step!r})" if d.step is not None and d.step != 1 else ""
        return f"{d.low!r} .. {d.high!r}{scale}{step}"


_OVERRIDDEN = "given to `override`"


def make_distribution(
    name: str, spec: Any, *, like: BaseDistribution | None = None
) -> BaseDistribution:
    """Return the distribution that a user's ``spec`` stands for.

    Args:
        name: The parameter, for messages.
        spec: A distribution (returned as it is), a (low, high) tuple or a list of choices.
        like: A tuple takes its type, scale and step from this distribution, if it is numeric.

    Raises:
        InvalidArgument: If the range or the list is empty, or a log scale starts at or below 0.
        InvalidType: If ``spec`` is of another type.
    """
    if isinstance(spec, FloatDistribution | IntDistribution | CategoricalDistribution):
        return spec
    if isinstance(spec, list):
        return _categorical(name, spec)
    low, high = _bounds(name, spec)
    if isinstance(like, FloatDistribution):
        _positive_if(like.log, name, low, high)
        return FloatDistribution(low, high, log=like.log, step=like.step)
    if isinstance(like, IntDistribution):
        if low != int(low) or high != int(high):
            raise InvalidArgument(f"{name!r} takes whole numbers, got {low=}, {high=}")
        _positive_if(like.log, name, low, high)
        return IntDistribution(int(low), int(high), log=like.log, step=like.step)
    if isinstance(low, Integral) and isinstance(high, Integral):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high)


def make_fixed(name: str, value: Any) -> Fixed:
    """Return a fixed value, as a plain Python scalar.

    Raises:
        InvalidArgument: If a number is not finite.
        InvalidType: If the value is not None, a bool, a number or a string.
    """
    if value is None or isinstance(value, bool | str):
        return Fixed(value)
    if isinstance(value, Integral):
        return Fixed(int(value))
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise InvalidArgument(f"a fixed value must be finite, got {value!r} for {name!r}")
        return Fixed(float(value))
    raise InvalidType(
        f"{name!r} must be an Optuna distribution, a (low, high) tuple, a list of choices or a "
        f"fixed None, bool, number or string, got {type(value).__name__}"
    )


def refuse_both(params: Mapping[str, Any], trial_name: str, name: str) -> None:
    """Refuse one parameter under a trial's name and the trainer's.

    Raises:
        InvalidArgument: If ``params`` has both.
    """
    if name in params:
        raise InvalidArgument(
            f"`params` must give {name!r} once, got {name!r} and {trial_name!r}, the trial's name "
            "of it"
        )


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one dict of all parts, in their order."""
    return {name: value for part in parts for name, value in part.items()}


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a trial could hold ``value`` under ``distribution``."""
    try:
        # Optuna checks a value against its range only where it makes a trial; the test on the
        # distribution itself is private.
        optuna.trial.create_trial(
            params={"value": value}, distributions={"value": distribution}, value=0.0
        )
    except ValueError:
        return False
    return True


def _middle(distribution: BaseDistribution) -> Any:
    """Return the middle of a range on its own scale, or the first of some choices."""
    d = distribution
    if isinstance(d, CategoricalDistribution):
        return d.choices[0]
    assert isinstance(d, FloatDistribution | IntDistribution)
    return _nearest(d, math.sqrt(d.low * d.high) if d.log else (d.low + d.high) / 2)


def _nearest(distribution: BaseDistribution, value: Any) -> Any:
    d = distribution
    if isinstance(d, CategoricalDistribution):
        return value if _contains(d, value) else d.choices[0]
    assert isinstance(d, FloatDistribution | IntDistribution)
    if not isinstance(value, Real) or isinstance(value, bool):
        return _middle(d)
    clipped = min(max(float(value), d.low), d.high)
    if d.step is not None:
        clipped = d.low + round((clipped - d.low) / d.step) * d.step
    return int(clipped) if isinstance(d, IntDistribution) else float(clipped)


def _one_minus(value: Real | float) -> float:
    # In decimal, so that 0.9999 becomes 0.0001 and not 9.999999999998899e-05: bounds and defaults
    # then survive the way to the trial and back unchanged.
    return float(1 - Decimal(repr(float(value))))


def _categorical(name: str, choices: list[Any]) -> CategoricalDistribution:
    if not choices:
        raise InvalidArgument(f"a list of choices must not be empty, got [] for {name!r}")
    for choice in choices:
        if not isinstance(choice, bool | int | float | str | None):
            raise InvalidType(
                f"a choice must be None, a bool, a number or a string, "
                f"got {type(choice).__name__} for {name!r}"
            )
    if len(set(choices)) < len(choices):
        raise InvalidArgument(f"choices must differ, got {choices!r} for {name!r}")
    return CategoricalDistribution(choices)


def _bounds(name: str, spec: Any) -> tuple[Any, Any]:
    if not isinstance(spec, tuple):
        raise InvalidType(
            f"a range must be a (low, high) tuple, got {type(spec).__name__} for {name!r}"
        )
    if len(spec) != 2:
        raise InvalidArgument(f"a range must be a (low, high) tuple, got {spec!r} for {name!r}")
    for bound in spec:
        if not isinstance(bound, Real) or isinstance(bound, bool):
            raise InvalidType(
                f"`low` and `high` must be numbers, got {type(bound).__name__} for {name!r}"
            )
        if not math.isfinite(bound):
            raise InvalidArgument(f"`low` and `high` must be finite, got {bound!r} for {name!r}")
    low, high = spec
    if low >= high:
        raise InvalidArgument(f"`low` must be below `high`, got {low=}, {high=} for {name!r}")
    return low, high


def _positive_if(log: bool, name: str, low: Any, high: Any) -> None:
    if log and low <= 0:
        raise InvalidArgument(
            f"`low` must be above 0 on a log scale, got {low=}, {high=} for {name!r}"
        )
