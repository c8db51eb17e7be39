"""LightGBMObjective: what a trial trains, reports, returns, and what a study makes of it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, WilcoxonPruner
from optuna.trial import TrialState
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from hpolab import (
    LIGHTGBM_STAGES,
    Diverged,
    HpolabError,
    InvalidArgument,
    InvalidType,
    RacingPruner,
    SearchSpace,
    StepwiseSampler,
    lightgbm_space,
    make_study,
    run,
)
from hpolab.seeding import derive_seed
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :12]
N = len(Y)
DIABETES = load_diabetes(return_X_y=True)
DIGITS = tuple(part[:200] for part in load_digits(n_class=3, return_X_y=True))
QUERIES = np.arange(len(DIABETES[1])) // 13
GRADES = (DIABETES[1] // 90).astype(int)


# What a trial is

KINDS: dict[str, dict[str, Any]] = {
    "binary": {"metric": "auc", "metrics": ["binary_logloss"]},
    "regression": {"train": DIABETES, "objective": "regression", "metric": "rmse"},
    "quantile": {"train": DIABETES, "objective": "quantile", "params": {"alpha": 0.9}},
    "poisson": {"train": DIABETES, "objective": "poisson"},
    "multiclass": {"train": DIGITS, "objective": "multiclass"},
    "lambdarank": {
        "train": (DIABETES[0], GRADES),
        "objective": "lambdarank",
        "metric": "ndcg@5",
        "groups": QUERIES,
    },
}
FOLDS: dict[str, Any] = {
    "binary": StratifiedKFold(3, shuffle=True, random_state=0),
    "multiclass": StratifiedKFold(3, shuffle=True, random_state=0),
    "regression": KFold(3, shuffle=True, random_state=0),
    "quantile": KFold(3, shuffle=True, random_state=0),
    "poisson": KFold(3, shuffle=True, random_state=0),
    "lambdarank": GroupKFold(3),
}


def pairs_of(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    features, labels = KINDS[kind].get("train", (X, Y))
    return list(FOLDS[kind].split(features, labels, KINDS[kind].get("groups")))


def cv(kind: str, params: dict[str, Any], pairs: Any, seed: int, n_rounds: int) -> dict[str, Any]:
    """Return what LightGBM's own cross-validation says."""
    given = KINDS[kind]
    settings = {
        "objective": given.get("objective", "binary"),
        "metric": [given.get("metric", "").partition("@")[0], *given.get("metrics", [])],
        "eval_at": [5],
        "num_class": 3 if kind == "multiclass" else 1,
        "seed": seed % 2**31,
        "data_random_seed": 0,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        **given.get("params", {}),
        **params,
    }
    groups = given.get("groups")
    group = None if groups is None else np.bincount(groups)
    dataset = lgb.Dataset(*given.get("train", (X, Y)), group=group)
    return lgb.cv(settings, dataset, num_boost_round=n_rounds, folds=pairs)


