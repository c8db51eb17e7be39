"""HalvingPruner: decides at reports 1, 8, 16, ..., however they are numbered."""

from __future__ import annotations

import math

import optuna
import pytest

from hpolab import HalvingPruner, InvalidArgument, InvalidType, make_study

N_EPOCHS = 20


def study_of(
    curves: list[list[float]], *, direction: str = "minimize", steps: range | None = None, **options
) -> optuna.Study:
    """Run one trial after the other, each with the reports that a list has for it."""
    study = optuna.create_study(direction=direction, pruner=HalvingPruner(**options))

    def objective(trial: optuna.Trial) -> float:
        curve = curves[trial.number]
        for step, value in zip(steps or range(len(curve)), curve, strict=True):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return curve[-1]

    study.optimize(objective, n_trials=len(curves))
    return study


def n_reports(study: optuna.Study) -> list[int]:
    return [len(trial.intermediate_values) for trial in study.trials]


def flat(*levels: float) -> list[list[float]]:
    return [[level] * N_EPOCHS for level in levels]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(
    "steps", [range(20), range(1, 21), range(10, 210, 10)], ids=["from 0", "from 1", "by tens"]
)
def test_after_the_first_report_the_best_eighth_goes_on_however_steps_are_numbered(
    direction, steps
):
    levels = [5.0, 6.0, 4.0, 9.0, 9.0, 9.0, 9.0, 9.0, 4.5, 4.6]
    signed = levels if direction == "minimize" else [-level for level in levels]
    study = study_of(flat(*signed), direction=direction, steps=steps)
    # The ninth is second of nine, and an eighth of nine, rounded up, are two. It is no better than
    # half of what has come to the eighth report, though.
    assert n_reports(study) == [20, 1, 20, 1, 1, 1, 1, 1, 8, 1]


def test_later_rungs_keep_the_better_half_by_the_best_report_so_far():
    falls_back = [1.0] * 3 + [9.0] * 17
    study = study_of([[3.0] * 20, [2.0] * 20, falls_back, [0.9] * 8 + [0.5] * 12])
    assert n_reports(study) == [20, 20, 20, 20]
    lead_that_does_not_last = [0.5] + [0.95] * 19
    better_late = [0.4] * 7 + [0.3] * 13
    study = study_of([[3.0] * 7 + [0.2] * 13, lead_that_does_not_last, better_late])
    assert n_reports(study) == [20, 8, 8]


def test_trials_that_run_at_once_count_for_each_other():
    study = optuna.create_study(pruner=HalvingPruner())
    trials = [study.ask() for _ in range(8)]
    stopped = []
    for value, trial in enumerate(trials):
        trial.report(float(value), 0)
        stopped.append(trial.should_prune())
    assert stopped == [False] + [True] * 7


def test_asked_again_at_the_same_report_it_does_not_count_the_trial_twice():
    study = study_of(flat(1.0))
    trial = study.ask()
    trial.report(0.5, 0)
    assert [trial.should_prune() for _ in range(3)] == [False] * 3
    noted = [key for key in study.get_trials()[1].system_attrs if "rung" in key]
    assert noted == ["completed_rung_0"]


def test_a_first_report_that_is_not_a_number_stops_the_trial():
    assert n_reports(study_of([[1.0] * 20, [math.nan] * 20])) == [20, 1]


def test_equal_trials_all_go_on():
    """As where no first epoch does better than chance."""
    assert n_reports(study_of(flat(*[0.1] * 20))) == [20] * 20


@pytest.mark.parametrize(
    ("first", "error"), [(1, InvalidArgument), (0, InvalidArgument), (2.5, InvalidType)]
)
def test_a_share_that_stops_none_is_refused(first, error):
    with pytest.raises(error, match="`first` must be"):
        HalvingPruner(first)


def test_a_study_resumes_with_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    make_study("s", storage=url, pruner=HalvingPruner(first=4))
    assert repr(make_study("s", storage=url, pruner=HalvingPruner(first=4)).pruner) == (
        "HalvingPruner(first=4)"
    )
