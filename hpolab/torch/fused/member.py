"""A member of a stack: a trial with its training and its reporter."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.objectives.epochs import state_of
from hpolab.torch.rng import get_random_state, set_random_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Trial
    from torch import Tensor

    from hpolab.torch.training import TorchTraining, TrainsByEpochs
    from hpolab.trial.reporter import Reporter

__all__ = ["Member"]


@dataclass(eq=False)
class Member:
    """A trial in training.

    Attributes:
        objective: The objective of its trial.
        trial: The running trial; None if the training belongs to no trial, as in measurements.
        reporter: Its reporter.
        training: Its training. While the member is in a stack, the stack holds its weights and
            optimizer states; only the random state here is up to date.
        error: The error that ended it; None while it trains or if it has finished.
        dropout_rates: The rates of its model's dropouts, in the order of their calls.
        is_proven: Whether its first steps in a stack have been those that it makes alone.
        is_refused: Whether it has to train alone.
    """

    objective: TrainsByEpochs
    trial: Trial | None
    reporter: Reporter
    training: TorchTraining
    _random: list[Tensor]
    error: Exception | None = None
    dropout_rates: tuple[float, ...] = ()
    is_proven: bool = False
    is_refused: bool = False

    @classmethod
    def start(cls, objective: TrainsByEpochs, trial: Trial, deadline: float) -> Member:
        """Return a trial's member, resumed from its last checkpoint if it has one."""
        reporter = objective.reporter(trial, deadline=deadline)
        return cls._start(objective, trial, reporter, objective.search_space.suggest(trial))

    @classmethod
    def outside(cls, objective: TrainsByEpochs, params: Mapping[str, Any], seed: int) -> Member:
        """Return a member that belongs to no trial."""
        return cls._start(objective, None, objective.reporter(seed=seed), params)

    @classmethod
    def _start(
        cls,
        objective: TrainsByEpochs,
        trial: Trial | None,
        reporter: Reporter,
        params: Mapping[str, Any],
    ) -> Member:
        task = objective.task
        with task.seeded(reporter.seed):
            training = objective.start(params, reporter.seed)
            saved = reporter.restore()
            if saved is not None:
                training.from_bytes(saved)
            random = get_random_state(task.device, ())
        return cls(objective, trial, reporter, training, random)

    @contextmanager
    def random(self, *, keep: bool = True) -> Iterator[None]:
        """Let torch draw from the member's own random state within a ``with`` block.

        Args:
            keep: Whether the member goes on with the state that the block leaves behind.
        """
        device = self.objective.task.device
        outside = get_random_state(device, ())
        set_random_state(self._random, device, ())
        try:
            yield
        finally:
            if keep:
                self._random = get_random_state(device, ())
            set_random_state(outside, device, ())

    @property
    def is_done(self) -> bool:
        """Whether it has finished or failed."""
        return (
            self.error is not None
            or self.reporter.should_stop
            or self.reporter.next_step >= self.objective.max_steps
        )

    def epoch(self) -> float:
        """Train alone for one epoch and return the metric."""
        with self.random():
            self.training.epoch()
            return self.training.end_epoch(self.reporter)

    def state(self) -> bytes:
        """Return its checkpoint; if it is in a stack, `Stack.take_out` must come first."""
        with self.random():
            return state_of(self.training, self.reporter)()

    def place(self) -> list[Tensor]:
        """Return its random states, that of the order of its rows first."""
        return [self.training.state.generators[0].get_state(), *self._random]

    def go_back(self, place: list[Tensor]) -> None:
        """Go back to random states that `place` returned."""
        order, *self._random = place
        self.training.state.generators[0].set_state(order)

    def result(self, trial: Trial) -> float:
        """Return the trial's value, that of its best epoch, or raise the error that ended it."""
        with self.reporter:
            if self.error is not None:
                raise self.error
            with self.random():
                self.training.load_best()
                value = self.objective.record(self.training.score(), self.reporter)
            if not math.isfinite(value):
                self.reporter.diverged(value, "at its end")
            return value
