"""How sure a mean over seeds and rows is: seeds and rows as crossed random effects.

Each model that was trained with a seed is scored on the same rows. A score is then the sum of a
mean, an effect of the seed, one of the row, and a rest. New data have other rows, and another
training has another seed, so the error of the mean on new data is that of both (Owen 2007, "The
pigeonhole bootstrap", section 3; Searle, Casella and McCulloch 1992, "Variance components",
chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.statistics import spread, squares_of_later

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Contrasts", "Parts", "by_group", "on_new_rows", "on_these_rows"]


@dataclass(frozen=True)
class Parts:
    """What the variance of a mean is made of.

    Attributes:
        rows: What the draw of the rows adds to the variance of the mean.
        seeds: What the draw of the seeds adds.
        rest: What is left: chance of a row with a seed.
    """

    rows: float
    seeds: float
    rest: float

    @property
    def total(self) -> float:
        """The variance of the mean."""
        return self.rows + self.seeds + self.rest


@dataclass(frozen=True)
class Contrasts:
    """The mean differences of k configurations from one, and how sure they are.

    Attributes:
        means: (k,) mean differences.
        errors: (k,) their standard errors.
        freedom: (k,) degrees of freedom of these errors.
        correlations: (k, k) of the means' errors.
        parts: What the variance of each mean is made of; empty where rows are not known.
    """

    means: Floats
    errors: Floats
    freedom: Floats
    correlations: Floats
    parts: tuple[Parts, ...] = ()


def by_group(scores: ArrayLike, groups: ArrayLike) -> Floats:
    """Return one score for each group of rows, with the same mean.

    The score of a group of m of n rows is the mean of all rows, plus what the group adds to it
    times the number of groups. So groups of several sizes count by their rows, as in the ratio
    estimator of cluster samples (Cochran 1977, "Sampling techniques", section 9A).

    Args:
        scores: (n,) scores of rows.
        groups: (n,) the group of each row.

    Returns:
        (u,) scores in the sorted order of the groups.

    Example:
        >>> by_group([1.0, 1.0, 0.0, 0.0], ["a", "a", "a", "b"]).tolist()
        [0.75, 0.25]
    """
    scores = np.asarray(scores, float)
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    mean = scores.mean()
    sums = np.bincount(places.ravel(), weights=scores - mean, minlength=len(names))
    found: Floats = mean + sums * (len(names) / len(scores))
    return found


def on_these_rows(differences: ArrayLike, *, n_spent: int = 1) -> Contrasts:
    """Return what holds on the rows that were scored: seeds are the only chance.

    Args:
        differences: (k, n) differences of scores, seed by seed, n of 2 or above.
        n_spent: How many of the first seeds have decided n, below n.
    """
    paired = np.asarray(differences, float)
    n = paired.shape[1]
    freedom = np.full(len(paired), float(n - n_spent))
    errors = spread(paired, n_spent=n_spent) / np.sqrt(n)
    centered = paired - paired.mean(axis=1, keepdims=True)
    correlations = _steadied(_correlations(centered @ centered.T), n - 1)
    return Contrasts(paired.mean(axis=1), errors, freedom, correlations)


def on_new_rows(differences: ArrayLike, rows: ArrayLike, *, n_spent: int = 1) -> Contrasts:
    """Return what holds on new rows like those that were scored, and with new seeds.

    The variance of a mean over R rows and S seeds is (MS_rows + MS_seeds - MS_rest) / (R S), each
    part of it at least zero, with Satterthwaite's degrees of freedom.

    Args:
        differences: (k, S) differences of scores, seed by seed, S of 2 or above.
        rows: (k, S, R) the same differences, row by row, R of 2 or above.
        n_spent: How many of the first seeds have decided S, below S.
    """
    paired, by_row = np.asarray(differences, float), np.asarray(rows, float)
    n_seeds, n_rows = by_row.shape[1:]
    seeds_alone = by_row.mean(axis=2)
    of_rows = by_row.mean(axis=1)
    grand = seeds_alone.mean(axis=1)
    of_rows = of_rows - grand[:, None]
    rest = by_row - of_rows[:, None, :] - seeds_alone[:, :, None]
    centered = seeds_alone - grand[:, None]
    freedom = np.array([n_rows - 1, n_seeds - n_spent, (n_rows - 1) * (n_seeds - 1)], float)
    # (k, k) mean products; their diagonals are the mean squares.
    products_rows = n_seeds * of_rows @ of_rows.T / freedom[0]
    products_seeds = n_rows * centered @ centered.T / (n_seeds - 1)
    products_rest = np.einsum("isr,jsr->ij", rest, rest) / freedom[2]
    mean_squares = np.array(
        [
            products_rows.diagonal(),
            n_rows * squares_of_later(seeds_alone, n_spent=n_spent),
            products_rest.diagonal(),
        ]
    )
    excess = np.maximum(mean_squares[:2] - mean_squares[2], 0.0)
    parts = np.array([*excess, mean_squares[2]]) / (n_rows * n_seeds)
    variances = parts.sum(axis=0)
    used = np.array([*(excess > 0), 1.0 - (excess > 0).sum(axis=0)])
    spent = ((used * mean_squares) ** 2 / freedom[:, None]).sum(axis=0)
    total = (used * mean_squares).sum(axis=0)
    satterthwaite = np.divide(total**2, spent, out=np.full(len(total), freedom[1]), where=spent > 0)
    products = products_rows + products_seeds - products_rest
    return Contrasts(
        paired.mean(axis=1),
        np.sqrt(variances),
        satterthwaite,
        _steadied(_correlations(products), float(satterthwaite.min())),
        tuple(Parts(*each) for each in parts.T.tolist()),
    )


def _correlations(products: Floats) -> Floats:
    """Return the correlations that sums of products have; those with no spread have none."""
    deviations = np.sqrt(np.maximum(products.diagonal(), 0.0))
    scale = np.outer(deviations, deviations)
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    found = np.clip(found, -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def _steadied(correlations: Floats, freedom: float) -> Floats:
    """Return correlations drawn towards their mean, as few seeds know them badly.

    Without it, intervals of five configurations over six seeds held together in 92 % instead of
    95 %; with it, in 94 to 96 % (5 and 10 configurations, 6 to 20 seeds, true correlations 0.05 to
    0.99).
    """
    k = len(correlations)
    if k == 1:
        return correlations
    usual = (correlations.sum() - k) / (k * (k - 1))
    weight = k / (k + freedom)
    steadied: Floats = (1 - weight) * correlations + weight * max(usual, 0.0)
    np.fill_diagonal(steadied, 1.0)
    return steadied
