"""The command line: status, best, errors."""

from __future__ import annotations

import json
import math
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from importlib.metadata import version

import pytest
import yaml
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner
from typer.testing import CliRunner

from hpolab import (
    Objective,
    SearchSpace,
    as_overrides,
    load_study,
    make_study,
    open_storage,
    run,
)
from hpolab.cli import app

invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke


class Line(Objective):
    def train(self, params, reporter):
        return params["lr"]


SPACE = SearchSpace(
    {"lr": FloatDistribution(0.1, 0.2), "beta2": (0.99, 0.999)}, one_minus=["beta2"]
)


@pytest.fixture
def url(tmp_path):
    """The URL of a storage with one study of five trials."""
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("line", storage=url, sampler="random", seed=0)
    run(study, Line(search_space=SPACE, direction="minimize", max_steps=1), n_trials=5)
    return url


def test_study_made_with_a_pruner_object_is_shown_like_any(url):
    study = make_study("object", storage=url, pruner=MedianPruner(n_warmup_steps=3))
    run(study, Line(search_space=SPACE, direction="minimize", max_steps=1), n_trials=1)
    for command in (["status"], ["status", "object"], ["best", "object"]):
        result = invoke(app, [*command, "-s", url])
        assert result.exit_code == 0, result.output
        assert "object" in result.output


def test_status_counts_the_trials_of_each_study(url):
    shown = invoke(app, ["status", "-s", url])
    assert shown.exit_code == 0, shown.output
    assert "line" in shown.output
    assert "5 of 5" in shown.output


def test_status_of_one_study_shows_its_recipe(url):
    shown = invoke(app, ["status", "line", "-s", url]).output
    assert "sampler: random(" in shown
    assert "seed: 0" in shown
    assert "optuna 5" in shown
    assert re.search(r"beta2 +0\.99 \.\. 0\.999", shown)


def test_version_is_shown():
    result = invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"hpolab {version('hpolab')}, optuna {version('optuna')}\n"


def test_status_of_a_study_of_a_newer_hpolab_says_what_to_install(url):
    study = load_study("line", storage=url)
    newer = study.user_attrs["hpolab:recipe"] | {"schema": 2, "needs_hpolab": "0.2"}
    study.set_user_attr("hpolab:recipe", newer)
    for command in (["status", "line"], ["best", "line"]):
        result = invoke(app, [*command, "-s", url])
        assert result.exit_code == 2
        assert "Install hpolab 0.2 or newer" in result.stderr
    assert "5 of 5" in invoke(app, ["status", "-s", url]).output


