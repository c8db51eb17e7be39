"""The progress bar: what it shows, and where it shows nothing."""

from __future__ import annotations

import optuna
import pytest

from hpolab import copy_study, make_study, run


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def test_progress_bar_shows_trials_best_and_pruned(capsys):
    def objective(trial):
        if trial.number == 1:
            raise optuna.TrialPruned
        return 0.25

    study = make_study("bar", storage="memory://")
    run(study, objective, n_trials=3, show_progress_bar=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "bar" in shown.err
    assert "3/3" in shown.err
    assert "best 0.25 (trial 0)" in shown.err
    assert "1 pruned" in shown.err


@pytest.mark.parametrize("name", ["resnet[bs=32]", "dir[/b]", "[red]", ":fire:", "{task.id}"])
def test_the_bar_shows_the_studys_name_as_it_is(name, capsys):
    run(make_study(name, storage="memory://"), square, n_trials=1, show_progress_bar=True)
    assert name in capsys.readouterr().err


def test_no_progress_bar_where_standard_error_is_no_terminal(capsys):
    run(make_study("bar", storage="memory://"), square, n_trials=1)
    assert capsys.readouterr().err == ""


def test_failed_trials_are_told_and_several_values_have_no_best(capsys):
    def objective(trial):
        if trial.number == 1:
            raise ValueError
        return 1.0, 2.0

    study = make_study("bar", storage="memory://", direction=["minimize", "minimize"])
    run(study, objective, n_trials=2, show_progress_bar=True)
    shown = capsys.readouterr().err
    assert "0 pruned · 1 failed" in shown
    assert "best" not in shown


def test_a_run_without_a_budget_shows_the_count_alone(capsys):
    study = make_study("bar", storage="memory://")
    run(
        study,
        square,
        timeout_seconds=60,
        callbacks=[lambda study, _: study.stop()],
        show_progress_bar=True,
    )
    assert "1/?" in capsys.readouterr().err


def test_the_bar_of_a_copy_counts_its_trials(capsys):
    storage = optuna.storages.InMemoryStorage()
    run(make_study("s", storage=storage), square, n_trials=3)
    there = optuna.storages.InMemoryStorage()
    copy_study("s", storage=storage, to_storage=there, to_study_name="t", show_progress_bar=True)
    shown = capsys.readouterr().err
    assert "t" in shown
    assert "3/3" in shown


def test_no_bar_reads_nothing(monkeypatch, capsys):
    """A study of many trials is not read after each of them for nobody to see."""
    monkeypatch.setattr("hpolab.running.progress.history_of", None)
    run(make_study("s", storage="memory://"), square, n_trials=2)
    assert capsys.readouterr().err == ""
