"""`hpolab report`: which of a storage's studies, where to, and what is said of it."""

from __future__ import annotations

import re

import pytest
from optuna.trial import create_trial
from typer.testing import CliRunner

from hpolab import compare, confirm, make_study, run, sweep
from hpolab.cli import app

invoke = CliRunner(env={"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"}).invoke


@pytest.fixture
def url(tmp_path, curve):
    """A storage with a study of three trials and its confirmation."""
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("curve", storage=url, objective=curve, pruner="none")
    run(study, curve, n_trials=3, show_progress_bar=False)
    confirm(study, curve, test=None, top_k=1, n_seeds=2, show_progress_bar=False)
    return url


@pytest.mark.needs("plotly", "jinja2")
def test_report_of_the_only_study_is_written(url, tmp_path):
    shown = invoke(app, ["report", "-s", url, "-o", str(tmp_path / "r.html")])
    assert shown.exit_code == 0, shown.output
    assert f"Wrote {tmp_path / 'r.html'}" in shown.output
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Trained again on" in html


def test_terminal_report_of_a_study_and_of_its_confirmation(url):
    study = invoke(app, ["report", "curve", "-s", url, "--terminal"])
    assert study.exit_code == 0, study.output
    assert "LEADERBOARD" in study.output
    confirmation = invoke(app, ["report", "curve-confirm", "-s", url, "--terminal"])
    assert "Not known yet whether the gain holds" in confirmation.output


def test_comparison_is_reported_by_its_name(tmp_path, curve):
    url = f"sqlite:///{tmp_path}/s.db"
    compare(
        curve, ["adam", "sgd"], n_trials=2, storage=url, study_name="c", show_progress_bar=False
    )
    shown = invoke(app, ["report", "c", "-s", url, "--terminal"])
    assert shown.exit_code == 0, shown.output
    assert "Not known yet which of adam and sgd is better" in shown.output


def test_sweep_is_reported_by_its_name(tmp_path, curve):
    url = f"sqlite:///{tmp_path}/s.db"
    sweep(
        curve, {"rate": {"lr": [1e-3, 3e-3]}}, storage=url, study_name="s", show_progress_bar=False
    )
    shown = invoke(app, ["report", "s", "-s", url, "--terminal"])
    assert shown.exit_code == 0, shown.output
    assert "in stage 'rate'" in shown.output
    assert "lr=0.003" in shown.output


def test_several_studies_need_a_name(url):
    make_study("other", storage=url)
    shown = invoke(app, ["report", "-s", url])
    assert shown.exit_code == 2
    assert "curve, curve-confirm, other" in shown.output


@pytest.mark.parametrize("arguments", [[], ["dule"]])
def test_comparisons_and_sweeps_are_among_what_can_be_named(arguments, tmp_path, curve):
    url = f"sqlite:///{tmp_path}/s.db"
    quiet = {"storage": url, "show_progress_bar": False}
    compare(curve, ["adam", "sgd"], n_trials=1, study_name="duel", **quiet)
    sweep(curve, {"rate": {"lr": [1e-3]}}, study_name="tour", **quiet)
    shown = invoke(app, ["report", *arguments, "-s", url])
    assert shown.exit_code == 2
    listed = re.findall(r"[\w-]+", shown.output.partition("Did you mean")[0])
    assert {"duel", "duel-adam", "duel-sgd", "tour", "tour-rate"} <= set(listed)


def test_sweep_without_a_result_says_so(tmp_path, curve):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("tour-rate", storage=url, objective=curve)
    mark = {"sweep": "tour", "stage": "rate", "place": [0, 0], "settings": {}, "varied": ["lr"]}
    study.set_user_attr("hpolab:sweep", mark)
    shown = invoke(app, ["report", "tour", "-s", url])
    assert shown.exit_code == 2
    assert "No trial of the sweep 'tour' has succeeded yet" in shown.output


def test_unknown_name_says_which_there_are(url):
    shown = invoke(app, ["report", "curv", "-s", url])
    assert shown.exit_code == 2
    assert "Did you mean 'curve'?" in shown.output


def test_folder_that_is_not_there_is_a_message(url, tmp_path):
    shown = invoke(app, ["report", "-s", url, "-o", str(tmp_path / "no" / "r.html")])
    assert shown.exit_code == 2
    assert "in a folder that exists" in shown.output


def test_study_that_was_made_with_objects_can_be_reported(tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("own", storage=url, sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trial(create_trial(value=1.0))
    shown = invoke(app, ["report", "own", "-s", url, "--terminal"])
    assert shown.exit_code == 0, shown.output
    assert "best value" in shown.output


def test_help_teaches_by_an_example():
    shown = invoke(app, ["report", "--help"])
    assert shown.exit_code == 0
    assert "hpolab report demo" in shown.output
