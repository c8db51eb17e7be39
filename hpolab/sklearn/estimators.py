"""What training a scikit-learn estimator needs: data, scorers, seeds, epochs, divergence."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.cores import n_threads_asked
from hpolab.errors import InvalidArgument, InvalidType, needs, one_of
from hpolab.frames import collected, n_rows

with needs("hpolab's use of estimators", "scikit-learn", "sklearn"):
    from sklearn.metrics import check_scoring, get_scorer_names

    # Part of scikit-learn's documented API in spite of its name: rows of whatever a fit takes.
    from sklearn.utils import _safe_indexing, gen_batches, indexable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hpolab.trial.reporter import Reporter

    Scorer = Callable[[Any, Any, Any], float]

__all__ = [
    "are_finite",
    "divergence_ends",
    "find_scorer",
    "fit_epoch",
    "is_divergence",
    "is_pairwise",
    "n_threads_of",
    "open_pair",
    "pair_of",
    "predictions_of",
    "seeded",
    "take_columns",
    "take_rows",
]


def n_threads_of(estimator: Any) -> int:
    """Return how many cores an estimator asks for by its ``n_jobs``, or by that of a step in it."""
    settings = estimator.get_params(deep=True)
    asked = [value for name, value in settings.items() if name.rpartition("__")[2] == "n_jobs"]
    return max(map(n_threads_asked, asked), default=1)


def open_pair(name: str, data: Any) -> tuple[Any, Any]:
    """Return (inputs, targets) of which rows can be taken.

    Args:
        name: The argument's name, for messages.
        data: A pair of arrays, sparse matrices, data frames or lists, n rows each.

    Raises:
        InvalidArgument: If the lengths differ, there is no row, or targets are not finite.
        InvalidType: If ``data`` is no pair.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InvalidType(f"`{name}` must be a pair (inputs, targets), got {_describe(data)}.")
    data = tuple(map(collected, data))
    n_inputs, n_targets = map(n_rows, data)
    if n_inputs != n_targets:
        raise InvalidArgument(
            f"`{name}` inputs and targets must be of one length, got {n_inputs} and {n_targets}."
        )
    if n_targets == 0:
        raise InvalidArgument(f"`{name}` must hold at least one row, got none.")
    # Else a scorer would meet them as it meets the predictions of a model that diverged.
    targets = np.asarray(data[1])
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        n_bad = int((~np.isfinite(targets)).sum())
        raise InvalidArgument(
            f"`{name}` targets must be finite, got {n_bad} NaN or infinite values."
        )
    inputs, targets = indexable(*data)
    return inputs, targets


def pair_of(train: Any, y: Any) -> Any:
    """Return ``train`` as a pair, which it is already where ``y`` is None.

    Raises:
        InvalidType: If the targets are missing.
    """
    if y is not None:
        return (train, y)
    if not isinstance(train, (tuple, list)) or len(train) != 2:
        raise InvalidType(
            "`y` must be given where `train` is not a pair (X, y), got None beside "
            f"{_describe(train)}."
        )
    return train


