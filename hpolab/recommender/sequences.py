"""Sequences: each user's items in the order of time, and batches of them without padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

    Ints = NDArray[np.int64]

__all__ = ["Packed", "Sequences"]


@dataclass(frozen=True)
class Packed:
    """The items of some users behind one another, without padding.

    Attributes:
        items: (n,) each user's in the order of time.
        lengths: (b,) how many a user has; their sum is n.
        weights: (n,) of the items' rows; None where each counts as one.
    """

    items: Ints
    lengths: Ints
    weights: NDArray[np.float64] | None = None

    @property
    def positions(self) -> Ints:
        """The place of each item from the end of its sequence, (n,): 0 for a user's last."""
        return np.repeat(np.cumsum(self.lengths), self.lengths) - 1 - np.arange(len(self.items))

    @property
    def last(self) -> Ints:
        """Where each user's last item is, (b,); of no user without one."""
        return np.cumsum(self.lengths) - 1

    def shifted(self) -> tuple[Packed, Packed]:
        """Return all items but each user's last, and what follows each of them.

        Every user must have two items or more.

        Example:
            >>> inputs, following = Packed(np.array([5, 6, 7, 8, 9]), np.array([3, 2])).shifted()
            >>> inputs.items, inputs.lengths, following.items
            (array([5, 6, 8]), array([2, 1]), array([6, 7, 9]))
        """
        return self._without(self.last), self._without(self.last - self.lengths + 1)

    def _without(self, left_out: Ints) -> Packed:
        """Return the sequences without one item of each."""
        kept = np.ones(len(self.items), bool)
        kept[left_out] = False
        weights = None if self.weights is None else self.weights[kept]
        return Packed(self.items[kept], self.lengths - 1, weights)


class Sequences:
    """Each user's items in the order of time.

    Rows of a user with the same timestamp are in their stored order; without timestamps all are.

    Args:
        rows: What users took. A user may have none.

    Attributes:
        lengths: How many items each user has, (n_users,).

    Example:
        >>> from hpolab import Interactions
        >>> data = Interactions.of(["a", "b", "a"], [7, 7, 9], timestamps=[30, 20, 10])
        >>> data.item_ids[Sequences(data).last(np.array([0]), 5).items]
        array([9, 7])
    """

    def __init__(self, rows: Interactions) -> None:
        place = np.arange(len(rows))
        times = place if rows.timestamps is None else rows.timestamps
        # The last key is the first to sort by; by place nothing is left to chance.
        order = np.lexsort((place, times, rows.users))
        self.lengths: Ints = np.bincount(rows.users, minlength=rows.n_users)
        self._items: Ints = np.asarray(rows.items[order], np.int64)
        self._weights = None if rows.weights is None else rows.weights[order]
        self._ends: Ints = np.cumsum(self.lengths)

    def last(self, users: Ints, n: int) -> Packed:
        """Return the last items of users (b,), at most n of each."""
        lengths = np.minimum(self.lengths[users], n)
        starts = self._ends[users] - lengths
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.repeat(starts, lengths) + within
        weights = None if self._weights is None else self._weights[places]
        return Packed(self._items[places], lengths, weights)
