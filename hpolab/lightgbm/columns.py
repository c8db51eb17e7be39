"""Columns: data frames, arrays and sparse matrices as the one matrix that LightGBM bins."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Matrix = Any  # an array of floats (n, d), or a scipy.sparse matrix in CSR form

__all__ = ["Columns", "is_missing", "n_rows", "take_rows"]


_FLOATS = (np.float32, np.float64)


@dataclass(frozen=True)
class Columns:
    """The columns that a model was trained on, and how their categories became numbers.

    Attributes:
        names: Names by position; of arrays ``Column_0`` and so on, as LightGBM calls them.
        categorical: The positions of categorical features.
        categories: Name -> categories, in the order of their codes, for those that had to be
            encoded. Categorical columns of arrays hold codes already.
        named: Whether data comes as frames, matched by name, and not as arrays, by position.
    """

    names: tuple[str, ...]
    categorical: tuple[int, ...]
    categories: Mapping[str, tuple[Any, ...]]
    named: bool

    @classmethod
    def of(
        cls,
        argument: str,
        features: Any,
        categorical: Sequence[str | int] = (),
        *,
        names: Sequence[str] | None = None,
    ) -> Columns:
        """Read the columns of training data.

        Args:
            argument: Its name, for messages.
            features: A data frame of pandas or polars, an array (n, d) or a sparse matrix.
            categorical: Names or positions of categorical features, besides the columns of a
                frame that are categorical by their type.
            names: Names for the columns of an array; None numbers them.

        Raises:
            InvalidArgument: If there is no column, a name occurs twice, or ``categorical`` names
                no column.
            InvalidType: If ``features`` or a column is of a type that is not understood.
        """
        if not _is_frame(features):
            matrix = _matrix(argument, features)
            numbered = [f"Column_{i}" for i in range(matrix.shape[1])]
            columns = _once(argument, numbered if names is None else names)
            positions = _positions(categorical, columns)
            _check_codes(argument, matrix, positions)
            return cls(columns, positions, {}, named=False)
        columns = _once(argument, map(str, features.columns))
        if not columns:
            raise InvalidArgument(f"`{argument}` must have at least one column, got none.")
        declared = _positions(categorical, columns)
        categories = {
            name: _categories(argument, name, column, declared=i in declared)
            for i, (name, column) in enumerate(_columns(features))
        }
        known = {name: values for name, values in categories.items() if values is not None}
        return cls(columns, tuple(map(columns.index, known)), known, named=True)

    @property
    def safe_names(self) -> list[str]:
        """Return the names without the characters that LightGBM's model files refuse."""
        safe = [re.sub(r"[\s\"\[\]{}:,]", "_", name) for name in self.names]
        while len(set(safe)) < len(safe):
            n_of = Counter(safe)
            safe = [f"{name}_{i}" if n_of[name] > 1 else name for i, name in enumerate(safe)]
        return safe

    def encode(self, argument: str, features: Any) -> Matrix:
        """Return data of these columns as a matrix (n, d) of floats, categories as their codes.

        A category that training has not seen becomes NaN, a missing value to LightGBM.

        Raises:
            InvalidArgument: If columns are missing or too many.
            InvalidType: If a column's type is not understood, or frames are needed and an array
                came.
        """
        if not _is_frame(features):
            if self.categories:
                raise InvalidType(
                    f"`{argument}` must be a data frame like the one trained on, whose categories "
                    f"{list(self.categories)} are matched by name, got {type(features).__name__}."
                )
            matrix = _matrix(argument, features)
            if matrix.shape[1] != len(self.names):
                raise InvalidArgument(
                    f"`{argument}` must have the {len(self.names)} columns trained on, got "
                    f"{matrix.shape[1]}."
                )
            _check_codes(argument, matrix, self.categorical)
            return matrix
        columns = dict(_columns(features))
        if self.named:
            self._check_names(argument, columns)
        elif len(columns) != len(self.names):
            raise InvalidArgument(
                f"`{argument}` must have the {len(self.names)} columns trained on, got "
                f"{len(columns)}."
            )
        ordered = [columns[name] for name in self.names] if self.named else list(columns.values())
        encoded = [
            _encode(argument, name, column, self.categories.get(name))
            for name, column in zip(self.names, ordered, strict=True)
        ]
        # LightGBM bins float32 and float64 alike; the smaller one where it holds every value.
        matrix = np.empty((len(encoded[0]), len(encoded)), np.result_type(np.float32, *encoded))
        for i, column in enumerate(encoded):
            matrix[:, i] = column
        return matrix

    def _check_names(self, argument: str, columns: Mapping[str, Any]) -> None:
        known = set(self.names)
        missing = [name for name in self.names if name not in columns]
        extra = [name for name in columns if name not in known]
        if missing or extra:
            raise InvalidArgument(
                f"`{argument}` must have the columns trained on, got one without {missing} and "
                f"with {extra} besides."
            )


def n_rows(data: Any) -> int:
    """Return the number of rows of a matrix, a frame or a list."""
    return int(data.shape[0]) if hasattr(data, "shape") else len(data)


