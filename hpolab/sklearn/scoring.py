"""Scorers: which models they can score, and the rows on which they tell models apart."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.metrics import accuracy_score, make_scorer

from hpolab.errors import InvalidArgument
from hpolab.sklearn.training import last_step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from hpolab.sklearn.estimators import Scorer

__all__ = ["can_score", "check_parts", "is_of_predictions", "name_of_score"]

_RESPONSES = ("predict_proba", "predict_log_proba", "decision_function")
# Rows of a part that show whether a scorer tells models apart there; of each class at least one.
_N_SHOWN = 500


def can_score(scorer: Scorer, model: Any, targets: NDArray[Any]) -> bool:
    """Tell whether an unfitted model has the methods that a scorer reads: probabilities, say.

    Args:
        scorer: (model, inputs, targets) -> number.
        model: The estimator with its parameters.
        targets: (n,) training targets.
    """
    classes = np.unique(targets) if is_classifier(model) else None
    truth = targets[_shown(targets, np.arange(len(targets)), classes)]
    methods = [name for name in _RESPONSES if hasattr(model, name)]
    made_up = _model(next(_answers(targets, truth, classes)), classes, methods)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(made_up, np.zeros((len(truth), 1)), truth)
    except AttributeError:
        return False
    except Exception:  # noqa: BLE001 - of another matter, which a fitted model shows
        return True
    return True


def check_parts(
    argument: str,
    parts: Mapping[str, NDArray[np.int64]],
    targets: NDArray[Any],
    *,
    model: Any,
    scorer: Scorer,
    metric: Any,
    name: str,
) -> None:
    """Refuse a part whose score says nothing of a model, such as an AUC where one class is.

    Args:
        argument: What made the parts, for the message.
        parts: What each is called -> its rows.
        targets: (n,) all targets.
        model: The estimator, unfitted.
        scorer: (model, inputs, targets) -> number.
        metric: What the scorer was made of.
        name: The metric's name, for the message.

    Raises:
        InvalidArgument: If all models have one score there, or none.
    """
    if targets.ndim > 1 or not is_of_predictions(metric, model):
        return
    classes = np.unique(targets) if is_classifier(model) else None
    values = _values_of_models(scorer, targets, np.arange(len(targets)), classes)
    if not values:
        return  # only a fitted model can show what is wrong
    if len(values) == 1:
        raise InvalidArgument(
            f"`metric` must tell a good model from a bad one, got {name!r}, which is "
            f"{values.pop():g} for every model of these targets."
        )
    advice = "stratified folds, fewer folds" if argument == "folds" else "other rows"
    known: dict[Any, bool] = {}
    for part, rows in parts.items():
        # What decides it; so that a thousand folds of one row each are two questions.
        found, n = np.unique(targets[rows]), min(len(rows), 3)
        key = (n, len(found) > 1) if classes is None else (n, found.tobytes())
        if key not in known:
            known[key] = len(_values_of_models(scorer, targets, rows, classes)) > 1
        if not known[key]:
            raise InvalidArgument(
                f"`{argument}` must score rows on which {name!r} tells a good model from a bad "
                f"one, got {part}, whose {len(rows)} targets are {_listed(found)}: every model "
                f"has the same score there, or none. Take {advice}, or another metric."
            )


def is_of_predictions(metric: Any, model: Any) -> bool:
    """Return whether scikit-learn's own code computes the score, from predictions alone."""
    if metric is None:
        return name_of_score(model) is not None
    # The class of scorers has no public name.
    return isinstance(metric, str | type(make_scorer(accuracy_score)))


def name_of_score(model: Any) -> str | None:
    """Return the scorer that is a model's ``score``; None if that is code of the model's own."""
    name, mixin = ("accuracy", ClassifierMixin) if is_classifier(model) else ("r2", RegressorMixin)
    return name if getattr(type(last_step(model)[1]), "score", None) is mixin.score else None


