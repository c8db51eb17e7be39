"""A row of a table of ranges: what is tuned, its default, and where both come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.search_space.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Tuned", "space_of"]


@dataclass(frozen=True)
class Tuned:
    """A range of one parameter, its default, and where both come from."""

    spec: Any
    default: Any
    source: str


def space_of(entries: Mapping[str, Any]) -> SearchSpace:
    """Return the space of a table of rows: name -> `Tuned`, or a fixed value.

    Example:
        >>> space_of({"rate": Tuned((0.0, 1.0), 0.5, "a paper"), "freq": 1})
        SearchSpace(
          rate: 0.0 .. 1.0, default 0.5
          freq = 1
        )
    """
    tuned = {name: entry for name, entry in entries.items() if isinstance(entry, Tuned)}
    return SearchSpace(
        {name: getattr(entry, "spec", entry) for name, entry in entries.items()},
        defaults={name: entry.default for name, entry in tuned.items()},
        sources={name: entry.source for name, entry in tuned.items()},
    )
