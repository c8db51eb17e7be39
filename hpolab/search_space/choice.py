"""A choice: a parameter whose value decides which other parameters exist."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, json_to_distribution

from hpolab.errors import InvalidArgument, one_of
from hpolab.search_space.entries import (
    Entries,
    Entry,
    Fixed,
    Range,
    TrialParameter,
    merge,
    refuse_both,
)
from hpolab.search_space.prior import Prior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.entries import Draw

__all__ = ["Choice", "read_entries"]


@dataclass(frozen=True)
class Choice(Entry):
    """A categorical parameter whose value decides which other parameters exist.

    Attributes:
        branches: Each value with the entries that it brings; the first is the default.
    """

    branches: tuple[tuple[str, Entries], ...]

    def branch(self, name: str, key: Any) -> Entries:
        """Return the entries that ``key`` brings."""
        branches = dict(self.branches)
        return branches[one_of(name, key, branches)]

    def parameters(self, name: str) -> list[TrialParameter]:
        distribution = CategoricalDistribution([key for key, _ in self.branches])
        below = [
            replace(each, trial_name=f"{key}.{each.trial_name}", address=f"{key}.{each.address}")
            for key, branch in self.branches
            for each in branch.parameters()
        ]
        return [TrialParameter(name, name, name, distribution), *below]

    def trainer_names(self, name: str) -> list[str]:
        return [name, *(each for _, branch in self.branches for each in branch.trainer_names())]

    def addresses(self, name: str) -> list[str]:
        return [name, *(f"{k}.{a}" for k, branch in self.branches for a in branch.addresses())]

    def defaults(self, name: str) -> dict[str, Any]:
        key, branch = self.branches[0]
        return {name: key, **branch.defaults()}

    def settled(self, name: str) -> dict[str, Any]:
        return merge(_prefixed(key, branch.settled()) for key, branch in self.branches)

    def sources(self, name: str) -> dict[str, str]:
        return merge(_prefixed(key, branch.sources()) for key, branch in self.branches)

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        key = draw(name, CategoricalDistribution([key for key, _ in self.branches]))
        branch = self.branch(name, key)
        return {name: key, **branch.draw(lambda n, d: draw(f"{key}.{n}", d))}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            raise InvalidArgument(f"`params` must have {name!r}, which is missing")
        key = params.pop(name)
        return {name: key, **_prefixed(key, self.branch(name, key).take(params))}

    def complete(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            return {}
        key = params.pop(name)
        branch = self.branch(name, key)
        _unprefix(key, params)
        return {name: key, **branch.complete(params)}

    def propose(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            return {}
        key = params.pop(name)
        branch = self.branch(name, key)
        _unprefix(key, params)
        return {name: key, **_prefixed(key, branch.propose(params))}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        branches = {key: branch.override(_below(key, changes)) for key, branch in self.branches}
        kept = changes.get(name, list(branches))
        if isinstance(kept, list):
            if not kept or len(set(kept)) < len(kept):
                raise InvalidArgument(
                    f"a choice must keep branches once, got {kept!r} for {name!r}"
                )
            return {name: Choice(tuple((one_of(name, k, branches), branches[k]) for k in kept))}
        return {name: Fixed(one_of(name, kept, branches)), **branches[kept].as_dict()}

    def to_dict(self) -> dict[str, Any]:
        branches = [{"value": key, **branch.to_dict()} for key, branch in self.branches]
        return {"kind": "choice", "branches": branches}

    def lines(self, name: str) -> list[str]:
        keys = " | ".join(repr(key) for key, _ in self.branches)
        return [f"{name}: {keys}, default {self.branches[0][0]!r}"] + [
            f"  {key}.{line}" for key, branch in self.branches for line in branch.lines()
        ]

    def rows(self, name: str) -> list[list[str]]:
        keys = " | ".join(repr(key) for key, _ in self.branches)
        return [[name, keys, "", repr(self.branches[0][0]), ""]] + [
            [f"{key}.{below}", *cells]
            for key, branch in self.branches
            for below, *cells in branch.rows()
        ]


def read_entries(values: Mapping[str, Any]) -> Entries:
    """Return the entries that `Entries.to_dict` wrote."""
    return Entries.of({row["name"]: _read(row) for row in values["parameters"]})


def _read(row: Mapping[str, Any]) -> Entry:
    kind = one_of("kind", row["kind"], ["choice", "fixed", "range"])
    if kind == "fixed":
        return Fixed(row["value"])
    if kind == "choice":
        return Choice(tuple((branch["value"], read_entries(branch)) for branch in row["branches"]))
    distribution = json_to_distribution(json.dumps(row["distribution"]))
    # Not known to earlier versions, and only there if it is known.
    prior = Prior(**row["prior"]) if "prior" in row else None
    return Range(distribution, row["default"], row["source"], row["one_minus"], prior)


def _prefixed(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{key}.{name}": value for name, value in values.items()}


def _unprefix(key: str, params: dict[str, Any]) -> None:
    """Rename ``adam.lr`` in params to ``lr``, if that is not there too."""
    for below, value in _below(key, params).items():
        refuse_both(params, f"{key}.{below}", below)
        params[below] = value
        del params[f"{key}.{below}"]


def _below(key: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(f"{key}."): value
        for name, value in changes.items()
        if name.startswith(f"{key}.")
    }
