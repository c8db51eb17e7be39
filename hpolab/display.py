"""What a value looks like as the last line of a cell: short as text, a table in a notebook."""

from __future__ import annotations

import abc
import html
from typing import TYPE_CHECKING

from hpolab.tables import TextTable, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Displayed", "named_values"]

# What one line of a terminal, or of a list of such values, has room for.
_MOST_CHARS = 200

# Cells that hold text are read from the left; Jupyter puts all to the right. Colors are the
# notebook's own, so that a dark one stays readable.
_STYLE = "<style>.hpolab-table th, .hpolab-table td {text-align: left}</style>"


class Displayed(abc.ABC):
    """A value that describes itself: `repr` in a line, `str` for a terminal, HTML for a notebook.

    A dataclass that extends it says ``@dataclass(repr=False)``.
    """

    @abc.abstractmethod
    def _in_one_line(self) -> str:
        """Return what the value is, in one line, without its class."""

    def _parts(self) -> Sequence[str | TextTable]:
        """Return paragraphs and tables in order; each line of a paragraph is a sentence or two."""
        return [f"{type(self).__name__}: {self._in_one_line()}"]

    def __repr__(self) -> str:
        line = printable(self._in_one_line().replace("\n", " "))
        if len(line) > _MOST_CHARS:
            line = f"{line[: _MOST_CHARS - 1]}…"
        return f"<{type(self).__name__}: {line}>"

    def __str__(self) -> str:
        return "\n\n".join(_text_of(part) for part in self._parts())

    def _repr_html_(self) -> str:
        return "".join(_html_of(part) for part in self._parts())


def named_values(values: Sequence[tuple[str, str]], note: str = "") -> TextTable:
    """Return a table of names and their values."""
    return TextTable(["", "value"], [list(pair) for pair in values], note=note)


def _text_of(part: str | TextTable) -> str:
    if isinstance(part, TextTable):
        return part.to_text()
    return "\n".join(map(printable, part.split("\n")))


def _html_of(part: str | TextTable) -> str:
    if isinstance(part, TextTable):
        # A table that is wider than the cell scrolls in it.
        return f'{_STYLE}<div class="hpolab-table" style="overflow-x: auto">{part.to_html()}</div>'
    return "".join(f"<p>{html.escape(line)}</p>" for line in part.split("\n"))
