"""What every result of an analysis can do: print itself, show itself in a notebook, be a frame."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from hpolab.display import Displayed
from hpolab.tables import frame_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from hpolab.tables import TextTable

__all__ = ["Result"]


class Result(Displayed):
    """A result of an analysis: `str()` of it is for a terminal, a notebook shows it as HTML."""

    @abc.abstractmethod
    def _parts(self) -> Sequence[str | TextTable]:
        """See `Displayed`."""

    @abc.abstractmethod
    def _records(self) -> Iterable[Mapping[str, Any]]:
        """Return the rows of the frame: column -> value."""

    def to_frame(self) -> pd.DataFrame:
        """Return the result as a pandas frame.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        return frame_of(self._records())
