"""TorchObjective: a PyTorch model, its data and a search space make an objective."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.objectives.base import Objective
from hpolab.objectives.torch.data import check_splits, open_split
from hpolab.objectives.torch.metrics import METRICS, Metric, check_targets, find_loss
from hpolab.search_space import build_optimizer, build_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hpolab.objectives.torch.data import Split
    from hpolab.objectives.torch.metrics import LossFunction
    from hpolab.reporter import Reporter
    from hpolab.search_space import SearchSpace

__all__ = ["TorchObjective"]


class TorchObjective(Objective):
    """Trains a PyTorch model in each trial.

    A trial fits ``build_model(params)`` on `train` with the optimizer and schedule of its
    parameters, reports the metric on `valid` after every epoch, keeps the weights of the best
    epoch, and returns the metric of these weights on `score`. Since `score` neither fits the
    weights nor chooses the epoch, its values rank the trials fairly.

    Everything random is seeded by the trial, and the caller's random state is left as it was.

    Args:
        build_model: params -> ``torch.nn.Module``; sees every parameter of the trial, so options
            by layer are its own affair.
        train: What the weights are fitted on: (inputs, targets) with n rows each, as arrays or
            tensors kept on the device, or an iterable of such batches (a DataLoader) that can be
            iterated every epoch.
        valid: What is read every epoch: for pruning, early stopping and the choice of the epoch.
        score: What is read once, at the trial's end: its value. None takes the best epoch's value
            on `valid`, which is optimistic.
        search_space: What is suggested; it holds an `optimizer` as `optimizer_space` gives it, and
            may hold a schedule, `batch_size`, and whatever ``build_model`` reads.
        loss: "cross_entropy" (class ids and logits), "nll", "bce" (0 or 1, and logits), "mse",
            "mae", "huber", or (outputs, targets) -> scalar tensor.
        metric: What is optimised: "accuracy", "macro_f1", "r2", "mse", "rmse", "mae", "loss", or
            (outputs, targets) -> number.
        metrics: Names of more metrics, recorded with each trial on `score`.
        direction: "minimize" or "maximize", for a metric that is a callable; a named one knows.
        max_epochs: Epochs of a full training.
        batch_size: Rows of a training batch, unless the trial has a parameter of that name or
            `train` makes its own batches.
        patience: Epochs without improvement after which training stops; None never stops.
        min_delta: What an epoch must gain on the best to count as an improvement.
        timeout_seconds: Time limit of one trial, checked every epoch.
        device: Where models and data live, e.g. "cpu", "cuda", "cuda:1".
        eval_batch_size: Rows evaluated at once.

    Raises:
        InvalidArgument: If an argument is out of its range or set of names, data is empty or not
            finite, splits overlap, or ``direction`` contradicts the metric.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import torch
        >>> from hpolab.search_space import optimizer_space
        >>> rows = torch.linspace(-1, 1, 90).reshape(-1, 1)[torch.randperm(90)]
        >>> data = list(zip(rows.split(30), (3 * rows).split(30)))
        >>> objective = TorchObjective(
        ...     lambda params: torch.nn.Linear(1, 1),
        ...     train=data[0], valid=data[1], score=data[2],
        ...     search_space=optimizer_space("adam"), loss="mse", metric="rmse", max_epochs=2,
        ... )
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=2)
        >>> sorted(study.best_params)
        ['lr', 'one_minus_beta1', 'one_minus_beta2']
    """

    def __init__(
        self,
        build_model: Callable[[Mapping[str, Any]], nn.Module],
        *,
        train: Any,
        valid: Any,
        score: Any = None,
        search_space: SearchSpace,
        loss: str | LossFunction,
        metric: str | Callable[[Tensor, Tensor], Tensor | float],
        metrics: Sequence[str] = (),
        direction: str | None = None,
        max_epochs: int,
        batch_size: int = 32,
        patience: int | None = None,
        min_delta: float = 0.0,
        timeout_seconds: float | None = None,
        device: str | torch.device = "cpu",
        eval_batch_size: int = 1024,
    ) -> None:
        if not callable(build_model):
            raise InvalidType(f"`build_model` must be callable, got {type(build_model).__name__}.")
        for argument, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise InvalidArgument(f"`{argument}` must be 1 or above, got {value}.")
        self._loss_name = loss
        self._loss = find_loss(loss)
        self._metric_name, found = self._find_metric("metric", metric, direction)
        self._metrics = {self._metric_name: found}
        for name in metrics:
            self._metrics[name] = self._find_metric("metrics", name)[1]
        super().__init__(
            search_space=search_space,
            direction="maximize" if found.maximize else "minimize",
            max_steps=max_epochs,
            patience=patience,
            min_delta=min_delta,
            timeout_seconds=timeout_seconds,
        )
        self._build_model = build_model
        self._batch_size = batch_size
        self._eval_batch_size = eval_batch_size
        self._device = _open_device(device)
        given = {"train": train, "valid": valid, "score": score}
        given = {name: data for name, data in given.items() if data is not None}
        check_splits(given)
        self._splits = {name: open_split(name, data, self._device) for name, data in given.items()}

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train one model; see the class for what is reported and returned."""
        with _seeded(reporter.seed, self._device):
            model = self._fit(params, reporter)
        if "score" not in self._splits:
            assert reporter.best_value is not None
            return reporter.best_value
        values = self._evaluate(model, self._splits["score"], self._metrics)
        if len(values) > 1:
            reporter.record(**values)
        return values[self._metric_name]

    def fit(self, params: Mapping[str, Any], seed: int) -> nn.Module:
        """Train with ``params`` outside any trial and return the best epoch's model.

        Args:
            params: Name -> value, as the search space suggests them.
            seed: Seeds everything random.

        Raises:
            Diverged: If the training reaches NaN or infinity.
        """
        with _seeded(seed, self._device):
            return self._fit(params, self.reporter(seed=seed))

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Return all metrics of a model on data of the same form as `valid`: name -> value."""
        return self._evaluate(model, open_split("data", data, self._device), self._metrics)

    def check(self) -> None:
        """Build the model with the space's defaults and see that it fits data, loss and metrics.

        Raises:
            InvalidArgument: If labels are out of range or shapes do not fit.
        """
        super().check()
        params = self.search_space.defaults()
        with _seeded(0, self._device):
            model = self._new_model(params)
            build_optimizer(params, model)
            for name, split in self._splits.items():
                try:
                    self._check_split(model, name, split)
                except InvalidArgument:
                    raise
                except Exception as error:
                    error.add_note(
                        f"Raised on the first rows of `{name}` with the search space's default "
                        "parameters, before any trial was spent."
                    )
                    raise

    def _check_split(self, model: nn.Module, name: str, split: Split) -> None:
        model.eval()
        with torch.inference_mode():
            inputs, rows = next(split.batches(min(2, self._eval_batch_size)))
            outputs = model(inputs)
            targets = rows if split.targets is None else split.targets
            check_targets(self._loss_name, name, outputs, targets, rows)
            self._loss(outputs, rows)
            for metric in self._metrics.values():
                float(metric.function(outputs, rows))

    def _fit(self, params: Mapping[str, Any], reporter: Reporter) -> nn.Module:
        model = self._new_model(params)
        train, valid = self._splits["train"], self._splits["valid"]
        batch_size = int(params.get("batch_size", self._batch_size))
        optimizer = build_optimizer(params, model)
        schedule = build_schedule(
            params,
            optimizer,
            max_epochs=self.max_steps,
            steps_per_epoch=train.n_batches(batch_size),
        )
        metric = {self._metric_name: self._metrics[self._metric_name]}
        shuffle = torch.Generator().manual_seed(reporter.seed)
        best: dict[str, Tensor] = {}
        for epoch in reporter.steps(self.max_steps):
            model.train()
            for inputs, targets in train.batches(batch_size, shuffle):
                optimizer.zero_grad(set_to_none=True)
                self._loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            value = self._evaluate(model, valid, metric)[self._metric_name]
            reporter.report(value, epoch)
            if reporter.improved:
                best = {key: t.detach().clone() for key, t in model.state_dict().items()}
        if not reporter.improved:
            model.load_state_dict(best)
        return model

    def _evaluate(
        self, model: nn.Module, split: Split, metrics: Mapping[str, Metric]
    ) -> dict[str, float]:
        model.eval()
        with torch.inference_mode():
            parts = [
                (model(inputs), targets) for inputs, targets in split.batches(self._eval_batch_size)
            ]
            outputs = torch.cat([outputs for outputs, _ in parts])
            targets = torch.cat([targets for _, targets in parts])
            return {
                name: float(metric.function(outputs, targets)) for name, metric in metrics.items()
            }

    def _new_model(self, params: Mapping[str, Any]) -> nn.Module:
        model = self._build_model(params)
        if not isinstance(model, nn.Module):
            raise InvalidType(
                f"`build_model` must return a torch.nn.Module, got {type(model).__name__}."
            )
        return model.to(self._device)

    def _find_metric(
        self, argument: str, metric: Any, direction: str | None = None
    ) -> tuple[str, Metric]:
        if direction is not None:
            one_of("direction", direction, ("minimize", "maximize"))
        if not isinstance(metric, str):
            if direction is None:
                raise InvalidArgument(
                    "`direction` must say 'minimize' or 'maximize' for a metric that is a "
                    "callable, got None."
                )
            name = getattr(metric, "__name__", type(metric).__name__)
            return name, Metric(metric, maximize=direction == "maximize")
        known = {**METRICS, "loss": Metric(self._loss, maximize=False)}
        found = known[one_of(argument, metric, known)]
        if direction is not None and found.maximize != (direction == "maximize"):
            better = "maximize" if found.maximize else "minimize"
            raise InvalidArgument(
                f"`direction` must be {better!r} for metric {metric!r}, got {direction!r}."
            )
        return metric, found

    def _value_name(self) -> str:
        return f"metric {self._metric_name!r}"


def _open_device(device: str | torch.device) -> torch.device:
    try:
        opened = torch.device(device)
        torch.empty(0, device=opened)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument(f"`device` must be available, got {device!r}: {reason}") from None
    return opened


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside, and give them their old state back after."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield
