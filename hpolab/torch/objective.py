"""TorchObjective: a PyTorch model, its data and a search space make an objective."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import torch
from torch import Tensor, nn

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.identity import function_settings
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.objectives.epochs import train_epochs
from hpolab.objectives.names import refuse_settings
from hpolab.seeding import check_seed
from hpolab.torch.build import build_optimizer, build_schedule
from hpolab.torch.data import open_split, open_splits
from hpolab.torch.facts import data_facts
from hpolab.torch.metrics import (
    METRICS,
    check_outputs,
    check_targets,
    find_loss,
    find_metrics,
    name_of,
    read_metrics,
)
from hpolab.torch.names import ReadParams, names_of_training, unread_names
from hpolab.torch.rng import order_seed, seeded
from hpolab.torch.state import TrainingState
from hpolab.torch.training import TorchTask, TorchTraining
from hpolab.trial.reporter import ReporterOptions, options_of_reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Unpack

    from optuna import Study
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.data import Split
    from hpolab.torch.fused.crew import FusedCrew
    from hpolab.torch.metrics import LossFunction, MetricFunction
    from hpolab.trial.reporter import Reporter

__all__ = ["TorchObjective"]

_logger = optuna.logging.get_logger(__name__)

_EVAL_BATCH_SIZE = 256


class TorchOptions(ReporterOptions, total=False):
    """What else `TorchObjective` takes by name."""

    eval_batch_size: int


class TorchObjective(Objective):
    """Trains a PyTorch model in each trial.

    A trial fits ``build_model(params)`` on `train` with the optimizer and schedule of its
    parameters, reports the metric on `valid` after every epoch, keeps the weights of the best
    epoch, and returns the metric of these weights on `score`. Since `score` neither fits the
    weights nor chooses the epoch, its values rank the trials fairly. A schedule advances after
    every batch; where `train` cannot tell how many batches it has, after every epoch.

    Everything that draws from torch is seeded by the trial: initial weights, dropout, the order of
    the rows, and what a DataLoader and its samplers draw, with generators of their own or without.
    The same seed gives the same weights, bit for bit on a CPU and elsewhere as far as torch's
    kernels are deterministic. The random state outside, that of a loader's own generators included,
    is left as it was. Two things are out of reach: random state that is not torch's, and workers
    that a loader keeps from epoch to epoch (``persistent_workers``). torch's random state belongs
    to the process, so trials in threads (``n_jobs``) are not reproducible: use processes.

    The objective can be pickled if ``build_model``, the data and any callables can.

    Args:
        build_model: params -> ``torch.nn.Module``, whose output is a tensor; sees every parameter
            of the trial, so options by layer are its own affair.
        train: What the weights are fitted on: (inputs, targets) with n rows each, as arrays or
            tensors kept on the device, or an iterable of such batches (a DataLoader) that can be
            iterated every epoch. Inputs may also be arrays in a tuple, list or dict, which the
            model gets as such. Of arrays, floats take torch's default dtype; batches stay as they
            are.
        valid: What is read every epoch: for pruning, early stopping and the choice of the epoch.
        score: What is read once, at the trial's end: its value. None reads `valid`
            again, which is optimistic: it has chosen the epoch.
        search_space: What is suggested; it holds an `optimizer` as `optimizer_space` gives it, and
            may hold a schedule, `batch_size`, and whatever ``build_model`` reads.
        loss: "cross_entropy" (class ids and logits), "nll", "bce" (0 or 1, and logits), "mse",
            "mae", "huber", or (outputs, targets) -> scalar tensor.
        metric: What is optimized: "accuracy", "macro_f1", "r2", "mse", "rmse", "mae", "loss", or
            (outputs, targets) -> number. It gets the outputs for a whole split at once, on the
            device.
        metrics: More metrics, recorded with each trial on what its value comes from.
        direction: "minimize" or "maximize", for a metric that is a callable; a named one knows.
        max_epochs: Epochs of a full training.
        batch_size: Rows of a training batch, unless the trial has a parameter of that name or
            `train` makes its own batches. A single row left over joins the last batch.
        device: Where models and data live, e.g. "cpu", "cuda", "cuda:1".
        **settings: ``patience`` and the others of `ReporterSettings`, counted in epochs; and
            ``eval_batch_size``, rows evaluated at once, 256 by default. (On a CPU, 1,024 images of
            the MNIST protocol fall out of its cache: they take 1.4 times what 256 at once take.)

    Raises:
        InvalidArgument: If an argument is out of its range or set of names, data is empty or not
            finite, labels do not suit the loss, splits overlap, or ``direction`` contradicts the
            metric.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import torch
        >>> from hpolab import optimizer_space
        >>> rows = torch.linspace(-1, 1, 90).reshape(-1, 1)
        >>> train, valid, score = ((rows[i::3], 3 * rows[i::3]) for i in range(3))
        >>> objective = TorchObjective(
        ...     lambda params: torch.nn.Linear(1, 1),
        ...     train=train, valid=valid, score=score,
        ...     search_space=optimizer_space("adam"), loss="mse", metric="rmse", max_epochs=2,
        ... )
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=2)
        >>> sorted(study.best_params)
        ['lr', 'one_minus_beta1', 'one_minus_beta2']
    """

    @checks_keywords(TorchOptions)
    def __init__(
        self,
        build_model: Callable[[dict[str, Any]], nn.Module],
        *,
        train: Any,
        valid: Any,
        score: Any = None,
        search_space: SearchSpace | Mapping[str, Any],
        loss: str | LossFunction,
        metric: str | MetricFunction,
        metrics: Sequence[str | MetricFunction] = (),
        direction: str | None = None,
        max_epochs: int,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
        **settings: Unpack[TorchOptions],
    ) -> None:
        if not callable(build_model):
            raise InvalidType(f"`build_model` must be callable, got {type(build_model).__name__}.")
        check_count("max_epochs", max_epochs)
        check_count("batch_size", batch_size)
        eval_batch_size = settings.get("eval_batch_size", _EVAL_BATCH_SIZE)
        check_count("eval_batch_size", eval_batch_size)
        self._loss_name = loss
        loss_function = find_loss(loss)
        name, found = find_metrics(metric, metrics, direction=direction, loss=loss_function)
        super().__init__(
            search_space=search_space,
            direction="maximize" if found[name].maximize else "minimize",
            max_steps=max_epochs,
            metric=name,
            **options_of_reporter(settings),
        )
        self.facts = {
            "loss": loss if isinstance(loss, str) else name_of(loss),
            "metric": self.metric,
            "value_of": "valid" if score is None else "score",
        }
        self._build_model = build_model
        self._batch_size = batch_size
        opened = _open_device(device)
        given = {"train": train, "valid": valid}
        if score is not None:
            given["score"] = score
        splits = open_splits(given, opened)
        self._data_facts = data_facts(splits, given)
        self.task = TorchTask(splits, loss_function, self.metric, found, eval_batch_size, opened)
        for part, split in splits.items():
            if split.targets is not None:
                read = () if part == "train" else tuple(found)
                check_targets(loss, read, part, split.targets)
        self._check_search_space()

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train one model; see the class for what is reported and returned."""
        with self.task.seeded(reporter.seed):
            values = self._fit(params, reporter).score()
        return self.record(values, reporter)

    def record(self, values: Mapping[str, float], reporter: Reporter) -> float:
        """Store a trial's metrics where there are several, and return its value."""
        if len(values) > 1:
            reporter.record(**values)
        return values[self.metric]

    def start(self, params: Mapping[str, Any], seed: int) -> TorchTraining:
        """Return a training before its first epoch; call it inside `TorchTask.seeded`."""
        model = self._new_model(params)
        optimizer, schedule = self._new_optimizer(params, model)
        order = torch.Generator().manual_seed(order_seed(seed))
        generators = [order, *self.task.generators]
        return TorchTraining(
            self.task,
            params,
            self._training_batch_size(params),
            TrainingState(model, optimizer, schedule, generators, self.task.device),
        )

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> nn.Module:
        """Train with ``params`` outside any trial and return the best epoch's model.

        It is the model of a trial that has these parameters and this seed and is not pruned, in
        evaluation mode.

        Args:
            params: A trial's params, such as ``study.best_params``, or the trainer's.
            seed: Seeds everything random, 0 or above.

        Raises:
            Diverged: If the training reaches NaN or infinity.
            InvalidArgument: If ``seed`` is below 0, or a trial's parameter is missing.
        """
        check_seed(seed)
        params = self._configuration(params)
        with self.task.seeded(seed):
            return self._fit(params, self.reporter(seed=seed)).model

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Return all metrics of a model on data of the same form as `valid`: name -> value."""
        split = open_split("data", data, self.task.device)
        with seeded(0, self.task.device, split.generators):
            return self.task.evaluate(model, split, self.task.metrics)

    def check(self) -> None:
        """Train and evaluate the space's defaults on a few rows: do model, data and names fit?

        Of batches the first is read; random state is left as it was.

        Raises:
            InvalidArgument: If labels are out of range, shapes do not fit, or ``build_model`` gives
                the same weights twice.
            InvalidType: If model, loss or metric return something else than they must.
        """
        super().check()
        params = self.search_space.defaults()
        with self.task.seeded(0):
            model = self._new_model(params)
            self._new_optimizer(params, model)
            read = ReadParams(params)
            self._check_fresh(model, self._new_model(read))
            self._check_names(read)
            for name, split in self.task.splits.items():
                with _noted(name):
                    self._check_split(model, name, split)

    def check_fuse(self, fuse: int | str) -> None:
        """Refuse ``fuse`` where `train` makes its own batches: each trial draws its own order."""
        if isinstance(fuse, str):
            one_of("fuse", fuse, ("auto",))
        else:
            check_count("fuse", fuse)
        if self.task.train.targets is None:
            raise InvalidArgument(
                "`fuse` must be None where `train` makes its own batches, as each trial draws its "
                f"own order of the rows, got {fuse!r}: give `train` as arrays."
            )

    def crew(
        self, study: Study, *, fuse: int | str, n_trials: int, deadline: float
    ) -> FusedCrew | None:
        """Return what trains several trials as one model; see `Objective.crew`."""
        from hpolab.torch.fused.crew import make_crew  # torch.func takes long to import

        return make_crew(self, study, fuse=fuse, n_trials=n_trials, deadline=deadline)

    def _known_facts(self) -> dict[str, Any]:
        facts = super()._known_facts() | self._data_facts
        functions = {"loss": None, "metric": None, **self._functions()}
        facts |= {
            f"{name} settings": None if each is None else function_settings(each)
            for name, each in functions.items()
        }
        tuned = "batch_size" in self.search_space.trainer_names()
        if not tuned and self.task.train.targets is not None:
            facts["batch_size"] = self._batch_size
        return facts

    def _functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = {"build_model": self._build_model}
        if not isinstance(self._loss_name, str):
            functions["loss"] = self._loss_name
        if self.metric not in (*METRICS, "loss"):
            functions["metric"] = self.task.metrics[self.metric].function
        return functions

    @staticmethod
    def _check_fresh(model: nn.Module, other: nn.Module) -> None:
        trained = {id(p) for p in model.parameters() if p.requires_grad}
        for name, p in other.named_parameters():
            if id(p) in trained:
                raise InvalidArgument(
                    "`build_model` must make new weights each time, or trials go on with each "
                    f"other's: got {name!r} again."
                )

    def _check_split(self, model: nn.Module, name: str, split: Split) -> None:
        model.train(name == "train")
        with torch.set_grad_enabled(name == "train"):
            inputs, rows = next(split.batches(2))
            targets = rows if split.targets is None else split.targets
            if split.targets is None:
                check_targets(self._loss_name, (), name, targets)
            outputs = model(inputs)
            check_outputs(self._loss_name, name, outputs, rows, targets)
            loss = self.task.loss(outputs, rows)
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InvalidType(f"`loss` must return a tensor of shape (), got {got}.")
        if name == "train":
            loss.backward()  # type: ignore[no-untyped-call]
            return
        named = {key: each for key, each in self.task.metrics.items() if key in (*METRICS, "loss")}
        read_metrics(named, outputs, rows)
        if split.targets is not None and len(named) < len(self.task.metrics):
            # A user's own metric may have no value on a few rows, such as an AUC of one class, so
            # it gets the split as in a trial, and nothing where that would read all batches.
            self.task.evaluate(model, split, self.task.metrics)

    def _known_names(self) -> frozenset[str]:
        return names_of_training()

    def _check_names(self, read: ReadParams) -> None:
        """Say which parameters nothing has read; refuse one that is nearly the optimizer's."""
        unread = unread_names(dict.fromkeys(self.search_space.defaults()), read.read)
        if unread:
            _logger.warning(
                f"`search_space` has {', '.join(map(repr, unread))}, which nothing has read with "
                "the default parameters: neither the optimizer nor `build_model`."
            )

    def _check_search_space(self) -> None:
        refuse_settings(self.search_space, "max_epochs", "eval_batch_size", "device")
        params = self.search_space.defaults()
        if "optimizer" not in params:
            raise InvalidArgument(
                "`search_space` must hold an 'optimizer', as `optimizer_space` gives it, "
                f"got only {', '.join(map(repr, params)) or 'an empty one'}."
            )
        if "batch_size" in params and self.task.splits["train"].targets is None:
            raise InvalidArgument(
                "`search_space` must not hold 'batch_size' where `train` makes its own batches: "
                f"it would change nothing, got {params['batch_size']!r} as its default."
            )

    def _fit(self, params: Mapping[str, Any], reporter: Reporter) -> TorchTraining:
        training = self.start(params, reporter.seed)
        train_epochs(training, reporter, self.max_steps, training.value)
        return training

    def _new_model(self, params: Mapping[str, Any]) -> nn.Module:
        model = self._build_model(params if isinstance(params, ReadParams) else dict(params))
        if not isinstance(model, nn.Module):
            raise InvalidType(
                f"`build_model` must return a torch.nn.Module, got {type(model).__name__}."
            )
        return model.to(self.task.device)

    def _new_optimizer(
        self, params: Mapping[str, Any], model: nn.Module
    ) -> tuple[Optimizer, LRScheduler]:
        optimizer = build_optimizer(params, model)
        n_batches = self.task.splits["train"].n_batches(self._training_batch_size(params))
        schedule = build_schedule(
            params, optimizer, max_epochs=self.max_steps, steps_per_epoch=n_batches or 1
        )
        return optimizer, schedule

    def _training_batch_size(self, params: Mapping[str, Any]) -> int:
        batch_size: int = params.get("batch_size", self._batch_size)
        check_count("batch_size", batch_size)
        return batch_size


@contextmanager
def _noted(split: str) -> Iterator[None]:
    """Say of an exception where it comes from: a user has started no training yet."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"Raised on rows of `{split}` with the search space's default parameters, before any "
            "trial was spent."
        )
        raise


def _open_device(device: str | torch.device) -> torch.device:
    try:
        opened = torch.device(device)
        torch.empty(0, device=opened)
    except TypeError:
        raise InvalidType(
            f"`device` must be a string or torch.device, got {type(device).__name__}."
        ) from None
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument(f"`device` must be available, got {device!r}: {reason}") from None
    return opened
