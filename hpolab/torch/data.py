"""A split of the data: arrays kept in memory and sliced by index, or the user's own batches."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.torch.batches import (
    WeightedTargets,
    check_weights,
    copied,
    is_pair,
    map_arrays,
    moved,
    unpacked,
)
from hpolab.torch.rng import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from hpolab.torch.batches import Targets, UnpackRule

__all__ = ["ArraySplit", "Split", "map_arrays", "open_split", "open_splits"]


class Split(abc.ABC):
    """Inputs and targets of one split, on one device.

    Inputs are a tensor, or tensors in tuples, lists and dicts: the model gets a batch of them in
    the same form. A batch is a copy, so that a model or a loss that works in place changes
    nothing of the user's.

    Attributes:
        targets: All targets, (n, ...), or None where only the batches know them.
        weights: How much each row counts, (n,), or None where only the batches know it or all
            count alike.
        is_weighted: Whether the targets of batches come with weights.
        generators: The random generators that the data brings with it.
    """

    targets: Tensor | None
    weights: Tensor | None = None
    is_weighted: bool = False
    generators: Sequence[torch.Generator] = ()

    @abc.abstractmethod
    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Yield batches (inputs, targets) on the device, the targets as `Targets`.

        Args:
            batch_size: Rows of a batch.
            shuffle: Draws the order of the rows; None keeps the order they came in.
        """

    @abc.abstractmethod
    def n_batches(self, batch_size: int) -> int | None:
        """Return how many batches `batches` yields in a drawn order, None if that is unknown."""


