"""Which values of a choice a parameter can stand beside: what an optimizer's name reaches."""

from __future__ import annotations

from collections import Counter
from numbers import Real
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from hpolab.errors import InvalidArgument
from hpolab.search_space.choice import Choice
from hpolab.search_space.entries import Fixed, Range, contains
from hpolab.search_space.ranges import one_minus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.distributions import BaseDistribution

    from hpolab.search_space.entries import Entries, Entry
    from hpolab.search_space.space import SearchSpace

__all__ = [
    "choices_of",
    "conditions_of",
    "corners",
    "filled",
    "in_trial_names",
    "values_beside",
    "values_of",
]


def values_of(space: SearchSpace, name: str) -> frozenset[Any]:
    """Return every value that a trial of a space may have of a fixed value or a choice.

    Args:
        space: The space.
        name: The trainer's name of it, such as ``"optimizer"``.

    Returns:
        None is among them if the space does not always have it. Of a range of numbers, its ends.

    Example:
        >>> from hpolab import optimizer_space
        >>> sorted(values_of(optimizer_space(["sgd", "adam"]), "optimizer"))
        ['adam', 'sgd']
        >>> values_of(optimizer_space("adam"), "schedule")
        frozenset({None})
    """
    return _values(space._entries, name) or frozenset([None])


def values_beside(space: SearchSpace, name: str) -> dict[str, dict[str, frozenset[Any]]]:
    """Return, for each parameter, the values of a choice that it can stand beside.

    Args:
        space: The space.
        name: The trainer's name of the choice, such as ``"optimizer"``.

    Returns:
        Trainer name -> address -> values of the choice; a parameter of two branches has two
        addresses. None is among the values where the choice may be missing.

    Example:
        >>> from hpolab import SearchSpace
        >>> space = SearchSpace.choice("optimizer", {"adam": {"lr": (0.1, 1.0)}, "sgd": {"m": 1}})
        >>> beside = values_beside(space | {"hidden": 4}, "optimizer")
        >>> beside["lr"], sorted(beside["hidden"]["hidden"])
        ({'adam.lr': frozenset({'adam'})}, ['adam', 'sgd'])
    """
    found: dict[str, dict[str, frozenset[Any]]] = {}
    for address, trainer_name, values in _walk(space._entries, name, values_of(space, name), ""):
        found.setdefault(trainer_name, {})[address] = values
    return found


def choices_of(space: SearchSpace) -> list[str]:
    """Return the names whose values decide which other parameters a space has.

    Example:
        >>> from hpolab import optimizer_space
        >>> choices_of(optimizer_space(["sgd", "adam"])), choices_of(optimizer_space("sgd"))
        (['optimizer'], [])
    """
    return [name for name, entry in space._entries.named if isinstance(entry, Choice)]


