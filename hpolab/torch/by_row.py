"""What each row contributes to a metric of a model's outputs. A row is a sample, not a token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from hpolab.objectives import by_row
from hpolab.objectives.by_row import agrees, average, by_unit, jackknife, mean
from hpolab.torch.batches import WeightedTargets, values_of
from hpolab.torch.losses import LOSSES, aligned
from hpolab.torch.metrics import METRICS, read_metrics
from hpolab.torch.scores import TopKAccuracy, has_labels, log_losses, one_vs_rest, predicted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from hpolab.torch.batches import Targets
    from hpolab.torch.metrics import Metric

    Floats = NDArray[np.float64]
    Weights = Floats | None
    # Outputs (n, ...), targets (n, ...) and weights (n,) -> contributions of each number, or row.
    Closed = Callable[[Tensor, Tensor, Weights], Floats]

__all__ = ["is_by_group", "row_scores"]


def row_scores(
    metric: Metric, outputs: Tensor, targets: Targets, *, samples: NDArray[np.int64]
) -> Floats | None:
    """Return what samples contribute to a metric, in their order.

    Args:
        metric: The metric.
        outputs: What a model gives, (n, ...).
        targets: The targets, (n, ...).
        samples: The sample of each row, (n,), rising from 0.

    Returns:
        (samples,), or (groups,) of random groups of samples; None if there are none.
    """
    n_samples = int(samples[-1]) + 1

    def value_of(outputs: Tensor, targets: Targets) -> float:
        return read_metrics({"metric": metric}, outputs, targets)["metric"]

    value = value_of(outputs, targets)
    if not math.isfinite(value):
        return None
    closed_form = _closed_form(metric)
    if closed_form is not None:
        with np.errstate(all="ignore"):
            found = closed_form(outputs, values_of(targets), _weights_of(targets))
        if len(found) > n_samples:  # of each number of a sample
            found = by_unit(found, np.repeat(samples, len(found) // len(samples)))
        # Not where the metric means something else, as of targets that a loss leaves out.
        if agrees(found, value):
            return found

    def without(kept: NDArray[np.int64]) -> float:
        is_kept = np.zeros(n_samples, bool)
        is_kept[kept] = True
        rows = torch.from_numpy(np.flatnonzero(is_kept[samples])).to(outputs.device)
        return value_of(outputs[rows], _taken(targets, rows))

    return jackknife(without, n_samples, value=value)


def is_by_group(metric: Metric) -> bool:
    """Tell whether a metric's row scores are those of random groups of rows."""
    return _closed_form(metric) is None


def _closed_form(metric: Metric) -> Closed | None:
    if isinstance(metric.function, TopKAccuracy):
        hits = metric.function.hits
        return lambda outputs, targets, weights: _mean(hits(outputs, targets), weights)
    # By the function: one of the user's own may have any name.
    return _CLOSED.get(metric.function)


def _taken(targets: Targets, rows: Tensor) -> Targets:
    if isinstance(targets, WeightedTargets):
        return WeightedTargets(targets.values[rows], targets.weights[rows])
    return targets[rows]


def _weights_of(targets: Targets) -> Weights:
    return _numbers(targets.weights) if isinstance(targets, WeightedTargets) else None


def _numbers(tensor: Tensor) -> Floats:
    """Return a tensor as an array of its shape."""
    array: Floats = tensor.detach().cpu().double().numpy()
    return array


def _spread(weights: Weights, n_numbers: int) -> Weights:
    """Return the weights of rows for each of their numbers."""
    return None if weights is None else np.repeat(weights, n_numbers // len(weights))


def _mean(numbers: Tensor, weights: Weights) -> Floats:
    """Return the contributions of rows to the mean of all their numbers, (n, ...)."""
    return mean(_numbers(numbers).reshape(len(numbers), -1).mean(axis=1), weights)


def _accuracy(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    hits = predicted(outputs, targets) == targets
    return _mean(hits.all(dim=1) if has_labels(outputs, targets) else hits, weights)


def _macro_f1(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    guess, truth = _labels(outputs, targets)
    if has_labels(outputs, targets):
        return average(by_row.f1(*each, weights) for each in zip(guess.T, truth.T, strict=True))
    return by_row.macro_f1(guess.ravel(), truth.ravel(), _spread(weights, truth.size))


def _balanced_accuracy(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    guess, truth = (each.ravel() for each in _labels(outputs, targets))
    return by_row.balanced_accuracy(guess, truth, _spread(weights, len(truth)))


def _labels(outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return predicted(outputs, targets).cpu().numpy(), targets.long().cpu().numpy()


def _auc(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    scores, truth = (each.numpy().T for each in one_vs_rest(outputs, targets))
    mass = _spread(weights, scores.shape[1])
    return average(by_row.auc(*each, mass) for each in zip(scores, truth, strict=True))


def _log_loss(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    return _mean(log_losses(outputs, targets), weights)


def _r2(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    guess, truth = map(_columns, aligned(outputs, targets))
    return average(by_row.r2(*each, weights) for each in zip(guess, truth, strict=True))


def _rmse(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
    guess, truth = map(_columns, aligned(outputs, targets))
    return average(by_row.root_mean(each**2, weights) for each in guess - truth)


def _columns(tensor: Tensor) -> Floats:
    """Return the numbers (n, ...) of rows, a line for each of a row's: (numbers, n)."""
    return _numbers(tensor).reshape(len(tensor), -1).T


def _loss(function: Callable[..., Tensor], *, aligns: bool) -> Closed:
    """Return the closed form of a loss of torch's, which takes ``reduction``."""

    def contributions(outputs: Tensor, targets: Tensor, weights: Weights) -> Floats:
        pair = aligned(outputs, targets) if aligns else (outputs, targets)
        return _mean(function(*pair, reduction="none"), weights)

    return contributions


_OF_LOSSES: Mapping[str, Closed] = {
    "cross_entropy": _loss(functional.cross_entropy, aligns=False),
    "nll": _loss(functional.nll_loss, aligns=False),
    "bce": _loss(functional.binary_cross_entropy_with_logits, aligns=True),
    "mse": _loss(functional.mse_loss, aligns=True),
    "mae": _loss(functional.l1_loss, aligns=True),
    "huber": _loss(functional.huber_loss, aligns=True),
}

_OF_METRICS: Mapping[str, Closed] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
    "auc": _auc,
    "log_loss": _log_loss,
    "r2": _r2,
    "rmse": _rmse,
    "mse": _OF_LOSSES["mse"],
    "mae": _OF_LOSSES["mae"],
}

_CLOSED: Mapping[Callable[..., object], Closed] = {
    **{LOSSES[name]: closed for name, closed in _OF_LOSSES.items()},
    **{METRICS[name].function: closed for name, closed in _OF_METRICS.items()},
}
"""Losses and metrics whose contributions have a closed form, which need no jackknife."""
