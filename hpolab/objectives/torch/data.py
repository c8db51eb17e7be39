"""A split of the data: arrays kept in memory and sliced by index, or the user's own batches."""

from __future__ import annotations

import abc
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Split", "check_splits", "open_split"]

# `np.shares_memory` solves an integer programme; slices of one array take a handful of steps.
_MAX_OVERLAP_WORK = 10_000


class Split(abc.ABC):
    """Inputs and targets of one split, on one device."""

    @abc.abstractmethod
    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """Yield (inputs, targets), each of at most ``batch_size`` rows, on the device.

        Args:
            batch_size: Rows of a batch.
            shuffle: Draws the order of the rows; None keeps the order they came in.
        """

    @abc.abstractmethod
    def n_batches(self, batch_size: int) -> int:
        """Return the number of batches that `batches` yields."""

    @property
    @abc.abstractmethod
    def targets(self) -> Tensor | None:
        """All targets, (n, ...), or None where only the batches know them."""


class ArraySplit(Split):
    """Tensors kept on the device; a batch is an index into them."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self._inputs = inputs
        self._targets = targets

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        if shuffle is None:
            yield from zip(
                torch.split(self._inputs, batch_size),
                torch.split(self._targets, batch_size),
                strict=True,
            )
            return
        # The order is drawn on the CPU, so that it is the same whatever the device.
        order = torch.randperm(len(self._targets), generator=shuffle).to(self._targets.device)
        for rows in torch.split(order, batch_size):
            yield self._inputs.index_select(0, rows), self._targets.index_select(0, rows)

    def n_batches(self, batch_size: int) -> int:
        return math.ceil(len(self._targets) / batch_size)

    @property
    def targets(self) -> Tensor:
        return self._targets


class LoaderSplit(Split):
    """The user's own iterable of batches, which decides their size and order."""

    def __init__(self, batches: Iterable[tuple[Any, Tensor]], device: torch.device) -> None:
        self._batches = batches
        self._device = device

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        for inputs, targets in self._batches:
            yield _to(inputs, self._device), torch.as_tensor(targets).to(self._device)

    def n_batches(self, batch_size: int) -> int:
        try:
            return len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            return sum(1 for _ in self._batches)

    @property
    def targets(self) -> None:
        return None


def open_split(name: str, data: Any, device: torch.device) -> Split:
    """Make a split from ``(inputs, targets)`` or from an iterable of batches.

    Args:
        name: The split's name, for messages.
        data: A pair of arrays or tensors of n rows each, or an iterable that gives (inputs,
            targets) batches each time it is iterated, e.g. a DataLoader.
        device: Where the batches shall be.

    Raises:
        InvalidType: If ``data`` is neither.
        InvalidArgument: If it is empty, the lengths differ, or a value is NaN or infinite.
    """
    if _is_pair(data):
        inputs, targets = (_tensor(name, part) for part in data)
        if len(inputs) != len(targets):
            raise InvalidArgument(
                f"`{name}` inputs and targets must be of one length, "
                f"got {len(inputs)} and {len(targets)}."
            )
        if len(targets) == 0:
            raise InvalidArgument(f"`{name}` must hold at least one row, got none.")
        for what, tensor in (("inputs", inputs), ("targets", targets)):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                n_bad = int((~torch.isfinite(tensor)).sum())
                raise InvalidArgument(
                    f"`{name}` {what} must be finite, got {n_bad} NaN or infinite values."
                )
        return ArraySplit(inputs.to(device), targets.to(device))
    if not hasattr(data, "__iter__"):
        raise InvalidType(
            f"`{name}` must be a pair (inputs, targets) or an iterable of such batches, "
            f"got {type(data).__name__}."
        )
    if iter(data) is data:
        raise InvalidType(
            f"`{name}` must give its batches again each epoch, got a {type(data).__name__}, which "
            "is empty after one: give a DataLoader or a list."
        )
    if next(iter(data), None) is None:
        raise InvalidArgument(f"`{name}` must hold at least one batch, got none.")
    return LoaderSplit(data, device)


def check_splits(splits: Mapping[str, Any]) -> None:
    """Refuse splits that share rows or whose rows differ in shape.

    Shared rows are found where two splits are slices of one array or equal as a whole; copies of
    single rows are not, since real data has equal rows of its own.

    Args:
        splits: Split name -> data as the user gave it; batches are not looked into.

    Raises:
        InvalidArgument: If two splits overlap or do not fit each other.
    """
    arrays = {name: np.asarray(data[0]) for name, data in splits.items() if _is_pair(data)}
    for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
        if a.shape[1:] != b.shape[1:]:
            raise InvalidArgument(
                f"`{one}` and `{other}` must have rows of one shape, "
                f"got {a.shape[1:]} and {b.shape[1:]}."
            )
        if _shares_rows(a, b):
            raise InvalidArgument(
                f"`{one}` and `{other}` must not share rows: a model would be judged on data it "
                f"has seen, got {len(a)} and {len(b)} rows that overlap."
            )


def _shares_rows(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    try:
        shared = np.shares_memory(a, b, max_work=_MAX_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        shared = False
    return shared or np.array_equal(a, b)


def _is_pair(data: Any) -> bool:
    return (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and all(hasattr(part, "shape") for part in data)
    )


def _tensor(name: str, data: Any) -> Tensor:
    if isinstance(data, Tensor):
        tensor = data
    else:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf":
            raise InvalidType(f"`{name}` must hold numbers, got dtype {array.dtype}.")
        # A read-only array cannot be shared with torch.
        tensor = torch.as_tensor(array if array.flags.writeable else array.copy())
    if tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    # torch's losses take class ids, and embeddings take indices, as 64-bit integers.
    return tensor.to(torch.int64)


def _to(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(_to(part, device) for part in inputs)
    return torch.as_tensor(inputs).to(device)
