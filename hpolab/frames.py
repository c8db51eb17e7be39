"""Data frames of pandas, polars, PyArrow and other libraries, read in one way."""

from __future__ import annotations

import abc
import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = [
    "Column",
    "check_unique",
    "collected",
    "is_frame",
    "is_missing",
    "n_rows",
    "read_columns",
    "read_rows",
    "rows_with_gaps",
]

_NUMBERS = "fiub"  # kinds of NumPy's types
_CHUNK = 100_000  # rows


class Column(abc.ABC):
    """One column of a frame.

    Attributes:
        name: Its name.
        dtype: Its type, as its own library writes it.
        is_numeric: Whether it holds numbers or booleans.
        is_categorical: Whether its type says that it holds categories.
        categories: The categories in the order that its type declares; None where the type
            declares none, or an order that is not its own.
    """

    name: str
    dtype: str
    is_categorical: bool = False
    categories: tuple[Any, ...] | None = None

    @property
    @abc.abstractmethod
    def is_numeric(self) -> bool: ...

    @abc.abstractmethod
    def values(self) -> list[Any]:
        """Return the values as Python has them; see `is_missing`."""

    @abc.abstractmethod
    def array(self) -> NDArray[Any]:
        """Return the values as NumPy has them (n,): text, mixed types and lists as objects."""

    @abc.abstractmethod
    def numbers(self) -> NDArray[Any]:
        """Return the values of a numeric column as numbers (n,), missing ones as NaN."""


def is_frame(data: Any) -> bool:
    """Return whether data is a frame, lazy ones included, or a mapping of columns.

    Example:
        >>> is_frame({"x": [1, 2]}), is_frame([[1], [2]])
        (True, False)
    """
    if hasattr(data, "tocsr"):  # SciPy's DOK matrices are dicts
        return False
    if isinstance(data, Mapping) or nw.dependencies.is_into_dataframe(data):
        return True
    return isinstance(nw.from_native(data, pass_through=True), nw.LazyFrame)


def read_columns(argument: str, frame: Any) -> dict[str, Column]:
    """Return the columns of a frame by name, in their order.

    Args:
        argument: The argument's name, for messages.
        frame: A frame of any library that narwhals reads, eager or lazy, or a mapping of columns:
            name -> list, array or series.

    Raises:
        InvalidArgument: If two columns have one name, or the columns of a mapping differ in
            length.
        InvalidType: If ``frame`` is no frame, or a column of a mapping is no list of values.

    Example:
        >>> read_columns("train", {"x": [1, None]})["x"].numbers()
        array([ 1., nan])
    """
    if not is_frame(frame):
        raise InvalidType(
            f"`{argument}` must be a data frame or a mapping of columns, got "
            f"{type(frame).__name__}."
        )
    if isinstance(frame, Mapping):
        check_unique(argument, map(str, frame))
        columns = [_column(argument, str(name), values) for name, values in frame.items()]
        lengths = {column.name: len(column.values()) for column in columns}
        if len(set(lengths.values())) > 1:
            raise InvalidArgument(f"`{argument}` must have columns of one length, got {lengths}.")
    else:
        eager = collected(frame)
        # Before narwhals, whose error would be its own. PyArrow's `columns` are no names.
        check_unique(argument, map(str, getattr(eager, "column_names", eager.columns)))
        opened = nw.from_native(eager, eager_only=True)
        columns = [_SeriesColumn(str(series.name), series) for series in opened.iter_columns()]
    return {column.name: column for column in columns}


