"""Scores by row, brought to a size that a storage holds, and back."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpolab.objectives.by_row import by_unit

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["RowScores"]

# More rows are scored in so many groups, drawn at random: for the variance of a mean that is as
# good, and a training takes 60 kB at most.
_MOST_ROWS = 10_000


@dataclass(frozen=True)
class RowScores:
    """What rows of data contribute to a score.

    Attributes:
        values: (u,) scores of rows, or of groups of rows, whose mean is the score.
        n: How many rows, or groups of the user's, they stand for: u, or more.
    """

    values: Floats
    n: int

    @classmethod
    def of(cls, scores: Floats) -> Self:
        """Return scores (n,) of rows; where they are many, of the same random groups each time."""
        n = len(scores)
        if n > _MOST_ROWS:
            order = np.random.default_rng(0).permutation(n)
            scores = by_unit(scores, order % _MOST_ROWS)
        return cls(scores, n)

    def as_text(self) -> str:
        """Return them as text that a storage holds: packed float32."""
        packed = zlib.compress(self.values.astype("<f4").tobytes(), 6)
        return f"{self.n}:{base64.b85encode(packed).decode()}"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return the scores of a text."""
        n, _, packed = text.partition(":")
        unpacked = zlib.decompress(base64.b85decode(packed))
        return cls(np.frombuffer(unpacked, dtype="<f4").astype(np.float64), int(n))
