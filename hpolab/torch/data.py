"""A split of the data: arrays kept in memory and sliced by index, or the user's own batches."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.torch.rng import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["ArraySplit", "Split", "map_arrays", "open_split", "open_splits"]


class Split(abc.ABC):
    """Inputs and targets of one split, on one device.

    Inputs are a tensor, or tensors in tuples, lists and dicts: the model gets a batch of them in
    the same form.

    Attributes:
        targets: All targets, (n, ...), or None where only the batches know them.
        generators: The random generators that the data brings with it.
    """

    targets: Tensor | None
    generators: Sequence[torch.Generator] = ()

    @abc.abstractmethod
    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """Yield batches (inputs, targets) on the device.

        Args:
            batch_size: Rows of a batch.
            shuffle: Draws the order of the rows; None keeps the order they came in.
        """

    @abc.abstractmethod
    def n_batches(self, batch_size: int) -> int | None:
        """Return how many batches `batches` yields in a drawn order, None if that is unknown."""


@final
class ArraySplit(Split):
    """Tensors kept on the device; a batch is an index into them."""

    def __init__(self, inputs: Any, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets: Tensor = targets

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """Yield batches; in a drawn order, a single row left over joins the last one.

        Batch normalization cannot train on one row, and whether one is left depends on a
        ``batch_size`` that trials may tune.
        """
        if shuffle is None:
            for start in range(0, len(self.targets), batch_size):
                take = itemgetter(slice(start, start + batch_size))
                yield map_arrays(take, self.inputs), take(self.targets)
            return
        # The order is drawn on the CPU, so that it is the same whatever the device.
        order = torch.randperm(len(self.targets), generator=shuffle).to(self.targets.device)
        for start, stop in self.bounds(batch_size):
            pick = partial(torch.index_select, dim=0, index=order[start:stop])
            yield map_arrays(pick, self.inputs), pick(self.targets)

    def n_batches(self, batch_size: int) -> int:
        n_full, n_left = divmod(len(self.targets), batch_size)
        return max(n_full + (n_left > 1), 1)

    def bounds(self, batch_size: int) -> list[tuple[int, int]]:
        """Return where each batch of a drawn order begins and ends."""
        n = self.n_batches(batch_size)
        starts = [batch_size * i for i in range(n)]
        return list(zip(starts, [*starts[1:], len(self.targets)], strict=True))


@final
class LoaderSplit(Split):
    """The user's own iterable of batches, which decides their size and order."""

    def __init__(self, name: str, batches: Iterable[Any], device: torch.device) -> None:
        self.targets = None
        self.generators = _generators(batches)
        self._name = name
        self._batches = batches
        self._device = device

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        batch = None
        for batch in self._batches:
            inputs, targets = batch
            yield _to(inputs, self._device), _to(targets, self._device)
        if batch is None:
            raise InvalidArgument(
                f"`{self._name}` must give its batches each time it is iterated, got none."
            )

    def n_batches(self, batch_size: int) -> int | None:
        try:
            return len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            return None


def open_splits(given: Mapping[str, Any], device: torch.device) -> dict[str, Split]:
    """Open the splits of an objective, and refuse those that do not go together.

    Shared rows are found where two splits are views of one array or equal as a whole; copies of
    single rows are not, since real data has equal rows of its own.

    Args:
        given: Split name -> data as the user gave it; batches are not compared.
        device: Where the batches shall be.

    Raises:
        InvalidType: If a split is neither arrays nor batches.
        InvalidArgument: If a split is bad in itself, or two share rows or differ in row shape.
    """
    opened = {name: open_split(name, data, device) for name, data in given.items()}
    for one, other in itertools.combinations(given, 2):
        if given[one] is given[other]:
            raise InvalidArgument(
                f"`{one}` and `{other}` must not share rows, got the same data for both."
            )
    tensors = {
        name: [*_leaves(split.inputs), split.targets]
        for name, split in opened.items()
        if isinstance(split, ArraySplit)
    }
    # Where rows lie in memory is asked of the arrays as they came, all at once: tensors may be
    # copies, and what is freed in between may lend its place to the next.
    raw = {name: _raw(given[name]) for name in tensors}
    for one, other in itertools.combinations(tensors, 2):
        shapes = [[tuple(part.shape[1:]) for part in tensors[name]] for name in (one, other)]
        if shapes[0] != shapes[1]:
            raise InvalidArgument(
                f"`{one}` and `{other}` must have rows of one shape, inputs and targets, "
                f"got {_listed(shapes[0])} and {_listed(shapes[1])}."
            )
        n_shared = _n_shared_rows(raw[one], raw[other])
        if not n_shared and all(map(torch.equal, tensors[one], tensors[other])):
            n_shared = len(tensors[one][-1])
        if n_shared:
            raise InvalidArgument(
                f"`{one}` and `{other}` must not share rows, got {n_shared} rows in both."
            )
    return opened


def open_split(name: str, data: Any, device: torch.device) -> Split:
    """Make a split from ``(inputs, targets)`` or from an iterable of batches.

    Args:
        name: The split's name, for messages.
        data: A pair of arrays or tensors of n rows each, or an iterable that gives (inputs,
            targets) batches each time it is iterated, e.g. a DataLoader. Inputs may be several
            arrays in a tuple, list or dict.
        device: Where the batches shall be.

    Raises:
        InvalidType: If ``data`` is neither.
        InvalidArgument: If it is empty, the lengths differ, or a value is NaN or infinite.
    """
    return _open_arrays(name, data, device) if _is_pair(data) else _open_batches(name, data, device)


