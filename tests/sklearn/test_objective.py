"""SklearnObjective: what each fidelity reports, prunes, returns and fits, and what is refused."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState
from scipy.sparse import coo_array, csr_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from hpolab import (
    Diverged,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    SklearnObjective,
    load_study,
    make_study,
    run,
)
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Self

    from optuna import Study
    from optuna.trial import FrozenTrial

IRIS = load_iris(return_X_y=True)
DIGITS = tuple(part[:300] for part in load_digits(return_X_y=True))
DIABETES = tuple(part[:150] for part in load_diabetes(return_X_y=True))
CV = StratifiedKFold(4, shuffle=True, random_state=3)
NOTHING = SearchSpace({})
C = SearchSpace({"C": FloatDistribution(1e-4, 1e2, log=True)}, defaults={"C": 1.0})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that spin for each other cost more than models of this size."""
    with threadpool_limits(1):
        yield


def run_trial(objective: SklearnObjective, params: Mapping[str, Any] | None = None) -> FrozenTrial:
    """The trial of given or default params, by the user of Optuna alone."""
    study = plain_study()
    params = objective.search_space.defaults() | (params or {})
    study.enqueue_trial(objective.search_space.to_trial(params))
    study.optimize(objective, n_trials=1)
    return study.trials[0]


def plain_study(**options: Any) -> Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(direction="maximize", sampler=sampler, **options)


def reports(trial: FrozenTrial) -> list[float]:
    return list(trial.intermediate_values.values())


def same(trials: list[FrozenTrial], others: list[FrozenTrial]) -> bool:
    ours, theirs = (
        [
            (t.state, t.params, t.intermediate_values, t.value, t.user_attrs.get(METRICS_KEY))
            for t in each
        ]
        for each in (trials, others)
    )
    return ours == theirs


# What is reported and returned: sklearn's own cross-validation


@pytest.mark.parametrize("metric", [None, "neg_log_loss", "roc_auc_ovr"])
def test_folds_are_those_of_cross_val_score(metric: str | None) -> None:
    model = LogisticRegression(max_iter=1000)
    trial = run_trial(SklearnObjective(model, IRIS, folds=CV, metric=metric), {"C": 0.3})
    expected = cross_val_score(model.set_params(C=0.3), *IRIS, cv=CV, scoring=metric)
    assert trial.intermediate_values == dict(enumerate(expected))
    assert trial.value == expected.mean()
    assert trial.user_attrs[METRICS_KEY] == {"fold_std": expected.std(), "n_folds": 4}


def test_fold_means_are_the_running_mean_of_the_folds() -> None:
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=KFold(4), fidelity="fold_means"))
    scores = cross_val_score(Ridge(), *DIABETES, cv=KFold(4))
    assert reports(trial) == [np.mean(scores[: n + 1]) for n in range(4)]
    assert trial.value == scores.mean()


@pytest.mark.parametrize("model", [MultinomialNB(), make_pipeline(MinMaxScaler(), MultinomialNB())])
@pytest.mark.parametrize("batch_size", [None, 50])
def test_an_epoch_of_counts_is_a_fit_with_each_row_once_more(
    model: Any, batch_size: int | None
) -> None:
    objective = SklearnObjective(
        model,
        DIGITS,
        search_space=NOTHING,
        folds=CV,
        fidelity="epochs",
        max_steps=3,
        batch_size=batch_size,
    )
    key = "sample_weight" if hasattr(model, "alpha") else "multinomialnb__sample_weight"
    trial = run_trial(objective)
    for step, value in trial.intermediate_values.items():
        weights = {key: np.full(len(DIGITS[1]), step + 1)}
        assert value == pytest.approx(cross_val_score(model, *DIGITS, cv=CV, params=weights).mean())
    assert trial.value == max(reports(trial))


GROWING = [
    RandomForestClassifier(random_state=0),
    ExtraTreesClassifier(random_state=0),
    BaggingClassifier(random_state=0),
    GradientBoostingClassifier(random_state=0, subsample=0.5, max_features=0.5),
    HistGradientBoostingClassifier(random_state=0, max_features=0.5),
    make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0)),
    RandomForestClassifier(random_state=0, class_weight="balanced"),
]


def set_trees(model: Any, n: int) -> Any:
    last = model[-1] if isinstance(model, Pipeline) else model
    last.set_params(**{"max_iter" if hasattr(last, "max_iter") else "n_estimators": n})
    return model


def n_trees(model: Any) -> int:
    last = model[-1] if isinstance(model, Pipeline) else model
    return last.n_iter_ if hasattr(last, "n_iter_") else len(last.estimators_)


