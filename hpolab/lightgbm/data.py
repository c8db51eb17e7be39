"""TrainingData: the user's data, checked and encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.frames import collected, n_rows
from hpolab.lightgbm.columns import Columns
from hpolab.lightgbm.names import canonical, of_bins
from hpolab.lightgbm.table import (
    LabeledTable,
    Labels,
    as_numbers,
    check_present,
    column_of,
    run_starts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["TrainingData"]


@dataclass(frozen=True)
class TrainingData:
    """The rows that a study trains and validates on.

    Attributes:
        table: All rows, those of `valid` behind those of `train` where it is data.
        columns: The columns of `train`.
        labels: How labels are encoded.
        bin_params: The bin parameters of the user's Dataset.
        given: The user's Dataset, if it is binned already and keeps no raw data.
    """

    table: LabeledTable
    columns: Columns
    labels: Labels
    bin_params: Mapping[str, Any]
    given: lgb.Dataset | None

    @classmethod
    def of(
        cls,
        train: Any,
        objective: str,
        *,
        weight: Any = None,
        groups: Any = None,
        categorical: Sequence[str | int] = (),
    ) -> TrainingData:
        """Read `train`.

        Args:
            train: (features, labels), or a Dataset.
            objective: LightGBM's name; "custom" for a function.
            weight: (n,) or None.
            groups: (n,) or None.
            categorical: Names or positions.

        Raises:
            InvalidArgument: If a part breaks its rule.
            InvalidType: If a part is of the wrong type.
        """
        raw = _Raw.of("train", train)
        if weight is not None:
            raw = replace(raw, weight=weight)
        if groups is not None:
            raw = replace(raw, groups=groups)
        labels = Labels.of("train", objective, raw.labels)
        bin_params: Mapping[str, Any] = {}
        names = None
        if isinstance(train, lgb.Dataset):
            bin_params = of_bins(canonical("train", train.params or {}, strict=False))
            names = None if isinstance(train.feature_name, str) else train.feature_name
            if not isinstance(train.categorical_feature, str):
                categorical = [*categorical, *train.categorical_feature]
        if raw.features is None:
            columns = Columns(tuple(train.get_feature_name()), (), {}, named=False)
            return cls(
                raw.table("train", columns, labels), columns, labels, bin_params, given=train
            )
        columns = Columns.of("train", raw.features, categorical, names=names)
        return cls(raw.table("train", columns, labels), columns, labels, bin_params, given=None)

    def read(self, argument: str, data: Any) -> LabeledTable:
        """Read other data of the same columns and classes.

        Raises:
            InvalidArgument: If a part breaks its rule.
            InvalidType: If a part is of the wrong type.
        """
        raw = _Raw.of(argument, data)
        if raw.features is None:
            raise InvalidArgument(
                f"`{argument}` must hold raw data, got a Dataset that is binned: give it "
                "`free_raw_data=False`."
            )
        return raw.table(argument, self.columns, self.labels)


@dataclass(frozen=True)
class _Raw:
    """The parts of the user's data, as they came.

    Attributes:
        features: A frame, an array or a sparse matrix; None where a Dataset keeps bins alone.
        labels: Labels as they came.
        weight: Weights of rows, or None.
        groups: Groups of rows, or None.
    """

    features: Any
    labels: Any
    weight: Any = None
    groups: Any = None

    @classmethod
    def of(cls, argument: str, data: Any) -> _Raw:
        """Return the parts of a pair (features, labels) or of a LightGBM Dataset.

        Raises:
            InvalidArgument: If a Dataset has no labels, or initial scores.
            InvalidType: If ``data`` is neither.
        """
        if isinstance(data, lgb.Dataset):
            return cls._of_dataset(argument, data)
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            kind = type(data).__name__
            what = f"a {kind} of {len(data)}" if isinstance(data, (tuple, list)) else kind
            raise InvalidType(
                f"`{argument}` must be a pair (X, y) of features and labels, the features beside "
                f"`y`, or a lightgbm.Dataset, got {what} alone."
                if argument == "train"
                else f"`{argument}` must be a pair (features, labels) or a lightgbm.Dataset, got "
                f"{what}."
            )
        return cls(collected(data[0]), data[1])

    @classmethod
    def _of_dataset(cls, argument: str, data: lgb.Dataset) -> _Raw:
        if _is_binned(data) or isinstance(data.data, (str, Path)):
            try:
                data.construct()
            except lgb.basic.LightGBMError as error:
                raise InvalidArgument(
                    f"`{argument}` cannot be read by LightGBM, got {str(data.data)!r}: {error}"
                ) from error
            label, weight, sizes = data.get_label(), data.get_weight(), data.get_group()
            start = data.get_init_score()
        else:
            label, weight, sizes, start = data.label, data.weight, data.group, data.init_score
        if label is None:
            raise InvalidArgument(f"`{argument}` must have labels, got a Dataset without.")
        if start is not None:
            raise InvalidArgument(
                f"`{argument}` must have no initial scores, as its rows are split and trained on "
                "again, got a Dataset with some."
            )
        groups = None if sizes is None else _group_of_rows(sizes)
        raw = None if isinstance(data.data, (str, Path)) else data.data
        return cls(collected(raw), label, weight, groups)

    def table(self, argument: str, columns: Columns, labels: Labels) -> LabeledTable:
        """Return the rows, read by the columns and classes of the training data.

        Raises:
            InvalidArgument: If lengths differ, there is no row, or a part breaks its rule.
        """
        numbers = labels.encode(argument, self.labels)
        matrix = None if self.features is None else columns.encode(argument, self.features)
        n = len(numbers)
        if matrix is not None and n_rows(matrix) != n:
            raise InvalidArgument(
                f"`{argument}` features and labels must be of one length, got {n_rows(matrix)} "
                f"and {n}."
            )
        if labels.ranking and self.groups is None:
            raise InvalidArgument(
                f"`groups` must name the query of each row of `{argument}` for objective "
                f"{labels.objective!r}, got None. Data besides `train` brings its groups as a "
                "lightgbm.Dataset."
            )
        return LabeledTable(
            matrix,
            numbers,
            weight=None if self.weight is None else _weight(self.weight, n),
            groups=None if self.groups is None else _groups(self.groups, n, labels.ranking),
            ranked=labels.ranking,
        )


def _weight(weight: Any, n: int) -> NDArray[np.float64]:
    values = as_numbers("weight", column_of("weight", weight))
    _check_length("weight", values, n)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise InvalidArgument(
            "`weight` must be finite, 0 or above, and somewhere above 0, got "
            f"{values.min()} to {values.max()}."
        )
    return values


def _groups(groups: Any, n: int, together: bool) -> NDArray[Any]:
    values = column_of("groups", groups)
    _check_length("groups", values, n)
    check_present("`groups`", values)
    if together:
        unique, counts = np.unique(values[run_starts(values)], return_counts=True)
        if (counts > 1).any():
            raise InvalidArgument(
                "`groups` must hold the rows of a query one after another, got "
                f"{unique[counts > 1].tolist()[0]!r} in {counts.max()} places: sort the rows by it."
            )
    return values


def _check_length(argument: str, values: NDArray[Any], n: int) -> None:
    if len(values) != n:
        raise InvalidArgument(
            f"`{argument}` must be as long as `train`, got {len(values)} for {n} rows."
        )


def _group_of_rows(sizes: Any) -> NDArray[np.int64]:
    n_rows_of = np.asarray(sizes, np.int64)
    return np.repeat(np.arange(len(n_rows_of)), n_rows_of)


def _is_binned(dataset: lgb.Dataset) -> bool:
    try:
        dataset.num_data()
    except lgb.basic.LightGBMError:  # what it says before `construct`
        return False
    return True
