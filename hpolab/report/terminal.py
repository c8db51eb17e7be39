"""A document as plain text for a shell."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

from hpolab.report.blocks import Fields, Plot, Snippets, Table, Text, Tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.report.blocks import Block, Document

__all__ = ["text_of"]

_GAP = 3  # between two columns


def text_of(document: Document, *, width: int) -> str:
    """Return those sections of a document that are for a terminal.

    Args:
        document: The document.
        width: Columns; tables are cut to it, sentences wrapped.
    """
    lines = [document.title, *textwrap.wrap(document.subtitle, width)]
    for section in document.sections:
        if section.for_terminal:
            lines += ["", section.title.upper()]
            for block in section.blocks:
                lines += _lines(block, width)
    return "\n".join(_printable(line).rstrip() for line in lines)


def _lines(block: Block, width: int) -> list[str]:
    match block:
        case Text():
            return [line for words in block.paragraphs for line in textwrap.wrap(words, width)]
        case Tiles():
            longest = max(len(name) for name, _, _ in block.tiles)
            said = [f"{name:{longest}}  {shown}  ({hint})" for name, shown, hint in block.tiles]
            indent = " " * (longest + 2)
            return [
                line
                for words in said
                for line in textwrap.wrap(words, width, subsequent_indent=indent)
            ]
        case Table():
            return [*_table(block, width), *textwrap.wrap(block.note, width)]
        case Plot():
            return [block.text] if block.text else []
        case Snippets():
            return [
                f"{block.title}:",
                *(line for note in block.notes for line in _indented(note, width)),
                f"  {block.line}",
            ]
        case Fields():
            return [f"{name}: {words}" for name, words in block.rows]
        case _:
            return []


def _indented(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ")


def _table(table: Table, width: int) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text as Cell

    n = _n_fitting(table, width) if table.may_be_cut else len(table.head)
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in table.head[:n]:
        drawn.add_column(Cell(_printable(heading)), overflow="fold")
    for row in table.rows:
        drawn.add_row(*_cells(row[:n]))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, highlight=False).print(drawn)
    left_out = len(table.head) - n
    more = [f"({left_out} more columns in the HTML report)"] if left_out > 0 else []
    return [*text.getvalue().rstrip("\n").split("\n"), *more]


def _n_fitting(table: Table, width: int) -> int:
    """Return how many columns fit, three at least."""
    used = 0
    for place, column in enumerate(zip(table.head, *table.rows, strict=True)):
        used += max(map(len, column)) + _GAP
        if used > width + _GAP:
            return max(3, place)
    return len(table.head)


def _cells(row: Sequence[str]) -> list[str]:
    from rich.markup import escape

    return [escape(_printable(cell)) for cell in row]


def _printable(text: str) -> str:
    """Return text without what a terminal would take for a command, such as an escape sequence."""
    return "".join(char if char.isprintable() else "�" for char in text)