@pytest.mark.parametrize("given", ["number", "splitter", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_lightgbm_s_cross_validation(make, trials_of, kind, given):
    folds = {"number": 3, "splitter": FOLDS[kind], "pairs": iter(pairs_of(kind))}[given]
    objective = make(**KINDS[kind], folds=folds)
    for trial in trials_of(objective, 2):
        metrics = trial.user_attrs[METRICS_KEY]
        params = objective.search_space.from_trial(trial.params)
        seed = derive_seed(0, trial.number, "training")
        expected = cv(kind, params, pairs_of(kind), seed, int(metrics["rounds"]))
        first, *_ = [name for name in metrics if name != "rounds"]
        assert trial.value == metrics[first] == expected[f"valid {first}-mean"][-1]


def test_all_metrics_of_a_trial_are_those_of_its_best_round(make, trials_of):
    objective = make(folds=3, metric="auc", metrics=["binary_logloss", "binary_error"])
    (trial,) = trials_of(objective, 1)
    metrics = trial.user_attrs[METRICS_KEY]
    assert list(metrics) == ["rounds", "auc", "binary_logloss", "binary_error"]
    params = objective.search_space.from_trial(trial.params)
    result = cv(
        "binary", params, pairs_of("binary"), derive_seed(0, 0, "training"), int(metrics["rounds"])
    )
    assert metrics["auc"] == result["valid auc-mean"][-1]
    assert metrics["binary_logloss"] == result["valid binary_logloss-mean"][-1]


def test_value_is_the_best_report_and_rounds_say_when_it_came(make, trials_of):
    (trial,) = trials_of(make(folds=3, max_rounds=300, search_space=SearchSpace({})), 1)
    best = min(trial.intermediate_values, key=trial.intermediate_values.__getitem__)
    assert trial.value == trial.intermediate_values[best]
    assert trial.user_attrs[METRICS_KEY]["rounds"] == 5 * (best + 1)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_the_mean_over_folds_no_longer_improves(make, trials_of, patience):
    objective = make(folds=3, max_rounds=2000, patience=patience, search_space=SearchSpace({}))
    (trial,) = trials_of(objective, 1)
    curve = list(trial.intermediate_values.values())
    assert len(curve) < 100
    assert int(np.argmin(curve)) == len(curve) - 1 - patience


def test_without_patience_all_rounds_are_trained(make, trials_of):
    (trial,) = trials_of(
        make(folds=2, max_rounds=52, patience=None, search_space=SearchSpace({})), 1
    )
    assert sorted(trial.intermediate_values) == list(range(11))  # the last one after two rounds


@pytest.mark.parametrize(
    ("learning_rate", "report_every", "interval"),
    [
        (0.1, 5, 5),
        (0.05, 5, 10),
        (0.2, 5, 2),
        (0.01, 5, 50),
        (0.5, 5, 1),
        (0.1, 1, 1),
        (0.02, 2, 10),
    ],
)
def test_reports_come_at_equal_progress(make, learning_rate, report_every, interval):
    objective = make(
        folds=2,
        max_rounds=100,
        report_every=report_every,
        patience=None,
        search_space=SearchSpace({"learning_rate": learning_rate}),
    )
    reporter = objective.reporter(seed=0)
    metrics: list[float] = []
    reporter.record = lambda **values: metrics.append(values["rounds"])  # type: ignore[method-assign]
    objective.train({"learning_rate": learning_rate}, reporter)
    assert metrics == [min(interval * (reporter.best_step + 1), 100)]


def test_learning_rate_counts_under_any_of_its_names_and_where_it_is_fixed(make, trials_of):
    steps = {
        len(
            trials_of(make(folds=2, max_rounds=60, patience=None, **given), 1)[
                0
            ].intermediate_values
        )
        for given in (
            {"search_space": SearchSpace({"eta": 0.05})},
            {"search_space": SearchSpace({"shrinkage_rate": 0.05})},
            {"search_space": SearchSpace({}), "params": {"learning_rate": 0.05}},
        )
    }
    assert steps == {6}


def test_hold_out_trains_on_a_part_and_steers_by_the_rest(make, value):
    seen = []

    def metric(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        seen.append(len(predictions))
        return "n", float(len(predictions)), True

    objective = make(valid=0.25, metric=metric)
    assert value(objective) == math.ceil(N / 4)
    assert set(seen) == {math.ceil(N / 4)}
    assert value(make(valid=0.25)) != value(make(valid=0.25, seed=1))


def test_explicit_hold_out_is_lightgbm_s_own(make, value):
    train, valid = np.arange(300), np.arange(300, N)
    objective = make((X[train], Y[train]), valid=(X[valid], Y[valid]), patience=None, max_rounds=10)
    settings = {
        "objective": "binary",
        "seed": 1,
        "feature_pre_filter": False,
        "num_threads": 1,
        "verbosity": -1,
    }
    record: dict[str, Any] = {}
    dataset = lgb.Dataset(X[train], Y[train])
    lgb.train(
        settings,
        dataset,
        10,
        valid_sets=[lgb.Dataset(X[valid], Y[valid], reference=dataset)],
        callbacks=[lgb.record_evaluation(record)],
    )
    expected = record["valid_0"]["binary_logloss"]
    assert value(objective) == min(expected[4], expected[9])


def test_score_is_read_with_folds_as_fidelity_too(make, trials_of):
    objective = make((X[:400], Y[:400]), folds=3, fidelity="folds", score=(X[400:], Y[400:]))
    (trial,) = trials_of(objective, 1)
    assert len(trial.intermediate_values) == 3
    assert trial.value == trial.user_attrs[METRICS_KEY]["binary_logloss"]
    assert trial.value != np.mean(list(trial.intermediate_values.values()))


@pytest.mark.parametrize("reg_sqrt", [True, False])
def test_parameter_that_changes_what_is_predicted_counts_in_the_score(make, value, reg_sqrt):
    space = SearchSpace({"reg_sqrt": [True, False]})
    objective = make(DIABETES, objective="regression", score=DIABETES, search_space=space)
    found = value(objective, reg_sqrt=reg_sqrt)
    assert found < np.var(DIABETES[1])
    model = objective.fit({"reg_sqrt": reg_sqrt}, seed=0, n_rounds=20)
    squares = np.mean((model.predict(DIABETES[0]) - DIABETES[1]) ** 2)
    assert objective.evaluate(model, DIABETES)["l2"] == pytest.approx(squares)


# Class weights, boostings


def test_class_weight_changes_training_but_not_the_metric(make, value):
    pairs = [(np.arange(400), np.arange(400, N))]
    plain = make(folds=pairs)
    weighted = make(folds=pairs, class_weight={0: 30.0, 1: 1.0})
    by_rows = make(folds=pairs, weight=np.where(Y == 0, 30.0, 1.0))
    models = [o.fit_folds({}, seed=0, n_rounds=5).models[0] for o in (plain, weighted, by_rows)]
    probabilities = [model.predict(X[400:]) for model in models]
    assert (probabilities[1] == probabilities[2]).all()
    assert probabilities[1].mean() < probabilities[0].mean()
    truth = Y[400:]
    losses = -np.log(np.where(truth == 1, probabilities[1], 1 - probabilities[1]))
    reporter = make(folds=pairs, class_weight={0: 30.0, 1: 1.0}, max_rounds=5)
    assert value(reporter) == pytest.approx(losses.mean(), rel=1e-9)
    assert value(weighted) != value(by_rows)


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 2.0, N)], ids=["alone", "weighted"])
def test_class_weight_leaves_the_metric_over_folds_alone(make, value, weight):
    pairs = [(np.arange(300), np.arange(300, N)), (np.arange(300, N), np.arange(300))]
    objective = make(folds=pairs, weight=weight, class_weight={0: 30.0, 1: 1.0}, max_rounds=5)
    models = objective.fit_folds({}, seed=1, n_rounds=5).models
    parts = [
        lgb.Dataset(X[rows], Y[rows], weight=None if weight is None else weight[rows])
        for _, rows in pairs
    ]
    losses = [
        objective.evaluate(model, part)["binary_logloss"]
        for model, part in zip(models, parts, strict=True)
    ]
    assert value(objective) == pytest.approx(np.mean(losses), rel=1e-9)


