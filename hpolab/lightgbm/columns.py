"""Columns: data frames, arrays and sparse matrices as the one matrix that LightGBM bins."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.frames import check_unique, is_frame, is_missing, n_rows, read_columns
from hpolab.lightgbm.texts import categories_of_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.frames import Column

    Matrix = Any  # an array of floats (n, d), or a scipy.sparse matrix in CSR form

__all__ = ["Columns", "plain_category", "take_rows"]


_FLOATS = (np.float32, np.float64)
_LARGEST_CODE = 2**31 - 1
# As many values of which training has seen none are written otherwise, more likely than new.
_MANY = 10


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
            features: A data frame, a mapping of columns, an array (n, d) or a sparse matrix.
            categorical: Names or positions of categorical features, besides the columns of a
                frame that are categorical by their type or hold strings. Strings that look like
                ids, numbers or dates are categories only if they are named here.
            names: Names for the columns of an array; None numbers them.

        Raises:
            InvalidArgument: If there is no column, a name occurs twice, or ``categorical`` names
                no column.
            InvalidType: If ``features`` or a column is of a type that is not understood.
        """
        if not is_frame(features):
            matrix = _matrix(argument, features)
            numbered = [f"Column_{i}" for i in range(matrix.shape[1])]
            columns = tuple(numbered if names is None else names)
            check_unique(argument, columns)
            positions = _positions(categorical, columns)
            _check_codes(argument, matrix, positions)
            return cls(columns, positions, {}, named=False)
        read = read_columns(argument, features)
        if not read:
            raise InvalidArgument(f"`{argument}` must have at least one column, got none.")
        columns = tuple(read)
        declared = _positions(categorical, columns)
        categories = {
            name: _categories(argument, column, declared=i in declared)
            for i, (name, column) in enumerate(read.items())
        }
        known = {name: values for name, values in categories.items() if values is not None}
        return cls(columns, tuple(map(columns.index, known)), known, named=True)

    @property
    def safe_names(self) -> list[str]:
        """Return the names without the characters that LightGBM's model files refuse."""
        safe = [re.sub(r"[\s\"\[\]{}:,]", "_", name) or "_" for name in self.names]
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
        if not is_frame(features):
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
        ordered = self._ordered(argument, read_columns(argument, features))
        encoded = [
            _encode(argument, column, self.categories.get(name))
            for name, column in zip(self.names, ordered, strict=True)
        ]
        # LightGBM bins float32 and float64 alike; the smaller one where it holds every value.
        matrix = np.empty((len(encoded[0]), len(encoded)), np.result_type(np.float32, *encoded))
        for i, column in enumerate(encoded):
            matrix[:, i] = column
        coded = [i for i in self.categorical if self.names[i] not in self.categories]
        _check_codes(argument, matrix, tuple(coded))
        return matrix

    def _ordered(self, argument: str, columns: Mapping[str, Column]) -> list[Column]:
        """Return the columns of a frame in the order trained on: by name where both have names."""
        spelled = {_as_lightgbm(name): column for name, column in columns.items()}
        for known in (columns, spelled):
            if known.keys() == set(self.names) and len(known) == len(columns):
                return [known[name] for name in self.names]
        if self.named or not (_are_numbered(self.names) or _are_numbered(columns)):
            missing = [name for name in self.names if name not in columns]
            extra = [name for name in columns if name not in self.names]
            raise InvalidArgument(
                f"`{argument}` must have the columns trained on, got one without {missing} and "
                f"with {extra} besides."
            )
        if len(columns) != len(self.names):
            raise InvalidArgument(
                f"`{argument}` must have the {len(self.names)} columns trained on, got "
                f"{len(columns)}."
            )
        return list(columns.values())


def take_rows(values: Any, rows: NDArray[np.int64]) -> Any:
    """Return some rows, without a copy if they are all of them; None for None."""
    if values is None or (len(rows) == n_rows(values) and (rows == np.arange(len(rows))).all()):
        return values
    return values[rows]


def _as_lightgbm(name: str) -> str:
    """Return a column's name as LightGBM writes it into its datasets."""
    return re.sub(r"\s", "_", name)


def _are_numbered(names: Iterable[str]) -> bool:
    """Return whether names are no more than positions: of an array, or a frame made of one."""
    found = list(names)
    prefixes = ("Column_", "column_", "")  # of LightGBM, polars and pandas
    return any(found == [f"{prefix}{i}" for i in range(len(found))] for prefix in prefixes)


