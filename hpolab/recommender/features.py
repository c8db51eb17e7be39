"""Side features of users or of items, encoded so that an embedding table can look them up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument
from hpolab.frames import is_missing, read_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hpolab.frames import Column

__all__ = ["Features"]

# Bins of a column of real numbers, by quantiles: such a column has no categories.
_N_BINS = 10


@dataclass(frozen=True, repr=False)
class Features(Displayed):
    """Side features of users or of items, one row each, in the order of their codes.

    A field with one value an id takes one slot; a field of lists as many as its longest list. All
    fields share one range of codes, in which each has a code of its own for a missing value.

    Attributes:
        names: The fields, in order, (f,).
        codes: (n, s) in 0 to n_codes - 1.
        weights: (n, s) float32: one over the number of the field's values, 0 in a slot not used.
        fields: (s,) the field of each slot, 0 to f - 1, rising.
        n_codes: How many codes all fields have together.
        missing: (f,) the code of each field's missing value, its first.

    Example:
        >>> films = Features.of(
        ...     [7, 9], {"film": [9, 7], "genre": [["war"], ["war", "drama"]]}, id_column="film"
        ... )
        >>> films.codes, films.weights
        (array([[1, 2],
               [2, 0]]), array([[0.5, 0.5],
               [1. , 0. ]], dtype=float32))
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    weights: NDArray[np.float32]
    fields: NDArray[np.int64]
    n_codes: int
    missing: NDArray[np.int64]

    @classmethod
    def of(cls, ids: Any, frame: Any, *, id_column: str) -> Features:
        """Encode the columns of a frame.

        Real numbers are put into ten bins by quantiles. Lists, tuples and sets hold several values.
        Everything else is a category. If an id repeats, its first row counts. Ids that are not
        asked for are ignored, and an id without a row has missing values only.

        Args:
            ids: The ids whose features are asked for, (n,), sorted.
            frame: A data frame, or a mapping of columns.
            id_column: Its column of ids; all others are fields.

        Raises:
            InvalidArgument: If there is no such column or none beside it, or the frame has no row
                of any id.
            InvalidType: If ``frame`` is no frame.
        """
        columns = read_columns("frame", frame)
        if id_column not in columns or len(columns) < 2:
            raise InvalidArgument(
                f"Side features must have the column {id_column!r} and one more at least, got "
                f"{list(columns)}."
            )
        rows = _rows(np.asarray(ids).tolist(), columns.pop(id_column))
        parts, missing, n_codes = [], [], 0
        for field, column in enumerate(columns.values()):
            values = _as_lists(column.values())
            codes, weights, n = _encode([[] if row is None else values[row] for row in rows])
            parts.append((codes + n_codes, weights, np.full(codes.shape[1], field)))
            missing.append(n_codes)
            n_codes += n
        return cls(
            names=tuple(columns),
            codes=np.concatenate([codes for codes, _, _ in parts], axis=1),
            weights=np.concatenate([weights for _, weights, _ in parts], axis=1),
            fields=np.concatenate([fields for _, _, fields in parts]),
            n_codes=n_codes,
            missing=np.array(missing),
        )

    def is_known(self) -> NDArray[np.bool_]:
        """Return of which ids a value is known, (n,)."""
        known: NDArray[np.bool_] = (self.codes != self.missing[self.fields]).any(axis=1)
        return known

    def rows(self, codes: NDArray[np.int64]) -> Features:
        """Return the features of some ids by their codes, in that order."""
        return replace(self, codes=self.codes[codes], weights=self.weights[codes])

    def _in_one_line(self) -> str:
        names = ", ".join(self.names)
        return f"{names} of {len(self.codes):,} ids, {self.n_codes:,} codes"


def _rows(ids: list[Any], column: Column) -> list[int | None]:
    """Return the first row of each id, None where there is none."""
    found = column.values()
    row_of = {key: row for row, key in reversed(list(enumerate(found)))}
    rows = [row_of.get(key) for key in ids]
    if ids and all(row is None for row in rows):
        raise InvalidArgument(
            f"Side features must have rows of the ids asked for, such as {ids[0]!r}, got none of "
            f"them in the column {column.name!r}, whose first are {found[:3]}: are they of "
            "another type?"
        )
    return rows


def _encode(
    values: Sequence[Sequence[Any]],
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Return codes, 0 for a missing value, and weights, (n, width), and the number of codes."""
    known = sorted({value for row in values for value in row}, key=lambda v: (str(type(v)), v))
    code_of = {value: code for code, value in enumerate(known, start=1)}
    width = max(1, max(map(len, values), default=1))
    codes = np.zeros((len(values), width), np.int64)
    weights = np.zeros((len(values), width), np.float32)
    for row, of_row in enumerate(values):
        codes[row, : len(of_row)] = [code_of[value] for value in of_row]
        weights[row, : max(1, len(of_row))] = 1 / max(1, len(of_row))
    return codes, weights, len(known) + 1


def _as_lists(column: list[Any]) -> list[list[Any]]:
    """Return the values of each row: none where it is missing, several where it holds a list."""
    if any(isinstance(value, float | np.floating) and value % 1 > 0 for value in column):
        column = _bins(column)
    return [_as_list(value) for value in column]


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if hasattr(value, "__iter__"):
        return sorted({part for part in value if not is_missing(part)})
    return [] if is_missing(value) else [value]


def _bins(column: list[Any]) -> list[Any]:
    numbers = np.array([np.nan if is_missing(value) else float(value) for value in column])
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _N_BINS + 1)[1:-1]))
    places = np.searchsorted(edges, numbers, side="right").tolist()
    return [None if np.isnan(x) else place for x, place in zip(numbers, places, strict=True)]