@pytest.mark.parametrize("folds", [3, None], ids=["folds", "hold-out"])
def test_balanced_class_weight_is_scikit_learn_s(make, value, folds):
    counts = np.bincount(Y)
    by_hand = {code: N / (2 * count) for code, count in enumerate(counts)}
    balanced = make(folds=folds, class_weight="balanced")
    assert value(balanced) == value(make(folds=folds, class_weight=by_hand))


def test_class_weight_names_classes_as_labels_do(make, value):
    words = np.array(["ill", "well"])[Y]
    named = make((X, words), class_weight={"ill": 2.0, "well": 1.0})
    assert value(named) == value(make(class_weight={0: 2.0, 1: 1.0}))


@pytest.mark.parametrize(
    "params",
    [
        {"boosting": "dart"},
        {"boosting": "goss"},
        {"data_sample_strategy": "goss"},
        {"extra_trees": True},
        {"monotone_constraints": [1] * 12},
        {"interaction_constraints": [[0, 1, 2], [3, 4, 5]]},
        {"is_unbalance": True},
        {"linear_tree": True},
        {"max_bin_by_feature": [10] * 12},
        {"feature_contri": [0.5] * 12},
        {"path_smooth": 1.0},
        {"force_row_wise": False},
        {"force_col_wise": True},
    ],
    ids=str,
)
def test_study_of_the_default_space_trains_with_further_parameters(make, trials_of, params, capfd):
    objective = make(params=params, search_space=None, max_rounds=10)
    trials = trials_of(objective, 4)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert "[LightGBM]" not in "".join(capfd.readouterr())


