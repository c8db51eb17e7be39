"""Metrics by LightGBM's own code: its names, its directions, its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import wraps
from numbers import Real
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, hint, in_brief
from hpolab.lightgbm.names import of_objective
from hpolab.lightgbm.values import read_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.lightgbm.table import LabeledTable, Labels

    MetricFunction = Callable[[Any, lgb.Dataset], tuple[str, float, bool]]

__all__ = ["Metrics"]

# For the hint of a misspelled name alone; LightGBM decides what is one.
# https://lightgbm.readthedocs.io/en/stable/Parameters.html#metric and #objective
# fmt: off
_OBJECTIVES = (
    "regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma",
    "tweedie", "binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda",
    "lambdarank", "rank_xendcg",
)
_NAMES = (
    "l1", "l2", "rmse", "quantile", "mape", "huber", "fair", "poisson", "gamma", "gamma_deviance",
    "tweedie", "ndcg@10", "map@10", "auc", "average_precision", "binary_logloss", "binary_error",
    "auc_mu", "multi_logloss", "multi_error", "cross_entropy", "cross_entropy_lambda",
    "kullback_leibler", "r2",
)
# fmt: on


@dataclass(frozen=True)
class Metrics:
    """The metrics of an objective.

    Attributes:
        settings: LightGBM's parameters for them.
        functions: The user's own metrics.
        function_names: What these call themselves.
        names: As LightGBM reports them.
        optimized: The name of the one that steers trials.
        direction: "minimize" or "maximize", where that one gets better.
    """

    settings: Mapping[str, Any]
    functions: tuple[MetricFunction, ...]
    function_names: frozenset[str]
    names: tuple[str, ...]
    optimized: str
    direction: str

    @classmethod
    def find(
        cls,
        metric: str | MetricFunction | None,
        more: Sequence[str | MetricFunction],
        objective: Mapping[str, Any],
        labels: Labels,
        table: LabeledTable,
    ) -> Metrics:
        """Ask LightGBM for names and directions, by evaluating a constant on real labels.

        Args:
            metric: LightGBM's name, of a ranking's with its cut as in "ndcg@10", or a function
                (predictions, Dataset) -> (name, value, whether more is better). None takes the
                objective's own.
            more: Further metrics.
            objective: LightGBM's objective, and its parameters.
            labels: How labels are encoded.
            table: Rows to evaluate on.

        Raises:
            InvalidArgument: If LightGBM does not know a name, not for this objective, or two
                metrics have one name.
            InvalidType: If a metric is neither a name nor a function.
        """
        if isinstance(more, str):
            raise InvalidType(f"`metrics` must be a list of metrics, got {more!r}.")
        metric, more = _spelled(metric), [_spelled(other) for other in more]
        found = [_probe(metric, objective, labels, table)]
        if metric is None:
            metric = found[0][0]
        found += [_probe(other, objective, labels, table) for other in more]
        names = tuple(name for name, _, _ in found)
        if len(set(names)) < len(names):
            raise InvalidArgument(f"`metrics` must differ, got {', '.join(map(repr, names))}.")
        settings, functions = _settings([metric, *more], labels)
        own = frozenset(
            name
            for each, name in zip([metric, *more], names, strict=True)
            if not isinstance(each, str)
        )
        optimized, _, more_is_better = found[0]
        direction = "maximize" if more_is_better else "minimize"
        return cls(settings, functions, own, names, optimized, direction)

    def named_by_lightgbm(self) -> Metrics:
        """Return the metrics without functions."""
        names = tuple(name for name in self.names if name not in self.function_names)
        return replace(self, functions=(), function_names=frozenset(), names=names)

    def of_functions(self) -> Metrics:
        """Return the metrics that are functions."""
        names = tuple(name for name in self.names if name in self.function_names)
        return replace(self, settings={"metric": "none"}, names=names)

    def only_optimized(self) -> Metrics:
        """Return the one that steers trials alone."""
        own = self.optimized in self.function_names
        settings = {"metric": "none"} if own else self.settings
        functions = self.functions if own else ()
        return replace(self, settings=settings, functions=functions, names=(self.optimized,))

    def of(self, booster: lgb.Booster) -> dict[str, float]:
        """Return name -> value on a booster's validation data."""
        results = booster.eval_valid([*self.functions])
        values = {result[1]: float(result[2]) for result in results}
        return {name: values[name] for name in self.names}

    def evaluate(
        self, table: LabeledTable, raw: NDArray[np.float64], objective: Mapping[str, Any]
    ) -> dict[str, float]:
        """Return name -> value for raw predictions (n,), or (n, classes).

        Args:
            table: The rows.
            raw: What boosters predict with ``raw_score=True``.
            objective: LightGBM's objective, and its parameters.
        """
        results = _results(table, raw, {**objective, **self.settings}, self.functions)
        values = {name: value for name, value, _ in results}
        return {name: values[name] for name in self.names}


def _spelled(metric: Any) -> Any:
    return read_name("metric", metric) if isinstance(metric, str) else metric


def _probe(
    metric: str | MetricFunction | None,
    objective: Mapping[str, Any],
    labels: Labels,
    table: LabeledTable,
) -> tuple[str, float, bool]:
    settings, functions = _settings([] if metric is None else [metric], labels)
    try:
        results = _results(table, None, {**objective, **settings}, functions)
    except _Refused as error:
        raise InvalidArgument(f"{error}{_works(metric, objective, labels, table)}") from error
    if len(results) != 1:
        names = [name for name, _, _ in results]
        works = "" if len(names) > 1 else _works(metric, objective, labels, table)
        raise InvalidArgument(_unknown(metric, labels, names) + works)
    return results[0]


