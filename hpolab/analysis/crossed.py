"""How sure a mean over seeds and rows is: seeds and rows as crossed random effects.

Each model that was trained with a seed is scored on the same rows. A score is then the sum of a
mean, an effect of the seed, one of the row, and a rest. New data have other rows, and another
training has another seed, so the error of the mean on new data is that of both (Owen 2007, "The
pigeonhole bootstrap", section 3; Searle, Casella and McCulloch 1992, "Variance components",
chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.statistics import spread, squares_of_later

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Contrasts", "Parts", "on_new_rows", "on_these_rows"]

# Draws behind the quantiles of a generalized distribution.
_N_DRAWS = 20_000


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
    part of it at least zero. How well it is known comes from its generalized distribution, in which
    each mean square is divided by a chi-square's mean (Weerahandi 1993, "Generalized confidence
    intervals"): with few seeds, Satterthwaite's degrees of freedom are too many wherever the part
    of the seeds happens to be near zero, and intervals held in 83 to 90 % instead of 93 to 99 %
    (three to six seeds).

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
    n = n_rows * n_seeds
    parts = _excess(mean_squares) / n
    errors, of_errors = _as_students(mean_squares, freedom, n)
    products = products_rows + products_seeds - products_rest
    return Contrasts(
        paired.mean(axis=1),
        errors,
        of_errors,
        _steadied(_correlations(products), float(of_errors.min())),
        tuple(Parts(*each) for each in parts.T.tolist()),
    )


def _excess(mean_squares: Floats) -> Floats:
    """Return mean squares (3, ...) of rows, seeds and rest, the first two without the rest."""
    rows, seeds, rest = mean_squares
    return np.stack([np.maximum(rows - rest, 0.0), np.maximum(seeds - rest, 0.0), rest])


def _as_students(mean_squares: Floats, freedom: Floats, n: int) -> tuple[Floats, Floats]:
    """Return the standard errors and degrees of freedom of Student's t that fit best.

    They have the quantiles of the generalized distribution at 95 and 99 %.

    Args:
        mean_squares: (3, k) of rows, seeds and rest.
        freedom: (3,) their degrees of freedom.
        n: Scores that a mean is taken of.
    """
    from scipy.special import stdtrit

    normal, scales = _chance_of_squares(*freedom.tolist())
    known = np.array([*np.arange(1.0, 10.0, 0.25), *np.geomspace(10.0, 1e4, 40)])
    ratios = stdtrit(known, 0.995) / stdtrit(known, 0.975)
    quantiles = [
        np.quantile(normal * np.sqrt(_excess(each[:, None] * scales).sum(axis=0) / n), [0.95, 0.99])
        for each in mean_squares.T
    ]
    usual, far = np.array(quantiles).T
    ratio = np.divide(far, usual, out=np.ones_like(far), where=usual > 0)
    found = np.interp(-ratio, -ratios, known)
    return usual / stdtrit(found, 0.975), found


@lru_cache(maxsize=32)
def _chance_of_squares(*freedom: float) -> tuple[Floats, Floats]:
    """Return the same draws for each question: absolutes of normal numbers, and scales (3, n)."""
    from scipy.special import chdtri, ndtri

    # One of each of as many equal parts (Latin hypercube): far ends are as frequent as they are.
    rng = np.random.default_rng(0)
    normal, *others = ((rng.permutation(_N_DRAWS) + 0.5) / _N_DRAWS for _ in range(4))
    scales = [each / chdtri(each, other) for each, other in zip(freedom, others, strict=True)]
    return np.abs(ndtri(normal)), np.stack(scales)


def _correlations(products: Floats) -> Floats:
    """Return the correlations that sums of products have; those with no spread have none."""
    deviations = np.sqrt(np.maximum(products.diagonal(), 0.0))
    scale = np.outer(deviations, deviations)
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    found = np.clip(found, -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def _steadied(correlations: Floats, freedom: float) -> Floats:
    """Return correlations drawn towards their mean, as few seeds know them badly."""
    k = len(correlations)
    if k == 1:
        return correlations
    usual = (correlations.sum() - k) / (k * (k - 1))
    weight = k / (k + freedom)
    steadied: Floats = (1 - weight) * correlations + weight * max(usual, 0.0)
    np.fill_diagonal(steadied, 1.0)
    return steadied
