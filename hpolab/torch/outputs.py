"""The outputs of a model for a whole split, put together from batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import InvalidArgument
from hpolab.torch.batches import WeightedTargets, apply, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.torch.batches import Targets

__all__ = ["check_by_position", "gathered", "is_ragged", "samples_of"]


def is_ragged(parts: Sequence[Tensor]) -> bool:
    """Tell whether batches differ in more than their number of rows, as padded sequences do."""
    return len({part.shape[1:] for part in parts}) > 1


def gathered(batches: Sequence[tuple[Tensor, Targets]]) -> tuple[Tensor, Targets]:
    """Return outputs (n, ...) and targets (n, ...) of all rows, in memory of their own.

    Batches that are padded to different lengths have no common shape. Then every position is a
    row of length 1: outputs (n, C, length) become (n * length, C, 1), and targets (n, length)
    become (n * length, 1).

    Args:
        batches: Outputs and targets of each batch.

    Raises:
        InvalidArgument: If outputs and targets differ from batch to batch in ways that do not
            match.
    """
    outputs = [each for each, _ in batches]
    if is_ragged(outputs) or is_ragged([values_of(each) for _, each in batches]):
        axes = _ragged_axes(outputs), _ragged_axes([values_of(each) for _, each in batches])
        batches = [_by_position(each, targets, axes) for each, targets in batches]
    values = torch.cat([values_of(targets) for _, targets in batches])
    weights = [each.weights for _, each in batches if isinstance(each, WeightedTargets)]
    targets = WeightedTargets(values, torch.cat(weights)) if weights else values
    return torch.cat([each for each, _ in batches]), targets


def samples_of(batches: Sequence[tuple[Tensor, Targets]]) -> NDArray[np.int64]:
    """Return which sample, from 0 up, each row of `gathered` is a part of, (n,)."""
    targets = [values_of(each) for _, each in batches]
    axes = _ragged_axes(targets) if is_ragged([each for each, _ in batches]) else []
    n_each = [math.prod(each.shape[axis] for axis in axes) for each in targets]
    counts = np.repeat(n_each, [len(each) for each in targets])
    return np.repeat(np.arange(len(counts)), counts)


def check_by_position(
    functions: Mapping[str, Callable[..., Any]], batches: Sequence[tuple[Tensor, Targets]]
) -> None:
    """Refuse a user's function that is no mean over positions, where batches differ in length.

    Args:
        functions: What each is, for the message, and the function.
        batches: Outputs and targets of some batches.

    Raises:
        InvalidArgument: If a function of a batch is another number where positions are rows.
    """
    outputs = [each for each, _ in batches]
    if not is_ragged(outputs) or not functions:
        return
    axes = _ragged_axes(outputs), _ragged_axes([values_of(each) for _, each in batches])
    whole = max(batches, key=lambda batch: batch[0].numel())
    generator = torch.Generator().manual_seed(0)
    # The outputs of an untrained model may be all alike.
    drawn = torch.randn(whole[0].shape, generator=generator).to(whole[0])
    by_position = _by_position(drawn, whole[1], axes)
    for what, function in functions.items():
        try:
            given, other = (
                float(apply(function, each.clone(), targets.clone()))
                for each, targets in ((drawn, whole[1]), by_position)
            )
        except Exception:  # noqa: BLE001 - it needs whole rows
            given, other = 0.0, 1.0
        if not abs(given - other) <= 1e-4 * max(1.0, abs(given)):
            raise InvalidArgument(
                f"{what} must be a mean over positions where batches differ in length, got "
                f"outputs of shapes {', '.join(sorted({str(tuple(e.shape)) for e in outputs}))}: "
                "pad all batches to one length, or take named losses and metrics."
            )


def _ragged_axes(parts: Sequence[Tensor]) -> list[int]:
    if len({part.ndim for part in parts}) > 1:
        raise _unlike(parts)
    first = parts[0].shape
    return [axis for axis in range(1, len(first)) if len({p.shape[axis] for p in parts}) > 1]


def _by_position(
    outputs: Tensor, targets: Targets, axes: tuple[list[int], list[int]]
) -> tuple[Tensor, Targets]:
    values = values_of(targets)
    lengths = [
        [part.shape[axis] for axis in each]
        for part, each in zip((outputs, values), axes, strict=True)
    ]
    if lengths[0] != lengths[1]:
        raise _unlike([outputs, values])
    rows = _as_rows(values, axes[1])
    if isinstance(targets, WeightedTargets):
        n_each = len(rows) // max(1, len(values))
        return _as_rows(outputs, axes[0]), WeightedTargets(
            rows, targets.weights.repeat_interleave(n_each)
        )
    return _as_rows(outputs, axes[0]), rows


def _as_rows(part: Tensor, axes: Sequence[int]) -> Tensor:
    """Return a tensor whose first axis runs over rows and ``axes``, which have length 1 after."""
    shape = [1 if axis in axes else n for axis, n in enumerate(part.shape)]
    moved = part.movedim(list(axes), list(range(1, 1 + len(axes))))
    return moved.reshape(-1, *shape[1:])


def _unlike(parts: Sequence[Tensor]) -> InvalidArgument:
    shapes = ", ".join(str(tuple(part.shape)) for part in parts[:4])
    return InvalidArgument(
        "Outputs and targets must have one shape in all batches of a split, or differ in length "
        f"in the same way, got {shapes}."
    )