def test_default_space_is_lightgbm_s_for_the_rows_trained_on_without_what_is_fixed(make):
    objective = make(search_space=None, params={"num_leaves": 12, "reg_alpha": 0.5})
    space = lightgbm_space(n_rows=455).override(num_leaves=12, lambda_l1=0.5)
    assert objective.search_space == space | SearchSpace({"objective": "binary"})


def test_params_of_a_trial_are_all_that_lightgbm_needs(make):
    objective = make(search_space=None, metric="auc", folds=3, max_rounds=20)
    study = make_study("s", storage="memory://", objective=objective, seed=0)
    run(study, objective, n_trials=2, show_progress_bar=False)
    params = objective.params_of(study.best_trial)
    assert params["num_iterations"] == study.best_trial.user_attrs[METRICS_KEY]["rounds"]
    assert (params["objective"], params["metric"], params["bagging_freq"]) == ("binary", ["auc"], 1)
    booster = lgb.train({**params, "verbosity": -1}, lgb.Dataset(X, Y))
    assert booster.num_trees() == params["num_iterations"]
    assert roc_auc_score(Y, booster.predict(X)) > 0.95
    # Of the space alone as well, which knows the task.
    params = objective.search_space.from_trial(study.best_params)
    predicted = lgb.train({**params, "verbosity": -1}, lgb.Dataset(X, Y), 5).predict(X)
    assert 0 <= predicted.min() <= predicted.max() <= 1


def test_params_of_an_own_objective_hold_the_function(make):
    def gradient(predictions: Any, rows: lgb.Dataset) -> tuple[Any, Any]:
        return predictions - rows.get_label(), np.ones_like(predictions)

    objective = make(objective=gradient, metric="l2", folds=2)
    params = objective.params_of(objective.search_space.defaults())
    assert params["objective"] is gradient
    assert lgb.train({**params, "verbosity": -1}, lgb.Dataset(X, Y), 2).num_trees() == 2
    assert objective.fit(params, n_rounds=2).booster.num_trees() == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "regression"}, "whose objective is 'binary', got 'regression'"),
        ({"metric": "l2"}, r"whose metric is \['auc'\], got 'l2'"),
        ({"num_class": 3}, "whose num_class is None, got 3"),
        ({"num_iterations": 0}, "`n_rounds` must be 1 or above, got 0"),
        ({"learning_rate": 0.1, "eta": 0.2}, "must give 'learning_rate' once"),
    ],
)
def test_params_of_another_task_are_not_fitted(make, params, message):
    with pytest.raises(InvalidArgument, match=message):
        make(metric="auc").fit(params)


def test_aliases_are_fitted_as_the_space_s_own_names(make):
    objective = make(search_space=None, max_rounds=5)
    by_alias = objective.fit({"subsample": 0.5, "subsample_freq": 2})
    assert by_alias.booster.params["bagging_freq"] == 2
    by_name = objective.fit({"bagging_fraction": 0.5, "bagging_freq": 2})
    assert (by_alias.predict(X) == by_name.predict(X)).all()


def test_another_space_knows_the_task_too(make):
    space = make().with_search_space(SearchSpace({"num_leaves": (3, 9)})).search_space
    assert space.defaults() == {"num_leaves": 6, "objective": "binary"}


