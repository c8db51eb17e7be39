"""One training of a TorchObjective, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch

from hpolab.torch.metrics import read_metrics
from hpolab.torch.rng import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from optuna import Trial
    from torch import nn

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.data import Split
    from hpolab.torch.metrics import LossFunction, Metric
    from hpolab.torch.state import TrainingState
    from hpolab.trial.reporter import Reporter

__all__ = ["TorchTask", "TorchTraining", "TrainsByEpochs"]


@dataclass(frozen=True)
class TorchTask:
    """What is learned, by whatever model: data, loss and metrics.

    Attributes:
        splits: "train", "valid" and, where it was given, "score".
        loss: (outputs, targets) -> scalar tensor.
        metric: The name of the metric that is optimized.
        metrics: Name -> metric.
        eval_batch_size: Rows evaluated at once.
        device: Where models and data live.
    """

    splits: Mapping[str, Split]
    loss: LossFunction
    metric: str
    metrics: Mapping[str, Metric]
    eval_batch_size: int
    device: torch.device

    @property
    def train(self) -> Split:
        """What the weights are fitted on."""
        return self.splits["train"]

    @property
    def valid(self) -> Split:
        """What is read every epoch."""
        return self.splits["valid"]

    @property
    def score(self) -> Split:
        """What is read once, at the trial's end; `valid` where nothing else was given."""
        return self.splits.get("score", self.valid)

    @property
    def steering(self) -> Mapping[str, Metric]:
        """The metric that is optimized, alone."""
        return {self.metric: self.metrics[self.metric]}

    @property
    def generators(self) -> list[torch.Generator]:
        """The random generators that the data brings with it."""
        return [g for split in self.splits.values() for g in split.generators]

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return a context in which all that is random is seeded; outside it stays as it was."""
        return seeded(seed, self.device, self.generators)

    def evaluate(
        self, model: nn.Module, split: Split, metrics: Mapping[str, Metric]
    ) -> dict[str, float]:
        """Return the metrics of a model on a split: name -> value."""
        model.eval()
        # Not inference_mode: what a module caches in it cannot be used in training any more.
        with torch.no_grad():
            parts = [
                (model(inputs), targets) for inputs, targets in split.batches(self.eval_batch_size)
            ]
            outputs = torch.cat([outputs for outputs, _ in parts])
            targets = torch.cat([targets for _, targets in parts])
            return read_metrics(metrics, outputs, targets)


class TrainsByEpochs(Protocol):
    """What training several trials as one asks of an objective."""

    search_space: SearchSpace
    max_steps: int
    task: TorchTask

    def start(self, params: Mapping[str, Any], seed: int) -> TorchTraining:
        """Return a training before its first epoch; call it inside `TorchTask.seeded`."""

    def reporter(
        self,
        trial: Trial | None = None,
        *,
        seed: int | None = None,
        deadline: float | None = None,
    ) -> Reporter:
        """Return a reporter for a training of this objective, in a trial or outside any."""

    def record(self, values: Mapping[str, float], reporter: Reporter) -> float:
        """Store a trial's metrics where there are several, and return its value."""


@dataclass
class TorchTraining:
    """A model in training, between two epochs; made by `TorchObjective.start`.

    Attributes:
        task: What is learned.
        params: What it is trained with.
        batch_size: Rows of a batch.
        state: Model, optimizer, schedule and random state; the first generator draws the order of
            the rows.
    """

    task: TorchTask
    params: Mapping[str, Any]
    batch_size: int
    state: TrainingState

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.state.model

    def epoch(self, n_batches: int | None = None) -> None:
        """Train for one epoch; the schedule advances by batch, as far as batches are known.

        Args:
            n_batches: Train on the first so many batches alone, to see how long they take.
        """
        # Nothing here may wait for the device: no `.item()`, no check of the loss.
        model, optimizer, schedule = self.model, self.state.optimizer, self.state.schedule
        by_batch = self.task.train.n_batches(self.batch_size) is not None
        model.train()
        batches = self.task.train.batches(self.batch_size, self.state.generators[0])
        for inputs, targets in islice(batches, n_batches):
            optimizer.zero_grad()
            self.task.loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if by_batch:
                schedule.step()
        if not by_batch:
            schedule.step()

    def value(self) -> float:
        """Return the metric on `valid`."""
        values = self.task.evaluate(self.model, self.task.valid, self.task.steering)
        return values[self.task.metric]

    def score(self) -> dict[str, float]:
        """Return all metrics on `score`: name -> value."""
        return self.task.evaluate(self.model, self.task.score, self.task.metrics)

    def keep_best(self) -> None:
        """Take the model as it is for the best so far."""
        self.state.keep_best()

    def load_best(self) -> None:
        """Make the model that of the best epoch."""
        self.model.load_state_dict(self.state.best)

    def to_bytes(self) -> bytes:
        """Return all that the training needs to go on exactly as it would have."""
        return self.state.to_bytes()

    def from_bytes(self, state: bytes) -> None:
        """Go back to what `to_bytes` has returned."""
        self.state.from_bytes(state)
