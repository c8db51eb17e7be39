"""What a run says: failed trials as they fail, what came of it, that nothing is left to run."""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    Reporter,
    SearchSpace,
    TooManyFailures,
    compare,
    confirm,
    load_study,
    make_study,
    run,
    sweep,
)
from hpolab.running import worker
from hpolab.running.outcome import why_without_best

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns hpolab's lines since the last call, each with its level's first letter.

    Without the line that each trial has as it ends: see test_trial_lines.py.
    """
    caplog.set_level(logging.INFO)

    def said() -> list[str]:
        ours = [record for record in caplog.records if record.name.startswith("hpolab")]
        records = [record for record in ours if not record.name.endswith("trial_lines")]
        caplog.clear()
        return [f"{record.levelname[0]} {record.getMessage()}" for record in records]

    return said


@pytest.fixture
def study():
    return make_study("s", storage="memory://", sampler="random")


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def fails_from(number: int) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        if trial.number >= number:
            raise OSError("the disk is full")
        return square(trial)

    return objective


def test_a_run_that_goes_well_says_in_one_line_what_came_of_it(study, said):
    run(study, square, n_trials=4)
    (line,) = said()
    assert line.startswith("I Study 's' has 4 finished trials (4 complete, 0 pruned, 0 failed).")
    assert f"The best value is {study.best_value:.6g}, of trial {study.best_trial.number}." in line


def test_each_failed_trial_is_told_of_once_with_its_reason_and_its_place(study, said):
    run(study, fails_from(2), n_trials=5)
    *failures, last = said()
    assert [line.partition(" of ")[0] for line in failures] == [f"W Trial {n}" for n in (2, 3, 4)]
    for line in failures:
        assert "failed: OSError: the disk is full (test_outcome.py:" in line
        assert line.endswith("in objective)")
    assert last.startswith("W Study 's' has 5 finished trials (2 complete, 0 pruned, 3 failed).")
    assert "The last error was OSError: the disk is full." in last


def test_failures_of_earlier_runs_do_not_make_a_good_one_a_warning(study, said):
    run(study, fails_from(1), n_trials=2)
    said()
    run(study, square, n_trials=4)
    changed, line = said()
    assert "the code of `objective`" in changed
    assert line.startswith("I ")
    assert "1 failed" in line


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_without_any_value_warns_and_says_why(study, said, value):
    run(study, lambda trial: value, n_trials=3)
    (line,) = said()
    assert line.startswith("W Study 's' has 3 finished trials (0 complete, 3 pruned, 0 failed).")
    assert f"the objective returned {value}" in line


def test_what_ends_all_by_an_error_is_not_summed_up(study, said):
    with pytest.raises(TooManyFailures):
        run(study, fails_from(0), n_trials=9)
    assert [line.partition(" failed")[0] for line in said()] == [
        f"W Trial {number} of study 's'" for number in range(3)
    ]


@pytest.mark.parametrize(("n_trials", "level"), [(3, "I"), (2, "W")])
def test_a_budget_that_is_spent_says_so_and_that_it_is_the_total(study, said, n_trials, level):
    run(study, square, n_trials=3)
    said()
    run(study, square, n_trials=n_trials)
    (line,) = said()
    assert line.startswith(f"{level} Study 's': nothing to run. It has 3 finished trials")
    assert f"n_trials={n_trials} is the total" in line


def test_a_budget_below_what_a_study_of_optuna_has_says_so(said):
    study = optuna.create_study()
    study.optimize(square, n_trials=3)
    run(study, square, n_trials=2)
    (line,) = said()
    assert "has 3 finished trials" in line


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda study, trial: study.stop(), "`study.stop` was called"),
        (lambda study, trial: time.sleep(0.3), "`timeout_seconds` is up"),
    ],
)
def test_a_run_that_ends_early_says_what_has_ended_it(study, said, end, reason):
    run(study, square, n_trials=9, timeout_seconds=0.2, callbacks=[end])
    (line,) = said()
    assert f"of n_trials=9. It ended early: {reason}." in line


def test_an_exhausted_sampler_is_named_when_it_ends_a_run_and_when_nothing_is_left(said):
    space = SearchSpace({"x": [0.1, 0.2]})
    study = make_study("s", storage="memory://", sampler="grid", search_space=space)
    for _ in range(2):
        run(study, lambda trial: trial.suggest_categorical("x", [0.1, 0.2]), n_trials=9)
    first, second = said()
    assert "It ended early: the sampler has no other point." in first
    assert "its sampler (grid) has no other point" in second
    assert "allow_change=['sampler']" in second


def test_a_trial_asked_for_here_and_not_told_is_named(study, said):
    trial = study.ask()
    Reporter(trial)
    run(study, square, n_trials=2)
    (line,) = said()
    assert line.startswith("W ")
    assert "Nobody has told trial 0 (asked for in this process)." in line


def test_a_worker_that_waits_long_for_another_says_for_whom_once(
    said, tmp_path, monkeypatch, python
):
    monkeypatch.setattr(worker, "SILENT_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, sampler="random")
    script = """
import sys, time
from hpolab import load_study, Reporter
study = load_study("s", storage=sys.argv[1])
trial = study.ask()
with Reporter(trial):
    print("asked", flush=True)
    time.sleep(3)
