"""expected_losses(): how many trials that a race has stopped would have been the best."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpolab import RacingPruner
from hpolab.analysis.race import expected_losses


def raced(values: np.ndarray, direction: str = "minimize") -> optuna.Study:
    """Run a race over (trials, folds) values."""
    study = optuna.create_study(pruner=RacingPruner(), direction=direction)

    def objective(trial):
        for fold, value in enumerate(values[trial.number]):
            trial.report(value, fold)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(values[trial.number].mean())

    study.optimize(objective, n_trials=len(values))
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("spread", "n_trials", "n_folds"), [(0.2, 40, 6), (0.6, 20, 8)])
def test_expected_number_is_about_the_true_one(spread, n_trials, n_folds, direction):
    sign = 1.0 if direction == "minimize" else -1.0
    expected, true = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        levels = rng.normal(0, spread, n_trials)[:, None]
        values = levels + rng.normal(size=n_folds) + rng.normal(size=(n_trials, n_folds))
        study = raced(sign * values, direction)
        expected.append(expected_losses(study.trials, study.direction))
        stopped = [t.number for t in study.trials if t.state == TrialState.PRUNED]
        true.append((values[stopped].mean(axis=1) < sign * study.best_value).sum())
    error = np.std(true, ddof=1) / np.sqrt(len(true))
    assert abs(np.mean(expected) - np.mean(true)) <= 3 * error


def test_diverged_trials_count_for_nothing():
    rng = np.random.default_rng(0)
    study = raced(rng.normal(size=(20, 5)))
    before = expected_losses(study.trials, study.direction)
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED, intermediate_values={0: -1e9}, constraints={"diverged": 1.0}
        )
    )
    assert expected_losses(study.trials, study.direction) == before


@pytest.mark.parametrize("n_complete", [0, 1])
def test_with_fewer_than_two_complete_trials_nobody_knows(n_complete):
    study = raced(np.ones((n_complete, 4)))
    assert expected_losses(study.trials, study.direction) is None


@pytest.mark.filterwarnings("error")
def test_equal_values_and_missing_folds_are_no_trouble():
    study = raced(np.ones((5, 4)))
    for reports in ({0: 2.0}, {0: 2.0, 1: float("nan")}, {7: 1.0}):
        study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=reports))
    assert expected_losses(study.trials, study.direction) in (0.0, None)
