"""A training that goes by epochs: restored, trained, read, reported, its best epoch kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from hpolab.errors import Diverged

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpolab.trial.reporter import Reporter

__all__ = ["EpochTraining", "state_of", "train_epochs"]


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
    for epoch in reporter.steps(n_epochs):
        try:
            training.epoch()
            value = read()
        except Diverged as error:
            reporter.diverged(math.nan, f"in epoch {epoch}", cause=error)
        reporter.report(value, epoch, state=state_of(training, reporter))
        if reporter.improved:
            training.keep_best()
    if not reporter.improved:
        training.load_best()


def state_of(training: EpochTraining, reporter: Reporter) -> Callable[[], bytes]:
    """Return what makes a training's checkpoint, the epoch just reported being its best or not."""

    def state() -> bytes:
        if reporter.improved:
            training.keep_best()
        return training.to_bytes()

    return state
