"""data_fingerprint: a short text that tells whether data is the same, in any process."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from numbers import Complex, Number, Real
from typing import TYPE_CHECKING, Any, Protocol

import narwhals.stable.v2 as nw
import numpy as np

from hpolab.frames import collected, is_frame, is_missing, read_columns
from hpolab.keywords import checks_keywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Places = NDArray[np.int64] | None

__all__ = ["data_fingerprint"]

# Cells that are all read, 8 MB as doubles: in about 50 ms on one core. Of text and anything else
# that is read one by one fewer.
_MOST_CELLS, _MOST_OBJECTS = 2**20, 2**16
# Rows of what has more cells.
_MOST_ROWS, _FEWEST_ROWS = 1024, 16
_MOST_RUNS = 32

# What an object's own code may raise when it is looked at.
_UNREADABLE = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


@checks_keywords()
def data_fingerprint(data: Any) -> str:
    """Return a short text that tells whether data is the same: its size and a hash of its values.

    It is the same in every process, on every machine and in every container that holds the same
    values: arrays of NumPy and tensors of PyTorch, on any device, frames of pandas, polars and
    PyArrow, sparse matrices, lists, and dicts and lists of these. Numbers count as numbers, of
    whatever dtype, and columns by their place. Of a ``DataLoader`` it is that of its data set where
    that is made of tensors, whatever the order of the rows.

    It takes milliseconds, of data of any size: up to a million cells are all read, and of more a
    thousand rows, in runs that are spread evenly. So it notices other rows, rows in another order
    and a column on another scale; of large data it misses a change in few rows. Nothing is drawn
    at random, nothing is changed, and of what it cannot read, such as a data set of your own, only
    the length and the type's name count.

    Args:
        data: Any data.

    Example:
        >>> import numpy as np
        >>> table = np.arange(6.0).reshape(3, 2)
        >>> data_fingerprint(table).split()[0]
        '3x2'
        >>> data_fingerprint(table) == data_fingerprint(table.tolist())
        True
        >>> data_fingerprint(table) == data_fingerprint(table[::-1])
        False
    """
    reading = _Reading()
    size = reading.add(data)
    return f"{size} {reading.digest()}"


class _Table(Protocol):
    """Data by rows, n of them, whose values are read where they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def is_numeric(self) -> bool: ...

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        """Return numbers or objects in the order of rows.

        Args:
            rows: Which rows; None for all.
            columns: Which places of a row, counted through all its dimensions; None for all.
        """
        ...


