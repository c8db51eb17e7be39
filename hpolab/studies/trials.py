"""Tables of a study's trials: pure functions that read and never write."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpolab.errors import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "METRICS_KEY",
    "REASON_KEY",
    "ROWS_KEY",
    "Tally",
    "as_direction",
    "best_of",
    "best_trial",
    "holds_values",
    "is_begun",
    "is_complete",
    "is_feasible",
    "ranked",
    "sign_of",
    "tally",
]

METRICS_KEY = "hpolab:metrics"
"""The metrics that a trial has recorded beside its value: name -> number."""

ROWS_KEY = "hpolab:row_scores"
"""What rows of the data contribute to a trial's value, packed; of few trials."""

REASON_KEY = "hpolab:reason"
"""Why a trial was given up, where it diverged or ran out of memory."""


@dataclass(frozen=True)
class Tally:
    """How many trials a study has of each state."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @classmethod
    def of(cls, n_by_state: Counter[TrialState]) -> Tally:
        """Return the counts of states as a tally."""
        return cls(
            complete=n_by_state[TrialState.COMPLETE],
            pruned=n_by_state[TrialState.PRUNED],
            failed=n_by_state[TrialState.FAIL],
            running=n_by_state[TrialState.RUNNING],
            waiting=n_by_state[TrialState.WAITING],
        )

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
    return Tally.of(Counter(trial.state for trial in trials))


def is_begun(trial: FrozenTrial) -> bool:
    """Tell whether somebody has run a trial: it is no slot, nor merely enqueued.

    Example:
        >>> import optuna
        >>> is_begun(optuna.trial.create_trial(state=TrialState.WAITING))
        False
    """
    # One that was requeued keeps the time at which it was started.
    return trial.state != TrialState.WAITING or trial.datetime_start is not None


def holds_values(trial: FrozenTrial) -> bool:
    """Tell whether a trial has values, or may get some: it was run, and has not failed."""
    return is_begun(trial) and trial.state != TrialState.FAIL


def is_feasible(trial: FrozenTrial) -> bool:
    """Tell whether a trial violates no constraint.

    Example:
        >>> import optuna
        >>> is_feasible(optuna.trial.create_trial(value=1.0))
        True
    """
    return all(violation <= 0 for violation in trial.constraints.values())


def is_complete(trial: FrozenTrial) -> bool:
    """Tell whether a trial has a finite value and violates no constraint."""
    return _may_be_best(trial) and math.isfinite(trial.value or 0.0)


def as_direction(argument: str, value: Any) -> str:
    """Return "minimize" or "maximize" for either, or for Optuna's ``StudyDirection``.

    Raises:
        InvalidArgument: If ``value`` is neither; the message names ``argument``.

    Example:
        >>> as_direction("direction", StudyDirection.MAXIMIZE)
        'maximize'
    """
    name = value.name.lower() if isinstance(value, StudyDirection) else value
    return one_of(argument, name, ("minimize", "maximize"))


def sign_of(direction: str | StudyDirection) -> float:
    """Return 1 where a higher value is better and -1 where a lower one is.

    Example:
        >>> sign_of("maximize"), sign_of("minimize")
        (1.0, -1.0)
    """
    return 1.0 if direction in ("maximize", StudyDirection.MAXIMIZE) else -1.0


def ranked(trials: Iterable[FrozenTrial], direction: str | StudyDirection) -> list[FrozenTrial]:
    """Return the complete trials that violate no constraint, the best first.

    Args:
        trials: Trials of a study with one objective value.
        direction: The study's direction.

    Returns:
        The trials; of equals the earlier comes first.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)]
        >>> [trial.value for trial in ranked(trials, "maximize")]
        [3.0, 2.0, 1.0]
    """
    return sorted(filter(_may_be_best, trials), key=_loss(direction))


def best_of(trials: Iterable[FrozenTrial], direction: str | StudyDirection) -> FrozenTrial | None:
    """Return the best complete trial that violates no constraint, the earliest among equals.

    Args:
        trials: Trials of a study with one objective value.
        direction: The study's direction.

    Returns:
        The trial, or None if no trial is complete.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)]
        >>> best_of(trials, "minimize").value
        1.0
    """
    return min(filter(_may_be_best, trials), key=_loss(direction), default=None)


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the `best_of` a study, or None if it has none or several objective values."""
    if len(study.directions) > 1:
        return None
    return best_of(study.get_trials(deepcopy=False), study.direction)


def _may_be_best(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and trial.value is not None and is_feasible(trial)


def _loss(direction: str | StudyDirection) -> Callable[[FrozenTrial], float]:
    sign = -sign_of(direction)
    return lambda trial: sign * (trial.value or 0.0)