def _matrix(argument: str, features: Any) -> Matrix:
    if hasattr(features, "tocsr"):
        from scipy.sparse import csr_matrix

        # LightGBM predicts for no `csr_array`, and takes no whole numbers.
        sparse = csr_matrix(features)
        if not sparse.has_canonical_format:
            # LightGBM takes the last of several entries for one place; SciPy adds them up.
            sparse = sparse.copy()
            sparse.sum_duplicates()
        return sparse if sparse.dtype in _FLOATS else sparse.astype(np.float64)
    matrix = np.asarray(features)
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise InvalidArgument(f"`{argument}` must be of shape (rows, columns), got {matrix.shape}.")
    if matrix.dtype.kind not in "fiub":
        raise InvalidType(
            f"`{argument}` must hold numbers, got an array of {matrix.dtype}. Strings are taken "
            "from data frames, in columns that are categorical."
        )
    if np.ma.isMaskedArray(features):
        return np.ma.filled(features.astype(np.float64), np.nan)
    # Of whole numbers LightGBM would make float32, which merges those beyond 2**24.
    return matrix if matrix.dtype in _FLOATS else matrix.astype(np.float64)


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
        # LightGBM casts codes to 32 bits, in silence.
        if (present > _LARGEST_CODE).any():
            raise InvalidArgument(
                f"`{argument}` must hold codes of at most {_LARGEST_CODE} in categorical column "
                f"{i}, got {present.max():.0f}: number the categories anew, or give a data frame."
            )
        if (present < 0).any() or (present != np.floor(present)).any():
            raise InvalidArgument(
                f"`{argument}` must hold whole numbers of 0 or above in categorical column {i}, "
                f"got {present[(present < 0) | (present != np.floor(present))][0]}."
            )


def _categories(argument: str, column: Column, *, declared: bool) -> tuple[Any, ...] | None:
    """Return a column's categories in the order of their codes; None of a numeric one."""
    if column.categories is not None:
        return tuple(map(plain_category, column.categories))
    if declared or column.is_categorical:
        present = {plain_category(value) for value in column.values() if not is_missing(value)}
        return tuple(sorted(present, key=lambda value: (str(type(value)), value)))
    if not column.is_numeric:
        texts = categories_of_texts(argument, column.name, column.values())
        if texts is not None:
            return texts
        raise InvalidType(
            f"`{argument}` must hold numbers or categories, got column {column.name!r} of "
            f"{column.dtype}: name it in `categorical`, or convert it."
        )
    return None


def _encode(argument: str, column: Column, categories: tuple[Any, ...] | None) -> NDArray[Any]:
    if categories is not None:
        values = [plain_category(value) for value in column.values()]
        _check_kind(argument, column.name, values, categories)
        code_of = {value: code for code, value in enumerate(categories)}
        codes = np.array([code_of.get(value, np.nan) for value in values], np.float64)
        return codes.astype(np.float32) if len(categories) < 2**24 else codes
    if not column.is_numeric:
        raise InvalidType(
            f"`{argument}` must hold numbers in column {column.name!r}, as in training, got "
            f"{column.dtype}."
        )
    numbers = column.numbers()
    small = numbers.dtype.itemsize <= 2 or numbers.dtype == np.float32
    return numbers.astype(np.float32 if small else np.float64)


def _check_kind(argument: str, name: str, values: list[Any], categories: tuple[Any, ...]) -> None:
    """Raise an error for text where the categories are numbers, and the other way round.

    Otherwise all of them would be unseen categories, and predicted as missing values. Where that is
    so for another reason, warn of it.
    """
    present = [value for value in values if not is_missing(value)]
    known = {isinstance(category, str) for category in categories}
    found = {isinstance(value, str) for value in present}
    if known and found and not known & found:
        raise InvalidType(
            f"`{argument}` must hold categories of the type trained on in column {name!r}, such as "
            f"{categories[0]!r}, got {present[0]!r}: convert the column."
        )
    if len(present) >= _MANY and not set(present) & set(categories):
        warnings.warn(
            f"`{argument}` has no category that training has seen in column {name!r}, which had "
            f"such as {categories[0]!r}, got {present[0]!r} and others: all are taken for missing "
            "values",
            UserWarning,
            stacklevel=2,
        )


def plain_category(category: Any) -> Any:
    """Return a category as a model file can hold it: an interval, say, as its string."""
    if isinstance(category, np.generic):  # in columns of objects
        category = category.item()
    if isinstance(category, (str, int, float)):
        return category
    return np.nan if is_missing(category) else str(category)
