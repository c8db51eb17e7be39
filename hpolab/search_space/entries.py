"""What a name in a search space stands for: a range or a fixed value (choices are in `choice`)."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Real
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

from hpolab.errors import InvalidArgument
from hpolab.search_space.prior import Prior, misfit
from hpolab.search_space.ranges import (
    is_spec,
    make_distribution,
    one_minus,
    plain_value,
    read_bounds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Draw = Callable[[str, BaseDistribution], Any]

__all__ = [
    "Entries",
    "Entry",
    "Fixed",
    "Range",
    "TrialParameter",
    "contains",
    "merge",
    "refuse_both",
]

# Neighboring floats just below 1 are half of this apart: what 1 - x loses at most.
_SPACING_AT_ONE = 2.0**-52

_OVERRIDDEN = "given to `override`"


@dataclass(frozen=True)
class TrialParameter:
    """A parameter that trials may have, under each of its names.

    Attributes:
        trial_name: What Optuna stores: ``adam.one_minus_beta2``.
        trainer_name: What training code reads: ``beta2``.
        address: What `SearchSpace.override` calls it: ``adam.beta2``.
        distribution: What Optuna samples from, in trial units.
        is_one_minus: Whether the trial holds 1 - value.
        prior: Where good values are expected, in trainer units; None if not known.
    """

    trial_name: str
    trainer_name: str
    address: str
    distribution: BaseDistribution
    is_one_minus: bool = False
    prior: Prior | None = None


class Entry(ABC):
    """What one name of a search space stands for; the name itself is kept by `Entries`."""

    @abstractmethod
    def parameters(self, name: str) -> list[TrialParameter]:
        """Return what trials may have of it."""

    @abstractmethod
    def trainer_names(self, name: str) -> list[str]:
        """Return the trainer names that this entry may fill, those of all branches."""

    @abstractmethod
    def addresses(self, name: str) -> list[str]:
        """Return the names under which `SearchSpace.override` reaches into this entry."""

    @abstractmethod
    def defaults(self, name: str) -> dict[str, Any]:
        """Return the default configuration by trainer name."""

    @abstractmethod
    def settled(self, name: str) -> dict[str, Any]:
        """Return the default of everything but choices, by address."""

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
    def propose(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Pop this entry's trial or trainer names from ``params`` and return the trial's params."""

    @abstractmethod
    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        """Return what stands in place of this entry once ``changes`` (by address) are made."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-able values."""

    @abstractmethod
    def lines(self, name: str) -> list[str]:
        """Return the entry as lines of a `repr`."""

    @abstractmethod
    def rows(self, name: str) -> list[list[str]]:
        """Return the entry as rows of a table: name, range, scale, default and source."""


