"""What a member's first steps are when it trains alone, to which its stack is held."""

from __future__ import annotations

import copy
import random
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import in_brief
from hpolab.torch.fused.architecture import Architecture, TrainsAlone, split_model
from hpolab.torch.fused.dropout import read_dropouts
from hpolab.torch.fused.settings import UnknownSetting, rates_of
from hpolab.torch.state import TrainingState
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from torch.optim import Optimizer

    from hpolab.torch.fused.member import Member
    from hpolab.torch.training import TorchTraining

    Named = dict[str, Tensor]

__all__ = ["N_STEPS", "FirstSteps", "open_architecture"]

N_STEPS = 2
"""Steps that are compared: the second rests on what the optimizer kept of the first."""
# Rows on which outputs in evaluation are compared.
_N_ROWS = 8

# Everything below is in units of the weights' epsilon, 1.2e-7 or 2.2e-16.
# What rounding may change of a step, as a part of its length, and of outputs, as a part of theirs.
# A wrong step differs by far more. Units that rounding switches on or off are in it.
_OF_STEP = 1e5
_OF_OUTPUTS = 1e4
# The part of the largest gradient below which a gradient is rounding, such as that of a bias before
# a batch normalization. Adam makes a whole step of it.
_NOISE = 1e3
# What rounding changes of a weight.
_OF_WEIGHT = 8.0


def open_architecture(training: TorchTraining) -> Architecture:
    """Return the architecture of a training's model.

    Raises:
        TrainsAlone: If the model or the loss is not one that a stack can take.
    """
    try:
        return Architecture(training)
    except UnknownSetting as error:
        raise TrainsAlone(str(error)) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TrainsAlone(in_brief(error)) from error