def filled(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trial params nearest to those of another space: what they lack is at its default.

    Names that the space lacks are left out. A name of the trainer's is taken where the trial's is
    missing, if it means one parameter alone.

    Args:
        space: The space.
        params: Trial or trainer params.

    Raises:
        InvalidArgument: If a value is outside its range, or a choice is not in the space.

    Example:
        >>> from hpolab import SearchSpace
        >>> ranges = {"lr": (0.1, 1.0), "rho": (0.5, 0.9)}
        >>> space = SearchSpace(ranges, defaults={"rho": 0.8}, one_minus=["rho"])
        >>> filled(space, {"lr": 0.2, "width": 8}), filled(space, {"lr": 0.2, "rho": 0.75})
        ({'lr': 0.2, 'one_minus_rho': 0.2}, {'lr': 0.2, 'one_minus_rho': 0.25})
    """
    known = _trial_defaults(space) | in_trial_names(space, params)
    found: dict[str, Any] = {}

    def draw(name: str, distribution: BaseDistribution) -> Any:
        found[name] = known[name]
        if not contains(distribution, known[name]):
            raise InvalidArgument(f"{name!r} must be in {distribution}, got {known[name]!r}")
        return known[name]

    space._entries.draw(draw)
    return found


def in_trial_names(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some params that a space has, by its trial names.

    A trainer's name that several branches share means none of them.
    """
    names = space.names()
    n_of = Counter(names.values())
    found = {}
    for trial_name, name in names.items():
        if trial_name in params:
            found[trial_name] = params[trial_name]
        elif name in params and n_of[name] == 1:
            value = params[name]
            near_one = space.is_one_minus(trial_name) and isinstance(value, Real)
            found[trial_name] = one_minus(value) if near_one else value
    return found


def _trial_defaults(space: SearchSpace) -> dict[str, Any]:
    """Return the default of each parameter that trials may have, those of all branches included."""
    settled = space._entries.settled()
    defaults = {}
    for each in space._entries.parameters():
        if each.address in settled:
            value = settled[each.address]
            defaults[each.trial_name] = one_minus(value) if each.is_one_minus else value
        else:  # a choice, whose first branch is the default
            assert isinstance(each.distribution, CategoricalDistribution)
            defaults[each.trial_name] = each.distribution.choices[0]
    return defaults


def corners(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield trainer params that have each choice of each categorical parameter somewhere.

    Numbers are at the low ends of their ranges, then at the high ends.

    Example:
        >>> from hpolab import SearchSpace
        >>> list(corners(SearchSpace({"n": (1, 3), "act": ["relu", "elu"]})))[:3]
        [{'n': 1, 'act': 'relu'}, {'n': 1, 'act': 'elu'}, {'n': 3, 'act': 'relu'}]
    """
    choices = [getattr(each, "choices", ()) for each in space.distributions().values()]
    for end in ("low", "high"):
        for i in range(max(map(len, choices), default=1) or 1):

            def draw(_: str, distribution: BaseDistribution, i: int = i, end: str = end) -> Any:
                if isinstance(distribution, CategoricalDistribution):
                    return distribution.choices[i % len(distribution.choices)]
                return getattr(distribution, end)

            yield space._entries.draw(draw)


def _values(entries: Entries, name: str) -> frozenset[Any]:
    """Return the values of a choice that some entries settle; none if they do not settle it."""
    own = dict(entries.named)
    if name in own:
        return _values_of_entry(own[name])
    for entry in own.values():
        if isinstance(entry, Choice):
            parts = [_values(branch, name) for _, branch in entry.branches]
            if any(parts):
                return frozenset().union(*(part or {None} for part in parts))
    return frozenset()


def _values_of_entry(entry: Entry) -> frozenset[Any]:
    if isinstance(entry, Fixed):
        return frozenset([entry.value])
    if isinstance(entry, Choice):
        return frozenset(key for key, _ in entry.branches)
    assert isinstance(entry, Range)
    d = entry.distribution
    ends = d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)  # type: ignore[attr-defined]
    return frozenset(ends)


def _walk(
    entries: Entries, name: str, values: frozenset[Any], prefix: str
) -> Iterator[tuple[str, str, frozenset[Any]]]:
    """Yield each parameter's address, trainer name, and the values of a choice beside it."""
    for own, entry in entries.named:
        yield f"{prefix}{own}", own, values
        if isinstance(entry, Choice):
            for key, branch in entry.branches:
                below = frozenset([key]) if own == name else _values(branch, name) or values
                yield from _walk(branch, name, below, f"{prefix}{key}.")


def conditions_of(space: SearchSpace) -> dict[str, tuple[tuple[str, frozenset[Any]], ...]]:
    """Return what must be chosen for each of a trial's parameters to exist.

    Returns:
        Trial name -> (trial name of a choice, its values), all of which must hold; of a parameter
        that every trial has, none.

    Example:
        >>> from hpolab import optimizer_space
        >>> conditions_of(optimizer_space(["sgd", "adadelta"]))["sgd.lr"]
        (('optimizer', frozenset({'sgd'})),)
    """
    return dict(_conditions(space._entries, "", ()))


def _conditions(
    entries: Entries, prefix: str, held: tuple[tuple[str, frozenset[Any]], ...]
) -> Iterator[tuple[str, tuple[tuple[str, frozenset[Any]], ...]]]:
    for name, entry in entries.named:
        if isinstance(entry, Range):
            yield f"{prefix}{entry.trial_name(name)}", held
        if isinstance(entry, Choice):
            yield f"{prefix}{name}", held
            for key, branch in entry.branches:
                chosen = (f"{prefix}{name}", frozenset([key]))
                yield from _conditions(branch, f"{prefix}{key}.", (*held, chosen))
