"""A row of a table of ranges: what is tuned, its default, and where both come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.search_space.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.prior import Prior

__all__ = ["Row", "space_of"]


@dataclass(frozen=True)
class Row:
    """What is tuned of one parameter of a trainer, its default, and where both come from.

    Attributes:
        spec: The range or the choices, as `SearchSpace` takes them.
        default: The trainer's own default, or one that the source gives.
        source: A paper, a library's documentation, or a rule.
        one_minus: Whether trials hold 1 - value on a log scale.
        only_if: (argument, values): tuned only where that argument of the trainer has one of these
            values, its default among them as the first; else it would change nothing, or be
            refused. None: always.
        prior: Where good values are expected, from a published tuning; None where none was found.
    """

    spec: Any
    default: Any
    source: str
    one_minus: bool = False
    only_if: tuple[str, tuple[Any, ...]] | None = None
    prior: Prior | None = None

    def applies_to(self, given: Mapping[str, Any]) -> bool:
        """Tell whether the parameter matters to a trainer with the arguments ``given``.

        Example:
            >>> gamma = Row((0.1, 1.0), 0.5, "a paper", only_if=("kernel", ("rbf", "poly")))
            >>> gamma.applies_to({}), gamma.applies_to({"kernel": "linear"})
            (True, False)
        """
        if self.only_if is None:
            return True
        argument, values = self.only_if
        return given.get(argument, values[0]) in values


def space_of(table: Mapping[str, Any]) -> SearchSpace:
    """Return the search space of a table: name -> `Row`, or a fixed value.

    Example:
        >>> space_of({"rate": Row((0.01, 1.0, "log"), 0.5, "a paper"), "freq": 1})
        SearchSpace(
          rate: 0.01 .. 1.0 (log scale), default 0.5
          freq = 1
        )
    """
    rows = {name: row for name, row in table.items() if isinstance(row, Row)}
    return SearchSpace(
        {name: row.spec if isinstance(row, Row) else row for name, row in table.items()},
        defaults={name: row.default for name, row in rows.items()},
        sources={name: row.source for name, row in rows.items()},
        one_minus=[name for name, row in rows.items() if row.one_minus],
        priors={name: row.prior for name, row in rows.items() if row.prior is not None},
    )
