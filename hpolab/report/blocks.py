"""What a report is made of, before it is HTML or text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.report.figures import Figure

__all__ = [
    "Block",
    "Details",
    "Document",
    "FieldList",
    "Plot",
    "Plots",
    "Section",
    "Snippets",
    "Text",
    "Tiles",
]


@dataclass(frozen=True)
class Text:
    """Paragraphs. ``tone`` is "" for text, "good" or "finding" for results, "note" for asides."""

    paragraphs: Sequence[str]
    tone: str = ""


@dataclass(frozen=True)
class Tiles:
    """Key figures: name, figure, and a hint."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when it is needed.

    Attributes:
        name: Its name within the report, and of its file if it is saved.
        title: What it shows.
        draw: Draws it.
        note: A remark below it, such as how many trials it leaves out.
        wide: Whether it needs more width than a phone has, and scrolls sideways there.
        text: What a terminal shows instead; "" for nothing.
    """

    name: str
    title: str
    draw: Callable[[], Figure]
    note: str = ""
    wide: bool = False
    text: str = ""


@dataclass(frozen=True)
class Plots:
    """Small figures side by side, with one legend for all: name -> color."""

    plots: Sequence[Plot]
    legend: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Snippets:
    """A configuration to copy in several notations: notation -> text; one line for a terminal."""

    title: str
    notes: Sequence[str]
    texts: Mapping[str, str]
    line: str


@dataclass(frozen=True)
class FieldList:
    """Names and their values."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Long text that is folded until a reader opens it."""

    title: str
    text: str


Block = Text | Tiles | TextTable | Plot | Plots | Snippets | FieldList | Details


@dataclass(frozen=True)
class Section:
    """A part of a report: ``anchor`` is its name in the page; a terminal shows some parts only."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    for_terminal: bool = False


@dataclass(frozen=True)
class Document:
    """A report: its title, the line below the title, and its sections."""

    title: str
    subtitle: str
    sections: Sequence[Section]

    def plots(self) -> list[Plot]:
        """Return all figures, in order."""
        found: list[Plot] = []
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Plot):
                    found.append(block)
                elif isinstance(block, Plots):
                    found += block.plots
        return found
