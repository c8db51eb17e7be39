"""What each row contributes to a score: predictions are made once, and scored in parts."""

from __future__ import annotations

import math
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import get_scorer

from hpolab.frames import n_rows
from hpolab.objectives.by_row import (
    accuracy,
    agrees,
    auc,
    average,
    balanced_accuracy,
    f1,
    jackknife,
    macro_f1,
    r2,
    root_mean,
)
from hpolab.sklearn.estimators import take_rows
from hpolab.sklearn.scoring import is_of_predictions, name_of_score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from hpolab.sklearn.estimators import Scorer

    Floats = NDArray[np.float64]
    _Closed = Callable[["_Remembered", NDArray[Any]], Floats]

__all__ = ["is_by_group", "row_scores"]


def row_scores(
    model: Any, inputs: Any, targets: Any, *, scorer: Scorer, metric: Any
) -> Floats | None:
    """Return what rows contribute to a score: (n,), (groups,) of random groups of rows, or None.

    Args:
        model: A fitted estimator.
        inputs: n rows.
        targets: Their targets.
        scorer: (model, inputs, targets) -> number.
        metric: What the scorer was made of: a name, a function, or None.
    """
    n, truth = n_rows(inputs), np.asarray(targets)
    remembered = _Remembered(model, inputs)
    of_predictions = is_of_predictions(metric, model)
    if metric is None and of_predictions:
        metric = name_of_score(model)
        scorer = get_scorer(metric)

    def score(rows: NDArray[np.int64]) -> float:
        # scikit-learn's own scorers read no inputs, which may be large.
        shown = rows[:, None] if of_predictions else take_rows(inputs, rows)
        return float(scorer(remembered.on(rows, shown), shown, take_rows(targets, rows)))

    value = score(np.arange(n))
    closed_form = _closed_form(metric, truth)
    if closed_form is not None and math.isfinite(value):
        with np.errstate(all="ignore"):
            found = closed_form(remembered, truth)
        # Not where scikit-learn means something else by it.
        if agrees(found, value):
            return found
    return jackknife(score, n, value=value)


def is_by_group(metric: Any, model: Any, targets: NDArray[Any]) -> bool:
    """Tell whether a scorer's row scores are those of random groups of rows."""
    return _closed_form(name_of_score(model) if metric is None else metric, targets) is None


def _closed_form(metric: Any, targets: NDArray[Any]) -> _Closed | None:
    """Return the closed form of a scorer that was asked for by name, where there is one."""
    if not isinstance(metric, str):
        return None
    of_columns = _OF_COLUMNS.get(metric)
    return _OF_CLASSES.get(metric) if of_columns is None and targets.ndim == 1 else of_columns


class _Remembered:
    """A fitted model that predicts its rows once, and stands in for it on some of them.

    It is the model in all else.
    """

    def __init__(self, model: Any, inputs: Any) -> None:
        self._model = model
        self._inputs = inputs
        self._known: dict[str, Any] = {}
        self._rows = np.arange(n_rows(inputs))
        self._shown = inputs

    def on(self, rows: NDArray[np.int64], shown: Any) -> _Remembered:
        """Return the model for some rows, which are shown to it as ``shown``."""
        self._rows, self._shown = rows, shown
        return self

    def all_of(self, method: str) -> Any:
        """Return what a method of the model predicts for all rows."""
        if method not in self._known:
            self._known[method] = getattr(self._model, method)(self._inputs)
        return self._known[method]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in _RESPONSES:
            return found

        @wraps(found)  # scikit-learn asks a method for its name
        def predict(X: Any, **options: Any) -> Any:
            if options or not _same(X, self._shown):
                return found(X, **options)
            known = self.all_of(name)
            # Of several outputs there is a list of probabilities.
            if isinstance(known, list):
                return [each[self._rows] for each in known]
            return take_rows(known, self._rows)

        return predict


_RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def _same(given: Any, shown: Any) -> bool:
    """Tell whether a scorer asks for the rows that it was shown, in whatever form."""
    if given is shown:
        return True
    if hasattr(given, "tocsr") or hasattr(shown, "tocsr") or np.shape(given) != np.shape(shown):
        return False
    return bool((np.asarray(given) == np.asarray(shown)).all())