def take_rows(data: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array, a sparse matrix, a data frame or a list."""
    return _safe_indexing(data, rows)


def take_columns(data: Any, columns: np.ndarray) -> Any:
    """Return some columns, by position, of an array, a sparse matrix or a data frame."""
    return _safe_indexing(data, columns, axis=1)


def find_scorer(estimator: Any, metric: Any) -> Scorer:
    """Return scikit-learn's scorer for a name, a callable, or None: the estimator's ``score``.

    Raises:
        InvalidArgument: If no scorer has that name, or the estimator has no ``score``.
        InvalidType: If ``metric`` is none of these.
    """
    if isinstance(metric, str):
        one_of("metric", metric, get_scorer_names())
    elif metric is None:
        if not hasattr(estimator, "score"):
            raise InvalidArgument(
                f"`metric` must be given for an estimator without `score`, got None for "
                f"{estimator!r}."
            )
    elif not callable(metric):
        # `check_metric` takes lists and dicts too, for scorers of several values.
        raise InvalidType(
            f"`metric` must be a scorer's name, a callable or None, got {type(metric).__name__}."
        )
    return check_scoring(estimator, scoring=metric)  # type: ignore[no-any-return]


def seeded(model: Any, seed: int) -> Any:
    """Seed every ``random_state`` of ``model`` that is None, nested ones too, and return it."""
    unseeded = {
        name: seed % 2**32
        for name, value in model.get_params().items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return model.set_params(**unseeded)


def fit_epoch(
    model: Any,
    data: tuple[Any, Any],
    rows: np.ndarray,
    *,
    batch_size: int | None,
    options: Mapping[str, Any],
    sample_weight: np.ndarray | None = None,
) -> None:
    """Give ``model.partial_fit`` the rows once.

    Args:
        model: Any estimator with ``partial_fit``.
        data: (inputs, targets).
        rows: Which rows, in their order.
        batch_size: Rows given to one call; None gives it all of them.
        options: What else ``partial_fit`` gets.
        sample_weight: A weight for each row of ``data``.
    """
    inputs, targets = data
    for batch in gen_batches(len(rows), batch_size or len(rows)):
        taken = rows[batch]
        weight = {} if sample_weight is None else {"sample_weight": sample_weight[taken]}
        model.partial_fit(
            _safe_indexing(inputs, taken), _safe_indexing(targets, taken), **options, **weight
        )


def is_pairwise(estimator: Any) -> bool:
    """Return whether an estimator's inputs are its rows' kernel or distances, (n, n)."""
    if hasattr(estimator, "__sklearn_tags__"):
        return bool(estimator.__sklearn_tags__().input_tags.pairwise)
    tags = estimator._get_tags() if hasattr(estimator, "_get_tags") else {}  # before 1.6
    return bool(tags.get("pairwise", False))


def predictions_of(model: Any, inputs: Any) -> np.ndarray:
    """Return what a fitted model predicts; of classes it is their scores."""
    for method in ("predict_proba", "decision_function"):
        if hasattr(model, method):
            return np.asarray(getattr(model, method)(inputs))
    return np.asarray(model.predict(inputs))


def are_finite(predictions: np.ndarray) -> bool:
    """Return whether predictions are classes or finite numbers."""
    return predictions.dtype.kind != "f" or bool(np.isfinite(predictions).all())


def is_divergence(error: Exception, *, has_gaps: Callable[[], bool]) -> bool:
    """Return whether an error says that a model's weights or predictions are no longer finite.

    Args:
        error: What scikit-learn raised.
        has_gaps: Whether the inputs themselves have missing or infinite values, of which
            scikit-learn may say the same; asked only then.
    """
    text = str(error)
    if not isinstance(error, ValueError) or not text.startswith(_DIVERGENCES + _NOT_FINITE):
        return False
    return text.startswith(_DIVERGENCES) or not has_gaps()


@contextmanager
def divergence_ends(
    reporter: Reporter, where: str, *, has_gaps: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """End the training where scikit-learn meets weights or predictions that are not finite.

    Args:
        reporter: The training's reporter.
        where: For the stored reason: "at step 3".
        has_gaps: As in `is_divergence`.

    Raises:
        optuna.TrialPruned: If that happens in a trial.
        Diverged: If it happens outside any.
    """
    try:
        yield
    except ValueError as error:
        if not is_divergence(error, has_gaps=has_gaps):
            raise
        reporter.diverged(math.nan, where, cause=error)


# What scikit-learn says where its weights are no longer finite.
_DIVERGENCES = (
    "Floating-point under-/overflow occurred",
    "Solver produced non-finite parameter weights",
)
# What its metrics say of predictions, and its checks of any array. (Of an estimator's inputs most
# say "Input X contains NaN".)
_NOT_FINITE = ("Input contains NaN", "Input contains infinity")


def _describe(data: Any) -> str:
    kind = type(data).__name__
    return f"a {kind} of {len(data)}" if isinstance(data, (tuple, list)) else kind
