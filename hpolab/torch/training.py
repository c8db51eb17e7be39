"""One training of a TorchObjective, and what all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hpolab.errors import InvalidArgument, in_brief
from hpolab.torch.batches import WeightedTargets, values_of
from hpolab.torch.by_row import row_scores
from hpolab.torch.checks import check_alignment, check_is_tensor
from hpolab.torch.data import ArraySplit
from hpolab.torch.metrics import own_functions, read_metrics
from hpolab.torch.options import TrainedEpoch, TrainingOptions
from hpolab.torch.outputs import check_by_position, gathered, samples_of
from hpolab.torch.plateau import PlateauSchedule
from hpolab.torch.rng import get_random_state, seeded, set_random_state
from hpolab.torch.state import has_two_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray
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

# Rows on which a loss is compared with the mean of its values for each.
_N_ROWS_OF_MEAN = 16
# Batches from which batch norms get their statistics anew.
_N_BATCHES_OF_NORMS = 50


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
        precision: "fp32", or "bf16" for `torch.autocast`.
        own_loss: The loss where it is a function of the user's; None for a named one.
        tried: Which functions were tried on which shapes of outputs and targets.
    """

    splits: Mapping[str, Split]
    loss: LossFunction
    metric: str
    metrics: Mapping[str, Metric]
    eval_batch_size: int
    device: torch.device
    precision: str = "fp32"
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

    def outputs(self, model: nn.Module, inputs: Any) -> Tensor:
        """Return a model's outputs, (n, ...), for loss and metrics: of "bf16" in float32."""
        if self.precision == "fp32":
            outputs: Tensor = model(inputs)
            return outputs
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = model(inputs)
        is_low = isinstance(outputs, torch.Tensor) and outputs.dtype == torch.bfloat16
        return outputs.float() if is_low else outputs

    def evaluate(
        self, model: nn.Module, split: Split, metrics: Mapping[str, Metric]
    ) -> dict[str, float]:
        """Return the metrics of a model on a split: name -> value."""
        # Not inference_mode: what a module caches in it cannot be used in training any more.
        with torch.no_grad():
            outputs, targets = self.gathered(self.predicted(model, split), metrics)
            return read_metrics(metrics, outputs, targets)

    def predicted(self, model: nn.Module, split: Split) -> list[tuple[Tensor, Targets]]:
        """Return a model's outputs and the targets of each batch of a split; without gradients."""
        model.eval()
        with torch.no_grad():
            return [
                (_own(self.outputs(model, inputs)), targets)
                for inputs, targets in split.batches(self.eval_batch_size)
            ]

    def row_scores(self, model: nn.Module, split: Split) -> NDArray[np.float64] | None:
        """Return what each sample of a split contributes to the optimized metric."""
        batches = self.predicted(model, split)
        with torch.no_grad():
            outputs, targets = self.gathered(batches, self.steering)
            samples = samples_of(batches)
            return row_scores(self.metrics[self.metric], outputs, targets, samples=samples)

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
        options: How it trains, with the values of its own trial.
    """

    task: TorchTask
    params: Mapping[str, Any]
    batch_size: int
    state: TrainingState
    options: TrainingOptions = field(default_factory=TrainingOptions)
    _loss_sum: Tensor | None = None
    _n_rows: int | Tensor = 0

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.state.model

    @property
    def reason_alone(self) -> str | None:
        """Why it cannot be stacked with others, its model aside; None if nothing forbids it."""
        options = self.options
        reasons = {
            "its optimizer is your own function": options.optimizer is not None,
            "its schedule is your own function": options.schedule is not None,
            "its schedule follows the metric": isinstance(self.state.schedule, PlateauSchedule),
            "its gradients are accumulated": options.accumulation_steps > 1,
            f"its precision is {options.precision!r}": options.precision != "fp32",
            "`memory_format` asks for channels-last weights": options.memory_format
            == "channels_last",
            "`on_epoch` is shown its training loss": options.on_epoch is not None,
        }
        return ", ".join(reason for reason, holds in reasons.items() if holds) or None

    def epoch(self, n_batches: int | None = None) -> None:
        """Train for one epoch; the schedule advances by step, as far as batches are known.

        Args:
            n_batches: Train on the first so many batches alone, to see how long they take.
        """
        # Nothing here may wait for the device: no `.item()`, no check of the loss.
        by_step = self._advances_by_step()
        self.state.to_training()
        self._loss_sum, self._n_rows = None, 0
        n_first = n_rows = 0  # rows of a step's first batch, and of all its batches so far
        batches = self.task.train.batches(self.batch_size, self.state.generators[0])
        for number, (inputs, targets) in enumerate(islice(batches, n_batches), 1):
            if n_rows == 0:
                self.state.optimizer.zero_grad()
                n_first = len(targets)
            n_rows += len(targets)
            self._backward(inputs, targets, len(targets) / n_first)
            if number % self.options.accumulation_steps == 0:
                self._step(n_first / n_rows, by_step=by_step)
                n_rows = 0
        if n_rows:
            self._step(n_first / n_rows, by_step=by_step)
        if not by_step and not isinstance(self.state.schedule, ReduceLROnPlateau):
            self.state.schedule.step()
        self.state.to_evaluation()
        if has_two_weights(self.state.optimizer):
            self._renew_norms()

    def end_epoch(self, reporter: Reporter) -> float:
        """Return the metric on `valid`; call it once after each epoch, as a schedule may follow it.

        Args:
            reporter: What the value will be reported to.
        """
        values = self.task.evaluate(self.model, self.task.valid, self.task.steering)
        value = values[self.task.metric]
        schedule = self.state.schedule
        if isinstance(schedule, PlateauSchedule):
            schedule.observe(value)
        elif isinstance(schedule, ReduceLROnPlateau):
            schedule.step(value)
        if self.options.on_epoch is not None:
            self._show(value, reporter)
        return value

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

    def check_options(self, accumulation_steps: int) -> None:
        """Refuse options that fail at the first step or checkpoint; it needs gradients.

        Args:
            accumulation_steps: The most batches that a step of any trial may have.

        Raises:
            InvalidArgument: If the loss cannot be accumulated, or the user's own optimizer or
                schedule cannot be stored.
        """
        options = self.options
        has_functions = options.optimizer is not None or options.schedule is not None
        if accumulation_steps > 1:
            if self.task.train.is_weighted:
                raise InvalidArgument(
                    "`accumulation_steps` must be 1 where rows have weights, as batches of one "
                    f"step differ in theirs, got {accumulation_steps}: take a larger "
                    "`batch_size`."
                )
            self._check_loss_is_mean()
        if not has_functions and options.max_grad_norm is None:
            return
        self.state.to_training()
        self._step(1.0, by_step=not isinstance(self.state.schedule, ReduceLROnPlateau))
        self.state.to_evaluation()
        try:
            self.from_bytes(self.to_bytes())
        except Exception as error:
            raise InvalidArgument(
                "`optimizer` and `schedule` must have states that a checkpoint can hold, that is, "
                f"tensors and plain values, got {in_brief(error)}"
            ) from error

    def _check_loss_is_mean(self) -> None:
        train = self.task.train
        if isinstance(train, ArraySplit):
            inputs, targets = train.unlike_rows(_N_ROWS_OF_MEAN)
        else:
            inputs, targets = next(train.batches(_N_ROWS_OF_MEAN))
        self.model.eval()
        with torch.no_grad():
            outputs = self.task.outputs(self.model, inputs)
            whole = float(self.task.loss(outputs, targets))
            rows = [slice(place, place + 1) for place in range(len(targets))]
            parts = [float(self.task.loss(outputs[row], targets[row])) for row in rows]
        mean = math.fsum(parts) / len(parts)
        if not math.isclose(whole, mean, rel_tol=1e-3, abs_tol=1e-6):
            raise InvalidArgument(
                "`loss` must be a mean over rows where `accumulation_steps` is above 1, as the "
                f"gradients of batches are averaged by their rows: of {len(parts)} rows it is "
                f"{whole:.6g}, and the mean of its values for each {mean:.6g}. Divide it by the "
                "number of rows, or take a larger `batch_size`."
            )

    def _advances_by_step(self) -> bool:
        """Tell whether the schedule advances after every step, rather than every epoch."""
        if self.options.schedule is not None:
            return self.options.schedule_every == "step"
        return self.task.train.n_batches(self.batch_size) is not None

    def _backward(self, inputs: Any, targets: Targets, share: float) -> None:
        """Add a batch's gradient, weighted by its rows per row of the step's first batch."""
        loss = self.task.loss(self.task.outputs(self.model, inputs), targets)
        (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        if self.options.on_epoch is not None:
            n_rows = targets.weights.sum() if isinstance(targets, WeightedTargets) else len(targets)
            part = loss.detach() * n_rows
            self._loss_sum = part if self._loss_sum is None else self._loss_sum + part
            self._n_rows += n_rows

    def _step(self, scale: float, *, by_step: bool) -> None:
        """Take a step along the mean gradient: the gradients times ``scale``, then clipped."""
        optimizer, max_grad_norm = self.state.optimizer, self.options.max_grad_norm
        if scale != 1 or max_grad_norm is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            for p in trained:
                if scale != 1 and p.grad is not None:
                    p.grad.mul_(scale)
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(trained, max_grad_norm)
        optimizer.step()
        if by_step:
            self.state.schedule.step()

    def _renew_norms(self) -> None:
        """Gather the running statistics of batch norms with the weights that are evaluated.

        Those gathered in training belong to the weights that are trained. schedulefree's
        documentation asks for new ones, such as those of PreciseBN (Wu & Johnson 2021,
        arXiv:2105.07576): the mean over batches, here of at most 50.
        """
        norms = _running_norms(self.model.train())
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches, each as much as the other
        batches = self.task.train.batches(self.batch_size, self.state.generators[0])
        with torch.no_grad():
            for inputs, _ in islice(batches, _N_BATCHES_OF_NORMS):
                self.task.outputs(self.model, inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def _show(self, value: float, reporter: Reporter) -> None:
        assert self.options.on_epoch is not None
        assert self._loss_sum is not None, "an epoch was trained"
        shown = TrainedEpoch(
            epoch=reporter.next_step,
            train_loss=float(self._loss_sum / self._n_rows),
            value=value,
            lr=float(self.state.optimizer.param_groups[0]["lr"]),
            params=self.params,
            model=self.model,
            trial=reporter.trial,
        )
        # What it draws must not change the training.
        random = get_random_state(self.task.device, self.state.generators)
        self.options.on_epoch(shown)
        set_random_state(random, self.task.device, self.state.generators)


def _running_norms(model: nn.Module) -> list[_NormBase]:
    """Return the norms of a model in training that gather running statistics: no frozen ones."""
    norms = (module for module in model.modules() if isinstance(module, _NormBase))
    return [norm for norm in norms if norm.training and norm.running_mean is not None]


def _own(outputs: Any) -> Tensor:
    """Return outputs in memory of their own: a model may write its next ones over them."""
    check_is_tensor(outputs)
    own: Tensor = outputs.clone()
    return own
