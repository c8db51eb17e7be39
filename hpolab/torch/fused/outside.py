"""What lies outside the models, such as global settings: whatever changes it changes all models."""

from __future__ import annotations

import copy
import dis
import enum
import functools
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hpolab.identity import closure_of
from hpolab.torch.data import ArraySplit
from hpolab.torch.rng import seeded
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hpolab.torch.training import TorchTask, TorchTraining

__all__ = ["Outside"]

# How deep values are looked at, and how many of each container.
_DEPTH, _MOST_ITEMS = 4, 100
# Bytes of an array whose numbers are compared.
_MOST_BYTES = 2**16

_N_ROWS = 8

_PLAIN = (bool, int, float, complex, str, bytes, type(None), enum.Enum, torch.dtype, torch.device)


class Outside:
    """Tells what building a model has changed that other models read.

    Two things are compared: the values that the models' methods, the loss and the metrics reach
    through modules, classes, functions and closures; and what a model that nobody trains computes.

    Args:
        training: A training that nobody uses any more.
    """

    def __init__(self, training: TorchTraining) -> None:
        task = training.task
        self._functions = [task.own_loss, *task.own_functions(task.metrics).values()]
        # Those that `build_model` makes anew for each model go with it.
        self._kinds: weakref.WeakSet[type] = weakref.WeakSet()
        self._probe = _Probe(training.model, task)
        self.add(training.model)
        self._looked_at: list[type] = []
        self._values: dict[str, Hashable] = {}

    def add(self, model: nn.Module) -> None:
        """Note a model whose training others must not disturb."""
        for module in model.modules():
            for kind in type(module).__mro__:
                if not _is_library(kind):
                    self._kinds.add(kind)

    def look(self) -> None:
        """Note the values as they are, before a model is built."""
        self._looked_at = list(self._kinds)
        self._values = self._read(self._looked_at)

    def changed(self) -> str | None:
        """Return what has changed since `look`, None if nothing."""
        now = self._read(self._looked_at)
        self._looked_at = []
        for key, value in self._values.items():
            if now.get(key) != value:
                return key
        return "something" if self._probe.has_changed() else None

    def _read(self, kinds: list[type]) -> dict[str, Hashable]:
        reader = _Reader()
        for kind in kinds:
            for name, method in vars(kind).items():
                if name != "__init__":  # it has run, and what it left behind is the model's
                    reader.follow(method)
        for function in self._functions:
            reader.follow(function)
        for kind in kinds:
            reader.meet(kind)
        return reader.read()


class _Probe:
    """A model that nobody trains; whatever changes what it computes lies outside it."""

    def __init__(self, model: nn.Module, task: TorchTask) -> None:
        self._task = task
        self._model: nn.Module | None = None
        self._before: list[Tensor] | None = None
        try:
            self._model = _varied_copy(model)
        except Exception:  # noqa: BLE001 - without memory for it, or of a kind that trains alone
            return

    def has_changed(self) -> bool:
        """Tell whether the model computes otherwise than when it was asked last."""
        if self._model is None:
            return False
        try:
            now = self._outputs(self._model)
            # One that changes by itself shows nothing about others.
            is_steady = self._before is not None or _all_near(now, self._outputs(self._model))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            is_steady = False
        if not is_steady:
            self._model = None
            return False
        before, self._before = self._before, now
        return before is not None and not _all_near(before, now)

    @torch.no_grad()
    def _outputs(self, model: nn.Module) -> list[Tensor]:
        train = self._task.train
        assert isinstance(train, ArraySplit), "`run` refuses other data"
        found: list[Tensor] = []
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        for is_training in (False, True):
            inputs, targets = train.rows(0, _N_ROWS)
            with seeded(0, self._task.device):
                outputs = model.train(is_training)(inputs)
                found.append(outputs.clone())
                found.append(self._task.loss(outputs, targets))
        for buffer, kept in buffers:
            buffer.copy_(kept)
        return found


