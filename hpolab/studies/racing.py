"""A pruner that races each trial against the best one, fold by fold."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, median, variance
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.trial import TrialState

from hpolab.errors import InvalidArgument
from hpolab.studies.trials import is_feasible, sign_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["RacingPruner"]


class RacingPruner(BasePruner):
    """Stops trials that are unlikely to become the best.

    For objectives that report each fold's own value at the fold's number, and whose value is their
    mean. Folds differ in difficulty, the same way for all configurations, so what is compared is
    the difference to the best trial on the same folds. The mean difference over j of n folds is
    known; over all n it is normal around it with the variance s² (1/j - 1/n), if the differences
    are drawn alike and nothing is known of their mean beforehand. A trial whose chance to end
    below zero is less than ``chance`` is pruned.

    s² is the variance of such differences between folds, the median over complete trials: until a
    second trial is complete none is pruned. Where a Wilcoxon test needs ten folds to decide, as it
    asks whether the trial is *significantly* worse, this one asks what is worth its time, and
    mostly knows after one or two.

    The idea of a race is from Maron and Moore 1994, "Hoeffding races" (NeurIPS 6), and its use on
    paired folds from Birattari et al. 2002, "A racing algorithm for configuring metaheuristics"
    (GECCO); the variance is that of a mean of n of which j are seen, in a finite population.

    Args:
        chance: What is too small a chance to become the best, above 0 and below 0.5.

    Raises:
        InvalidArgument: If ``chance`` is out of its range.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     x = trial.suggest_float("x", 0, 1)
        ...     values = [x + fold + 0.01 * (-1) ** fold * x for fold in range(5)]
        ...     for fold, value in enumerate(values):
        ...         trial.report(value, fold)
        ...         if trial.should_prune():
        ...             raise optuna.TrialPruned
        ...     return sum(values) / 5
        >>> study = optuna.create_study(pruner=RacingPruner())
        >>> for x in (0.5, 0.4, 0.9, 0.1):
        ...     study.enqueue_trial({"x": x})
        >>> study.optimize(objective, n_trials=4)
        >>> [len(trial.intermediate_values) for trial in study.trials]
        [5, 5, 1, 5]
    """

    def __init__(self, chance: float = 0.2) -> None:
        if not 0 < chance < 0.5:
            raise InvalidArgument(f"`chance` must be above 0 and below 0.5, got {chance}.")
        self._chance = chance

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial's chance to end better than the best one is too small."""
        sign = -sign_of(study.direction)
        complete = [
            other.intermediate_values
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if other.intermediate_values and is_feasible(other)
        ]
        if not complete:
            return False
        best = min(complete, key=lambda reports: sign * fmean(reports.values()))
        spreads = [
            variance(differences)
            for reports in complete
            if reports is not best and len(differences := _differences(reports, best, sign)) > 1
        ]
        behind = _differences(trial.intermediate_values, best, sign)
        n_left = len(best) - len(behind)
        if not spreads or not behind or n_left <= 0:
            return False
        error = math.sqrt(median(spreads) * (1 / len(behind) - 1 / len(best)))
        return fmean(behind) > error * NormalDist().inv_cdf(1 - self._chance)


def _differences(
    reports: Mapping[int, float], best: Mapping[int, float], sign: float
) -> list[float]:
    """Return how far reports are behind the best trial's at each step that both have."""
    return [sign * (reports[step] - best[step]) for step in reports.keys() & best.keys()]
