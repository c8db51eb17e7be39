"""Rows: the data that every trial of a `SklearnObjective` is trained and scored on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.multiclass import type_of_target

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.frames import is_missing, n_rows, rows_with_gaps
from hpolab.sklearn.estimators import open_pair, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpolab.objectives.folds import Fold

__all__ = ["Rows", "nested_rows", "open_rows"]


@dataclass(frozen=True)
class Rows:
    """The data of an objective, n rows.

    Attributes:
        inputs: As given: array, sparse matrix, data frame or list.
        targets: As given.
        sample_weight: (n,), or None.
        groups: (n,), or None.
        labels: (n,) the targets of a classifier as an array; None for a regression and for
            targets of several columns.
    """

    inputs: Any
    targets: Any
    sample_weight: np.ndarray | None
    groups: np.ndarray | None
    labels: np.ndarray | None

    def __len__(self) -> int:
        return n_rows(self.inputs)

    def has_gaps(self) -> bool:
        """Return whether the inputs have missing or infinite values."""
        return bool(rows_with_gaps(self.inputs).any())

    def take(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Return inputs and targets of some rows."""
        return take_rows(self.inputs, rows), take_rows(self.targets, rows)


def open_rows(train: Any, *, sample_weight: Any, groups: Any, classifier: bool) -> Rows:
    """Check the data of an objective.

    Raises:
        InvalidArgument: If lengths differ, targets are missing, constant, or no labels though a
            classifier shall learn them, or weights are negative or not finite.
        InvalidType: If ``train`` is no pair.
    """
    inputs, targets = open_pair("train", train)
    values = np.asarray(targets)
    _check_present(values)
    _check_varied(values)
    kind = type_of_target(values)
    if classifier and kind.startswith("continuous"):
        raise InvalidArgument(
            "`train` targets must be labels for a classifier, got numbers such as "
            f"{np.ravel(values)[0]!r}: take a regressor."
        )
    return Rows(
        inputs,
        targets,
        None if sample_weight is None else _open_weights(sample_weight, len(values)),
        None if groups is None else _open_column("groups", groups, len(values)),
        np.ravel(values) if classifier and kind in ("binary", "multiclass") else None,
    )


def nested_rows(
    fold: Fold, fractions: Iterable[float], labels: np.ndarray | None, seed: int
) -> list[np.ndarray]:
    """Return growing parts of a fold's training rows, each within the next.

    Of labels every part holds each class, in about its share of the whole. The rows keep their
    order, so that the fraction 1 is the training rows themselves.

    Raises:
        InvalidArgument: If a part is too small to hold each class.
    """
    n = len(fold.train)
    draws = np.random.default_rng(seed).permutation(n)
    place = draws / n
    n_classes = 1
    if labels is not None:
        _, classes = np.unique(labels[fold.train], return_inverse=True)
        n_classes = int(classes.max()) + 1
        for each in range(n_classes):
            members = np.flatnonzero(classes == each)
            place[members] = np.argsort(np.argsort(draws[members])) / len(members)
    order = np.lexsort((draws, place))
    parts = []
    for fraction in fractions:
        size = round(fraction * n)
        if size < max(n_classes, 2):
            raise InvalidArgument(
                f"`fractions` must leave at least {max(n_classes, 2)} rows, one of each class, got "
                f"{fraction:.3g} of a fold's {n} training rows."
            )
        parts.append(fold.train[np.sort(order[:size])])
    return parts


def _check_present(values: np.ndarray) -> None:
    if values.dtype.kind not in "OUS":
        return  # NaN among floats is refused where the pair is opened
    n_missing = sum(map(is_missing, values.ravel().tolist()))
    if n_missing:
        raise InvalidArgument(f"`train` targets must not be missing, got {n_missing} without one.")


def _check_varied(values: np.ndarray) -> None:
    distinct = set(values.ravel().tolist())
    if len(distinct) < 2:
        raise InvalidArgument(
            f"`train` targets must take at least two values, got only {distinct.pop()!r}."
        )


def _open_column(name: str, column: Any, n: int) -> np.ndarray:
    opened = np.asarray(column)
    if opened.shape != (n,):
        raise InvalidArgument(
            f"`{name}` must have one value for each of the {n} rows, got shape {opened.shape}."
        )
    return opened


def _open_weights(sample_weight: Any, n: int) -> np.ndarray:
    weights = _open_column("sample_weight", sample_weight, n)
    if weights.dtype.kind not in "biuf":
        raise InvalidType(f"`sample_weight` must hold numbers, got {weights.dtype}.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidArgument(
            "`sample_weight` must be finite, 0 or above and not all 0, got values in "
            f"{weights.min()} .. {weights.max()}."
        )
    return weights
