"""Losses and metrics by name. All take the model's outputs for n rows and the n targets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hpolab.errors import InvalidArgument, InvalidType, one_of

__all__ = [
    "LOSSES",
    "METRICS",
    "LossFunction",
    "Metric",
    "MetricFunction",
    "check_outputs",
    "check_targets",
    "find_loss",
    "find_metrics",
    "name_of",
    "read_metrics",
]

LossFunction = Callable[[Tensor, Tensor], Tensor]
MetricFunction = Callable[[Tensor, Tensor], Tensor | float]


@dataclass(frozen=True)
class Metric:
    """A named number of the trainer.

    Attributes:
        function: (outputs, targets) -> a number or a scalar tensor.
        maximize: Whether more is better.
    """

    function: MetricFunction
    maximize: bool


def _bce(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(*_aligned(outputs, targets))


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(*_aligned(outputs, targets))


def _mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.l1_loss(*_aligned(outputs, targets))


def _huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.huber_loss(*_aligned(outputs, targets))


def _rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs, targets = _aligned(outputs, targets)
    return (outputs - targets).square().mean(dim=0).sqrt().mean()


def _r2(outputs: Tensor, targets: Tensor) -> Tensor:
    # 1 - residual / total sum of squares.
    outputs, targets = _aligned(outputs, targets)
    residual = (targets - outputs).square().sum(dim=0)
    total = (targets - targets.mean(dim=0)).square().sum(dim=0)
    return (1 - residual / total).mean()


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    # A quotient of counts, not a mean in float32: 0.9 shall be 0.9. (Not every device has doubles.)
    return (_classes(outputs, targets) == targets).sum().cpu().double() / targets.numel()


def _macro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    # The mean over classes of 2 TP / (predicted + actual); classes that neither side holds are
    # left out.
    predicted, actual = _classes(outputs, targets).flatten(), targets.to(torch.int64).flatten()
    n_classes = int(torch.maximum(predicted.max(), actual.max())) + 1
    hits, n_predicted, n_actual = (
        torch.bincount(ids, minlength=n_classes).cpu()
        for ids in (actual[predicted == actual], predicted, actual)
    )
    size = n_predicted + n_actual
    present = size > 0
    return (2 * hits[present].double() / size[present]).mean()


LOSSES: Mapping[str, LossFunction] = {
    "cross_entropy": functional.cross_entropy,
    "nll": functional.nll_loss,
    "bce": _bce,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
}
"""Loss name -> (outputs, targets) -> scalar.

``cross_entropy`` takes logits (n, C, ...) and class ids (n, ...); ``nll`` log-probabilities and
class ids; ``bce`` logits and targets 0 or 1 of one shape; the others outputs and targets of one
shape. Where the shapes shall be one, (n,) and (n, 1) count as one.
"""

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, maximize=True),
    "macro_f1": Metric(_macro_f1, maximize=True),
    "r2": Metric(_r2, maximize=True),
    "mse": Metric(_mse, maximize=False),
    "rmse": Metric(_rmse, maximize=False),
    "mae": Metric(_mae, maximize=False),
}
"""Metric name -> metric, as scikit-learn defines it: several outputs are averaged uniformly.

