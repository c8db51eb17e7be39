"""RacingPruner: gives up what will hardly end better than the best trial, and little else."""

from __future__ import annotations

import math
from statistics import fmean, median, variance

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy import stats

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


BEST = [0.0, 0.3, 0.1, 0.5, 0.2]


def verdict(complete: list[list[float]], running: list[float], direction: str = "minimize") -> bool:
    """Tell whether a trial with these reports is given up beside complete trials."""
    sign = -1.0 if direction == "maximize" else 1.0
    study = optuna.create_study(direction=direction, pruner=RacingPruner())
    for values in complete:
        study.add_trial(
            optuna.trial.create_trial(
                value=sign * float(np.mean(values)),
                intermediate_values={fold: sign * v for fold, v in enumerate(values)},
            )
        )
    trial = study.ask()
    for fold, value in enumerate(running):
        trial.report(sign * value, fold)
    return trial.should_prune()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("n_copies", [1, 2, 7])
@pytest.mark.parametrize("rounding", [0.0, 1e-13])
def test_repeats_of_the_best_trial_are_no_evidence_of_the_spread(n_copies, rounding, direction):
    copies = [[value + rounding for value in BEST] for _ in range(n_copies)]
    assert not verdict([BEST, *copies], [9.0], direction)
    assert not verdict([[1.0] * 5, *[[1.0 + rounding] * 5] * n_copies], [1.5], direction)


@pytest.mark.parametrize("n_copies", [0, 1, 7])
def test_copies_beside_one_other_configuration_change_no_verdict(n_copies):
    other = [0.4, 0.2, 0.6, 0.5, 0.8]
    for gap in (0.05, 0.1, 0.3, 0.6, 1.2):
        assert verdict([BEST, other, *[BEST] * n_copies], [gap]) == verdict([BEST, other], [gap])
        crowd = [BEST, other, BEST, *[other] * n_copies]
        assert verdict(crowd, [gap]) == verdict([BEST, other], [gap])
    assert verdict([BEST, other, *[BEST] * n_copies], [1.2])


@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_near_copies_give_nobody_up_for_what_folds_differ_by_anyway(size):
    near = [[v + size * (-1) ** (fold + k) for fold, v in enumerate(BEST)] for k in range(4)]
    assert not verdict([BEST, *near], [BEST[0] + 0.03])
    assert verdict([BEST, *near], [BEST[0] + 0.5])


def test_folds_of_the_trial_itself_that_vary_much_keep_it_running():
    complete = [BEST, [v + 0.2 + 0.01 * (-1) ** fold for fold, v in enumerate(BEST)]]
    steady, varied = [0.1, 0.4], [-0.4, 0.9]
    assert verdict(complete, steady)
    assert not verdict(complete, varied)


def test_configurations_that_differ_alike_on_every_fold_are_told_apart_after_one():
    assert verdict([[1.0] * 3, [2.0] * 3], [1.5])


def decided_anew(study: optuna.Study, trial: optuna.trial.FrozenTrial, chance: float) -> bool:
    """Decide from all trials at once, as the docstring has it; minimizing."""
    complete = [
        other.intermediate_values
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if other.intermediate_values and not any(other.constraints.values())
    ]
    if not complete:
        return False
    best = min(complete, key=lambda reports: fmean(reports.values()))

    def behind(reports):
        return [reports[step] - best[step] for step in reports.keys() & best.keys()]

    distinct = {tuple(sorted(reports.items())): reports for reports in complete}.values()
    spreads = [variance(d) for d in map(behind, distinct) if len(d) > 1 and any(map(abs, d))]
    own = behind(trial.intermediate_values)
    if not spreads or not own or len(own) >= len(best):
        return False
    usual = max(median(spreads), variance(best.values()) / 16)
    n_free, n_own = len(best) - 1, len(own) - 1
    pooled = (n_free * usual + n_own * (variance(own) if n_own else 0.0)) / (n_free + n_own)
    error = math.sqrt(pooled * (1 / len(own) - 1 / len(best)))
    too_small = chance * len(own) / len(best)
    return fmean(own) > error * stats.t.ppf(1 - too_small, n_free + n_own)


@pytest.mark.parametrize("chance", [0.05, 0.2, 0.45])
def test_race_that_takes_in_each_trial_once_decides_as_one_that_reads_them_all(chance):
    """Several run at once, some report fewer folds, fail, violate a constraint or are repeats."""
    study = optuna.create_study(pruner=RacingPruner(chance))
    rng = np.random.default_rng(0)
    running: list[tuple[optuna.Trial, list[float]]] = []
    n_pruned, n_asked, curves = 0, 0, []
    while n_asked < 150 or running:
        if len(running) < 4 and n_asked < 150:
            level = rng.uniform(0, 1) * (1 - n_asked / 200)
            curve = list(level + DIFFICULTY + 0.1 * rng.standard_normal(N_FOLDS))
            if n_asked % 7 == 6:
                curve = list(curves[rng.integers(len(curves))])
            curves.append(curve)
            running.append((study.ask(), curve[: rng.choice([3, 5, 5, 5])]))
            n_asked += 1
        place = running[rng.integers(len(running))]
        trial, curve = place
        reports = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        trial.report(curve[len(reports)], len(reports))
        frozen = study.get_trials(deepcopy=False)[trial.number]
        expected = decided_anew(study, frozen, chance)
        assert study.pruner.prune(study, frozen) == expected
        if expected or len(frozen.intermediate_values) == len(curve):
            running.remove(place)
            n_pruned += expected
            if rng.random() < 0.1:
                trial.set_constraint("c", 1.0)
            if expected:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, fmean(curve))
    assert 10 < n_pruned < 145


@pytest.mark.parametrize("spread", [0.1, 0.3, 1.0, 3.0])
def test_best_over_all_folds_is_stopped_in_few_studies(spread):
    """The spread of trials, in units of one fold's noise."""
    n_trials, n_folds, lost = 30, 10, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        levels = rng.normal(0, spread, n_trials)[:, None]
        values = levels + rng.normal(0, 2, n_folds) + rng.normal(size=(n_trials, n_folds))
        study = optuna.create_study(pruner=RacingPruner())

        def objective(trial, values=values):
            for fold, value in enumerate(values[trial.number]):
                trial.report(value, fold)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return float(values[trial.number].mean())

        study.optimize(objective, n_trials=n_trials)
        best = study.trials[int(values.mean(axis=1).argmin())]
        lost.append(best.state == TrialState.PRUNED)
    assert np.mean(lost) <= 0.2 + 2 * math.sqrt(0.2 * 0.8 / 40)
