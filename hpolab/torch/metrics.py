"""Metrics by name. All take the model's outputs for n rows, the n targets, and their weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.torch.batches import Targets, apply
from hpolab.torch.losses import LOSSES, LossFunction, aligned, name_of
from hpolab.torch.scores import (
    TopKAccuracy,
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    log_loss,
    macro_f1,
)

__all__ = [
    "CURVES",
    "METRICS",
    "Metric",
    "MetricFunction",
    "OnCopies",
    "find_metrics",
    "has_diverged",
    "own_functions",
    "read_metrics",
]

MetricFunction = Callable[..., Tensor | float]


@dataclass(frozen=True)
class Metric:
    """A named number of the trainer.

    Attributes:
        function: (outputs, targets) -> a number or a scalar tensor; with weights it gets them as
            ``weights``.
        maximize: Whether more is better.
        of_few_rows: Whether it has a value on any few rows, such as two.
    """

    function: MetricFunction
    maximize: bool
    of_few_rows: bool = True


@dataclass(frozen=True)
class OnCopies:
    """A user's function, which may change its arguments in place: it gets copies of them."""

    function: Callable[..., Any]

    def __call__(self, outputs: Tensor, targets: Tensor, **weights: Tensor) -> Any:
        own = {name: part.clone() for name, part in weights.items()}
        return self.function(outputs.clone(), targets.clone(), **own)


def _mse(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return LOSSES["mse"](outputs, targets, weights)


def _mae(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    return LOSSES["mae"](outputs, targets, weights)


def _rmse(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    outputs, targets = aligned(outputs, targets)
    return _mean_of_rows((outputs - targets).square(), weights).sqrt().mean()


def _r2(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    # 1 - residual / total sum of squares.
    outputs, targets = aligned(outputs, targets)
    center = _mean_of_rows(targets, weights)
    residual = _mean_of_rows((targets - outputs).square(), weights)
    total = _mean_of_rows((targets - center).square(), weights)
    return (1 - residual / total).mean()


def _mean_of_rows(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the n rows of (n, ...), weighted if there are weights (n,)."""
    if weights is None:
        return rows.mean(dim=0)
    shares = weights / weights.sum()
    return (rows * shares.reshape(-1, *[1] * (rows.ndim - 1))).sum(dim=0)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy, maximize=True),
    "macro_f1": Metric(macro_f1, maximize=True),
    "balanced_accuracy": Metric(balanced_accuracy, maximize=True),
    "auc": Metric(auc, maximize=True, of_few_rows=False),
    "average_precision": Metric(average_precision, maximize=True, of_few_rows=False),
    "log_loss": Metric(log_loss, maximize=False),
    "top_5_accuracy": Metric(TopKAccuracy(5), maximize=True),
    "r2": Metric(_r2, maximize=True),
    "mse": Metric(_mse, maximize=False),
    "rmse": Metric(_rmse, maximize=False),
    "mae": Metric(_mae, maximize=False),
}
"""Metric name -> metric, as scikit-learn defines it: several outputs are averaged uniformly.

``accuracy``, ``macro_f1``, ``auc`` and ``average_precision`` take logits (n, C, ...) and class ids
(n, ...), logits and targets 0 or 1 of shape (n,) or (n, 1), or labels: logits and targets 0 or 1
of shape (n, L). ``balanced_accuracy`` and ``log_loss`` take all but labels, and
``top_5_accuracy``, of which any other number is known, classes alone. "loss", the objective's own
loss, is known besides.
"""

CURVES = ("auc", "average_precision")
"""Metrics that need rows of every class."""

_TOP_K = re.compile(r"top_([1-9]\d*)_accuracy")


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
    is_ours = loss in LOSSES.values()
    known = {**METRICS, "loss": Metric(loss if is_ours else OnCopies(loss), maximize=False)}
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


def own_functions(metrics: Mapping[str, Metric]) -> dict[str, Callable[..., Any]]:
    """Return name -> function of the metrics that are the user's own functions."""
    return {
        name: each.function.function
        for name, each in metrics.items()
        if isinstance(each.function, OnCopies)
    }


def read_metrics(
    metrics: Mapping[str, Metric], outputs: Tensor, targets: Targets
) -> dict[str, float]:
    """Return name -> value for the outputs (n, ...) and targets (n, ...) of a split.

    Each metric sees them as they came. Those of a model that has diverged are NaN, whatever a
    function makes of such outputs: to an accuracy, NaN is class 0.

    Raises:
        InvalidType: If a metric's function returns something else than a number.
    """
    if has_diverged(outputs):
        return dict.fromkeys(metrics, math.nan)
    return {
        name: _number(name, apply(each.function, outputs, targets))
        for name, each in metrics.items()
    }


def has_diverged(outputs: Tensor) -> bool:
    """Tell whether outputs (n, ...) are those of a model that has diverged.

    They are if one is NaN or plus infinity, or if a row (along the classes of (n, C, ...)) has no
    finite number. Minus infinity beside finite numbers is a class that the model rules out.

    Example:
        >>> import torch
        >>> inf = torch.inf
        >>> has_diverged(torch.tensor([[1.0, -inf]])), has_diverged(torch.tensor([[-inf, -inf]]))
        (False, True)
    """
    if not outputs.is_floating_point() and not outputs.is_complex():
        return False
    finite = outputs.isfinite()
    if bool(finite.all()):
        return False
    if outputs.is_complex() or outputs.ndim < 2:
        return True
    if bool((outputs.isnan() | outputs.isposinf()).any()):
        return True
    return not bool(finite.any(dim=1).all())


def _find_metric(argument: str, metric: Any, known: Mapping[str, Metric]) -> tuple[str, Metric]:
    if isinstance(metric, str):
        top_k = _TOP_K.fullmatch(metric)
        if top_k is not None:
            return metric, Metric(TopKAccuracy(int(top_k[1])), maximize=True)
        return metric, known[one_of(argument, metric, known)]
    if not callable(metric):
        raise InvalidType(
            f"`{argument}` must be a name or a callable, got {type(metric).__name__}."
        )
    return name_of(metric), Metric(OnCopies(metric), maximize=False, of_few_rows=False)


def _number(name: str, value: Any) -> float:
    n_values = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 1)
    try:
        if n_values != 1:
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InvalidType(f"`metric` {name!r} must return a number, got {value!r}.") from None
