"""TorchObjective: a PyTorch model, its data and a search space make an objective."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.identity import function_settings
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.objectives.base import ROW_GROUP, Objective
from hpolab.objectives.epochs import train_epochs
from hpolab.search_space.reach import corners
from hpolab.seeding import check_seed
from hpolab.torch.batches import WeightedTargets, apply, check_unpack, values_of
from hpolab.torch.build import (
    build_optimizer,
    build_schedule,
    check_optimizers,
    warn_of_schedules,
)
from hpolab.torch.by_row import is_by_group
from hpolab.torch.checks import (
    check_outputs,
    check_scores,
    check_takes_weights,
    check_targets,
)
from hpolab.torch.data import open_split, open_splits
from hpolab.torch.facts import data_facts, noted_data
from hpolab.torch.freshness import ModelsSeen
from hpolab.torch.horizon import check_schedule
from hpolab.torch.layout import has_convolutions, suits_channels_last, to_channels_last
from hpolab.torch.losses import find_loss, name_of
from hpolab.torch.metrics import CURVES, find_metrics, own_functions, read_metrics
from hpolab.torch.names import names_of_others, names_of_training, of_others, unread_names
from hpolab.torch.options import (
    TorchOptions,
    TrainingOptions,
    check_precision,
    check_settings_in_space,
    most_accumulation_steps,
)
from hpolab.torch.reading import ReadParams
from hpolab.torch.rng import order_seed, seeded
from hpolab.torch.state import TrainingState
from hpolab.torch.training import TorchTask, TorchTraining
from hpolab.trial.reporter import options_of_reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Unpack

    import numpy as np
    from numpy.typing import NDArray
    from optuna import Study
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.data import Split
    from hpolab.torch.fused.crew import FusedCrew
    from hpolab.torch.losses import LossFunction
    from hpolab.torch.metrics import MetricFunction
    from hpolab.trial.reporter import Reporter

__all__ = ["TorchObjective"]

_logger = get_logger(__name__)

_EVAL_BATCH_SIZE = 256

# Batches of a loader that are looked at for other lengths, as of padded sequences.
_N_BATCHES = 4


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
            are. The model gets copies, and may change them in place. A third array, weights (n,)
            of floats, says how much each row counts: the loss is the weighted mean of a batch,
            and metrics are weighted as by scikit-learn's ``sample_weight``.
        valid: What is read every epoch: for pruning, early stopping and the choice of the epoch.
        score: What is read once, at the trial's end: its value. None reads `valid`
            again, which is optimistic: it has chosen the epoch.
        search_space: What is suggested; it holds an `optimizer` as `optimizer_space` gives it, and
            may hold a schedule, as `schedule_space` gives it for ``max_epochs``, `batch_size`, and
            whatever ``build_model`` reads.
        loss: "cross_entropy" (class ids and logits), "nll", "bce" (0 or 1, and logits), "mse",
            "mae", "huber", or (outputs, targets) -> scalar tensor. Where `train` has weights, a
            function needs an argument ``weights=None``.
        metric: What is optimized: "accuracy", "macro_f1", "balanced_accuracy", "auc",
            "average_precision", "log_loss", "top_5_accuracy" (of any number), "r2", "mse", "rmse",
            "mae", "loss", or (outputs, targets) -> number. It gets copies of the outputs and
            targets of a whole split at once, on the device; of a model that has diverged any
            metric is NaN. Where batches differ in length, each position is a row of length 1.
        metrics: More metrics, recorded with each trial on what its value comes from.
        direction: "minimize" or "maximize", for a metric that is a callable; a named one knows.
        max_epochs: Epochs of a full training.
        batch_size: Rows of a training batch, unless the trial has a parameter of that name or
            `train` makes its own batches. A single row left over joins the last batch.
        device: Where models and data live, e.g. "cpu", "cuda", "cuda:1".
        **settings: ``patience`` and the others of `ReporterSettings`, counted in epochs;
            ``eval_batch_size``, rows evaluated at once, 256 by default;
            ``unpack``, for batches of another form: the key of the targets where batches are
            dicts, as in ``unpack="labels"``, or a function batch -> (inputs, targets) or (inputs,
            targets, weights). The model gets the rest of such a dict as one argument; a Hugging
            Face model needs a module around it whose ``forward(self, batch)`` returns
            ``self.model(**batch).logits``. And the options below.

    Options of the training, each by name. Trials that clip, or have weights in several parameter
    groups, train as one under ``run(..., fuse=K)``; those that use another option train one by one,
    and the run says why. Options marked (*) may also be parameters of the trial, by the same name.

    - ``max_grad_norm`` (*): gradients are scaled down to this total norm, that of
      ``torch.nn.utils.clip_grad_norm_`` over all trained weights. None by default: never.
    - ``accumulation_steps`` (*): batches whose gradients make one step, 1 by default. The gradient
      is the mean over all their rows, also where the last batches of an epoch are fewer or
      smaller; the schedule advances by step. `loss` must be a mean over rows. Batch normalization
      still sees single batches.
    - ``precision``: "fp32" by default, or "bf16": the model runs under ``torch.autocast`` in
      bfloat16; its outputs reach loss and metrics in float32. Refused if the device cannot.
    - ``memory_format``: how the weights of 2-D convolutions are laid out: "channels_last",
      "contiguous", or "auto", the default: channels-last if the default model has such
      convolutions, gives the same outputs and gradients up to rounding, and the device is one where
      that is quicker: a CPU, or another device in "bf16". No clock is asked, so every process
      decides alike. In a stack of several trials weights are contiguous.
    - ``decay_biases`` (*) and ``layer_decay`` (*): as in `build_optimizer`; True and 1 by default.
    - ``optimizer``: a function (params, model) -> ``torch.optim.Optimizer``, in place of the one
      that the params name; `search_space` then needs no `optimizer`. All its state must be in its
      ``state_dict``, as tensors and plain values. If it has ``train()`` and ``eval()``, as
      schedule-free optimizers do, they are called before training and evaluation, checkpoints and
      the choice of the best weights. Batch norms then gather their running statistics anew after
      each epoch, from up to 50 batches of `train`.
    - ``schedule``: a function (params, optimizer) -> ``LRScheduler``, likewise. It is stepped
      after every epoch, a ``ReduceLROnPlateau`` with the metric on `valid`; with
      ``schedule_every="step"``, after every step of the optimizer.
    - ``on_epoch``: called with a `TrainedEpoch` after every epoch, before it is reported: its
      training loss, the metric on `valid`, the model and the trial. A trial that goes on after a
      crash shows the epochs behind its last checkpoint again. None by default, which costs nothing.

    Raises:
        InvalidArgument: If an argument is out of its range or set of names, data is empty or not
            finite, labels do not suit the loss, splits overlap, ``direction`` contradicts the
            metric, or the device lacks the precision.
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
        self._options = TrainingOptions.of(settings)
        self._channels_last: tuple[SearchSpace, bool] | None = None
        self._unpack = settings.get("unpack")
        check_unpack(self._unpack)
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
        if is_by_group(found[name]):
            self.scored_unit = ROW_GROUP
        self.facts = {
            "loss": loss if isinstance(loss, str) else name_of(loss),
            "metric": self.metric,
            "value_of": "valid" if score is None else "score",
            **self._options.facts(),
        }
        self._build_model = build_model
        self._models = ModelsSeen()
        self._batch_size = batch_size
        opened = _open_device(device)
        precision = self._options.precision
        check_precision(precision, opened)
        given = {"train": train, "valid": valid}
        if score is not None:
            given["score"] = score
        splits = open_splits(given, opened, self._unpack)
        self._data_facts, self._noted_data = data_facts(splits, given), noted_data(splits, given)
        own_loss = None if isinstance(loss, str) else loss_function
        is_weighted = any(split.is_weighted for split in splits.values())
        if is_weighted:
            loss_function = partial(apply, loss_function)
        self.task = TorchTask(
            splits,
            loss_function,
            self.metric,
            found,
            eval_batch_size,
            opened,
            precision,
            own_loss,
        )
        for part, split in splits.items():
            read = {} if part == "train" else found
            if split.is_weighted:
                check_takes_weights(self.task.own_functions(read), part)
            if split.targets is not None:
                check_targets(loss, read, part, split.targets, split.weights)
        self._check_search_space()

    def _training_in_words(self) -> str:
        rows = {
            name: f"{name} {len(split.targets):,}"
            for name, split in self.task.splits.items()
            if split.targets is not None
        }
        data = f" on {', '.join(rows.values())} rows" if rows else ""
        return f"{name_of(self._build_model)}, loss {self.facts['loss']}{data}"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train one model; see the class for what is reported and returned."""
        with self.task.seeded(reporter.seed):
            values = self._fit(params, reporter).score()
        return self.record(values, reporter)

    def record(self, values: Mapping[str, float], reporter: Reporter) -> float:
        """Store a trial's metrics where there are several, and return its value."""
        if len(values) > 1 and math.isfinite(values[self.metric]):
            reporter.record(**values)
        return values[self.metric]

    def start(self, params: Mapping[str, Any], seed: int) -> TorchTraining:
        """Return a training before its first epoch; call it inside `TorchTask.seeded`."""
        options = self._options.of_trial(params)
        model = self._new_model(params)
        if self._is_channels_last(model):
            to_channels_last(model)
        optimizer, schedule = self._new_optimizer(params, model, options)
        order = torch.Generator().manual_seed(order_seed(seed))
        generators = [order, *self.task.generators]
        return TorchTraining(
            self.task,
            params,
            self._training_batch_size(params),
            TrainingState(model, optimizer, schedule, generators, self.task.device),
            options,
        )

    @checks_keywords()
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

    @checks_keywords()
    def evaluate(self, model: nn.Module, data: Any, y: Any = None) -> dict[str, float]:
        """Return all metrics of a model on data of the same form as `valid`: name -> value.

        Targets may be given as ``y`` where ``data`` is the inputs alone.
        """
        data = data if y is None else (data, y)
        split = self._opened(data)
        with seeded(0, self.task.device, split.generators):
            return self.task.evaluate(model, split, self.task.metrics)

    @checks_keywords()
    def row_scores(self, model: nn.Module, data: Any, y: Any = None) -> NDArray[np.float64] | None:
        """Return what each row contributes to the metric; see `Objective.row_scores`.

        A row is a sample: of a sequence, all of its positions. Of metrics without a closed form, as
        of a function of the user's own, they are those of random groups of rows.
        """
        data = data if y is None else (data, y)
        split = self._opened(data)
        with seeded(0, self.task.device, split.generators):
            return self.task.row_scores(model, split)

    def _opened(self, data: Any) -> Split:
        """Return data of the same form as `valid` as a split."""
        split = open_split("data", data, self.task.device, self._unpack)
        if split.is_weighted:
            check_takes_weights(self.task.own_functions(self.task.metrics), "data")
        return split

    def check(self) -> None:
        """Train and evaluate the space's defaults on a few rows: do model, data and names fit?

        Of batches the first is read; random state is left as it was.

        Raises:
            InvalidArgument: If labels are out of range, shapes do not fit, a loss or a metric of
                yours compares all pairs of rows, ``build_model`` gives the same weights twice, or
                buffers that training changes, an option cannot be used with the model or the loss,
                or the space holds a setting that no trial can change.
            InvalidType: If model, loss, metric, or the user's own optimizer or schedule return
                something else than they must.
        """
        super().check()
        check_schedule(self.search_space, self.max_steps)
        if self._options.optimizer is None:
            warn_of_schedules(self.search_space)
        params = self.search_space.defaults()
        with self.task.seeded(0):
            training = self.start(params, 0)
            seen = ReadParams(params)
            other = self._new_model(seen)
            check_settings_in_space(seen)
            self._check_names(seen)
            with self._models.unwritten(other):
                for name, split in self.task.splits.items():
                    with _noted(name):
                        self._check_split(training.model, name, split)
                training.check_options(most_accumulation_steps(self.search_space, self._options))

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
        if any(split.is_weighted for split in self.task.splits.values()):
            _logger.warning("Trials train one by one, as rows have weights.")
            return None
        from hpolab.torch.fused.crew import make_crew  # torch.func takes long to import

        return make_crew(self, study, fuse=fuse, n_trials=n_trials, deadline=deadline)

    def _known_facts(self) -> dict[str, Any]:
        facts = super()._known_facts() | self._data_facts
        functions = {"loss": None, "metric": None, "unpack": None, **self._functions()}
        facts |= {
            f"{name} settings": None if each is None else function_settings(each)
            for name, each in functions.items()
        }
        facts["unpack"] = self._unpack if isinstance(self._unpack, str) else None
        tuned = "batch_size" in self.search_space.trainer_names()
        if not tuned and self.task.train.targets is not None:
            facts["batch_size"] = self._batch_size
        return facts

    def _noted_facts(self) -> dict[str, Any]:
        return super()._noted_facts() | self._noted_data

    def _functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = {"build_model": self._build_model}
        if not isinstance(self._loss_name, str):
            functions["loss"] = self._loss_name
        if self.metric != "loss" and self.metric in (own := own_functions(self.task.metrics)):
            functions["metric"] = own[self.metric]
        for name in ("optimizer", "schedule"):
            if getattr(self._options, name) is not None:
                functions[name] = getattr(self._options, name)
        if callable(self._unpack):
            functions["unpack"] = self._unpack
        return functions

    def _check_split(self, model: nn.Module, name: str, split: Split) -> None:
        model.train(name == "train")
        with torch.set_grad_enabled(name == "train"):
            inputs, rows = next(split.batches(2))
            values = values_of(rows)
            targets = values if split.targets is None else split.targets
            if split.targets is None:
                check_targets(self._loss_name, (), name, targets)
            outputs = self.task.outputs(model, inputs)
            check_outputs(self._loss_name, name, outputs, values, targets)
            read = {} if name == "train" else self.task.metrics
            self.task.check_alignment(read, outputs, rows)
            loss = self.task.loss(outputs, rows)
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InvalidType(f"`loss` must return a tensor of shape (), got {got}.")
        if name == "train":
            loss.backward()  # type: ignore[no-untyped-call]
            return
        # Some have no value on a few rows, such as an AUC of one class. They get the split as in a
        # trial, and nothing where that would read all batches.
        of_few = {key: each for key, each in self.task.metrics.items() if each.of_few_rows}
        read_metrics(of_few, outputs, rows)
        if split.targets is None:
            self._check_lengths(model, split, outputs)
            self._check_classes(name, split, outputs)
            return
        check_scores(self.task.metrics, name, outputs, split.targets, split.weights)
        if len(of_few) < len(self.task.metrics):
            self.task.evaluate(model, split, self.task.metrics)

    def _check_lengths(self, model: nn.Module, split: Split, outputs: Tensor) -> None:
        """Refuse batches of different lengths where a metric needs whole rows."""
        if outputs.ndim > 2:
            few = islice(split.batches(2), _N_BATCHES)
            with torch.no_grad():
                batches = [(self.task.outputs(model, inputs), targets) for inputs, targets in few]
            self.task.gathered(batches, self.task.metrics)

    def _check_classes(self, name: str, split: Split, outputs: Tensor) -> None:
        """Refuse batches without rows of a class that a metric needs: all have to be read."""
        if self.task.metrics.keys() & set(CURVES):
            targets = [targets for _, targets in split.batches(2)]
            if len({values_of(each).shape[1:] for each in targets}) > 1:
                return
            values = torch.cat([values_of(each) for each in targets])
            parts = [each.weights for each in targets if isinstance(each, WeightedTargets)]
            weights = torch.cat(parts) if parts else None
            check_scores(self.task.metrics, name, outputs, values, weights)

    def _known_names(self) -> frozenset[str]:
        return names_of_training()

    def _check_names(self, params: ReadParams) -> None:
        """Say which parameters nothing has read; refuse one that is nearly the optimizer's."""
        if self._options.optimizer is not None or self._options.schedule is not None:
            return  # these functions read names of their own
        others = self._unread_of_others()
        if others:
            raise InvalidArgument(of_others(self.search_space, others, "`build_model`"))
        unread = unread_names(params)
        if unread:
            _logger.warning(
                f"`search_space` has {', '.join(map(repr, unread))}, which nothing has read with "
                "the default parameters: neither the optimizer nor `build_model`."
            )

    def _unread_of_others(self) -> dict[str, str]:
        """Return the names of other optimizers or schedules that ``build_model`` does not read."""
        found = names_of_others(self.search_space)
        for params in corners(self.search_space) if found else ():
            seen = ReadParams(params)
            self._new_model(seen)
            found = {
                name: found[name] for name in found if name not in seen.names or seen.unread(name)
            }
        return found

    def _check_search_space(self) -> None:
        check_schedule(self.search_space, self.max_steps)
        params = self.search_space.defaults()
        if "optimizer" not in params and self._options.optimizer is None:
            raise InvalidArgument(
                "`search_space` must hold an 'optimizer', as `optimizer_space` gives it, "
                f"got only {', '.join(map(repr, params)) or 'an empty one'}."
            )
        if self._options.optimizer is None:
            check_optimizers(self.search_space)
        if "batch_size" in params and self.task.splits["train"].targets is None:
            raise InvalidArgument(
                "`search_space` must not hold 'batch_size' where `train` makes its own batches: "
                f"it would change nothing, got {params['batch_size']!r} as its default."
            )

    def _fit(self, params: Mapping[str, Any], reporter: Reporter) -> TorchTraining:
        training = self.start(params, reporter.seed)
        train_epochs(training, reporter, self.max_steps, lambda: training.end_epoch(reporter))
        return training

    def _new_model(self, params: Mapping[str, Any]) -> nn.Module:
        model = self._built_model(params)
        self._models.add(model)
        return model

    def _built_model(self, params: Mapping[str, Any]) -> nn.Module:
        model = self._build_model(params if isinstance(params, ReadParams) else dict(params))
        if not isinstance(model, nn.Module):
            raise InvalidType(
                f"`build_model` must return a torch.nn.Module, got {type(model).__name__}."
            )
        return model.to(self.task.device)

    def _new_optimizer(
        self, params: Mapping[str, Any], model: nn.Module, options: TrainingOptions
    ) -> tuple[Optimizer, LRScheduler]:
        if options.optimizer is not None:
            optimizer = options.new_optimizer(params, model)
        else:
            optimizer = build_optimizer(
                params,
                model,
                decay_biases=options.decay_biases,
                layer_decay=options.layer_decay,
            )
        if options.schedule is not None:
            return optimizer, options.new_schedule(params, optimizer, self.direction)
        n_batches = self.task.splits["train"].n_batches(self._training_batch_size(params))
        n_steps = math.ceil((n_batches or 1) / options.accumulation_steps)
        schedule = build_schedule(
            params,
            optimizer,
            max_epochs=self.max_steps,
            steps_per_epoch=n_steps,
            direction=self.direction,
        )
        return optimizer, schedule

    def _is_channels_last(self, model: nn.Module) -> bool:
        """Tell whether a trial's model is trained with channels-last weights."""
        if self._options.memory_format != "auto":
            return self._options.memory_format == "channels_last"
        # Asked first: building another model may take long.
        if not has_convolutions(model):
            return False
        # Found out once a search space: `with_search_space` makes other objectives of this one.
        if self._channels_last is None or self._channels_last[0] is not self.search_space:
            self._channels_last = (self.search_space, self._suits_channels_last())
        return self._channels_last[1]

    def _suits_channels_last(self) -> bool:
        with self.task.seeded(0):
            # Not among the models that trials train: this one is thrown away.
            return suits_channels_last(self._built_model(self.search_space.defaults()), self.task)

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
