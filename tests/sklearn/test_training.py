"""One cross-validation: weights reach it, its warnings are counted, its divergence ends a trial."""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.pruners import ThresholdPruner
from optuna.trial import TrialState
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpolab import Diverged, SearchSpace, SklearnObjective
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from optuna import Study
    from optuna.trial import FrozenTrial


IRIS = load_iris(return_X_y=True)
DIABETES = tuple(part[:150] for part in load_diabetes(return_X_y=True))
NOTHING = SearchSpace({})


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Ridge(), "sample_weight"),
        (make_pipeline(StandardScaler(), Ridge()), "ridge__sample_weight"),
    ],
)
def test_weights_reach_the_fit(
    run_trial: Callable[..., FrozenTrial],
    reports: Callable[[FrozenTrial], list[float]],
    model: Any,
    key: str,
) -> None:
    weights = np.random.default_rng(0).uniform(0, 2, len(DIABETES[1]))
    trial = run_trial(SklearnObjective(model, DIABETES, folds=KFold(3), sample_weight=weights))
    expected = cross_val_score(model, *DIABETES, cv=KFold(3), params={key: weights})
    assert reports(trial) == expected.tolist()
    assert reports(trial) != cross_val_score(model, *DIABETES, cv=KFold(3)).tolist()


def test_fits_that_do_not_converge_are_counted_without_a_warning(
    run_trial: Callable[..., FrozenTrial], plain_study: Callable[..., Study]
) -> None:
    model = MLPClassifier(max_iter=2)
    objective = SklearnObjective(model, IRIS, folds=3, search_space=NOTHING)
    assert run_trial(objective).user_attrs[METRICS_KEY]["n_unconverged"] == 3
    study = plain_study(pruner=ThresholdPruner(lower=2.0))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs[METRICS_KEY] == {"n_unconverged": 1}


def test_trials_in_threads_leave_the_warnings_of_the_process_as_they_were(
    plain_study: Callable[..., Study],
) -> None:
    def slow(model: Any, X: Any, y: Any) -> float:
        time.sleep(0.02)
        return 0.0

    show, filters = warnings.showwarning, list(warnings.filters)
    objective = SklearnObjective(Unconverged(), IRIS, folds=3, search_space=NOTHING, metric=slow)
    study = plain_study()
    study.optimize(objective, n_trials=6, n_jobs=3)
    assert (warnings.showwarning, list(warnings.filters)) == (show, filters)
    assert [t.user_attrs[METRICS_KEY]["n_unconverged"] for t in study.trials] == [3] * 6


class Unconverged(DummyClassifier):
    def fit(self, X: Any, y: Any) -> Self:
        time.sleep(0.01)
        warnings.warn("not there yet", ConvergenceWarning, stacklevel=1)
        return super().fit(X, y)


class Warner(DummyClassifier):
    def fit(self, X: Any, y: Any) -> Self:
        warnings.warn("look out", UserWarning, stacklevel=1)
        return super().fit(X, y)


def test_other_warnings_are_shown(run_trial: Callable[..., FrozenTrial]) -> None:
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
def test_a_fit_that_diverges_prunes_and_marks_the_trial(
    run_trial: Callable[..., FrozenTrial], model: Any, options: Any
) -> None:
    data = (DIABETES[0] * 1e3, DIABETES[1])
    objective = SklearnObjective(model, data, search_space=NOTHING, **options)
    trial = run_trial(objective)
    assert trial.state == TrialState.PRUNED
    assert re.match("diverged: (nan|-inf) at step [01]", trial.user_attrs[REASON_KEY])
    assert max(trial.constraints.values()) > 0
    if options.get("fidelity") != "rows":  # there nothing is scored, and nothing noticed
        with pytest.raises(Diverged):
            objective.fit({}, seed=0)


def test_an_error_of_the_estimator_fails_the_trial(run_trial: Callable[..., FrozenTrial]) -> None:
    class Broken(DummyClassifier):
        def fit(self, X: Any, y: Any) -> Self:
            raise RuntimeError("no fit today")

    objective = SklearnObjective(Broken(), IRIS, search_space=NOTHING)
    with pytest.raises(RuntimeError, match="no fit today"):
        run_trial(objective)
    holed = SklearnObjective(Ridge(), (np.full((9, 2), np.nan), np.arange(9.0)), folds=3)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        run_trial(holed)
