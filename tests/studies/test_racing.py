"""RacingPruner: gives up what will hardly end better than the best trial, and little else."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpolab import InvalidArgument, RacingPruner, make_study

N_FOLDS = 5
DIFFICULTY = np.array([0.3, 0.1, 0.5, 0.2, 0.4])  # of the folds, the same for all configurations


def race(
    levels: list[float], noise: float, *, seed: int = 0, direction: str = "minimize", **options
) -> optuna.Study:
    """Run trials whose folds are their level, the fold's difficulty and noise."""
    rng = np.random.default_rng(seed)
    sign = -1.0 if direction == "maximize" else 1.0
    study = optuna.create_study(direction=direction, pruner=RacingPruner(**options))

    def objective(trial: optuna.Trial) -> float:
        level = levels[trial.number]
        values = sign * (level + DIFFICULTY + noise * rng.standard_normal(N_FOLDS))
        for fold, value in enumerate(values):
            trial.report(value, fold)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(values.mean())

    study.optimize(objective, n_trials=len(levels))
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_is_far_worse_ends_after_one_fold_and_what_is_better_runs_to_its_end(direction):
    study = race([1.0, 1.01, 1.5, 0.5, 1.0], noise=0.01, direction=direction)
    assert [len(trial.intermediate_values) for trial in study.trials] == [5, 5, 1, 5, 1]
    assert study.best_trial.number == 3


def test_nothing_is_pruned_before_two_trials_are_complete():
    study = race([0.0, 9.0], noise=0.01)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_last_fold_is_never_the_reason():
    study = race([0.0, 0.02, *[0.02] * 200], noise=0.05)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert 100 < len(pruned) < 200
    assert all(len(trial.intermediate_values) < N_FOLDS for trial in pruned)


@pytest.mark.parametrize(("gain", "least", "most"), [(0.0, 0.5, 1.0), (3.0, 0.0, 0.1)])
def test_equal_trials_end_early_and_better_ones_run_to_their_end(gain, least, most):
    """The gain is in standard errors of a mean difference; the best of two has its own luck."""
    better = -gain * 0.1 * np.sqrt(2 / N_FOLDS)
    pruned = [
        race([0.0, 0.0, better], noise=0.1, seed=seed).trials[-1].state == TrialState.PRUNED
        for seed in range(200)
    ]
    assert least <= np.mean(pruned) <= most


def test_infeasible_trials_are_not_raced_against():
    study = optuna.create_study(pruner=RacingPruner())
    for level, dead in ((0.0, 1.0), (1.0, 0.0), (1.01, 0.0)):
        reports = {fold: level + fold + 0.01 * fold * level for fold in range(3)}
        study.add_trial(
            optuna.trial.create_trial(
                value=level,
                intermediate_values=reports,
                constraints={"dead": dead},
            )
        )
    trial = study.ask()
    trial.report(0.999, 0)
    assert not trial.should_prune()
    trial.report(3.5, 1)
    assert trial.should_prune()


@pytest.mark.parametrize("chance", [0.0, 0.5, -1.0])
def test_bad_chances_are_refused(chance):
    with pytest.raises(InvalidArgument, match="`chance` must be above 0"):
        RacingPruner(chance)


def test_study_made_with_it_resumes_with_it():
    storage = optuna.storages.InMemoryStorage()
    make_study("s", storage=storage, pruner="race")
    assert isinstance(make_study("s", storage=storage).pruner, RacingPruner)
