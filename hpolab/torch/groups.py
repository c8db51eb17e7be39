"""A model's weights in parameter groups: by layer, and with or without weight decay.

Imports torch when it is imported, so it is imported only where an optimizer is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hpolab.errors import InvalidArgument, InvalidType, hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["given_groups", "layers_of", "model_groups"]

_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,  # batch and instance norms of every dimension
)
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def given_groups(given: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the groups that a user gave, without weights that are not trained.

    Args:
        given: Parameters, (name, parameter) pairs, or groups: dicts with "params" and torch's
            arguments for them.
        names: torch's arguments that a group may have.

    Raises:
        InvalidArgument: If a group has another argument or no "params", or a parameter comes twice.
        InvalidType: If ``given`` is none of these.
    """
    parts = _listed(given)
    if parts and all(isinstance(part, Mapping) for part in parts):
        groups = [_given_group(dict(group), set(names)) for group in parts]
    else:
        groups = [{"params": _trained(parts)}]
    ids = [id(p) for group in groups for p in group["params"]]
    if len(set(ids)) < len(ids):
        raise InvalidArgument(
            "`model` must have each parameter once, or it would be stepped more than once a step, "
            f"got {len(ids) - len(set(ids))} again."
        )
    return [group for group in groups if group["params"]]


def _given_group(group: dict[str, Any], names: set[str]) -> dict[str, Any]:
    if "params" not in group:
        raise InvalidArgument(
            "`model` must have 'params' in each parameter group, got one with "
            f"{', '.join(map(repr, group)) or 'nothing'}."
        )
    for name in group.keys() - {"params", "name"} - names:
        # torch would keep it in the group and never look at it.
        raise InvalidArgument(
            f"`model` must have parameter groups with arguments of torch's optimizer, got {name!r}:"
            f" it has {', '.join(map(repr, sorted(names)))}.{hint(name, names)}"
        )
    params = group["params"]
    listed = [params] if isinstance(params, torch.Tensor) else _listed(params)
    return {**group, "params": _trained(listed)}


def _listed(given: Any) -> list[Any]:
    # A set has no order, by which an optimizer's state finds its parameters again.
    unfit = isinstance(given, torch.Tensor | Mapping | Set | str)
    if unfit or not isinstance(given, Iterable):
        raise InvalidType(
            "`model` must be a torch.nn.Module, its parameters, or a list of parameter groups, "
            f"got {type(given).__name__}."
        )
    return list(given)


def _trained(parts: Sequence[Any]) -> list[nn.Parameter]:
    # Of (name, parameter), as `named_parameters` gives them.
    found = [part[1] if isinstance(part, tuple) and len(part) == 2 else part for part in parts]
    for part in found:
        if not isinstance(part, torch.Tensor):
            raise InvalidType(
                "`model` must be a torch.nn.Module, its parameters, or a list of parameter "
                f"groups, got a {type(part).__name__} among the parameters."
            )
    return [part for part in found if part.requires_grad]


def model_groups(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    arguments: Mapping[str, Any],
    *,
    decay_biases: bool,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Return parameter groups of a model's weights, one where all are treated alike.

    Args:
        model: The model.
        parameters: Those of its parameters that are to be trained.
        arguments: What the optimizer gets for all of them; the groups' rates and decays are made
            from its ``lr`` and ``weight_decay``.
        decay_biases: Whether biases and the weights of norms decay, too.
        layer_decay: The factor from a layer's learning rate to that of the layer before it.
    """
    spared = set() if decay_biases or not arguments.get("weight_decay") else _spared(model)
    layers = layers_of(model) if layer_decay < 1 else {}
    last = max((layers[id(p)] for p in parameters if id(p) in layers), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for p in parameters:
        groups.setdefault((layers.get(id(p), last), id(p) in spared), []).append(p)
    return [
        {
            "params": each,
            **({"lr": arguments["lr"] * layer_decay ** (last - layer)} if layers else {}),
            **({"weight_decay": 0.0} if is_spared else {}),
        }
        for (layer, is_spared), each in sorted(groups.items(), key=lambda item: item[0])
    ]


def _spared(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that usually have no weight decay."""
    return {
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or name == "bias" or p.ndim < 2
    }


def layers_of(model: nn.Module) -> dict[int, int]:
    """Return the layer of each parameter, counted from 0 at the inputs, by the parameter's id.

    Layers come in the order of ``model.parameters()``. A part of the model is a layer unless it
    has a Sequential or ModuleList inside; then its own parts are the layers. Elements of a
    ModuleList, and elements of a Sequential that has several of their type, are layers in any
    case: blocks of a transformer or a ResNet. A norm belongs to the layer before it, and a
    parameter that a divided module holds itself, such as a class token, to the layer behind it.
    """
    found: dict[int, int] = {}
    waiting: list[nn.Parameter] = []
    n_layers = 0
    for module, is_whole in _walk(model):
        parameters = list(module.parameters(recurse=is_whole))
        if not is_whole:
            waiting += parameters
        elif parameters and isinstance(module, _NORMS) and n_layers:
            found |= {id(p): n_layers - 1 for p in parameters if id(p) not in found}
        elif any(id(p) not in found for p in parameters):
            for p in [*waiting, *parameters]:
                found.setdefault(id(p), n_layers)
            waiting, n_layers = [], n_layers + 1
    return found | {id(p): max(n_layers - 1, 0) for p in waiting if id(p) not in found}


def _walk(model: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Yield modules in order, each with whether it is a layer as a whole."""
    yield model, not any(True for _ in model.children())
    types = [type(child) for child in model.children()]
    for child in model.children():
        is_divided = any(isinstance(each, _CONTAINERS) for each in child.modules())
        is_block = not isinstance(child, _CONTAINERS) and (
            isinstance(model, nn.ModuleList)
            or (isinstance(model, nn.Sequential) and types.count(type(child)) > 1)
        )
        if is_divided and not is_block:
            yield from _walk(child)
        else:
            yield child, True