def take_rows(values: Any, rows: NDArray[np.int64]) -> Any:
    """Return some rows of what is there for each row, all of them without a copy; None of None."""
    if values is None or (len(rows) == n_rows(values) and (rows == np.arange(len(rows))).all()):
        return values
    return values[rows]


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA."""
    # NA is neither equal to itself nor not: comparing it gives NA, which is no bool.
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _is_frame(features: Any) -> bool:
    # pandas' have `iloc`, as its series do, and polars' `get_columns`, as its lazy frames do not.
    return hasattr(features, "get_columns") or (hasattr(features, "iloc") and features.ndim == 2)


def _columns(frame: Any) -> list[tuple[str, Any]]:
    if hasattr(frame, "get_columns"):  # polars
        return [(column.name, column) for column in frame.get_columns()]
    return [(str(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]


def _matrix(argument: str, features: Any) -> Matrix:
    if hasattr(features, "tocsr"):
        from scipy.sparse import csr_matrix

        # LightGBM predicts for no `csr_array`, and takes no whole numbers.
        sparse = csr_matrix(features)
        return sparse if sparse.dtype in _FLOATS else sparse.astype(np.float64)
    matrix = np.asarray(features)
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise InvalidArgument(f"`{argument}` must be of shape (rows, columns), got {matrix.shape}.")
    if matrix.dtype.kind not in "fiub":
        raise InvalidType(
            f"`{argument}` must hold numbers, got an array of {matrix.dtype}. Strings are taken "
            "from data frames, in columns that are categorical."
        )
    # Of whole numbers LightGBM would make float32, which merges those beyond 2**24.
    return matrix if matrix.dtype in _FLOATS else matrix.astype(np.float64)


def _once(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    n_of = Counter(names)
    twice = sorted(name for name, n in n_of.items() if n > 1)
    if twice:
        raise InvalidArgument(f"`{argument}` must have each column once, got {twice} twice.")
    return tuple(n_of)


def _positions(categorical: Sequence[str | int], names: tuple[str, ...]) -> tuple[int, ...]:
    if isinstance(categorical, str) or not hasattr(categorical, "__iter__"):
        raise InvalidType(f"`categorical` must be a list of columns, got {categorical!r}.")
    positions = []
    for column in categorical:
        if isinstance(column, str):
            positions.append(names.index(one_of("categorical", column, names)))
        elif hasattr(column, "__index__") and 0 <= column < len(names):
            positions.append(int(column))
        else:
            raise InvalidArgument(
                f"`categorical` must name columns 0 to {len(names) - 1}, got {column}."
            )
    return tuple(sorted(set(positions)))


def _check_codes(argument: str, matrix: Matrix, positions: tuple[int, ...]) -> None:
    for i in positions:
        column = matrix[:, [i]].toarray().ravel() if hasattr(matrix, "toarray") else matrix[:, i]
        present = column[~np.isnan(column)]
        if (present < 0).any() or (present != np.floor(present)).any():
            raise InvalidArgument(
                f"`{argument}` must hold whole numbers of 0 or above in categorical column {i}, "
                f"got {present[(present < 0) | (present != np.floor(present))][0]}."
            )


def _categories(argument: str, name: str, column: Any, *, declared: bool) -> tuple[Any, ...] | None:
    """Return a column's categories in the order of their codes; None of a numeric one."""
    if hasattr(column, "cat") and str(column.dtype) == "category":
        return tuple(map(_plain, column.cat.categories.tolist()))
    if _polars_kind(column) == "Enum":
        return tuple(column.dtype.categories.to_list())
    # The categories of a Categorical of polars, and their order, are those of the whole process.
    if declared or _polars_kind(column) == "Categorical":
        present = {_plain(value) for value in column.to_list() if not is_missing(value)}
        return tuple(sorted(present, key=lambda value: (str(type(value)), value)))
    if not _is_numeric(column):
        raise InvalidType(
            f"`{argument}` must hold numbers or categories, got column {name!r} of "
            f"{column.dtype}: name it in `categorical`, or convert it."
        )
    return None


def _encode(
    argument: str, name: str, column: Any, categories: tuple[Any, ...] | None
) -> NDArray[Any]:
    if categories is not None:
        code_of = {value: code for code, value in enumerate(categories)}
        codes = np.array([code_of.get(_plain(v), np.nan) for v in column.to_list()], np.float64)
        return codes.astype(np.float32) if len(categories) < 2**24 else codes
    if not _is_numeric(column):
        raise InvalidType(
            f"`{argument}` must hold numbers in column {name!r}, as in training, got "
            f"{column.dtype}."
        )
    values = _numbers(column)
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    return values.astype(np.float32 if small else np.float64)


def _numbers(column: Any) -> NDArray[Any]:
    if _polars_kind(column) == "Boolean":  # with nulls it would become an array of objects
        return np.array([np.nan if value is None else value for value in column], np.float64)
    if _polars_kind(column) or isinstance(column.dtype, np.dtype):
        return column.to_numpy()  # type: ignore[no-any-return]
    return column.to_numpy(dtype=np.float64, na_value=np.nan)  # type: ignore[no-any-return]


def _plain(category: Any) -> Any:
    """Return a category as a model file can hold it: an interval, say, as its string."""
    if isinstance(category, np.generic):  # in columns of objects
        category = category.item()
    if isinstance(category, (str, int, float)):
        return category
    return np.nan if is_missing(category) else str(category)


def _polars_kind(column: Any) -> str:
    """Return the name of a polars column's type, '' of a pandas one."""
    return "" if hasattr(column, "iloc") else type(column.dtype).__name__


def _is_numeric(column: Any) -> bool:
    if _polars_kind(column):
        return bool(column.dtype.is_numeric()) or _polars_kind(column) == "Boolean"
    # Nullable types of pandas, such as Int64, say what they hold as NumPy's do.
    return getattr(column.dtype, "kind", "O") in "fiub"