study.tell(trial, 1.0)
"""
    with python.start(script, url) as other:
        assert other.stdout.readline() == "asked\n"
        run(study, square, n_trials=2)
    first, last = said()
    assert f"W Study 's' waits for trial 0 (process {other.pid} on this host)." == first
    assert last.startswith("I ")
    assert load_study("s", storage=url).trials[0].state == TrialState.COMPLETE


@pytest.mark.usefixtures("warm_workers")
def test_workers_failures_are_told_of_here_once_each(said, tmp_path):
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random")
    run(study, fails_from(2), n_trials=6, n_workers=2)
    *failures, last = said()
    assert sorted(line.partition(" of ")[0] for line in failures) == [
        f"W Trial {number}" for number in range(2, 6)
    ]
    assert all("OSError: the disk is full" in line for line in failures)
    assert last.startswith("W Study 's' has 6 finished trials")


LINE = SearchSpace({"x": (0.0, 1.0)})


def line(train=lambda params, reporter: params["x"], **options) -> FunctionObjective:
    return FunctionObjective(train, search_space=LINE, direction="minimize", max_steps=1, **options)


def test_a_comparison_and_a_sweep_say_a_line_for_each_study(said):
    halves = {"low": LINE, "high": LINE.override(x=(0.5, 1.0))}
    compare(line(), halves, study_name="c", n_trials=2, storage="memory://")
    assert [each.split("'")[1] for each in said()] == ["c-low", "c-high"]
    stages = {"first": {"x": [0.1, 0.2]}, "second": {"x": [0.05]}}
    sweep(line(), stages, study_name="w", storage="memory://")
    assert [each.split("'")[1] for each in said()] == ["w-first", "w-second"]


class Trained(FunctionObjective):
    def fit(self, params, seed=0):
        if self.fails(seed):
            raise OSError("the disk is full")
        return params["x"]

    def evaluate(self, model, data):
        return {"loss": model}


def trained(fails: Callable[[int], bool]) -> Trained:
    objective = Trained(
        lambda params, reporter: params["x"],
        search_space=LINE,
        direction="minimize",
        max_steps=1,
        metric="loss",
    )
    objective.fails = fails
    return objective


def test_a_confirmation_says_one_line_for_all_its_rounds(said):
    objective = trained(lambda seed: False)
    study = make_study("s", objective=objective, storage="memory://")
    run(study, objective, n_trials=3)
    said()
    confirm(study, objective, test=[0], n_seeds=3)
    (last,) = said()
    assert last.startswith("I Study 's-confirm' has ")


def test_a_stop_in_a_callback_ends_a_confirmation(said):
    objective = trained(lambda seed: False)
    study = make_study("s", objective=objective, storage="memory://")
    run(study, objective, n_trials=3)
    said()
    stop = [lambda study, trial: study.stop()]
    with pytest.raises(InvalidArgument, match="call `confirm` again to resume it"):
        confirm(study, objective, test=[0], n_seeds=3, callbacks=stop)
    (last,) = said()
    assert "has 1 finished trial (" in last
    assert "It ended early: `study.stop` was called." in last


def two_values(trial: optuna.Trial) -> tuple[float, float]:
    x = trial.suggest_float("x", 0, 1)
    return x, 1 - x


def infeasible(trial: optuna.Trial) -> float:
    trial.set_constraint("memory", 1.0)
    return 0.0


@pytest.mark.parametrize(
    ("objective", "n_values", "why"),
    [
        (two_values, 2, r"2 objective values.*`study.best_trials`\): 0, 1, 2"),
        (infeasible, 1, r"all 3 complete trials violate a constraint \(memory\)"),
        (lambda trial: math.nan, 1, r"none of 3 is complete \(3 pruned, 0 failed; .*returned nan"),
    ],
)
def test_why_a_study_has_no_best_trial(objective, n_values, why):
    study = make_study("s", storage="memory://", direction=["minimize"] * n_values)
    run(study, objective, n_trials=3)
    assert re.search(why, why_without_best(study))


def test_why_a_study_that_has_just_begun_has_no_best_trial(study):
    assert why_without_best(study) == "none is complete yet"


@pytest.mark.parametrize(
    ("enqueued", "line"),
    [
        ({"y": 0.5}, "W Trial 0 of study 's' was enqueued with 'y', which its objective did not"),
        ({"xx": 0.5}, "Did you mean 'x'?"),
        ({"x": 0.5, "depth": 3}, "I Trial 0 of study 's' was enqueued with 'depth'"),
    ],
)
def test_enqueued_name_that_no_function_asks_for_is_told(enqueued, line, study, said):
    study.enqueue_trial(enqueued)
    run(study, square, n_trials=2)
    told = [each for each in said() if "was enqueued with" in each]
    assert len(told) == 1
    assert line in told[0]


def test_enqueued_names_that_are_asked_for_are_not_told_of(study, said):
    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({})
    run(study, square, n_trials=3)
    assert not [each for each in said() if "was enqueued with" in each]


def test_a_spent_budget_without_any_value_says_how_to_begin_anew(study, said):
    run(study, lambda trial: math.nan, n_trials=3)
    said()
    run(study, square, n_trials=3)
    *_, line = said()  # before it: the code has changed
    assert line.startswith("W Study 's': nothing to run.")
    assert "the objective returned nan" in line
    assert "delete_study('s', …)" in line