def test_space_may_choose_the_boosting_with_parameters_of_its_own(make, trials_of):
    space = SearchSpace.choice(
        "boosting",
        {
            "gbdt": SearchSpace({"num_leaves": (3, 30)}),
            "dart": SearchSpace({"drop_rate": (0.01, 0.5), "eta": (0.1, 0.3)}),
            "rf": SearchSpace({"bagging_fraction": (0.3, 0.8), "bagging_freq": 1}),
        },
    )
    trials = trials_of(make(search_space=space, score=(X, Y)), 8)
    assert {trial.params["boosting"] for trial in trials} == {"gbdt", "dart", "rf"}
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_aliases_train_like_main_names(make, value):
    aliases = {"reg_lambda": 0.5, "eta": 0.2, "colsample_bytree": 0.5, "min_child_samples": 5}
    names = {"lambda_l2": 0.5, "learning_rate": 0.2, "feature_fraction": 0.5, "min_data_in_leaf": 5}
    assert value(make(), **aliases) == value(make(), **names)


# Pruning


def test_median_pruner_prunes_on_the_mean_over_folds(make, study_of):
    space = SearchSpace({"num_leaves": (2, 30), "lambda_l1": [0.0, 200.0]})
    objective = make(folds=3, search_space=space)
    study = study_of(objective, 12, pruner=MedianPruner(n_startup_trials=3))
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        step, report = max(trial.intermediate_values.items())
        assert step < 5
        params = objective.search_space.from_trial(trial.params)
        seed = derive_seed(0, trial.number, "training")
        mean = cv("binary", params, pairs_of("binary"), seed, 5 * (step + 1))
        assert report == mean["valid binary_logloss-mean"][-1]


def test_hyperband_learns_how_many_reports_a_full_training_makes(make):
    objective = make(folds=2, max_rounds=60)
    study = make_study("s", storage="memory://", pruner="hyperband", sampler="random")
    run(study, objective, n_trials=3, show_progress_bar=False)
    assert objective.max_steps == 12
    assert isinstance(study.pruner, HyperbandPruner)
    assert study.pruner._max_resource == 12


def test_folds_as_fidelity_report_each_fold_s_own_best_and_return_their_mean(make, trials_of):
    objective = make(folds=4, fidelity="folds", metric="binary_logloss")
    assert objective.max_steps == 4
    trials = trials_of(objective, 2)
    for trial in trials:
        reports = trial.intermediate_values
        assert sorted(reports) == [0, 1, 2, 3]
        assert trial.value == pytest.approx(np.mean(list(reports.values())), rel=1e-12)
        assert trial.user_attrs[METRICS_KEY]["binary_logloss"] == trial.value


def test_fold_as_fidelity_is_trained_like_a_study_of_that_fold_alone(make, trials_of):
    pairs = list(StratifiedKFold(3).split(X, Y))
    (trial,) = trials_of(make(folds=pairs, fidelity="folds"), 1)
    singles = [trials_of(make(folds=[pair]), 1)[0].value for pair in pairs]
    reports = list(trial.intermediate_values.values())
    assert reports == pytest.approx(singles, rel=0.1)  # those are binned by their own rows


def test_wilcoxon_pruner_gives_bad_configurations_up_before_all_folds_ran(make, study_of):
    space = SearchSpace({"lambda_l1": [0.0, 100.0], "num_leaves": (5, 20)}, defaults={})
    objective = make(folds=10, fidelity="folds", search_space=space, max_rounds=20)
    pruner = WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)
    study = study_of(objective, 8, pruner=pruner)
    by_state = {state: [t for t in study.trials if t.state == state] for state in TrialState}
    assert by_state[TrialState.PRUNED]
    assert study.best_trial.params["lambda_l1"] == 0.0
    for trial in by_state[TrialState.PRUNED]:
        assert len(trial.intermediate_values) < 10


# Studies


def test_plain_optuna_study_runs_it(make):
    objective = make(folds=2, metric="auc")
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3


def test_study_of_the_objective_takes_its_direction_sampler_and_pruner(make):
    study = make_study("s", storage="memory://", objective=make(metric="auc"))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert "StepwiseSampler" in str(study.sampler)
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    by_folds = make_study("f", storage="memory://", objective=make(folds=4, fidelity="folds"))
    assert isinstance(by_folds.pruner, RacingPruner)


