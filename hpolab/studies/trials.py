"""Tables of a study's trials: pure functions that read and never write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.trial import FrozenTrial

__all__ = ["METRICS_KEY", "Tally", "best_of", "tally"]

METRICS_KEY = "hpolab:metrics"
"""The metrics that a trial has recorded beside its value: name -> number."""


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
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and all(violation <= 0 for violation in trial.constraints.values())
    ]
    sign = -1.0 if maximize else 1.0
    return min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)
