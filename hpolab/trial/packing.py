"""The state of a training of one's own: checked when it is first given, packed, and loaded back."""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidType, in_brief

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BYTES",
    "BytesState",
    "State",
    "check_state",
    "load_into",
    "pack",
    "refuse_unloadable",
    "set_random_states",
    "unpack",
]

State = bytes | Mapping[str, Any] | Callable[[], bytes | Mapping[str, Any]]
"""What `Reporter.report` takes as ``state``."""

BYTES = "bytes"
"""The form of a state that is bytes: the trainer's own."""

_PLAIN, _TORCH = "plain", "torch"  # the forms of a dict

# What stands for a value that torch would not load, in a pair with what it is made of.
_ARRAY, _SCALAR, _SET, _FROZEN = "hpolab:array", "hpolab:scalar", "hpolab:set", "hpolab:frozenset"
_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)
_DICTS = (dict, OrderedDict, Counter)
_GROUPS = (list, tuple)
_SETS: dict[type, str] = {set: _SET, frozenset: _FROZEN}


@dataclass(frozen=True)
class BytesState:
    """A function of hpolab's own that returns bytes, so that nothing has to be checked."""

    make: Callable[[], bytes]

    def __call__(self) -> bytes:
        """Return the state."""
        return self.make()


def check_state(state: Any) -> None:
    """Refuse a state that could not be restored, by packing and unpacking it once.

    Raises:
        InvalidType: If it is neither bytes nor a dict nor a function that returns one of them, or
            the dict holds what cannot be kept.
    """
    if not isinstance(state, BytesState):
        unpack(*pack(state))


def pack(state: Any) -> tuple[str, bytes]:
    """Return a state's form, by which `unpack` reads it, and its bytes.

    A dict is copied as it is now, with the random states of the process.

    Raises:
        InvalidType: As `check_state`.
    """
    made = _made(state)
    if isinstance(made, bytes | bytearray | memoryview):
        return BYTES, bytes(made)
    values = {key: _encoded(value, f"state[{key!r}]") for key, value in made.items()}
    whole = {"values": values, "random": _encoded(_random_states(), "the random states")}
    torch = sys.modules.get("torch")
    try:
        if torch is None:
            return _PLAIN, pickle.dumps(whole)
        file = io.BytesIO()
        torch.save(whole, file)
    except (TypeError, AttributeError, pickle.PicklingError, NotImplementedError) as error:
        raise InvalidType(f"`state` cannot be kept: {in_brief(error)}. {_WAYS}") from None
    return _TORCH, file.getvalue()


def unpack(form: str, raw: bytes) -> tuple[Any, Any]:
    """Return what `pack` was given, as bytes or a dict, and the random states with a dict.

    Nothing in it is run: tensors are loaded with ``weights_only``, onto the CPU.

    Raises:
        InvalidType: If it cannot be loaded.
        ValueError: If the form is unknown.
    """
    if form == BYTES:
        return raw, None
    if form not in (_PLAIN, _TORCH):
        raise ValueError(f"its form {form!r} is that of a newer hpolab")
    try:
        if form == _PLAIN:
            whole = _PlainUnpickler(io.BytesIO(raw)).load()
        else:
            import torch

            whole = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise InvalidType(f"`state` could not be loaded: {in_brief(error)}. {_WAYS}") from None
    return _decoded(whole["values"]), _decoded(whole["random"])


_WAYS = (
    "A dict may hold numbers, text, arrays, tensors, and objects with `state_dict` and "
    "`load_state_dict`; of anything else give bytes: `lambda: pickle.dumps(…)`."
)


def _made(state: Any) -> Any:
    """Return a state's bytes or dict."""
    if hasattr(state, "state_dict"):  # also a function: torch's modules can be called
        raise InvalidType(
            f"`state` must be a dict, bytes, or a function, got {type(state).__name__}: give "
            '`{"model": model, "optimizer": optimizer}`.'
        )
    made = state() if callable(state) else state
    if isinstance(made, bytes | bytearray | memoryview | Mapping):
        return made
    found = "nothing" if made is None else type(made).__name__
    raise InvalidType(
        '`state` must be a dict such as `{"model": model, "optimizer": optimizer}`, bytes, or a '
        "function that returns one of them, got "
        f"{'a function that returns ' if callable(state) else ''}{found}."
    )


