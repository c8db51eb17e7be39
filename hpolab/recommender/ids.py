"""Ids of users and items: labels of any kind, and the codes that stand for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.frames import collected, is_missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["encode_ids", "open_column"]


def open_column(argument: str, values: Any) -> NDArray[Any]:
    """Return ids, ratings or timestamps as an array (n,) of one type.

    Args:
        argument: Its name, for messages.
        values: A list, an array or a series.

    Raises:
        InvalidArgument: If ``values`` is not of shape (n,), or a value is missing.
        InvalidType: If the values are of several types.
    """
    # Of a list NumPy would make strings of numbers, were there one string among them.
    column = np.asarray(
        collected(values), dtype=object if isinstance(values, (list, tuple)) else None
    )
    if column.ndim != 1:
        raise InvalidArgument(f"`{argument}` must be of shape (rows,), got {column.shape}.")
    if column.dtype == object:
        return _of_one_type(argument, column.tolist())
    missing = np.flatnonzero(column != column)  # NaN and NaT
    if len(missing):
        raise _missing(argument, missing)
    return column


def encode_ids(argument: str, known: NDArray[Any], asked: Any) -> NDArray[np.int64]:
    """Return the codes of ids (n,): their places among the known ones, -1 for any other.

    Args:
        argument: The name of what is asked, for messages.
        known: All ids, sorted, each once.
        asked: Ids, (n,).

    Raises:
        InvalidArgument: If an id is missing.
        InvalidType: If ids are text where the known ones are numbers, or the other way round, or
            of several types.

    Example:
        >>> encode_ids("user_ids", np.array([3, 7]), [7, 5])
        array([ 1, -1])
    """
    ids = open_column(argument, asked)
    if not len(ids):
        return np.empty(0, np.int64)
    if _kind(ids) != _kind(known):
        raise InvalidType(
            f"`{argument}` must be of the type of the known ids, such as {known.tolist()[0]!r}, "
            f"got {ids.tolist()[0]!r}."
        )
    wanted = ids
    if known.dtype.kind in "iu" and ids.dtype.kind in "iu":
        # Of int64 and uint64 together NumPy would make floats, to which neighbors are equal.
        ids = ids.astype(known.dtype)
    places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where((known[places] == ids) & (ids == wanted), places, -1)


def _of_one_type(argument: str, values: list[Any]) -> NDArray[Any]:
    missing = [row for row, value in enumerate(values) if is_missing(value)]
    if missing:
        raise _missing(argument, missing)
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = {type(value) for value in values}
    if len(kinds) > 1 and not kinds <= {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidType(f"`{argument}` must be of one type, got {names}.")
    if kinds == {int}:
        return _whole_numbers(values)
    return np.array(values)


def _whole_numbers(values: list[int]) -> NDArray[Any]:
    # Of numbers on both sides of 2**63 NumPy would make floats, to which neighbors are equal.
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(values, dtype)
        except OverflowError:
            continue
    return np.array(values, object)


def _missing(argument: str, rows: Any) -> InvalidArgument:
    return InvalidArgument(
        f"`{argument}` must have no missing values, got {len(rows)} missing, the first in row "
        f"{rows[0]}."
    )


def _kind(ids: NDArray[Any]) -> str:
    if ids.dtype.kind in "fiub":
        return "number"
    return "number" if isinstance(ids.tolist()[0], int) else ids.dtype.kind
