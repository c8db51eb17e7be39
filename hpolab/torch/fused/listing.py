"""Which models may be stacked at all: what is known to be safe is listed, all else trains alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["obstacle_of"]

# Modules of torch that compute under vmap what they compute alone, whatever their settings; the
# tests hold each to it. Modules that users write are not torch's: their settings are compared and
# their first steps checked.
_LISTED = (
    nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict,
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Embedding,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder,
    nn.TransformerDecoderLayer, nn.TransformerDecoder,
    nn.modules.linear.NonDynamicallyQuantizableLinear,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Tanhshrink, nn.Threshold, nn.GLU,
    nn.Softmax, nn.LogSoftmax, nn.Softmin,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d,
    nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Upsample, nn.CosineSimilarity,
)  # fmt: skip

_DTYPES = (torch.float32, torch.float64)


def obstacle_of(model: nn.Module) -> str | None:
    """Return why a model cannot share a stack, whatever the others are; None if it may."""
    return next(_obstacles(model), None)


def _obstacles(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        where = f"its {name!r}" if name else "it"
        kind = _kind_of_torch(type(module))
        if kind not in _LISTED:
            yield f"{where} is a {kind.__name__}, which is not known to train in a stack"
        if _has_hooks(module):
            yield f"{where} has hooks"
        if isinstance(module, nn.Embedding):
            yield from _obstacles_of_embedding(where, module)
    for name, weight in model.named_parameters():
        if type(weight) is not nn.Parameter:
            yield f"its weight {name!r} is a {type(weight).__name__}"
        elif weight.requires_grad and weight.dtype not in _DTYPES:
            yield f"its weight {name!r} is of {weight.dtype}"
        elif weight.layout is not torch.strided:
            yield f"its weight {name!r} is not dense"
        elif weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None):
            yield f"its weight {name!r} has hooks on its gradient"
    if len({p.dtype for p in model.parameters() if p.requires_grad}) > 1:
        yield "its weights are of several types"
    if any(buffer.requires_grad for buffer in model.buffers()):
        yield "it has buffers with gradients"


def _kind_of_torch(kind: type) -> type:
    """Return the class of torch's that a class is or stands upon."""
    return next(each for each in kind.__mro__ if each.__module__.partition(".")[0] == "torch")


def _has_hooks(module: nn.Module) -> bool:
    return any(
        getattr(module, name, None)
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    )


def _obstacles_of_embedding(where: str, module: nn.Embedding) -> Iterator[str]:
    for setting in ("max_norm", "scale_grad_by_freq", "sparse"):
        if getattr(module, setting):
            yield f"{where} is an Embedding with `{setting}`"
    if module.padding_idx is not None and type(module) is not nn.Embedding:
        yield f"{where} is an Embedding of its own kind with `padding_idx`"
