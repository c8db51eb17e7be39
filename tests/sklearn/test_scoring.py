"""Scores that tell models apart: folds on which they do not are refused, as are blind choices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import get_scorer, make_scorer, roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hpolab import (
    InvalidArgument,
    Reporter,
    SearchSpace,
    SklearnObjective,
    fit_by_epochs,
    make_study,
    run,
)
from hpolab.sklearn.scoring import can_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
# The first of three unshuffled folds has the first class alone.
TWO = np.r_[np.zeros(40), RNG.integers(0, 2, 80)].astype(int)
THREE = np.r_[np.zeros(40), RNG.integers(0, 3, 80)].astype(int)
NUMBERS = np.r_[np.full(40, 2.5), RNG.exponential(size=80)]
BLIND: list[tuple[Any, Any, Any]] = [
    *((LogisticRegression(), TWO, m) for m in ("roc_auc", "average_precision", "f1", "recall")),
    *((LogisticRegression(), TWO, m) for m in ("neg_log_loss", "matthews_corrcoef", "jaccard")),
    (LogisticRegression(), TWO, make_scorer(roc_auc_score, response_method="predict_proba")),
    (LogisticRegression(), np.array(["ill", "well"])[1 - TWO], "roc_auc"),
    *((LogisticRegression(), THREE, m) for m in ("roc_auc_ovr", "roc_auc_ovo_weighted")),
    (Ridge(), NUMBERS, "r2"),
    (Ridge(), NUMBERS, None),
    (Ridge(), NUMBERS, "d2_absolute_error_score"),
]
SEEING: list[tuple[Any, Any, Any]] = [
    *((LogisticRegression(), TWO, m) for m in (None, "accuracy", "f1_macro", "neg_brier_score")),
    *((LogisticRegression(), THREE, m) for m in (None, "balanced_accuracy", "f1_weighted")),
    *((Ridge(), NUMBERS, m) for m in ("neg_mean_squared_error", "neg_mean_poisson_deviance")),
]


@pytest.mark.parametrize(("model", "y", "metric"), BLIND)
def test_a_fold_of_which_a_metric_says_nothing_is_refused(model: Any, y: Any, metric: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"`folds` must score rows .* got fold 0, whose 40"):
        SklearnObjective(model, (X, y), folds=KFold(3), metric=metric)


@pytest.mark.parametrize(("model", "y", "metric"), SEEING)
def test_a_fold_of_one_value_is_taken_where_the_metric_tells_models_apart(
    model: Any, y: Any, metric: Any
) -> None:
    SklearnObjective(model, (X, y), folds=KFold(3), metric=metric)


@pytest.mark.parametrize(("model", "y", "metric"), BLIND)
def test_mixed_folds_are_taken_under_each_metric(model: Any, y: Any, metric: Any) -> None:
    SklearnObjective(model, (X, y), folds=KFold(3, shuffle=True, random_state=0), metric=metric)


def test_groups_that_leave_a_fold_without_a_class_are_refused() -> None:
    patients = np.repeat(np.arange(12), 10)
    ill = (patients < 2).astype(int)
    with pytest.raises(InvalidArgument, match=r"got fold ., whose .* targets are all 0"):
        SklearnObjective(
            LogisticRegression(), (X, ill), folds=5, groups=patients, metric="average_precision"
        )
    SklearnObjective(LogisticRegression(), (X, ill), folds=GroupKFold(5), groups=patients)


@pytest.mark.parametrize("metric", [None, "balanced_accuracy", "f1_macro"])
@pytest.mark.parametrize("order", ["in turns", "one after the other"])
def test_no_number_of_rows_is_refused_by_chance(metric: Any, order: str) -> None:
    for n in range(4, 64, 2):
        y = np.arange(n) % 2 if order == "in turns" else np.arange(n) // (n // 2)
        SklearnObjective(LogisticRegression(), (np.c_[y], y), folds=2, metric=metric)


def test_single_rows_have_an_accuracy_and_no_r2() -> None:
    SklearnObjective(LogisticRegression(), (X, TWO), folds=LeaveOneOut())
    SklearnObjective(Ridge(), (X, NUMBERS), folds=LeaveOneOut(), metric="neg_max_error")
    with pytest.raises(InvalidArgument, match=r"got fold 0, whose 1 targets"):
        SklearnObjective(Ridge(), (X, NUMBERS), folds=LeaveOneOut())


@pytest.mark.parametrize(
    ("metric", "expected"), [("neg_log_loss", False), ("roc_auc", True), ("accuracy", True)]
)
def test_a_scorer_is_asked_whether_it_can_do_without_probabilities(
    metric: str, expected: bool
) -> None:
    assert can_score(get_scorer(metric), SGDClassifier(loss="hinge"), TWO) == expected
    assert can_score(get_scorer(metric), make_pipeline(StandardScaler(), SVC()), TWO) == expected
    assert can_score(get_scorer(metric), SGDClassifier(loss="log_loss"), TWO)


def of_probabilities(model: Any, X: Any, y: Any) -> float:
    return float(model.predict_proba(X)[:, 1] @ y)


@pytest.mark.parametrize("metric", ["neg_log_loss", "neg_brier_score", of_probabilities])
def test_the_usual_space_has_no_loss_that_the_metric_cannot_score(metric: Any) -> None:
    mixed = (X, RNG.integers(0, 2, 120))
    model = make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss"))
    objective = SklearnObjective(model, mixed, metric=metric)
    losses = objective.search_space.distributions()["sgdclassifier__loss"]
    assert losses.choices == ("log_loss", "modified_huber")
    assert objective.search_space.defaults()["sgdclassifier__loss"] == "log_loss"
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    run(study, objective, n_trials=6, show_progress_bar=False)
    assert {t.state.name for t in study.trials} <= {"COMPLETE", "PRUNED"}
    every = SklearnObjective(model, mixed, metric="roc_auc").search_space.distributions()
    assert len(every["sgdclassifier__loss"].choices) == 5


def test_a_choice_of_the_user_s_own_that_cannot_be_scored_is_refused_before_a_trial() -> None:
    space = SearchSpace({"probability": [True, False], "C": (0.1, 10.0, "log")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        objective = SklearnObjective(
            SVC(), (X, RNG.integers(0, 2, 120)), metric="neg_log_loss", search_space=space
        )
        with pytest.raises(InvalidArgument, match=r"must leave out probability=False"):
            objective.check()


@pytest.mark.parametrize("metric", ["roc_auc", "f1", "neg_log_loss"])
def test_epochs_are_not_scored_on_rows_of_which_the_metric_says_nothing(metric: str) -> None:
    model, mixed = SGDClassifier(loss="log_loss"), (X[40:], TWO[40:])
    reporter = Reporter(None, direction="maximize")
    with pytest.raises(InvalidArgument, match=r"`valid` must score rows .*, got data, whose 40"):
        fit_by_epochs(
            model, mixed, (X[:40], TWO[:40]), reporter=reporter, n_epochs=2, metric=metric
        )
    fit_by_epochs(model, mixed, mixed, reporter=reporter, n_epochs=2, metric=metric)


def test_a_metric_that_is_the_same_for_every_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"`metric` must tell .* 'top_k_accuracy', which"):
        SklearnObjective(LogisticRegression(), (X, TWO), metric="top_k_accuracy")
    SklearnObjective(LogisticRegression(), (X, THREE), metric="top_k_accuracy", folds=2)


def test_nothing_is_fitted_on_rows_without_weight() -> None:
    folds = [(np.arange(40, 120), np.arange(40)), (np.arange(80), np.arange(80, 120))]
    with pytest.raises(InvalidArgument, match=r"`sample_weight` .* got 0 for all 80 of fold 1"):
        SklearnObjective(
            LogisticRegression(),
            (X, TWO),
            folds=folds,
            sample_weight=np.r_[np.zeros(80), np.ones(40)],
        )
