"""fit_by_epochs: what scikit-learn's ``partial_fit`` reports, and which epoch is returned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.pruners import MedianPruner, ThresholdPruner
from optuna.trial import TrialState
from scipy.sparse import coo_array
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, SGDClassifier, SGDRegressor
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from hpolab import Diverged, InvalidArgument, InvalidType, Reporter, fit_by_epochs
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from optuna import Study, Trial

X, Y = load_digits(return_X_y=True)
X = X / 16
TRAIN, VALID = (X[:400], Y[:400]), (X[400:600], Y[400:600])


class Scripted(BaseEstimator):
    """An estimator whose epochs score given values, one after another."""

    def __init__(self, scores: Sequence[float] = ()) -> None:
        self.scores = scores

    def fit(self, X: Any, y: Any) -> Self:
        return self.partial_fit(X, y)

    def partial_fit(self, X: Any, y: Any) -> Self:
        self.n_fits_ = getattr(self, "n_fits_", 0) + 1
        return self

    def score(self, X: Any, y: Any) -> float:
        return self.scores[self.n_fits_ - 1]


def make_study(**options: Any) -> Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(sampler=sampler, **{"direction": "maximize"} | options)


def watcher(**options: Any) -> Reporter:
    return Reporter(None, direction="maximize", **options)


def fit(estimator: Any, reporter: Reporter, **options: Any) -> Any:
    settings: dict[str, Any] = {"train": TRAIN, "valid": VALID, "n_epochs": 3, **options}
    return fit_by_epochs(
        estimator, settings.pop("train"), settings.pop("valid"), reporter=reporter, **settings
    )


@pytest.mark.parametrize("estimator", [SGDClassifier(), MLPClassifier()])
def test_each_epoch_is_reported_and_the_best_one_returned(estimator: Any) -> None:
    trial = make_study().ask()
    reporter = Reporter(trial)
    best = fit(estimator, reporter, n_epochs=6, batch_size=100)
    reported = trial.study.trials[0].intermediate_values
    assert list(reported) == list(range(6))
    assert best.score(*VALID) == max(reported.values()) == reporter.best_value > 0.5


def test_the_best_epoch_is_returned_where_it_is_not_the_last() -> None:
    assert fit(Scripted([0.1, 0.9, 0.5]), watcher()).n_fits_ == 2


def test_the_estimator_given_is_left_as_it_is() -> None:
    estimator = SGDClassifier()
    assert fit(estimator, watcher()) is not estimator
    assert not hasattr(estimator, "coef_")
    assert estimator.random_state is None


def test_training_ends_when_patience_runs_out() -> None:
    reporter = watcher(patience=2)
    best = fit(Scripted([0.5, 0.6, 0.6, 0.6, 0.9]), reporter, n_epochs=5)
    assert (best.n_fits_, reporter.best_value) == (2, 0.6)


def test_median_pruner_prunes_the_worse_trial() -> None:
    study = make_study(pruner=MedianPruner(n_startup_trials=1))

    def objective(trial: Trial) -> float:
        reporter = Reporter(trial)
        fit(SGDClassifier(alpha=[1e-4, 10.0][trial.number]), reporter)
        assert reporter.best_value is not None
        return reporter.best_value

    study.optimize(objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_threshold_pruner_ends_the_training_where_it_is_undercut() -> None:
    trial = make_study(pruner=ThresholdPruner(lower=0.4)).ask()
    with pytest.raises(optuna.TrialPruned, match="pruned at step 1"):
        fit(Scripted([0.5, 0.3, 0.5]), Reporter(trial))


@pytest.mark.parametrize(
    "estimator", [SGDClassifier(), MLPClassifier(), OneVsRestClassifier(SGDClassifier())]
)
def test_the_reporters_seed_decides_the_training(estimator: Any) -> None:
    def probe(seed: int) -> Any:
        best = fit(estimator, watcher(seed=seed), n_epochs=2, batch_size=150)
        model = best.estimators_[0] if hasattr(best, "estimators_") else best
        return np.asarray(model.coef_ if hasattr(model, "coef_") else model.coefs_[0])

    state = np.random.get_state()[1].copy()
    assert np.array_equal(probe(seed=1), probe(seed=1))
    assert not np.array_equal(probe(seed=1), probe(seed=2))
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_random_state_of_the_users_is_kept() -> None:
    assert fit(SGDClassifier(random_state=7), watcher()).random_state == 7


def test_every_row_is_trained_once_an_epoch_in_a_new_order() -> None:
    seen: list[list[int]] = []

    class Recorder(Scripted):
        def partial_fit(self, X: Any, y: Any) -> Self:
            seen.append(list(y))
            return super().partial_fit(X, y)

        def score(self, X: Any, y: Any) -> float:
            return 0.0

    rows = (np.zeros((10, 1)), np.arange(10))
    fit(Recorder(), watcher(), train=rows, n_epochs=2, batch_size=4)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    first, second = np.concatenate(seen[:3]).tolist(), np.concatenate(seen[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize("convert", [coo_array, np.ndarray.tolist])
def test_inputs_may_be_sparse_or_lists(convert: Any) -> None:
    options = {
        "train": (convert(TRAIN[0]), TRAIN[1].tolist()),
        "valid": (convert(VALID[0]), VALID[1]),
    }
    expected = fit(MultinomialNB(), watcher(), batch_size=100)
    best = fit(MultinomialNB(), watcher(), batch_size=100, **options)
    np.testing.assert_allclose(best.feature_count_, expected.feature_count_)


@pytest.mark.parametrize("metric", ["balanced_accuracy", lambda model, X, y: model.score(X, y)])
def test_metric_is_a_name_or_a_scorer(metric: Any) -> None:
    reporter = watcher()
    fit(SGDClassifier(), reporter, metric=metric)
    assert reporter.best_value is not None
    assert reporter.best_value > 0.7


def test_a_regressor_needs_no_classes() -> None:
    reporter = watcher()
    fit(SGDRegressor(), reporter, n_epochs=10, metric="neg_mean_squared_error")
    assert reporter.best_value is not None
    assert -8 < reporter.best_value < 0


def test_classes_may_hold_more_than_train() -> None:
    few = TRAIN[1] < 9
    best = fit(
        SGDClassifier(), watcher(), train=(TRAIN[0][few], TRAIN[1][few]), classes=np.arange(10)
    )
    assert list(best.classes_) == list(range(10))


def test_a_nan_score_prunes_the_trial_with_a_violated_constraint() -> None:
    study = make_study()
    study.optimize(lambda trial: fit(Scripted([0.5, math.nan]), Reporter(trial)), n_trials=1)
    assert_diverged(study, step=1)


# NumPy's own word on weights that overflow.
@pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning")
@pytest.mark.parametrize(
    ("estimator", "scale"),
    [
        (SGDRegressor(eta0=1e3, learning_rate="constant"), 1e160),  # in its own loop
        (MLPClassifier(solver="sgd", learning_rate_init=1e300), 1e100),  # in its weights
        (MLPRegressor(solver="sgd", learning_rate_init=1e300), 1e3),  # in its predictions
    ],
)
def test_overflow_within_scikit_learn_prunes_the_trial(estimator: Any, scale: float) -> None:
    study = make_study()
    train, valid = (X[:100] * scale, Y[:100]), (X[100:200] * scale, Y[100:200])

    def objective(trial: Trial) -> float:
        return fit(estimator, Reporter(trial), train=train, valid=valid)

    study.optimize(objective, n_trials=1)
    assert_diverged(study, step=0)


def assert_diverged(study: Study, *, step: int) -> None:
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY] == f"diverged: nan at step {step}"
    assert max(trial.constraints.values()) > 0


def test_divergence_without_a_trial_raises() -> None:
    with pytest.raises(Diverged):
        fit(Scripted([math.nan]), watcher())


def test_nan_in_the_inputs_is_no_divergence() -> None:
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fit(SGDClassifier(), watcher(), train=(np.full_like(TRAIN[0], math.nan), TRAIN[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_epochs": 0}, r"`n_epochs` must be 1 or above, got 0"),
        ({"batch_size": 0}, r"`batch_size` must be 1 or above, or None, got 0"),
        ({"train": (X[:3], Y[:2])}, r"`train` .* one length, got 3 and 2"),
        ({"valid": (X[:0], Y[:0])}, r"`valid` must hold at least one row"),
        ({"valid": (X[:2], np.array([1.0, math.nan]))}, r"`valid` targets must be finite, got 1"),
        ({"metric": "acuracy"}, r"`metric` .* got 'acuracy'\. Did you mean 'accuracy'\?"),
        ({"classes": range(9)}, r"`train` must hold no class .* got \[9\] besides"),
        ({"train": (X[:9], Y[:9])}, r"`valid` must hold no class .* got \[9\] besides"),
        ({"train": (X[:9], np.eye(9, dtype=int))}, r"`classes` must be given .* \(9, 9\)"),
        ({"estimator": SGDRegressor(), "classes": [0]}, r"`classes` must be None .* SGDRegressor"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    reporter = watcher()
    with pytest.raises(InvalidArgument, match=message):
        fit(**{"estimator": SGDClassifier(), "reporter": reporter, **options})
    assert reporter.best_step is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": LinearRegression()}, r"`estimator` must have `partial_fit`"),
        ({"train": X}, r"`train` must be a pair \(inputs, targets\), got ndarray"),
        ({"train": (X, Y, Y)}, r"`train` must be a pair .* got a tuple of 3"),
        ({"metric": ["accuracy"]}, r"`metric` must be .* got list"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidType, match=message):
        fit(**{"estimator": SGDClassifier(), "reporter": watcher(), **options})


def test_an_estimator_that_cannot_score_itself_needs_metric() -> None:
    class Mute(BaseEstimator):
        def partial_fit(self, X: Any, y: Any) -> Self:
            return self

    with pytest.raises(InvalidArgument, match="`metric` must be given"):
        fit(Mute(), watcher())


def test_a_study_that_minimizes_is_refused() -> None:
    trial = make_study(direction="minimize").ask()
    with pytest.raises(InvalidArgument, match=r"study that maximizes, .* direction='minimize'"):
        fit(SGDClassifier(), Reporter(trial))
