"""What a model computes besides its weights: all that its Python objects hold, comparable."""

from __future__ import annotations

import enum
import functools
import hashlib
import logging
import sys
import types
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hpolab.identity import closure_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

__all__ = ["UnknownSetting", "difference", "rates_of", "setting_of", "settings_of"]

# Objects that a model holds and that are compared; beyond it would take longer than it saves.
_MOST_OBJECTS = 20_000
# Bytes of an array that is no weight.
_MOST_BYTES = 2**26

# Values that are equal if they compare equal and are of one type.
_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), enum.Enum, slice, range, type(...),
    torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, np.dtype,
)  # fmt: skip

# What every module holds: its tensors, its parts, its hooks, and whether it trains.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))

# Rates of dropout, which members of one stack need not share; see `read_dropouts`.
_RATES = ((nn.modules.dropout._DropoutNd, "p"), (nn.MultiheadAttention, "dropout"))


class UnknownSetting(Exception):
    """An object cannot be compared; the message says where it is and what."""


def settings_of(model: nn.Module) -> dict[str, Hashable]:
    """Return what a model computes besides its weights and rates of dropout: where -> what.

    Two models with equal settings, weights and buffers compute the same, as long as what lies
    outside of them stays as it is; see `Outside`. Functions count with what they enclose.

    Raises:
        UnknownSetting: If the model holds an object that cannot be compared.
    """
    found: dict[str, Hashable] = {}
    reader = _Reader()
    for module in model.modules():
        reader.meet(module)
    reader.own |= {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    read: set[int] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        place = f"{name}." if name else ""
        found[f"{place}(module)"] = reader.read(place, module)
        if id(module) in read:
            continue
        read.add(id(module))
        found[f"{place}(class)"] = reader.read(f"{place}(class)", type(module))
        for key, value in sorted(vars(module).items()):
            if key not in _OF_EVERY_MODULE and not _is_rate(module, key):
                found[place + key] = reader.read(place + key, value)
        if isinstance(module, nn.MultiheadAttention):
            found[f"{place}(drops)"] = module.dropout > 0  # without, it calls no dropout
    return found


def rates_of(model: nn.Module) -> list[float]:
    """Return the rates of a model's dropouts, in the order of its modules."""
    return [
        getattr(module, key)
        for module in model.modules()
        for kind, key in _RATES
        if isinstance(module, kind)
    ]


def setting_of(place: str, value: Any) -> Hashable:
    """Return one object in a form that can be compared.

    Raises:
        UnknownSetting: If it cannot be compared.
    """
    return _Reader().read(place, value)


def difference(one: Mapping[str, Hashable], other: Mapping[str, Hashable]) -> str | None:
    """Return where two models' settings differ first, None if nowhere."""
    return next(
        (key for key in {**one, **other} if one.get(key, _MISSING) != other.get(key, _MISSING)),
        None,
    )


_MISSING = object()

# Objects that are what they are: equal if they are the same.
_THEMSELVES = (types.BuiltinFunctionType, types.ModuleType, np.ufunc, logging.Logger)

_CONTAINERS = (
    object, dict, OrderedDict, types.MappingProxyType, set, frozenset, tuple, list, deque,
    types.SimpleNamespace,
)  # fmt: skip
_FOREIGN_METHODS = (
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
    types.BuiltinFunctionType,
)  # fmt: skip


def _is_rate(module: nn.Module, key: str) -> bool:
    return any(isinstance(module, kind) and key == rate for kind, rate in _RATES)


class _Reader:
    """Makes values comparable; an object that is met again is the same object.

    Attributes:
        own: The ids of a model's own parts. A copy of the model has others, but a function that
            encloses one is not copied with it.
    """

    def __init__(self) -> None:
        self.own: set[int] = set()
        self._n_functions = 0
        self._seen: dict[int, int] = {}
        # What was met must live on, or another object might get its id.
        self._kept: list[Any] = []

    def meet(self, value: Any) -> None:
        """Give an object its number."""
        self._seen[id(value)] = len(self._kept)
        self._kept.append(value)

    def read(self, place: str, value: Any) -> Hashable:
        """Return a value comparable; ``place`` is where it was found."""
        if isinstance(value, _PLAIN):
            # 1, 1.0 and True are equal, and so are 0.0 and -0.0, but nan and nan are not.
            return type(value), repr(value) if isinstance(value, float | complex) else value
        if self._n_functions and id(value) in self.own:
            raise UnknownSetting(
                f"its {place!r} is a function that refers to the model itself: make it a method"
            )
        if id(value) in self._seen:
            return "again", self._seen[id(value)]
        if len(self._kept) >= _MOST_OBJECTS:
            raise UnknownSetting(f"its {place!r} holds more than {_MOST_OBJECTS} objects")
        self.meet(value)
        return self._read(place, value)

    def _read(self, place: str, value: Any) -> Hashable:
        if isinstance(value, Tensor | np.ndarray | np.generic):
            return _array(place, value)
        if isinstance(value, type):
            return value if _is_importable(value) else self._class(place, value)
        if isinstance(value, _THEMSELVES):
            return value
        if isinstance(value, types.MethodType):
            return "method", self.read(place, value.__func__), self.read(place, value.__self__)
        if isinstance(value, types.FunctionType):
            return self._function(place, value)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return "partial", *(self.read(place, part) for part in parts)
        if isinstance(value, property | classmethod | staticmethod):
            methods = (getattr(value, name, None) for name in ("fget", "fset", "__func__"))
            return type(value), *(self.read(place, each) for each in methods)
        return self._object(place, value)

    def _object(self, place: str, value: Any) -> Hashable:
        hidden = [each for each in type(value).__mro__ if _hides_its_state(each)]
        if hidden:
            raise UnknownSetting(
                f"its {place!r} is a {type(value).__name__}, which does not show what it holds"
            )
        found = [self.read(place, type(value))]
        found += [(key, self.read(f"{place}.{key}", each)) for key, each in _held(value)]
        if isinstance(value, dict | types.MappingProxyType):
            pairs = value.items()
            return *found, *((self.read(place, key), self.read(place, x)) for key, x in pairs)
        if isinstance(value, set | frozenset):
            return *found, frozenset(self.read(place, each) for each in value)
        if isinstance(value, tuple | list | deque):
            return *found, *(self.read(place, each) for each in value)
        return tuple(found)

    def _function(self, place: str, function: types.FunctionType) -> Hashable:
        cells = list(closure_of(function).values())
        parts = [function.__defaults__, function.__kwdefaults__, vars(function), cells]
        self._n_functions += 1
        held = tuple(self.read(place, part) for part in parts)
        self._n_functions -= 1
        return "function", function.__code__, held

    def _class(self, place: str, kind: type) -> Hashable:
        """Return a class that is made anew with each model: what it is made of."""
        own = {key: each for key, each in vars(kind).items() if key not in _OF_EVERY_CLASS}
        if issubclass(kind, nn.Module):
            # It has run, and what it left behind is read. It often encloses all params of a trial.
            own.pop("__init__", None)
        return (
            "class",
            kind.__qualname__,
            tuple(self.read(place, base) for base in kind.__bases__),
            tuple((key, self.read(f"{place}.{key}", each)) for key, each in own.items()),
        )


_OF_EVERY_CLASS = (
    "__module__", "__dict__", "__weakref__", "__doc__", "__qualname__", "__annotations__",
    "__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__",
)  # fmt: skip


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds under names, in its dict and in slots."""
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _array(place: str, array: Any) -> Hashable:
    try:
        numbers = _bytes_of(array)
    except (RuntimeError, TypeError, NotImplementedError):  # sparse, of a subclass, of vmap
        numbers = None
    if numbers is None or numbers.nbytes > _MOST_BYTES or numbers.dtype == object:
        raise UnknownSetting(f"its {place!r} is a {type(array).__name__} that cannot be compared")
    digest = hashlib.sha256(numbers.tobytes()).digest()
    return type(array), tuple(array.shape), str(array.dtype), digest


def _bytes_of(array: Any) -> Any:
    if not isinstance(array, Tensor):
        return np.asarray(array)
    if type(array) not in (Tensor, nn.Parameter):
        return None
    # Not every type of torch's is one of numpy's.
    return array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _is_importable(value: Any) -> bool:
    """Tell whether a class or function is the one that its module has under its name."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _hides_its_state(kind: type) -> bool:
    """Tell whether a class is written in another language, so that its objects hide what they hold.

    Its methods are then not Python's.
    """
    if kind in _CONTAINERS or kind.__module__ in ("typing", "abc"):
        return False
    return any(isinstance(each, _FOREIGN_METHODS) for each in vars(kind).values())
