"""What TorchObjective takes by name about how a training goes: checked, and looked up by trial."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.torch.losses import name_of
from hpolab.torch.names import TUNABLE
from hpolab.torch.reading import ReadParams
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Trial

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.batches import UnpackRule

    OptimizerFunction = Callable[[dict[str, Any], nn.Module], Optimizer]
    ScheduleFunction = Callable[[dict[str, Any], Optimizer], LRScheduler]

__all__ = [
    "TorchOptions",
    "TrainedEpoch",
    "TrainingOptions",
    "check_precision",
    "check_settings_in_space",
    "check_tunable",
    "most_accumulation_steps",
]

_MEMORY_FORMATS = ("contiguous", "channels_last", "auto")
_PRECISIONS = ("fp32", "bf16")
_OF_GROUPS = ("decay_biases", "layer_decay")

# Arguments of the objective that are the same for all its trials.
_SETTINGS = (
    *sorted(ReporterOptions.__optional_keys__),
    "eval_batch_size",
    "loss",
    "max_epochs",
    "memory_format",
    "metric",
    "on_epoch",
    "precision",
    "schedule_every",
    "unpack",
)

_ADVICE = {
    "on_epoch": ".",
    "optimizer": ": name one by `search_space=optimizer_space(...)`.",
    "schedule": ": name one by `search_space=... | schedule_space(...)`.",
}


@dataclass(frozen=True)
class TrainedEpoch:
    """An epoch of a training, as `TorchObjective` shows it to its ``on_epoch``.

    Attributes:
        epoch: Its number, from 0; the step that is reported.
        train_loss: The loss on `train`, its mean over rows as they were trained on: in training
            mode, while the weights moved.
        value: The metric on `valid` after the epoch.
        lr: The learning rate of the next step, that of the first parameter group.
        params: The trainer params of the training.
        model: The model as it is, in evaluation mode; to be read, not changed.
        trial: The running trial; None outside any, as in `TorchObjective.fit`.
    """

    epoch: int
    train_loss: float
    value: float
    lr: float
    params: Mapping[str, Any]
    model: nn.Module
    trial: Trial | None


class TorchOptions(ReporterOptions, total=False):
    """What else `TorchObjective` takes by name."""

    eval_batch_size: int
    accumulation_steps: int
    decay_biases: bool
    layer_decay: float
    max_grad_norm: float | None
    memory_format: str
    on_epoch: Callable[[TrainedEpoch], None] | None
    optimizer: OptimizerFunction | None
    precision: str
    schedule: ScheduleFunction | None
    schedule_every: str
    unpack: UnpackRule


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a TorchObjective trains, beside what a trial's params say; see there for each.

    Raises:
        InvalidArgument: If an option is out of its range or set of names.
        InvalidType: If one is of the wrong type.
    """

    accumulation_steps: int = 1
    decay_biases: bool = True
    layer_decay: float = 1.0
    max_grad_norm: float | None = None
    memory_format: str = "auto"
    on_epoch: Callable[[TrainedEpoch], None] | None = None
    optimizer: OptimizerFunction | None = None
    precision: str = "fp32"
    schedule: ScheduleFunction | None = None
    schedule_every: str = "epoch"

    def __post_init__(self) -> None:
        for name in TUNABLE:
            check_tunable(name, getattr(self, name))
        one_of("precision", self.precision, _PRECISIONS)
        one_of("memory_format", self.memory_format, _MEMORY_FORMATS)
        one_of("schedule_every", self.schedule_every, ("epoch", "step"))
        for name in ("on_epoch", "optimizer", "schedule"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                got = type(value).__name__
                raise InvalidType(f"`{name}` must be a function, or None, got {got}{_ADVICE[name]}")
        if self.schedule is None and self.schedule_every != "epoch":
            raise InvalidArgument(
                "`schedule_every` must be 'epoch' unless `schedule` is a function, got "
                f"{self.schedule_every!r}: those of `schedule_space` advance by step anyway."
            )
        for name in _OF_GROUPS:
            if self.optimizer is not None and name in self.facts():
                raise InvalidArgument(
                    f"`{name}` must be left out where `optimizer` is a function, which it would "
                    f"not reach, got {getattr(self, name)!r}: give it to `build_optimizer` there."
                )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> TrainingOptions:
        """Return those of an objective's settings that belong here."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: settings[name] for name in settings if name in names})

    def facts(self) -> dict[str, Any]:
        """Return the options that change values and differ from the default, as plain values."""
        found = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "on_epoch" and getattr(self, field.name) != field.default
        }
        if self.memory_format == "contiguous":  # as "auto" but for rounding, which it has checked
            del found["memory_format"]
        return {key: name_of(each) if callable(each) else each for key, each in found.items()}

    def of_trial(self, params: Mapping[str, Any]) -> TrainingOptions:
        """Return the options with those values that a trial has parameters for.

        Raises:
            InvalidArgument: If the trial's value is out of range.
            InvalidType: If it is of the wrong type.
        """
        names = [name for name in TUNABLE if name in params]
        if self.optimizer is not None:  # which reads them by itself
            names = [name for name in names if name not in _OF_GROUPS]
        return replace(self, **{name: params[name] for name in names})

    def new_optimizer(self, params: Mapping[str, Any], model: nn.Module) -> Optimizer:
        """Return what the user's function makes for a model.

        Raises:
            InvalidArgument: If it is no optimizer that can train the model as a trial does.
            InvalidType: If it is no optimizer.
        """
        assert self.optimizer is not None
        seen = ReadParams(params)
        optimizer = self.optimizer(seen, model)
        if not isinstance(optimizer, Optimizer):
            raise InvalidType(
                f"`optimizer` must return a torch.optim.Optimizer, got {type(optimizer).__name__}."
            )
        for name in seen.unread("optimizer", *_OF_GROUPS):
            raise _unread(name, params, "optimizer")
        own = {id(p) for p in model.parameters()}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if id(p) not in own:
                    raise InvalidArgument(
                        "`optimizer` must return a new optimizer of the model's own weights each "
                        f"time, got a weight of shape {tuple(p.shape)} that the model has not."
                    )
        if _needs_closure(optimizer):
            raise InvalidArgument(
                "`optimizer` must return an optimizer whose `step()` needs no closure, got "
                f"{type(optimizer).__name__}."
            )
        return optimizer

    def new_schedule(
        self, params: Mapping[str, Any], optimizer: Optimizer, direction: str
    ) -> LRScheduler:
        """Return what the user's function makes for an optimizer.

        Raises:
            InvalidArgument: If it cannot be stepped as asked for, or is another optimizer's.
            InvalidType: If it is no schedule.
        """
        assert self.schedule is not None
        seen = ReadParams(params)
        schedule = self.schedule(seen, optimizer)
        if not isinstance(schedule, LRScheduler):
            raise InvalidType(
                "`schedule` must return a torch.optim.lr_scheduler.LRScheduler, got "
                f"{type(schedule).__name__}."
            )
        for name in seen.unread("schedule"):
            raise _unread(name, params, "schedule")
        if getattr(schedule, "optimizer", optimizer) is not optimizer:
            raise InvalidArgument(
                "`schedule` must return a new schedule of the optimizer that it is given each "
                "time, got one of another optimizer."
            )
        if isinstance(schedule, ReduceLROnPlateau):
            if self.schedule_every == "step":
                raise InvalidArgument(
                    "`schedule_every` must be 'epoch' for ReduceLROnPlateau, which follows the "
                    "metric on `valid`, got 'step'."
                )
            if schedule.mode != direction[:3]:
                raise InvalidArgument(
                    f"`schedule` must return a ReduceLROnPlateau of mode {direction[:3]!r}, as the "
                    f"metric asks for, got mode {schedule.mode!r}."
                )
        return schedule


def check_tunable(name: str, value: Any) -> None:
    """Refuse a value of an option that may also be a trial's parameter.

    Raises:
        InvalidArgument: If it is out of range.
        InvalidType: If it is of the wrong type.
    """
    if name == "accumulation_steps":
        check_count(name, value)
    elif name == "decay_biases":
        if not isinstance(value, bool):
            raise InvalidType(f"`decay_biases` must be a bool, got {type(value).__name__}.")
    elif name == "layer_decay":
        _check_number(name, value)
        if not 0 < value <= 1:
            raise InvalidArgument(f"`layer_decay` must be above 0 and at most 1, got {value}.")
    elif value is not None:
        _check_number(name, value)
        if not value > 0:
            raise InvalidArgument(f"`{name}` must be above 0, or None, got {value}.")


def most_accumulation_steps(space: SearchSpace, options: TrainingOptions) -> int:
    """Return the most batches that a step of any trial may have.

    Args:
        space: The search space.
        options: What holds for trials without a parameter of their own.
    """
    found = [options.accumulation_steps, space.defaults().get("accumulation_steps", 1)]
    for name, distribution in space.distributions().items():
        if space.trainer_name(name) == "accumulation_steps":
            found += getattr(distribution, "choices", [getattr(distribution, "high", 1)])
    return max(each for each in found if isinstance(each, int))


def check_settings_in_space(params: ReadParams) -> None:
    """Refuse a search space with settings of the objective, which no parameter can change.

    Args:
        params: The space's defaults, with which a model was built. What that reads is its own.

    Raises:
        InvalidArgument: If there is one.
    """
    for name in params.unread(*_SETTINGS):
        raise InvalidArgument(
            f"`search_space` must not hold {name!r}, which is an argument of the objective: as a "
            f"parameter it would change nothing, got {params[name]!r} as its default. Of these, "
            f"{', '.join(map(repr, ('batch_size', *TUNABLE)))} may be parameters."
        )


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that a device does not compute in.

    Raises:
        InvalidArgument: If it does not.
    """
    if precision == "fp32":
        return
    reason = _why_not_bf16(device)
    if reason is not None:
        raise InvalidArgument(
            f"`precision` must be 'fp32' on device '{device}', which cannot train in bfloat16 "
            f"({reason}), got {precision!r}."
        )


def _why_not_bf16(device: torch.device) -> str | None:
    if not torch.amp.is_autocast_available(device.type):
        return "torch has no autocast for it"
    # Older GPUs emulate it, which is right and slow.
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name(device)} has no bfloat16 of its own"
    try:
        with torch.autocast(device.type, torch.bfloat16):
            rows = torch.ones((1, 1), device=device)
            made = (rows @ rows).dtype
    except (RuntimeError, TypeError, ValueError) as error:
        return str(error).partition("\n")[0]
    return None if made == torch.bfloat16 else f"its products come in {made}"


def _unread(name: str, params: Mapping[str, Any], function: str) -> InvalidArgument:
    return InvalidArgument(
        f"`search_space` must not hold {name!r} where the function `{function}` does not read it, "
        f"got {params[name]!r}: leave it out, or call `build_{function}(params, ...)` there."
    )


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"`{name}` must be a number, got {type(value).__name__}.")


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
