"""The rehearsal: what cannot be fitted or scored is refused before a trial is spent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import check_array

from hpolab import InvalidArgument, SearchSpace, SklearnObjective, make_study, run
from hpolab.trial.reporter import REASON_KEY

RNG = np.random.default_rng(0)
X = RNG.normal(size=(900, 3))
Y = (X[:, 0] > 0).astype(int)
NOTHING = SearchSpace({})
HOLED = X.copy()
HOLED[700, 1] = np.nan  # one row of many


class Checked(TransformerMixin, BaseEstimator):
    """Its error of missing values is the one that metrics have of predictions."""

    def fit(self, X: Any, y: Any = None) -> Any:
        check_array(X)
        return self

    def transform(self, X: Any) -> Any:
        return check_array(X)


def check(estimator: Any, train: Any, **options: Any) -> None:
    study = make_study("s", storage="memory://", direction="maximize")
    objective = SklearnObjective(estimator, train, **options)
    try:
        run(study, objective, n_trials=1, show_progress_bar=False)
    finally:
        assert len(study.trials) == 0 or study.trials[0].state.name == "COMPLETE"


@pytest.mark.parametrize("estimator", [LinearSVC(), make_pipeline(Checked(), LinearSVC())])
@pytest.mark.parametrize(
    "holed",
    [
        HOLED,
        np.where(np.isnan(HOLED), np.inf, HOLED),
        HOLED.tolist(),
        csr_matrix(HOLED),
        pd.DataFrame(HOLED, columns=list("abc")),
        pl.DataFrame(HOLED, schema=list("abc")),
    ],
)
def test_one_row_with_a_gap_is_refused_and_named(estimator: Any, holed: Any) -> None:
    if hasattr(holed, "tocsr") and hasattr(estimator, "steps"):
        pytest.skip("Its check takes no sparse matrices.")
    with pytest.raises(InvalidArgument, match=r"`train` must hold .* infinite ones in 1 rows"):
        check(estimator, (holed, Y))


@pytest.mark.parametrize(
    "estimator",
    [make_pipeline(SimpleImputer(), LogisticRegression()), HistGradientBoostingClassifier()],
)
def test_gaps_that_an_estimator_takes_are_no_matter(estimator: Any) -> None:
    check(estimator, (HOLED[600:], Y[600:]), folds=2)


@pytest.mark.parametrize("metric", ["f1", "average_precision", "recall"])
def test_a_metric_of_other_labels_is_refused(metric: str) -> None:
    with pytest.raises(InvalidArgument, match=f"`metric` must score .* got '{metric}', .*pos_lab"):
        check(LogisticRegression(), (X, np.array(["no", "yes"])[Y]), metric=metric)


def test_a_metric_of_probabilities_is_refused_for_an_estimator_without() -> None:
    with pytest.raises(InvalidArgument, match=r"`metric` .* 'neg_log_loss', .*predict_proba"):
        check(SVC(), (X, Y), metric="neg_log_loss")


def test_a_function_that_has_no_score_for_a_fold_is_refused() -> None:
    def auc(model: Any, X: Any, y: Any) -> float:
        return float(roc_auc_score(y, model.decision_function(X)))

    one_class_first = np.argsort(Y, kind="stable")
    train = (X[one_class_first], Y[one_class_first])
    folds = [(np.arange(0, 900, 2), np.arange(1, 900, 2)), (np.arange(300, 900), np.arange(300))]
    with pytest.raises(InvalidArgument, match=r"`metric` must score .* 'auc', .* nan for fold 1"):
        check(LogisticRegression(), train, folds=folds, metric=auc)


def test_predictions_that_are_all_alike_are_no_fault_of_the_metric() -> None:
    def correlation(model: Any, X: Any, y: Any) -> float:
        predictions = model.predict(X)
        varied = predictions.std() > 0
        return float(np.corrcoef(predictions, y)[0, 1]) if varied else math.nan

    objective = SklearnObjective(Lasso(alpha=100.0), (X, X[:, 0]), metric=correlation)
    objective.check()


def test_a_few_rows_that_do_not_suffice_give_way_to_the_whole_fold() -> None:
    kinds = np.array([f"kind {i}" for i in range(900)])[:, None]  # each occurs in one row
    with pytest.raises(InvalidArgument, match=r"`estimator` .*unknown categories"):
        check(make_pipeline(OneHotEncoder(), LogisticRegression()), (kinds, Y))
    common = np.repeat([f"kind {i}" for i in range(300)], 3)[:, None]
    check(
        make_pipeline(OneHotEncoder(), LogisticRegression()),
        (common, Y),
        folds=[(np.r_[0:900:3, 1:900:3], np.arange(2, 900, 3))],
    )
    many = KNeighborsClassifier(500)
    check(many, (X, Y), search_space={"weights": ["uniform", "distance"]})


def test_each_class_is_rehearsed_however_rare() -> None:
    class Rare(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Any:
            self.classes_ = np.unique(y)
            if len(self.classes_) > 2:
                raise RuntimeError("two classes, please")
            return self

        def predict(self, X: Any) -> Any:
            return np.full(len(X), self.classes_[0])

    rare = Y.copy()
    rare[RNG.choice(900, 6, replace=False)] = 2
    with pytest.raises(InvalidArgument, match=r"`estimator` must train .* two classes, please"):
        check(Rare(), (X, rare), folds=KFold(2), search_space=NOTHING)


def test_predictions_that_diverge_on_rows_with_gaps_prune_the_trial() -> None:
    class Exploding(HistGradientBoostingClassifier):
        def predict_proba(self, X: Any) -> Any:
            return super().predict_proba(X) * np.nan

        def decision_function(self, X: Any) -> Any:
            return super().decision_function(X) * np.nan

    objective = SklearnObjective(
        Exploding(max_iter=2), (HOLED, Y), metric="roc_auc", folds=2, search_space=NOTHING
    )
    study = make_study("s", storage="memory://", direction="maximize")
    run(study, objective, n_trials=1, show_progress_bar=False)
    assert study.trials[0].state.name == "PRUNED"
    assert study.trials[0].user_attrs[REASON_KEY] == "diverged: nan at step 0"


def test_a_default_that_cannot_predict_is_the_estimator_s() -> None:
    space = {"n_neighbors": (500, 900)}
    with pytest.raises(InvalidArgument, match=r"`estimator` .* n_neighbors .*`search_space`"):
        check(KNeighborsClassifier(), (X[:100], Y[:100]), search_space=space)
