"""A command of another tool, or a misspelt one, is answered by what to type."""

from __future__ import annotations

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hpolab.cli import app

invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke


@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("list", "hpolab status"),
        ("ls", "hpolab status"),
        ("studies", "hpolab status"),
        ("run", "hpolab worker MODULE:OBJECTIVE"),
        ("resume", "started again"),
        ("optimize", "started again"),
        ("create-study", "started again"),
        ("confirm", "hpolab.confirm(study, objective"),
        ("compare", "hpolab.compare(study, objective"),
        ("best-trial", "hpolab best STUDY"),
        ("export", "hpolab best STUDY"),
        ("dashboard", "hpolab report STUDY"),
        ("plot", "hpolab report STUDY"),
        ("rm", "hpolab delete STUDY"),
        ("mv", "hpolab copy STUDY --to"),
        ("importance", "hpolab influence STUDY"),
        ("tutorial", "hpolab demo"),
        ("version", "hpolab --version"),
        ("help", "hpolab --help"),
        ("statsu", "Did you mean 'status'?"),
        ("Report", "Did you mean 'report'?"),
        ("raport", "Did you mean 'report'?"),
        ("old.db", "hpolab status old.db"),
        ("redis://localhost/0", "hpolab status redis://localhost/0"),
        ("qqq", "hpolab --help"),
    ],
)
def test_unknown_command_is_answered_by_what_to_type(word, way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = invoke(app, [word])
    assert shown.exit_code == 2
    assert f"No such command {word!r}" in shown.output
    assert way in shown.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], *([name] for name in sorted(get_command(app).commands))])
def test_help_teaches_by_an_example_within_80_columns(command, option):
    shown = invoke(app, [*command, option], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "Usage" in shown.output
    text = shown.output.split("Usage")[1]
    assert text.count("hpolab") >= 2
    assert max(map(len, shown.output.splitlines())) <= 80


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_has_a_short_option(option):
    assert "hpolab" in invoke(app, [option]).output
