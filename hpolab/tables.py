"""Tables as plain text, for a terminal, and as HTML, for a notebook."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.errors import needs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["TextTable", "frame_of", "printable"]

_GAP = "  "
_FEWEST_COLUMNS = 3
_NUMBER = re.compile(r"[-+<>]?\s?(\d[\d,]*\.?\d*([eE][-+]?\d+)?( %)?|∞)|NaN|-|")


@dataclass(frozen=True)
class TextTable:
    """A table of texts; its first column names the rows.

    Attributes:
        head: The columns' headings.
        rows: Cells as text, as many as headings.
        strong: Places of rows to emphasize.
        note: A remark below the table.
        may_be_cut: Whether a terminal may leave out the last columns if it is too narrow.
        width: Columns that the text takes at most where nothing else is asked for; None for as many
            as it needs.

    Example:
        >>> print(TextTable(["name", "value"], [["lr", "0.1"], ["weight_decay", "0.02"]]))
        name          value
        ───────────────────
        lr              0.1
        weight_decay   0.02
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    note: str = ""
    may_be_cut: bool = False
    width: int | None = None

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int | None = None) -> str:
        """Return the table as aligned lines: numbers to the right, everything else to the left.

        Args:
            width: Columns of the terminal: cells are wrapped to fit; None for the table's own.
        """
        width = self.width if width is None else width
        cells = [[printable(cell) for cell in row] for row in (self.head, *self.rows)]
        n_columns = len(self.head)
        if self.may_be_cut and width is not None:
            n_columns = _n_fitting(cells, width)
        cells = [row[:n_columns] for row in cells]
        widths = _widths(cells, width)
        is_number = [
            all(_NUMBER.fullmatch(cell) for cell in column)
            for column in zip(*cells[1:])  # noqa: B905
        ] or [False] * n_columns
        head, *lines = [_lines(row, widths, is_number) for row in cells]
        rule = "─" * (sum(widths) + len(_GAP) * (n_columns - 1))
        left_out = len(self.head) - n_columns
        columns = "column" if left_out == 1 else "columns"
        more = [f"({left_out} more {columns} in the HTML report)"] if left_out else []
        notes = textwrap.wrap(printable(self.note), width) if width else [printable(self.note)]
        return "\n".join(
            [*head, rule, *(line for row in lines for line in row), *more, *filter(None, notes)]
        )

    def to_html(self) -> str:
        """Return the table as HTML with all texts escaped."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        rows = "".join(
            f"<tr>{_html_cells(row, is_strong=place in self.strong)}</tr>"
            for place, row in enumerate(self.rows)
        )
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


def printable(text: str) -> str:
    """Return text without what a terminal would take for a command, such as an escape sequence."""
    return "".join(char if char.isprintable() else "�" for char in text)


def frame_of(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a pandas frame with one row for each record.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    with needs("`to_frame`", "pandas", "frames"):
        import pandas as pd
    return pd.DataFrame.from_records(list(map(dict, records)))


def _n_fitting(cells: Sequence[Sequence[str]], width: int) -> int:
    """Return how many columns fit, three at least."""
    used = 0
    for place, column in enumerate(zip(*cells, strict=True)):
        used += max(map(len, column)) + len(_GAP)
        if used > width + len(_GAP):
            return max(_FEWEST_COLUMNS, place)
    return len(cells[0])


def _widths(cells: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Return the columns' widths; the widest give way where there is no room for all."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        room = width - len(_GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> list[str]:
    """Return a row as lines: one, or several where a cell has to be wrapped."""
    wrapped = [
        [cell] if len(cell) <= width else textwrap.wrap(cell, width)
        for cell, width in zip(row, widths, strict=True)
    ]
    height = max(map(len, wrapped))
    columns = [cell + [""] * (height - len(cell)) for cell in wrapped]
    return [
        _GAP.join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, is_number, strict=True)
        ).rstrip()
        for texts in zip(*columns, strict=True)
    ]


def _html_cells(row: Sequence[str], *, is_strong: bool) -> str:
    cells = [html.escape(cell) for cell in row]
    if is_strong:
        cells = [f"<strong>{cell}</strong>" for cell in cells]
    return "".join(f"<td>{cell}</td>" for cell in cells)