@pytest.mark.parametrize("model", GROWING, ids=lambda model: type(model).__name__)
def test_growing_trees_are_those_of_a_fit_with_as_many(model: Any) -> None:
    data, folds = (IRIS[0][::2], IRIS[1][::2]), StratifiedKFold(2)
    objective = SklearnObjective(
        set_trees(model, 7),
        data,
        search_space=NOTHING,
        folds=folds,
        metric="neg_log_loss",
        fidelity="trees",
        max_steps=3,
    )
    trial = run_trial(objective)
    counts = [3, 5, 7]
    expected = [
        cross_val_score(set_trees(model, n), *data, cv=folds, scoring="neg_log_loss").mean()
        for n in counts
    ]
    assert reports(trial) == pytest.approx(expected, rel=1e-12)
    best = counts[int(np.argmax(expected))]
    assert trial.value == max(reports(trial))
    assert trial.user_attrs[METRICS_KEY]["n_trees"] == best
    refit = objective.fit({}, seed=0)
    assert n_trees(refit) == best
    assert np.array_equal(
        refit.predict_proba(data[0]), set_trees(model, best).fit(*data).predict_proba(data[0])
    )


class Recorder(ClassifierMixin, BaseEstimator):
    """Knows the rows it was fitted on: inputs hold their numbers."""

    fits: list[list[int]] = []  # noqa: RUF012

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def fit(self, X: Any, y: Any) -> Self:
        self.classes_ = np.unique(y)
        Recorder.fits.append(X[:, 0].tolist())
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])


def fits_of(objective: SklearnObjective) -> list[list[int]]:
    Recorder.fits = []
    run_trial(objective)
    return Recorder.fits


def test_rows_grow_within_each_other_and_end_as_the_whole_fold() -> None:
    labels = np.array([0] * 60 + [1] * 35 + [2] * 5)
    rows = np.arange(100).reshape(-1, 1)
    objective = SklearnObjective(
        Recorder(), (rows, labels), search_space=NOTHING, folds=5, fidelity="rows"
    )
    fits = fits_of(objective)
    assert fits == fits_of(objective)
    for fold in range(5):
        parts = [set(fits[rung * 5 + fold]) for rung in range(3)]
        assert parts[0] < parts[1] < parts[2]
        assert [len(part) for part in parts] == [9, 27, 80]
        assert [[list(labels[list(part)]).count(c) for c in range(3)] for part in parts] == [
            [5, 3, 1],
            [16, 9, 2],
            [48, 28, 4],
        ]


def test_the_last_of_the_rows_is_cross_val_score() -> None:
    model = KNeighborsClassifier()
    objective = SklearnObjective(model, DIGITS, folds=CV, fidelity="rows")
    trial = run_trial(objective)
    assert list(trial.intermediate_values) == [1, 3, 9]
    assert reports(trial)[0] < reports(trial)[-1]
    assert trial.value == reports(trial)[-1] == cross_val_score(model, *DIGITS, cv=CV).mean()
    assert objective.max_steps == 9


def test_the_fractions_of_rows_may_be_those_of_asha() -> None:
    objective = SklearnObjective(
        KNeighborsClassifier(1), DIGITS, folds=4, fidelity="rows", fractions=(1 / 16, 1 / 4, 1)
    )
    assert list(run_trial(objective).intermediate_values) == [1, 4, 16]


# Folds


def test_folds_are_stratified_shuffled_and_the_same_for_each_trial_and_objective() -> None:
    rows = np.arange(90).reshape(-1, 1)
    labels = np.repeat([0, 1, 2], 30)

    def fits(**options: Any) -> list[list[int]]:
        return fits_of(
            SklearnObjective(Recorder(), (rows, labels), search_space=NOTHING, **options)
        )

    assert fits(folds=3) == fits(folds=3) != fits(folds=3, seed=1)
    assert [np.bincount(labels[rows]).tolist() for rows in fits(folds=3)] == [[20] * 3] * 3
    assert fits(folds=3)[0] != sorted(labels[:60])
    unseeded = ShuffleSplit(3, test_size=0.1)
    assert fits(folds=unseeded) == fits(folds=unseeded)
    assert unseeded.random_state is None
    assert fits(folds=RepeatedStratifiedKFold(n_splits=3, n_repeats=2))[5]


def test_regression_folds_are_shuffled() -> None:
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=3))
    assert reports(trial) != cross_val_score(Ridge(), *DIABETES, cv=3).tolist()
    assert len(reports(trial)) == 3


