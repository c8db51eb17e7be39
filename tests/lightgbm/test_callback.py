"""LightGBMPruning: what a LightGBM training reports, over folds too, and what ends it."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner, ThresholdPruner
from optuna.trial import TrialState
from optuna_integration import LightGBMPruningCallback
from sklearn.model_selection import KFold, cross_val_score

from hpolab import Diverged, InvalidArgument, InvalidType, LightGBMPruning, Reporter
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study, Trial

# LightGBM 4.7 deprecates the only argument that its earlier versions have.
pytestmark = pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + RNG.normal(size=120) > 0).astype(int)

PARAMS = {"objective": "binary", "metric": "none", "verbosity": -1, "num_threads": 1}


def data() -> tuple[lgb.Dataset, lgb.Dataset]:
    train = lgb.Dataset(X[:80], Y[:80])
    return train, lgb.Dataset(X[80:], Y[80:], reference=train)


def scripted(values: Sequence[float], *, more_is_better: bool = True) -> Callable[..., Any]:
    """A metric that has a given value in each round."""
    left = iter(values)
    return lambda predicted, dataset: ("score", next(left), more_is_better)


def train(pruning: Any, values: Sequence[float], *others: Any, **options: Any) -> lgb.Booster:
    """A real training whose rounds are evaluated to given values."""
    train_set, valid_set = data()
    return lgb.train(
        PARAMS,
        train_set,
        num_boost_round=options.pop("num_boost_round", len(values)),
        valid_sets=[valid_set],
        feval=scripted(values, **options),
        callbacks=[pruning, *others],
    )


def make_study(**options: Any) -> Study:
    settings = {"direction": "maximize", "sampler": optuna.samplers.RandomSampler(seed=0)}
    return optuna.create_study(**settings | options)


def reports(trial: Trial) -> dict[int, float]:
    return trial.study.trials[trial.number].intermediate_values


def median() -> MedianPruner:
    return MedianPruner(n_startup_trials=2)


def three_folds(*folds: Sequence[float], every: int = 2) -> Callable[[Trial], float]:
    """An objective that trains one fold after another."""

    def objective(trial: Trial) -> float:
        pruning = LightGBMPruning(Reporter(trial), "score", n_folds=3, every=every)
        for values in folds:
            train(pruning, values)
        return float(np.mean(pruning.best_values))

    return objective


def test_every_tenth_round_is_reported_under_its_number() -> None:
    trial = make_study().ask()
    train(LightGBMPruning(Reporter(trial), "score"), [i / 100 for i in range(35)])
    assert reports(trial) == {9: 0.09, 19: 0.19, 29: 0.29}


def test_cv_reports_the_mean_over_its_folds() -> None:
    trial = make_study(direction="minimize").ask()
    result = lgb.cv(
        PARAMS | {"metric": ["auc", "binary_logloss"]},
        data()[0],
        num_boost_round=6,
        nfold=4,
        eval_train_metric=True,
        callbacks=[LightGBMPruning(Reporter(trial), "binary_logloss", every=3)],
    )
    means = result["valid binary_logloss-mean"]
    assert reports(trial) == {2: means[2], 5: means[5]}


def test_scikit_learns_interface_reports_as_train_does() -> None:
    trial = make_study().ask()
    pruning = LightGBMPruning(Reporter(trial), "auc", every=2)
    model = lgb.LGBMClassifier(n_estimators=6, n_jobs=1, verbosity=-1)
    rows, labels = X[:80], Y[:80]
    sets = [(rows, labels), (X[80:], Y[80:])]
    model.fit(rows, labels, eval_set=sets, eval_metric="auc", callbacks=[pruning])
    curve = model.evals_result_["valid_1"]["auc"]
    assert reports(trial) == {1: curve[1], 3: curve[3], 5: curve[5]}
    assert pruning.best_values == [max(curve)]


def test_a_named_set_is_watched() -> None:
    trial = make_study(direction="minimize").ask()
    train_set, valid_set = data()
    kept: dict[str, Any] = {}
    lgb.train(
        PARAMS | {"metric": "binary_logloss"},
        train_set,
        num_boost_round=2,
        valid_sets=[train_set, valid_set, valid_set.subset(range(20))],
        valid_names=["mine", "valid", "part"],
        callbacks=[
            LightGBMPruning(Reporter(trial), "binary_logloss", valid_name="part", every=1),
            lgb.record_evaluation(kept),
        ],
    )
    assert list(reports(trial).values()) == kept["part"]["binary_logloss"]


def test_median_pruner_prunes_the_worse_trial_in_its_training() -> None:
    study = make_study(pruner=median())

    def objective(trial: Trial) -> float:
        pruning = LightGBMPruning(Reporter(trial), "score", every=2)
        train(pruning, [0.9 - 0.1 * trial.number] * 6)
        return pruning.best_values[0]

    study.optimize(objective, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert study.trials[2].intermediate_values == {1: pytest.approx(0.7)}


def test_each_finished_fold_reports_the_mean_so_far_and_steps_go_up() -> None:
    study = make_study()
    study.optimize(three_folds([0.5, 0.6, 0.8, 0.7], [0.1] * 4, [0.6] * 4), n_trials=1)
    (trial,) = study.trials
    mean = (0.8 + 0.1) / 2
    assert trial.intermediate_values == {1: 0.6, 3: 0.7, 4: 0.8, 8: pytest.approx(mean)}
    assert list(trial.intermediate_values) == sorted(trial.intermediate_values)
    assert trial.value == pytest.approx((0.8 + 0.1 + 0.6) / 3)


GOOD = ([0.9] * 4, [0.9] * 4, [0.9] * 4)
BAD_LATER = ([0.9] * 4, [0.2] * 4, [0.2] * 4)


@pytest.mark.parametrize(
    "pruner", [median(), ThresholdPruner(lower=0.6), SuccessiveHalvingPruner(2, 2)]
)
def test_a_trial_that_is_bad_in_a_later_fold_is_pruned_there(pruner: Any) -> None:
    study = make_study(pruner=pruner)
    study.optimize(three_folds(*GOOD), n_trials=4)
    study.optimize(three_folds(*BAD_LATER), n_trials=1)
    trial = study.trials[-1]
    assert trial.state == TrialState.PRUNED
    assert max(trial.intermediate_values) == 8
    assert trial.value == pytest.approx(0.55)


def test_optuna_integrations_callback_sees_nothing_of_a_later_fold() -> None:
    study = make_study(pruner=median())

    def objective(trial: Trial, folds: Sequence[Sequence[float]]) -> float:
        for values in folds:
            train(LightGBMPruningCallback(trial, "score", report_interval=2), values)
        return float(np.mean(folds))

    with warnings.catch_warnings(record=True) as ignored:
        warnings.simplefilter("always")
        study.optimize(lambda trial: objective(trial, GOOD), n_trials=3)
        study.optimize(lambda trial: objective(trial, BAD_LATER), n_trials=1)
    assert "already reported" in str(ignored[-1].message)
    assert study.trials[-1].state == TrialState.COMPLETE
    assert max(study.trials[-1].intermediate_values) == 3


def test_an_easy_first_fold_is_compared_with_others_first_folds_only() -> None:
    study = make_study(pruner=median())
    study.optimize(three_folds([0.5] * 4, [0.9] * 4, [0.9] * 4), n_trials=3)
    study.optimize(three_folds([0.6] * 4, [0.9] * 4, [0.9] * 4), n_trials=1)
    assert study.trials[-1].state == TrialState.COMPLETE


def test_a_slow_learner_is_not_pruned_at_the_start_of_a_later_fold() -> None:
    study = make_study(pruner=median())
    study.optimize(three_folds(*GOOD), n_trials=3)
    slow = [0.9, 0.9, 0.9, 0.9], [0.0, 0.1, 0.5, 0.95], [0.0, 0.1, 0.5, 0.95]
    study.optimize(three_folds(*slow), n_trials=1)
    assert study.trials[-1].state == TrialState.COMPLETE


def test_folds_that_stop_early_keep_their_best_and_their_steps() -> None:
    trial = make_study().ask()
    pruning = LightGBMPruning(Reporter(trial), "score", n_folds=2, every=2)
    for _ in range(2):
        stopping = lgb.early_stopping(2, verbose=False)
        model = train(pruning, [0.5, 0.8, 0.7, 0.6, 0.5, 0.4], stopping)
        assert model.best_iteration == 2
    assert reports(trial) == {1: 0.8, 3: 0.6, 6: 0.8}
    assert pruning.best_values == [0.8, 0.8]


def test_folds_of_scikit_learns_interface() -> None:
    trial = make_study().ask()
    pruning = LightGBMPruning(Reporter(trial), "auc", n_folds=3, every=5)
    curves = []
    for rows, held_out in KFold(3).split(X):
        model = lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1)
        valid = (X[held_out], Y[held_out])
        model.fit(X[rows], Y[rows], eval_set=[valid], eval_metric="auc", callbacks=[pruning])
        curves.append(model.evals_result_["valid_0"]["auc"])
    best = [max(curve) for curve in curves]
    assert pruning.best_values == best
    assert reports(trial) == {4: curves[0][4], 5: best[0], 10: pytest.approx(sum(best[:2]) / 2)}


def test_cross_val_score_lets_a_pruned_trial_through() -> None:
    trial = make_study(pruner=ThresholdPruner(lower=1.1)).ask()
    pruning = LightGBMPruning(Reporter(trial), "auc", n_folds=3, every=2)
    fit = {"eval_set": [(X[80:], Y[80:])], "eval_metric": "auc", "callbacks": [pruning]}
    model = lgb.LGBMClassifier(n_estimators=4, n_jobs=1, verbosity=-1)
    with pytest.raises(optuna.TrialPruned, match="pruned at step 1"):
        cross_val_score(model, X, Y, cv=3, params=fit, error_score="raise")


def test_a_trial_that_is_run_again_reports_the_same() -> None:
    study = make_study()
    trial = study.ask()
    folds = ([0.5, 0.6], [0.7, 0.8], [0.9, 0.9])
    three_folds(*folds)(trial)
    before = reports(trial)
    three_folds(*folds)(trial)
    assert reports(trial) == before == {1: 0.6, 2: 0.6, 4: pytest.approx(0.7)}


def test_without_a_trial_folds_are_only_watched() -> None:
    reporter = Reporter(None, direction="maximize")
    pruning = LightGBMPruning(reporter, "score", n_folds=2, every=1)
    train(pruning, [0.5, 0.6])
    train(pruning, [0.1, 0.2])
    assert pruning.best_values == [0.6, 0.2]


def test_training_ends_with_the_best_iteration_when_patience_runs_out() -> None:
    trial = make_study().ask()
    pruning = LightGBMPruning(Reporter(trial, patience=2), "score", every=2)
    model = train(pruning, [0.1, 0.2, 0.9] + [0.2] * 20)
    assert list(reports(trial)) == [1, 3, 5]
    assert model.best_iteration == 3
    assert model.best_score["valid_0"]["score"] == 0.9


def test_cv_ends_with_the_best_iteration_when_patience_runs_out() -> None:
    reporter = Reporter(make_study().ask(), patience=1)
    curve = [value for value in (0.1, 0.8, 0.2, 0.3, 0.4) for _ in range(2)]
    pruning = LightGBMPruning(reporter, "score", every=1)
    result = lgb.cv(
        PARAMS, data()[0], 5, nfold=2, feval=scripted(curve), callbacks=[pruning], stratified=False
    )
    assert result["valid score-mean"] == [0.1, 0.8]


def test_time_that_runs_out_ends_a_training_as_early_stopping_does() -> None:
    pruning = LightGBMPruning(Reporter(make_study().ask(), timeout_seconds=1e-9), "score", every=3)
    model = train(pruning, [0.1, 0.2, 0.1, 0.9])
    assert model.best_iteration == 2
    assert pruning.best_values == [0.2]


def test_a_trial_whose_time_is_up_between_two_folds_is_pruned() -> None:
    pruning = LightGBMPruning(
        Reporter(make_study().ask(), timeout_seconds=1e-9), "score", n_folds=2, every=2
    )
    train(pruning, [0.1, 0.2, 0.3])
    with pytest.raises(optuna.TrialPruned, match="time was up after fold 1 of 2"):
        train(pruning, [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        (([0.5, math.nan],), "diverged: nan at step 1"),
        (([0.5, 0.5], [math.inf, math.inf]), "diverged: inf at round 1 of fold 1"),
        (([0.5, 0.5], [math.nan], [0.5]), "diverged: nan at step 4"),
    ],
)
def test_a_diverged_training_is_pruned_with_a_violated_constraint(
    folds: Sequence[Sequence[float]], reason: str
) -> None:
    study = make_study(pruner=NopPruner())
    study.optimize(three_folds(*folds), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY] == reason
    assert max(trial.constraints.values()) > 0


def test_a_diverged_training_without_a_trial_raises() -> None:
    pruning = LightGBMPruning(Reporter(None, direction="maximize"), "score", every=1)
    with pytest.raises(Diverged):
        train(pruning, [math.nan])


@pytest.mark.parametrize("more_is_better", [True, False])
def test_a_metric_of_the_other_direction_is_refused_in_the_first_round(
    more_is_better: bool,
) -> None:
    study = make_study(direction="minimize" if more_is_better else "maximize")
    pruning = LightGBMPruning(Reporter(study.ask()), "score")
    with pytest.raises(InvalidArgument, match=r"`metric` must be one to \w+, as the study does"):
        train(pruning, [0.5], more_is_better=more_is_better)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"metric": "scor"}, r"`metric` .* Did you mean 'score'\?"),
        ({"metric": "score", "valid_name": "valid"}, r"`valid_name` must be one of 'valid_0'"),
    ],
)
def test_what_is_not_evaluated_is_refused_with_what_is(
    wanted: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(LightGBMPruning(Reporter(make_study().ask()), **wanted), [0.5])


@pytest.mark.parametrize("sets", [None, "training"])
def test_a_training_without_validation_is_refused(sets: str | None) -> None:
    train_set, _ = data()
    with pytest.raises(InvalidArgument, match="`metric` must be evaluated on validation data"):
        lgb.train(
            PARAMS | {"metric": "auc"},
            train_set,
            num_boost_round=1,
            valid_sets=[train_set] if sets else None,
            callbacks=[LightGBMPruning(Reporter(make_study().ask()), "auc")],
        )


def test_several_validation_sets_need_a_name() -> None:
    train_set, valid_set = data()
    with pytest.raises(InvalidArgument, match="one of 'valid_0', 'valid_1', got None"):
        lgb.train(
            PARAMS | {"metric": "auc"},
            train_set,
            num_boost_round=1,
            valid_sets=[valid_set, valid_set.subset(range(20))],
            callbacks=[LightGBMPruning(Reporter(make_study().ask()), "auc")],
        )


def test_a_second_training_without_folds_is_refused() -> None:
    pruning = LightGBMPruning(Reporter(make_study().ask()), "score")
    train(pruning, [0.5])
    with pytest.raises(InvalidArgument, match=r"`n_folds` must count the trainings .* got 1 and"):
        train(pruning, [0.5])


def test_patience_over_several_folds_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"no patience .* got patience=3: .*early_stopping"):
        LightGBMPruning(Reporter(make_study().ask(), patience=3), "score", n_folds=2)


@pytest.mark.parametrize("name", ["n_folds", "every"])
def test_a_count_below_one_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"`{name}` must be 1 or above, got 0"):
        LightGBMPruning(Reporter(make_study().ask()), "score", **{name: 0})


def test_a_trial_in_place_of_its_reporter_is_refused() -> None:
    with pytest.raises(InvalidType, match=r"`reporter` must be a Reporter, .* got Trial\."):
        LightGBMPruning(make_study().ask(), "score")  # type: ignore[arg-type]


def test_without_lightgbm_the_extra_is_named() -> None:
    code = (
        "import sys\nsys.modules['lightgbm'] = None\n"
        "try:\n    from hpolab import LightGBMPruning\n"
        "except ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown == "`LightGBMPruning` needs LightGBM: pip install 'hpolab[lightgbm]'\n"
