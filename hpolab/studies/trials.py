"""Tables of a study's trials: pure functions that read and never write."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.trial import FrozenTrial

__all__ = ["Tally", "best_of", "is_complete", "is_feasible", "ranked", "sign_of", "tally"]


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
    return next(iter(ranked(trials, "maximize" if maximize else "minimize")), None)


def ranked(trials: Iterable[FrozenTrial], direction: str | StudyDirection) -> list[FrozenTrial]:
    """Return the complete trials that violate no constraint, the best first.

    Args:
        trials: Trials of a study with one objective value.
        direction: The study's direction.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)]
        >>> [trial.value for trial in ranked(trials, "maximize")]
        [3.0, 2.0, 1.0]
    """
    sign = sign_of(direction)
    complete = [trial for trial in trials if is_complete(trial)]
    return sorted(complete, key=lambda trial: -sign * (trial.value or 0.0))


def is_complete(trial: FrozenTrial) -> bool:
    """Tell whether a trial has a finite value and violates no constraint."""
    return (
        trial.state == TrialState.COMPLETE
        and trial.value is not None
        and math.isfinite(trial.value)
        and is_feasible(trial)
    )


def is_feasible(trial: FrozenTrial) -> bool:
    """Tell whether a trial violates no constraint."""
    return all(violation <= 0 for violation in trial.constraints.values())


def sign_of(direction: str | StudyDirection) -> float:
    """Return 1 where a higher value is better and -1 where a lower one is.

    Example:
        >>> sign_of("maximize"), sign_of("minimize")
        (1.0, -1.0)
    """
    return 1.0 if direction in ("maximize", StudyDirection.MAXIMIZE) else -1.0
