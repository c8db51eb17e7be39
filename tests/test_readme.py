"""The README: short, its blocks run as pasted, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hpolab.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_it_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= 150


def test_its_first_lines_say_what_it_is():
    above_the_program = README.split("```python", 1)[0].lower()
    for word in ("hyperparameter", "optuna", "pytorch", "lightgbm", "scikit-learn", "pip install"):
        assert word in above_the_program


def test_its_programs_run_as_pasted(tmp_path):
    """All blocks in their order in one file, as a reader pastes them; then what they leave."""
    (tmp_path / "pasted.py").write_text("\n\n".join(blocks("python")))
    done = subprocess.run(
        [sys.executable, "pasted.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 100_000
    # What it shows of the output: figures may differ from machine to machine, words may not.
    (shown,) = blocks("text")
    for line in shown.splitlines():
        words = re.sub(r"\d+", "0", line).split("...")[0].strip()
        assert words in re.sub(r"\d+", "0", done.stdout), line


@pytest.mark.parametrize("line", [x for block in blocks("sh") for x in block.splitlines()])
def test_its_commands_are_ones_that_the_command_line_takes(line):
    for command in re.split(r"\s*&&\s*", line):
        program, *arguments = shlex.split(command)
        if program.endswith("hpolab"):
            context = typer.main.get_command(app).make_context("hpolab", list(arguments))
            name, *rest = context.protected_args + context.args
            context.command.commands[name].make_context(name, rest)
        else:
            assert program == "python3" or program.endswith("pip"), program


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link
