"""Which trials may share a stack, and why a trial may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.torch.fused.architecture import TrainsAlone, groups_of, split_model
from hpolab.torch.fused.listing import obstacle_of
from hpolab.torch.fused.rules import rule_of
from hpolab.torch.fused.settings import UnknownSetting, difference, settings_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from hpolab.torch.training import TorchTraining

__all__ = ["Signature", "signature"]


class Signature:
    """What trainings of one stack have in common; equal and hashed by it.

    Args:
        parts: Where -> what.
    """

    def __init__(self, parts: Mapping[str, Hashable]) -> None:
        self._parts = parts
        self._key = tuple(parts.items())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self._key == other._key

    def difference(self, other: Signature) -> str | None:
        """Return where two signatures differ first, None if nowhere."""
        return difference(self._parts, other._parts)


def signature(training: TorchTraining) -> Signature:
    """Return what a training has in common with those that may share its stack.

    That is the batch size, whether gradients are clipped, everything that its model computes with
    besides weights and rates of dropout, and the shapes and types of all weights and buffers, which
    of them are trained, and in which parameter group.

    Raises:
        TrainsAlone: If it cannot share a stack with any other.
    """
    params, model = training.params, training.model
    if training.reason_alone is not None:
        raise TrainsAlone(training.reason_alone)
    if rule_of(params) is None:
        raise TrainsAlone(f"the optimizer {params['optimizer']!r} has no rule for several members")
    reason = obstacle_of(model)
    if reason is not None:
        raise TrainsAlone(reason)
    try:
        settings = settings_of(model)
    except UnknownSetting as error:
        raise TrainsAlone(str(error)) from None
    weights, buffers = split_model(model)
    tensors = {
        f"{name} (tensor)": (name in weights, tuple(part.shape), part.dtype)
        for name, part in (weights | buffers).items()
    }
    first: dict[int, str] = {}
    tied = {
        f"{name} (tied)": first.setdefault(id(part), name)
        for name, part in model.named_parameters(remove_duplicate=False)
    }
    shared = {
        "batch_size": training.batch_size,
        "max_grad_norm": training.options.max_grad_norm is not None,
        **{f"{name} (group)": number for name, number in groups_of(training).items()},
    }
    return Signature({**shared, **settings, **tensors, **tied})
