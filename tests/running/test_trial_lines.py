"""The line that a plain log has for each trial that ends."""

from __future__ import annotations

import logging
import subprocess
import sys

import optuna
import pytest

from hpolab import FunctionObjective, SearchSpace, make_study, run

SPACE = SearchSpace({"lr": (1e-3, 1.0, "log"), "beta1": (0.5, 0.99)}, one_minus=["beta1"])


def train(params, reporter):
    """Trial 1 diverges, trial 2 is pruned by hand, trial 3 fails; the others go well."""
    number = round(params["nr"])
    if number == 1:
        reporter.report(float("nan"), 0)
    if number == 2:
        reporter.report(0.5, 0)
        raise optuna.TrialPruned
    if number == 3:
        raise ValueError("no such file")
    return params["beta1"] + number


@pytest.fixture
def objective() -> FunctionObjective:
    space = SPACE | SearchSpace({"nr": (0, 99)})
    return FunctionObjective(
        train, search_space=space, metric="rmse", direction="minimize", max_steps=3
    )


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        found = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Trial ")]
        caplog.clear()
        return found

    return lines


def enqueued(study: optuna.Study, n: int) -> optuna.Study:
    for number in range(n):
        study.enqueue_trial({"lr": 0.1, "one_minus_beta1": 0.1, "nr": number})
    return study


def said_of_five(lines) -> None:
    by_number = {int(line.split()[1]): line for line in lines()}
    assert sorted(by_number) == [0, 1, 2, 3, 4]
    assert by_number[0].startswith(
        "Trial 0 of study 's' finished with rmse: 0.9 and parameters: {'lr': 0.1, 'beta1': 0.9, "
        "'nr': 0}. Best is trial 0 with rmse: 0.9."
    )
    assert "pruned: diverged" in by_number[1]
    assert "pruned at step 0. Best is trial" in by_number[2]
    assert "failed: ValueError: no such file" in by_number[3]
    assert "finished with rmse: 4.9" in by_number[4]
    assert by_number[4].endswith("Best is trial 0 with rmse: 0.9.")


def test_each_trial_has_one_line_with_the_trainers_names(objective, lines):
    study = make_study("s", storage="memory://", objective=objective, sampler="random")
    run(enqueued(study, 5), objective, n_trials=5)
    said_of_five(lines)


def test_worker_processes_have_the_same_lines(objective, lines, tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, objective=objective, sampler="random")
    run(enqueued(study, 5), objective, n_trials=5, n_workers=2)
    said_of_five(lines)


def test_only_the_trials_of_this_run_have_a_line(objective, lines):
    study = make_study("s", storage="memory://", objective=objective, sampler="random")
    run(enqueued(study, 1), objective, n_trials=1)
    lines()
    study.enqueue_trial({"lr": 0.1, "one_minus_beta1": 0.1, "nr": 7})
    run(study, objective, n_trials=2)
    (line,) = lines()
    assert line.startswith("Trial 1 ")


def test_a_function_has_its_own_names_and_several_values_all_of_theirs(lines):
    def function(trial):
        return trial.suggest_float("x", 1, 1), 2.0

    study = make_study("s", storage="memory://", direction=["minimize", "maximize"])
    run(study, function, n_trials=1)
    said = (
        "Trial 0 of study 's' finished with value 0: 1.0, value 1: 2.0 and parameters: {'x': 1.0}."
    )
    assert lines() == [said]


def test_a_bar_takes_the_place_of_the_lines(objective, lines, capsys):
    study = make_study("s", storage="memory://", objective=objective, sampler="random")
    run(enqueued(study, 1), objective, n_trials=1, show_progress_bar=True)
    assert lines() == []
    assert "1/1" in capsys.readouterr().err


PROGRAM = """
import optuna
from hpolab import make_study, run
optuna.logging.set_verbosity(optuna.logging.{level})
study = make_study("s", storage="sqlite:///s.db", sampler="random")
run(study, lambda trial: 0.5, n_trials=4, n_workers={n_workers})
"""


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize(("level", "n"), [("INFO", 4), ("WARNING", 0)])
def test_optunas_verbosity_silences_them(level, n, n_workers, tmp_path):
    code = PROGRAM.format(level=level, n_workers=n_workers)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("finished with value: 0.5") == n
    assert not n or "[I " in done.stderr
