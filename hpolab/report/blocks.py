"""What a report is made of, before it is HTML or text."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.report.figures import Figure

__all__ = [
    "Answer",
    "Block",
    "Columns",
    "Details",
    "Document",
    "FieldList",
    "Plot",
    "Plots",
    "Section",
    "Snippets",
    "Text",
    "Tiles",
    "file_names",
]

# What every file system takes; Windows takes no colon and no star.
_NOT_IN_FILE_NAMES = re.compile(r"[^0-9A-Za-z._+=@-]+")
_LONGEST_FILE_NAME = 60


@dataclass(frozen=True)
class Answer:
    """What a reader came for, in one sentence, and what it rests on.

    Attributes:
        headline: The sentence.
        paragraphs: What it rests on, and what would tell more.
        tone: "good" if a gain is confirmed, otherwise "finding".
    """

    headline: str
    paragraphs: Sequence[str]
    tone: str = "finding"


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


@dataclass(frozen=True)
class Columns:
    """Blocks side by side where a screen is wide enough, else one below the other."""

    blocks: Sequence[Block]


Block = Answer | Columns | Text | Tiles | TextTable | Plot | Plots | Snippets | FieldList | Details


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
        return [plot for section in self.sections for plot in _plots_in(section.blocks)]


def _plots_in(blocks: Sequence[Block]) -> list[Plot]:
    found: list[Plot] = []
    for block in blocks:
        if isinstance(block, Plot):
            found.append(block)
        elif isinstance(block, Plots):
            found += block.plots
        elif isinstance(block, Columns):
            found += _plots_in(block.blocks)
    return found


def file_names(names: Sequence[str]) -> list[str]:
    """Return a name for a file for each name of a parameter, no two alike.

    Example:
        >>> file_names(["lr", "optimizer/beta 1", "LR", "ε"])
        ['lr', 'optimizer-beta-1', 'LR-2', 'unnamed']
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        start = _NOT_IN_FILE_NAMES.sub("-", name)[:_LONGEST_FILE_NAME].strip("-.") or "unnamed"
        tried = (start if n == 1 else f"{start}-{n}" for n in itertools.count(1))
        # Some file systems do not tell capitals from small letters.
        found.append(next(each for each in tried if each.lower() not in taken))
        taken.add(found[-1].lower())
    return found