class _Reading:
    """A hash of values, each with what it is and how long it is."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> str:
        """Add a value; return its size in words."""
        try:
            return self._add(value)
        except _UNREADABLE:
            return self._add_name(type(value).__name__)

    def _add(self, value: Any) -> str:
        if _is_scalar(value):
            self._add_scalar(value)
            return type(value).__name__ if isinstance(value, bytes) else str(value)[:20]
        if isinstance(value, np.ndarray) and value.dtype.names:  # a structured array
            return self._add_parts({name: value[name] for name in value.dtype.names})
        table = _table_of(value)
        if table is not None:
            return self._add_table(table)
        if isinstance(value, Mapping):
            return self._add_parts(value)
        if isinstance(value, list | tuple):
            return self._add_list(value)
        if isinstance(value, set | frozenset):
            return self._add_list(sorted(value, key=lambda each: (type(each).__name__, str(each))))
        if is_dataclass(value) and not isinstance(value, type):
            return self._add_parts({each.name: getattr(value, each.name) for each in fields(value)})
        return self._add_opaque(value)

    def _token(self, kind: str, raw: bytes) -> None:
        self._hash.update(b"%s %d:" % (kind.encode(), len(raw)))
        self._hash.update(raw)

    def _add_name(self, name: str) -> str:
        self._token("type", name.encode())
        return name

    def _add_parts(self, parts: Mapping[Any, Any]) -> str:
        sizes = []
        self._token("parts", str(len(parts)).encode())
        for name in sorted(parts, key=str):
            self._token("name", str(name).encode())
            sizes.append(self.add(parts[name]))
        return _listed(sizes)

    def _add_list(self, values: Sequence[Any]) -> str:
        self._token("list", str(len(values)).encode())
        sizes = [self.add(values[place]) for place in _places(len(values), _MOST_ROWS)]
        return _listed(sizes, len(values))

    def _add_opaque(self, value: Any) -> str:
        """Add what is no table: what it is made of where that is known, else its type's name."""
        kind, package = type(value).__name__, type(value).__module__.partition(".")[0]
        if package == "torch":
            inside = _inside_torch(value)
            if inside is not None:
                return self.add(inside)
        if package == "lightgbm" and kind == "Dataset":
            names = ("data", "label", "weight", "group", "init_score")
            parts = {name: getattr(value, name, None) for name in names}
            return self._add_parts({name: each for name, each in parts.items() if each is not None})
        return self._add_name(f"{kind} of {len(value)}" if hasattr(value, "__len__") else kind)

    def _add_scalar(self, value: Any) -> None:
        if isinstance(value, str):
            self._token("text", value.encode(errors="surrogatepass"))
        elif isinstance(value, bytes):
            self._token("bytes", value)
        elif is_missing(value):
            self._add_numbers(np.array([np.nan]))
        elif isinstance(value, datetime.date):  # and `datetime`, pandas' own included
            self._token("time", _moment(value).isoformat().encode())
        elif isinstance(value, datetime.timedelta):
            self._add_numbers(np.array([value.total_seconds()]))
        elif isinstance(value, Complex) and not isinstance(value, Real):
            self._add_numbers(np.array([value.real, value.imag]))
        else:
            self._add_numbers(np.array([float(value)]))

    def _add_table(self, table: _Table) -> str:
        n, *rest = table.shape
        width = math.prod(rest)
        # Columns of one item and rows of one number are read as the same by all trainers.
        shape = [n, *rest]
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        size = "x".join(map(str, shape))
        self._token("table", size.encode())
        if not n * width:
            return size
        most = _MOST_CELLS if table.is_numeric else _MOST_OBJECTS
        rows = columns = None
        if n * width > most:
            rows = _places(n, min(max(most // width, _FEWEST_ROWS), _MOST_ROWS))
            if len(rows) * width > most:
                columns = _places(width, most // len(rows))
        self._add_cells(table.take(rows, columns))
        return size

    def _add_cells(self, cells: NDArray[Any]) -> None:
        if cells.dtype.kind in "mM":
            cells = cells.astype(f"{cells.dtype.kind}8[us]").astype(object)
        if cells.dtype.kind not in "OUS":
            self._add_numbers(cells)
            return
        values = cells.ravel().tolist()
        if all(_is_number(value) for value in values):
            numbers = [math.nan if is_missing(value) else float(value) for value in values]
            self._add_numbers(np.array(numbers))
            return
        for value in values:
            self.add(value)

    def _add_numbers(self, numbers: NDArray[Any]) -> None:
        if np.ma.isMaskedArray(numbers):
            numbers = np.ma.filled(numbers.astype(np.float64), np.nan)
        if numbers.dtype.kind == "c":
            numbers = np.stack([numbers.real, numbers.imag])
        plain = numbers.astype("<f8") + 0.0  # no minus before a zero
        plain[np.isnan(plain)] = np.nan  # one NaN of many
        self._token("numbers", np.ascontiguousarray(plain).tobytes())


class _ArrayTable:
    """An array of NumPy."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.shape = array.shape
        self.is_numeric = array.dtype.kind in "biufc"

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        found: NDArray[Any] = self._array[_index(self.shape, rows, columns)]
        return found


class _OtherTable:
    """An array of another library, such as one of HDF5 that stays in its file."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(array.shape)
        self.is_numeric = np.dtype(array.dtype).kind in "biufc"

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        found = np.asarray(self._array if rows is None else self._array[rows])
        return found if columns is None else found.reshape(len(found), -1)[:, columns]


class _TensorTable:
    """A tensor of PyTorch: what is sampled alone leaves its device."""

    is_numeric = True

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        import torch

        index = _index(self.shape, rows, columns)
        places = (torch.as_tensor(each, device=self._tensor.device) for each in index)
        found = self._tensor[tuple(places)] if index else self._tensor
        found = found.cpu()  # first: not every device has doubles
        found = torch.view_as_real(found.resolve_conj()) if found.is_complex() else found
        array: NDArray[Any] = found.to(torch.float64).numpy()
        return array


class _SparseTable:
    """A sparse matrix of SciPy."""

    is_numeric = True

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr()
        self.shape = tuple(matrix.shape)

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        found = self._matrix if rows is None else self._matrix[rows]
        array: NDArray[Any] = (found if columns is None else found[:, columns]).toarray()
        return array


class _FrameTable:
    """A data frame of any library, or a mapping of columns."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        if isinstance(frame, Mapping):
            n, head = len(next(iter(frame.values()))), frame
        else:
            opened = nw.from_native(frame, eager_only=True)
            n, head = len(opened), opened.head(0).to_native()
        columns = read_columns("data", head).values()
        self.is_numeric = all(column.is_numeric for column in columns)
        self.shape = (n, len(columns))

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        found = list(read_columns("data", self._rows(rows)).values())
        if columns is not None:
            found = [found[place] for place in columns]
        if self.is_numeric:
            return np.column_stack([np.asarray(column.numbers(), float) for column in found])
        cells = np.empty((len(found[0].values()), len(found)), object)
        for place, column in enumerate(found):
            cells[:, place] = column.values()
        return cells

    def _rows(self, rows: Places) -> Any:
        if rows is None:
            return self._frame
        if isinstance(self._frame, Mapping):
            return {key: [each[row] for row in rows] for key, each in self._frame.items()}
        return nw.from_native(self._frame, eager_only=True)[rows.tolist()].to_native()


class _SeriesTable:
    """One column of a frame."""

    def __init__(self, series: Any) -> None:
        self._series = series
        self.shape = (len(series),)
        self.is_numeric = series.dtype.is_numeric() or series.dtype == nw.Boolean

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        taken = self._series if rows is None else self._series[rows.tolist()]
        [column] = read_columns("data", {"values": taken.to_native()}).values()
        if self.is_numeric:
            return np.asarray(column.numbers(), float)
        return _objects(column.values())


class _RowsTable:
    """A list of numbers or texts, or of lists of these that are of one length."""

    def __init__(self, rows: Sequence[Any], width: tuple[int, ...]) -> None:
        self._rows = rows
        self.shape = (len(rows), *width)
        sample = self.take(_places(len(rows), _FEWEST_ROWS), None)
        self.is_numeric = sample.dtype.kind in "biufc"

    def take(self, rows: Places, columns: Places) -> NDArray[Any]:
        taken = self._rows if rows is None else [self._rows[row] for row in rows]
        if columns is not None:
            taken = [[row[place] for place in columns] for row in taken]
        flat = taken if len(self.shape) == 1 else [cell for row in taken for cell in row]
        if all(isinstance(cell, bool | int | float) for cell in flat):
            return np.array(flat, np.float64)
        return _objects(flat)


def _index(shape: tuple[int, ...], rows: Places, columns: Places) -> tuple[NDArray[Any], ...]:
    """Return what picks rows, and columns counted through all other dimensions, of an array."""
    if rows is None:
        return ()
    if columns is None:
        return (rows,)
    return (rows[:, None], *(place[None] for place in np.unravel_index(columns, shape[1:])))


def _table_of(value: Any) -> _Table | None:
    """Return data that is read by rows; None for anything else."""
    if hasattr(value, "tocsr"):
        return _SparseTable(value)
    if hasattr(value, "detach") and hasattr(value, "is_floating_point"):
        return _TensorTable(value) if str(value.layout) == "torch.strided" else None
    if isinstance(value, np.ndarray):
        return _ArrayTable(value)
    if isinstance(value, Mapping):
        columns = list(value.values())
        is_table = columns and all(map(_is_column, columns)) and len({*map(len, columns)}) == 1
        return _FrameTable(value) if is_table and len(columns[0]) else None
    if isinstance(value, list | tuple | range):
        return _rows_of(value)
    series = nw.from_native(value, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return _SeriesTable(series)
    if is_frame(value):
        return _FrameTable(collected(value))
    if hasattr(value, "__array__") and hasattr(value, "dtype") and hasattr(value, "shape"):
        return _OtherTable(value)
    return None


def _is_column(values: Any) -> bool:
    """Tell whether a mapping's value is a column, without a look at what is no list of values."""
    if isinstance(values, list | tuple | range):
        return all(_is_scalar(values[place]) for place in _places(len(values), _FEWEST_ROWS))
    shape = getattr(values, "shape", None)
    return isinstance(shape, tuple) and len(shape) == 1 and not hasattr(values, "detach")


def _rows_of(values: Sequence[Any]) -> _Table | None:
    seen = [values[place] for place in _places(len(values), _FEWEST_ROWS)]
    if seen and all(map(_is_scalar, seen)):
        return _RowsTable(values, ())
    if not seen or not all(isinstance(row, list | tuple) and row for row in seen):
        return None
    widths = {len(row) for row in seen}
    if len(widths) > 1 or not all(_is_scalar(cell) for row in seen for cell in row):
        return None
    return _RowsTable(values, (widths.pop(),))


def _inside_torch(value: Any) -> Any:
    """Return what a loader or a data set of PyTorch's own is made of; None where nobody knows.

    An item of any other data set may be drawn at random, so none is read.
    """
    from torch.utils import data

    if isinstance(value, data.DataLoader):
        return value.dataset
    if type(value) is data.TensorDataset:
        return value.tensors
    if type(value) is data.Subset:
        return {"dataset": value.dataset, "indices": value.indices}
    if type(value) is data.ConcatDataset:
        return value.datasets
    return None


def _places(n: int, most: int) -> NDArray[np.int64]:
    """Return so many places of n in a few runs, spread evenly at no fixed distance; all if few.

    Each run is a read of its own where data lies in a file, which may take milliseconds.
    """
    if n <= most:
        return np.arange(n, dtype=np.int64)
    n_runs = min(most, _MOST_RUNS)
    length = most // n_runs
    bounds = np.arange(n_runs + 1, dtype=np.int64) * n // n_runs
    room = np.diff(bounds) - length + 1
    starts = bounds[:-1] + np.arange(n_runs) * 2654435761 % room
    starts[0], starts[-1] = 0, n - length
    found: NDArray[np.int64] = (starts[:, None] + np.arange(length)).ravel()
    return found


def _is_scalar(value: Any) -> bool:
    plain = (str, bytes, Number, np.generic, datetime.date, datetime.timedelta)
    return isinstance(value, plain) or value is None or type(value).__name__ in _MISSING_TYPES


_MISSING_TYPES = ("NAType", "NaTType")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.bool_) or (_is_scalar(value) and is_missing(value))


def _moment(value: datetime.date) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime(value.year, value.month, value.day)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _listed(sizes: Sequence[str], n: int | None = None) -> str:
    n = len(sizes) if n is None else n
    return f"({', '.join(sizes)})" if n <= 4 else f"({', '.join(sizes[:3])}, … {n} parts)"
