"""Dropout in a stack: each member gets the masks that it would draw if it trained alone.

Masks are drawn before the steps that need them, from each member's own random state and in the
order in which its model would draw them. Inside a step they are one multiplication for all
members. Dropout is met where it is called, not where a module stands: as a module, as a function,
and inside attention.
"""

from __future__ import annotations

import abc
import math
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.torch.fused.member import Member

__all__ = ["DropoutCall", "MaskDropouts", "Masks", "read_dropouts"]

# Functions that draw one number per element, and functions that draw one per channel, with the
# number of dimensions that a channel has.
_ELEMENTS = (functional.dropout, torch.dropout)
_CHANNELS = {functional.dropout1d: 1, functional.dropout2d: 2, functional.dropout3d: 3}

# The function that every attention of torch calls. It would hand itself over to a mode, which then
# could not see the dropout inside; this copy does not.
_attention: Callable[..., Any] = types.FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**vars(functional), "has_torch_function": lambda tensors: False},
    "multi_head_attention_forward",
    functional.multi_head_attention_forward.__defaults__,
)


@dataclass(frozen=True)
class DropoutCall:
    """One dropout that a model calls in a training step.

    Attributes:
        shape: The shape that it draws.
        strides: How that lies in memory, and thus the order in which it is drawn.
        rate: The part that it drops.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rate: float

    @property
    def n_numbers(self) -> int:
        """The number of elements that it draws."""
        return math.prod(self.shape)


class _Dropouts(TorchFunctionMode, abc.ABC):
    """Meets each dropout that is called within a ``with`` block, in training mode."""

    @abc.abstractmethod
    def drop(self, inputs: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
        """Return what a dropout makes of its inputs.

        Args:
            inputs: Its inputs.
            shape: The shape of what it draws; of ``inputs``, or one number per channel.
            rate: The part that it drops.
        """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _ELEMENTS:
            return self._drop(None, *args, **kwargs)
        if function in _CHANNELS:
            return self._drop(_CHANNELS[function], *args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if function is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        return function(*args, **kwargs)

    def _drop(
        self,
        n_inner: int | None,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        train: bool = True,
    ) -> Tensor:
        if not (training and train):
            return input
        shape = tuple(input.shape)
        if n_inner is not None:
            if len(shape) != n_inner + 2:
                raise ValueError(f"a dropout of channels has inputs of shape {shape}")
            shape = (*shape[:2], *[1] * n_inner)
        dropped = self.drop(input, shape, p)
        return input.copy_(dropped) if inplace else dropped

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        # As torch's documentation of the function defines it. The original has no batching rule.
        if enable_gqa:
            raise ValueError("an attention has `enable_gqa`")
        factor = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        scores = (query * factor) @ (key * factor).transpose(-2, -1)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(
                ~attn_mask, -math.inf
            )
        if attn_mask is None:
            weights = scores.softmax(-1)
        else:
            scores = scores + attn_mask
            # A query that may attend to nothing gets nothing.
            is_open = (scores > -math.inf).any(-1, keepdim=True)
            weights = torch.where(is_open, scores, 0.0).softmax(-1) * is_open
        if dropout_p > 0:
            weights = self.drop(weights, tuple(weights.shape), dropout_p)
        return weights @ value


# What a model may do in a forward pass alone that a stack would not do: hooks on the gradients of
# what it computes, and what autograd does not see.
_UNSEEN: Mapping[Any, str] = {
    Tensor.register_hook: "hooks on gradients",
    Tensor.register_post_accumulate_grad_hook: "hooks on gradients",
    Tensor.retain_grad: "keeps gradients",
    Tensor.data.__get__: "uses `.data`",  # type: ignore[attr-defined]
    Tensor.data.__set__: "uses `.data`",  # type: ignore[attr-defined]
}


class _NoteDropouts(_Dropouts):
    """Notes the dropouts that a model calls, which drop nothing meanwhile.

    Attributes:
        calls: The dropouts, in the order of their calls.

    Raises:
        ValueError: From within, if the model does what a stack would not do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[DropoutCall] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _UNSEEN:
            raise ValueError(f"its forward pass {_UNSEEN[function]}")
        return super().__torch_function__(function, types, args, kwargs)

    def drop(self, inputs: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
        """Note a dropout."""
        # A dropout of elements draws in the layout of its inputs.
        like = torch.empty_like(inputs) if shape == inputs.shape else inputs.new_empty(shape)
        self.calls.append(DropoutCall(shape, like.stride(), float(rate)))
        return inputs


def read_dropouts(model: nn.Module, inputs: Any) -> list[DropoutCall]:
    """Return the dropouts that a model calls in training for a batch of inputs, in their order.

    The model's buffers and torch's random state are left as they were.

    Raises:
        ValueError: If its forward pass does what a stack would not do.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    versions = {name: weight._version for name, weight in model.named_parameters()}
    was_training = model.training
    with torch.random.fork_rng(), _NoteDropouts() as noted:
        model.train()(inputs)
    model.train(was_training)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    for name, weight in model.named_parameters():
        if weight._version != versions[name]:
            raise ValueError(f"its forward pass changes its weight {name!r}")
    calls: list[DropoutCall] = noted.calls
    return calls


class MaskDropouts(_Dropouts):
    """Multiplies by masks given from outside, one for each call.

    Args:
        masks: The masks; each is taken out when it is used.
    """

    def __init__(self, masks: list[Tensor]) -> None:
        super().__init__()
        self._masks = masks

    def drop(self, inputs: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
        """Multiply by the next mask."""
        return inputs * self._masks.pop(0)


@dataclass(frozen=True)
class Masks:
    """The masks of some steps, one tensor per call of a dropout: (steps, K, ...)."""

    tensors: list[Tensor]

    def of_step(self, step: int) -> list[Tensor]:
        """Return the masks of a step, each (K, ...)."""
        return [mask[step] for mask in self.tensors]

    @classmethod
    def draw(
        cls,
        members: Sequence[Member | None],
        calls: Sequence[DropoutCall],
        n_steps: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Masks:
        """Draw the masks of all members for some steps; a free slot's masks are 1.

        A dropout whose rate is 0 or 1 draws nothing, as in torch.

        Args:
            members: The member of each slot.
            calls: The dropouts of a step, whose shapes all members share; each has its own rates.
            n_steps: The number of steps.
            dtype: The masks' type.
            device: Where the masks are needed.
        """
        tensors = [
            torch.ones((n_steps, len(members), *call.shape), dtype=dtype, device=device)
            for call in calls
        ]
        for k, member in enumerate(members):
            if member is None or not calls:
                continue
            kept = [1 - rate for rate in member.dropout_rates]
            drawn = [
                (mask[:, k], call, part)
                for mask, call, part in zip(tensors, calls, kept, strict=True)
                if 0 < part < 1
            ]
            with member.random():
                for step in range(n_steps):
                    for mask, call, part in drawn:
                        _draw(mask[step], call.strides, part)
            for mask, part in zip(tensors, kept, strict=True):
                # torch scales what it keeps; a rate of 1 keeps nothing.
                mask[:, k].mul_(0.0) if part == 0 else mask[:, k].div_(part)
        return cls(tensors)


def _draw(mask: Tensor, strides: tuple[int, ...], part: float) -> None:
    if mask.stride() == strides:
        mask.bernoulli_(part)
    else:
        mask.copy_(
            torch.empty_strided(
                mask.shape, strides, dtype=mask.dtype, device=mask.device
            ).bernoulli_(part)
        )