class FirstSteps:
    """The first steps of a member in training alone; the member itself stays as it was.

    Attributes:
        n_steps: The number of steps.

    Args:
        architecture: The architecture whose stacks the member would join.
        member: The member.

    Raises:
        TrainsAlone: If the member shows that it cannot be stacked. The message is empty if its
            training fails or diverges, which is for its trial to say.
    """

    def __init__(self, architecture: Architecture, member: Member) -> None:
        training = member.training
        n_batches = len(architecture.train.bounds(training.batch_size))
        self.n_steps = min(N_STEPS, n_batches)
        twin = _twin_of(training)
        self._before = _tensors(twin.model)
        self._gradients: list[Named] = []
        self._buffers: Named = {}
        twin.state.optimizer.register_step_pre_hook(self._note(twin.model))
        outside = _outside_state()
        with member.random(keep=False), warnings.catch_warnings():
            # A copied optimizer has lost the mark by which its schedule knows it.
            warnings.filterwarnings("ignore", "Seems like `optimizer.step")
            try:
                twin.epoch(self.n_steps)
            except Exception as error:
                if is_out_of_memory(error) or isinstance(error, TrainsAlone):
                    raise
                raise TrainsAlone from error
        if _outside_state() != outside:
            raise TrainsAlone("its training draws from the random state of Python or NumPy")
        self._after = _tensors(twin.model)
        if not all(bool(torch.isfinite(part).all()) for part in self._after.values()):
            raise TrainsAlone
        member.dropout_rates = _read_rates(architecture, twin)
        _check_outputs(architecture, twin.model)
        self._check_is_kept(twin.model.train(), training.model)

    def difference(self, n_steps: int, stacked: Mapping[str, Tensor]) -> str | None:
        """Return the name of what a stack has trained otherwise, None if nothing.

        Buffers are compared after the first step, of which the weights are the same as alone, and
        weights after the last.

        Args:
            n_steps: The number of steps in a stack.
            stacked: The member's weights and buffers after them.
        """
        if n_steps == 1:
            for name, after in self._buffers.items():
                if not _agrees(self._before[name], after, stacked[name]):
                    return name
        if n_steps == self.n_steps:
            largest = [
                max((float(g.abs().max()) for g in of_step.values() if g.numel()), default=0.0)
                for of_step in self._gradients
            ]
            for name in self._gradients[0]:
                keep = self._is_sure(name, largest)
                before, after, other = self._before[name], self._after[name], stacked[name]
                if keep is not None and not _agrees(before[keep], after[keep], other[keep]):
                    return name
        return None

    def _check_is_kept(self, model: nn.Module, before: nn.Module) -> None:
        """Refuse a model that changes when it is evaluated, or from epoch to epoch.

        In a stack members have weights and buffers only within a step, and fixed rates of dropout.
        """
        for name, part in _tensors(model).items():
            if not torch.equal(part, self._after[name]):
                raise TrainsAlone(f"its {name!r} changes when it is evaluated")
        if rates_of(model) != rates_of(before):
            raise TrainsAlone("its rates of dropout change while it trains")

    def _note(self, model: nn.Module) -> Any:
        def note(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            weights, buffers = split_model(model)
            for name, weight in weights.items():
                if weight.grad is None:
                    raise TrainsAlone(f"its weight {name!r} gets no gradient in training")
            if not self._gradients:
                self._buffers = {name: part.detach().clone() for name, part in buffers.items()}
            self._gradients.append({name: w.grad.clone() for name, w in weights.items()})

        return note

    def _is_sure(self, name: str, largest: list[float]) -> Tensor | None:
        """Return which numbers of a weight have moved by more than rounding; None if none has."""
        keep = torch.ones_like(self._after[name], dtype=torch.bool)
        for gradients, most in zip(self._gradients, largest, strict=True):
            size = gradients[name].abs()
            noise = _NOISE * torch.finfo(size.dtype).eps
            if size.numel() == 0 or 0 < float(size.max()) <= noise * most:
                return None
            keep &= (size == 0) | (size > noise * size.max())
        return keep


def _agrees(before: Tensor, after: Tensor, other: Tensor) -> bool:
    """Tell whether two trainings have made the same of a tensor, up to rounding."""
    if not after.is_floating_point():
        return torch.equal(after, other)
    eps = torch.finfo(after.dtype).eps
    allowed = _OF_STEP * _length(after - before) + _OF_WEIGHT * _length(after)
    return _length(after - other) <= eps * allowed


def _twin_of(training: TorchTraining) -> TorchTraining:
    """Return a copy of a training, which draws its rows in the same order."""
    state = training.state
    try:
        model, optimizer, schedule = copy.deepcopy((state.model, state.optimizer, state.schedule))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TrainsAlone(f"its model cannot be copied ({in_brief(error)})") from error
    order = torch.Generator()
    order.set_state(state.generators[0].get_state())
    return replace(training, state=TrainingState(model, optimizer, schedule, [order], state.device))


def _tensors(model: nn.Module) -> Named:
    weights, buffers = split_model(model)
    return {name: part.detach().clone() for name, part in (weights | buffers).items()}


def _read_rates(architecture: Architecture, twin: TorchTraining) -> tuple[float, ...]:
    """Return the rates of a model's dropouts, in the order of their calls."""
    n_rows = architecture.train.bounds(twin.batch_size)[0][1]
    try:
        calls = read_dropouts(twin.model, architecture.rows(n_rows))
        expected = architecture.dropouts(n_rows)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TrainsAlone(in_brief(error)) from error
    if [(x.shape, x.strides) for x in calls] != [(x.shape, x.strides) for x in expected]:
        raise TrainsAlone("it calls other dropouts than models of the same modules")
    return tuple(call.rate for call in calls)


@torch.no_grad()
def _check_outputs(architecture: Architecture, model: nn.Module) -> None:
    weights, buffers = split_model(model)
    # Each gets rows of its own, which a model may change in place.
    alone = model.eval()(architecture.rows(_N_ROWS))
    try:
        rows = architecture.rows(_N_ROWS)
        stacked = architecture.outputs(_one(weights), _one(buffers), rows)[0]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TrainsAlone(in_brief(error)) from error
    eps = torch.finfo(alone.dtype).eps
    if alone.shape != stacked.shape or not (
        _length(alone - stacked) <= _OF_OUTPUTS * eps * _length(alone)
    ):
        raise TrainsAlone("in a stack its outputs are not those that it gives alone")


def _one(parts: Mapping[str, Tensor]) -> Named:
    return {name: part.detach().unsqueeze(0) for name, part in parts.items()}


def _outside_state() -> Any:
    """Return the random state of Python and of NumPy, which no trial seeds."""
    _, keys, place, *_ = np.random.get_state(legacy=True)
    return random.getstate(), keys.tobytes(), place  # type: ignore[union-attr]


def _length(tensor: Tensor) -> float:
    return float(tensor.double().norm())