@final
class ArraySplit(Split):
    """Tensors kept on the device; a batch is a copy of some of their rows."""

    def __init__(self, inputs: Any, targets: Tensor, weights: Tensor | None = None) -> None:
        self.inputs = inputs
        self.targets: Tensor = targets
        self.weights = weights
        self.is_weighted = weights is not None

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Yield batches; in a drawn order, a single row left over joins the last one.

        Batch normalization cannot train on one row, and whether one is left depends on a
        ``batch_size`` that trials may tune.
        """
        if shuffle is None:
            for start in range(0, len(self.targets), batch_size):
                yield self.rows(start, start + batch_size)
            return
        # The order is drawn on the CPU, so that it is the same whatever the device.
        order = torch.randperm(len(self.targets), generator=shuffle).to(self.targets.device)
        for start, stop in self.bounds(batch_size):
            yield self._batch(partial(torch.index_select, dim=0, index=order[start:stop]))

    def rows(self, start: int, stop: int) -> tuple[Any, Targets]:
        """Return a copy of some rows, in the order they came in."""
        return self._batch(lambda part: part[start:stop].clone())

    def unlike_rows(self, n_rows: int) -> tuple[Any, Targets]:
        """Return a copy of rows whose targets differ as far as possible, ``n_rows`` or fewer."""
        values, order = self.targets.reshape(len(self.targets), -1)[:, 0].sort()
        is_new = torch.cat([values.new_ones(1).bool(), values[1:] != values[:-1]])
        # One row of each value comes first: rare classes lie anywhere.
        found = torch.cat([order[is_new], order[~is_new]])
        n_new = int(is_new.sum())
        places = torch.arange(min(n_rows, len(found)))
        if n_new > n_rows:
            places = torch.linspace(0, n_new - 1, n_rows).long()
        index = found[places.to(found.device)]
        return self._batch(partial(torch.index_select, dim=0, index=index))

    def _batch(self, take: Callable[[Tensor], Tensor]) -> tuple[Any, Targets]:
        targets: Targets = take(self.targets)
        if self.weights is not None:
            targets = WeightedTargets(take(self.targets), take(self.weights))
        return map_arrays(take, self.inputs), targets

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

    def __init__(
        self,
        name: str,
        batches: Iterable[Any],
        device: torch.device,
        *,
        unpack: UnpackRule,
        is_weighted: bool,
    ) -> None:
        self.targets = None
        self.is_weighted = is_weighted
        self.generators = _generators(batches)
        self._name = name
        self._batches = batches
        self._device = device
        self._unpack = unpack

    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[Any, Any]]:
        batch = None
        for batch in self._batches:
            inputs, targets, *weights = unpacked(self._name, batch, self._unpack)
            if bool(weights) != self.is_weighted:
                raise InvalidArgument(
                    f"`{self._name}` must give weights with all of its batches or with none, got "
                    f"{'no weights' if self.is_weighted else 'weights'} after a batch "
                    f"{'with' if self.is_weighted else 'without'}."
                )
            yield copied(inputs, self._device), self._targets(targets, *weights)
        if batch is None:
            raise InvalidArgument(
                f"`{self._name}` must give its batches each time it is iterated, got none."
            )

    def _targets(self, targets: Any, weights: Any = None) -> Targets:
        values: Tensor = copied(targets, self._device)
        if weights is None:
            return values
        weights = _tensor(f"`{self._name}` weights", weights)
        if weights.device.type == "cpu":  # elsewhere the training would wait for the device
            check_weights(f"`{self._name}` weights", weights, len(values))
        return WeightedTargets(values, copied(weights, self._device))

    def n_batches(self, batch_size: int) -> int | None:
        try:
            return len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            return None


def open_splits(
    given: Mapping[str, Any], device: torch.device, unpack: UnpackRule = None
) -> dict[str, Split]:
    """Open the splits of an objective, and refuse those that do not go together.

    Shared rows are found where two splits are views of one array or equal as a whole; copies of
    single rows are not, since real data has equal rows of its own.

    Args:
        given: Split name -> data as the user gave it; batches are not compared.
        device: Where the batches shall be.
        unpack: What tells inputs from targets.

    Raises:
        InvalidType: If a split is neither arrays nor batches.
        InvalidArgument: If a split is bad in itself, or two share rows or differ in row shape.
    """
    opened = {name: open_split(name, data, device, unpack) for name, data in given.items()}
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
    raw = {name: _raw(_whole(name, given[name], unpack)) for name in tensors}
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


def open_split(name: str, data: Any, device: torch.device, unpack: UnpackRule = None) -> Split:
    """Make a split from ``(inputs, targets)`` or from an iterable of batches.

    Args:
        name: The split's name, for messages.
        data: A pair of arrays or tensors of n rows each, or an iterable that gives (inputs,
            targets) batches each time it is iterated, e.g. a DataLoader. Inputs may be several
            arrays in a tuple, list or dict. Weights (n,) may follow the targets.
        device: Where the batches shall be.
        unpack: What tells inputs from targets; with a key, data may be a dict of arrays.

    Raises:
        InvalidType: If ``data`` is neither.
        InvalidArgument: If it is empty, the lengths differ, or a value is NaN or infinite.
    """
    data = _whole(name, data, unpack)
    if is_pair(data):
        return _open_arrays(name, data, device)
    return _open_batches(name, data, device, unpack)


def _whole(name: str, data: Any, unpack: UnpackRule) -> Any:
    """Return a dict of arrays as a pair, and other data as it is."""
    if isinstance(data, Mapping) and isinstance(unpack, str):
        return unpacked(name, data, unpack)
    return data


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
    weights = _open_weights(name, data[2], len(targets)).to(device) if len(data) == 3 else None
    return ArraySplit(moved(inputs, device), targets.to(device), weights)


def _open_weights(name: str, data: Any, n_rows: int) -> Tensor:
    weights = _tensor(f"`{name}` weights", data)
    check_weights(f"`{name}` weights", weights, n_rows)
    if not bool((weights > 0).any()):
        raise InvalidArgument(f"`{name}` weights must not all be 0, got {n_rows} of 0.")
    return weights


def _open_batches(name: str, data: Any, device: torch.device, unpack: UnpackRule) -> LoaderSplit:
    form = f"`{name}` must be a pair (inputs, targets) of arrays or an iterable of such batches"
    if not hasattr(data, "__iter__") or isinstance(data, Mapping):
        raise InvalidType(
            f"{form}, such as a DataLoader, got {type(data).__name__}{_advice(data)}."
        )
    # An iterator of a DataLoader draws a seed as soon as it is made.
    with seeded(0, device, _generators(data)):
        iterator = iter(data)
        if iterator is data:
            raise InvalidType(
                f"`{name}` must give its batches each time it is iterated, got a "
                f"{type(data).__name__}, which does once: give a DataLoader or a list."
            )
        first = next(iterator, None)
    if first is None:
        raise InvalidArgument(f"`{name}` must hold at least one batch, got none.")
    batch = unpacked(name, first, unpack)
    if not is_pair(batch):
        of = "of which `unpack` makes" if callable(unpack) else "whose first batch is"
        raise InvalidType(
            f"{form}, got a {type(data).__name__} {of} {_described(batch)}{_advice(batch)}."
        )
    if len(batch[1].shape) == 0:
        raise InvalidType(
            f"{form}, got a {type(data).__name__} of single rows, whose targets have no rows of "
            "their own: stack them, or give DataLoader(rows, batch_size=...)."
        )
    is_weighted = len(batch) == 3
    if is_weighted:
        weights = _tensor(f"`{name}` weights", batch[2])
        check_weights(f"`{name}` weights", weights, len(batch[1]))
    return LoaderSplit(name, data, device, unpack=unpack, is_weighted=is_weighted)


def _advice(batch: Any) -> str:
    """Return what to do with data of another form, as the end of a message."""
    if isinstance(batch, Mapping):
        return ': name the key of the targets, as in unpack="labels"'
    if hasattr(batch, "__getitem__") and not hasattr(batch, "shape") and hasattr(batch, "__len__"):
        if isinstance(batch, tuple | list) and len(batch) in (2, 3):
            return ": targets must be arrays, and a list of rows goes into a DataLoader"
        if not isinstance(batch, tuple | list | str):
            return ": give DataLoader(data, batch_size=...)"
    return ""


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


def _leaves(inputs: Any) -> list[Any]:
    leaves: list[Any] = []
    map_arrays(leaves.append, inputs)
    return leaves
