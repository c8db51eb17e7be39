"""Boosting: the boosters of all folds together, what they predict, and own objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from hpolab import SearchSpace
from hpolab.seeding import derive_seed
from hpolab.studies.trials import METRICS_KEY

if TYPE_CHECKING:
    import lightgbm as lgb

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :12]
N = len(Y)
DIABETES = load_diabetes(return_X_y=True)
DIGITS = tuple(part[:200] for part in load_digits(n_class=3, return_X_y=True))


def test_score_is_read_once_by_the_mean_of_the_folds_boosters(make, trials_of):
    pairs = [(np.arange(400), np.arange(400, 500)), (np.arange(200, 500), np.arange(200))]
    rows = X[500:], Y[500:]
    objective = make(folds=pairs, score=rows, metric="binary_logloss", patience=None)
    (trial,) = trials_of(objective, 1)
    metrics = trial.user_attrs[METRICS_KEY]
    assert trial.value == metrics["binary_logloss"] not in trial.intermediate_values.values()
    params = objective.search_space.from_trial(trial.params)
    seed = derive_seed(0, 0, "training")
    models = objective.fit_folds(params, seed, n_rounds=int(metrics["rounds"])).models
    raw = np.mean([m.predict(rows[0], raw_score=True) for m in models], axis=0)
    expected = -np.log(np.where(rows[1] == 1, 1, -1) * (1 / (1 + np.exp(-raw)) - 0.5) + 0.5).mean()
    assert trial.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("boosting", ["gbdt", "dart", "rf"])
def test_score_is_that_of_the_best_round_whatever_the_boosting(make, trials_of, boosting):
    rows = X[300:], Y[300:]
    params = {"learning_rate": 0.4, "bagging_fraction": 0.5}
    objective = make(
        (X[:300], Y[:300]),
        folds=[(np.arange(150), np.arange(150, 300)), (np.arange(150, 300), np.arange(150))],
        score=rows,
        max_rounds=40,
        params={
            "boosting": boosting,
            "bagging_freq": 1,
            **({"drop_rate": 0.5} if boosting == "dart" else {}),
        },
        search_space=SearchSpace(params),
    )
    (trial,) = trials_of(objective, 1)
    n_rounds = int(trial.user_attrs[METRICS_KEY]["rounds"])
    assert n_rounds < 40  # or the best round would be the last one
    models = objective.fit_folds(params, derive_seed(0, 0, "training"), n_rounds=n_rounds).models
    chances = np.array([model.predict(rows[0]) for model in models])
    raw = np.log(chances / (1 - chances)).mean(axis=0)
    expected = np.log1p(np.exp(-np.where(rows[1] == 1, raw, -raw))).mean()
    assert trial.value == pytest.approx(expected, rel=1e-6)


def squares(predictions: np.ndarray, rows: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
    return predictions - rows.get_label(), np.ones_like(predictions)


def logistic(raw: np.ndarray, rows: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
    chance = 1 / (1 + np.exp(-raw))
    return chance - rows.get_label(), chance * (1 - chance)


def mean_square(predictions: np.ndarray, rows: lgb.Dataset) -> tuple[str, float, bool]:
    return "mse", float(np.mean((predictions - rows.get_label()) ** 2)), False


def log_loss_of_raw(raw: np.ndarray, rows: lgb.Dataset) -> tuple[str, float, bool]:
    sign = 2 * rows.get_label() - 1
    return "log_loss", float(np.log1p(np.exp(-sign * raw)).mean()), False


@pytest.mark.parametrize("folds", [3, None], ids=["folds", "hold-out"])
def test_own_objective_and_metric_train_like_the_built_in_they_imitate(make, value, folds):
    common = {"train": DIABETES, "folds": folds, "params": {"boost_from_average": False}}
    own = make(**common, objective=squares, metric=mean_square)
    built_in = make(**common, objective="regression", metric="l2")
    assert value(own) == pytest.approx(value(built_in), rel=1e-5)


def test_own_objective_scores_and_evaluates(make, value):
    pairs = [(np.arange(300), np.arange(300, N)), (np.arange(269, N), np.arange(269))]
    common = {"folds": pairs, "params": {"boost_from_average": False}, "score": (X, Y)}
    own = make(**common, objective=logistic, metric=log_loss_of_raw)
    built_in = make(**common, metric="binary_logloss")
    assert value(own) == pytest.approx(value(built_in), rel=1e-5)
    model = own.fit({}, seed=0, n_rounds=5)
    expected = built_in.evaluate(built_in.fit({}, seed=0, n_rounds=5), (X, Y))["binary_logloss"]
    assert own.evaluate(model, (X, Y)) == {"log_loss": pytest.approx(expected, rel=1e-5)}


def softmax(raw: np.ndarray, rows: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
    chances = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    truth = np.eye(3)[rows.get_label().astype(int)]
    return chances - truth, 1.5 * chances * (1 - chances)


def test_own_objective_of_many_classes_trains_like_the_built_in(make, value):
    pairs = [(np.arange(140), np.arange(140, 200))]
    own = make(DIGITS, objective=softmax, metric=error_of_raw, params={"num_class": 3}, folds=pairs)
    built_in = make(
        DIGITS,
        objective="multiclass",
        metric="multi_error",
        params={"boost_from_average": False},
        folds=pairs,
    )
    assert value(own) == pytest.approx(value(built_in), abs=0.02)


def error_of_raw(raw: np.ndarray, rows: lgb.Dataset) -> tuple[str, float, bool]:
    return "error", float(np.mean(raw.argmax(axis=1) != rows.get_label())), False
