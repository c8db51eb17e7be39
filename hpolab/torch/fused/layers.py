"""Layers of a stack's template: what torch's own compute, in a form that a stack can take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["adapt_layers"]


def adapt_layers(template: nn.Module) -> None:
    """Give layers the class whose computation stacks, and take away rates of dropout.

    Rates belong to members, not to the template; whatever else reads them there gets infinity.
    """
    for module in template.modules():
        if type(module) is nn.Linear:
            module.__class__ = _WeightFirstLinear
        elif type(module) is nn.Embedding and module.padding_idx is not None:
            module.__class__ = _PaddedEmbedding
        elif type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            if module.momentum is None and module.track_running_stats:
                module.__class__ = _averaging(type(module))
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = math.inf  # a model may ask whether it is above 0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = math.inf if module.dropout > 0 else 0.0


class _WeightFirstLinear(nn.Linear):
    """A linear layer that computes (W xᵀ)ᵀ instead of x Wᵀ.

    The gradient of a stack's weights then comes out as (K, outputs, inputs), as they are laid out;
    torch would compute (K, inputs, outputs). With 784 inputs and 10 outputs it takes a fifth of
    the time.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2:
            return super().forward(inputs)
        outputs = (self.weight @ inputs.mT).mT
        return outputs if self.bias is None else outputs + self.bias


class _PaddedEmbedding(nn.Embedding):
    """An embedding whose padding gets no gradient, which vmap would give it."""

    def forward(self, ids: Tensor) -> Tensor:
        found = functional.embedding(ids, self.weight)
        assert self.padding_idx is not None
        is_padding = ids.eq(self.padding_idx).unsqueeze(-1)
        return torch.where(is_padding, found.detach(), found)


def _averaging(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """Return a kind of batch normalization whose statistics are the plain average of all batches.

    torch reads the number of batches back from a tensor, which a stack's step must not.
    """

    class Averaging(kind):  # type: ignore[valid-type,misc]
        def forward(self, inputs: Tensor) -> Tensor:
            if not self.training:
                outputs: Tensor = super().forward(inputs)
                return outputs
            self._check_input_dim(inputs)
            self.num_batches_tracked.add_(1)
            dims = [0, *range(2, inputs.ndim)]
            with torch.no_grad():
                part = 1.0 / self.num_batches_tracked.to(inputs.dtype)
                var, mean = torch.var_mean(inputs.detach(), dims)
                self.running_mean.add_((mean - self.running_mean) * part)
                self.running_var.add_((var - self.running_var) * part)
            return functional.batch_norm(
                inputs, None, None, self.weight, self.bias, True, 0.0, self.eps
            )

    return Averaging