``accuracy`` and ``macro_f1`` take logits (n, C, ...) and class ids (n, ...), or logits and targets
0 or 1 of one shape. "loss", the objective's own loss, is known besides.
"""

_CLASS_LOSSES = ("cross_entropy", "nll")


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


def find_metrics(
    metric: str | MetricFunction,
    more: Iterable[str | MetricFunction],
    *,
    direction: str | None,
    loss: LossFunction,
) -> tuple[str, dict[str, Metric]]:
    """Return the optimized metric's name, and all by name, a callable's being its ``__name__``.

    Args:
        metric: The optimized one.
        more: Those that are recorded besides.
        direction: "minimize" or "maximize"; None takes that of a named ``metric``.
        loss: What the metric "loss" is.

    Raises:
        InvalidArgument: If a name is unknown or means two functions, or ``direction`` contradicts
            the metric, or is missing for a callable.
        InvalidType: If a metric is neither a name nor a callable.
    """
    known = {**METRICS, "loss": Metric(loss, maximize=False)}
    name, optimized = _find_metric("metric", metric, known)
    if direction is not None:
        maximize = one_of("direction", direction, ("minimize", "maximize")) == "maximize"
        if isinstance(metric, str) and optimized.maximize != maximize:
            better = "maximize" if optimized.maximize else "minimize"
            raise InvalidArgument(
                f"`direction` must be {better!r} for metric {metric!r}, got {direction!r}."
            )
        optimized = replace(optimized, maximize=maximize)
    elif not isinstance(metric, str):
        raise InvalidArgument(
            "`direction` must be 'minimize' or 'maximize' for a metric that is a callable, "
            "got None."
        )
    if isinstance(more, str) or not isinstance(more, Iterable):
        raise InvalidType(f"`metrics` must be a list of metrics, got {more!r}.")
    metrics = {name: optimized}
    for each in more:
        other, found = _find_metric("metrics", each, known)
        if metrics.setdefault(other, found).function != found.function:
            raise InvalidArgument(
                f"`metrics` must have names of their own, got two functions named {other!r}."
            )
    return name, metrics


def name_of(function: Any) -> str:
    """Return what to call a loss or a metric that is a callable."""
    return str(getattr(function, "__name__", type(function).__name__))


def read_metrics(
    metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor
) -> dict[str, float]:
    """Return name -> value for the outputs (n, ...) and targets (n, ...) of a split.

    Raises:
        InvalidType: If a metric's function returns something else than a number.
    """
    return {name: _number(name, each.function(outputs, targets)) for name, each in metrics.items()}


def check_targets(
    loss: str | LossFunction, metrics: Collection[str], split: str, targets: Tensor
) -> None:
    """Refuse targets that the named loss or a named metric cannot take, whatever the model.

    Args:
        loss: The loss's name; a callable is not checked.
        metrics: Names of the metrics that are read on the split.
        split: The split's name, for the message.
        targets: The targets, (n, ...).

    Raises:
        InvalidArgument: If a label is not of its range, or targets do not vary.
    """
    if loss in _CLASS_LOSSES:
        if targets.is_floating_point():
            raise InvalidArgument(
                f"`{split}` targets must be integer class ids for loss {loss!r}, "
                f"got {targets.dtype}."
            )
        if int(targets.min()) < 0:
            raise InvalidArgument(
                f"`{split}` labels must be 0 or above for loss {loss!r}, got {_extent(targets)}."
            )
    elif loss == "bce" and not bool(((targets == 0) | (targets == 1)).all()):
        raise InvalidArgument(
            f"`{split}` labels must be 0 or 1 for loss 'bce', got {_extent(targets)}."
        )
    if "r2" in metrics and bool((targets == targets[:1]).all(dim=0).any()):
        raise InvalidArgument(
            f"`{split}` targets must vary for metric 'r2', which divides by their variance, "
            f"got {len(targets)} equal ones."
        )


def check_outputs(
    loss: str | LossFunction, split: str, outputs: Any, rows: Tensor, targets: Tensor
) -> None:
    """Refuse a model whose outputs do not fit the targets under the named loss.

    Args:
        loss: The loss's name; under a callable any tensor will do.
        split: The split's name, for the message.
        outputs: Outputs for some rows, (k, ...).
        rows: The targets of these rows, (k, ...).
        targets: All targets at hand, (n, ...).

    Raises:
        InvalidArgument: If a label is out of range, or the shapes do not fit.
        InvalidType: If the outputs are no tensor.
    """
    if not isinstance(outputs, Tensor):
        raise InvalidType(
            f"`build_model` must return a model whose output is a tensor, got "
            f"{type(outputs).__name__}."
        )
    if loss not in _CLASS_LOSSES:
        return
    if outputs.ndim < 2 or rows.shape != (len(outputs), *outputs.shape[2:]):
        raise InvalidArgument(
            f"`{split}` must have class ids of shape (n,) for outputs of shape (n, classes) and "
            f"loss {loss!r}, got targets {tuple(rows.shape)} and outputs {tuple(outputs.shape)}."
        )
    n_classes = outputs.shape[1]
    if int(targets.max()) >= n_classes:
        raise InvalidArgument(
            f"`{split}` labels must lie in 0..{n_classes - 1}, as the model gives {n_classes} "
            f"outputs, got {_extent(targets)}."
        )


def _find_metric(argument: str, metric: Any, known: Mapping[str, Metric]) -> tuple[str, Metric]:
    if isinstance(metric, str):
        return metric, known[one_of(argument, metric, known)]
    if not callable(metric):
        raise InvalidType(
            f"`{argument}` must be a name or a callable, got {type(metric).__name__}."
        )
    return name_of(metric), Metric(metric, maximize=False)


def _number(name: str, value: Any) -> float:
    n_values = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 1)
    try:
        if n_values != 1:
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InvalidType(f"`metric` {name!r} must return a number, got {value!r}.") from None


def _aligned(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of one shape and dtype.

    Of shapes (n, 1) and (n,) torch would make (n, n) and only warn; of integer targets
    ``huber_loss`` has no gradient.
    """
    return _like(outputs, targets), targets.to(outputs.dtype)


def _like(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape == targets.shape:
        return outputs
    if targets.shape == (*outputs.shape, 1) or outputs.shape == (*targets.shape, 1):
        return outputs.reshape(targets.shape)
    raise InvalidArgument(
        "The model's outputs must have the shape of the targets, got outputs "
        f"{tuple(outputs.shape)} and targets {tuple(targets.shape)}."
    )


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return predicted class ids, of the targets' shape, from logits."""
    several = outputs.ndim > 1 and outputs.shape[1] > 1
    if several and targets.shape == (len(outputs), *outputs.shape[2:]):
        return outputs.argmax(dim=1)
    return (_like(outputs, targets) > 0).to(torch.int64)


def _extent(targets: Tensor) -> str:
    return f"{targets.min().item()}..{targets.max().item()}"
