"""A rehearsal: the default configuration fitted and scored on a few rows, before any trial."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from hpolab.errors import InvalidArgument, in_brief
from hpolab.frames import rows_with_gaps
from hpolab.objectives.folds import Fold
from hpolab.sklearn.estimators import are_finite, is_divergence, predictions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from hpolab.sklearn.training import SklearnTask

__all__ = ["rehearse"]

# Rows of a fold that are fitted, and scored: enough for most of what an estimator refuses.
_N_ROWS = 200
# Besides, rows with missing or infinite values, and rows of each class.
_N_GAPS, _N_OF_CLASS = 20, 5
# Folds that are scored: of thousands the first show it.
_N_FOLDS = 20


def rehearse(task: SklearnTask, model: Any, metric: str) -> None:
    """Refuse data or a metric that a model cannot be fitted on or scored by.

    A few rows of the first fold are tried. Only where these fail, which may be for their small
    number, it is the whole fold.

    Args:
        task: The data, its folds and the scorer.
        model: The default configuration, unfitted.
        metric: The scorer's name, for messages.

    Raises:
        InvalidArgument: If fitting or scoring raises an error, or a score is no number though the
            predictions are.
    """
    gaps = rows_with_gaps(task.rows.inputs)

    def few(fold: Fold) -> Fold:
        return Fold(*(_few(rows, gaps, task.rows.labels) for rows in fold))

    first = task.folds[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = few(first)
        fitted, problem = _attempt(task, model, small)
        if problem is not None and len(small.train) + len(small.valid) < sum(map(len, first)):
            small = first
            fitted, problem = _attempt(task, model, small)
        if problem is None and fitted is not None:
            problem = _without_a_number(task, fitted, small.train, map(few, task.folds))
    if problem is not None:
        raise InvalidArgument(_message(problem, metric, int(gaps.sum()))) from problem.cause


@dataclass(frozen=True)
class _Problem:
    """What went wrong: the argument that is at fault, in words, and the error if there was one."""

    argument: str
    what: str
    cause: Exception | None = None


def _message(problem: _Problem, metric: str, n_gaps: int) -> str:
    if n_gaps and any(word in problem.what for word in ("NaN", "infinity", "missing")):
        return (
            "`train` must hold values that the estimator takes, got missing or infinite ones in "
            f"{n_gaps} rows, of which it says {problem.what}: fill them in, by a step before it."
        )
    if problem.argument == "metric":
        return (
            f"`metric` must score the default configuration, got {metric!r}, which gives "
            f"{problem.what}."
        )
    return (
        "`estimator` must train its default configuration on `train`, and predict, got "
        f"{problem.what}: set another default by `estimator` or `search_space`."
    )


def _attempt(task: SklearnTask, model: Any, fold: Fold) -> tuple[Any, _Problem | None]:
    """Return the fitted model, None if it has diverged, and what went wrong."""
    model = clone(model)
    try:
        task.fit(model, fold.train)
    except Exception as error:  # noqa: BLE001 - raised again as our own
        return None, _problem("estimator", error, task.rows.has_gaps)
    try:
        task.score(model, fold)
    except Exception as error:  # noqa: BLE001 - raised again as our own
        at_fault = "metric" if _predicts(task, model, fold) else "estimator"
        return None, _problem(at_fault, error, lambda: task.meets_gaps(model, fold))
    return model, None


def _predicts(task: SklearnTask, model: Any, fold: Fold) -> bool:
    try:
        predictions_of(model, task.inputs(fold.valid, fold.train))
    except Exception:  # noqa: BLE001 - it is the model then, whatever it says
        return False
    return True


def _problem(argument: str, error: Exception, has_gaps: Callable[[], bool]) -> _Problem | None:
    if isinstance(error, MemoryError) or is_divergence(error, has_gaps=has_gaps):
        return None  # a matter of the trial
    return _Problem(argument, in_brief(error).rstrip("."), error)


def _without_a_number(
    task: SklearnTask, model: Any, fitted: NDArray[np.int64], folds: Iterable[Fold]
) -> _Problem | None:
    """Return the problem of a fold whose score is NaN though the predictions are as they should.

    Predictions that are all alike may be what has no score, and another configuration's are not.
    """
    for i, fold in enumerate(islice(folds, _N_FOLDS)):
        scored = fold._replace(train=fitted)
        try:
            value = task.score(model, scored)
            if math.isfinite(value):
                continue
            predictions = predictions_of(model, task.inputs(fold.valid, fitted))
            if not are_finite(predictions) or len(np.unique(predictions, axis=0)) < 2:
                continue
        except Exception:  # noqa: BLE001 - the model has seen a few rows of another fold
            continue
        return _Problem("metric", f"{value} for fold {i}")
    return None


def _few(rows: NDArray[np.int64], gaps: NDArray[np.bool_], labels: Any) -> NDArray[np.int64]:
    """Return a few of the rows: some with gaps, some of each class, the others evenly spread."""
    if len(rows) <= _N_ROWS:
        return rows
    chosen = [np.linspace(0, len(rows) - 1, _N_ROWS).astype(np.int64)]
    chosen.append(np.flatnonzero(gaps[rows])[:_N_GAPS])
    if labels is not None:
        _, codes = np.unique(labels[rows], return_inverse=True)
        order = np.argsort(codes, kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(codes)))[:-1]
        place_in_class = np.arange(len(rows)) - starts[codes[order]]
        chosen.append(order[place_in_class < _N_OF_CLASS])
    return rows[np.unique(np.concatenate(chosen))]
