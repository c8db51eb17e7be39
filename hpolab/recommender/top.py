"""The best items of each user, by partition: ties go to the item that comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best_columns"]

# Blocks of columns for each of the k that are sought. The k-th largest of their maxima is then
# nearly always the k-th largest of all, or close below it.
_BLOCKS_PER_PLACE = 32
# Times k from which columns that are not below that bound are partitioned again, as they tie.
_MOST_PER_PLACE = 8


def best_columns(table: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return the columns of each row's k largest values, the largest first, (b, k).

    Of equal values the first column comes first.

    Args:
        table: (b, n) floats, without NaN; minus infinity is never among the best.
        k: 1 or above.

    Returns:
        Columns, -1 where a row has fewer than k values above minus infinity.

    Example:
        >>> best_columns(np.array([[1.0, 3.0, 2.0, 3.0], [-np.inf, 0.0, -np.inf, -np.inf]]), 3)
        array([[ 1,  3,  2],
               [ 1, -1, -1]])
    """
    best = np.full((len(table), k), -1, np.int64)
    for row, (values, bound) in enumerate(zip(table, _bounds(table, k), strict=True)):
        columns = np.flatnonzero(values >= bound)
        if len(columns) > _MOST_PER_PLACE * k:
            columns = _only_best(values, columns, k)
        values = values[columns]
        order = np.argsort(-values, kind="stable")[:k]
        columns = columns[order[values[order] > -np.inf]]
        best[row, : len(columns)] = columns
    return best


def _bounds(table: NDArray[Any], k: int) -> NDArray[Any]:
    """Return values that k of each row are not below, (b,).

    They are the k-th largest of the maxima of blocks of columns, which take one quick pass.
    """
    n_blocks = _BLOCKS_PER_PLACE * k
    depth = table.shape[1] // n_blocks
    if depth < 2:
        return np.full(len(table), -np.inf, table.dtype)
    blocks = table[:, : depth * n_blocks].reshape(len(table), depth, n_blocks)
    bounds: NDArray[Any] = np.partition(blocks.max(axis=1), n_blocks - k, axis=1)[:, n_blocks - k]
    return bounds


def _only_best(values: NDArray[Any], columns: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return k of some columns, (k,): those of the largest values, of equal ones the first."""
    among = values[columns]
    last = np.partition(among, len(among) - k)[len(among) - k]
    above, equal = columns[among > last], columns[among == last]
    return np.concatenate([above, equal[: k - len(above)]])