class _Refused(InvalidArgument):
    """LightGBM refuses an objective or a metric; its message may be followed by a hint."""


def _works(
    metric: str | MetricFunction | None,
    objective: Mapping[str, Any],
    labels: Labels,
    table: LabeledTable,
) -> str:
    """Return a hint of the names that LightGBM evaluates for this objective, the nearest first."""
    if not isinstance(metric, str):
        return ""
    works = []
    for name in _NAMES:
        settings, _ = _settings([name], labels)
        try:
            found = _results(table, None, {**objective, **settings}, ())
        except InvalidArgument:
            continue
        works += [name for each, _, _ in found if each == name]
    near = get_close_matches(metric.partition("@")[0], works, n=1, cutoff=0.5)
    listed = ", ".join(map(repr, works))
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Of its own it takes {listed}."


def _settings(
    metrics: Sequence[str | MetricFunction], labels: Labels
) -> tuple[dict[str, Any], tuple[MetricFunction, ...]]:
    functions = tuple(metric for metric in metrics if not isinstance(metric, str))
    for metric in functions:
        if not callable(metric):
            raise InvalidType(
                f"`metric` must be a name or a function, got {type(metric).__name__}."
            )
    names = [metric for metric in metrics if isinstance(metric, str)]
    settings: dict[str, Any] = {}
    cuts = {int(name.partition("@")[2]) for name in names if name.partition("@")[2].isdigit()}
    if cuts:
        settings["eval_at"] = sorted(cuts)
    if names:
        settings["metric"] = list(dict.fromkeys(name.partition("@")[0] for name in names))
    elif functions:
        settings["metric"] = "none"
    elif labels.ranking:
        settings["eval_at"] = [10]
    return settings, functions


def _results(
    table: LabeledTable,
    raw: NDArray[np.float64] | None,
    settings: Mapping[str, Any],
    functions: tuple[MetricFunction, ...],
) -> list[tuple[str, float, bool]]:
    """Evaluate raw predictions as those of a booster of no rounds that starts from them."""
    n_outputs = settings.get("num_class", 1)
    start = np.zeros(len(table) * n_outputs) if raw is None else raw.ravel(order="F")
    dataset = lgb.Dataset(
        np.zeros((len(table), 1)),
        table.labels,
        weight=table.weight,
        group=table.query_sizes,
        init_score=start,
        params={"verbosity": -1, "feature_pre_filter": False},
    )
    try:
        # Of the boosting's own parameters some need the real features, and random forests refuse
        # to start from scores.
        booster = lgb.Booster(
            {**of_objective(settings), "verbosity": -1, "num_threads": 1}, dataset
        )
        results = booster.eval_train(feval=[_checked(function) for function in functions])
    except lgb.basic.LightGBMError as error:
        if str(error).startswith("Unknown objective"):
            raise InvalidArgument(
                "`objective` must be one that LightGBM knows, got "
                f"{settings['objective']!r}.{hint(settings['objective'], _OBJECTIVES)}"
            ) from error
        raise _Refused(f"`objective` or `metric` is refused by LightGBM: {error}") from error
    return [(result[1], float(result[2]), bool(result[3])) for result in results]


def _unknown(metric: Any, labels: Labels, names: list[str]) -> str:
    if metric is None:
        return (
            f"`metric` must be given where the objective has none of its own, got None for "
            f"{labels.objective!r}."
        )
    if not isinstance(metric, str):
        return f"`metric` must return one value, got {len(names)}: {names}."
    if names:
        name = metric.partition("@")[0]
        if len({each.partition("@")[0] for each in names}) > 1 or not names[0].startswith(name):
            return f"`metric` must be one metric, got {metric!r}, of which LightGBM makes {names}."
        return (
            f"`metric` must say where it cuts, such as '{name}@10', got {metric!r}. More cuts may "
            "stand in `metrics`."
        )
    return (
        f"`metric` must be one that LightGBM knows for objective {labels.objective!r}, got "
        f"{metric!r}."
    )


def _checked(function: MetricFunction) -> MetricFunction:
    """Return a function of the user's whose errors and results name `metric`."""

    @wraps(function)
    def call(predictions: Any, data: lgb.Dataset) -> Any:
        try:
            result = function(predictions, data)
        except Exception as error:
            raise InvalidArgument(
                "`metric` must be a function of (predictions, Dataset), whose labels are "
                f"`data.get_label()`; called so, {_name_of(function)} raised {in_brief(error)}"
            ) from error
        for each in result if isinstance(result, list) else [result]:
            if not _is_triple(each):
                raise InvalidType(
                    "`metric` must return (name, value, whether more is better), as in "
                    f"('error', 0.1, False), got {each!r} from {_name_of(function)}."
                )
        return result

    return call


def _is_triple(result: Any) -> bool:
    if not isinstance(result, tuple) or len(result) != 3:
        return False
    name, value, more_is_better = result
    is_number = isinstance(value, Real) or (hasattr(value, "item") and np.ndim(value) == 0)
    return isinstance(name, str) and is_number and isinstance(more_is_better, bool | np.bool_)


def _name_of(function: Any) -> str:
    return repr(getattr(function, "__name__", type(function).__name__))
