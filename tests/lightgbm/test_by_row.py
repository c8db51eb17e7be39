"""Row scores of LightGBM's metrics: their mean is the metric that `evaluate` gives."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from hpolab import LightGBMObjective
from hpolab.lightgbm.by_row import row_scores
from hpolab.lightgbm.metrics import Metrics
from hpolab.lightgbm.table import LabeledTable, Labels

N = 120
RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=N)
RAW = 0.7 * LATENT + 0.5 * RNG.normal(size=N)
OF_CLASSES = np.stack([RAW, -RAW, 0.5 * RNG.normal(size=N)], axis=1)
WEIGHT = RNG.gamma(1, size=N)

# Labels by LightGBM's objective.
LABELS: dict[str, np.ndarray] = {
    "regression": LATENT,
    "poisson": np.round(np.exp(LATENT)),
    "gamma": np.exp(LATENT),
    "tweedie": np.exp(LATENT),
    "binary": (LATENT > 0.2).astype(float),
    "multiclass": np.digitize(LATENT, [-0.5, 0.8]).astype(float),
    "multiclassova": np.digitize(LATENT, [-0.5, 0.8]).astype(float),
    "cross_entropy": 1 / (1 + np.exp(-LATENT)),
    "cross_entropy_lambda": 1 / (1 + np.exp(-LATENT)),
    "lambdarank": np.digitize(LATENT, [-0.5, 0.8]).astype(float),
}
OF_NUMBERS = ("l1", "l2", "rmse", "quantile", "mape", "huber", "fair", "r2")
ROWS = [
    *(("regression", metric) for metric in OF_NUMBERS),
    *(("poisson", metric) for metric in (*OF_NUMBERS, "poisson")),
    *(("gamma", metric) for metric in ("gamma", "gamma_deviance", "l2", "mape")),
    *(("tweedie", metric) for metric in ("tweedie", "rmse")),
    *(
        ("binary", metric)
        for metric in ("auc", "average_precision", "binary_logloss", "binary_error", "l2")
    ),
    *(("multiclass", metric) for metric in ("multi_logloss", "multi_error", "auc_mu")),
    *(("multiclassova", metric) for metric in ("multi_logloss", "multi_error")),
    *(("cross_entropy", metric) for metric in ("cross_entropy", "kullback_leibler", "l1")),
    ("cross_entropy_lambda", "cross_entropy_lambda"),
    *(("lambdarank", metric) for metric in ("ndcg@3", "ndcg@10", "map@3", "map@10")),
]
JACKKNIFED = {
    "huber", "fair", "gamma", "gamma_deviance", "tweedie", "average_precision", "auc_mu",
    "kullback_leibler", "cross_entropy_lambda",
}  # fmt: skip
# Queries of 4 to 9 rows, one after another.
QUERIES = np.repeat(np.arange(N), np.random.default_rng(1).integers(4, 10, size=N))[:N]


def evaluated(
    objective: str, metric: Any, *, weight: Any = None, groups: Any = None
) -> tuple[float, np.ndarray | None]:
    """Return a metric of made-up predictions, and what rows contribute to it."""
    values = LABELS[objective]
    labels = Labels.of("train", objective, values)
    if labels.ranking:
        groups = QUERIES
    table = LabeledTable(None, values, weight, groups, ranked=labels.ranking)
    settings: dict[str, Any] = {"objective": objective, "verbosity": -1}
    raw = RAW
    if labels.n_classes is not None:
        settings["num_class"], raw = labels.n_classes, OF_CLASSES
    metrics = Metrics.find(metric, [], settings, labels, table)
    found = row_scores(table, raw, metrics=metrics, settings=settings)
    return metrics.evaluate(table, raw, settings)[metrics.optimized], found


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
@pytest.mark.parametrize(("objective", "metric"), ROWS)
def test_mean_of_row_scores_is_the_metric(objective: str, metric: str, weight: Any) -> None:
    value, found = evaluated(objective, metric, weight=weight)
    assert found is not None
    n_units = len(set(QUERIES)) if objective == "lambdarank" else N
    assert found.shape == (40 if metric in JACKKNIFED else n_units,)
    assert found.mean() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("metric", ["l2", "auc", "huber"])
def test_rows_of_a_group_are_one_unit(metric: str) -> None:
    objective = "binary" if metric == "auc" else "regression"
    groups = np.repeat(np.arange(N // 4), 4)
    value, found = evaluated(objective, metric, groups=groups)
    assert found is not None
    assert found.shape == (N // 4,)
    assert found.mean() == pytest.approx(value, rel=1e-5)


def test_own_metric_is_scored_without_each_group() -> None:
    def own(predictions: np.ndarray, data: lgb.Dataset) -> tuple[str, float, bool]:
        labels = data.get_label()
        return "own", float(np.abs(predictions - labels).sum() / np.abs(labels).sum()), False

    value, found = evaluated("regression", own)
    assert found is not None
    assert found.shape == (40,)
    assert found.mean() == pytest.approx(value)


def test_a_function_named_as_a_metric_of_lightgbm_s_is_itself() -> None:
    def own(predictions: np.ndarray, data: lgb.Dataset) -> tuple[str, float, bool]:
        return "l2", float(np.abs(predictions - data.get_label()).mean()), False

    value, found = evaluated("regression", own)
    assert found is not None
    assert found.mean() == pytest.approx(value)


@pytest.mark.parametrize("metric", ["auc", "average_precision"])
def test_a_class_in_one_row_alone_has_no_jackknife(metric: str) -> None:
    labels = np.zeros(N)
    labels[7] = 1
    table = LabeledTable(None, labels, None, None, ranked=False)
    settings = {"objective": "binary", "verbosity": -1}
    of = Labels("binary", (0, 1))
    metrics = Metrics.find(metric, [], settings, of, table)
    found = row_scores(table, RAW, metrics=metrics, settings=settings)
    if metric == "average_precision":
        assert found is None  # LightGBM gives 1 where it has no positive row
    else:
        assert found is not None


@pytest.mark.parametrize(
    ("objective", "params"),
    [
        ("regression", {}),
        ("regression", {"reg_sqrt": True}),
        ("binary", {"sigmoid": 2.0}),
        ("binary", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
        ("quantile", {"alpha": 0.2}),
        ("lambdarank", {}),
    ],
)
def test_objective_gives_scores_that_pass_its_check(objective: str, params: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(300, 3))
    latent = inputs[:, 0] + rng.normal(size=300)
    labels = latent if objective in ("regression", "quantile") else (latent > 0).astype(int)
    sizes = np.full(15, 10)
    ranked = {"groups": np.repeat(np.arange(15), 10)} if objective == "lambdarank" else {}
    made = LightGBMObjective(
        (inputs[:150], labels[:150]),
        objective=objective,
        params=params,
        search_space={"num_leaves": (3, 7)},
        max_rounds=10,
        **ranked,
    )
    model = made.fit({"num_leaves": 5}, 0, n_rounds=5)
    data: Any = inputs[150:], labels[150:]
    if ranked:
        data = lgb.Dataset(*data, group=sizes, free_raw_data=False)
    assert made.scored_unit == ("group" if ranked else "row")
    value = made.evaluate(model, data)[made.metric]
    found = made.checked_row_scores(model, data, value)
    assert found is not None
    assert found.shape == (15 if ranked else 150,)
    assert found.mean() == pytest.approx(value, rel=1e-5)
