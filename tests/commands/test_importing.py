"""`hpolab import`, `influence`, `recommend`: from a table of runs to what it tells."""

from __future__ import annotations

import gc
import json
import shlex

import pytest
import yaml
from typer.testing import CliRunner

from hpolab import InvalidArgument, load_study
from hpolab.cli import app
from hpolab.commands.importing import direction_of

invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPOLAB_STORAGE", raising=False)
    return tmp_path


@pytest.fixture
def table(folder):
    lines = ["run,lr,epochs,hmean,loss"]
    lines += [f"r{i},{10 ** -(1 + i % 4)},{5 + i % 3},{0.5 + 0.1 * (i % 4)},{i}" for i in range(16)]
    (folder / "runs.csv").write_text("\n".join(lines))
    return folder / "runs.csv"


def test_table_becomes_a_study_that_every_command_reads(table):
    made = invoke(app, ["import", "runs.csv", "--value", "hmean", "--metric", "loss"])
    assert made.exit_code == 0, made.output
    assert "Study 'runs' has 16 runs." in made.output
    assert "hmean: higher is better" in made.output
    assert "Parameters: lr, epochs" in made.output
    study = load_study("runs")
    assert study.best_value == pytest.approx(0.8)
    assert set(study.best_params) == {"lr", "epochs"}
    commands = made.output.partition("Next:")[2].splitlines()
    assert [shlex.split(each)[1] for each in commands] == ["influence", "recommend", "report"]
    for each in commands:
        words = shlex.split(each)[1:]
        shown = invoke(app, [*words, "--terminal"] if words[0] == "report" else words)
        assert shown.exit_code == 0, shown.output
        assert "lr" in shown.output


@pytest.mark.parametrize("name", ["runs.db", "runs.log", "sqlite:///runs.db"])
def test_study_goes_where_it_is_asked_for_under_its_name(table, name):
    command = ["import", "runs.csv", "--value", "hmean", "--study", "detector", "-s", name]
    assert invoke(app, [*command, "--param", "lr"]).exit_code == 0
    assert set(load_study("detector", storage=name).best_params) == {"lr"}
    again = invoke(app, [*command, "--param", "lr"])
    assert "has 16 runs" in again.output


@pytest.mark.parametrize(
    ("options", "best"), [(["--minimize"], 0.5), (["--maximize"], 0.8), ([], 0.8)]
)
def test_direction_is_asked_for_or_told_by_the_name(table, options, best):
    assert invoke(app, ["import", "runs.csv", "--value", "hmean", *options]).exit_code == 0
    assert load_study("runs").best_value == pytest.approx(best)


@pytest.mark.parametrize(
    ("value", "direction"),
    [
        ("accuracy", "maximize"),
        ("val/accuracy", "maximize"),
        ("valAccuracy", "maximize"),
        ("h_mean", "maximize"),
        ("ndcg@10", "maximize"),
        ("test_auc", "maximize"),
        ("loss", "minimize"),
        ("val_loss", "minimize"),
        ("log-loss", "minimize"),
        ("RMSE", "minimize"),
        ("error", "minimize"),
    ],
)
def test_well_known_values_have_a_direction(value, direction):
    assert direction_of(value) == direction


@pytest.mark.parametrize("value", ["value", "y", "accuracy_loss", "result"])
def test_other_values_have_none(value):
    with pytest.raises(InvalidArgument, match="--maximize"):
        direction_of(value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["import", "no.csv", "--value", "loss"], "does not exist"),
        (["import", "runs.csv", "--value", "los"], "Did you mean 'loss'?"),
        (["import", "runs.csv", "--value", "epochs"], "--maximize"),
        (["import", "empty.csv", "--value", "loss"], "must have a row"),
        (["import", "."], "--value"),
        (["import", ".", "--value", "loss"], "Error"),
        (["import", "binary.csv", "--value", "loss"], "Error"),
    ],
)
def test_what_cannot_be_imported_is_said_and_no_study_is_made(table, folder, command, message):
    (folder / "empty.csv").write_text("")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    before = sorted(folder.iterdir())
    shown = invoke(app, command)
    assert shown.exit_code == 2, shown.output
    assert message in shown.output
    assert "Traceback" not in shown.output
    assert sorted(folder.iterdir()) == before


def test_recommendation_is_written_to_load(table):
    invoke(app, ["import", "runs.csv", "--value", "hmean", "--param", "lr"])
    assert yaml.safe_load(invoke(app, ["recommend", "-f", "yaml"]).output)
    assert json.loads(invoke(app, ["recommend", "-f", "json"]).output)
    assert invoke(app, ["recommend", "-f", "overrides"]).output.startswith("lr=")
    assert invoke(app, ["recommend", "-f", "hydra"]).output.startswith("lr=")
    for baseline in ("2", "r2", "run r2"):
        compared = invoke(app, ["recommend", "runs", "--baseline", baseline])
        assert compared.exit_code == 0, compared.output
    refused = invoke(app, ["recommend", "runs", "--baseline", "no.yaml"])
    assert refused.exit_code == 2
    assert "no.yaml" in refused.output


@pytest.mark.parametrize("command", ["status", "best", "report", "influence", "recommend"])
def test_a_file_in_the_place_of_the_name_is_the_storage(table, command, folder):
    invoke(app, ["import", "runs.csv", "--value", "hmean", "-s", "old.db"])
    options = ["--terminal"] if command == "report" else []
    for place in ("old.db", str(folder / "old.db"), "sqlite:///old.db"):
        shown = invoke(app, [command, place, *options])
        assert shown.exit_code == 0, shown.output
    assert not (folder / "hpolab.db").exists()
    named = invoke(app, [command, "old.db", "-s", "old.db", *options])
    assert named.exit_code == 2
    assert "'old.db'" in named.output


@pytest.mark.parametrize("name", ["old.db", "old.log"])
@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "runs"],
        ["status", "--check"],
        ["best", "runs"],
        ["best", "rnus"],
        ["influence", "runs"],
        ["recommend", "runs"],
        ["report", "runs", "--terminal"],
        ["report", "none"],
        ["delete", "rnus", "-y"],
    ],
    ids=" ".join,
)
def test_a_question_changes_no_file(table, folder, name, command):
    invoke(app, ["import", "runs.csv", "--value", "hmean", "-s", name])
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    invoke(app, [*command, "-s", name])
    gc.collect()  # the error's frames, which hold the connection as long as this process lives
    after = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert after == before


@pytest.mark.parametrize("command", ["status", "best", "report", "influence"])
def test_a_missing_storage_is_answered_by_the_files_that_are_there(table, command, folder):
    invoke(app, ["import", "runs.csv", "--value", "hmean", "-s", "old.db"])
    (folder / "other.db").write_bytes(b"no database")
    shown = invoke(app, [command])
    assert shown.exit_code == 2
    assert "Files with studies here: old.db. Name one by -s." in shown.output


@pytest.mark.parametrize("place", ["old.db", "sqlite:///old.db"])
def test_a_file_is_not_deleted_for_a_study(table, place):
    invoke(app, ["import", "runs.csv", "--value", "hmean", "-s", "old.db"])
    shown = invoke(app, ["delete", place, "-y"])
    assert shown.exit_code == 2
    assert f"`hpolab delete STUDY -s {place}`" in shown.output
    assert load_study("runs", storage="old.db").trials