def test_status_of_an_empty_storage_says_so(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    open_storage(url)
    shown = invoke(app, ["status", "-s", url])
    assert shown.exit_code == 0
    assert "No study" in shown.output


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "--check"],
        ["best"],
        ["report"],
        ["copy", "--to", "sqlite:///b.db"],
        ["delete", "line"],
    ],
)
def test_a_question_about_a_mistyped_storage_makes_no_file(scheme, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = invoke(app, [*command, "-s", f"{scheme}:///tpyo"])
    assert shown.exit_code == 2
    assert "there is no such file" in shown.output
    assert list(tmp_path.iterdir()) == []


def test_a_question_makes_no_tables_in_another_programs_database(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    shown = invoke(app, ["status", "-s", f"sqlite:///{path}"])
    assert shown.exit_code == 2
    assert "no study was ever stored there" in shown.output
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]


NAMES = ["resnet[bs=32]", "dir[/b]", "[red]x", ":fire:", "my study (2)", "it's", "$HOME", "-n"]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_values_are_shown_as_they_are(name, tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    study = make_study(name, storage=url)
    run(study, lambda trial: len(trial.suggest_categorical("layers", [name])), n_trials=1)
    for command in ("status", "best"):
        shown = invoke(app, [command, "-s", url])
        assert shown.exit_code == 0, shown.output
        assert shown.output.count(name) >= (2 if command == "best" else 1)
        assert invoke(app, [command, "-s", url, "--", name]).exit_code == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_copy_prints_shows_the_copy(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(make_study(name, storage="sqlite:///a.db"), lambda trial: 1.0, n_trials=1)
    shown = invoke(app, ["copy", "-s", "sqlite:///a.db", "--to", "sqlite:///b c.db", "--", name])
    assert shown.exit_code == 0, shown.output
    command = shown.output.splitlines()[-1].removeprefix("Next: ")
    words = shlex.split(command)
    assert words[0] == "hpolab"
    again = invoke(app, words[1:])
    assert again.exit_code == 0, again.output
    assert name in again.output


@pytest.mark.parametrize("folder", ["runs[/old]", "runs[red]", ":fire:"])
def test_an_error_shows_its_url_as_it_is(folder):
    shown = invoke(app, ["status", "-s", f"sqlite:///{folder}/x.db"])
    assert shown.exit_code == 2
    assert f"sqlite:///{folder}/x.db" in shown.output


def test_a_missing_extra_is_named_whole(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    shown = invoke(app, ["status", "-s", "redis://127.0.0.1/0"])
    assert shown.exit_code == 2
    assert "pip install 'hpolab[redis]'" in shown.output


def test_overrides_are_read_back_by_a_shell(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    choices = {"a": "a b", "b": "it's", "c": "$HOME `x`", "d": "k=v", "e": "64,32", "f": "null"}
    study = make_study("s", storage=url)
    run(
        study,
        lambda trial: len([trial.suggest_categorical(name, [v]) for name, v in choices.items()]),
        n_trials=1,
    )
    shown = invoke(app, ["best", "-s", url, "-f", "overrides"])
    assert shown.exit_code == 0
    assert shlex.split(shown.output) == as_overrides(choices)


def test_status_hides_the_password(redis_database):
    shown = invoke(app, ["status", "-s", redis_database])
    assert shown.exit_code == 0, shown.output
    secret = redis_database.split("@")[0].rsplit(":", 1)[1]
    assert secret not in shown.output


def test_status_check_tells_what_the_storage_promises(url):
    shown = invoke(app, ["status", "--check", "-s", url]).output
    assert "survives a process kill yes" in shown
    assert "several hosts" in shown


def test_best_in_every_format(url):
    trial = load_study("line", storage=url).best_trial
    beta2 = 1 - trial.params["one_minus_beta2"]
    assert "lr" in invoke(app, ["best", "-s", url]).output
    as_json = json.loads(invoke(app, ["best", "line", "-s", url, "-f", "json"]).output)
    as_yaml = yaml.safe_load(invoke(app, ["best", "line", "-s", url, "-f", "yaml"]).output)
    assert as_json == as_yaml == {"lr": trial.params["lr"], "beta2": pytest.approx(beta2)}
    overrides = invoke(app, ["best", "-s", url, "-f", "overrides", "--prefix", "model.optimizer."])
    assert f"model.optimizer.lr={trial.params['lr']} model.optimizer.beta2=" in overrides.output
    hydra = invoke(app, ["best", "-s", url, "-f", "hydra", "--prefix", "model.optimizer."])
    assert hydra.output == overrides.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best", "lines"], "Did you mean 'line'?"),
        (["best", "other", "-s", "sqlite:////no/such/folder/s.db"], "/no/such/folder"),
        (["status", "-s", "sqllite:///s.db"], "Did you mean 'sqlite'?"),
    ],
)
def test_error_is_one_message_and_a_status(arguments, message, url):
    shown = invoke(app, arguments if "-s" in arguments else [*arguments, "-s", url])
    assert shown.exit_code == 2
    assert message in shown.output
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("name", ["k[b]", "a b", "tab\t"])
def test_overrides_that_cannot_be_written_are_one_message(name, url):
    run(
        make_study("odd", storage=url),
        lambda trial: trial.suggest_float(name, 0, 1),
        n_trials=1,
    )
    shown = invoke(app, ["best", "odd", "-s", url, "-f", "overrides"])
    assert shown.exit_code == 2
    assert "Overrides must have names" in shown.output


def test_scripts_and_commands_share_the_storage_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPOLAB_STORAGE", "sqlite:///mine.db")
    run(make_study("mine"), lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    shown = invoke(app, ["status"])
    assert shown.exit_code == 0, shown.output
    assert "2 of 2" in shown.output
    assert load_study("mine").trials == load_study("mine", storage="sqlite:///mine.db").trials
    assert not (tmp_path / "hpolab.db").exists()


def test_best_needs_a_name_among_several_studies(url):
    make_study("other", storage=url)
    shown = invoke(app, ["best", "-s", url])
    assert shown.exit_code == 2
    assert "line, other" in shown.output


def test_best_of_a_study_without_a_complete_trial_says_so(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    make_study("empty", storage=url)
    shown = invoke(app, ["best", "-s", url])
    assert shown.exit_code == 2
    assert "none is complete" in shown.output


def two_values(trial):
    x = trial.suggest_float("x", 0, 1)
    return x, 1 - x


def infeasible(trial):
    trial.set_constraint("memory", 1.0)
    return 0.0


@pytest.mark.parametrize(
    ("objective", "n_values", "reason"),
    [
        (two_values, 2, "2 objective values"),
        (infeasible, 1, "all 3 complete trials violate a constraint (memory)"),
        (lambda trial: math.nan, 1, "none of 3 is complete (3 pruned"),
    ],
)
def test_best_of_a_study_without_a_best_trial_says_why(objective, n_values, reason, tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, direction=["minimize"] * n_values)
    run(study, objective, n_trials=3)
    shown = invoke(app, ["best", "-s", url])
    assert shown.exit_code == 2
    assert reason in shown.output


@pytest.mark.parametrize(("n_trials", "done"), [(4, "5 of 5"), (9, "9 of 9")])
def test_status_after_another_budget_never_shows_more_than_all(url, n_trials, done):
    objective = Line(search_space=SPACE, direction="minimize", max_steps=1)
    run(load_study("line", storage=url), objective, n_trials=n_trials)
    assert done in invoke(app, ["status", "-s", url]).output


def test_status_counts_trials_beyond_the_budget_alone(url):
    study = load_study("line", storage=url)
    study.optimize(Line(search_space=SPACE, direction="minimize", max_steps=1), n_trials=2)
    shown = invoke(app, ["status", "-s", url]).output
    assert "7 of" not in shown
    assert " 7 " in shown


@pytest.mark.parametrize("command", [[], ["demo"], ["status"], ["best"]])
def test_help_teaches_by_an_example(command):
    shown = invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "hpolab" in shown.output


def test_study_is_deleted_once_it_is_confirmed(url):
    asked = invoke(app, ["delete", "line", "-s", url], input="n\n")
    assert asked.exit_code == 1
    assert "line: 5 trials" in asked.output
    assert "line" in invoke(app, ["status", "-s", url]).output
    assert invoke(app, ["delete", "line", "-s", url], input="y\n").exit_code == 0
    assert "No study" in invoke(app, ["status", "-s", url]).output


def test_delete_without_a_question(url):
    deleted = invoke(app, ["delete", "line", "--yes", "-s", url])
    assert deleted.exit_code == 0
    assert deleted.output == "Deleted 'line'.\n"
    again = invoke(app, ["delete", "lime", "--yes", "-s", url])
    assert again.exit_code == 2
    assert "No study, comparison or sweep 'lime'" in again.stderr


def test_running_study_is_deleted_by_force_alone(url):
    trial = load_study("line", storage=url).ask()
    refused = invoke(app, ["delete", "line", "--yes", "-s", url])
    assert refused.exit_code == 2
    assert "'line' with 1 running: trial 5" in refused.stderr
    assert "--force" in refused.stderr
    assert invoke(app, ["delete", "line", "-y", "--force", "-s", url]).exit_code == 0
    assert trial.number == 5