def _open_arrays(name: str, data: Any, device: torch.device) -> ArraySplit:
    inputs = map_arrays(partial(_tensor, f"`{name}` inputs"), data[0])
    targets = _tensor(f"`{name}` targets", data[1])
    if not targets.is_floating_point():
        targets = targets.to(torch.int64)  # the one integer that torch's losses take
    leaves = _leaves(inputs)
    if not leaves:
        raise InvalidArgument(f"`{name}` inputs must hold at least one array, got {data[0]!r}.")
    for part in leaves:
        if len(part) != len(targets):
            raise InvalidArgument(
                f"`{name}` inputs and targets must be of one length, "
                f"got {len(part)} and {len(targets)}."
            )
        _check_finite(f"`{name}` inputs", part)
    if len(targets) == 0:
        raise InvalidArgument(f"`{name}` must hold at least one row, got none.")
    _check_finite(f"`{name}` targets", targets)
    return ArraySplit(_to(inputs, device), targets.to(device))


def _open_batches(name: str, data: Any, device: torch.device) -> LoaderSplit:
    if not hasattr(data, "__iter__"):
        raise InvalidType(
            f"`{name}` must be a pair (inputs, targets) of arrays or an iterable of such batches, "
            f"such as a DataLoader, got {type(data).__name__}."
        )
    split = LoaderSplit(name, data, device)
    # An iterator of a DataLoader draws a seed as soon as it is made.
    with seeded(0, device, split.generators):
        iterator = iter(data)
        if iterator is data:
            raise InvalidType(
                f"`{name}` must give its batches each time it is iterated, got a "
                f"{type(data).__name__}, which does once: give a DataLoader or a list."
            )
        first = next(iterator, None)
    if first is None:
        raise InvalidArgument(f"`{name}` must hold at least one batch, got none.")
    if not _is_pair(first):
        raise InvalidType(
            f"`{name}` must be a pair (inputs, targets) of arrays or an iterable of such batches, "
            f"got a {type(data).__name__} whose first batch is {_described(first)}."
        )
    return split


def _is_pair(data: Any) -> bool:
    # Two batches in a list are no pair: the second is a tuple, not an array.
    return isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[1], "shape")


def _described(batch: Any) -> str:
    if not isinstance(batch, tuple | list):
        return f"a {type(batch).__name__}"
    return f"a {type(batch).__name__} of {', '.join(type(part).__name__ for part in batch)}"


def _generators(batches: Any) -> list[torch.Generator]:
    """Return the generators of a DataLoader and its samplers, each once."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    holders = (
        batches,
        getattr(batches, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
    )
    found = (getattr(holder, "generator", None) for holder in holders)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _tensor(what: str, data: Any) -> Tensor:
    """Return an array as a tensor, floats in torch's default dtype; memory is shared if it can."""
    if not hasattr(data, "shape"):
        raise InvalidType(f"{what} must be arrays or tensors, got {type(data).__name__}.")
    tensor = data.detach() if isinstance(data, Tensor) else _from_array(what, data)
    if tensor.layout is not torch.strided or tensor.is_complex():
        raise InvalidType(f"{what} must be dense and real, got {tensor.layout}, {tensor.dtype}.")
    if tensor.ndim == 0:
        raise InvalidArgument(f"{what} must have a row for each example, got a single number.")
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _from_array(what: str, data: Any) -> Tensor:
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise InvalidType(
            f"{what} must hold numbers, got a {type(data).__name__} of dtype {array.dtype}."
        )
    # What torch cannot share: read-only memory, negative strides, foreign byte order.
    return torch.as_tensor(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _check_finite(what: str, tensor: Tensor) -> None:
    n_bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
    if n_bad:
        raise InvalidArgument(f"{what} must be finite, got {n_bad} NaN or infinite values.")


def _raw(data: Any) -> list[Tensor | NDArray[Any]]:
    """Return the inputs of a pair as they came."""
    return [part if isinstance(part, Tensor) else np.asarray(part) for part in _leaves(data[0])]


def _n_shared_rows(a: Sequence[Tensor | NDArray[Any]], b: Sequence[Tensor | NDArray[Any]]) -> int:
    return min(
        len(np.intersect1d(_row_addresses(one), _row_addresses(other)))
        for one, other in zip(a, b, strict=True)
    )


def _row_addresses(rows: Tensor | NDArray[Any]) -> NDArray[np.int64]:
    """Return where in memory each row begins: views of one array meet in the rows they share."""
    if isinstance(rows, Tensor):
        start, step = rows.data_ptr(), rows.stride(0) * rows.element_size()
    else:
        start, step = rows.__array_interface__["data"][0], rows.strides[0]
    addresses: NDArray[np.int64] = start + step * np.arange(len(rows), dtype=np.int64)
    return addresses


def _listed(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


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


def _leaves(inputs: Any) -> list[Any]:
    leaves: list[Any] = []
    map_arrays(leaves.append, inputs)
    return leaves


def _to(inputs: Any, device: torch.device) -> Any:
    def move(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            part = torch.as_tensor(part)
        if isinstance(part, Tensor):
            # Copies to CUDA are ordered on its stream; elsewhere one must wait for them.
            return part.to(device, non_blocking=device.type == "cuda")
        return part.to(device) if hasattr(part, "to") else part

    return map_arrays(move, inputs)
