"""fit_by_epochs: scikit-learn's ``partial_fit`` as a training of epochs, each reported."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, needs
from hpolab.frames import n_rows
from hpolab.keywords import checks_keywords
from hpolab.objectives.epochs import train_steps
from hpolab.seeding import derive_seed

with needs("`fit_by_epochs`", "scikit-learn", "sklearn"):
    from sklearn.base import clone

from hpolab.sklearn.estimators import (
    divergence_ends,
    find_scorer,
    fit_epoch,
    open_pair,
    seeded,
)
from hpolab.sklearn.scoring import check_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from hpolab.trial.reporter import Reporter

__all__ = ["fit_by_epochs"]

EstimatorT = TypeVar("EstimatorT")


@checks_keywords()
def fit_by_epochs(
    estimator: EstimatorT,
    train: tuple[Any, Any],
    valid: tuple[Any, Any],
    *,
    reporter: Reporter,
    n_epochs: int,
    batch_size: int | None = None,
    metric: str | Callable[[Any, Any, Any], float] | None = None,
    classes: ArrayLike | None = None,
) -> EstimatorT:
    """Fit a copy of an estimator by epochs of ``partial_fit`` and return the best epoch's.

    Each epoch goes through `train` once in a new order and reports the score on `valid`. The
    order, and every ``random_state`` of the estimator that is None, is seeded by the reporter.
    A training in which scikit-learn meets NaN or infinity ends as one that diverged.

    Args:
        estimator: Any scikit-learn estimator with ``partial_fit``; it is left as it is, and what
            it has learned before is not gone on with.
        train: What is fitted on: (inputs, targets) with n rows each, as arrays, sparse matrices,
            data frames or lists.
        valid: What is scored on after every epoch, in the same form.
        reporter: The trial's reporter; its study maximizes, as scikit-learn's scorers do.
        n_epochs: Epochs of a full training, 1 or above.
        batch_size: Rows given to one call of ``partial_fit``; None gives it all of them.
        metric: A scorer's name as `sklearn.metrics.get_scorer_names` lists it, or (estimator,
            inputs, targets) -> number; None takes ``estimator.score``.
        classes: All classes, for a classifier; by default those of `train`.

    Returns:
        The copy as it was after the epoch with the best score.

    Raises:
        optuna.TrialPruned: If the pruner gives the trial up, or training diverges.
        Diverged: If training diverges and the reporter has no trial.
        InvalidArgument: If an argument is out of its range or set of names, data is empty or its
            lengths differ, a class is not in ``classes``, the metric says nothing of `valid`, or
            the study minimizes.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import optuna
        >>> from hpolab import Reporter
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import SGDClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> def objective(trial):
        ...     model = SGDClassifier(alpha=trial.suggest_float("alpha", 1e-6, 1e-3, log=True))
        ...     reporter = Reporter(trial, patience=3)
        ...     fit_by_epochs(
        ...         model, (X[:500], y[:500]), (X[500:700], y[500:700]),
        ...         reporter=reporter, n_epochs=10, batch_size=100,
        ...     )
        ...     return reporter.best_value
        >>> study = optuna.create_study(direction="maximize")
        >>> study.optimize(objective, n_trials=2)
        >>> study.best_value > 0.8
        True
    """
    _check_arguments(estimator, reporter, n_epochs, batch_size)
    train, valid = open_pair("train", train), open_pair("valid", valid)
    options = _class_options(estimator, train[1], valid[1], classes)
    scorer = find_scorer(estimator, metric)
    _check_valid(train[1], valid[1], estimator, scorer, metric)
    model: Any = seeded(clone(estimator), reporter.seed)
    order = np.random.default_rng(derive_seed(reporter.seed, "order"))

    def advance(epoch: int) -> float:
        with divergence_ends(reporter, f"at step {epoch}"):
            rows = order.permutation(n_rows(train[1]))
            fit_epoch(model, train, rows, batch_size=batch_size, options=options)
            return scorer(model, *valid)

    best: EstimatorT | None = train_steps(
        reporter, n_epochs, advance, lambda _: copy.deepcopy(model)
    )
    return model if best is None else best


def _check_arguments(
    estimator: Any, reporter: Reporter, n_epochs: int, batch_size: int | None
) -> None:
    if not hasattr(estimator, "partial_fit"):
        raise InvalidType(f"`estimator` must have `partial_fit`, got {estimator!r}.")
    if reporter.direction != "maximize":
        raise InvalidArgument(
            "`reporter` must belong to a study that maximizes, as every scorer of scikit-learn is "
            f"greater for the better model, got direction={reporter.direction!r}. An error has a "
            "scorer too, such as 'neg_mean_squared_error'."
        )
    if n_epochs < 1:
        raise InvalidArgument(f"`n_epochs` must be 1 or above, got {n_epochs}.")
    if batch_size is not None and batch_size < 1:
        raise InvalidArgument(f"`batch_size` must be 1 or above, or None, got {batch_size}.")


def _check_valid(
    train_targets: Any, valid_targets: Any, estimator: Any, scorer: Any, metric: Any
) -> None:
    parts = [np.asarray(targets) for targets in (train_targets, valid_targets)]
    n = len(parts[0])
    check_parts(
        "valid",
        {"data": np.arange(n, n + len(parts[1]))},
        np.concatenate(parts),
        model=estimator,
        scorer=scorer,
        metric=metric,
        name=metric if isinstance(metric, str) else "score",
    )


def _class_options(
    estimator: Any, train_targets: Any, valid_targets: Any, classes: ArrayLike | None
) -> dict[str, Any]:
    # What `partial_fit` is told of the classes, which it cannot see in a first batch.
    if "classes" not in inspect.signature(estimator.partial_fit).parameters:
        if classes is not None:
            raise InvalidArgument(
                "`classes` must be None for an estimator whose `partial_fit` takes none, "
                f"got {classes!r} for {estimator!r}."
            )
        return {}
    if np.ndim(train_targets) > 1:
        # One label a column: scikit-learn's estimators differ in what they call classes here.
        if classes is None:
            raise InvalidArgument(
                "`classes` must be given where targets have several columns, got None for "
                f"targets of shape {np.shape(train_targets)}."
            )
        return {"classes": classes}
    known = np.unique(np.asarray(train_targets if classes is None else classes))
    for name, targets in (("train", train_targets), ("valid", valid_targets)):
        unknown = np.setdiff1d(np.asarray(targets), known)
        if unknown.size:
            raise InvalidArgument(
                f"`{name}` must hold no class that is not in `classes`, by default those of "
                f"`train`, got {unknown.tolist()} besides {known.tolist()}."
            )
    return {"classes": known}
