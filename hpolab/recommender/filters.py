"""Filters of interactions: what is too rare to learn from is left out before anything is split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpolab.errors import InvalidArgument, check_count
from hpolab.keywords import checks_keywords

if TYPE_CHECKING:
    from hpolab.recommender.interactions import Interactions

__all__ = ["k_core"]


@checks_keywords()
def k_core(interactions: Interactions, k: int) -> Interactions:
    """Leave out users and items with fewer than k interactions, until all that are left have k.

    The result is the largest part in which each user and each item has k (Batagelj and Zaveršnik
    2003, "An O(m) algorithm for cores decomposition of networks"), so that no order matters. It
    looks at all rows, those that will be held out included: figures on a core are about active
    users and popular items, and mostly higher than on everybody.

    Args:
        interactions: Of several rows with the same user and item each counts.
        k: 1 or above; 5 and 10 are usual.

    Returns:
        The rows that are left, in their order, with the users and items alone that occur in them.

    Raises:
        InvalidArgument: If ``k`` is below 1, or nothing is left.

    Example:
        >>> from hpolab import Interactions
        >>> data = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> k_core(data, 2).user_ids
        array([1, 2])
    """
    check_count("k", k)
    left = np.arange(len(interactions))
    while len(left):
        users, items = interactions.users[left], interactions.items[left]
        kept = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
        if kept.all():
            break
        left = left[kept]
    if not len(left):
        raise InvalidArgument(
            f"`k` must leave interactions over, got {k}: no part of the {len(interactions):,} has "
            "as many for each of its users and items."
        )
    return interactions.rows(left).without_empty()