def test_groups_stay_whole() -> None:
    groups = np.repeat(np.arange(30), 5)
    rows = np.arange(150).reshape(-1, 1)
    for folds in (5, GroupKFold(5), LeaveOneGroupOut()):
        objective = SklearnObjective(
            Recorder(), (rows, IRIS[1]), search_space=NOTHING, folds=folds, groups=groups.tolist()
        )
        for fit in fits_of(objective):
            assert len(fit) == 5 * len(set(groups[fit]))
    regression = SklearnObjective(Ridge(), DIABETES, folds=3, groups=groups)
    expected = cross_val_score(Ridge(), *DIABETES, cv=GroupKFold(3), groups=groups)
    assert reports(run_trial(regression)) == expected.tolist()


def test_time_goes_on() -> None:
    splitter = TimeSeriesSplit(4)
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=splitter))
    assert reports(trial) == cross_val_score(Ridge(), *DIABETES, cv=splitter).tolist()


def test_folds_may_be_pairs_of_indices_or_masks() -> None:
    pairs = list(KFold(3).split(DIABETES[0]))
    masks = [tuple(np.isin(np.arange(150), part) for part in pair) for pair in pairs]
    values = {run_trial(SklearnObjective(Ridge(), DIABETES, folds=f)).value for f in (pairs, masks)}
    assert values == {cross_val_score(Ridge(), *DIABETES, cv=KFold(3)).mean()}
    assert run_trial(SklearnObjective(Ridge(), DIABETES, folds=iter(pairs))).value in values


# Data


@pytest.mark.parametrize("fidelity", ["folds", "epochs", "rows"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda X, y: (X.tolist(), y.tolist()),
        lambda X, y: (pd.DataFrame(X), pd.Series(y, index=range(5, 5 + len(y)))),
        lambda X, y: (pl.DataFrame(X), pl.Series(y)),
        lambda X, y: (csr_array(X), y),
        lambda X, y: (coo_array(X), y),
    ],
    ids=["list", "pandas", "polars", "csr", "coo"],
)
def test_data_of_every_form_give_what_arrays_give(convert: Any, fidelity: str) -> None:
    options: dict[str, Any] = {"search_space": NOTHING, "folds": 3, "fidelity": fidelity}
    if fidelity == "epochs":
        options["max_steps"] = 2
    data = (IRIS[0][::2], IRIS[1][::2])
    values = [
        run_trial(SklearnObjective(MultinomialNB(), train, **options)).value
        for train in (data, convert(*data))
    ]
    assert values[0] == values[1]


def test_labels_may_be_strings() -> None:
    labels = np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]
    for fidelity in ("folds", "epochs", "rows"):
        options: dict[str, Any] = {"search_space": NOTHING, "folds": CV, "fidelity": fidelity}
        ours, theirs = (
            run_trial(SklearnObjective(MultinomialNB(), (IRIS[0], y), **options)).value
            for y in (labels, IRIS[1])
        )
        assert ours == theirs


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_targets_may_be_a_column() -> None:
    model = KNeighborsClassifier()
    column = (IRIS[0], IRIS[1].reshape(-1, 1))
    for fidelity in ("folds", "rows"):
        ours, theirs = (
            run_trial(SklearnObjective(model, data, folds=CV, fidelity=fidelity)).value
            for data in (column, IRIS)
        )
        assert ours == theirs


def test_targets_may_have_several_columns() -> None:
    targets = np.column_stack([DIABETES[1], DIABETES[0][:, 0]])
    objective = SklearnObjective(Ridge(), (DIABETES[0], targets), folds=KFold(3))
    expected = cross_val_score(Ridge(), DIABETES[0], targets, cv=KFold(3))
    assert reports(run_trial(objective)) == expected.tolist()


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Ridge(), "sample_weight"),
        (make_pipeline(StandardScaler(), Ridge()), "ridge__sample_weight"),
    ],
)
def test_weights_reach_the_fit(model: Any, key: str) -> None:
    weights = np.random.default_rng(0).uniform(0, 2, len(DIABETES[1]))
    trial = run_trial(SklearnObjective(model, DIABETES, folds=KFold(3), sample_weight=weights))
    expected = cross_val_score(model, *DIABETES, cv=KFold(3), params={key: weights})
    assert reports(trial) == expected.tolist()
    assert reports(trial) != cross_val_score(model, *DIABETES, cv=KFold(3)).tolist()


