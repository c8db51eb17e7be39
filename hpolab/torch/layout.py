"""Channels-last weights for convolutions: where they are quicker and give the same outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hpolab.torch.training import TorchTask

__all__ = ["has_convolutions", "suits_channels_last", "to_channels_last"]

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
# The difference allowed between both layouts, as a fraction of the outputs' and gradients' length.
_TOLERANCES = {"fp32": 1e-4, "bf16": 0.05}


def has_convolutions(model: nn.Module) -> bool:
    """Tell whether a model has 2-D convolutions."""
    return any(isinstance(module, _CONVOLUTIONS) for module in model.modules())


def to_channels_last(model: nn.Module) -> None:
    """Lay out a model's 4-D weights with the channels last.

    Convolutions take the layout of their weights, so inputs need no change.
    """
    # `Module.to` would refuse a model that has 5-D weights as well.
    for p in model.parameters():
        if p.ndim == 4:
            # Not `contiguous(memory_format=...)`: it leaves the strides of a single channel as they
            # are, from which torch reads the other layout, for this convolution and all behind it.
            laid_out = torch.empty_like(p.data, memory_format=torch.channels_last)
            p.data = laid_out.copy_(p.data)


def suits_channels_last(model: nn.Module, task: TorchTask) -> bool:
    """Tell whether a model shall train with channels-last weights; it has them afterwards.

    A rule decides, not a clock: a measurement may come out otherwise in the next process, whose
    trials would then differ in rounding. Convolutions are quicker so on CPUs (one thread, torch
    2.13: six networks from 8x8 digits to 64 channels of 32x32 train 1.0 to 1.8 times as fast in
    float32 and 1.1 to 3 times as fast in bfloat16), and where tensor cores compute, in bfloat16.

    Args:
        model: A model that is thrown away.
        task: What it learns.
    """
    if not has_convolutions(model):
        return False
    if task.device.type != "cpu" and task.precision == "fp32":
        return False
    inputs, targets = next(task.train.batches(2))
    model.eval()  # nothing is drawn, no statistics move
    try:
        expected = _outputs_and_gradients(model, task, inputs, targets)
        to_channels_last(model)
        found = _outputs_and_gradients(model, task, inputs, targets)
    except RuntimeError:
        return False  # such as a `view` that only one of the layouts allows
    limit = _TOLERANCES[task.precision]
    pairs = zip(expected, found, strict=True)
    return all(_length(a - b) <= limit * _length(a) for a, b in pairs)


def _outputs_and_gradients(
    model: nn.Module, task: TorchTask, inputs: Any, targets: Tensor
) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    outputs = task.outputs(model, inputs)
    task.loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]
    return outputs.detach(), torch.cat(gradients)


def _length(tensor: Tensor) -> float:
    return float(tensor.double().norm())
