"""Whether each training has a model of its own: what the models of several trials share."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from hpolab.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ModelsSeen"]


class _Seen(NamedTuple):
    """A tensor of an earlier model.

    Attributes:
        storage: Its memory, while that is alive.
        is_trained: Whether that model trained it.
        fingerprint: Its shape and what its numbers add up to; None of a trained one.
    """

    storage: StorageWeakRef
    is_trained: bool
    fingerprint: tuple[Any, ...] | None


class _Place(NamedTuple):
    """A buffer of a module of an earlier model, by its name: a new tensor may have replaced it."""

    module: Callable[[], nn.Module | None]
    fingerprint: tuple[Any, ...]


class ModelsSeen:
    """The tensors of the models that ``build_model`` has returned in this process.

    Frozen weights may be the same in several models, such as a pretrained backbone. What one
    training writes and the next reads may not: trained weights, or the batch statistics of a
    shared module, which change in training mode though its weights are frozen.
    """

    def __init__(self) -> None:
        # By address: the memory of an array may have a storage for each model that borrows it.
        self._tensors: dict[int, _Seen] = {}
        self._places: dict[tuple[int, str], _Place] = {}

    def __reduce__(self) -> tuple[type[ModelsSeen], tuple[()]]:
        return ModelsSeen, ()  # another process has models of its own

    def add(self, model: nn.Module) -> None:
        """Note a new model.

        Raises:
            InvalidArgument: If it shares with an earlier one what a training has written, or will.
        """
        self._forget()
        found = list(_tensors_of(model))
        for name, tensor in found:
            self._check(name, tensor)
        self._check_places(model)
        new: dict[int, _Seen] = {}
        for _, tensor in found:
            storage = _storage_of(tensor)
            address = 0 if storage is None else storage.data_ptr()
            if storage is None or address in self._tensors:
                continue
            before = new.get(address)
            is_trained = tensor.requires_grad or (before is not None and before.is_trained)
            fingerprint = None if is_trained else _fingerprint(tensor)
            new[address] = _Seen(StorageWeakRef(storage), is_trained, fingerprint)  # type: ignore[no-untyped-call]
        self._tensors |= new

    @contextmanager
    def unwritten(self, model: nn.Module) -> Iterator[None]:
        """Refuse, and undo, that another model's training inside changes what a model shares.

        Args:
            model: A model that `add` has noted, which nothing inside trains.

        Raises:
            InvalidArgument: If a frozen weight or a buffer of it has changed.
        """
        before = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
        yield
        try:
            for name, tensor in _tensors_of(model):
                if not tensor.requires_grad:
                    self._check(name, tensor)
            self._check_places(model)
        except InvalidArgument:
            for buffer, kept in before:
                buffer.copy_(kept)
            raise

    def _check(self, name: str, tensor: Tensor) -> None:
        storage = _storage_of(tensor)
        seen = None if storage is None else self._tensors.get(storage.data_ptr())
        if seen is None:
            return
        if seen.is_trained or tensor.requires_grad:
            raise InvalidArgument(
                "`build_model` must make new weights each time, or trials go on with each "
                f"other's: got {name!r} again."
            )
        if seen.fingerprint is not None and seen.fingerprint[0] == tensor.shape:
            _refuse_change(name, seen.fingerprint, _fingerprint(tensor))

    def _check_places(self, model: nn.Module) -> None:
        for path, module in model.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is None or is_lazy(buffer):
                    continue
                key, now = (id(module), name), _fingerprint(buffer)
                place = self._places.get(key)
                # A table that has grown, as that of positions does, is no statistic.
                if (
                    place is not None
                    and place.module() is module
                    and place.fingerprint[0] == now[0]
                ):
                    _refuse_change(f"{path}.{name}" if path else name, place.fingerprint, now)
                else:
                    self._places[key] = _Place(weakref.ref(module), now)

    def _forget(self) -> None:
        self._tensors = {
            key: seen
            for key, seen in list(self._tensors.items())
            if not seen.storage.expired()  # type: ignore[no-untyped-call]
        }
        self._places = {
            key: place for key, place in list(self._places.items()) if place.module() is not None
        }


def _refuse_change(name: str, before: tuple[Any, ...], now: tuple[Any, ...]) -> None:
    if repr(before) != repr(now):  # two NaN are the same here
        raise InvalidArgument(
            "`build_model` must give each model what training writes anew, or trials go on with "
            f"each other's: got {name!r} again, which a training has changed. Return a copy of "
            "what is shared, as copy.deepcopy(module)."
        )


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.requires_grad:
                yield f"{path}.{name}" if path else name, value


def _storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    if is_lazy(tensor):
        return None
    try:
        storage = tensor.untyped_storage()
        return storage if storage.nbytes() and storage.data_ptr() else None
    except (NotImplementedError, RuntimeError):
        return None  # sparse tensors have none


def _fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    """Return a tensor's shape, and what changes with nearly any change of its numbers."""
    numbers = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    dtype = torch.float64 if tensor.device.type != "mps" else torch.float32
    try:
        if not numbers.is_floating_point():
            numbers = numbers.to(torch.int64)
            return tensor.shape, int(numbers.sum()), int(numbers.square().sum())
        length = torch.linalg.vector_norm(numbers, dtype=dtype)
        return tensor.shape, float(numbers.sum(dtype=dtype)), float(length)
    except (NotImplementedError, RuntimeError):
        return (tensor.shape,)  # of types that torch cannot add up, and without memory
