"""What model, data, loss and metrics must be to go together."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.torch.batches import apply, takes_weights, values_of
from hpolab.torch.metrics import CURVES
from hpolab.torch.scores import missing_class

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from hpolab.torch.batches import Targets
    from hpolab.torch.losses import LossFunction

__all__ = [
    "check_alignment",
    "check_is_tensor",
    "check_outputs",
    "check_scores",
    "check_takes_weights",
    "check_targets",
]

_CLASS_LOSSES = ("cross_entropy", "nll")

# Rows on which a function is tried with outputs of two shapes.
_N_ROWS = 16


def check_targets(
    loss: str | LossFunction,
    metrics: Collection[str],
    split: str,
    targets: Tensor,
    weights: Tensor | None = None,
) -> None:
    """Refuse targets that the named loss or a named metric cannot take, whatever the model.

    Args:
        loss: The loss's name; a callable is not checked.
        metrics: Names of the metrics that are read on the split.
        split: The split's name, for the message.
        targets: The targets, (n, ...).
        weights: How much each row counts, (n,); None for all alike.

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
    counting = targets if weights is None else targets[weights > 0]
    if "r2" in metrics and bool((counting == counting[:1]).all(dim=0).any()):
        raise InvalidArgument(
            f"`{split}` targets must vary for metric 'r2', which divides by their variance, "
            f"got {len(counting)} equal ones."
        )
    _check_curves(metrics, split, missing_class(targets, weights=weights))


def check_scores(
    metrics: Collection[str], split: str, outputs: Tensor, targets: Tensor, weights: Tensor | None
) -> None:
    """Refuse targets in which a class of the model is missing that a named metric needs.

    Args:
        metrics: Names of the metrics that are read on the split.
        split: The split's name, for the message.
        outputs: Outputs for some rows, (k, ...).
        targets: All targets, (n, ...).
        weights: How much each row counts, (n,); None for all alike.
    """
    has_classes = outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1
    n_classes = outputs.shape[1] if has_classes else None
    _check_curves(metrics, split, missing_class(targets, n_classes, weights))


def _check_curves(metrics: Collection[str], split: str, missing: str | None) -> None:
    for name in CURVES:
        if missing is not None and name in metrics:
            raise InvalidArgument(
                f"`{split}` must hold every class for metric {name!r}, which has no value "
                f"otherwise, got {missing}."
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
    check_is_tensor(outputs)
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


def check_is_tensor(outputs: Any) -> None:
    """Refuse a model whose output is anything else than a tensor.

    Raises:
        InvalidType: If it is.
    """
    if not isinstance(outputs, Tensor):
        advice = ": return its `logits`" if hasattr(outputs, "logits") else ""
        raise InvalidType(
            f"`build_model` must return a model whose output is a tensor, got "
            f"{type(outputs).__name__}{advice}."
        )


def check_takes_weights(functions: Mapping[str, Callable[..., Any]], split: str) -> None:
    """Refuse a user's losses and metrics that cannot take the weights of a split.

    Args:
        functions: What each is, for the message, and the function.
        split: The split's name.

    Raises:
        InvalidArgument: If one has no argument ``weights``.
    """
    for what, function in functions.items():
        if not takes_weights(function):
            raise InvalidArgument(
                f"{what} must have an argument `weights`, as `{split}` has a weight for each row: "
                "def own(outputs, targets, weights=None). Named ones have it."
            )


def check_alignment(
    what: str, function: Callable[..., Any], outputs: Tensor, targets: Targets
) -> None:
    """Refuse a user's function that compares outputs of (n, 1) with targets of (n,).

    torch makes (n, n) of the two: every row is compared with every other. Whether a function does
    so is tried, with outputs of either shape.

    Args:
        what: What the function is, for the message.
        function: A loss or a metric.
        outputs: Outputs for some rows, (k, ...).
        targets: Their targets.

    Raises:
        InvalidArgument: If its value depends on the shape.
    """
    values = values_of(targets)
    shapes = outputs.shape, values.shape
    if shapes[0] == shapes[1] or _without_ones(shapes[0]) != _without_ones(shapes[1]):
        return
    few = targets[:_N_ROWS]
    shape = (len(few), *outputs.shape[1:])
    # Outputs that are also probabilities, and positive.
    tried = torch.linspace(0.1, 0.9, math.prod(shape)).reshape(shape).to(outputs)
    for each in (few, _varied(few)):
        if _is_broken(function, tried, each):
            raise InvalidArgument(
                f"{what} must compare row by row, but of outputs {tuple(shapes[0])} and targets "
                f"{tuple(shapes[1])} torch makes all pairs of rows: reshape the targets to the "
                "shape of the outputs, or squeeze the outputs in the model."
            )


def _is_broken(function: Callable[..., Any], outputs: Tensor, targets: Targets) -> bool:
    """Tell whether a function would see the rows if outputs had the targets' shape, but does not.

    Of all pairs of rows the value is the same in whatever order the outputs come.
    """
    shaped = outputs.reshape(values_of(targets).shape)
    tried = (outputs, outputs, outputs.roll(1, 0), shaped, shaped.roll(1, 0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, that it broadcasts
        try:
            given, again, rolled, aligned, aligned_rolled = (
                float(apply(function, each.clone(), targets.clone())) for each in tried
            )
        except Exception:  # noqa: BLE001 - it takes one shape alone, or needs other rows
            return False
    if given != again or not math.isfinite(given):
        return False
    return _is_near(given, rolled) and not _is_near(aligned, aligned_rolled)


def _is_near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-5)


def _varied(targets: Targets) -> Targets:
    """Return a copy whose first row is another: equal targets hide what is compared with what."""
    varied = targets.clone()
    values = values_of(varied)
    values[0] = torch.where(values[0] == 0, 1, 0).to(values.dtype)
    return varied


def _without_ones(shape: torch.Size) -> list[int]:
    return [n for n in shape if n != 1]


def _extent(targets: Tensor) -> str:
    return f"{targets.min().item()}..{targets.max().item()}"