def test_lightgbm_tuner_s_stages_walk_over_one_study_that_resumes_with_pruning_in_folds(
    make, tmp_path
):
    space = lightgbm_space(n_rows=N).override(learning_rate=0.3)
    objective = make(folds=3, search_space=space, max_rounds=15, report_every=2)
    sampler = partial(StepwiseSampler, stages=LIGHTGBM_STAGES)

    def trials(url: str, *stops: int) -> list[FrozenTrial]:
        for n_trials in stops:
            study = make_study("s", storage=url, sampler=sampler, pruner="median", seed=3)
            run(study, objective, n_trials=n_trials)
        return study.trials

    found = trials("memory://", 11)
    changed = [
        {name for name in trial.params if trial.params[name] != found[0].params[name]}
        for trial in found[1:]
    ]
    assert all(names <= {"feature_fraction"} for names in changed[:7])
    assert all(names <= {"feature_fraction", "num_leaves"} for names in changed[7:])
    assert any("num_leaves" in names for names in changed[7:])
    assert any(trial.state == TrialState.PRUNED for trial in found)
    resumed = trials(f"sqlite:///{tmp_path}/s.db", 4, 9, 11)
    assert [(t.params, t.values) for t in resumed] == [(t.params, t.values) for t in found]


def test_time_limit_of_a_study_ends_the_trial_it_is_in_with_the_best_so_far(make):
    space = SearchSpace({"learning_rate": 0.05, "num_leaves": (3, 30)})
    objective = make(search_space=space, max_rounds=10**7, patience=None)
    study = make_study("s", storage="memory://", objective=objective)
    run(study, objective, timeout_seconds=0.3)
    last = study.trials[-1]
    assert last.state == TrialState.COMPLETE
    assert last.value == min(last.intermediate_values.values())


def test_first_trial_is_lightgbm_s_default(make, trials_of):
    (trial,) = trials_of(make(search_space=None, metric="auc", max_rounds=5), 1)
    assert trial.params["num_leaves"] == 31
    assert trial.params["learning_rate"] == pytest.approx(0.1)


def told(study: Study) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


def test_study_resumed_half_way_is_the_uninterrupted_one_bit_for_bit(make, tmp_path: Path):
    def go(name: str, n_trials: int) -> Study:
        # Made anew, as a process started again makes it.
        objective = make(folds=2, max_rounds=20)
        study = make_study(
            name, storage=f"sqlite:///{tmp_path}/s.db", sampler="tpe", pruner="median", seed=0
        )
        run(study, objective, n_trials=n_trials, show_progress_bar=False)
        return study

    whole = go("whole", 14)
    go("resumed", 5)
    resumed = go("resumed", 14)
    assert told(resumed) == told(whole)


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize(
    "train",
    ["arrays", pytest.param("binned Dataset", marks=pytest.mark.long)],
)
def test_two_worker_processes_give_the_trials_of_one(make, tmp_path: Path, train):
    data: Any = (X, Y)
    if train == "binned Dataset":
        data = lgb.Dataset(X, Y, params={"verbosity": -1}).construct()
    objective = make(data, folds=2, max_rounds=10)
    studies = []
    for n_workers in (2, 1):
        study = make_study(
            f"with {n_workers}",
            storage=f"sqlite:///{tmp_path}/s.db",
            sampler="random",
            pruner="none",
            seed=0,
        )
        run(study, objective, n_trials=6, n_workers=n_workers, show_progress_bar=False)
        studies.append(study)
    assert told(studies[0]) == told(studies[1])
    assert {trial.state for trial in studies[0].trials} == {TrialState.COMPLETE}


def test_trial_that_diverges_is_pruned_and_marked(make, trials_of):
    value = 0.0

    def nothing(predictions: Any, rows: lgb.Dataset) -> tuple[str, float, bool]:
        return "nothing", value, False

    objective = make(metric=nothing)
    value = math.nan
    (trial,) = trials_of(objective, 1)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY].startswith("diverged: nan")
    with pytest.raises(Diverged):
        objective.fit({}, seed=0)


