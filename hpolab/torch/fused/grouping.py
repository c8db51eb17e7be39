"""Which trials may share a stack, and why a trial may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpolab.errors import in_brief
from hpolab.torch.data import map_arrays
from hpolab.torch.fused.architecture import Architecture, split_model
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.rules import rule_of
from hpolab.torch.fused.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hpolab.torch.training import TorchTraining

__all__ = ["is_of", "obstacle", "signature"]

# The difference allowed between a stacked and a lone step, as a fraction of the step's length.
# Rounding differs by far less, unless it switches a unit on or off; a step that is wrong differs by
# far more.
_TOLERANCE = 0.02
# The length, as a fraction of the whole step's, below which a weight counts as unchanged.
_NOTHING = 1e-4

# Rows on which a member's model is compared with its group's architecture.
_N_ROWS = 4


def signature(training: TorchTraining) -> Hashable:
    """Return what trainings of one stack have in common.

    That is the batch size, the modules with all their plain settings except dropout rates, and
    the shapes and types of all weights and buffers and which of them are trained.
    """
    modules = tuple(
        (name, type(module), _settings(module)) for name, module in training.model.named_modules()
    )
    weights, buffers = split_model(training.model)
    tensors = tuple(
        (name, name in weights, tuple(part.shape), part.dtype)
        for name, part in (weights | buffers).items()
    )
    # Trials that train alone, as of an optimizer without a rule, form groups of their own.
    alone = training.reason_alone
    if alone is None and not rule_of(training.params):
        alone = training.params["optimizer"]
    return alone, training.batch_size, modules, tensors


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    is_dropout = isinstance(module, nn.modules.dropout._DropoutNd)
    return tuple(
        (key, value)
        for key, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str)
        and not (is_dropout and key == "p")
        # Whether the model is in training mode is no setting.
        and key != "training"
    )


def obstacle(member: Member) -> str | None:
    """Return why a training cannot share a stack with others like it, or None if it can.

    Two such trainings, with different weights and rows, make one step in a stack and one step
    alone. The comparison exposes models that cannot be stacked and members that see each other.
    """
    if member.training.reason_alone is not None:
        return member.training.reason_alone
    params = member.training.params
    if rule_of(params) is None:
        return f"the optimizer {params['optimizer']!r} has no rule for several members"
    weights, _ = split_model(member.training.model)
    if len({part.dtype for part in weights.values()}) > 1:
        return "its weights are of several types"
    try:
        return None if _steps_agree(member) else "in a stack it does not train as it does alone"
    except Exception as error:  # noqa: BLE001 - it is the reason why the trial trains alone
        return in_brief(error)


def is_of(architecture: Architecture, member: Member) -> bool:
    """Tell whether a member's model computes the same as its architecture with its weights.

    Models of the same signature may still differ, for instance in a closure.
    """
    weights, buffers = split_model(member.training.model)
    rows = map_arrays(lambda part: part[:_N_ROWS], architecture.train.inputs)
    with torch.no_grad():
        alone = member.training.model.eval()(rows)
        stacked = architecture.outputs_of_one(weights, buffers, rows)
    return alone.shape == stacked.shape and _length(alone - stacked) <= _TOLERANCE * _length(alone)


def _steps_agree(member: Member) -> bool:
    # Plain SGD: other optimizers turn a gradient that is 0 up to rounding into a whole step.
    plain = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0, "schedule": "constant"}
    params = {**member.training.params, **plain}
    stacked, alone, before = (
        [Member.outside(member.objective, params, seed) for seed in (0, 1)] for _ in range(3)
    )
    stack = Stack(Architecture(member.training), stacked)
    stack.epoch(n_batches=1)
    stack.values()
    for slot, each in enumerate(alone):
        stack.take_out(slot)
        with each.random():
            each.training.epoch(n_batches=1)
    for models in zip(alone, stacked, before, strict=True):
        steps = list(zip(*map(_model_tensors, models), strict=True))
        whole = sum(_length(one - start) ** 2 for one, _, start in steps) ** 0.5
        for one, other, start in steps:
            allowed = _TOLERANCE * _length(one - start) + _NOTHING * whole
            if not _length(one - other) <= allowed:
                return False
    return True


def _model_tensors(member: Member) -> list[Tensor]:
    weights, buffers = split_model(member.training.model)
    return [part.detach() for part in (weights | buffers).values()]


def _length(tensor: Tensor) -> float:
    return float(tensor.double().norm())
