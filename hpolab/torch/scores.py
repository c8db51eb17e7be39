"""Metrics of classifiers, as scikit-learn defines them, from logits.

A prediction has one of three forms. *Classes*: logits (n, C, ...) and class ids (n, ...), a softmax
over C; every position is a row. *Binary*: logits and targets 0 or 1 of one shape, (n,) or (n, 1).
*Labels*: logits and targets 0 or 1 of shape (n, L), several labels a row. (Of more axes, every
number is a binary row of its own.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from hpolab.errors import InvalidArgument
from hpolab.torch.losses import like

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "TopKAccuracy",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "has_labels",
    "log_loss",
    "log_losses",
    "macro_f1",
    "missing_class",
    "one_vs_rest",
    "predicted",
]


def accuracy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the share of rows that are right; a row of labels is right if all of them are."""
    hits = predicted(outputs, targets) == targets
    if has_labels(outputs, targets):
        hits = hits.all(dim=1)
    if weights is None:
        # A quotient of counts, not a mean in float32: 0.9 shall be 0.9.
        return _double(hits.sum()) / hits.numel()
    rows = _double(hits)
    return _average(rows.flatten(1).mean(1) if rows.ndim > 1 else rows, _double(weights))


def macro_f1(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean F1 over classes that either side holds, or over all labels."""
    guess, actual = predicted(outputs, targets), targets.to(torch.int64)
    if has_labels(outputs, targets):
        of_row = 1 if weights is None else _double(weights)[:, None]
        hits, size = _double(guess & actual) * of_row, _double(guess + actual) * of_row
        total = size.sum(0)
        # A label that neither side holds has an F1 of 0, as under zero_division=0.
        return (2 * hits.sum(0) / total.where(total > 0, 1)).mean()
    hits, n_predicted, n_actual = _counts(guess, actual, weights)
    size = n_predicted + n_actual
    present = size > 0
    return (2 * hits[present] / size[present]).mean()


def balanced_accuracy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over classes of the share of their rows that are right."""
    _refuse_labels("balanced_accuracy", outputs, targets)
    guess, actual = predicted(outputs, targets), targets.to(torch.int64)
    hits, _, n_actual = _counts(guess, actual, weights)
    present = n_actual > 0
    return (hits[present] / n_actual[present]).mean()


def log_loss(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean negative log-likelihood of classes, by softmax or sigmoid."""
    rows = log_losses(outputs, targets)
    rows = rows.flatten(1).mean(1) if rows.ndim > 1 else rows
    return rows.mean() if weights is None else _average(rows, _double(weights))


def log_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each of the rows' classes, (n, ...)."""
    _refuse_labels("log_loss", outputs, targets)
    _check_ids(outputs, targets)
    if _has_classes(outputs, targets):
        ids = targets.to(torch.int64).cpu()
        return functional.cross_entropy(_double(outputs), ids, reduction="none")
    logits, truth = _double(like(outputs, targets)), _double(targets)
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def auc(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the area under the ROC curve: of several classes or labels the mean, one-vs-rest."""
    return _mean_of_curves("auc", _area, outputs, targets, weights)


def average_precision(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the average precision: of several classes or labels the mean, one-vs-rest."""
    return _mean_of_curves("average_precision", _precision, outputs, targets, weights)


@dataclass(frozen=True)
class TopKAccuracy:
    """The share of rows whose class is among the k of the largest logits.

    Of equal logits the later class ranks first, as in scikit-learn.
    """

    k: int

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        hits = self.hits(outputs, targets)
        if weights is None:
            return _double(hits.sum()) / hits.numel()
        rows = _double(hits)
        return _average(rows.flatten(1).mean(1) if rows.ndim > 1 else rows, _double(weights))

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which of the rows' classes are among the k, (n, ...)."""
        name = f"top_{self.k}_accuracy"
        if not _has_classes(outputs, targets):
            like(outputs, targets)
            raise InvalidArgument(
                f"Metric {name!r} needs logits of shape (n, classes) and class ids of shape (n,), "
                f"got {tuple(outputs.shape)} and {tuple(targets.shape)}."
            )
        if self.k >= outputs.shape[1]:
            raise InvalidArgument(
                f"Metric {name!r} needs more than {self.k} classes, or every model is right, "
                f"got {outputs.shape[1]}."
            )
        _check_ids(outputs, targets)
        ids = targets.to(torch.int64).unsqueeze(1)
        own = outputs.gather(1, ids)
        classes = torch.arange(outputs.shape[1], device=outputs.device)
        later = classes.reshape(1, -1, *[1] * (outputs.ndim - 2)) > ids
        return ((outputs > own) | ((outputs == own) & later)).sum(dim=1) < self.k


def missing_class(
    targets: Tensor, n_classes: int | None = None, weights: Tensor | None = None
) -> str | None:
    """Return what a curve misses, or None: it needs rows of every class, of weight above 0.

    Args:
        targets: Class ids (n, ...), or labels (n, L).
        n_classes: How many classes there are; None for labels, and where no model is at hand.
        weights: How much each row counts, (n,).
    """
    if weights is not None:
        targets = targets[weights > 0]
    if n_classes is None and targets.ndim == 2 and targets.shape[1] > 1:
        same = (targets == targets[:1]).all(dim=0)
        return f"equal ones for label {int(same.nonzero()[0])}" if bool(same.any()) else None
    found = torch.unique(targets).tolist()
    if n_classes is None:
        return None if len(found) > 1 else f"no row of any class but {found[0]}"
    absent = sorted(set(range(n_classes)) - {int(each) for each in found})
    return f"no row of class {absent[0]}" if absent else None


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()  # not every device has doubles


def _average(rows: Tensor, weights: Tensor) -> Tensor:
    return (rows * weights).sum() / weights.sum()


def _has_classes(outputs: Tensor, targets: Tensor) -> bool:
    several = outputs.ndim > 1 and outputs.shape[1] > 1
    return several and targets.shape == (len(outputs), *outputs.shape[2:])


def has_labels(outputs: Tensor, targets: Tensor) -> bool:
    return targets.ndim == 2 and targets.shape[1] > 1 and not _has_classes(outputs, targets)


def _refuse_labels(name: str, outputs: Tensor, targets: Tensor) -> None:
    if has_labels(outputs, targets):
        like(outputs, targets)
        raise InvalidArgument(
            f"Metric {name!r} needs one class a row, got several labels: targets of shape "
            f"{tuple(targets.shape)}."
        )


def _check_ids(outputs: Tensor, targets: Tensor) -> None:
    n_classes = outputs.shape[1] if _has_classes(outputs, targets) else 2
    if targets.numel() and not bool(((targets >= 0) & (targets < n_classes)).all()):
        raise InvalidArgument(
            f"Targets must be class ids in 0..{n_classes - 1} for outputs of shape "
            f"{tuple(outputs.shape)} and a metric of classes, "
            f"got {targets.min().item()}..{targets.max().item()}."
        )


def predicted(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return predicted class ids, of the targets' shape, from logits."""
    if _has_classes(outputs, targets):
        _check_ids(outputs, targets)
        return outputs.argmax(dim=1)
    positive = (like(outputs, targets) > 0).to(torch.int64)
    _check_ids(outputs, targets)
    return positive


def _counts(
    predicted: Tensor, actual: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return hits, predictions and rows by class."""
    of_each = None if weights is None else _spread(weights, actual.numel())
    predicted, actual = predicted.flatten().cpu(), actual.flatten().cpu()
    n_classes = int(torch.maximum(predicted.max(), actual.max())) + 1

    def count(ids: Tensor, which: Tensor | slice) -> Tensor:
        mass = None if of_each is None else of_each[which]
        return torch.bincount(ids[which], mass, minlength=n_classes).double()

    everywhere = slice(None)
    return (
        count(actual, predicted == actual),
        count(predicted, everywhere),
        count(actual, everywhere),
    )


def _spread(weights: Tensor, n_numbers: int) -> Tensor:
    """Return the weights of rows for each of their numbers."""
    return _double(weights).repeat_interleave(n_numbers // len(weights))


def _mean_of_curves(
    name: str,
    area: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None,
) -> Tensor:
    scores, truth = one_vs_rest(outputs, targets)
    n_columns = scores.shape[1]
    mass = torch.ones(len(scores)) if weights is None else _spread(weights, len(scores))
    counting = mass > 0
    found = []
    for column in range(n_columns):
        positive = truth[counting, column]
        if bool(positive.all()) or not bool(positive.any()):
            which = f" for column {column}" if n_columns > 1 else ""
            raise InvalidArgument(
                f"Metric {name!r} needs rows of both classes{which}, got "
                f"{int(positive.sum())} positive ones of {len(positive)}."
            )
        hits, misses = _curve(scores[counting, column], positive, mass[counting].double())
        found.append(area(hits, misses))
    return torch.stack(found).mean()


def one_vs_rest(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores and truth (rows, columns): a column for each class, two classes share one."""
    _check_ids(outputs, targets)
    if _has_classes(outputs, targets):
        logits = _double(outputs).movedim(1, -1).reshape(-1, outputs.shape[1])
        ids = targets.reshape(-1).to(torch.int64).cpu()
        if logits.shape[1] == 2:
            return logits[:, 1:] - logits[:, :1], (ids == 1)[:, None]
        return logits.log_softmax(1), functional.one_hot(ids, logits.shape[1]).bool()
    scores, truth = _double(like(outputs, targets)), targets.cpu() == 1
    if has_labels(outputs, targets):
        return scores, truth
    return scores.reshape(-1, 1), truth.reshape(-1, 1)


def _curve(scores: Tensor, positive: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mass of positives and of negatives at or above each distinct score, from above."""
    order = scores.argsort(descending=True)
    ranked = scores[order]
    last = torch.ones(len(ranked), dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]  # rows of one score are taken together
    of_positives = mass * positive
    return of_positives[order].cumsum(0)[last], (mass - of_positives)[order].cumsum(0)[last]


def _area(hits: Tensor, misses: Tensor) -> Tensor:
    zero = hits.new_zeros(1)
    area = torch.trapezoid(torch.cat([zero, hits]), torch.cat([zero, misses]))
    return area / (hits[-1] * misses[-1])


def _precision(hits: Tensor, misses: Tensor) -> Tensor:
    gained = hits.diff(prepend=hits.new_zeros(1))
    return (gained * hits / (hits + misses)).sum() / hits[-1]
