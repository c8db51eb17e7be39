"""Losses and metrics by name. All take the model's outputs for n rows and the n targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hpolab.errors import InvalidArgument, one_of

__all__ = ["LOSSES", "METRICS", "LossFunction", "Metric", "check_targets", "find_loss"]

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """A named number of the trainer.

    Attributes:
        function: (outputs, targets) -> a number or a scalar tensor.
        maximize: Whether more is better.
    """

    function: Callable[[Tensor, Tensor], Tensor | float]
    maximize: bool


def _like(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs of shape (n, 1) as (n,) where the targets are (n,).

    torch would broadcast the two to (n, n) and only warn.
    """
    return outputs.squeeze(-1) if outputs.shape == (*targets.shape, 1) else outputs


def _bce(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs = _like(outputs, targets)
    return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(_like(outputs, targets), targets)


def _mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.l1_loss(_like(outputs, targets), targets)


def _huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.huber_loss(_like(outputs, targets), targets)


def _rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    return _mse(outputs, targets).sqrt()


def _r2(outputs: Tensor, targets: Tensor) -> Tensor:
    # 1 - residual / total sum of squares (the definition of scikit-learn's r2_score).
    spread = (targets - targets.mean()).square().mean()
    return 1 - _mse(outputs, targets) / spread


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return predicted class ids from logits of shape (n, C, ...), or (n,) for two classes."""
    outputs = _like(outputs, targets)
    if outputs.shape == targets.shape:
        return (outputs > 0).to(torch.int64)
    return outputs.argmax(dim=1)


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (_classes(outputs, targets) == targets).to(torch.float64).mean()


def _macro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    # The mean over classes of 2 TP / (predicted + actual), as scikit-learn's f1_score with
    # average="macro"; classes that neither side holds are left out.
    predicted, actual = _classes(outputs, targets).flatten(), targets.to(torch.int64).flatten()
    n_classes = int(torch.maximum(predicted.max(), actual.max())) + 1
    hits = torch.bincount(actual[predicted == actual], minlength=n_classes)
    size = torch.bincount(predicted, minlength=n_classes) + torch.bincount(
        actual, minlength=n_classes
    )
    present = size > 0
    return (2 * hits[present] / size[present]).to(torch.float64).mean()


LOSSES: Mapping[str, LossFunction] = {
    "cross_entropy": functional.cross_entropy,
    "nll": functional.nll_loss,
    "bce": _bce,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
}
"""Loss name -> (outputs, targets) -> scalar.

``cross_entropy`` takes logits (n, C) and class ids (n,); ``nll`` log-probabilities; ``bce`` logits
(n,) or (n, 1) and targets 0 or 1; the others outputs and targets of one shape.
"""

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, maximize=True),
    "macro_f1": Metric(_macro_f1, maximize=True),
    "r2": Metric(_r2, maximize=True),
    "mse": Metric(_mse, maximize=False),
    "rmse": Metric(_rmse, maximize=False),
    "mae": Metric(_mae, maximize=False),
}
"""Metric name -> metric. "loss", the objective's own loss, is known besides."""

_CLASS_LOSSES = ("cross_entropy", "nll")


def find_loss(loss: str | LossFunction) -> LossFunction:
    """Return a loss from its name, or a callable as it is.

    Raises:
        InvalidArgument: If the name is unknown.
    """
    return LOSSES[one_of("loss", loss, LOSSES)] if isinstance(loss, str) else loss


def check_targets(
    loss: str | LossFunction, split: str, outputs: Tensor, targets: Tensor, rows: Tensor
) -> None:
    """Refuse targets that the named loss cannot take.

    Args:
        loss: The loss's name; a callable is not checked.
        split: The split's name, for the message.
        outputs: Outputs for some rows, (k, ...).
        targets: All targets at hand, (n, ...).
        rows: The targets of the k rows, (k, ...).

    Raises:
        InvalidArgument: If a label is out of range, or the shapes do not fit.
    """
    if loss in _CLASS_LOSSES:
        if targets.is_floating_point():
            raise InvalidArgument(
                f"`{split}` targets must be integer class ids for loss {loss!r}, "
                f"got {targets.dtype}."
            )
        n_classes = outputs.shape[1] if outputs.ndim > 1 else 1
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= n_classes:
            raise InvalidArgument(
                f"`{split}` labels must lie in 0..{n_classes - 1}, as the model gives {n_classes} "
                f"outputs, got labels {low}..{high}."
            )
    elif loss == "bce" and not bool(((targets == 0) | (targets == 1)).all()):
        raise InvalidArgument(
            f"`{split}` labels must be 0 or 1 for loss 'bce', "
            f"got {targets.min().item()}..{targets.max().item()}."
        )
    if loss in ("bce", "mse", "mae", "huber") and _like(outputs, rows).shape != rows.shape:
        raise InvalidArgument(
            f"The model's outputs must have the shape of the `{split}` targets for loss {loss!r}: "
            f"got outputs {tuple(outputs.shape)}, targets {tuple(rows.shape)}."
        )