def test_lightgbm_prints_nothing(make, trials_of, capfd):
    objective = make(search_space=None, folds=3, score=(X, Y), max_rounds=10)
    trials_of(objective, 2)
    objective.evaluate(objective.fit({}, seed=0), (X, Y))
    assert "[LightGBM]" not in "".join(capfd.readouterr())


def test_time_series_are_validated_on_what_comes_after(make, value):
    objective = make(DIABETES, objective="regression", folds=TimeSeriesSplit(3))
    pairs = list(TimeSeriesSplit(3).split(DIABETES[0]))
    assert value(objective) == value(make(DIABETES, objective="regression", folds=pairs))


# What is refused

REFUSED: dict[str, tuple[type[HpolabError], str, Callable[[Any], Any]]] = {
    "objective unknown": (
        InvalidArgument,
        "`objective` must be one that LightGBM knows, got 'binery'. Did you mean 'binary'",
        lambda make: make(objective="binery"),
    ),
    "objective a number": (
        InvalidType,
        "`objective` must be a name or a function, got int",
        lambda make: make(objective=3),
    ),
    "metric unknown": (
        InvalidArgument,
        "`metric` must be one that LightGBM knows .* got 'acu'. Did you mean 'auc'",
        lambda make: make(metric="acu"),
    ),
    "further metric unknown": (
        InvalidArgument,
        "got 'binary_los'. Did you mean 'binary_logloss'",
        lambda make: make(metrics=["binary_los"]),
    ),
    "metric of rankings": (
        InvalidArgument,
        "`metric` is refused by LightGBM: The NDCG metric requires query information",
        lambda make: make(metric="ndcg@5"),
    ),
    "metric of many classes": (
        InvalidArgument,
        "`metric` is refused by LightGBM: Multiclass objective and metrics don't match",
        lambda make: make(metric="multi_logloss"),
    ),
    "ranking without a cut": (
        InvalidArgument,
        "`metric` must say where it cuts, such as 'ndcg@10', got 'ndcg'",
        lambda make: make(**KINDS["lambdarank"] | {"metric": "ndcg"}),
    ),
    "own objective without metric": (
        InvalidArgument,
        "`metric` must be given where the objective has none of its own",
        lambda make: make(objective=lambda raw, rows: (raw, raw)),
    ),
    "metric a list": (
        InvalidType,
        "`metric` must be a name or a function, got list",
        lambda make: make(metric=["auc"]),
    ),
    "metrics a name": (
        InvalidType,
        "`metrics` must be a list .* got 'auc'",
        lambda make: make(metrics="auc"),
    ),
    "metric twice": (
        InvalidArgument,
        "`metrics` must differ, got 'auc', 'auc'",
        lambda make: make(metric="auc", metrics=["auc"]),
    ),
    "parameter unknown": (
        InvalidArgument,
        "`params` must hold parameters of LightGBM, got 'num_leafs'. Did you mean 'num_leaves'",
        lambda make: make(params={"num_leafs": 3}),
    ),
    "params no mapping": (
        InvalidType,
        "`params` must be a mapping, got list",
        lambda make: make(params=["num_leaves"]),
    ),
    "range unknown": (
        InvalidArgument,
        "`search_space` must hold parameters of LightGBM, got 'lamda_l1'. Did you mean 'lambda_l1'",
        lambda make: make(search_space=SearchSpace({"lamda_l1": (0.0, 1.0)})),
    ),
    "range of a branch unknown": (
        InvalidArgument,
        "`search_space` must hold parameters of LightGBM, got 'drop_rte'",
        lambda make: make(
            search_space=SearchSpace.choice(
                "boosting",
                {"gbdt": SearchSpace({}), "dart": SearchSpace({"drop_rte": (0.1, 0.2)})},
            )
        ),
    ),
    "search_space a list": (
        InvalidType,
        "`search_space` must be a SearchSpace or a dict of ranges",
        lambda make: make(search_space=[("num_leaves", (3, 30))]),
    ),
    "given in both": (
        InvalidArgument,
        "`params` must leave out what `search_space` suggests, got 'num_leaves' in both",
        lambda make: make(params={"num_leaves": 7}),
    ),
    "given in both, its default": (
        InvalidArgument,
        "got 'num_leaves' in both",
        lambda make: make(params={"num_leaves": make().search_space.defaults()["num_leaves"]}),
    ),
    "given in both, by an alias": (
        InvalidArgument,
        "got 'learning_rate' in both",
        lambda make: make(params={"eta": 0.1}),
    ),
    "name and alias": (
        InvalidArgument,
        "`params` must give 'lambda_l2' once, got 'reg_lambda' besides",
        lambda make: make(params={"lambda_l2": 1, "reg_lambda": 1}),
    ),
    "rounds in params": (
        InvalidArgument,
        "`params` must leave 'n_estimators' out, .* `max_rounds`",
        lambda make: make(params={"n_estimators": 100}),
    ),
    "seed in params": (
        InvalidArgument,
        "`params` must leave 'random_state' out",
        lambda make: make(params={"random_state": 1}),
    ),
    "objective in params": (
        InvalidArgument,
        "must leave 'objective' out",
        lambda make: make(params={"objective": "binary"}),
    ),
    "metric in params": (
        InvalidArgument,
        "must leave 'metric' out",
        lambda make: make(params={"metric": "auc"}),
    ),
    "early stopping in params": (
        InvalidArgument,
        "must leave 'early_stopping_rounds' out, .* `patience`",
        lambda make: make(params={"early_stopping_rounds": 5}),
    ),
    "rounds in the space": (
        InvalidArgument,
        "`search_space` must leave 'num_iterations' out",
        lambda make: make(search_space=SearchSpace({"num_iterations": (10, 100)})),
    ),
    "fidelity unknown": (
        InvalidArgument,
        "`fidelity` must be one of 'folds', 'rounds', got 'fold'",
        lambda make: make(folds=3, fidelity="fold"),
    ),
    "fidelity without folds": (
        InvalidArgument,
        "`fidelity` must be 'rounds' without folds, got 'folds'",
        lambda make: make(fidelity="folds"),
    ),
    "max_rounds": (
        InvalidArgument,
        "`max_rounds` must be 1 or above, got 0",
        lambda make: make(max_rounds=0),
    ),
    "report_every": (
        InvalidArgument,
        "`report_every` must be 1 or above, got 0",
        lambda make: make(report_every=0),
    ),
    "patience": (InvalidArgument, "`patience` must be 1 or above", lambda make: make(patience=0)),
    "patience of folds": (
        InvalidArgument,
        "`patience` must be 1 or above",
        lambda make: make(folds=3, fidelity="folds", patience=0),
    ),
    "min_delta": (
        InvalidArgument,
        "`min_delta` must be 0 or above",
        lambda make: make(min_delta=-1.0),
    ),
    "timeout": (
        InvalidArgument,
        "`timeout_seconds` must be above 0",
        lambda make: make(timeout_seconds=0),
    ),
    "seed of the folds": (
        InvalidArgument,
        "`seed` must be 0 or above, got -1",
        lambda make: make(seed=-1),
    ),
    "seed": (
        InvalidArgument,
        "`seed` must be 0 or above, got -1",
        lambda make: make().fit({}, seed=-1),
    ),
    "n_rounds": (
        InvalidArgument,
        "`n_rounds` must be 1 or above, got 0",
        lambda make: make().fit({}, 0, n_rounds=0),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_argument_is_refused_by_rule_and_value(make, case):
    error, message, construct = REFUSED[case]
    with pytest.raises(error, match=message):
        construct(make)


@pytest.mark.parametrize(
    "params",
    [{"num_leaves": "many"}, {"max_bin": 1}, {"boosting": "rf"}, {"monotone_constraints": [1]}],
    ids=str,
)
def test_parameters_that_lightgbm_refuses_cost_no_trial(make, params):
    objective = make(params=params, search_space=SearchSpace({"max_depth": (2, 5)}))
    study = make_study("s", storage="memory://")
    with pytest.raises(InvalidArgument, match="`params` is refused by LightGBM: "):
        run(study, objective, n_trials=3, show_progress_bar=False)
    assert study.trials == []
