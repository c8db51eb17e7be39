"""A choice among search spaces, itself an entry of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from hpolab.errors import InvalidArgument, one_of
from hpolab.search_space.entries import Entry, Fixed, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution

    from hpolab.search_space.entries import Draw
    from hpolab.search_space.space import SearchSpace

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice(Entry):
    """A categorical parameter whose value decides which other parameters exist.

    Attributes:
        branches: Each value with the space that it brings; the first is the default.
    """

    branches: tuple[tuple[str, SearchSpace], ...]

    def branch(self, name: str, key: Any) -> SearchSpace:
        """Return the space that ``key`` brings."""
        branches = dict(self.branches)
        return branches[one_of(name, key, branches)]

    def names(self, name: str) -> set[str]:
        return {name}.union(*(branch._names() for _, branch in self.branches))

    def addresses(self, name: str) -> list[str]:
        return [name, *(f"{k}.{a}" for k, branch in self.branches for a in branch._addresses())]

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        return merge(
            [{name: self._distribution()}]
            + [_prefixed(key, branch.distributions()) for key, branch in self.branches]
        )

    def defaults(self, name: str) -> dict[str, Any]:
        key, branch = self.branches[0]
        return {name: key, **branch.defaults()}

    def sources(self, name: str) -> dict[str, str]:
        return merge(_prefixed(key, branch.sources()) for key, branch in self.branches)

    def draw(self, name: str, draw: Draw) -> dict[str, Any]:
        key = draw(name, self._distribution())
        branch = self.branch(name, key)
        return {name: key, **branch._draw(lambda n, d: draw(f"{key}.{n}", d))}

    def take(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name not in params:
            raise InvalidArgument(f"`params` must have {name!r}, which is missing")
        key = params.pop(name)
        return {name: key, **_prefixed(key, self.branch(name, key)._take(params))}

    def override(self, name: str, changes: Mapping[str, Any]) -> dict[str, Entry]:
        branches = {key: branch.override(**_below(key, changes)) for key, branch in self.branches}
        kept = changes.get(name, list(branches))
        if isinstance(kept, list):
            if not kept or len(set(kept)) < len(kept):
                raise InvalidArgument(
                    f"a choice must keep branches once, got {kept!r} for {name!r}"
                )
            return {name: Choice(tuple((one_of(name, k, branches), branches[k]) for k in kept))}
        return {name: Fixed(one_of(name, kept, branches)), **dict(branches[kept]._entries)}

    def to_dict(self) -> dict[str, Any]:
        branches = [{"value": key, **branch.to_dict()} for key, branch in self.branches]
        return {"kind": "choice", "branches": branches}

    def lines(self, name: str) -> list[str]:
        keys = " | ".join(repr(key) for key, _ in self.branches)
        return [f"{name}: {keys}, default {self.branches[0][0]!r}"] + [
            f"  {key}.{line}" for key, branch in self.branches for line in branch._lines()
        ]

    def _distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution([key for key, _ in self.branches])


def _prefixed(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{key}.{name}": value for name, value in values.items()}


def _below(key: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(f"{key}."): value
        for name, value in changes.items()
        if name.startswith(f"{key}.")
    }
