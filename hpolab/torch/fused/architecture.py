"""What the members of a stack share: an architecture, and the step that trains all of them."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hpolab.torch.data import ArraySplit, map_arrays
from hpolab.torch.fused.dropout import Dropouts, mask_dropouts, read_dropouts
from hpolab.torch.fused.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.torch.training import TorchTask, TorchTraining

    Named = dict[str, Tensor]
    Update = tuple[str, Tensor | None, Tensor]

__all__ = ["Architecture", "split_model"]

# Of one function: shapes of batches times sizes of stacks times optimizers, for each architecture.
# Beyond torch's own limit of 8 it would go on uncompiled.
_MAX_COMPILATIONS = 256


class Architecture:
    """A model without its numbers, and the data that it is trained on.

    Args:
        training: A training of such a model.
    """

    def __init__(self, training: TorchTraining) -> None:
        self.task: TorchTask = training.task
        self.batch_size = training.batch_size
        self._model = copy.deepcopy(training.model)
        self._template = _template_of(training.model)
        self._dropouts: dict[int, Dropouts] = {}
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    @property
    def train(self) -> ArraySplit:
        """What the weights are fitted on."""
        assert isinstance(self.task.train, ArraySplit), "other data is refused before"
        return self.task.train

    def dropouts(self, n_rows: int) -> Dropouts:
        """Return the model's dropouts as it calls them for a batch of so many rows."""
        if n_rows not in self._dropouts:
            inputs = map_arrays(lambda part: part[:n_rows], self.train.inputs)
            self._dropouts[n_rows] = read_dropouts(self._model, inputs)
        return self._dropouts[n_rows]

    def step(self, *, compiled: bool, mixed: bool) -> Callable[..., None]:
        """Return what trains all members for one step, all given in stacks (K, ...).

        It takes weights, buffers, the optimizers' states, the rows of each member's batch (K, b),
        the masks of dropouts, and updates: a rule with the names of its coefficients, its slots
        (None for all), and the coefficients (names, slots).

        Args:
            compiled: Whether it is compiled.
            mixed: Whether several rules share the stack: then only the gradients are compiled, as
                which rule has which slots changes with every new member.
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
    def outputs(self, weights: Named, buffers: Named) -> tuple[Tensor, Tensor]:
        """Return the outputs of all members for `valid`, (K, n, ...), and its targets (n, ...)."""
        self._template.eval()
        call = vmap(partial(_call, self._template), in_dims=(0, 0, None), randomness="error")
        parts = list(self.task.valid.batches(self.task.eval_batch_size))
        outputs = [call(weights, buffers, inputs) for inputs, _ in parts]
        return torch.cat(outputs, 1), torch.cat([targets for _, targets in parts])

    def outputs_of_one(self, weights: Named, buffers: Named, inputs: Any) -> Tensor:
        """Return the outputs of one member, in evaluation."""
        self._template.eval()
        return _call(self._template, weights, buffers, inputs)

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function not in self._compiled:
            torch._dynamo.config.recompile_limit = max(
                _MAX_COMPILATIONS, torch._dynamo.config.recompile_limit
            )
            self._compiled[function] = torch.compile(function, dynamic=False, fullgraph=True)
        return self._compiled[function]

    # Compiled as they stand: nothing below may depend on a member's numbers.

    def _step(
        self,
        gradients: Callable[..., Named],
        inputs: Any,
        targets: Tensor,
        weights: Named,
        buffers: Named,
        states: Mapping[str, Named],
        rows: Tensor,
        masks: Named,
        updates: Sequence[Update],
    ) -> None:
        found = gradients(inputs, targets, weights, buffers, rows, masks)
        for name, weight in weights.items():
            for update in updates:
                _update(update, weight, found[name], states[name])

    def _gradients(
        self,
        inputs: Any,
        targets: Tensor,
        weights: Named,
        buffers: Named,
        rows: Tensor,
        masks: Named,
    ) -> Named:
        pick = partial(_pick, rows=rows)
        batch, batch_targets = map_arrays(pick, inputs), pick(targets)
        losses = vmap(partial(_loss, self._template, self.task.loss), randomness="error")

        # Of buffers too, as training statistics are written into them.
        def total(weights: Named, buffers: Named) -> Tensor:
            return losses(weights, buffers, masks, batch, batch_targets).sum()

        found: Named = grad(total)(weights, buffers)
        return found


def split_model(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's trained weights by name, and all else that it computes with."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return weights, frozen | dict(model.named_buffers())


class _WeightFirstLinear(nn.Linear):
    """A linear layer whose weight comes first in its product.

    The gradient for the weight of a stack is then outputs x inputs as it is laid out, where torch
    would compute inputs x outputs: for 784 inputs and 10 outputs in a fifth of the time.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2:
            return super().forward(inputs)
        outputs = (self.weight @ inputs.mT).mT
        return outputs if self.bias is None else outputs + self.bias


def _template_of(model: nn.Module) -> nn.Module:
    """Return the model as a stack calls it: with all weights given from outside."""
    template = copy.deepcopy(model)
    mask_dropouts(template)
    for module in template.modules():
        if type(module) is nn.Linear:
            module.__class__ = _WeightFirstLinear
    return template


def _call(template: nn.Module, weights: Named, buffers: Named, inputs: Any) -> Tensor:
    outputs: Tensor = functional_call(template, (weights, buffers), (inputs,))
    return outputs


def _loss(
    template: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    weights: Named,
    buffers: Named,
    masks: Named,
    inputs: Any,
    targets: Tensor,
) -> Tensor:
    return loss(functional_call(template, (weights, buffers, masks), (inputs,)), targets)


def _pick(part: Tensor, *, rows: Tensor) -> Tensor:
    """Return rows (K, b) of a tensor (n, ...): (K, b, ...)."""
    return part.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *part.shape[1:])


def _update(update: Update, weight: Tensor, gradient: Tensor, state: Named) -> None:
    rule, slots, coefficients = update
    name, _, listed = rule.partition(":")
    shape = (-1, *[1] * (weight.ndim - 1))
    c = {
        key: each.reshape(shape) for key, each in zip(listed.split(","), coefficients, strict=True)
    }
    change = RULES[name].update
    own = {key: state[key] for key in RULES[name].state_shapes(tuple(weight.shape[1:]))}
    if slots is None:
        change(weight, gradient, own, c)
        return
    part, parts = weight[slots], {key: each[slots] for key, each in own.items()}
    change(part, gradient[slots], parts, c)
    weight[slots] = part
    for key, each in parts.items():
        own[key][slots] = each
