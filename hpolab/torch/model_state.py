"""A model's whole state: weights, every buffer, extra state, and plain attributes of its modules.

torch's ``state_dict`` leaves out buffers that are not persistent and attributes such as a counter
or a running mean. A forward that changes them makes another model of the same ``state_dict``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load_model_state", "model_state"]

# What every module has besides its own attributes.
_OF_TORCH = frozenset(vars(nn.Module()))


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return a copy of all of a model's state that is tensors and plain values, by name.

    It is the model's ``state_dict``, with the buffers that are not in it and the attributes of its
    modules that are tensors, numbers, text, None, or lists, tuples and dicts of those.
    """
    state = {key: _copy(part) for key, part in model.state_dict().items()}
    for path, module in model.named_modules():
        for name, part in (*module._buffers.items(), *_attributes(module)):
            if _joined(path, name) not in state:
                state[_joined(path, name)] = _copy(part)
    return state


@torch.no_grad()
def load_model_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Make a model's state the one that `model_state` has returned; ``state`` stays a copy.

    What an earlier version of hpolab has left out stays as it is.
    """
    rest = dict(state)
    for path, module in model.named_modules():
        _fit_buffers(path, module, state)
    modules = dict(model.named_modules())
    for key in state.keys() - model.state_dict().keys():
        path, _, name = key.rpartition(".")
        module = modules.get(path)
        if module is not None and (name in module._buffers or _is_attribute(module, name)):
            _put(module, name, rest.pop(key))
    model.load_state_dict(rest)


def _fit_buffers(path: str, module: nn.Module, state: dict[str, Any]) -> None:
    """Give buffers the shapes of the state, which ``load_state_dict`` demands."""
    for name, own in module._buffers.items():
        saved = state.get(_joined(path, name))
        if own is not None and is_lazy(own):
            continue
        if isinstance(saved, Tensor) and (own is None or own.shape != saved.shape):
            like = own if own is not None else next(module.parameters(), saved)
            module._buffers[name] = torch.empty_like(saved, device=like.device)
        elif saved is None and name not in module._non_persistent_buffers_set:
            module._buffers[name] = None


def _put(module: nn.Module, name: str, saved: Any) -> None:
    places = module._buffers if name in module._buffers else vars(module)
    own = places.get(name)
    if not isinstance(saved, Tensor):
        places[name] = _copy(saved)
        return
    if isinstance(own, Tensor) and own.shape == saved.shape:
        try:
            own.copy_(saved)  # in place, so that a view of it stays one
        except RuntimeError:  # it was expanded, or made in inference mode
            pass
        else:
            return
    like = own if isinstance(own, Tensor) else next(module.parameters(), saved)
    places[name] = saved.clone().to(like.device)


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name not in _OF_TORCH and _is_plain(value):
            yield name, value


def _is_attribute(module: nn.Module, name: str) -> bool:
    """Tell whether an attribute may be set: a plain one, or one that is not there yet."""
    if name in _OF_TORCH or name in module._parameters or name in module._modules:
        return False
    return name not in vars(module) or _is_plain(vars(module)[name])


def _is_plain(value: Any) -> bool:
    if isinstance(value, nn.Parameter):
        return False  # as in the lists of weights that a recurrent layer keeps
    if value is None or isinstance(value, Tensor):
        return True
    if type(value) in (bool, int, float, complex, str, bytes):
        return True
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) is dict and all(map(_is_plain, (*value, *value.values())))


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    if type(value) is dict:
        return {key: _copy(each) for key, each in value.items()}
    return (
        value if value is None or type(value) in (bool, int, float, str) else copy.deepcopy(value)
    )


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
