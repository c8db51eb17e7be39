"""Several trials of one objective that a worker trains at once, and the ordinary case of one."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Trial

    Outcome = Callable[[Trial], float | Sequence[float]]
    """Returns the trial's value or raises what ended it, as an objective does."""

__all__ = ["Crew", "OneByOne"]


class Crew(abc.ABC):
    """The trials that one worker has in training.

    The worker claims trials, gives each to `begin`, calls `advance` as long as there are any, and
    tells the study how each ended.
    """

    @property
    @abc.abstractmethod
    def trials(self) -> list[Trial]:
        """All trials in training."""

    @property
    @abc.abstractmethod
    def has_room(self) -> bool:
        """Whether another trial may begin."""

    @abc.abstractmethod
    def begin(self, trial: Trial) -> Outcome | None:
        """Begin a trial, which advances with the others from now on.

        Returns:
            None, or the trial's outcome if it does not train with others.
        """

    @abc.abstractmethod
    def advance(self) -> list[tuple[Trial, Outcome]]:
        """Train all for a step; return those that have ended, each with its outcome."""

    @abc.abstractmethod
    def requeue(self) -> None:
        """Requeue all trials, so that other workers can resume them."""


class OneByOne(Crew):
    """Trains each trial to its end before the next one begins.

    Args:
        objective: A function of a trial.
    """

    def __init__(self, objective: Callable[[Trial], Any]) -> None:
        self._objective = objective

    @property
    def trials(self) -> list[Trial]:
        """None: a trial ends as it begins."""
        return []

    @property
    def has_room(self) -> bool:
        """Whether another trial may begin: always."""
        return True

    def begin(self, trial: Trial) -> Outcome | None:
        """Return the objective itself."""
        return self._objective

    def advance(self) -> list[tuple[Trial, Outcome]]:
        """Return nothing: no trial is in training."""
        return []

    def requeue(self) -> None:
        """Do nothing: no trial is in training."""
