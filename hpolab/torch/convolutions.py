"""Convolutions of images: whether a model has them, and how their weights are laid out."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["has_convolutions", "to_channels_last"]

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def has_convolutions(model: nn.Module) -> bool:
    """Tell whether a model has convolutions of images."""
    return any(isinstance(module, _CONVOLUTIONS) for module in model.modules())


def to_channels_last(model: nn.Module) -> None:
    """Lay out a model's 4-D weights with the channels last.

    Convolutions take the layout of their weights, so inputs need no change.
    """
    # `Module.to` would refuse a model that has 5-D weights as well.
    for p in model.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
