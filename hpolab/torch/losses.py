"""Losses by name. All take the model's outputs for n rows, the n targets, and their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from hpolab.errors import InvalidArgument, InvalidType, one_of

__all__ = ["LOSSES", "LossFunction", "aligned", "find_loss", "like", "name_of", "weighted_mean"]

LossFunction = Callable[..., Tensor]


def _cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(functional.cross_entropy, outputs, targets, weights)


def _nll(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(functional.nll_loss, outputs, targets, weights)


def _bce(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    function = functional.binary_cross_entropy_with_logits
    return _mean(function, *aligned(outputs, targets), weights)


def _mse(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(functional.mse_loss, *aligned(outputs, targets), weights)


def _mae(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(functional.l1_loss, *aligned(outputs, targets), weights)


def _huber(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(functional.huber_loss, *aligned(outputs, targets), weights)


LOSSES: Mapping[str, LossFunction] = {
    "cross_entropy": _cross_entropy,
    "nll": _nll,
    "bce": _bce,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
}
"""Loss name -> (outputs, targets, weights=None) -> scalar.

``cross_entropy`` takes logits (n, C, ...) and class ids (n, ...); ``nll`` log-probabilities and
class ids; ``bce`` logits and targets 0 or 1 of one shape; the others outputs and targets of one
shape. Where the shapes shall be one, (n,) and (n, 1) count as one. With weights (n,) it is the
weighted mean of the rows' losses.
"""


def find_loss(loss: str | LossFunction) -> LossFunction:
    """Return a loss from its name, or a callable as it is.

    Raises:
        InvalidArgument: If the name is unknown.
        InvalidType: If ``loss`` is neither a name nor a callable.
    """
    if isinstance(loss, str):
        return LOSSES[one_of("loss", loss, LOSSES)]
    if not callable(loss):
        raise InvalidType(f"`loss` must be a name or a callable, got {type(loss).__name__}.")
    return loss


def name_of(function: Any) -> str:
    """Return what to call a loss or a metric that is a callable."""
    return str(getattr(function, "__name__", type(function).__name__))


def aligned(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of one shape and dtype.

    Of shapes (n, 1) and (n,) torch would make (n, n) and only warn; of integer targets
    ``huber_loss`` has no gradient.
    """
    return like(outputs, targets), targets.to(outputs.dtype)


def like(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs in the shape of the targets, where one of them is a column of the other.

    Raises:
        InvalidArgument: If their shapes differ in another way.
    """
    if outputs.shape == targets.shape:
        return outputs
    if targets.shape == (*outputs.shape, 1) or outputs.shape == (*targets.shape, 1):
        return outputs.reshape(targets.shape)
    raise InvalidArgument(
        "The model's outputs must have the shape of the targets, got outputs "
        f"{tuple(outputs.shape)} and targets {tuple(targets.shape)}."
    )


def weighted_mean(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of n numbers; of rows that count nothing it is 0."""
    total = weights.sum()
    return (rows * weights).sum() / total.where(total > 0, 1)


def _mean(
    function: Callable[..., Tensor], outputs: Tensor, targets: Tensor, weights: Tensor | None
) -> Tensor:
    if weights is None:
        return function(outputs, targets)
    by_number = function(outputs, targets, reduction="none")
    return weighted_mean(by_number.flatten(1).mean(1) if by_number.ndim > 1 else by_number, weights)
