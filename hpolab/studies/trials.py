"""Tables of a study's trials: pure functions that read and never write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "Tally",
    "best_of",
    "best_trial",
    "gain_sign",
    "is_feasible",
    "maximizes",
    "ranked",
    "tally",
]


@dataclass(frozen=True)
class Tally:
    """How many trials a study has of each state."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def finished(self) -> int:
        """Trials that are complete, pruned or failed."""
        return self.complete + self.pruned + self.failed


def tally(trials: Iterable[FrozenTrial]) -> Tally:
    """Count trials by state.

    Example:
        >>> import optuna
        >>> tally([optuna.trial.create_trial(value=1.0)])
        Tally(complete=1, pruned=0, failed=0, running=0, waiting=0)
    """
    n = Counter(trial.state for trial in trials)
    return Tally(
        complete=n[TrialState.COMPLETE],
        pruned=n[TrialState.PRUNED],
        failed=n[TrialState.FAIL],
        running=n[TrialState.RUNNING],
        waiting=n[TrialState.WAITING],
    )


def is_feasible(trial: FrozenTrial) -> bool:
    """Tell whether a trial violates no constraint.

    Example:
        >>> import optuna
        >>> is_feasible(optuna.trial.create_trial(value=1.0))
        True
    """
    return all(violation <= 0 for violation in trial.constraints.values())


def maximizes(study: Study) -> bool:
    """Tell whether more is better in a study with one objective value."""
    return study.direction == StudyDirection.MAXIMIZE


def gain_sign(maximize: bool) -> float:
    """Return what to multiply a value by so that more is better.

    Example:
        >>> gain_sign(maximize=False) * 0.25
        -0.25
    """
    return 1.0 if maximize else -1.0


def ranked(trials: Iterable[FrozenTrial], *, maximize: bool) -> list[FrozenTrial]:
    """Return the complete trials that violate no constraint, the best first.

    Args:
        trials: Trials of a study with one objective value.
        maximize: Whether more is better.

    Returns:
        The trials; of equals the earlier comes first.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)]
        >>> [trial.value for trial in ranked(trials, maximize=False)]
        [1.0, 2.0, 3.0]
    """
    return sorted(filter(_may_be_best, trials), key=_loss(maximize))


def best_of(trials: Iterable[FrozenTrial], *, maximize: bool) -> FrozenTrial | None:
    """Return the best complete trial that violates no constraint, the earliest among equals.

    Args:
        trials: Trials of a study with one objective value.
        maximize: Whether more is better.

    Returns:
        The trial, or None if no trial is complete.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)]
        >>> best_of(trials, maximize=False).value
        1.0
    """
    return min(filter(_may_be_best, trials), key=_loss(maximize), default=None)


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the `best_of` a study, or None if it has none or several objective values."""
    if len(study.directions) > 1:
        return None
    return best_of(study.get_trials(deepcopy=False), maximize=maximizes(study))


def _may_be_best(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and trial.value is not None and is_feasible(trial)


def _loss(maximize: bool) -> Callable[[FrozenTrial], float]:
    sign = -gain_sign(maximize)
    return lambda trial: sign * (trial.value or 0.0)
