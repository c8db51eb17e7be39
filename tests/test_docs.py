"""The documentation: its code runs as pasted, its commands parse, its links lead somewhere.

``python -m sphinx -W --keep-going docs docs/_build/html`` checks what is left: that the pages build
without a warning, and that links among them resolve.
"""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import partial
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
    # Named unlike any package: lightgbm.py would be imported in place of LightGBM.
    script = tmp_path / "pasted" / f"page_{page.stem}.py"
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
        timeout=600,
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
            # A line that is too long for the page is cut anywhere: "and param ...".
            parts = shape(line).removesuffix(" ...").split("...")
            pattern = ".*".join(map(re.escape, parts)) + ".*" * line.endswith(" ...")
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


def test_every_public_name_has_one_place_in_the_reference(extensions):
    shown = [
        name
        for page in (DOCS / "reference").glob("*.rst")
        for name in extensions("places").names_of(page)
    ]
    assert sorted(shown) == sorted([*dir(hpolab), *hpolab.testing.__all__])


@pytest.fixture
def extensions(monkeypatch):
    """Return the modules that pages are made with, by name."""
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))

    def load(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("make_study", "make_study"),
        ("hpolab.run", "run"),
        ("run(study, objective, n_trials=70)", "run"),
        ("Objective.fit_best", "Objective.fit_best"),
        ("TorchObjective.fit_best", "Objective.fit_best"),
        ("RecommenderObjective.ranking(model, part)", "RecommenderObjective.ranking"),
        ("Objective.nothing", None),
        ("study", None),
        ("run hard", None),
    ],
)
def test_code_in_a_text_is_known_as_a_public_name(extensions, text, name):
    assert extensions("places").public_name(text) == name


@pytest.mark.parametrize(
    ("part", "names", "space"),
    [
        (
            "optimizers",
            (*hpolab.OPTIMIZERS, *hpolab.EXTRA_OPTIMIZERS),
            hpolab.optimizer_space,
        ),
        ("schedules", hpolab.SCHEDULES, partial(hpolab.schedule_space, max_epochs=20)),
        ("lightgbm", hpolab.LIGHTGBM_PRESETS, hpolab.lightgbm_space),
        ("estimators", hpolab.ESTIMATORS, hpolab.estimator_space),
        ("recommenders", hpolab.RECOMMENDERS, hpolab.recommender_space),
    ],
)
def test_catalog_has_every_space_and_each_of_its_ranges_with_a_source(
    extensions, part, names, space
):
    text = getattr(extensions("catalog"), part)()
    sections = re.split(r"^### `(\w+)`$", text, flags=re.MULTILINE)
    assert sections[1::2] == list(names)
    for name, section in zip(names, sections[2::2], strict=True):
        rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, re.MULTILINE)
        tuned = space(name)
        assert [row[0] for row in rows] == [tuned.address(each) for each in tuned.distributions()]
        for _, cells in rows:
            # Range, scale, default, source: none is empty.
            assert all(cell.strip() for cell in re.split(r"(?<!\\)\|", cells)), cells


def test_pages_of_samplers_and_pruners_have_every_name():
    page = (DOCS / "samplers-and-pruners.md").read_text(encoding="utf-8")
    _, samplers, pruners = re.split(r"^## (?:Samplers|Pruners)$", page, flags=re.MULTILINE)
    row = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    assert set(row.findall(samplers)) == {*hpolab.SAMPLERS, "auto", "qmc", "grid", "manual"}
    assert set(row.findall(pruners.partition("\n## ")[0])) == set(hpolab.PRUNERS)


def test_page_of_storages_says_what_a_storage_says_of_itself(extensions, tmp_path):
    kinds = extensions("promises").by_storage()
    hpolab.open_storage(f"sqlite:///{tmp_path}/study.db")
    found = hpolab.check_storage(f"sqlite:///{tmp_path}/study.db")
    shown = kinds["SQLite"]["local disk"]
    assert found.process_kill == shown.process_kill
    assert found.many_hosts == shown.many_hosts
    assert replace(hpolab.check_storage("memory://"), url="") == replace(
        kinds["Memory"][""], url=""
    )
    assert extensions("promises").promises().count("\n") == 1 + sum(map(len, kinds.values()))


def test_page_of_commands_has_every_option(extensions):
    text = extensions("command_line").commands()
    group: Any = typer.main.get_command(app)
    sections = re.split(r"^## `hpolab (\w+)`$", text, flags=re.MULTILINE)
    assert sections[1::2] == list(group.commands)
    for name, section in zip(sections[1::2], sections[2::2], strict=True):
        for parameter in group.commands[name].params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(re.search(rf"\W{option}\b", section) for option in parameter.opts)


def test_page_of_examples_has_every_program(extensions):
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    made = extensions("programs").programs() + extensions("programs").cluster_files()
    for path in [*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*.ipynb")]:
        assert f"](../examples/{path.name})" in page
        assert f"### `{path.name}`" in made


def test_page_of_installation_has_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == set(extras["project"]["optional-dependencies"])


LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@pytest.mark.parametrize("text", TEXTS, ids=name_of)
def test_links_of_the_repository_lead_somewhere(text):
    assert dead_links(text) == []


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("other.md", False),
        ("other.md#two-words-and-code", False),
        ("#here", False),
        ("https://example.org/nothing", False),
        ("missing.md", True),
        ("other.md#three-words", True),
        ("#there", True),
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(tmp_path, link, dead):
    (tmp_path / "other.md").write_text("# Two words, and `code`\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n[a link]({link})\n")
    assert dead_links(page) == ([link] if dead else [])


def dead_links(page: Path) -> list[str]:
    """Return the links of a page that lead to no file, or to no title of it; not the outer ones."""
    dead = []
    for groups in LINK.findall(page.read_text(encoding="utf-8")):
        link = "".join(groups)
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(link)
    return dead


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's titles, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("accuracy 0.9477 in trial 10", []),
        ("accuracy 0.9 in trial 12", []),
        ("accuracy ... trial 10", []),
        ("accuracy 0.9477 in tri ...", []),
        ("accuracy 0.9477 in tri", ["accuracy 0.9477 in tri"]),
        ("loss 0.9477 in trial 10", ["loss 0.9477 in trial 10"]),
    ],
)
def test_output_that_a_page_shows_must_be_printed_but_for_its_numbers(tmp_path, shown, missing):
    page = tmp_path / "page.md"
    page.write_text(f"```python\nprint()\n```\n\n```text\n{shown}\n```\n")
    assert not_printed(page, "first\naccuracy   0.9477 in trial 10\n") == missing


def test_code_of_a_page_keeps_its_lines(tmp_path):
    page = tmp_path / "page.md"
    text = "# Title\n\n```python\na = 1\n```\n\n```text\n1\n```\n\n```python\nb = 2\n```\n"
    page.write_text(text)
    assert script_of(page).splitlines().index("b = 2") == text.splitlines().index("b = 2")
