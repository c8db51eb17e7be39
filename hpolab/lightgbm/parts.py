"""The parts of the data that train and score: what can be learned, and said, of each."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from hpolab.lightgbm.metrics import Metrics
    from hpolab.lightgbm.table import LabeledTable

__all__ = ["blind_metrics", "check_scored", "check_trained"]

# Rows that show whether a metric tells models apart; of each class at least one.
_N_SHOWN = 1_000


def check_trained(argument: str, labels: NDArray[np.float64], weight: Any) -> None:
    """Refuse rows that teach nothing.

    Args:
        argument: What made the part, for messages.
        labels: (n,).
        weight: What the rows weigh in training, (n,), or None.

    Raises:
        InvalidArgument: If labels are all the same among the rows that have a weight.
    """
    kept = labels if weight is None else labels[weight > 0]
    if not len(kept):
        raise InvalidArgument(
            f"`{argument}` must train on rows with a weight above 0, got 0 for all {len(labels)} "
            "rows of a part."
        )
    if (kept == kept[0]).all():
        weighted = "" if weight is None else " with a weight above 0"
        raise InvalidArgument(
            f"`{argument}` must train on labels that differ, got {kept[0]} for all {len(kept)} "
            f"rows{weighted} of a part."
        )


def check_scored(
    argument: str, parts: Mapping[str, LabeledTable], metrics: Metrics, objective: Mapping[str, Any]
) -> None:
    """Refuse rows of which a metric says nothing, such as an AUC where one class is.

    LightGBM gives each model an AUC, an average precision, an NDCG or a MAP of 1 there.

    Args:
        argument: What made the parts, for messages.
        parts: What each is called -> its rows.
        metrics: What is evaluated.
        objective: LightGBM's objective, and its parameters.

    Raises:
        InvalidArgument: If every model gets the same value of a metric, or none.

    Warns:
        UserWarning: If that is so for some of the queries of a ranking.
    """
    n_blind = n_queries = 0
    for part, table in parts.items():
        if table.weight is not None and not table.weight.any():
            raise InvalidArgument(
                f"`{argument}` must score rows with a weight above 0, got {part} with 0 for all "
                f"{len(table)} rows."
            )
        for name in blind_metrics(table, metrics, objective):
            raise InvalidArgument(
                f"`{argument}` must score rows on which {name!r} tells a good model from a bad "
                f"one, got {part}, whose {len(table)} rows have {_shown_labels(table)}: every "
                "model has the same value there, or none. Take other rows, fewer or stratified "
                "folds, or a metric of each row, such as a loss."
            )
        if table.query_sizes is not None:
            n_blind += _n_blind_queries(table)
            n_queries += len(table.query_sizes)
    if n_blind:
        warnings.warn(
            f"{n_blind} of the {n_queries} queries of `{argument}` have one label for all of their "
            "rows: LightGBM counts 1 for each under every model, so that rankings look better "
            "than they are",
            UserWarning,
            stacklevel=2,
        )


def blind_metrics(table: LabeledTable, metrics: Metrics, objective: Mapping[str, Any]) -> list[str]:
    """Return the metrics that give every model the same value on some rows, or none.

    A function of the user's own may be as rough as it likes: it is asked for any value alone.
    """
    named = metrics.named_by_lightgbm()
    few = table if table.ranked else table.rows(_few(table))
    blind = _left(few, named, objective, n_values=2)
    if metrics.functions and objective["objective"] != "none":
        functions = metrics.of_functions()
        blind += _left(table, functions, objective, n_values=1)
    return blind


def _left(
    table: LabeledTable, metrics: Metrics, objective: Mapping[str, Any], n_values: int
) -> list[str]:
    """Return the metrics that have fewer different values than that, whatever is predicted."""
    found: dict[str, set[float]] = {name: set() for name in metrics.names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Only one class is present", say
        for raw in _raw_predictions(table, objective.get("num_class", 1)):
            left = [name for name, values in found.items() if len(values) < n_values]
            if not left:
                return []
            for name, value in metrics.evaluate(table, raw, objective).items():
                found[name] |= {value} if math.isfinite(value) else set()
    return [name for name, values in found.items() if len(values) < n_values]


def _raw_predictions(table: LabeledTable, n_outputs: int) -> Iterator[NDArray[np.float64]]:
    """Yield what different models may predict, before it becomes a probability, say.

    First one that is right and one that is wrong of the classes: guesses may all be right for half
    of few rows.
    """
    rng = np.random.default_rng(0)
    shape = (len(table),) if n_outputs == 1 else (len(table), n_outputs)
    if n_outputs == 1:
        right = table.labels - (table.labels.min() + table.labels.max()) / 2
    else:
        right = 5.0 * (table.labels[:, None] == np.arange(n_outputs))
    yield right
    yield -right
    for _ in range(4):
        yield rng.normal(size=shape)
        if n_outputs == 1:
            # Some metrics take positive predictions alone, as the labels are.
            yield rng.permutation(table.labels) * rng.uniform(0.5, 1.5, shape)
    for k in range(min(n_outputs, 2)):
        certain = np.zeros((len(table), n_outputs))
        certain[:, k] = 5.0
        yield certain.reshape(shape)
        yield -certain.reshape(shape)


def _few(table: LabeledTable) -> NDArray[np.int64]:
    """Return some rows that have a weight, with each label or at least the lowest and highest."""
    rows = np.arange(len(table)) if table.weight is None else np.flatnonzero(table.weight)
    if len(rows) <= _N_SHOWN:
        return rows
    _, first = np.unique(table.labels[rows], return_index=True)
    if len(first) > _N_SHOWN:
        first = first[[0, -1]]
    chosen = np.unique(np.concatenate([np.arange(_N_SHOWN), first]))
    return rows[chosen]  # type: ignore[no-any-return]


def _n_blind_queries(table: LabeledTable) -> int:
    assert table.query_sizes is not None
    ends = np.cumsum(table.query_sizes)
    starts = ends - table.query_sizes
    lowest = np.minimum.reduceat(table.labels, starts)
    return int((lowest == np.maximum.reduceat(table.labels, starts)).sum())


def _shown_labels(table: LabeledTable) -> str:
    labels = table.labels if table.weight is None else table.labels[table.weight > 0]
    found = np.unique(labels)
    if len(found) == 1:
        return f"the label {found[0]:g} alone"
    listed = ", ".join(f"{value:g}" for value in found[:5])
    return f"the labels {listed}{' ...' if len(found) > 5 else ''}"
