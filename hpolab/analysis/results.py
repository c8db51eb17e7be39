"""What every result of an analysis can do: print itself, show itself in a notebook, be a frame."""

from __future__ import annotations

import abc
import html
from typing import TYPE_CHECKING, Any

from hpolab.tables import TextTable, frame_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["Result"]


class Result(abc.ABC):
    """A result of an analysis: `str()` of it is for a terminal, a notebook shows it as HTML."""

    @abc.abstractmethod
    def _parts(self) -> Sequence[str | TextTable]:
        """Return paragraphs and tables in order; each line of a paragraph is a sentence or two."""

    @abc.abstractmethod
    def _records(self) -> Iterable[Mapping[str, Any]]:
        """Return the rows of the frame: column -> value."""

    def to_frame(self) -> pd.DataFrame:
        """Return the result as a pandas frame.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        return frame_of(self._records())

    def __str__(self) -> str:
        return "\n\n".join(_text_of(part) for part in self._parts())

    def _repr_html_(self) -> str:
        return "".join(_html_of(part) for part in self._parts())


def _text_of(part: str | TextTable) -> str:
    if isinstance(part, TextTable):
        return part.to_text()
    return "\n".join(map(printable, part.split("\n")))


def _html_of(part: str | TextTable) -> str:
    if isinstance(part, TextTable):
        return part.to_html()
    return "".join(f"<p>{html.escape(line)}</p>" for line in part.split("\n"))
