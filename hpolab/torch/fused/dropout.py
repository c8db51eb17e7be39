"""Dropout in a stack: each member gets the masks that it would draw if it trained alone.

Masks are drawn before the steps that need them, from each member's own random state and in the
order in which its model would draw them. Inside a step they are one multiplication for all
members.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.torch.fused.member import Member

__all__ = ["MaskedDropout", "Masks", "mask_dropouts", "read_dropouts"]

# Modules that draw one number per element, and modules that draw one per channel.
_ELEMENTS = (nn.Dropout,)
_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class MaskedDropout(nn.Module):
    """Multiplies its inputs by a mask given from outside; does nothing in evaluation mode."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.empty(0), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.mask if self.training else inputs


def mask_dropouts(model: nn.Module) -> None:
    """Replace each dropout by a `MaskedDropout`."""
    for name, module in list(model.named_modules()):
        if type(module) in (*_ELEMENTS, *_CHANNELS):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, MaskedDropout())


@dataclass(frozen=True)
class Dropouts:
    """A model's dropouts in the order of their calls for a batch: (module name, mask shape)."""

    calls: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def n_numbers(self) -> int:
        """The number of mask elements for one step of one member."""
        return sum(math.prod(shape) for _, shape in self.calls)


def read_dropouts(model: nn.Module, inputs: Any) -> Dropouts:
    """Return a model's dropouts in the order of their calls for a batch of inputs.

    Raises:
        ValueError: If a dropout is called several times, or if the shape of its inputs does not
            fit its kind.
    """
    # A copy, because the pass would change the model's training statistics.
    model = copy.deepcopy(model).train()
    calls: list[tuple[str, tuple[int, ...]]] = []
    for name, module in model.named_modules():
        if type(module) in (*_ELEMENTS, *_CHANNELS):
            module.register_forward_pre_hook(_Note(name, calls))
    with torch.random.fork_rng(), torch.no_grad():
        model(inputs)
    names = [name for name, _ in calls]
    if len(set(names)) < len(names):
        raise ValueError("a dropout is called several times in one pass")
    return Dropouts(tuple(calls))


@dataclass(frozen=True)
class _Note:
    name: str
    calls: list[tuple[str, tuple[int, ...]]]

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        shape = tuple(inputs[0].shape)
        if type(module) in _CHANNELS:
            n_inner = _CHANNELS.index(type(module)) + 1
            if len(shape) != n_inner + 2:
                raise ValueError(f"a {type(module).__name__} has inputs of shape {shape}")
            shape = (*shape[:2], *[1] * n_inner)
        self.calls.append((self.name, shape))


@dataclass(frozen=True)
class Masks:
    """The masks of some steps: dropout name -> (steps, K, ...)."""

    tensors: dict[str, Tensor]

    def of_step(self, step: int) -> dict[str, Tensor]:
        """Return the masks of a step under the names of the model's buffers, each (K, ...)."""
        return {f"{name}.mask": mask[step] for name, mask in self.tensors.items()}

    @classmethod
    def draw(
        cls,
        members: Sequence[Member | None],
        dropouts: Dropouts,
        n_steps: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Masks:
        """Draw the masks of all members for some steps; a free slot's masks are 1.

        A dropout whose rate is 0 or 1 draws nothing, as in torch.
        """
        tensors = {
            name: torch.ones((n_steps, len(members), *shape), dtype=dtype, device=device)
            for name, shape in dropouts.calls
        }
        for k, member in enumerate(members):
            if member is None or not dropouts.calls:
                continue
            kept = {
                name: 1 - _dropout_rate(member.training.model.get_submodule(name))
                for name in tensors
            }
            drawn = [(name, part) for name, part in kept.items() if 0 < part < 1]
            with member.random():
                for step in range(n_steps):
                    for name, part in drawn:
                        tensors[name][step, k].bernoulli_(part)
            for name, part in kept.items():
                # torch scales what it keeps; a rate of 1 keeps nothing.
                tensors[name][:, k].mul_(0.0) if part == 0 else tensors[name][:, k].div_(part)
        return cls(tensors)


def _dropout_rate(module: nn.Module) -> float:
    rate: float = module.p  # type: ignore[assignment]
    return rate
