"""Which rows a trial is fitted on, and which steer it: a hold-out or folds, by scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab.objectives.lightgbm.table import Labels, Table

    Rows = NDArray[np.int64]

__all__ = ["check_split", "hold_out", "make_folds"]


def hold_out(table: Table, labels: Labels, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Draw the rows to train on and those to validate on.

    Classes are drawn in their proportions, groups as wholes.

    Args:
        table: The rows.
        labels: What the labels are.
        fraction: The part to validate on, above 0 and below 1.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If ``fraction`` is out of its range, or a class is too rare to be split.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if not 0 < fraction < 1:
        raise InvalidArgument(f"`valid` must be a fraction between 0 and 1, got {fraction}.")
    if table.groups is not None:
        splitter: Any = GroupShuffleSplit
    else:
        splitter = ShuffleSplit if labels.classes is None else StratifiedShuffleSplit
    made = splitter(n_splits=1, test_size=fraction, random_state=seed)
    return _split("valid", made, table, labels)[0]


def make_folds(table: Table, labels: Labels, folds: Any, seed: int) -> list[tuple[Rows, Rows]]:
    """Return the rows to train on and those to validate on, for each fold.

    Args:
        table: The rows.
        labels: What the labels are.
        folds: The number of folds, a splitter of scikit-learn, or pairs of rows.
        seed: Seeds the draw where ``folds`` is a number.

    Raises:
        InvalidArgument: If ``folds`` is too few or too many, a row is none of the table's, rows
            are trained and validated on, or a class is missing in training.
        InvalidType: If ``folds`` is none of these.
    """
    if isinstance(folds, (bool, str)) or not (
        isinstance(folds, int) or hasattr(folds, "split") or hasattr(folds, "__iter__")
    ):
        raise InvalidType(
            "`folds` must be a number, a splitter of scikit-learn, or pairs of rows, got "
            f"{type(folds).__name__}."
        )
    if isinstance(folds, int):
        if folds < 2:
            raise InvalidArgument(f"`folds` must be 2 or above, got {folds}.")
        folds = _splitter(table, labels, folds, seed)
    if hasattr(folds, "split"):
        return _split("folds", folds, table, labels)
    made = [_pair(pair) for pair in folds]
    if not made:
        raise InvalidArgument("`folds` must hold at least one pair of rows, got none.")
    return [check_split("folds", rows, table, labels) for rows in made]


def _pair(pair: Any) -> tuple[Rows, Rows]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidType(
            "`folds` must hold pairs of rows (train, valid), got one that is "
            f"{type(pair).__name__}."
        )
    train, valid = map(np.asarray, pair)
    for part in (train, valid):
        # Of no rows NumPy makes floats.
        if part.ndim != 1 or (len(part) and part.dtype.kind not in "iu"):
            raise InvalidType(
                "`folds` must hold positions of rows, whole numbers (rows,), got an array "
                f"{part.shape} of {part.dtype}."
            )
    return train.astype(np.int64), valid.astype(np.int64)


def _splitter(table: Table, labels: Labels, n_folds: int, seed: int) -> Any:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    stratified = labels.classes is not None
    if table.groups is not None:
        if stratified:
            return StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        return GroupKFold(n_folds)
    kind = StratifiedKFold if stratified else KFold
    return kind(n_folds, shuffle=True, random_state=seed)


def _split(argument: str, splitter: Any, table: Table, labels: Labels) -> list[tuple[Rows, Rows]]:
    if labels.classes is not None and table.groups is None and "Stratified" in repr(splitter):
        counts = np.bincount(table.labels.astype(np.int64), minlength=len(labels.classes))
        needed = getattr(splitter, "n_splits", 2) if argument == "folds" else 2
        if counts.min() < needed:
            raise InvalidArgument(
                f"`{argument}` must leave rows of each class to train and to validate on, got "
                f"{counts.min()} row(s) of class {labels.classes[int(counts.argmin())]!r} for "
                f"{needed} parts."
            )
    try:
        # Splitters look at the number of rows alone, and bins may be all that is left of features.
        made = list(splitter.split(np.zeros((len(table), 1)), table.labels, table.groups))
    except ValueError as error:
        raise InvalidArgument(f"`{argument}` cannot split the rows: {error}") from error
    return [check_split(argument, rows, table, labels) for rows in made]


def check_split(
    argument: str, rows: tuple[Rows, Rows], table: Table, labels: Labels
) -> tuple[Rows, Rows]:
    """Return rows to train on and to validate on, sorted and checked.

    Raises:
        InvalidArgument: If a part is empty or out of range, the two share rows or queries,
            training misses a class, or its labels are all the same.
    """
    train, valid = (np.sort(part) for part in rows)
    for part in (train, valid):
        if not len(part) or part[0] < 0 or part[-1] >= len(table):
            span = f"{part[0]} to {part[-1]}" if len(part) else "none"
            raise InvalidArgument(
                f"`{argument}` must give rows of 0 to {len(table) - 1}, got {span}."
            )
    shared = np.intersect1d(train, valid)
    if len(shared):
        raise InvalidArgument(
            f"`{argument}` must not validate on rows trained on, got {len(shared)} such rows, the "
            f"first {shared[0]}."
        )
    if labels.classes is not None:
        unseen = np.setdiff1d(table.labels[valid], table.labels[train]).astype(np.int64)
        if len(unseen):
            raise InvalidArgument(
                f"`{argument}` must train on every class it validates on, got a part without "
                f"{[labels.classes[code] for code in unseen]!r}: fewer folds, or stratified ones."
            )
    if (table.labels[train] == table.labels[train][0]).all():
        raise InvalidArgument(
            f"`{argument}` must train on labels that differ, got {table.labels[train][0]} for all "
            f"{len(train)} rows of a part."
        )
    if labels.ranking:
        _check_whole_queries(argument, train, valid, table)
    return train, valid


def _check_whole_queries(argument: str, train: Rows, valid: Rows, table: Table) -> None:
    assert table.groups is not None
    cut = np.intersect1d(table.groups[train], table.groups[valid])
    if len(cut):
        raise InvalidArgument(
            f"`{argument}` must leave queries whole where rows are ranked, got query "
            f"{cut.tolist()[0]!r} in both parts: take GroupKFold."
        )