def _encoded(value: Any, place: str) -> Any:
    """Return a value as it is now, made of what can be loaded without running anything."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if isinstance(value, Mapping) and kind in (*_DICTS, defaultdict):
        items = [(key, _encoded(each, f"{place}[{key!r}]")) for key, each in value.items()]
        return _like(value, items)
    if kind in _GROUPS:
        return kind(_encoded(each, f"{place}[{i}]") for i, each in enumerate(value))
    if kind in _SETS:
        return _SETS[kind], [_encoded(each, f"{place}{{…}}") for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _encoded_array(value, place)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor | torch.dtype | torch.device):
        return value
    for handled, save, _ in _handlers():
        if isinstance(value, handled):
            return _encoded(save(value), place)
    if hasattr(value, "state_dict") and not isinstance(value, type):
        return _encoded(value.state_dict(), place)
    raise InvalidType(f"`{place}` cannot be kept, as it is of type {kind.__name__}. {_WAYS}")


def _like(value: Mapping[Any, Any], items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if not isinstance(value, OrderedDict | Counter):
        return dict(items)
    made: Any = type(value)(dict(items))
    metadata = getattr(value, "_metadata", None)
    if metadata is not None:  # by which torch's modules know the version of their state
        made._metadata = metadata
    return made  # type: ignore[no-any-return]


def _encoded_array(value: Any, place: str) -> tuple[str, bytes]:
    file = io.BytesIO()
    try:
        np.save(file, np.asarray(value), allow_pickle=False)
    except ValueError:
        raise InvalidType(f"`{place}` cannot be kept: an array of objects. {_WAYS}") from None
    return (_ARRAY if isinstance(value, np.ndarray) else _SCALAR), file.getvalue()


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return _like(value, [(key, _decoded(each)) for key, each in value.items()])
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        if value[0] in (_ARRAY, _SCALAR):
            array = np.load(io.BytesIO(value[1]), allow_pickle=False)
            return array if value[0] == _ARRAY else array[()]
        if value[0] in (_SET, _FROZEN):
            return (set if value[0] == _SET else frozenset)(map(_decoded, value[1]))
    return type(value)(map(_decoded, value)) if type(value) in _GROUPS else value


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers and numbers; a pickle that would call anything else is refused."""

    _KNOWN = frozenset(
        [("builtins", name) for name in ("bytearray", "complex")]
        + [("collections", name) for name in ("Counter", "OrderedDict")]
    )

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is not loaded from a checkpoint")
        return super().find_class(module, name)


def _handlers() -> Iterator[tuple[type, Callable[[Any], Any], Callable[[Any, Any], Any]]]:
    """Yield what has a state under another name: its type, and how it is saved and loaded."""
    yield random.Random, random.Random.getstate, random.Random.setstate
    yield np.random.Generator, _state_of_generator, _set_state_of_generator
    yield np.random.RandomState, np.random.RandomState.get_state, np.random.RandomState.set_state
    torch = sys.modules.get("torch")
    if torch is not None:
        yield torch.Generator, torch.Generator.get_state, torch.Generator.set_state


def _state_of_generator(generator: np.random.Generator) -> Any:
    return generator.bit_generator.state


def _set_state_of_generator(generator: np.random.Generator, state: Any) -> None:
    generator.bit_generator.state = state


def refuse_unloadable(objects: Mapping[str, Any]) -> None:
    """Refuse objects that a state could not be loaded into.

    Raises:
        InvalidType: If there is one.
    """
    for name, each in objects.items():
        loads = hasattr(each, "load_state_dict") and not isinstance(each, type)
        if not loads and not isinstance(each, tuple(kind for kind, _, _ in _handlers())):
            raise InvalidType(
                f"`{name}` must be the object itself, such as a model or an optimizer, with "
                f"`load_state_dict`, got {type(each).__name__}. Other values are in the dict that "
                "`restore` returns."
            )


def load_into(objects: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Load each object's state, by its name."""
    for name, each in objects.items():
        for kind, _, load in _handlers():
            if isinstance(each, kind):
                load(each, saved[name])
                break
        else:
            each.load_state_dict(saved[name])


def _random_states() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy, and torch where it is loaded."""
    states: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state()}
    torch = sys.modules.get("torch")
    if torch is None:
        return states
    states["torch"] = torch.default_generator.get_state()
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go back to random states that were packed with a dict, as far as this machine has them."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    if "torch" not in states:
        return
    import torch

    torch.default_generator.set_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        for place, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, place)
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
