"""TrainingData: the user's data, checked and encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.frames import collected, n_rows
from hpolab.lightgbm.columns import Columns, plain_category
from hpolab.lightgbm.names import canonical, main_name, of_bins
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
        inputs: The features as they came, (n, d) of some kind; None without raw data.
    """

    table: LabeledTable
    columns: Columns
    labels: Labels
    bin_params: Mapping[str, Any]
    given: lgb.Dataset | None
    inputs: Any

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
            bin_params, names, more = _described(train)
            categorical = [*categorical, *more]
        binned = train if raw.features is None else None
        columns = (
            Columns.of("train", raw.features, categorical, names=names)
            if binned is None
            else _columns_of_bins(train)
        )
        return cls(
            raw.table("train", columns, labels),
            columns,
            labels,
            bin_params,
            given=binned,
            inputs=raw.features,
        )

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
            InvalidArgument: If a Dataset has no labels, or initial scores or positions.
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
            start, position = data.get_init_score(), data.get_position()
        else:
            label, weight, sizes = data.label, data.weight, data.group
            start, position = data.init_score, data.position
        if label is None:
            raise InvalidArgument(f"`{argument}` must have labels, got a Dataset without.")
        if start is not None:
            raise InvalidArgument(
                f"`{argument}` must have no initial scores, as its rows are split and trained on "
                "again, got a Dataset with some."
            )
        if position is not None:
            raise InvalidArgument(
                f"`{argument}` must have no positions, as they are not read here and a ranking "
                "would be trained as without them, got a Dataset with some."
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


def _described(
    dataset: lgb.Dataset,
) -> tuple[dict[str, Any], list[str] | None, list[str | int]]:
    """Return a Dataset's bin parameters, its columns' names, and its categorical columns."""
    params = dict(dataset.params or {})
    categorical: list[str | int] = []
    if not isinstance(dataset.categorical_feature, str):
        categorical += dataset.categorical_feature
    for name in [name for name in params if main_name(name) == "categorical_feature"]:
        positions = params.pop(name)
        # What LightGBM itself puts there, once it has binned the columns of a frame.
        if not isinstance(positions, list) or not all(isinstance(each, int) for each in positions):
            raise InvalidArgument(
                f"`train` must name categorical columns by `categorical_feature` of the Dataset, "
                f"got them among its params: {positions!r}."
            )
        categorical += positions
    known = dataset.feature_name
    names = None if isinstance(known, str) or not _are_names(known) else list(known)
    return of_bins(canonical("train", params, strict=False)), names, categorical


def _columns_of_bins(dataset: lgb.Dataset) -> Columns:
    """Return the columns of a Dataset that keeps bins alone.

    Raises:
        InvalidArgument: If categories cannot be matched to their columns.
    """
    names = tuple(dataset.get_feature_name())
    positions = sorted(
        position
        for name, value in (dataset.params or {}).items()
        if main_name(name) == "categorical_feature" and isinstance(value, list)
        for position in value
    )
    # Of the columns of a frame that have categories, in their order: LightGBM keeps no names.
    kept = dataset.pandas_categorical or []
    if kept and (dataset.categorical_feature != "auto" or len(kept) != len(positions)):
        raise InvalidArgument(
            "`train` must keep its raw data where its columns have ordered categories, or some "
            "that are named besides, got a Dataset that is binned: give it `free_raw_data=False`."
        )
    categories = {
        names[position]: tuple(map(plain_category, values))
        for position, values in zip(positions, kept, strict=False)
    }
    return Columns(names, tuple(positions), categories, named=_are_names(names))


def _are_names(names: Sequence[str]) -> bool:
    """Return whether names are more than LightGBM's own numbering."""
    return list(names) != [f"Column_{i}" for i in range(len(names))]


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