@pytest.mark.parametrize(
    "model", [SGDClassifier(), make_pipeline(StandardScaler(), SGDClassifier())]
)
def test_weights_reach_each_epoch(model: Any) -> None:
    labels = (IRIS[1] == 2).astype(int)
    options: dict[str, Any] = {"search_space": NOTHING, "fidelity": "epochs", "max_steps": 2}
    objective = SklearnObjective(
        model, (IRIS[0], labels), metric="recall", sample_weight=labels, **options
    )
    assert run_trial(objective).value == 1.0  # who weighs one class alone knows no other


# Pruning and stopping


def test_wilcoxon_prunes_a_configuration_that_is_worse_on_each_fold() -> None:
    study = plain_study(pruner=WilcoxonPruner())
    objective = SklearnObjective(SVC(), DIGITS, folds=10)
    study.enqueue_trial({"C": 1.0, "gamma": "scale"})
    study.enqueue_trial({"C": 1.0, "gamma": 8.0})
    study.enqueue_trial({"C": 2.0, "gamma": "scale"})
    study.optimize(objective, n_trials=3)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[1].intermediate_values) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pruner", "options", "last"),
    [
        (MedianPruner(n_startup_trials=1), {"fidelity": "fold_means"}, 1),
        (SuccessiveHalvingPruner(reduction_factor=3), {"fidelity": "rows"}, 1),
        (HyperbandPruner(max_resource=9, reduction_factor=3), {"fidelity": "rows"}, 1),
        (MedianPruner(n_startup_trials=1), {"fidelity": "trees", "max_steps": 3}, 1),
        (MedianPruner(n_startup_trials=1), {"fidelity": "epochs", "max_steps": 3}, 1),
    ],
)
def test_other_pruners_prune_by_the_other_fidelities(
    pruner: Any, options: dict[str, Any], last: int
) -> None:
    model: Any = RandomForestClassifier(9, max_depth=5)
    good, bad = {"min_impurity_decrease": 0.0}, {"min_impurity_decrease": 1.0}
    name = "min_impurity_decrease"
    if options["fidelity"] == "epochs":
        model, name = MultinomialNB(), "alpha"
        good, bad = {"alpha": 1.0}, {"alpha": 1e9}
    space = SearchSpace({name: [good[name], bad[name]]})
    study = plain_study(pruner=pruner, study_name="s")  # hyperband's brackets are drawn from it
    for params in (good, good, bad, bad, bad, bad):
        study.enqueue_trial(params)
    study.optimize(SklearnObjective(model, DIGITS, search_space=space, folds=3, **options), 6)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert any(t.params == bad for t in pruned)
    assert all(max(t.intermediate_values) <= last for t in pruned if t.params == bad)


def test_patience_ends_the_epochs_and_keeps_the_best() -> None:
    objective = SklearnObjective(
        MLPClassifier(learning_rate_init=0.1, random_state=0),
        IRIS,
        search_space=NOTHING,
        folds=CV,
        fidelity="epochs",
        max_steps=100,
        patience=2,
    )
    trial = run_trial(objective)
    values = reports(trial)
    assert len(values) < 100
    assert int(np.argmax(values)) == len(values) - 3
    assert trial.user_attrs[METRICS_KEY]["n_epochs"] == len(values) - 2
    assert objective.fit({}, seed=0).t_ == 150 * (len(values) - 2)


def test_time_limit_ends_a_trial_with_what_it_has() -> None:
    objective = SklearnObjective(Ridge(), DIABETES, folds=KFold(4), timeout_seconds=1e-9)
    trial = run_trial(objective)
    first = cross_val_score(Ridge(), *DIABETES, cv=KFold(4))[0]
    assert reports(trial) == [trial.value] == [first]
    assert trial.user_attrs[METRICS_KEY]["n_folds"] == 1
    rows = SklearnObjective(Ridge(), DIABETES, fidelity="rows", timeout_seconds=1e-9)
    assert run_trial(rows).user_attrs[METRICS_KEY]["fraction"] == pytest.approx(1 / 9)


def test_fits_that_do_not_converge_are_counted_without_a_warning() -> None:
    model = MLPClassifier(max_iter=2)
    objective = SklearnObjective(model, IRIS, folds=3, search_space=NOTHING)
    assert run_trial(objective).user_attrs[METRICS_KEY]["n_unconverged"] == 3
    study = plain_study(pruner=ThresholdPruner(lower=2.0))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs[METRICS_KEY] == {"n_unconverged": 1}


