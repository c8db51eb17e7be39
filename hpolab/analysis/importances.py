"""Optuna's importances of parameters, with their range over resamples."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.importance import (
    BaseImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

from hpolab import _optuna
from hpolab.analysis.parameters import MIN_TRIALS, Importance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["Draws", "Measure", "of_the_best", "resample"]


def of_the_best(n_trials: int) -> BaseImportanceEvaluator:
    """Return PED-ANOVA of the best tenth of the trials, Optuna's own, or of the best ten."""
    return PedAnovaImportanceEvaluator(target_quantile=max(0.1, MIN_TRIALS / 2 / n_trials))


@dataclass(frozen=True)
class Draws:
    """How many resamples to draw, and which share of them the range holds."""

    n: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Measure:
    """Optuna's importances of some parameters, for trials that have them all."""

    study: Study
    evaluator: BaseImportanceEvaluator
    names: tuple[str, ...]

    def __call__(self, cases: Sequence[FrozenTrial]) -> NDArray[np.float64]:
        """Return the importances, not normalized, in the order of the names."""
        with warnings.catch_warnings():
            # About few trials, which a resample may well have, and about `normalize`.
            warnings.simplefilter("ignore")
            found = get_param_importances(
                _optuna.with_trials(self.study, cases),
                evaluator=self.evaluator,
                params=list(self.names),
                normalize=False,
            )
        return np.array([found[name] for name in self.names])


def resample(
    measure: Measure,
    cases: Sequence[FrozenTrial],
    draws: Draws,
    rng: np.random.Generator,
) -> dict[str, Importance]:
    """Return importances by name, with their range over resamples of the trials."""
    raw = measure(cases)
    total = float(raw.sum()) or 1.0
    drawn = np.array([measure(_resampled(cases, rng)) for _ in range(draws.n)])
    shares = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    ends = (1 - draws.confidence) / 2, (1 + draws.confidence) / 2
    low, high = np.quantile(shares, ends, axis=0)
    return {
        name: Importance(
            float(raw[place] / total),
            float(shares[:, place].mean()),
            float(low[place]),
            float(high[place]),
        )
        for place, name in enumerate(measure.names)
    }


def _resampled(cases: Sequence[FrozenTrial], rng: np.random.Generator) -> list[FrozenTrial]:
    """Return as many trials, drawn with replacement, of which at least two differ in value."""
    while True:
        drawn = [cases[row] for row in rng.integers(len(cases), size=len(cases))]
        if len({case.value for case in drawn}) > 1:
            return drawn