@dataclass(frozen=True)
class Entries:
    """Named entries in their order: those of a space, or of a choice's branch."""

    named: tuple[tuple[str, Entry], ...]

    @classmethod
    def of(cls, entries: Mapping[str, Entry]) -> Entries:
        """Return the entries, if each of their names means one thing.

        Raises:
            InvalidArgument: If a name occurs twice, as a trial's or as the trainer's.
        """
        seen: set[str] = set()
        for name, entry in entries.items():
            trial_names = (parameter.trial_name for parameter in entry.parameters(name))
            taken = {*entry.trainer_names(name), *entry.addresses(name), *trial_names}
            if seen & taken:
                raise InvalidArgument(
                    f"a name must mean one thing in a space, got {min(seen & taken)!r} twice, "
                    f"the second time from {name!r}"
                )
            seen |= taken
        return cls(tuple(entries.items()))

    def as_dict(self) -> dict[str, Entry]:
        """Return name -> entry."""
        return dict(self.named)

    def parameters(self) -> list[TrialParameter]:
        """Return all that trials may have."""
        return [each for name, entry in self.named for each in entry.parameters(name)]

    def trainer_names(self) -> list[str]:
        """Return every name that the trainer may be given, each once."""
        names = (each for name, entry in self.named for each in entry.trainer_names(name))
        return list(dict.fromkeys(names))

    def addresses(self) -> list[str]:
        """Return every name that `override` knows."""
        return [address for name, entry in self.named for address in entry.addresses(name)]

    def defaults(self) -> dict[str, Any]:
        """Return the default configuration by trainer name."""
        return merge(entry.defaults(name) for name, entry in self.named)

    def settled(self) -> dict[str, Any]:
        """Return the default of everything but choices, by address."""
        return merge(entry.settled(name) for name, entry in self.named)

    def sources(self) -> dict[str, str]:
        """Return where each range comes from, by address."""
        return merge(entry.sources(name) for name, entry in self.named)

    def draw(self, draw: Draw) -> dict[str, Any]:
        """Return trainer params; ``draw`` gives the value of a trial name and distribution."""
        return merge(entry.draw(name, draw) for name, entry in self.named)

    def take(self, params: dict[str, Any]) -> dict[str, Any]:
        """Pop all trainer names from ``params`` and return the trial's params."""
        return merge(entry.take(name, params) for name, entry in self.named)

    def complete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Pop all trial and trainer names from ``params`` and return trainer params."""
        return merge(entry.complete(name, params) for name, entry in self.named)

    def propose(self, params: dict[str, Any]) -> dict[str, Any]:
        """Pop trial and trainer names, some or all, from ``params``; return the trial's params."""
        return merge(entry.propose(name, params) for name, entry in self.named)

    def override(self, changes: Mapping[str, Any]) -> Entries:
        """Return the entries with ``changes`` (by address) made."""
        return Entries.of(merge(entry.override(name, changes) for name, entry in self.named))

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON-able values."""
        return {"parameters": [{"name": name, **entry.to_dict()} for name, entry in self.named]}

    def lines(self) -> list[str]:
        """Return the entries as lines of a `repr`."""
        return [line for name, entry in self.named for line in entry.lines(name)]

    def rows(self) -> list[list[str]]:
        """Return the entries as rows of a table: name, range, scale, default and source."""
        return [row for name, entry in self.named for row in entry.rows(name)]


class SingleEntry(Entry):
    """An entry that fills one trainer name, under which `override` reaches it, too."""

    def trainer_names(self, name: str) -> list[str]:
        return [name]

    def addresses(self, name: str) -> list[str]:
        return [name]

    def settled(self, name: str) -> dict[str, Any]:
        return self.defaults(name)


@dataclass(frozen=True)
class Fixed(SingleEntry):
    """A value that no trial changes."""

    value: Any

    @classmethod
    def at(cls, name: str, value: Any) -> Fixed:
        """Return a fixed value, as a plain Python scalar.

        Raises:
            InvalidArgument: If a number is not finite.
            InvalidType: If the value is not None, a bool, a number or a string.
        """
        return cls(plain_value(name, value))

    def parameters(self, name: str) -> list[TrialParameter]:
        return []

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

    def propose(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        return self.take(name, params)

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        if name not in changes:
            return {name: self}
        value = changes[name]
        if not is_spec(value):
            return {name: Fixed.at(name, value)}
        distribution = make_distribution(name, value)
        return {name: Range(distribution, _nearest(distribution, self.value), _OVERRIDDEN)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "fixed", "value": self.value}

    def lines(self, name: str) -> list[str]:
        return [f"{name} = {self.value!r}"]

    def rows(self, name: str) -> list[list[str]]:
        return [[name, repr(self.value), "fixed", "", ""]]


@dataclass(frozen=True)
class Range(SingleEntry):
    """A distribution with its default, its source and its prior.

    Attributes:
        distribution: What Optuna samples from, in trial units.
        default: The default in trainer units.
        source: Where the range comes from.
        one_minus: Whether the trial holds 1 - value instead of the value.
        prior: Where good values are expected, in trainer units; None if not known.
    """

    distribution: BaseDistribution
    default: Any
    source: str = ""
    one_minus: bool = False
    prior: Prior | None = None

    @classmethod
    def between(cls, distribution: BaseDistribution, source: str) -> Range:
        """Return a range whose default is its middle, or the first of its choices."""
        return cls(distribution, _middle(distribution), source)

    @classmethod
    def near_one(cls, name: str, spec: Any, source: str) -> Range:
        """Return a range whose trial holds 1 - value on a log scale.

        Args:
            name: The parameter, for messages.
            spec: (low, high) in trainer units, 0 <= low < high < 1; a third item "log" says the
                same.
            source: Where the range comes from.

        Raises:
            InvalidArgument: If the bounds are not inside [0, 1), or the range says "linear".
            InvalidType: If ``spec`` is not a pair of numbers.
        """
        low, high, scale = read_bounds(name, spec)
        if scale == "linear":
            raise InvalidArgument(
                f"a range sampled as 1 - value must have a log scale, got {spec!r} for {name!r}: "
                "leave the name out of `one_minus`"
            )
        if not 0 <= low < high < 1:
            raise InvalidArgument(
                f"a range sampled as 1 - value must lie in [0, 1), got {low=}, {high=} for {name!r}"
            )
        distribution = FloatDistribution(one_minus(high), one_minus(low), log=True)
        return cls(distribution, one_minus(_middle(distribution)), source, one_minus=True)

    def with_default(self, name: str, default: Any) -> Range:
        """Return the range with another default, in trainer units.

        Raises:
            InvalidArgument: If the default lies outside the range.
        """
        found = self.to_trial(f"defaults[{name!r}]", default)
        return replace(self, default=one_minus(found) if self.one_minus else found)

    def with_prior(self, name: str, prior: Prior) -> Range:
        """Return the range with a prior.

        Raises:
            InvalidArgument: If the range cannot have it.
        """
        broken = misfit(prior, self.distribution, is_one_minus=self.one_minus)
        if broken is not None:
            raise InvalidArgument(f"the prior of {name!r} {broken}")
        return replace(self, prior=prior)

    def with_prior_of(self, other: Range) -> Range:
        """Return the range with another one's prior where it means the same here, else without."""
        scale, others = (self.is_log, self.one_minus), (other.is_log, other.one_minus)
        if other.prior is None or scale != others:
            return self
        broken = misfit(other.prior, self.distribution, is_one_minus=self.one_minus)
        return self if broken is not None else replace(self, prior=other.prior)

    @property
    def is_log(self) -> bool:
        """Whether the range has a log scale, of the value or of 1 - value."""
        return bool(getattr(self.distribution, "log", False))

    def trial_name(self, name: str) -> str:
        """Return the name under which Optuna stores the parameter."""
        return f"one_minus_{name}" if self.one_minus else name

    def to_trial(self, name: str, value: Any) -> Any:
        """Return the trial's value for a trainer's value.

        Raises:
            InvalidArgument: If the value lies outside the range.
        """
        found = self._in_trial_units(value)
        if not contains(self.distribution, found):
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

    def parameters(self, name: str) -> list[TrialParameter]:
        trial_name = self.trial_name(name)
        return [
            TrialParameter(trial_name, name, name, self.distribution, self.one_minus, self.prior)
        ]

    def defaults(self, name: str) -> dict[str, Any]:
        return {name: self.default}

    def sources(self, name: str) -> dict[str, str]:
        return {name: self.source}

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        value = draw(self.trial_name(name), self.distribution)
        return {name: one_minus(value) if self.one_minus else value}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            raise InvalidArgument(f"`params` must have {name!r}, which is missing")
        return {self.trial_name(name): self.to_trial(name, params.pop(name))}

    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        trial_name = self.trial_name(name)
        if trial_name != name and trial_name in params:
            refuse_both(params, trial_name, name)
            return {name: one_minus(params.pop(trial_name))}
        return {name: params.pop(name)} if name in params else {}

    def propose(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        trial_name = self.trial_name(name)
        if trial_name != name and trial_name in params:
            refuse_both(params, trial_name, name)
            value = params.pop(trial_name)
            if not contains(self.distribution, value):
                raise InvalidArgument(
                    f"{trial_name!r} must be in {self.distribution}, got {value!r}"
                )
            return {trial_name: value}
        return self.take(name, params) if name in params else {}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        if name not in changes:
            return {name: self}
        value = changes[name]
        if not is_spec(value):
            return {name: Fixed.at(name, value)}
        if self.one_minus and isinstance(value, tuple) and value[2:] != ("linear",):
            moved = Range.near_one(name, value, _OVERRIDDEN)
            default = one_minus(_nearest(moved.distribution, one_minus(self.default)))
            return {name: replace(moved, default=default).with_prior_of(self)}
        distribution = make_distribution(name, value, like=self.distribution)
        made = Range(distribution, _nearest(distribution, self.default), _OVERRIDDEN)
        return {name: made.with_prior_of(self)}

    def to_dict(self) -> dict[str, Any]:
        # Only where there is one: spaces without priors are stored as they always were.
        prior = {} if self.prior is None else {"prior": self.prior.to_dict()}
        return {
            "kind": "range",
            "distribution": json.loads(distribution_to_json(self.distribution)),
            "default": self.default,
            "source": self.source,
            "one_minus": self.one_minus,
            **prior,
        }

    def lines(self, name: str) -> list[str]:
        prior = "" if self.prior is None else ", prior"
        return [f"{name}: {self._text()}, default {self.default!r}{prior}"]

    def rows(self, name: str) -> list[list[str]]:
        scale = self._scale().replace(" scale", "")
        prior = "" if self.prior is None else self.prior.words(is_log=self.is_log)
        said = "; ".join(part for part in (self.source, prior) if part)
        return [[name, self._range(), scale, _rounded(self.default), said]]

    def _in_trial_units(self, value: Any) -> Any:
        if not self.one_minus or not isinstance(value, Real):
            return value
        d = self.distribution
        assert isinstance(d, FloatDistribution)
        found = one_minus(value)
        bound = min(max(found, d.low), d.high)
        return bound if abs(found - bound) <= _SPACING_AT_ONE else found

    def _text(self) -> str:
        scale = self._scale()
        return f"{self._range()} ({scale})" if scale else self._range()

    def _range(self) -> str:
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return " | ".join(repr(choice) for choice in d.choices)
        assert isinstance(d, FloatDistribution | IntDistribution)
        if self.one_minus:
            return f"{one_minus(d.high)!r} .. {one_minus(d.low)!r}"
        return f"{d.low!r} .. {d.high!r}"

    def _scale(self) -> str:
        """Return how the range is drawn from; "" for a linear one without a step, and choices."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return ""
        assert isinstance(d, FloatDistribution | IntDistribution)
        if self.one_minus:
            return "log scale of 1 - value"
        if d.log:
            return "log scale"
        return f"step {d.step!r}" if d.step is not None and d.step != 1 else ""


def _rounded(value: Any) -> str:
    """Return a default for a reader: of the middle of a range not all of its 16 digits."""
    return f"{value:.6g}" if isinstance(value, float) and len(repr(value)) > 12 else repr(value)


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


def contains(distribution: BaseDistribution, value: Any) -> bool:
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
        return value if contains(d, value) else d.choices[0]
    assert isinstance(d, FloatDistribution | IntDistribution)
    if not isinstance(value, Real) or isinstance(value, bool):
        return _middle(d)
    clipped = min(max(float(value), d.low), d.high)
    if d.step is not None:
        clipped = d.low + round((clipped - d.low) / d.step) * d.step
    return int(clipped) if isinstance(d, IntDistribution) else float(clipped)