def test_trials_in_threads_leave_the_warnings_of_the_process_as_they_were() -> None:
    def slow(model: Any, X: Any, y: Any) -> float:
        time.sleep(0.02)
        return 0.0

    show, filters = warnings.showwarning, list(warnings.filters)
    objective = SklearnObjective(Unconverged(), IRIS, folds=3, search_space=NOTHING, metric=slow)
    study = plain_study()
    study.optimize(objective, n_trials=6, n_jobs=3)
    assert (warnings.showwarning, list(warnings.filters)) == (show, filters)
    assert [t.user_attrs[METRICS_KEY]["n_unconverged"] for t in study.trials] == [3] * 6


class Unconverged(Recorder):
    def fit(self, X: Any, y: Any) -> Self:
        time.sleep(0.01)
        warnings.warn("not there yet", ConvergenceWarning, stacklevel=1)
        return super().fit(X, y)


class Warner(Recorder):
    def fit(self, X: Any, y: Any) -> Self:
        warnings.warn("look out", UserWarning, stacklevel=1)
        return super().fit(X, y)


def test_other_warnings_are_shown() -> None:
    with pytest.warns(UserWarning, match="look out"):
        run_trial(SklearnObjective(Warner(), IRIS, search_space=NOTHING))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (MLPRegressor(solver="sgd", learning_rate_init=1e300), {}),
        (SGDRegressor(eta0=1e150, learning_rate="constant"), {"fidelity": "epochs"}),
        (SGDRegressor(eta0=1e150, learning_rate="constant"), {"fidelity": "rows"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_a_fit_that_diverges_prunes_and_marks_the_trial(model: Any, options: Any) -> None:
    data = (DIABETES[0] * 1e3, DIABETES[1])
    objective = SklearnObjective(model, data, search_space=NOTHING, **options)
    trial = run_trial(objective)
    assert trial.state == TrialState.PRUNED
    assert re.match("diverged: (nan|-inf) at step [01]", trial.user_attrs[REASON_KEY])
    assert max(trial.constraints.values()) > 0
    if options.get("fidelity") != "rows":  # there nothing is scored, and nothing noticed
        with pytest.raises(Diverged):
            objective.fit({}, seed=0)


def test_an_error_of_the_estimator_fails_the_trial() -> None:
    class Broken(Recorder):
        def fit(self, X: Any, y: Any) -> Self:
            raise RuntimeError("no fit today")

    objective = SklearnObjective(Broken(), IRIS, search_space=NOTHING)
    with pytest.raises(RuntimeError, match="no fit today"):
        run_trial(objective)
    holed = SklearnObjective(Ridge(), (np.full((9, 2), np.nan), np.arange(9.0)), folds=3)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        run_trial(holed)


# Seeds, copies, refits


def seeds(model: Any) -> set[Any]:
    return {v for k, v in model.get_params().items() if k.endswith("random_state")}


def test_every_random_state_that_is_none_is_seeded() -> None:
    model = make_pipeline(StandardScaler(), BaggingClassifier(DecisionTreeClassifier(), 2))
    objective = SklearnObjective(model, IRIS, search_space=NOTHING)
    assert seeds(objective.fit({}, seed=7)) == {7}
    assert seeds(model) == {None}
    kept = SklearnObjective(DecisionTreeClassifier(random_state=3), IRIS, search_space=NOTHING)
    assert seeds(kept.fit({}, seed=7)) == {3}


@pytest.mark.parametrize(
    ("model", "fidelity"),
    [
        (SGDClassifier(), "folds"),
        (SGDClassifier(), "epochs"),
        (RandomForestClassifier(10, max_depth=2), "trees"),
        (SGDClassifier(), "rows"),
    ],
)
def test_the_seed_decides_a_training_and_nothing_else_does(model: Any, fidelity: str) -> None:
    steps = {"max_steps": 3} if fidelity in ("epochs", "trees") else {}
    objective = SklearnObjective(model, IRIS, folds=3, fidelity=fidelity, **steps)
    params = objective.search_space.defaults()
    state = np.random.get_state()[1].copy()

    def probe(seed: int) -> tuple[float, list[int]]:
        value = objective.train(params, objective.reporter(seed=seed))
        return value, objective.fit(params, seed=seed).predict(IRIS[0]).tolist()

    assert probe(1) == probe(1) != probe(2)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_estimator_given_is_left_as_it_is() -> None:
    model = LogisticRegression(C=5.0, n_jobs=None)
    objective = SklearnObjective(model, IRIS, search_space=C)
    model.set_params(C=1e-9)
    assert objective.fit({"C": 2.0}, seed=0).C == 2.0
    assert not hasattr(model, "coef_")
    assert model.C == 1e-9
    assert SklearnObjective(RandomForestClassifier(5, n_jobs=2), IRIS).fit({}, seed=0).n_jobs == 2


def test_a_fitted_model_is_evaluated_under_the_name_of_its_metric() -> None:
    def hits(model: Any, X: Any, y: Any) -> float:
        return float((model.predict(X) == y).sum())

    for metric, name, scale in [
        ("accuracy", "accuracy", 1),
        (None, "score", 1),
        (hits, "hits", 150),
    ]:
        objective = SklearnObjective(SVC(), IRIS, metric=metric)
        model = objective.fit({"C": 1.0, "gamma": "scale"}, seed=0)
        assert objective.evaluate(model, IRIS) == {name: model.score(*IRIS) * scale}
    with pytest.raises(InvalidArgument, match="`data` inputs and targets"):
        objective.evaluate(model, (IRIS[0], IRIS[1][:5]))
    with pytest.raises(InvalidArgument, match="`seed` must be 0 or above"):
        objective.fit({"C": 1.0}, seed=-1)


def test_pipeline_with_memory_is_trained_by_epochs(tmp_path: Path) -> None:
    steps = [("scale", StandardScaler()), ("model", SGDClassifier(random_state=0))]
    plain, cached = (
        SklearnObjective(Pipeline(steps, memory=memory), IRIS, fidelity="epochs", max_steps=2)
        for memory in (None, str(tmp_path))
    )
    assert run_trial(plain).value == run_trial(cached).value
    assert list(plain.search_space.defaults()) == ["model__loss", "model__penalty", "model__alpha"]


def test_a_pipeline_within_a_pipeline_is_trained_by_epochs() -> None:
    flat, nested = (
        SklearnObjective(
            make_pipeline(StandardScaler(), last),
            IRIS,
            search_space=NOTHING,
            fidelity="epochs",
            max_steps=3,
        )
        for last in (SGDClassifier(), make_pipeline(StandardScaler(), SGDClassifier()))
    )
    assert run_trial(flat).value == pytest.approx(run_trial(nested).value)


def test_conditional_parameters_reach_the_estimator() -> None:
    space = SearchSpace.choice(
        "svc__kernel",
        {"rbf": {"svc__gamma": (1e-3, 1.0, "log")}, "linear": {"svc__C": 2.0}},
    )
    objective = SklearnObjective(make_pipeline(StandardScaler(), SVC()), IRIS, search_space=space)
    study = plain_study()
    study.optimize(objective, n_trials=6)
    assert {t.params["svc__kernel"] for t in study.trials} == {"rbf", "linear"}


# In a study


class Interrupted(RandomForestClassifier):
    """A forest that never converges, whose user presses Ctrl-C in its nth fit."""

    n_fits, interrupt_at = 0, -1

    def fit(self, X: Any, y: Any, **options: Any) -> Self:
        Interrupted.n_fits += 1
        if Interrupted.n_fits == Interrupted.interrupt_at:
            raise KeyboardInterrupt
        warnings.warn("not there yet", ConvergenceWarning, stacklevel=1)
        return super().fit(X, y, **options)


@pytest.mark.parametrize(
    ("fidelity", "options"),
    [("folds", {}), ("rows", {}), ("trees", {"max_steps": 3})],
)
def test_stopped_study_ends_as_the_uninterrupted_one(
    tmp_path: Path, fidelity: str, options: dict[str, Any]
) -> None:
    def objective() -> SklearnObjective:
        model = Interrupted(3)
        return SklearnObjective(
            model, IRIS, folds=3, fidelity=fidelity, checkpoint_seconds=0, **options
        )

    Interrupted.n_fits, Interrupted.interrupt_at = 0, -1
    whole = make_study("s", storage="memory://", sampler="tpe", direction="maximize", seed=1)
    run(whole, objective(), n_trials=3, show_progress_bar=False)
    n_fits = Interrupted.n_fits
    Interrupted.n_fits, Interrupted.interrupt_at = 0, n_fits // 2 + 1
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, sampler="tpe", direction="maximize", seed=1)
    with pytest.raises(KeyboardInterrupt):
        run(study, objective(), n_trials=3, show_progress_bar=False)
    resumed = load_study("s", storage=url)
    assert any(not t.state.is_finished() for t in resumed.trials)
    run(resumed, objective(), n_trials=3, show_progress_bar=False)
    assert same(whole.trials, resumed.trials)
    if fidelity != "trees":  # no finished fold is fitted again, of rows no finished part
        assert Interrupted.n_fits <= n_fits + (3 if fidelity == "rows" else 1)


@pytest.mark.usefixtures("warm_workers")
def test_workers_share_a_study(tmp_path: Path) -> None:
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", direction="maximize", seed=0)
    objective = SklearnObjective(make_pipeline(StandardScaler(), SVC()), IRIS, folds=3)
    run(study, objective, n_trials=4, n_workers=2, show_progress_bar=False)
    assert sum(t.state.is_finished() for t in study.trials) == 4
    assert study.trials[0].params == {"svc__C": 1.0, "svc__gamma": "scale"}
    expected = run_trial(objective)
    assert study.trials[0].value == expected.value


def test_hyperband_is_told_the_last_step() -> None:
    study = make_study(
        "s", storage="memory://", pruner="hyperband", direction="maximize", seed=0, sampler="random"
    )
    objective = SklearnObjective(KNeighborsClassifier(), DIGITS, folds=2, fidelity="rows")
    run(study, objective, n_trials=8, show_progress_bar=False)
    assert all(set(t.intermediate_values) <= {1, 3, 9} for t in study.trials)


# What is refused before a trial

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train": (IRIS[0], IRIS[1][:9])}, r"`train` inputs .* one length, got 150 and 9"),
    ({"train": (IRIS[0][:0], IRIS[1][:0])}, r"`train` must hold at least one row"),
    (
        {"estimator": Ridge(), "train": (IRIS[0][:3], [1.0, math.nan, 2.0])},
        r"`train` targets must be finite, got 1 NaN",
    ),
    (
        {"train": (IRIS[0][:4], np.array(["a", None, "b", None], dtype=object))},
        r"`train` targets must not be missing, got 2",
    ),
    (
        {"train": (IRIS[0][:3], pd.Series(["a", pd.NA, "b"], dtype="string"))},
        r"`train` targets must not be missing, got 1",
    ),
    ({"train": (IRIS[0][:50], IRIS[1][:50])}, r"targets must take at least two values, got only 0"),
    ({"train": (IRIS[0], IRIS[0][:, 0])}, r"targets must be labels for a classifier, .* regressor"),
    (
        {"train": (IRIS[0][:53], IRIS[1][:53])},
        r"`train` must hold each class at least as often as .* folds, 5, got 1 3 times",
    ),
    ({"folds": TimeSeriesSplit(3)}, r"`folds` must fit every class .* fold 0 without"),
    ({"folds": 1}, r"`folds` must be 2 or above and at most the 150 rows, got 1"),
    ({"folds": 0}, r"`folds` must be 1 or above, got 0"),
    ({"folds": []}, r"`folds` must hold at least one pair"),
    ({"folds": [([0, 1], [1, 2])]}, r"`folds` must keep .* apart, got 1 rows .* such as row 1"),
    ({"folds": [([0, 150], [1])]}, r"`folds` must hold rows of 0 \.\. 149, got 0 \.\. 150"),
    ({"folds": [([0.5], [1])]}, r"`folds` must hold row indices, .* float64"),
    ({"folds": GroupKFold(3)}, r"`folds` must be able to split the 150 rows, got GroupKFold"),
    ({"folds": 9, "groups": np.arange(150) % 3}, r"`folds` must be at most .* groups, 3, got 9"),
    ({"groups": [1, 2]}, r"`groups` must have one value for each of the 150 rows"),
    ({"sample_weight": [1.0]}, r"`sample_weight` must have one value for each of the 150 rows"),
    ({"sample_weight": np.full(150, -1.0)}, r"`sample_weight` must be finite, 0 or above"),
    (
        {"estimator": KNeighborsClassifier(), "sample_weight": np.ones(150)},
        r"`sample_weight` must be None .* KNeighborsClassifier",
    ),
    ({"metric": "acuracy"}, r"`metric` .* got 'acuracy'\. Did you mean 'accuracy'\?"),
    ({"fidelity": "epoch"}, r"`fidelity` .* got 'epoch'\. Did you mean 'epochs'\?"),
    ({"search_space": SearchSpace({"c": 1.0})}, r"`search_space` .* got 'c'\."),
    ({"search_space": SearchSpace({"max_itr": 9})}, r"got 'max_itr'\. Did you mean 'max_iter'"),
    (
        {"estimator": make_pipeline(StandardScaler(), SVC()), "search_space": C},
        r"parameters of Pipeline, got 'C'\. Did you mean 'svc__C'\?",
    ),
    (
        {"search_space": SearchSpace.choice("C", {"a": SearchSpace({"gama": (0.0, 1.0)})})},
        r"got 'gama'",
    ),
    ({"estimator": Recorder()}, r"`estimator` must be one of LogisticRegression, .* got Recorder"),
    ({"seed": -1}, r"`seed` must be 0 or above, got -1"),
    ({"patience": 2}, r"`patience` must be None under fidelity='folds'"),
    ({"max_steps": 2, "fidelity": "rows"}, r"`max_steps` must be None under fidelity='rows'"),
    ({"batch_size": 5, "fidelity": "trees"}, r"`batch_size` must be None under fidelity='trees'"),
    ({"fractions": (0.5, 1), "fidelity": "epochs"}, r"`fractions` must be None under"),
    ({"fractions": (0.5, 0.9), "fidelity": "rows"}, r"`fractions` must be above 0 and end with 1"),
    ({"fractions": (0.5, 0.6, 1), "fidelity": "rows"}, r"`fractions` must grow"),
    ({"fractions": (0.01, 1), "fidelity": "rows"}, r"`fractions` must leave at least 3 rows"),
    ({"fidelity": "epochs"}, r"`fidelity` must not be 'epochs' .* got SVC"),
    ({"fidelity": "trees"}, r"`fidelity` must not be 'trees' .* got SVC"),
    (
        {"fidelity": "trees", "estimator": AdaBoostClassifier(), "search_space": NOTHING},
        r"`fidelity` must not be 'trees' .* got AdaBoostClassifier",
    ),
    (
        {"fidelity": "trees", "estimator": RandomForestClassifier(5)},
        r"`max_steps` must be at most the 5 trees",
    ),
    (
        {
            "fidelity": "trees",
            "estimator": GradientBoostingClassifier(),
            "search_space": SearchSpace({"n_estimators": (1, 9)}),
        },
        r"`search_space` must not tune 'n_estimators'",
    ),
    (
        {"fidelity": "trees", "estimator": GradientBoostingClassifier(n_iter_no_change=3)},
        r"`estimator` must not stop early itself .* n_iter_no_change=3",
    ),
    (
        {"fidelity": "trees", "estimator": HistGradientBoostingClassifier(early_stopping=True)},
        r"`estimator` must not stop early itself .* early_stopping=True",
    ),
    (
        {"fidelity": "epochs", "estimator": SGDClassifier(), "max_steps": 0},
        r"`max_steps` must be 1 or above, got 0",
    ),
    (
        {
            "fidelity": "epochs",
            "estimator": OneVsRestClassifier(SGDClassifier()),
            "search_space": NOTHING,
            "sample_weight": np.ones(150),
        },
        r"`sample_weight` must be None .* `partial_fit` takes none",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SklearnObjective(**{"estimator": SVC(), "train": IRIS, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": SVC}, r"`estimator` must be an estimator, got the class SVC: take SVC\(\)"),
        ({"estimator": object()}, r"`estimator` must be a scikit-learn estimator, .* no `fit`"),
        ({"train": IRIS[0]}, r"`y` must be given where `train` is not a pair \(X, y\), got None"),
        ({"folds": "five"}, r"`folds` must be an int, a splitter .* got str"),
        ({"folds": 2.5}, r"`folds` must be an int, a splitter .* got float"),
        ({"folds": [1, 2]}, r"`folds` must hold \(train, valid\) pairs .* got int"),
        ({"sample_weight": ["a"] * 150}, r"`sample_weight` must hold numbers"),
        ({"metric": ["accuracy"]}, r"`metric` must be .* got list"),
        ({"search_space": ["C"]}, r"`search_space` must be a SearchSpace or a dict .* got list"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidType, match=message):
        SklearnObjective(**{"estimator": SVC(), "train": IRIS, **options})


def test_a_missing_package_is_named_with_its_extra() -> None:
    code = (
        "import sys\nsys.modules['sklearn'] = None\n"
        "try:\n    from hpolab import SklearnObjective\n"
        "except ImportError as error:\n    print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("`SklearnObjective` needs scikit-learn")
    assert "hpolab[sklearn]" in shown.stdout


def test_regression_forest_grows_too() -> None:
    objective = SklearnObjective(
        RandomForestRegressor(6), DIABETES, folds=2, fidelity="trees", max_steps=2
    )
    assert objective.search_space.defaults().keys() >= {"max_features", "min_samples_leaf"}
    assert len(reports(run_trial(objective))) == 2


def test_the_usual_space_of_growing_trees_holds_their_number_fixed() -> None:
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=40))
    objective = SklearnObjective(model, IRIS, fidelity="trees")
    name = "histgradientboostingclassifier__max_iter"
    assert objective.search_space.defaults()[name] == 40
    assert name not in objective.search_space.distributions()
