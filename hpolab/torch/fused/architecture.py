"""What the members of a stack share: an architecture and the step that trains all of them."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hpolab.torch.data import ArraySplit, map_arrays
from hpolab.torch.fused.dropout import DropoutCall, MaskDropouts, read_dropouts
from hpolab.torch.fused.layers import adapt_layers
from hpolab.torch.fused.rules import RULES
from hpolab.torch.fused.settings import UnknownSetting, difference, setting_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from hpolab.torch.training import TorchTask, TorchTraining

    Named = dict[str, Tensor]
    Update = tuple[str, Tensor | None, Tensor]

__all__ = ["Architecture", "TrainsAlone", "groups_of", "split_model"]

# A function is compiled once per batch shape, stack size and optimizer of each architecture. Beyond
# its limit, 8 by default, torch runs the function uncompiled.
_MAX_COMPILATIONS = 256


class TrainsAlone(Exception):
    """A training cannot share a stack; the message says why."""


class Architecture:
    """A model without its weights, and the data it is trained on.

    Args:
        training: A training of a model of this architecture.

    Raises:
        TrainsAlone: If its model or loss is not one that a stack can take.
    """

    def __init__(self, training: TorchTraining) -> None:
        self.task: TorchTask = training.task
        self.batch_size = training.batch_size
        self._groups = groups_of(training)
        self._template = copy.deepcopy(training.model)
        lengths = {stop - start for start, stop in self.train.bounds(self.batch_size)}
        # Before layers are adapted, so that the layout of what is drawn is that of a lone model.
        self._dropouts = {n: read_dropouts(self._template, self.rows(n)) for n in lengths}
        adapt_layers(self._template)
        self._settings = self._read_settings()
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    @property
    def train(self) -> ArraySplit:
        """The data that the weights are fitted on."""
        assert isinstance(self.task.train, ArraySplit), "`run` refuses other data"
        return self.task.train

    def dropouts(self, n_rows: int) -> list[DropoutCall]:
        """Return the dropouts that the model calls for a batch of ``n_rows`` rows, in order.

        Their rates are nobody's; each member has its own.
        """
        return self._dropouts[n_rows]

    def rows(self, n_rows: int) -> Any:
        """Return a copy of the first inputs of `train`."""
        return self.train.rows(0, n_rows)[0]

    def changed_state(self) -> str | None:
        """Return where the model or the loss has changed what it holds, None if nowhere.

        Such state would be the stack's, not each member's.
        """
        try:
            return difference(self._settings, self._read_settings())
        except UnknownSetting as error:
            return str(error)

    def _read_settings(self) -> dict[str, Hashable]:
        return {**settings_of(self._template), "`loss`": setting_of("loss", self.task.loss)}

    def step(self, *, compiled: bool, mixed: bool) -> Callable[..., None]:
        """Return a function that trains all members for one step, in place.

        It takes stacked weights, buffers and optimizer states, each (K, ...); the largest norms of
        gradients (K,), None for no clipping; the rows of each member's batch (K, b); the dropout
        masks (K, ...); and the updates. An update is a rule with the names of its coefficients, its
        slots (None for all), and the coefficients (parameter groups, names, slots).

        Args:
            compiled: Whether to compile the step.
            mixed: Whether several rules share the stack. Then only the gradients are compiled,
                because the slots of each rule change with every new member.
        """
        self._template.train()
        whole, gradients = self._step, self._gradients
        if compiled and not mixed:
            whole = self._compile(self._step)
        elif compiled:
            gradients = self._compile(self._gradients)
        data = (self.train.inputs, self.train.targets)
        return partial(whole, gradients, *data)

    @torch.no_grad()
    def outputs(self, weights: Named, buffers: Named, inputs: Any) -> Tensor:
        """Return all members' outputs (K, n, ...) for inputs (n, ...), in evaluation mode."""
        self._template.eval()
        call = vmap(partial(_call, self._template), in_dims=(0, 0, None), randomness="error")
        outputs: Tensor = call(weights, buffers, inputs)
        return outputs

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function not in self._compiled:
            torch._dynamo.config.recompile_limit = max(
                _MAX_COMPILATIONS, torch._dynamo.config.recompile_limit
            )
            self._compiled[function] = torch.compile(function, dynamic=False, fullgraph=True)
        return self._compiled[function]

    # The two methods below are compiled: they may not depend on a member's numbers.

    def _step(
        self,
        gradients: Callable[..., Named],
        inputs: Any,
        targets: Tensor,
        weights: Named,
        buffers: Named,
        states: Mapping[str, Named],
        max_norms: Tensor | None,
        rows: Tensor,
        masks: Sequence[Tensor],
        updates: Sequence[Update],
    ) -> None:
        found = gradients(inputs, targets, weights, buffers, rows, masks)
        if max_norms is not None:
            _clip(found, max_norms)
        for name, weight in weights.items():
            for update in updates:
                _update(update, self._groups[name], weight, found[name], states[name])

    def _gradients(
        self,
        inputs: Any,
        targets: Tensor,
        weights: Named,
        buffers: Named,
        rows: Tensor,
        masks: Sequence[Tensor],
    ) -> Named:
        pick = partial(_pick, rows=rows)
        batch, batch_targets = map_arrays(pick, inputs), pick(targets)
        losses = vmap(partial(_loss, self._template, self.task.loss), randomness="error")

        # What a model may write into is an argument: statistics in buffers, and its own batch.
        def total(weights: Named, buffers: Named, inputs: Any, targets: Tensor) -> Tensor:
            return losses(weights, buffers, masks, inputs, targets).sum()

        found: Named = grad(total)(weights, buffers, batch, batch_targets)
        return found