def read_rows(argument: str, frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame: name -> value.

    Raises:
        InvalidArgument: As `read_columns`.
        InvalidType: As `read_columns`.

    Example:
        >>> read_rows("source", {"lr": [0.1, 0.2], "accuracy": [0.9, 0.8]})
        [{'lr': 0.1, 'accuracy': 0.9}, {'lr': 0.2, 'accuracy': 0.8}]
    """
    columns = read_columns(argument, frame)
    rows = zip(*(column.values() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def collected(data: Any) -> Any:
    """Return a lazy frame collected, and everything else as it is."""
    try:
        opened = nw.from_native(data, pass_through=True)
    except DuplicateError:  # an eager frame
        return data
    return opened.collect().to_native() if isinstance(opened, nw.LazyFrame) else data


def check_unique(argument: str, names: Iterable[str]) -> None:
    """Refuse names of columns that occur twice.

    Raises:
        InvalidArgument: If one does.
    """
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise InvalidArgument(f"`{argument}` must have each column once, got {twice} twice.")


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA.

    Example:
        >>> is_missing(None), is_missing(float("nan")), is_missing("nan")
        (True, True, False)
    """
    # NA is neither equal to itself nor not: comparing it gives NA, which is no bool.
    if value is None or type(value).__name__ == "NAType":
        return True
    return getattr(value, "ndim", 0) == 0 and bool(value != value)


def rows_with_gaps(data: Any) -> NDArray[np.bool_]:
    """Return which rows have a missing or infinite value, (n,).

    Args:
        data: A frame, an array, a sparse matrix or a list. What is none of these, or holds other
            things than numbers and text, has none.

    Example:
        >>> rows_with_gaps([[1.0, 2.0], [None, 3.0]])
        array([False,  True])
    """
    if is_frame(data):
        found = [_gaps_of_column(column) for column in read_columns("data", data).values()]
        return np.any(found, axis=0)  # type: ignore[no-any-return]
    gaps = np.zeros(n_rows(data), bool)
    if hasattr(data, "tocsr"):
        entries = data.tocoo()
        if entries.data.dtype.kind == "f":
            gaps[entries.row[~np.isfinite(entries.data)]] = True
        return gaps
    try:
        table = np.asarray(data)
    except ValueError:  # a list of arrays of different shapes
        return gaps
    for start in range(0, len(table), _CHUNK):
        part = table[start : start + _CHUNK].reshape(len(gaps[start : start + _CHUNK]), -1)
        if part.dtype.kind == "f":
            gaps[start : start + _CHUNK] = ~np.isfinite(part).all(axis=1)
        elif part.dtype == object:
            gaps[start : start + _CHUNK] = [any(map(_is_gap, row)) for row in part]
    return gaps


def n_rows(data: Any) -> int:
    """Return the number of rows of an array, a sparse matrix, a frame or a list."""
    # Sparse matrices have no length.
    return int(data.shape[0]) if hasattr(data, "shape") else len(data)


def _gaps_of_column(column: Column) -> NDArray[np.bool_]:
    array = column.numbers() if column.is_numeric else column.array()
    if array.dtype.kind in _NUMBERS:
        return ~np.isfinite(array)  # type: ignore[no-any-return]
    return np.fromiter(map(_is_gap, array), bool, len(array))


def _is_gap(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, float) and math.isinf(value))


@final
class _SeriesColumn(Column):
    """A column of a library's own."""

    def __init__(self, name: str, series: nw.Series[Any]) -> None:
        self.name = name
        self.dtype = str(getattr(series.to_native(), "dtype", series.dtype))
        self.is_categorical = isinstance(series.dtype, nw.Categorical | nw.Enum)
        # The categories of a Categorical of polars, and their order, are those of the whole
        # process, and those of a dictionary of PyArrow are in the order of their first rows.
        if isinstance(series.dtype, nw.Enum):
            self.categories = tuple(series.dtype.categories)
        elif self.is_categorical and series.implementation.is_pandas_like():
            self.categories = tuple(series.cat.get_categories().to_list())
        self._series = series

    @cached_property
    def is_numeric(self) -> bool:
        dtype = self._series.dtype
        if dtype == nw.Unknown:  # pandas' sparse columns, say
            return self.array().dtype.kind in _NUMBERS
        return dtype.is_numeric() or dtype == nw.Boolean

    def values(self) -> list[Any]:
        return self._series.to_list()

    def array(self) -> NDArray[Any]:
        return self._series.to_numpy()

    def numbers(self) -> NDArray[Any]:
        dtype = self._series.dtype
        if dtype == nw.Boolean:  # with missing values it would become an array of objects
            return self._series.cast(nw.Int8).to_numpy()
        if isinstance(dtype, nw.Decimal | nw.Int128 | nw.UInt128):  # NumPy has none of these
            return self._series.cast(nw.Float64).to_numpy()
        return self.array()


@final
class _PlainColumn(Column):
    """A column of a mapping: a list or an array."""

    def __init__(self, name: str, values: list[Any] | NDArray[Any]) -> None:
        self.name = name
        self._array = values if isinstance(values, np.ndarray) else None
        self._values = values if isinstance(values, list) else values.tolist()
        kinds = sorted({type(value).__name__ for value in self._values})
        self.dtype = " and ".join(kinds) if self._array is None else str(self._array.dtype)

    @cached_property
    def is_numeric(self) -> bool:
        if self._array is not None and self._array.dtype != object:
            return self._array.dtype.kind in _NUMBERS
        return all(isinstance(v, _NUMBER_TYPES) or is_missing(v) for v in self._values)

    def values(self) -> list[Any]:
        return self._values

    def array(self) -> NDArray[Any]:
        if self._array is not None:
            return self._array
        # Item by item: of lists NumPy would make a table, and of numbers beside text, text.
        array = np.empty(len(self._values), object)
        array[:] = self._values
        return array

    def numbers(self) -> NDArray[Any]:
        if self._array is not None and self._array.dtype != object:
            return self._array
        return np.array([np.nan if is_missing(value) else value for value in self._values])


_NUMBER_TYPES = (bool, int, float, np.number, np.bool_)


def _column(argument: str, name: str, values: Any) -> Column:
    series = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return _SeriesColumn(name, series)
    if isinstance(values, tuple | range):
        values = list(values)
    if not isinstance(values, list | np.ndarray) or getattr(values, "ndim", 1) != 1:
        raise InvalidType(
            f"`{argument}` must have columns of shape (rows,), lists, arrays or series, got "
            f"{type(values).__name__} for {name!r}."
        )
    return _PlainColumn(name, values)
