"""Pairs of a user and an item as numbers, of which a million are looked up in a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

    Ints = NDArray[np.int64]

__all__ = ["are_among", "distinct_pairs", "pairs_of"]


def pairs_of(rows: Interactions) -> Ints:
    """Return a number for each row's user and item, (n,): user * n_items + item."""
    return rows.users * rows.n_items + rows.items


def distinct_pairs(*parts: Interactions) -> Ints:
    """Return the pairs of all rows, sorted, each once."""
    pairs = np.sort(np.concatenate([np.empty(0, np.int64), *map(pairs_of, parts)]))
    # Not by `np.unique`, which takes ten times as long from NumPy 2.3 on.
    is_new = np.append(pairs[:1] >= 0, pairs[1:] != pairs[:-1])
    distinct: Ints = pairs[is_new]
    return distinct


def are_among(pairs: Ints, known: Ints) -> NDArray[np.bool_]:
    """Return which pairs (n,) are among known ones, which are sorted, each once."""
    places = np.searchsorted(known, pairs)
    # Behind the last one there is none.
    among: NDArray[np.bool_] = np.append(known, -1)[places] == pairs
    return among
