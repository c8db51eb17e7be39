"""Scores by row of trainings on test data, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument
from hpolab.objectives.base import ROW_GROUP
from hpolab.objectives.by_row import by_unit
from hpolab.objectives.packed_rows import RowScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["rows_of_test"]


def rows_of_test(
    objective: Any, model: Any, data: Any, score: float, groups: NDArray[Any] | None
) -> RowScores | None:
    """Return a model's scores by row, or by group of rows; None if they are not known.

    Args:
        objective: The objective that scored the model.
        model: A model that its `fit` made.
        data: The test data.
        score: The metric of the model on these data, which the scores' mean must be.
        groups: (n,) the group of each row; None if rows are independent.

    Raises:
        InvalidArgument: If the scores are not finite numbers, their mean is not the metric, or
            ``groups`` is not as long as they are.
    """
    scores: Floats | None = objective.checked_row_scores(model, data, score)
    if scores is None:
        if groups is None:
            return None
        raise InvalidArgument(
            f"`groups` needs scores by row, which {type(objective).__name__} has none of for "
            f"metric {objective.metric!r}: define `row_scores`."
        )
    if groups is not None:
        if objective.scored_unit == ROW_GROUP and groups.shape != scores.shape:
            raise InvalidArgument(
                f"`groups` needs a metric that is known by row, got {objective.metric!r} of "
                f"{type(objective).__name__}, which is known by groups of rows alone: leave "
                "`groups` out, or take another metric."
            )
        if groups.shape != scores.shape:
            raise InvalidArgument(
                f"`groups` must have one entry for each of the {len(scores)} rows that are scored, "
                f"got shape {groups.shape}."
            )
        scores = by_unit(scores, groups)
    return RowScores.of(scores)
