"""Optuna's Gaussian process without Optuna's sampler around it: private names, in this file alone.

``GPSampler`` models all parameters of all complete trials at their stored values. What it is built
from can do more: take other values, leave out parameters that a branch does not have, and look for
the best of the noisy trials by what the model says of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from optuna._gp import acqf, gp, optim_mixed, prior
from optuna._gp.search_space import SearchSpace
from optuna._gp.thread_limiting import limit_threads_in_optimization
from scipy.stats import kendalltau

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

    Conditions = Mapping[str, Sequence[tuple[str, frozenset[Any]]]]

__all__ = ["draw_by_gp"]

# Optuna's own are 2,048 and 10, which take three times as long and find no more.
_N_PRELIMINARY, _N_LOCAL_SEARCHES = 1024, 4

# The weight of a prior after one trial; Hvarfner et al. take a tenth of the budget.
_PRIOR = 10.0

# Puts a configuration that was tried behind all others. Where values are noisy, to try it again
# would not be absurd; on the tables of benchmarks/search.py it finds less.
_FAR = 1e6


def draw_by_gp(
    ranges: Mapping[str, BaseDistribution],
    tried: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    *,
    running: Sequence[Mapping[str, Any]] = (),
    conditions: Conditions,
    priors: Mapping[str, tuple[float, float]] | None = None,
    seed: int,
) -> dict[str, Any]:
    """Return the params from which a Gaussian process expects the most.

    The acquisition function is the logarithm of the expected improvement (Ament et al. 2023,
    arXiv:2310.20708) over what the model believes of the best trial, not over the luckiest of the
    noisy values (the plug-in of Picheny et al. 2013, doi:10.1007/s00158-013-0919-4).

    Args:
        ranges: The search space, those of all branches included.
        tried: Params of finished trials. One that is missing counts as lying in its middle.
        scores: Their scores, finite, higher is better.
        running: Params of running trials, likewise: the model takes what it believes of them for
            true (Ginsbourger et al. 2010, doi:10.1007/978-3-642-10701-6_6).
        conditions: Name -> (name of a choice, its values with which the parameter exists), all of
            which must hold. Where one does not, the parameter counts as missing.
        priors: Name -> mean and standard deviation of a prior where the range is 0 to 1. Its
            logarithm is added to the acquisition function with a weight that falls as one over the
            number of trials (Hvarfner et al. 2022, arXiv:2204.11051), times Kendall's tau between
            it and the scores so far: a prior that foresees nothing has no say.
        seed: Seeds the search for the best params.

    Returns:
        Params with all names of ``ranges``; those that do not exist lie anywhere.
    """
    with torch.device("cpu"), limit_threads_in_optimization():
        space = SearchSpace(dict(ranges))
        X = _normalized(space, tried)
        y = np.asarray(scores, dtype=float)
        model = gp.fit_kernel_params(
            X=X,
            Y=(y - y.mean()) / max(float(y.std()), 1e-10),
            is_categorical=space.is_categorical,
            log_prior=prior.default_log_prior,
            minimum_noise=prior.DEFAULT_MINIMUM_NOISE_VAR,
            deterministic_objective=False,
        )
        with torch.no_grad():
            believed, _ = model.posterior(torch.from_numpy(X))
        if running:
            pending = torch.from_numpy(_normalized(space, running))
            model.append_running_data(pending, model.posterior(pending)[0])
        best = int(believed.argmax())
        inactive = _inactive(ranges, conditions)
        utility = _LogEI(model, space, float(believed[best]), inactive)
        if priors:
            utility.set_priors([priors.get(name, (0.5, math.inf)) for name in ranges], X, y)
        found, _ = optim_mixed.optimize_acqf_mixed(
            utility,
            warmstart_normalized_params_array=X[best : best + 1],
            n_preliminary_samples=_N_PRELIMINARY,
            n_local_search=_N_LOCAL_SEARCHES,
            rng=np.random.RandomState(seed),
        )
        return space.get_unnormalized_param(found)


class _LogEI(acqf.LogEI):
    """Log expected improvement, with a prior, by the parameters that a branch has."""

    def __init__(
        self,
        model: gp.GPRegressor,
        space: SearchSpace,
        threshold: float,
        inactive: Sequence[tuple[int, int, torch.Tensor]],
    ) -> None:
        super().__init__(model, space, threshold)
        self._inactive = inactive
        self._middle = torch.from_numpy(_middle(space))
        self._mean, self._std = self._middle, torch.full((space.dim,), math.inf)
        self._weight = 0.0

    def set_priors(
        self, priors: Sequence[tuple[float, float]], X: np.ndarray, y: np.ndarray
    ) -> None:
        """Add the priors of all parameters, weighted by how well they rank what was tried."""
        self._mean, self._std = torch.tensor(priors, dtype=torch.float64).T
        x = torch.from_numpy(X)
        foreseen = self._log_prior(x, self._is_off(x)).numpy()
        tau = float(kendalltau(foreseen, y).statistic)
        self._weight = 0.0 if math.isnan(tau) else max(tau, 0.0) * _PRIOR / len(y)

    def _is_off(self, x: torch.Tensor) -> torch.Tensor:
        """Tell which parameters do not exist in the branches that are chosen."""
        is_off = torch.zeros_like(x, dtype=torch.bool)
        for column, choice, without in self._inactive:
            # A choice that is off counts as its first, whose own parameters have its conditions.
            chosen = torch.where(is_off[..., choice], self._middle[choice], x[..., choice])
            is_off[..., column] |= torch.isin(chosen, without)
        return is_off

    def _log_prior(self, x: torch.Tensor, is_off: torch.Tensor) -> torch.Tensor:
        deviation = torch.where(is_off, 0.0, (x - self._mean) / self._std)
        return -0.5 * deviation.square().sum(dim=-1)

    def eval_acqf(self, x: torch.Tensor) -> torch.Tensor:
        is_off = self._is_off(x)
        x = torch.where(is_off, self._middle, x)
        found: torch.Tensor = super().eval_acqf(x) + self._weight * self._log_prior(x, is_off)
        is_tried = (x[..., None, :] == self._gpr._X_all).all(dim=-1).any(dim=-1)
        return torch.where(is_tried, found - _FAR, found)


def _normalized(space: SearchSpace, params: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return params as the model has them, of shape (n, n_ranges)."""
    anywhere = space.get_unnormalized_param(_middle(space))
    rows: list[Any] = [{**anywhere, **each} for each in params]
    found: np.ndarray = space.get_normalized_params(rows, rows)
    is_missing = np.array([[name not in each for name in anywhere] for each in params])
    return np.where(is_missing, _middle(space), found)


def _middle(space: SearchSpace) -> np.ndarray:
    """Return what stands for a parameter that is missing: of a choice, the first."""
    return np.where(space.is_categorical, 0.0, 0.5)


def _inactive(
    ranges: Mapping[str, BaseDistribution], conditions: Conditions
) -> list[tuple[int, int, torch.Tensor]]:
    """Return (column, column of a choice, its values without the parameter) of each condition."""
    columns = {name: i for i, name in enumerate(ranges)}
    found = []
    for name in ranges:
        for choice, values in conditions.get(name, ()):
            if choice not in ranges:  # it has one value alone
                continue
            choices = ranges[choice].choices  # type: ignore[attr-defined]
            without = [float(i) for i, value in enumerate(choices) if value not in values]
            found.append((columns[name], columns[choice], torch.tensor(without).double()))
    return found
