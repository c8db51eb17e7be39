"""Which rows a trial is fitted on, and which steer it: a hold-out or folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument
from hpolab.lightgbm.parts import check_trained
from hpolab.objectives.folds import Fold, hold_out, make_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab.lightgbm.table import LabeledTable, Labels

__all__ = ["check_fold", "split_rows"]


def split_rows(
    table: LabeledTable,
    labels: Labels,
    *,
    valid: float | None,
    folds: Any,
    seed: int,
    inputs: Any = None,
) -> list[Fold]:
    """Return the rows to train on and those to validate on, for each fold.

    Args:
        table: The rows.
        labels: How labels are encoded.
        valid: The part to validate on, where ``folds`` is None.
        folds: A number of folds, a splitter of scikit-learn, or pairs of rows; None for one
            hold-out.
        seed: Seeds the draw.
        inputs: The features as the user has them, which a splitter may look at.

    Raises:
        InvalidArgument: If the rows cannot be split so, or not for this objective.
        InvalidType: If ``folds`` is none of these.
    """
    classes = _classes(table, labels)
    if folds is None:
        assert valid is not None
        made: Any = [
            hold_out(valid, len(table), labels=classes, groups=table.groups, seed=seed),
        ]
    else:
        made = make_folds(
            folds,
            table.labels,
            labels=classes,
            groups=table.groups,
            seed=seed,
            # A mapping of columns is no table to scikit-learn.
            inputs=inputs if hasattr(inputs, "shape") else None,
        )
    # Sorted, as LightGBM's `subset` sorts its rows.
    sorted_folds = [Fold(np.sort(fold.train), np.sort(fold.valid)) for fold in made]
    for fold in sorted_folds:
        check_fold("valid" if folds is None else "folds", fold, table, labels)
    return sorted_folds


def check_fold(argument: str, fold: Fold, table: LabeledTable, labels: Labels) -> None:
    """Raise an error if this objective cannot be trained or validated on a fold.

    Raises:
        InvalidArgument: If labels are all the same, or a query is cut.
    """
    weight = None if table.weight is None else table.weight[fold.train]
    check_trained(argument, table.labels[fold.train], weight)
    if labels.ranking:
        assert table.groups is not None
        cut = np.intersect1d(table.groups[fold.train], table.groups[fold.valid])
        if len(cut):
            raise InvalidArgument(
                f"`{argument}` must leave queries whole where rows are ranked, got query "
                f"{cut.tolist()[0]!r} in both parts: take GroupKFold."
            )


def _classes(table: LabeledTable, labels: Labels) -> NDArray[Any] | None:
    """Return the class of each row as the user named it."""
    if labels.classes is None:
        return None
    return np.array(labels.classes)[table.labels.astype(np.int64)]