def _listed(found: NDArray[Any]) -> str:
    if len(found) == 1:
        return f"all {found[0].item()!r}"
    return ", ".join(repr(value.item()) for value in found[:3]) + (" ..." if len(found) > 3 else "")


def _values_of_models(
    scorer: Scorer, targets: NDArray[Any], rows: NDArray[np.int64], classes: Any
) -> set[float]:
    """Return the scores that made-up models have on some rows, two different ones at most."""
    truth = targets[_shown(targets, rows, classes)]
    found = set()
    for answer in _answers(targets, truth, classes):
        value = _score(scorer, _model(answer, classes, _RESPONSES), truth)
        if math.isfinite(value):
            found.add(value)
        if len(found) > 1:
            break
    return found


def _score(scorer: Scorer, model: Any, truth: NDArray[Any]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(scorer(model, np.zeros((len(truth), 1)), truth))
        except Exception:  # noqa: BLE001 - "Only one class is present", say
            return math.nan


def _answers(
    targets: NDArray[Any], truth: NDArray[Any], classes: NDArray[Any] | None
) -> Iterator[NDArray[np.float64]]:
    """Yield what different models may predict: probabilities (n, classes), or numbers (n,).

    Of classes first one that is right and one that is wrong: a guess may be right for half of the
    rows again and again. Of numbers none is right, which an R2 of equal numbers counts as 1.
    """
    rng = np.random.default_rng(0)
    n = len(truth)
    if classes is None:
        for _ in range(4):
            yield rng.choice(targets, n).astype(np.float64)
        for each in (targets.min(), targets.max()):
            yield np.full(n, each, np.float64)
        return
    codes = np.searchsorted(classes, truth)
    yield _certain(codes, len(classes))
    yield _certain((codes + 1) % len(classes), len(classes))
    for _ in range(4):
        yield rng.dirichlet(np.ones(len(classes)), n)
    for each in {int(codes[0]), 0, len(classes) - 1}:
        yield _certain(np.full(n, each), len(classes))


def _certain(codes: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return probabilities (n, classes) that are high for one class of each row."""
    certain = np.full((len(codes), n_classes), 0.1 / n_classes)
    certain[np.arange(len(codes)), codes] += 0.9
    return certain


def _model(answer: NDArray[np.float64], classes: Any, methods: Collection[str]) -> Any:
    """Return a fitted model that predicts ``answer``."""

    def predict(self: Any, X: Any) -> Any:
        return answer if classes is None else classes[answer.argmax(axis=1)]

    def predict_proba(self: Any, X: Any) -> Any:
        return answer

    def predict_log_proba(self: Any, X: Any) -> Any:
        return np.log(answer)

    def decision_function(self: Any, X: Any) -> Any:
        return answer if answer.shape[1] > 2 else answer[:, 1] - 0.5

    known = {"predict_proba": predict_proba, "predict_log_proba": predict_log_proba}
    known["decision_function"] = decision_function
    members = {} if classes is None else {name: known[name] for name in methods}
    mixin = RegressorMixin if classes is None else ClassifierMixin
    made = type("MadeUpModel", (mixin, BaseEstimator), {**members, "predict": predict})()
    if classes is not None:
        made.classes_ = classes
    return made


def _shown(
    targets: NDArray[Any], rows: NDArray[np.int64], classes: NDArray[Any] | None
) -> NDArray[np.int64]:
    """Return a few rows that stand for all: of each class some, or of numbers both ends."""
    if len(rows) <= _N_SHOWN:
        return rows
    of_rows = targets[rows]
    if classes is None:
        ends = [of_rows.argmin(), of_rows.argmax()]
        return rows[np.unique([*range(_N_SHOWN), *ends])]  # type: ignore[no-any-return]
    found, codes = np.unique(of_rows, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(codes)))[:-1]
    place_in_class = np.arange(len(rows)) - starts[codes[order]]
    kept = order[place_in_class < max(1, _N_SHOWN // len(found))]
    return rows[np.sort(kept)]  # type: ignore[no-any-return]
