"""Scores by row of trainings: checked, brought to a size that a storage holds, and back."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument
from hpolab.objectives.base import ROW_GROUP
from hpolab.objectives.by_row import by_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["RowScores", "rows_of_test"]

# More rows are scored in so many groups, drawn at random: for the variance of a mean that is as
# good, and a training takes 60 kB at most.
_MOST_ROWS = 10_000


@dataclass(frozen=True)
class RowScores:
    """What the rows of the test data contribute to a score.

    Attributes:
        values: (u,) scores of rows, or of groups of rows, whose mean is the score.
        n: How many rows, or groups of the user's, they stand for: u, or more.
    """

    values: Floats
    n: int

    def as_text(self) -> str:
        """Return them as text that a storage holds: packed float32."""
        packed = zlib.compress(self.values.astype("<f4").tobytes(), 6)
        return f"{self.n}:{base64.b85encode(packed).decode()}"

    @classmethod
    def of_text(cls, text: str) -> RowScores:
        """Return the scores of a text."""
        n, _, packed = text.partition(":")
        unpacked = zlib.decompress(base64.b85decode(packed))
        return cls(np.frombuffer(unpacked, dtype="<f4").astype(np.float64), int(n))


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
    n = len(scores)
    if n > _MOST_ROWS:
        order = np.random.default_rng(0).permutation(n)
        scores = by_unit(scores, order % _MOST_ROWS)
    return RowScores(scores, n)
