"""A batch: what a model, a loss and a metric get of the user's data, in memory of its own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType

__all__ = [
    "Targets",
    "UnpackRule",
    "WeightedTargets",
    "apply",
    "check_unpack",
    "check_weights",
    "copied",
    "is_pair",
    "map_arrays",
    "moved",
    "takes_weights",
    "unpacked",
    "values_of",
]

UnpackRule: TypeAlias = str | Callable[[Any], Any] | None
"""The key of the targets in batches that are dicts; or batch -> (inputs, targets) or (inputs,
targets, weights); None for batches that have this form."""


@dataclass(frozen=True)
class WeightedTargets:
    """Targets whose rows count more or less.

    Attributes:
        values: The targets, (n, ...).
        weights: How much each row counts, (n,).
    """

    values: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> WeightedTargets:
        return WeightedTargets(self.values[rows], self.weights[rows])

    def clone(self) -> WeightedTargets:
        """Return a copy in memory of its own."""
        return WeightedTargets(self.values.clone(), self.weights.clone())


Targets: TypeAlias = Tensor | WeightedTargets


def values_of(targets: Targets) -> Tensor:
    """Return targets without their weights."""
    return targets.values if isinstance(targets, WeightedTargets) else targets


def apply(function: Callable[..., Any], outputs: Tensor, targets: Targets) -> Any:
    """Return a loss or a metric; it gets ``weights=`` where the targets have them."""
    if isinstance(targets, WeightedTargets):
        return function(outputs, targets.values, weights=targets.weights)
    return function(outputs, targets)


def takes_weights(function: Callable[..., Any]) -> bool:
    """Tell whether a loss or a metric has an argument ``weights``.

    Example:
        >>> def own(outputs, targets, weights=None): ...
        >>> takes_weights(own), takes_weights(max)
        (True, False)
    """
    called = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):
        return False
    return "weights" in parameters


def check_weights(what: str, weights: Tensor, n_rows: int) -> None:
    """Refuse weights that are not one number of 0 or above for each row.

    Args:
        what: What they are, for the message.
        weights: The weights.
        n_rows: How many rows they are for.

    Raises:
        InvalidType: If they are no floats.
        InvalidArgument: If they are not of shape (n_rows,), or one is negative or not finite.
    """
    if not weights.is_floating_point():
        # Else three arrays of another meaning, such as two inputs and labels, would train.
        raise InvalidType(
            f"{what} must be floats, got {weights.dtype}. Three arrays are inputs, targets and a "
            "weight for each row; several inputs go into one tuple: ((a, b), targets)."
        )
    if tuple(weights.shape) != (n_rows,):
        raise InvalidArgument(
            f"{what} must be of shape (n,), one for each of the {n_rows} rows, "
            f"got {tuple(weights.shape)}."
        )
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise InvalidArgument(f"{what} must be finite and 0 or above, got {_extent(weights)}.")


def check_unpack(unpack: Any) -> None:
    """Refuse what cannot tell inputs from targets in a batch.

    Raises:
        InvalidType: If it is no key and no function.
    """
    if unpack is not None and not isinstance(unpack, str) and not callable(unpack):
        raise InvalidType(
            "`unpack` must be the key of the targets or a function batch -> (inputs, targets), "
            f"got {type(unpack).__name__}."
        )


def unpacked(name: str, batch: Any, unpack: UnpackRule) -> Any:
    """Return a batch as (inputs, targets) or (inputs, targets, weights), where ``unpack`` can.

    Args:
        name: The split's name, for messages.
        batch: A batch, or a whole split.
        unpack: See `UnpackRule`.

    Raises:
        InvalidArgument: If a dict has no such key.
        InvalidType: If ``unpack`` is a key and the batch no dict.
    """
    if unpack is None:
        return batch
    if callable(unpack):
        return unpack(batch)
    if not isinstance(batch, Mapping):
        raise InvalidType(
            f"`{name}` must give dicts with the targets at {unpack!r}, as `unpack` says, "
            f"got a {type(batch).__name__}."
        )
    if unpack not in batch:
        raise InvalidArgument(
            f"`unpack` must be a key of the batches of `{name}`, got {unpack!r} and batches with "
            f"{', '.join(map(repr, batch))}."
        )
    return {key: part for key, part in batch.items() if key != unpack}, batch[unpack]


def is_pair(data: Any) -> bool:
    """Tell whether data is (inputs, targets) or (inputs, targets, weights), and no list of those.

    Two batches in a list are no pair: the second is a tuple, not an array.
    """
    return (
        isinstance(data, tuple | list)
        and len(data) in (2, 3)
        and all(hasattr(part, "shape") for part in data[1:])
    )


def map_arrays(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Apply a function to each array in nested tuples, lists and dicts."""
    # What moves as a whole is one, such as a PackedSequence, whose lengths stay on the CPU.
    if isinstance(inputs, Tensor) or hasattr(inputs, "to"):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {key: map_arrays(function, part) for key, part in inputs.items()}
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(map_arrays(function, part) for part in inputs))
    if isinstance(inputs, tuple | list):
        return type(inputs)(map_arrays(function, part) for part in inputs)
    return function(inputs)


def moved(inputs: Any, device: torch.device) -> Any:
    """Return arrays as tensors on a device; what is there already is shared."""

    def move(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            part = torch.as_tensor(part)
        if isinstance(part, Tensor):
            # Copies to CUDA are ordered on its stream; elsewhere one must wait for them.
            return part.to(device, non_blocking=device.type == "cuda")
        return part.to(device) if hasattr(part, "to") else part

    return map_arrays(move, inputs)


def copied(inputs: Any, device: torch.device) -> Any:
    """Return arrays as tensors on a device in memory of their own.

    What a model or a metric does to them in place then stays with it.
    """

    def copy_part(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            part = torch.as_tensor(part)
        if isinstance(part, Tensor):
            return part.to(device, non_blocking=device.type == "cuda", copy=True)
        if not hasattr(part, "to"):
            return part
        # Its `to` may return the object itself, as that of a PackedSequence does.
        own = part.clone() if hasattr(part, "clone") else copy.deepcopy(part)
        return own.to(device)

    return map_arrays(copy_part, inputs)


def _extent(numbers: Tensor) -> str:
    return f"{numbers.min().item()}..{numbers.max().item()}"
