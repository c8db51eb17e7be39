"""One training of a TorchObjective, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch

from hpolab.torch.batches import values_of
from hpolab.torch.checks import check_alignment, check_is_tensor
from hpolab.torch.metrics import own_functions, read_metrics
from hpolab.torch.outputs import check_by_position, gathered
from hpolab.torch.rng import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from contextlib import AbstractContextManager

    from optuna import Trial
    from torch import Tensor, nn

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.batches import Targets
    from hpolab.torch.data import Split
    from hpolab.torch.losses import LossFunction
    from hpolab.torch.metrics import Metric
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
        own_loss: The loss where it is a function of the user's; None for a named one.
        tried: Which functions were tried on which shapes of outputs and targets.
    """

    splits: Mapping[str, Split]
    loss: LossFunction
    metric: str
    metrics: Mapping[str, Metric]
    eval_batch_size: int
    device: torch.device
    own_loss: Callable[..., Any] | None = None
    tried: set[Hashable] = field(default_factory=set)

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
            batches = [
                (_own(model(inputs)), targets)
                for inputs, targets in split.batches(self.eval_batch_size)
            ]
            outputs, targets = self.gathered(batches, metrics)
            return read_metrics(metrics, outputs, targets)

    def gathered(
        self, batches: list[tuple[Tensor, Targets]], metrics: Mapping[str, Metric]
    ) -> tuple[Tensor, Targets]:
        """Return the outputs and targets of batches as those of one.

        Raises:
            InvalidArgument: If the user's loss or one of the metrics would be another number.
        """
        check_by_position(self.own_functions(metrics), batches)
        outputs, targets = gathered(batches)
        self.check_alignment(metrics, outputs, targets)
        return outputs, targets

    def check_alignment(
        self, metrics: Mapping[str, Metric], outputs: Tensor, targets: Targets
    ) -> None:
        """Refuse the user's loss, or one of the metrics, if it compares all pairs of rows.

        A function is tried once for shapes of a kind: it may count its calls.
        """
        for what, function in self.own_functions(metrics).items():
            key = what, outputs.shape[1:], values_of(targets).shape[1:]
            if key not in self.tried:
                check_alignment(what, function, outputs.detach(), targets)
                self.tried.add(key)

    def own_functions(self, metrics: Mapping[str, Metric]) -> dict[str, Callable[..., Any]]:
        """Return the user's loss, and those of the metrics that are the user's functions."""
        found = {f"`metric` {name!r}": each for name, each in own_functions(metrics).items()}
        found.pop("`metric` 'loss'", None)
        return found if self.own_loss is None else {"`loss`": self.own_loss} | found


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
        self.state.load_best()

    def to_bytes(self) -> bytes:
        """Return all that the training needs to go on exactly as it would have."""
        return self.state.to_bytes()

    def from_bytes(self, state: bytes) -> None:
        """Go back to what `to_bytes` has returned."""
        self.state.from_bytes(state)


def _own(outputs: Any) -> Tensor:
    """Return outputs in memory of their own: a model may write its next ones over them."""
    check_is_tensor(outputs)
    own: Tensor = outputs.clone()
    return own
