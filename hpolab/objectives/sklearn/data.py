"""Rows and folds: what every trial of a `SklearnObjective` is trained and scored on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.multiclass import type_of_target

from hpolab.errors import InvalidArgument, InvalidType, check_count
from hpolab.estimators import n_rows, open_pair, take_rows
from hpolab.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Fold", "Rows", "make_folds", "nested_rows", "open_rows"]


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

    def take(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Return inputs and targets of some rows."""
        return take_rows(self.inputs, rows), take_rows(self.targets, rows)


class Fold(NamedTuple):
    """Indices of the rows that are fitted, and of those that are scored."""

    train: np.ndarray
    valid: np.ndarray


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


def make_folds(folds: Any, rows: Rows, *, classifier: bool, seed: int) -> tuple[Fold, ...]:
    """Split the rows as every trial will see them.

    Args:
        folds: How many; a splitter of scikit-learn; or (train, valid) pairs of row indices.
        rows: What is split.
        classifier: Whether classes are spread evenly.
        seed: Seeds a splitter that shuffles and has no ``random_state`` of its own.

    Raises:
        InvalidArgument: If the rows cannot be split so, a row is in both parts of a fold, or a
            classifier would not see a class in a fold's training rows.
        InvalidType: If ``folds`` is none of these.
    """
    pairs = folds
    if isinstance(folds, (int, np.integer)) and not isinstance(folds, bool):
        pairs = _split(_splitter(int(folds), rows, classifier, seed), rows)
    elif hasattr(folds, "split") and not isinstance(folds, str):
        pairs = _split(_seeded(folds, seed), rows)
    elif isinstance(folds, (bool, str)) or not hasattr(folds, "__iter__"):
        raise InvalidType(
            "`folds` must be an int, a splitter of scikit-learn, or (train, valid) pairs of row "
            f"indices, got {type(folds).__name__}."
        )
    made = tuple(_open_fold(i, pair, len(rows)) for i, pair in enumerate(pairs))
    if not made:
        raise InvalidArgument("`folds` must hold at least one pair (train, valid), got none.")
    if rows.labels is not None:
        _check_classes(made, rows.labels)
    return made


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
    n_missing = sum(map(_is_missing, values.ravel().tolist()))
    if n_missing:
        raise InvalidArgument(f"`train` targets must not be missing, got {n_missing} without one.")


def _is_missing(value: Any) -> bool:
    # pandas' NA is neither equal nor unequal to itself.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


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


def _splitter(n_folds: int, rows: Rows, classifier: bool, seed: int) -> Any:
    check_count("folds", n_folds)
    if not 2 <= n_folds <= len(rows):
        raise InvalidArgument(
            f"`folds` must be 2 or above and at most the {len(rows)} rows, got {n_folds}."
        )
    if rows.groups is not None:
        n_groups = len(set(rows.groups.tolist()))
        if n_groups < n_folds:
            raise InvalidArgument(
                f"`folds` must be at most the number of groups, {n_groups}, got {n_folds}."
            )
    shuffle = {"shuffle": True, "random_state": _split_seed(seed)}
    if rows.labels is None:
        # GroupKFold shuffles since scikit-learn 1.6 only, and balances sizes without.
        return KFold(n_folds, **shuffle) if rows.groups is None else GroupKFold(n_folds)
    labels, counts = np.unique(rows.labels, return_counts=True)
    if counts.min() < n_folds:
        raise InvalidArgument(
            f"`train` must hold each class at least as often as there are folds, {n_folds}, got "
            f"{labels[counts.argmin()].item()!r} {counts.min()} times."
        )
    stratified = StratifiedKFold if rows.groups is None else StratifiedGroupKFold
    return stratified(n_folds, **shuffle)


def _seeded(splitter: Any, seed: int) -> Any:
    # A random state of the user's own is not advanced, so that a resumed study splits alike.
    splitter = copy.deepcopy(splitter)
    if getattr(splitter, "random_state", seed) is None:
        splitter.random_state = _split_seed(seed)
    return splitter


def _split_seed(seed: int) -> int:
    return derive_seed(seed, "folds")


def _split(splitter: Any, rows: Rows) -> list[Any]:
    try:
        return list(splitter.split(rows.inputs, np.asarray(rows.targets), rows.groups))
    except ValueError as error:
        raise InvalidArgument(
            f"`folds` must be able to split the {len(rows)} rows, got {splitter}: {error}"
        ) from error


def _open_fold(i: int, pair: Any, n: int) -> Fold:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidType(
            f"`folds` must hold (train, valid) pairs of row indices, got {type(pair).__name__}."
        )
    train, valid = (_open_indices(i, part, n) for part in pair)
    both = np.intersect1d(train, valid)
    if both.size:
        raise InvalidArgument(
            f"`folds` must keep fitted and scored rows apart, got {both.size} rows in both parts "
            f"of fold {i}, such as row {both[0]}."
        )
    return Fold(train, valid)


def _open_indices(i: int, part: Any, n: int) -> np.ndarray:
    indices = np.asarray(part)
    if indices.dtype == bool and indices.shape == (n,):
        indices = np.flatnonzero(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or indices.size == 0:
        raise InvalidArgument(
            f"`folds` must hold row indices, one or more, got an array of {indices.dtype} of shape "
            f"{indices.shape} in fold {i}."
        )
    if indices.min() < 0 or indices.max() >= n:
        raise InvalidArgument(
            f"`folds` must hold rows of 0 .. {n - 1}, got {indices.min()} .. {indices.max()} in "
            f"fold {i}."
        )
    return indices


def _check_classes(folds: tuple[Fold, ...], labels: np.ndarray) -> None:
    known = np.unique(labels)
    for i, fold in enumerate(folds):
        missing = np.setdiff1d(known, labels[fold.train])
        if missing.size:
            raise InvalidArgument(
                "`folds` must leave every class in each fold's training rows, got fold "
                f"{i} without {missing.tolist()}."
            )
