"""A Gaussian process over a study's values: where a configuration's true value may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.statistics import chance_worse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["HALF_WIDTH", "Process"]

HALF_WIDTH = 2.0
"""Half the width of an interval, in standard deviations."""

# A length is in widths of its parameter's range, noise in variances of the signal. Both priors are
# wide: a value may change within a tenth of a range or hardly at all, and noise may be a
# thousandth of the signal or fifty times as much.
_LENGTH, _LENGTH_DEVIATION = 0.0, 1.0
_NOISE, _NOISE_DEVIATION = math.log(0.05), 3.0
_LENGTHS = (-4.0, 5.0)
_NOISES = (math.log(1e-8), math.log(1e4))
# (length, noise) to start from: one function may look smooth and noisy, or rough and exact.
_STARTS = ((0.0, -2.0), (-1.0, -5.0), (0.5, 1.0))
_MOST_STEPS = 60
_N_DRAWS = 48
_DRAWS_FREEDOM = 5
# Lengths and noise are judged by at most so many values: the time grows with their cube.
_MOST_JUDGED = 200
# Of so many neighbors, the errors of their predictions say how far to trust the next one.
_N_NEIGHBORS = 8
# Eight errors show their size within a factor of two: without it, intervals beside a cliff held
# the true value in 65 % of simulations instead of 90 %.
_DOUBT = 2.0
_SQRT_5 = math.sqrt(5)


@dataclass(frozen=True)
class _Fit:
    """The values under fixed lengths and noise.

    Attributes:
        log_density: Of the lengths and the noise, given the values; a constant is left out.
        gradient: (g + 1,) its gradient.
        inverse: (n, n) the inverse of the values' covariance, in units of the signal's variance.
        mean: The mean of all places.
        weights: (n,) each trial's weight in a prediction, before its distance.
        variance: The signal's variance.
    """

    log_density: float
    gradient: Floats
    inverse: Floats
    mean: float
    weights: Floats
    variance: float


class Process:
    """A Gaussian process whose mean, variance, lengths and noise are all learned from the values.

    It has a Matérn 5/2 kernel, with a length for each parameter. Mean and variance are integrated
    out, lengths and noise averaged over their posterior distribution (importance sampling around
    its mode), so intervals hold what is not known of them. A true value is drawn toward those
    around it, and so the best of many noisy values is not taken at its word.

    Where predictions of the nearest trials without their own value err more than they should, such
    as beside a cliff, intervals are widened as much.

    Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5.

    Args:
        squares: (g, n, n) squared distances between the trials, by parameter.
        values: (n,) their values, not all equal.
    """

    def __init__(self, squares: Floats, values: Floats) -> None:
        self._squares = squares
        self._center, self._scale = float(values.mean()), float(values.std())
        self._values = (values - self._center) / self._scale
        judged = np.unique(np.linspace(0, len(values) - 1, _MOST_JUDGED).round().astype(int))
        self._mode, draws, self._shares = _posterior(
            squares[:, judged[:, None], judged], self._values[judged]
        )
        self._draws = [(draw, self._fit(draw)) for draw in draws]
        at_mode = self._fit(self._mode)
        exactness = np.diag(at_mode.inverse)
        # The error of each trial's prediction from the others, by the error that it should have.
        self._errors = at_mode.weights / np.sqrt(exactness * at_mode.variance)
        noises = [fit.variance * math.exp(draw[-1]) for draw, fit in self._draws]
        self.noise = self._scale * math.sqrt(float(self._shares @ noises))
        """The standard deviation of a value around its true one."""
        self.freedom = max(1, round(math.exp(self._mode[-1]) * float(exactness.sum())) - 1)
        """The number of values less what the smooth part explains."""

    def predict(self, squares: Floats) -> Floats:
        """Return true values of configurations with their 95 % intervals.

        Args:
            squares: (g, m, n) squared distances to the trials, by parameter.

        Returns:
            (m, 3): mean, lower end, upper end.
        """
        found = np.array([_predicted(draw, fit, squares) for draw, fit in self._draws])
        mean = self._shares @ found[:, 0]
        variance = self._shares @ (found[:, 1] + (found[:, 0] - mean) ** 2)
        near = np.argsort(_distances(self._mode, squares), axis=1)[:, : _N_NEIGHBORS + 1]
        # The nearest is the configuration itself if it was tried: its own error is what is asked.
        around = np.sqrt((self._errors[near[:, 1:]] ** 2).mean(axis=1))
        half = HALF_WIDTH * np.maximum(1.0, _DOUBT * around) * np.sqrt(variance)
        ends = np.stack([mean, mean - half, mean + half], axis=1)
        stacked: Floats = self._center + self._scale * ends
        return stacked

    def chance_below(self, one: int, other: int) -> float:
        """Return the chance that one trial's true value is below another's.

        That one was chosen as the best of all, by values with noise, needs no correction: the
        posterior distribution knows all values (Dawid 1994, "Selection paradoxes of Bayesian
        inference").

        Args:
            one: A trial's place among those of the process.
            other: Another's.
        """
        rows = [one, other]
        freedom = len(self._values) - 1
        chances = []
        for draw, fit in self._draws:
            kernel = _kernel(_distances(draw, self._squares[:, rows]))
            behind = kernel[0] - kernel[1]
            sums = fit.inverse.sum(axis=1)
            left = 2 - 2 * kernel[0, other] - behind @ fit.inverse @ behind
            variance = fit.variance * (max(left, 1e-12) + (behind @ sums) ** 2 / sums.sum())
            difference = float(behind @ fit.weights)
            chances.append(chance_worse(difference, math.sqrt(variance), freedom))
        return float(self._shares @ chances)

    def _fit(self, lengths_and_noise: Floats) -> _Fit:
        return _fit(lengths_and_noise, self._squares, self._values)


def _fit(lengths_and_noise: Floats, squares: Floats, values: Floats) -> _Fit:
    from scipy.linalg import cho_factor, cho_solve

    n, noise = len(values), math.exp(lengths_and_noise[-1])
    distances = _distances(lengths_and_noise, squares)
    factor = cho_factor(_kernel(distances) + noise * np.eye(n), lower=True)
    inverse = cho_solve(factor, np.eye(n))
    sums = inverse.sum(axis=1)
    total = float(sums.sum())
    mean = float(sums @ values) / total
    weights = inverse @ (values - mean)
    square = max(float(weights @ (values - mean)), 1e-300)
    variance = square / (n - 1)
    away = _from_prior(lengths_and_noise)
    log_density = (
        -float(np.log(np.diag(factor[0])).sum())
        - math.log(total) / 2
        - (n - 1) / 2 * math.log(square)
        - float(away @ away) / 2
    )
    pull = np.outer(weights, weights) / variance - inverse + np.outer(sums, sums) / total
    root = _SQRT_5 * np.sqrt(distances)
    slopes = pull * (5 / 3 * (1 + root) * np.exp(-root))
    gradient = np.empty(len(lengths_and_noise))
    gradient[:-1] = np.tensordot(squares, slopes) / (2 * np.exp(2 * lengths_and_noise[:-1]))
    gradient[-1] = noise * np.trace(pull) / 2
    gradient[:-1] -= away[:-1] / _LENGTH_DEVIATION
    gradient[-1] -= away[-1] / _NOISE_DEVIATION
    return _Fit(log_density, gradient, inverse, mean, weights, variance)


def _posterior(squares: Floats, values: Floats) -> tuple[Floats, list[Floats], Floats]:
    """Return the mode of lengths and noise, draws of them, and each draw's share."""
    from scipy.optimize import minimize

    def against(lengths_and_noise: Floats) -> tuple[float, Floats]:
        fit = _fit(lengths_and_noise, squares, values)
        return -fit.log_density, -fit.gradient

    n_lengths = len(squares)
    bounds = [*[_LENGTHS] * n_lengths, _NOISES]
    # Of many parameters, each has to be longer for the same distance.
    longer = math.log(max(n_lengths, 1)) / 2
    found = [
        minimize(
            against,
            np.array([length + longer] * n_lengths + [noise]),
            jac=True,
            bounds=bounds,
            method="L-BFGS-B",
            options={"maxiter": _MOST_STEPS},
        )
        for length, noise in _STARTS
    ]
    mode: Floats = min(found, key=lambda each: float(each.fun)).x
    root = _root_of_covariance(lambda place: against(place)[1], mode)
    steps, log_steps = _t_draws(len(mode))
    low, high = np.array(bounds).T
    draws = [np.clip(mode + root @ step, low, high) for step in steps]
    log_shares = np.array([-against(draw)[0] for draw in draws]) - log_steps
    shares = np.exp(log_shares - log_shares.max())
    # Truncated importance sampling (Ionides 2008): no draw stands for all.
    shares = np.minimum(shares, shares.mean() * math.sqrt(len(shares)))
    kept = shares > 1e-4 * shares.max()
    chosen = [draw for draw, is_kept in zip(draws, kept, strict=True) if is_kept]
    return mode, chosen, shares[kept] / shares[kept].sum()


def _root_of_covariance(gradient: Callable[[Floats], Floats], mode: Floats) -> Floats:
    """Return a root of the covariance around the mode, never wider than the prior."""
    steps = 1e-3 * np.eye(len(mode))
    slopes = [(gradient(mode + step) - gradient(mode - step)) / 2e-3 for step in steps]
    curvature = np.array(slopes)
    sizes, axes = np.linalg.eigh((curvature + curvature.T) / 2)
    least = 1 / max(_LENGTH_DEVIATION, _NOISE_DEVIATION) ** 2
    root: Floats = axes / np.sqrt(np.maximum(sizes, least))
    return root


def _t_draws(n: int) -> tuple[Floats, Floats]:
    """Return draws of a multivariate t distribution, in pairs, and their log densities."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(_N_DRAWS // 2, n))
    scales = np.sqrt(rng.chisquare(_DRAWS_FREEDOM, size=(_N_DRAWS, 1)) / _DRAWS_FREEDOM)
    draws = np.concatenate([half, -half]) / scales
    draws[0] = 0.0
    squares = (draws**2).sum(axis=1)
    return draws, -(_DRAWS_FREEDOM + n) / 2 * np.log1p(squares / _DRAWS_FREEDOM)


def _predicted(lengths_and_noise: Floats, fit: _Fit, squares: Floats) -> tuple[Floats, Floats]:
    """Return means and variances, each (m,), under fixed lengths and noise."""
    kernel = _kernel(_distances(lengths_and_noise, squares))
    sums = fit.inverse.sum(axis=1)
    known = ((kernel @ fit.inverse) * kernel).sum(axis=1)
    of_mean = (1 - kernel @ sums) ** 2 / sums.sum()
    n = len(fit.weights)
    # The variance of a t distribution, as the signal's own is estimated.
    variance = fit.variance * (n - 1) / max(n - 3, 1) * np.maximum(1 - known + of_mean, 1e-12)
    return fit.mean + kernel @ fit.weights, variance


def _distances(lengths_and_noise: Floats, squares: Floats) -> Floats:
    """Return squared distances over all parameters, in units of their lengths."""
    together: Floats = np.tensordot(np.exp(-2 * lengths_and_noise[:-1]), squares, axes=1)
    return together


def _kernel(distances: Floats) -> Floats:
    root = _SQRT_5 * np.sqrt(distances)
    kernel: Floats = (1 + root + root**2 / 3) * np.exp(-root)
    return kernel


def _from_prior(lengths_and_noise: Floats) -> Floats:
    """Return how many prior deviations each is away from its prior mean."""
    away = np.empty(len(lengths_and_noise))
    away[:-1] = (lengths_and_noise[:-1] - _LENGTH) / _LENGTH_DEVIATION
    away[-1] = (lengths_and_noise[-1] - _NOISE) / _NOISE_DEVIATION
    return away
