"""Times of interactions: numbers, dates or text, so that they can be put in order."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["open_timestamps"]

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def open_timestamps(times: NDArray[Any]) -> NDArray[Any]:
    """Return times (n,) that can be put in order: numbers, or dates as datetime64.

    Raises:
        InvalidArgument: If a time is text of another form than ISO 8601, or no time at all.
    """
    if times.dtype.kind in "fiubmM":
        return times
    return np.array([_moment(time) for time in times.tolist()], "datetime64[us]")


def _moment(time: Any) -> datetime | date:
    if isinstance(time, str) and _ISO_DATE.match(time):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            raise _no_time(time) from None
    if not isinstance(time, date):
        raise _no_time(time)
    if isinstance(time, datetime) and time.tzinfo is not None:
        return time.astimezone(UTC).replace(tzinfo=None)
    return time


def _no_time(time: Any) -> InvalidArgument:
    return InvalidArgument(
        "`timestamps` must be numbers, dates, or text such as '2026-01-31 12:00', got "
        f"{time!r}: convert them, as by `pandas.to_datetime`."
    )
