"""What a report is made of, before it is HTML or text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.report.figures import Figure

__all__ = [
    "Block",
    "Details",
    "Document",
    "Fields",
    "Plot",
    "Plots",
    "Section",
    "Snippets",
    "Table",
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
    """Key figures: what it is, the figure, and what to know about it."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        head: The columns' headings.
        rows: Cells as text, as many as headings.
        strong: Places of rows to emphasize.
        note: Said below it.
        may_be_cut: Whether a terminal leaves out the last columns where it has no room.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    note: str = ""
    may_be_cut: bool = False


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when it is needed.

    Attributes:
        name: Names it within its report, and its file where it is saved.
        title: What it shows.
        draw: Draws it.
        note: Said below it, such as how many trials it leaves out.
        wide: Whether it needs more width than a phone has, and scrolls sideways there.
        text: What a terminal shows in its place; "" for nothing.
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
    """One configuration in several spellings to copy: spelling -> text; one line for a terminal."""

    title: str
    notes: Sequence[str]
    texts: Mapping[str, str]
    line: str


@dataclass(frozen=True)
class Fields:
    """Names and what stands behind them."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Long text that is shown when asked for."""

    title: str
    text: str


Block = Text | Tiles | Table | Plot | Plots | Snippets | Fields | Details


@dataclass(frozen=True)
class Section:
    """A part of a report; ``anchor`` names it in the page, ``for_terminal`` is for the shell."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    for_terminal: bool = False


@dataclass(frozen=True)
class Document:
    """A report: what it is about, the line below its title, and its sections."""

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
