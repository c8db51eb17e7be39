"""What each row contributes to one of LightGBM's metrics, or each query where rows are ranked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.objectives.by_row import agrees, auc, by_unit, jackknife, mean, r2, root_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from hpolab.lightgbm.metrics import Metrics
    from hpolab.lightgbm.table import LabeledTable

    Floats = NDArray[np.float64]

__all__ = ["is_by_group", "row_scores"]

# Without a class, LightGBM gives each model a value of 1.
_NEEDS_CLASSES = ("auc", "auc_mu", "average_precision")

# The least probability whose logarithm LightGBM takes.
_LEAST = 1e-15


def row_scores(
    table: LabeledTable, raw: Floats, *, metrics: Metrics, settings: Mapping[str, Any]
) -> Floats | None:
    """Return what rows contribute to the optimized metric, in the order of their units.

    Args:
        table: The n rows. Rows of one group were drawn together: it is one unit.
        raw: What a booster predicts for them with ``raw_score=True``: (n,) or (n, classes).
        metrics: The metrics.
        settings: LightGBM's objective, and its parameters.

    Returns:
        (units,), or (groups,) of random groups of units; None if there are none.
    """
    table, metrics = replace(table, features=None), metrics.only_optimized()
    name = metrics.optimized
    value = metrics.evaluate(table, raw, settings)[name]
    if not math.isfinite(value):
        return None
    scored = _Scored(table, raw, settings)
    with np.errstate(all="ignore"):
        found = None if name in metrics.function_names else _closed_form(name, scored)
    # Not where LightGBM means something else by it, as in another version.
    if found is not None and agrees(found, value):
        return found
    units = np.arange(len(table)) if table.groups is None else table.groups
    _, codes = np.unique(units, return_inverse=True)
    classes = table.labels if name == "auc_mu" else table.labels > 0
    n_classes = len(np.unique(classes))

    def without(kept: NDArray[np.int64]) -> float:
        is_kept = np.zeros(codes.max() + 1, bool)
        is_kept[kept] = True
        rows = np.flatnonzero(is_kept[codes])
        if name in _NEEDS_CLASSES and len(np.unique(classes[rows])) < n_classes:
            return math.nan
        return metrics.evaluate(table.rows(rows), raw[rows], settings)[name]

    return jackknife(without, int(codes.max()) + 1, value=value)


def is_by_group(metrics: Metrics, *, ranked: bool) -> bool:
    """Tell whether row scores are those of groups of rows, such as queries."""
    name = metrics.optimized
    return ranked or name in metrics.function_names or name not in _OF_ROWS


@dataclass(frozen=True)
class _Scored:
    """Rows with their raw predictions.

    Attributes:
        table: The n rows.
        raw: (n,) or (n, classes).
        settings: LightGBM's objective, and its parameters.
    """

    table: LabeledTable
    raw: Floats
    settings: Mapping[str, Any]

    @property
    def labels(self) -> Floats:
        """(n,), classes as codes."""
        return self.table.labels

    @property
    def weight(self) -> Floats | None:
        """(n,) or None."""
        return self.table.weight

    def predicted(self) -> Floats:
        """Return what the booster predicts: (n,) or (n, classes)."""
        objective = self.settings["objective"]
        if objective == "regression" and self.settings.get("reg_sqrt"):
            return np.sign(self.raw) * self.raw**2
        return _OUTPUTS.get(objective, _as_it_is)(self.raw, self.settings.get("sigmoid", 1.0))

    def own(self) -> Floats:
        """Return the predicted probability of each row's class, (n,)."""
        probabilities, labels = self.predicted(), self.labels.astype(np.int64)
        if probabilities.ndim == 1:
            own: Floats = np.where(labels > 0, probabilities, 1 - probabilities)
            return own
        picked: Floats = probabilities[np.arange(len(labels)), labels]
        return picked

    def queries(self) -> list[tuple[Floats, Floats]]:
        """Return the labels and raw predictions of each query."""
        assert self.table.query_sizes is not None
        ends = np.cumsum(self.table.query_sizes)[:-1]
        parts = np.split(self.labels, ends), np.split(self.raw, ends)
        return list(zip(*parts, strict=True))

    def query_weight(self) -> Floats | None:
        """Return the mean weight of each query's rows."""
        if self.weight is None:
            return None
        sizes = self.table.query_sizes
        assert sizes is not None
        starts = np.cumsum(sizes) - sizes
        weights: Floats = np.add.reduceat(self.weight, starts) / sizes
        return weights


def _as_it_is(raw: Floats, slope: float) -> Floats:
    return raw


def _sigmoid(raw: Floats, slope: float) -> Floats:
    return 1 / (1 + np.exp(-slope * raw))


def _softmax(raw: Floats, slope: float) -> Floats:
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _exponential(raw: Floats, slope: float) -> Floats:
    return np.exp(raw)