def _of_labels(contributions: Callable[[Any, Any], Floats]) -> _Closed:
    return lambda model, targets: contributions(model.all_of("predict"), targets)


def _of_numbers(error: Callable[[Floats, Floats], Floats], *, root: bool = False) -> _Closed:
    """Return the closed form of a mean error, negative, of targets (n,) or (n, outputs)."""

    def contributions(model: _Remembered, targets: NDArray[Any]) -> Floats:
        errors = _columns(error(*_numbers(model, targets)))
        return -average(root_mean(each) if root else each for each in errors)

    return contributions


def _r2(model: _Remembered, targets: NDArray[Any]) -> Floats:
    guess, truth = _numbers(model, targets)
    return average(map(r2, _columns(guess), _columns(truth)))


def _numbers(model: _Remembered, targets: NDArray[Any]) -> tuple[Floats, Floats]:
    guess = np.asarray(model.all_of("predict"), np.float64)
    return guess.reshape(targets.shape), targets.astype(np.float64)


def _columns(numbers: Floats) -> list[Floats]:
    return list(numbers.reshape(len(numbers), -1).T)


def _f1(model: _Remembered, targets: NDArray[Any]) -> Floats:
    return f1(model.all_of("predict") == 1, targets == 1)


def _roc_auc(model: _Remembered, targets: NDArray[Any]) -> Floats:
    if hasattr(model, "decision_function"):
        scores = np.asarray(model.all_of("decision_function"))
    else:
        scores = np.asarray(model.all_of("predict_proba"))[:, -1]
    return auc(scores, targets == model.classes_[-1])


def _roc_auc_ovr(model: _Remembered, targets: NDArray[Any]) -> Floats:
    columns = np.asarray(model.all_of("predict_proba")).T
    pairs = zip(model.classes_, columns, strict=True)
    return average(auc(column, targets == each) for each, column in pairs)


def _log_loss(model: _Remembered, targets: NDArray[Any]) -> Floats:
    probabilities = np.asarray(model.all_of("predict_proba"), np.float64)
    own = probabilities[np.arange(len(targets)), np.searchsorted(model.classes_, targets)]
    # What scikit-learn takes for a probability of 0.
    least = np.finfo(np.asarray(model.all_of("predict_proba")).dtype).eps
    logs: Floats = np.log(np.clip(own / probabilities.sum(axis=1), least, 1 - least))
    return logs


def _brier(model: _Remembered, targets: NDArray[Any]) -> Floats:
    positive = np.asarray(model.all_of("predict_proba"), np.float64)[:, -1]
    losses: Floats = -((positive - (targets == model.classes_[-1])) ** 2)
    return losses


def _square(guess: Floats, truth: Floats) -> Floats:
    squares: Floats = (guess - truth) ** 2
    return squares


def _absolute(guess: Floats, truth: Floats) -> Floats:
    return np.abs(guess - truth)


def _percentage(guess: Floats, truth: Floats) -> Floats:
    parts: Floats = np.abs(guess - truth) / np.maximum(np.abs(truth), np.finfo(np.float64).eps)
    return parts


def _square_of_logs(guess: Floats, truth: Floats) -> Floats:
    return _square(np.log1p(guess), np.log1p(truth))


# Of targets (n,).
_OF_CLASSES: Mapping[str, _Closed] = {
    "balanced_accuracy": _of_labels(balanced_accuracy),
    "f1": _f1,
    "f1_macro": _of_labels(macro_f1),
    "neg_brier_score": _brier,
    "neg_log_loss": _log_loss,
    "roc_auc": _roc_auc,
    "roc_auc_ovr": _roc_auc_ovr,
}

# Of targets (n,) or (n, columns).
_OF_COLUMNS: Mapping[str, _Closed] = {
    "accuracy": _of_labels(accuracy),
    "neg_mean_absolute_error": _of_numbers(_absolute),
    "neg_mean_absolute_percentage_error": _of_numbers(_percentage),
    "neg_mean_squared_error": _of_numbers(_square),
    "neg_mean_squared_log_error": _of_numbers(_square_of_logs),
    "neg_root_mean_squared_error": _of_numbers(_square, root=True),
    "neg_root_mean_squared_log_error": _of_numbers(_square_of_logs, root=True),
    "r2": _r2,
}
