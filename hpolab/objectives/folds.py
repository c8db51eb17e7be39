"""Folds: which rows are fitted and which are scored, the same for every trial."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, check_count, in_brief, needs
from hpolab.keywords import given_as

with needs("Folds", "scikit-learn", "sklearn"):
    from sklearn.model_selection import (
        GroupKFold,
        GroupShuffleSplit,
        KFold,
        ShuffleSplit,
        StratifiedGroupKFold,
        StratifiedKFold,
        StratifiedShuffleSplit,
    )

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Fold", "digest_of_folds", "folds_of", "hold_out", "make_folds"]


class Fold(NamedTuple):
    """Indices of the rows that are fitted, and of those that are scored."""

    train: np.ndarray
    valid: np.ndarray


def make_folds(
    folds: Any,
    targets: np.ndarray,
    *,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    seed: int,
    inputs: Any = None,
) -> tuple[Fold, ...]:
    """Split the rows as every trial will see them.

    Args:
        folds: How many; a splitter of scikit-learn; or (train, valid) pairs of row indices.
        targets: (n, ...) what the splitter sees of the rows.
        labels: (n,) classes to be spread evenly, or None.
        groups: (n,) groups to be kept whole, or None.
        seed: Seeds a splitter that shuffles and has no ``random_state`` of its own.
        inputs: (n, ...) for a splitter that looks at them; scikit-learn's only count them.

    Raises:
        InvalidArgument: If the rows cannot be split so, a row is in both parts of a fold, or a
            fold scores a class that it has not fitted.
        InvalidType: If ``folds`` is none of these.
    """
    pairs = folds
    inputs = np.zeros((len(targets), 1)) if inputs is None else inputs
    if isinstance(folds, (int, np.integer)) and not isinstance(folds, bool):
        pairs = _split(
            _splitter(int(folds), len(targets), labels, groups, seed), inputs, targets, groups
        )
    elif hasattr(folds, "split") and not isinstance(folds, str):
        pairs = _split(_seeded(folds, seed), inputs, targets, groups)
    elif isinstance(folds, (bool, str)) or not hasattr(folds, "__iter__"):
        raise InvalidType(
            "`folds` must be an int, a splitter of scikit-learn, or (train, valid) pairs of row "
            f"indices, got {type(folds).__name__}."
        )
    made = tuple(_open_fold(i, pair, len(targets)) for i, pair in enumerate(pairs))
    if not made:
        raise InvalidArgument("`folds` must hold at least one pair (train, valid), got none.")
    if labels is not None:
        _check_classes(made, labels)
    return made


def folds_of(folds: Any, options: Mapping[str, Any]) -> Any:
    """Return the folds that were asked for, by ``folds`` or by ``cv``, scikit-learn's word for it.

    Raises:
        InvalidArgument: If both were given.

    Example:
        >>> folds_of(None, {"cv": 5})
        5
    """
    return given_as("folds", folds, "cv", options)


def digest_of_folds(folds: Iterable[Fold]) -> str:
    """Return what tells folds of other rows, or in another order, apart; for `Objective.facts`.

    Example:
        >>> fold = Fold(np.arange(3), np.arange(3, 5))
        >>> digest_of_folds([fold]) == digest_of_folds([Fold(fold.valid, fold.train)])
        False
    """
    digest = hashlib.sha256()
    for part in (part for fold in folds for part in fold):
        rows = np.ascontiguousarray(part, dtype="<i8")
        digest.update(len(rows).to_bytes(8, "little") + rows.tobytes())
    return digest.hexdigest()[:16]


def hold_out(
    fraction: float,
    n_rows: int,
    *,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    seed: int,
) -> Fold:
    """Draw a part of the rows to score on, of each class in proportion, groups as wholes.

    Args:
        fraction: The part, above 0 and below 1.
        n_rows: Rows in all.
        labels: (n,) classes, or None.
        groups: (n,) groups, or None.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If ``fraction`` is out of its range, or the rows cannot be split so.
    """
    if not 0 < fraction < 1:
        raise InvalidArgument(f"`valid` must be a fraction between 0 and 1, got {fraction}.")
    settings = {"n_splits": 1, "test_size": fraction, "random_state": seed}
    if groups is not None:
        splitter: Any = GroupShuffleSplit(**settings)
    else:
        splitter = (ShuffleSplit if labels is None else StratifiedShuffleSplit)(**settings)
    targets = np.zeros(n_rows) if labels is None else labels
    try:
        [(train, valid)] = splitter.split(np.zeros((n_rows, 1)), targets, groups)
    except ValueError as error:
        raise InvalidArgument(f"`valid` must leave rows to both parts: {error}") from error
    fold = Fold(np.sort(train), np.sort(valid))
    if labels is not None:
        _check_classes((fold,), labels)
    return fold


def _splitter(
    n_folds: int, n_rows: int, labels: np.ndarray | None, groups: np.ndarray | None, seed: int
) -> Any:
    check_count("folds", n_folds)
    if not 2 <= n_folds <= n_rows:
        raise InvalidArgument(
            f"`folds` must be 2 or above and at most the {n_rows} rows, got {n_folds}."
        )
    if groups is not None:
        n_groups = len(set(groups.tolist()))
        if n_groups < n_folds:
            raise InvalidArgument(
                f"`folds` must be at most the number of groups, {n_groups}, got {n_folds}."
            )
    shuffle = {"shuffle": True, "random_state": seed}
    if labels is None:
        # GroupKFold shuffles since scikit-learn 1.6 only, and balances sizes without.
        return KFold(n_folds, **shuffle) if groups is None else GroupKFold(n_folds)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < n_folds:
        raise InvalidArgument(
            f"`train` must hold each class at least as often as there are folds, {n_folds}, got "
            f"{classes[counts.argmin()].item()!r} {counts.min()} times."
        )
    stratified = StratifiedKFold if groups is None else StratifiedGroupKFold
    return stratified(n_folds, **shuffle)


def _seeded(splitter: Any, seed: int) -> Any:
    # A random state of the user's own is not advanced, so that a resumed study splits alike.
    splitter = copy.deepcopy(splitter)
    if getattr(splitter, "random_state", seed) is None and getattr(splitter, "shuffle", True):
        splitter.random_state = seed
    return splitter


def _split(splitter: Any, inputs: Any, targets: np.ndarray, groups: np.ndarray | None) -> list[Any]:
    try:
        return list(splitter.split(inputs, targets, groups))
    except Exception as error:  # of whatever a splitter of the user's own asks of the rows
        raise InvalidArgument(
            f"`folds` must be able to split the {len(targets)} rows, got {splitter}, which is "
            f"shown the inputs ({type(inputs).__name__}), the targets and the groups: "
            f"{in_brief(error)}"
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
    for i, fold in enumerate(folds):
        missing = np.setdiff1d(labels[fold.valid], labels[fold.train])
        if missing.size:
            raise InvalidArgument(
                "`folds` must fit every class that they score, got fold "
                f"{i} without {missing.tolist()}: take fewer folds, or stratified ones."
            )