def groups_of(training: TorchTraining) -> dict[str, int]:
    """Return the parameter group of each trained weight, by name.

    Raises:
        TrainsAlone: If a weight is in none.
    """
    groups = training.state.optimizer.param_groups
    numbers = {id(p): number for number, group in enumerate(groups) for p in group["params"]}
    weights, _ = split_model(training.model)
    missing = next((name for name, weight in weights.items() if id(weight) not in numbers), None)
    if missing is not None:
        raise TrainsAlone(f"its weight {missing!r} is not the optimizer's")
    return {name: numbers[id(weight)] for name, weight in weights.items()}


def split_model(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's trained weights, and its frozen weights and buffers, by name."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return weights, frozen | dict(model.named_buffers())


def _call(template: nn.Module, weights: Named, buffers: Named, inputs: Any) -> Tensor:
    with MaskDropouts([]):  # it also keeps torch from shortcuts of evaluation that do not stack
        outputs: Tensor = functional_call(template, (weights, buffers), (inputs,))
    return outputs


def _loss(
    template: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    weights: Named,
    buffers: Named,
    masks: Sequence[Tensor],
    inputs: Any,
    targets: Tensor,
) -> Tensor:
    left = list(masks)
    with MaskDropouts(left):
        outputs = functional_call(template, (weights, buffers), (inputs,))
    if left:
        raise ValueError(f"in a stack it misses {len(left)} of its dropouts")
    return loss(outputs, targets)


def _pick(part: Tensor, *, rows: Tensor) -> Tensor:
    """Return the rows (K, b) of a tensor (n, ...), as (K, b, ...)."""
    return part.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *part.shape[1:])


def _clip(gradients: Named, max_norms: Tensor) -> None:
    """Scale each member's gradients down to its norm (K,), as torch's ``clip_grad_norm_`` does."""
    norms = [part.flatten(1).norm(dim=1) for part in gradients.values()]
    total = torch.stack(norms).norm(dim=0)
    scale = (max_norms / (total + 1e-6)).clamp(max=1.0)
    for part in gradients.values():
        part.mul_(scale.reshape(-1, *[1] * (part.ndim - 1)))


def _update(update: Update, group: int, weight: Tensor, gradient: Tensor, state: Named) -> None:
    """Update a weight (K, ...) and its states in place, in the slots that a rule has."""
    names, slots, coefficients = update
    name, _, listed = names.partition(":")
    shape = (-1, *[1] * (weight.ndim - 1))
    c = {
        key: each.reshape(shape)
        for key, each in zip(listed.split(","), coefficients[group], strict=True)
    }
    rule = RULES[name]
    if slots is None:
        rule.update(weight, gradient, state, c)
        return
    own = {key: state[key][slots] for key in rule.state_shapes(tuple(weight.shape[1:]))}
    part = weight[slots]
    rule.update(part, gradient[slots], own, c)
    weight[slots] = part
    for key, each in own.items():
        state[key][slots] = each
