"""Trainings that go step by step: advanced, reported, the best step kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeVar

from hpolab.errors import Diverged
from hpolab.trial.packing import BytesState

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpolab.trial.reporter import Reporter

__all__ = ["EpochTraining", "state_of", "train_epochs", "train_steps"]

T = TypeVar("T")


class EpochTraining(Protocol):
    """A model in training, between two epochs."""

    def epoch(self) -> None:
        """Train for one epoch; may raise `Diverged`."""

    def keep_best(self) -> None:
        """Take the model as it is for the best so far."""

    def load_best(self) -> None:
        """Make the model that of the best epoch."""

    def to_bytes(self) -> bytes:
        """Return all that the training needs to go on exactly as it would have."""

    def from_bytes(self, state: bytes) -> None:
        """Go back to what `to_bytes` has returned."""


def train_epochs(
    training: EpochTraining, reporter: Reporter, n_epochs: int, read: Callable[[], float]
) -> None:
    """Train up to ``n_epochs``, or until the reporter says stop; leave the best epoch's model.

    Args:
        training: The training, which goes on behind its last checkpoint if it has one.
        reporter: Where each epoch's value is reported.
        n_epochs: Epochs of a full training.
        read: Returns the value of the model as it is.
    """
    saved = reporter.restore()
    if saved is not None:
        training.from_bytes(saved)

    def advance(epoch: int) -> float:
        try:
            training.epoch()
            return read()
        except Diverged as error:
            reporter.diverged(math.nan, f"in epoch {epoch}", cause=error)

    state = state_of(training, reporter)
    train_steps(reporter, n_epochs, advance, lambda _: training.keep_best(), state=state)
    if not reporter.improved:
        training.load_best()


def train_steps(
    reporter: Reporter,
    n_steps: int,
    advance: Callable[[int], float],
    keep: Callable[[int], T],
    *,
    state: Callable[[], bytes] | None = None,
) -> T | None:
    """Advance a training step by step until its end, or until the reporter says stop.

    Args:
        reporter: Where each step's value is reported.
        n_steps: Steps of a full training.
        advance: Trains a step and returns the value to report.
        keep: Called after each step that is the best so far.
        state: What goes into a checkpoint; see `Reporter.report`.

    Returns:
        What ``keep`` returned for the best step; None if there was no step.

    Example:
        >>> from hpolab import Reporter
        >>> values = [3.0, 1.0, 2.0]
        >>> reporter = Reporter(None, direction="minimize")
        >>> train_steps(reporter, 3, lambda step: values[step], lambda step: f"step {step}")
        'step 1'
    """
    kept = None
    for step in reporter.steps(n_steps):
        reporter.report(advance(step), step, state=state)
        if reporter.improved:
            kept = keep(step)
    return kept


def state_of(training: EpochTraining, reporter: Reporter) -> Callable[[], bytes]:
    """Return what makes a training's checkpoint, the epoch just reported being its best or not."""

    def state() -> bytes:
        if reporter.improved:
            training.keep_best()
        return training.to_bytes()

    return BytesState(state)
