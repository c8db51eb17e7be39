"""A document as plain text for a shell."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from hpolab.report.blocks import Answer, Columns, FieldList, Plot, Snippets, Text, Tiles
from hpolab.tables import TextTable, printable

if TYPE_CHECKING:
    from hpolab.report.blocks import Block, Document

__all__ = ["text_of"]


def text_of(document: Document, *, width: int) -> str:
    """Return the sections of a document that are meant for a terminal.

    Args:
        document: The document.
        width: Columns: tables are cut to fit, sentences wrapped.
    """
    lines = [document.title, *textwrap.wrap(document.subtitle, width)]
    for section in document.sections:
        if section.for_terminal:
            lines += ["", section.title.upper()]
            shown = [found for block in section.blocks if (found := _lines(block, width))]
            for place, found in enumerate(shown):
                lines += found if place == 0 else ["", *found]
    return "\n".join(printable(line).rstrip() for line in lines)


def _lines(block: Block, width: int) -> list[str]:
    match block:
        case Answer():
            paragraphs = (block.headline, *block.paragraphs)
            return [line for words in paragraphs for line in textwrap.wrap(words, width)]
        case Columns():
            return [line for each in block.blocks for line in _lines(each, width)]
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
        case TextTable():
            return block.to_text(width).split("\n")
        case Plot():
            return [block.text] if block.text else []
        case Snippets():
            return [
                f"{block.title}:",
                *(line for note in block.notes for line in _indented(note, width)),
                f"  {block.line}",
            ]
        case FieldList():
            return [f"{name}: {words}" for name, words in block.rows]
        case _:
            return []


def _indented(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ")
