"""What is said of several methods on several tables: ranks and middle halves, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata, trim_mean

if TYPE_CHECKING:
    from collections.abc import Callable


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Return the mean rank of each method, 1 for the best; equal scores share theirs.

    Args:
        scores: Losses, of shape (n_methods, n_tables, n_seeds).

    Returns:
        Shape (n_methods,).
    """
    ranks: np.ndarray = rankdata(scores, axis=0).mean(axis=(1, 2))
    return ranks


def iqm(scores: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of each method's scores.

    The interquartile mean of Agarwal et al. 2021 (arXiv:2108.13264): it does not hang on a few runs
    that went wrong, and takes in more of them than the median.

    Args:
        scores: Shape (n_methods, n_tables, n_seeds).

    Returns:
        Shape (n_methods,).
    """
    middle: np.ndarray = trim_mean(scores.reshape(len(scores), -1), 0.25, axis=1)
    return middle


def intervals(
    statistic: Callable[[np.ndarray], np.ndarray],
    scores: np.ndarray,
    *,
    n_draws: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Return 95 % intervals of a statistic, by a stratified bootstrap.

    Seeds are drawn with replacement within each table, the same ones for all methods, as these
    share them. So an interval is about other seeds on these tables, not about other tables.

    Args:
        statistic: scores of shape (n_methods, n_tables, n_seeds) -> shape (n,).
        scores: Shape (n_methods, n_tables, n_seeds).
        n_draws: Bootstrap samples.
        seed: Seeds the draws.

    Returns:
        Shape (n, 2): low and high.
    """
    rng = np.random.default_rng(seed)
    _, n_tables, n_seeds = scores.shape
    tables = np.arange(n_tables)[:, None]
    drawn = [
        statistic(scores[:, tables, rng.integers(n_seeds, size=(n_tables, n_seeds))])
        for _ in range(n_draws)
    ]
    found: np.ndarray = np.quantile(np.array(drawn), [0.025, 0.975], axis=0).T
    return found
