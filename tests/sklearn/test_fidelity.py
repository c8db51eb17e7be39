"""Fidelities: what each reports, returns, fits, and how pruners and patience end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from hpolab import InvalidArgument, SearchSpace, SklearnObjective, make_study, run
from hpolab.studies.trials import METRICS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial


IRIS = load_iris(return_X_y=True)
DIGITS = tuple(part[:300] for part in load_digits(return_X_y=True))
DIABETES = tuple(part[:150] for part in load_diabetes(return_X_y=True))
CV = StratifiedKFold(4, shuffle=True, random_state=3)
NOTHING = SearchSpace({})


@pytest.mark.parametrize("metric", [None, "neg_log_loss", "roc_auc_ovr"])
def test_folds_are_those_of_cross_val_score(
    run_trial: Callable[..., FrozenTrial], metric: str | None
) -> None:
    model = LogisticRegression(max_iter=1000)
    trial = run_trial(SklearnObjective(model, IRIS, folds=CV, metric=metric), {"C": 0.3})
    expected = cross_val_score(model.set_params(C=0.3), *IRIS, cv=CV, scoring=metric)
    assert trial.intermediate_values == dict(enumerate(expected))
    assert trial.value == expected.mean()
    assert trial.user_attrs[METRICS_KEY] == {"fold_std": expected.std(), "n_folds": 4}


def test_fold_means_are_the_running_mean_of_the_folds(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=KFold(4), fidelity="fold_means"))
    scores = cross_val_score(Ridge(), *DIABETES, cv=KFold(4))
    assert reports(trial) == [np.mean(scores[: n + 1]) for n in range(4)]
    assert trial.value == scores.mean()


@pytest.mark.parametrize("model", [MultinomialNB(), make_pipeline(MinMaxScaler(), MultinomialNB())])
@pytest.mark.parametrize("batch_size", [None, 50])
def test_an_epoch_of_counts_is_a_fit_with_each_row_once_more(
    run_trial: Callable[..., FrozenTrial],
    reports: Callable[[FrozenTrial], list[float]],
    model: Any,
    batch_size: int | None,
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
def test_growing_trees_are_those_of_a_fit_with_as_many(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]], model: Any
) -> None:
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


def test_the_last_of_the_rows_is_cross_val_score(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    model = KNeighborsClassifier()
    objective = SklearnObjective(model, DIGITS, folds=CV, fidelity="rows")
    trial = run_trial(objective)
    assert list(trial.intermediate_values) == [1, 3, 9]
    assert reports(trial)[0] < reports(trial)[-1]
    assert trial.value == reports(trial)[-1] == cross_val_score(model, *DIGITS, cv=CV).mean()
    assert objective.max_steps == 9


def test_the_fractions_of_rows_may_be_those_of_asha(run_trial: Callable[..., FrozenTrial]) -> None:
    objective = SklearnObjective(
        KNeighborsClassifier(1), DIGITS, folds=4, fidelity="rows", fractions=(1 / 16, 1 / 4, 1)
    )
    assert list(run_trial(objective).intermediate_values) == [1, 4, 16]


@pytest.mark.parametrize(
    "model", [SGDClassifier(), make_pipeline(StandardScaler(), SGDClassifier())]
)
def test_weights_reach_each_epoch(run_trial: Callable[..., FrozenTrial], model: Any) -> None:
    labels = (IRIS[1] == 2).astype(int)
    options: dict[str, Any] = {"search_space": NOTHING, "fidelity": "epochs", "max_steps": 2}
    objective = SklearnObjective(
        model, (IRIS[0], labels), metric="recall", sample_weight=labels, **options
    )
    assert run_trial(objective).value == 1.0  # who weighs one class alone knows no other


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
    plain_study: Callable[..., Study], pruner: Any, options: dict[str, Any], last: int
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


def test_patience_ends_the_epochs_and_keeps_the_best(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
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


def test_time_limit_ends_a_trial_with_what_it_has(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    objective = SklearnObjective(Ridge(), DIABETES, folds=KFold(4), timeout_seconds=1e-9)
    trial = run_trial(objective)
    first = cross_val_score(Ridge(), *DIABETES, cv=KFold(4))[0]
    assert reports(trial) == [trial.value] == [first]
    assert trial.user_attrs[METRICS_KEY]["n_folds"] == 1
    rows = SklearnObjective(Ridge(), DIABETES, fidelity="rows", timeout_seconds=1e-9)
    assert run_trial(rows).user_attrs[METRICS_KEY]["fraction"] == pytest.approx(1 / 9)


def test_pipeline_with_memory_is_trained_by_epochs(
    run_trial: Callable[..., FrozenTrial], tmp_path: Path
) -> None:
    steps = [("scale", StandardScaler()), ("model", SGDClassifier(random_state=0))]
    plain, cached = (
        SklearnObjective(Pipeline(steps, memory=memory), IRIS, fidelity="epochs", max_steps=2)
        for memory in (None, str(tmp_path))
    )
    assert run_trial(plain).value == run_trial(cached).value
    assert list(plain.search_space.defaults()) == ["model__loss", "model__penalty", "model__alpha"]


def test_a_pipeline_within_a_pipeline_is_trained_by_epochs(
    run_trial: Callable[..., FrozenTrial],
) -> None:
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


def test_hyperband_is_told_the_last_step() -> None:
    study = make_study(
        "s", storage="memory://", pruner="hyperband", direction="maximize", seed=0, sampler="random"
    )
    objective = SklearnObjective(KNeighborsClassifier(), DIGITS, folds=2, fidelity="rows")
    run(study, objective, n_trials=8, show_progress_bar=False)
    assert all(set(t.intermediate_values) <= {1, 3, 9} for t in study.trials)


def test_regression_forest_grows_too(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
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


@pytest.mark.parametrize("fidelity", ["folds", "rows"])
@pytest.mark.parametrize(
    ("model", "matrix"),
    [
        (SVC(kernel="precomputed"), lambda X: X @ X.T),
        (make_pipeline(SVC(kernel="precomputed")), lambda X: X @ X.T),
        (KNeighborsClassifier(metric="precomputed"), euclidean_distances),
    ],
)
def test_kernels_and_distances_are_cut_by_rows_and_columns(
    run_trial: Callable[..., FrozenTrial], fidelity: str, model: Any, matrix: Any
) -> None:
    square = matrix(IRIS[0])
    objective = SklearnObjective(model, (square, IRIS[1]), folds=CV, fidelity=fidelity)
    trial = run_trial(objective)
    expected = cross_val_score(model, square, IRIS[1], cv=CV)
    assert trial.value == pytest.approx(expected.mean())
    fitted = objective.fit(objective.search_space.defaults(), seed=0)
    assert objective.evaluate(fitted, (square, IRIS[1]))["score"] > 0.9


def test_a_kernel_that_is_not_square_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"`train` inputs must be .* shape \(150, 150\), got"):
        SklearnObjective(SVC(kernel="precomputed"), IRIS)


@pytest.mark.parametrize("n_trees", [20, 100, 1_000])
def test_trees_grow_to_the_estimator_s_own_number_whatever_it_is(n_trees: int) -> None:
    for model, name in [
        (HistGradientBoostingClassifier(max_iter=n_trees), "max_iter"),
        (GradientBoostingClassifier(n_estimators=n_trees), "n_estimators"),
    ]:
        objective = SklearnObjective(model, IRIS, fidelity="trees")
        assert objective.search_space.defaults()[name] == n_trees
        assert name not in objective.search_space.distributions()
