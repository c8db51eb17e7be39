"""The documentation: its code runs as pasted, its commands parse, its links lead somewhere.

``python -m sphinx -W --keep-going docs docs/_build/html`` checks what is left: that the pages build
without a warning, and that links among them resolve.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

import hpolab
import hpolab.testing
from hpolab.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if "_build" not in path.parts and "_generated" not in path.parts
)
TEXTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("CONTRIBUTING.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<kind>\w+)\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
# The root of what a command line refuses; typer exports its children alone.
USAGE_ERROR: Any = typer.BadParameter.__base__
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def blocks(page: Path, *kinds: str) -> list[tuple[str, str, int]]:
    """Return kind, code and first line's number of each block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        (match["kind"], match["code"], text.count("\n", 0, match.start("code")))
        for match in BLOCK.finditer(text)
        if match["kind"] in kinds
    ]


def script_of(page: Path) -> str:
    """Return a page's Python as one script, whose lines have the page's numbers."""
    lines: list[str] = []
    for _, code, first in blocks(page, "python"):
        lines += [""] * (first - len(lines)) + code.splitlines()
    return "\n".join(lines) + "\n"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(*kinds: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *kinds)]


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_the_code_of_a_page_runs_as_pasted_and_prints_what_the_page_shows(page, tmp_path):
    script = tmp_path / "pasted" / f"{page.stem}.py"
    script.parent.mkdir()
    script.write_text(script_of(page), encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-u", str(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert not_printed(page, run.stdout) == [], run.stdout


def not_printed(page: Path, printed: str) -> list[str]:
    """Return the lines that a page shows as output and that were not printed, in their order.

    Numbers may differ, as a processor rounds in its own way; ``...`` stands for anything. A block
    of output stands right behind the code that prints it.
    """
    rest = [shape(line) for line in printed.splitlines()]
    missing = []
    kinds = blocks(page, "python", "text")
    for (before, _, _), (kind, code, _) in itertools.pairwise(kinds):
        if (before, kind) != ("python", "text"):
            continue
        for line in filter(str.strip, code.splitlines()):
            pattern = re.escape(shape(line)).replace(re.escape("..."), ".*")
            found = next((i for i, seen in enumerate(rest) if re.fullmatch(pattern, seen)), None)
            if found is None:
                missing.append(line)
            else:
                rest = rest[found + 1 :]
    return missing


def shape(line: str) -> str:
    """Return a line of output without its numbers and with single spaces."""
    return NUMBER.sub("#", " ".join(line.split()))


def commands_of(page: Path) -> list[str]:
    """Return the commands of hpolab in a page's shell blocks, each on one line."""
    found = []
    for _, code, _ in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\|\||[|;]", line.partition(" #")[0]):
                if (
                    match := re.search(r"(?:^|\s|/)(hpolab(?:\s.*)?)$", command.strip())
                ) is not None:
                    found.append(match.group(1))
    return found


COMMANDS = [(page, command) for page in [*PAGES, *TEXTS] for command in commands_of(page)]


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{name_of(page)}: {command}" for page, command in COMMANDS]
)
def test_commands_of_a_page_exist_with_their_options(page, command):
    assert why_not(shlex.split(command)[1:]) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nope", "nope"),
        ("status --nope", "--nope"),
        ("copy demo", "--to"),
        ("worker train:objective --study mnist -n many", "--n-trials"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(words, said):
    assert said in why_not(words.split())


def why_not(words: list[str]) -> str | None:
    """Return why the command line does not understand some words; None if it does."""
    group: Any = typer.main.get_command(app)
    try:
        context = group.make_context("hpolab", list(words))
        name, command, rest = group.resolve_command(context, words)
        command.make_context(name, rest, parent=context)
    except typer.Exit:  # --help, --version
        return None
    except USAGE_ERROR as error:
        said: str = error.format_message()
        return None if "does not exist" in said else said
    return None


def documented() -> list[str]:
    """Return the names that pages of the reference show, each as often as it is shown."""
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.rst")
    )
    return re.findall(r"^\.\. auto(?:class|data|exception|function):: (\w+)$", text, re.MULTILINE)


def test_every_public_name_has_one_place_in_the_reference():
    assert sorted(documented()) == sorted([*dir(hpolab), *hpolab.testing.__all__])
