"""What the trials of a study tell a model of it, whatever became of them."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from hpolab.studies.trials import is_feasible, sign_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

__all__ = ["conditions_seen", "scores_of"]


def scores_of(trials: Iterable[FrozenTrial], direction: str | StudyDirection) -> dict[int, float]:
    """Return what a model is told of each finished trial: number -> score, higher is better.

    - A complete trial's score is its value, with its sign changed where lower is better.
    - A pruned one's is its last report and the median of what complete trials gained from that step
      to their end.
    - One that violates a constraint, as those do that diverged or ran out of memory, and one
      without a finite number have the lowest score of all.
    - No score lies further below the median than 0.3 of what the best lies above it: beside a loss
      of 1e7, the differences among losses around 1 would vanish, and how bad a bad trial is need
      not be known.

    Trials that failed or have not finished have none, and neither has any before the first that
    reported a number.

    Args:
        trials: Trials of a study with one objective value.
        direction: The study's direction.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (1.0, 2.0, 3.0, 1e7)]
        >>> for number, trial in enumerate(trials):
        ...     trial.number = number
        >>> scores_of(trials, "minimize")
        {0: -1.0, 1: -2.0, 2: -2.95, 3: -2.95}
    """
    sign = sign_of(direction)
    finished = [trial for trial in trials if trial.state in _FINISHED]
    sound = [trial for trial in finished if is_feasible(trial)]
    scores = {
        trial.number: sign * trial.value
        for trial in sound
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and math.isfinite(trial.value)
    }
    complete = [trial for trial in sound if trial.number in scores]
    for trial in sound:
        expected = _expected(trial, complete, sign) if trial.state == TrialState.PRUNED else None
        if expected is not None:
            scores[trial.number] = expected
    if not scores:
        return {}
    lowest = _lowest(list(scores.values()))
    return {trial.number: max(scores.get(trial.number, lowest), lowest) for trial in finished}


# Chosen among 0, 0.3 and 1 on the half `dev` of the tables of benchmarks/search.py: all find more
# than values as they are, and what differs among them is within the error.
_BELOW = 0.3

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def _expected(trial: FrozenTrial, complete: Sequence[FrozenTrial], sign: float) -> float | None:
    """Return the score that a pruned trial would have had; None if it has reported no number."""
    step, report = trial.last_step, None
    if step is not None:
        report = trial.intermediate_values[step]
    if step is None or report is None or not math.isfinite(report):
        return None
    gains = [
        other.value - other.intermediate_values[step]
        for other in complete
        if other.value is not None and math.isfinite(other.intermediate_values.get(step, math.nan))
    ]
    return sign * (report + (statistics.median(gains) if gains else 0.0))


def _lowest(scores: Sequence[float]) -> float:
    """Return what a score counts as at least."""
    best, middle = max(scores), statistics.median(scores)
    return middle - _BELOW * (best - middle) if best > middle else min(scores)


def conditions_seen(
    params: Sequence[Mapping[str, Any]], ranges: Mapping[str, BaseDistribution]
) -> dict[str, tuple[tuple[str, frozenset[Any]], ...]]:
    """Return what seems to decide whether trials have a parameter, as `conditions_of` says it.

    That is the first choice of which no value stands in trials with the parameter and in trials
    without it. A value that was not tried yet counts as one with the parameter.

    Args:
        params: Params of some trials.
        ranges: All parameters.

    Example:
        >>> from optuna.distributions import FloatDistribution
        >>> model, C = CategoricalDistribution(["svm", "knn"]), FloatDistribution(0, 1)
        >>> params = [{"model": "svm", "C": 0.5}, {"model": "knn"}]
        >>> conditions_seen(params, {"model": model, "C": C})
        {'C': (('model', frozenset({'svm'})),)}
    """
    choices = {
        name: each.choices
        for name, each in ranges.items()
        if isinstance(each, CategoricalDistribution)
    }
    found: dict[str, tuple[tuple[str, frozenset[Any]], ...]] = {}
    for name in ranges:
        having = [each for each in params if name in each]
        lacking = [each for each in params if name not in each]
        for choice, values in choices.items():
            without = {each[choice] for each in lacking if choice in each}
            if not without or not having or not all(choice in each for each in having):
                continue
            if without.isdisjoint(each[choice] for each in having):
                found[name] = ((choice, frozenset(values) - without),)
                break
    return found