_OUTPUTS: Mapping[str, Callable[[Floats, float], Floats]] = {
    "binary": _sigmoid,
    "multiclassova": _sigmoid,
    "cross_entropy": lambda raw, slope: _sigmoid(raw, 1.0),
    "cross_entropy_lambda": lambda raw, slope: np.logaddexp(0, raw),
    "multiclass": _softmax,
    "poisson": _exponential,
    "gamma": _exponential,
    "tweedie": _exponential,
}


def _closed_form(name: str, scored: _Scored) -> Floats | None:
    """Return the contributions of rows, queries or groups, where there is a closed form."""
    kind, _, cut = name.partition("@")
    if scored.table.ranked:
        if kind not in _OF_QUERIES:
            return None
        gains = _gains(scored)
        found = [_OF_QUERIES[kind](*each, int(cut), gains) for each in scored.queries()]
        return mean(found, scored.query_weight())
    if name not in _OF_ROWS:
        return None
    contributions = _OF_ROWS[name](scored)
    groups = scored.table.groups
    return contributions if groups is None else by_unit(contributions, groups)


def _mean_of(loss: Callable[[_Scored], Floats]) -> Callable[[_Scored], Floats]:
    return lambda scored: mean(loss(scored), scored.weight)


def _errors(scored: _Scored) -> Floats:
    return scored.predicted() - scored.labels


def _multi_error(scored: _Scored) -> Floats:
    own = scored.own()[:, None]
    wrong: Floats = ((scored.predicted() >= own).sum(axis=1) > 1).astype(np.float64)
    return wrong


def _quantile_loss(scored: _Scored) -> Floats:
    alpha, over = scored.settings.get("alpha", 0.9), _errors(scored)
    losses: Floats = np.where(over > 0, (1 - alpha) * over, -alpha * over)
    return losses


def _cross_entropy(scored: _Scored) -> Floats:
    shares = np.clip(scored.predicted(), 1e-12, 1 - 1e-12)
    losses: Floats = -(scored.labels * np.log(shares) + (1 - scored.labels) * np.log(1 - shares))
    return losses


def _log_loss(scored: _Scored) -> Floats:
    losses: Floats = -np.log(np.maximum(scored.own(), _LEAST))
    return losses


def _poisson_loss(scored: _Scored) -> Floats:
    rates = np.maximum(scored.predicted(), 1e-10)
    losses: Floats = rates - scored.labels * np.log(rates)
    return losses


_OF_ROWS: Mapping[str, Callable[[_Scored], Floats]] = {
    "auc": lambda scored: auc(scored.raw, scored.labels > 0, scored.weight),
    "binary_error": _mean_of(
        lambda scored: ((scored.predicted() > 0.5) != (scored.labels > 0)).astype(np.float64)
    ),
    "binary_logloss": _mean_of(_log_loss),
    "cross_entropy": _mean_of(_cross_entropy),
    "l1": _mean_of(lambda scored: np.abs(_errors(scored))),
    "l2": _mean_of(lambda scored: _errors(scored) ** 2),
    "mape": _mean_of(lambda scored: np.abs(_errors(scored)) / np.maximum(1, np.abs(scored.labels))),
    "multi_error": _mean_of(_multi_error),
    "multi_logloss": _mean_of(_log_loss),
    "poisson": _mean_of(_poisson_loss),
    "quantile": _mean_of(_quantile_loss),
    "r2": lambda scored: r2(scored.predicted(), scored.labels, scored.weight),
    "rmse": lambda scored: root_mean(_errors(scored) ** 2, scored.weight),
}
"""Metrics whose contributions have a closed form, which need no jackknife."""


def _gains(scored: _Scored) -> Floats:
    """Return what a row of each label is worth to an NDCG."""
    given = scored.settings.get("label_gain")
    if given is None:
        return np.exp2(np.arange(31, dtype=np.float64)) - 1
    return np.asarray(given.split(",") if isinstance(given, str) else given, np.float64)


def _ndcg(labels: Floats, raw: Floats, cut: int, gains: Floats) -> float:
    # A query without a relevant row counts 1.
    of_rows = gains[labels.astype(np.int64)]
    discounts = 1 / np.log2(np.arange(2, len(labels) + 2))[:cut]
    best = float(np.sort(of_rows)[::-1][:cut] @ discounts)
    return float(of_rows[np.argsort(-raw, kind="stable")][:cut] @ discounts) / best if best else 1.0


def _map(labels: Floats, raw: Floats, cut: int, gains: Floats) -> float:
    relevant = labels[np.argsort(-raw, kind="stable")] > 0.5
    n_relevant = int(relevant.sum())
    if not n_relevant:
        return 1.0
    found = relevant[:cut]
    precisions = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precisions[found].sum()) / min(n_relevant, cut)


_OF_QUERIES: Mapping[str, Callable[[Floats, Floats, int, Floats], float]] = {
    "ndcg": _ndcg,
    "map": _map,
}