@torch.no_grad()
def _varied_copy(model: nn.Module) -> nn.Module:
    """Return a copy with other weights: a layer of zeros would hide what lies behind it."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for weight in copied.parameters():
        if weight.is_floating_point():
            drawn = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(0.1 * drawn.to(weight.device))
    return copied


def _all_near(some: list[Tensor], others: list[Tensor]) -> bool:
    if len(some) != len(others):
        return False
    return all(
        _is_near(one.double(), other.double()) for one, other in zip(some, others, strict=True)
    )


def _is_near(one: Tensor, other: Tensor) -> bool:
    # Kernels of some devices differ in rounding from call to call.
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, equal_nan=True)


class _Reader:
    """Reads the values that functions reach outside what they are called with."""

    def __init__(self) -> None:
        self._found: dict[str, Hashable] = {}
        self._attributes: dict[str, None] = {}
        self._holders: list[types.ModuleType | type] = []
        self._seen: set[int] = set()

    def read(self) -> dict[str, Hashable]:
        """Return the values by name."""
        n_names = -1
        # What is found in a module may be a function, which asks for more names.
        while n_names < len(self._attributes) + len(self._holders):
            n_names = len(self._attributes) + len(self._holders)
            for holder in list(self._holders):
                self._read_holder(holder)
        return self._found

    def follow(self, function: Any) -> None:
        """Note what a function reads, and those that it calls."""
        function = _unwrapped(function)
        if not isinstance(function, types.FunctionType) or _is_library(function):
            return
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        names, attributes = _names_of(function.__code__)
        self._attributes |= dict.fromkeys(attributes)
        place = f"{function.__module__}.{function.__qualname__}"
        for key, value in vars(function).items():
            self._note(f"{place}.{key}", value)
        for name, value in closure_of(function).items():
            self._note(f"{place}.{name}", value)
        for name in names:
            if name in function.__globals__:
                self._note(f"{function.__module__}.{name}", function.__globals__[name])

    def meet(self, holder: types.ModuleType | type) -> None:
        """Note a module or a class, whose values are read as far as a function asks for them."""
        if id(holder) not in self._seen and not _is_library(holder):
            self._seen.add(id(holder))
            self._holders.append(holder)

    def _read_holder(self, holder: types.ModuleType | type) -> None:
        for name in list(self._attributes):
            value = vars(holder).get(name, _MISSING)
            is_method = isinstance(holder, type) and hasattr(value, "__get__")
            if value is not _MISSING and not is_method:
                self._note(
                    f"{holder.__module__}.{holder.__qualname__}.{name}"
                    if isinstance(holder, type)
                    else f"{holder.__name__}.{name}",
                    value,
                )

    def _note(self, place: str, value: Any) -> None:
        if isinstance(value, types.ModuleType | type):
            self.meet(value)
        elif not isinstance(value, nn.Module):  # the settings of models are compared elsewhere
            self._found[place] = _shown(value)
            self.follow(value)


_MISSING = object()


def _unwrapped(function: Any) -> Any:
    """Return the function of a partial, a method or a property."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType | staticmethod | classmethod):
            function = function.__func__
        elif isinstance(function, property):
            function = function.fget
        else:
            return function


def _shown(value: Any, depth: int = _DEPTH) -> Hashable:
    """Return a value comparable, as deep as it is worth looking."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value) if isinstance(value, float | complex) else value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _shown_array(value)
    if callable(value) and not hasattr(value, "__dict__"):
        return type(value), id(value)
    if isinstance(value, types.FunctionType):
        return value.__qualname__, id(value.__code__)
    if depth == 0 or isinstance(value, nn.Module | type | types.ModuleType):
        return (type(value),)
    if isinstance(value, dict | types.MappingProxyType):
        pairs = list(value.items())[:_MOST_ITEMS]
        return len(value), *((_shown(key, 0), _shown(each, depth - 1)) for key, each in pairs)
    if isinstance(value, set | frozenset):
        return len(value), frozenset(_shown(each, 0) for each in list(value)[:_MOST_ITEMS])
    if isinstance(value, tuple | list):
        return len(value), *(_shown(each, depth - 1) for each in value[:_MOST_ITEMS])
    if _is_library(type(value)) and type(value).__name__ not in ("SimpleNamespace", "Namespace"):
        return (type(value),)
    return type(value), _shown(dict(getattr(value, "__dict__", {})), depth - 1)


def _shown_array(array: Any) -> Hashable:
    try:
        if isinstance(array, Tensor):
            if array.numel() * array.element_size() > _MOST_BYTES or array.device.type != "cpu":
                return array.shape, id(array), array._version
            array = array.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
        if array.nbytes > _MOST_BYTES or array.dtype == object:
            return array.shape, id(array)
    except (NotImplementedError, RuntimeError, TypeError):
        return (type(array),)  # sparse, or left over from a step of a stack
    return array.shape, str(array.dtype), array.tobytes()


def _is_library(value: Any) -> bool:
    """Tell whether a function, a class or a module is not the user's own."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return _is_of_library(str(name).partition(".")[0])


@functools.lru_cache(maxsize=1024)
def _is_of_library(package: str) -> bool:
    if package in sys.stdlib_module_names and package != "__main__":
        return True
    places = getattr(sys.modules.get(package), "__path__", None) or [
        getattr(sys.modules.get(package), "__file__", None) or ""
    ]
    return any("site-packages" in str(place) or "dist-packages" in str(place) for place in places)


@functools.lru_cache(maxsize=1024)
def _names_of(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the global names that code and the code within it reads, and all its names."""
    names = [each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"]
    attributes = list(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            of_const = _names_of(const)
            names += of_const[0]
            attributes += of_const[1]
    return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(attributes))
