"""Laws of the calibration that are about a study itself: influence, recommend, race, overtuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna

from hpolab import RacingPruner, influence, recommend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Outcomes = Mapping[str, float | None]

__all__ = ["expected", "of_influence", "raced"]

_SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
}


def of_influence(seed: int, *, sampler: str, strength: float, n_trials: int = 60) -> Outcomes:
    """Return what `influence` says of four parameters, of which the first alone may do something.

    Args:
        seed: Of the study.
        sampler: "random" or "tpe".
        strength: How steep the bowl of the first is; 0 for none.
        n_trials: Of the study.
    """
    rng = np.random.default_rng(seed)

    def objective(trial: optuna.Trial) -> float:
        places = [trial.suggest_float(f"x{i}", 0, 1) for i in range(4)]
        return strength * (places[0] - 0.3) ** 2 + 0.3 * float(rng.normal())

    study = optuna.create_study(sampler=_SAMPLERS[sampler](seed))
    study.optimize(objective, n_trials=n_trials)
    found = influence(study, seed=seed).parameters
    idle = ["x1", "x2", "x3"] + ([] if strength else ["x0"])
    return {
        "an idle parameter is significant": any(found[name].is_significant for name in idle),
        "the parameter is found": found["x0"].is_significant if strength else None,
    }


def expected(seed: int, *, sampler: str, noise: float, n_trials: int) -> Outcomes:
    """Return whether the intervals of what `recommend` expects hold, on a smooth bowl."""
    rng = np.random.default_rng(seed)

    def truth(a: float, b: float) -> float:
        return -((a - 0.3) ** 2 + (b - 0.6) ** 2)

    def objective(trial: optuna.Trial) -> float:
        a, b = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        return truth(a, b) + noise * float(rng.normal())

    study = optuna.create_study(sampler=_SAMPLERS[sampler](seed), direction="maximize")
    study.optimize(objective, n_trials=n_trials)
    found = recommend(study)
    return {
        f"expected of {each.name} holds": None
        if each.expected is None
        else truth(each.params["a"], each.params["b"]) in each.expected
        for each in (found.best, found.robust)
    }


def raced(seed: int, *, n_trials: int = 30, n_folds: int = 10) -> Outcomes:
    """Return whether a race has stopped the trial that would have been the best, and its cost."""
    rng = np.random.default_rng(seed)
    chance = rng.normal(0, 2, n_folds) + rng.normal(size=(n_trials, n_folds))
    values = rng.normal(0, 0.3, n_trials)[:, None] + chance

    def objective(trial: optuna.Trial) -> float:
        for fold in range(n_folds):
            trial.report(values[trial.number, fold], fold)
            if fold < n_folds - 1 and trial.should_prune():
                raise optuna.TrialPruned
        return float(values[trial.number].mean())

    study = optuna.create_study(pruner=RacingPruner())
    study.optimize(objective, n_trials=n_trials)
    best = study.trials[int(values.mean(axis=1).argmin())]
    n_trained = sum(len(trial.intermediate_values) for trial in study.trials)
    return {
        "the best over all folds is stopped": best.state == optuna.trial.TrialState.PRUNED,
        "share of the folds that are trained": n_trained / values.size,
    }
