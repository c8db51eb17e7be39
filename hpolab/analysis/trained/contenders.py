"""What `compare` tunes for each contender: names, spaces and dicts of ranges become objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.logs import get_logger
from hpolab.objectives.base import Objective
from hpolab.search_space.near import meant_name
from hpolab.search_space.reach import choices_of, values_of
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.torch.optimizers import OPTIMIZER_ROWS, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["objectives_of"]

_logger = get_logger(__name__)


def objectives_of(objective: Any, contenders: Any) -> dict[str, Objective]:
    """Return an objective for each contender of a comparison.

    Raises:
        InvalidArgument: If there is no contender, one has a name that is unknown or that it does
            not train, or a parameter that was misspelled; or directions differ.
        InvalidType: If an objective or a contender is of the wrong type.
    """
    if isinstance(contenders, str) or not len(contenders):
        raise InvalidArgument(f"`contenders` must be several, got {contenders!r}.")
    if objective is not None and not isinstance(objective, Objective):
        raise InvalidType(f"`objective` must be an Objective, got {type(objective).__name__}.")
    if not isinstance(contenders, dict):
        contenders = {name: _optimizer_of(objective, name) for name in contenders}
    made = {}
    for name, each in contenders.items():
        if isinstance(each, Mapping) and objective is not None:
            each = _tuning_only(objective, name, each)
        if isinstance(each, SearchSpace) and objective is not None:
            each = objective.with_search_space(each)
        if not isinstance(each, Objective):
            raise InvalidType(
                "`contenders` must be names of optimizers, search spaces with an `objective`, or "
                f"objectives, got {type(each).__name__} for {name!r}."
            )
        _check_name(name, each)
        made[str(name)] = each
    directions = {each.direction for each in made.values()}
    if len(directions) > 1:
        raise InvalidArgument("`contenders` must have one direction, got both.")
    return made


def _tuning_only(objective: Objective, name: str, ranges: Mapping[str, Any]) -> SearchSpace:
    """Return a space in which ``ranges`` are tuned and all else stays at its default.

    Under an optimizer's name it is the objective's space with that optimizer.
    """
    space = objective.search_space
    optimizer = _plain(name)
    if optimizer in OPTIMIZER_ROWS and "optimizer" not in ranges and _has_optimizer(objective):
        if values_of(space, "optimizer") != {optimizer}:
            space = _optimizer_of(objective, optimizer)
        while choices := choices_of(space):  # such as a schedule: one of them, as all else
            kept = {**space.defaults(), **ranges}
            space = space.override(**{each: kept[each] for each in choices})
        ranges = {each: spec for each, spec in ranges.items() if spec != space.defaults().get(each)}
    if space.conditional:  # no name says which branch is meant
        return as_space("contenders", ranges)
    defaults = space.defaults()
    changes = defaults | {each: spec for each, spec in ranges.items() if each in defaults}
    added = {each: spec for each, spec in ranges.items() if each not in defaults}
    known = [*defaults, *objective._known_names()]
    for each in added.keys() - set(known):
        meant = meant_name(each, known)
        if meant is not None:
            raise InvalidArgument(
                f"`contenders` must name parameters of the objective, got {each!r} for {name!r}. "
                f"Did you mean {meant!r}? A parameter that is meant to be new is given in a "
                "SearchSpace."
            )
        _logger.warning(
            f"Contender {name!r} tunes {each!r}, which the objective's search space has not: its "
            "trainer must read it."
        )
    return space.override(**changes) | added


def _optimizer_of(objective: Any, name: str) -> SearchSpace:
    """Return the objective's space with another optimizer in the place of its own."""
    one_of("contenders", name, OPTIMIZER_ROWS)
    if objective is None:
        raise InvalidType(
            f"`objective` must be an Objective where contenders are optimizers, got None for "
            f"{name!r}."
        )
    space = objective.search_space
    present = space.defaults().get("optimizer")
    if present is None:
        raise InvalidArgument(
            "`objective` must have a search space with an 'optimizer' where contenders are "
            f"optimizers, got the parameters {sorted(space.defaults())}."
        )
    if "optimizer" in space.distributions():  # a choice, each with its branch
        if name in values_of(space, "optimizer"):
            settled: SearchSpace = space.override(optimizer=name)
            return settled
        others: SearchSpace = space.without(["optimizer"])
        return others | optimizer_space(name)
    rest: SearchSpace = space.without(optimizer_space(present).defaults())
    return rest | optimizer_space(name)


def _check_name(name: str, objective: Objective) -> None:
    """Refuse a contender that is called what it does not train; warn of one that is nearly so."""
    kinds: dict[str, tuple[Collection[Any], Collection[str]]] = dict(objective._trained())
    if _has_optimizer(objective):
        kinds["optimizer"] = (values_of(objective.search_space, "optimizer"), OPTIMIZER_ROWS)
    trained = {_plain(each) for mine, _ in kinds.values() for each in mine}
    words = _plain(name).split("_")
    for kind, (mine, known) in kinds.items():
        got = " or ".join(sorted(map(repr, mine)))
        others = {_plain(each): each for each in known if _plain(each) not in trained}
        if _plain(name) in others:
            raise InvalidArgument(
                f"`contenders` must not be called what they do not train, got {name!r}, whose "
                f"{kind} is {got}. {_way(kind, others[_plain(name)])}"
            )
        if trained.isdisjoint([_plain(name), *words]) and others.keys() & set(words):
            _logger.warning(f"Contender {name!r} trains {kind} {got}, whatever its name says.")


def _way(kind: str, name: str) -> str:
    """Return how a contender trains what it is called."""
    if kind == "optimizer":
        return (
            f"Give a dict of ranges without 'optimizer', or optimizer_space({name!r}).override(...)"
            ", or another name."
        )
    if kind == "trainer":
        return f"Give the RecommenderObjective of {name!r} as the contender, or another name."
    return f"Give {kind!r}: {name!r} among its parameters, or another name."


def _has_optimizer(objective: Objective) -> bool:
    """Return whether an objective trains with optimizers of `optimizer_space`."""
    return values_of(objective.search_space, "optimizer") <= set(OPTIMIZER_ROWS)


def _plain(name: Any) -> str:
    """Return a name as hpolab spells its own: "AdamW" and "Adam-AMSGrad" are "adamw" and so on."""
    return str(name).lower().replace("-", "_").replace(" ", "_")
