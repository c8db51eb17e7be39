"""What stands around the package: commands, workflows, citation, changelog."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RUN = ROOT / ".ci" / "run"


def program(name: str) -> str:
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    assert path is not None, f"{name} comes with the extra `dev`"
    return path


def call(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, **options)


def workflow(name: str) -> dict[str, object]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def parts_of_ci() -> set[str]:
    """The parts that `.ci/run` takes, in its own words."""
    refused = call("bash", RUN, "no-such-part").stderr
    return set(refused.partition("but: ")[2].split())


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        *((path, "vendor.github-workflows") for path in WORKFLOWS),
        *((path, "custom.github-workflows-require-timeout") for path in WORKFLOWS),
        (ROOT / ".github" / "dependabot.yml", "vendor.dependabot"),
        (ROOT / "CITATION.cff", "vendor.citation-file-format"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_file_is_valid_by_its_schema(path, schema):
    done = call(program("check-jsonschema"), "--builtin-schema", schema, path)
    assert done.returncode == 0, done.stdout


def test_there_is_a_workflow_for_changes_and_one_for_releases():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


def test_hooks_before_a_commit_are_valid():
    done = call(program("pre-commit"), "validate-config", ROOT / ".pre-commit-config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_the_steps_of_a_workflow(path, tmp_path):
    steps = [step for job in workflow(path.name)["jobs"].values() for step in job["steps"]]
    scripts = [step["run"] for step in steps if "run" in step]
    assert scripts
    for number, script in enumerate(scripts):
        (tmp_path / f"{number}.sh").write_text(f"#!/bin/bash\nset -eo pipefail\n{script}\n")
    done = call(program("shellcheck"), *sorted(tmp_path.iterdir()))
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_what_ci_runs():
    assert call(program("shellcheck"), RUN).stdout == ""


def test_workflow_runs_every_part_on_every_python_that_is_declared():
    matrix = workflow("ci.yml")["jobs"]["parts"]["strategy"]["matrix"]
    declared = [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["classifiers"]
        if re.search(r"Python :: 3\.\d+$", classifier)
    ]
    assert matrix["python"] == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
    run = {*matrix["part"], *(each["part"] for each in matrix["include"])}
    assert run | {"links"} == parts_of_ci()


def test_only_the_job_that_publishes_has_a_right_and_only_that_one():
    release = workflow("release.yml")
    assert release["permissions"] == {}
    assert release["jobs"]["build"]["permissions"] == {"contents": "read"}
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert publish["needs"] == "build"
    # `on` is a boolean in YAML 1.1.
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert workflow("ci.yml")["permissions"] == {"contents": "read"}


def test_every_action_is_pinned_by_its_commit():
    used = re.findall(r"uses: (.*)", "".join(path.read_text() for path in WORKFLOWS))
    assert used
    assert [
        each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)
    ] == []


def test_citation_is_of_this_version_and_license():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_changelog_is_in_the_form_of_keep_a_changelog():
    headings = re.findall(r"^(##?#?) (.*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[:2] == [("#", "Changelog"), ("##", "[Unreleased]")]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {text for level, text in headings if level == "###"} <= kinds
    releases = [text for level, text in headings if level == "##"][1:]
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in releases)


def test_tables_that_contributors_are_sent_to_are_there():
    text = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("## How to add")[2].partition("\n## ")[0]
    )
    found = re.findall(r"`(\w+)` in `([\w./]+)`", text)
    assert len(found) >= 8
    for name, path in found:
        assert re.search(rf"^(def )?{name}\b", (ROOT / path).read_text(), re.M), f"{name} in {path}"


PAGE = """
## Check

Some words.

```sh
echo checked && {check}
```

```sh
echo not this one
```

## Docs

```sh
echo documented
```
"""


@pytest.fixture
def checkout(tmp_path: Path):
    """Writes a page of commands beside a copy of `.ci/run`, and returns what runs some parts."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".venv").mkdir()  # as if it had been set up
    shutil.copy(RUN, tmp_path / ".ci" / "run")

    def run(page: str, *parts: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "CONTRIBUTING.md").write_text(page)
        return call("bash", tmp_path / ".ci" / "run", *parts, env={"PATH": os.environ["PATH"]})

    return run


def test_ci_runs_the_commands_of_the_page_for_contributors(checkout):
    done = checkout(PAGE.format(check="true"), "lint", "docs")
    assert done.returncode == 0
    assert re.search(r"^checked$", done.stdout, re.M)
    assert re.search(r"^documented$", done.stdout, re.M)
    assert "not this one" not in done.stdout


@pytest.mark.parametrize("check", ["false", "no-such-program", "exit 3", "false | cat"])
def test_ci_fails_if_one_part_does_and_runs_the_others_all_the_same(checkout, check):
    done = checkout(PAGE.format(check=check), "lint", "docs")
    assert done.returncode == 1
    assert re.search(r"^documented$", done.stdout, re.M)
    assert done.stderr.endswith("failed: lint\n")
    assert checkout(PAGE.format(check=check), "lint").returncode != 0


def test_ci_fails_if_the_page_has_no_command(checkout):
    done = checkout(PAGE.format(check="true").replace("## Docs", "## Documentation"), "docs")
    assert done.returncode == 1
    assert "CONTRIBUTING.md has no command under '## Docs'" in done.stderr


def test_ci_refuses_a_part_that_it_does_not_have_before_it_runs_any(checkout):
    done = checkout(PAGE.format(check="true"), "docs", "lnit")
    assert done.returncode == 2
    assert "no part 'lnit'" in done.stderr
    assert "documented" not in done.stdout


FILES = ["__init__.py", "__init__.pyi", "py.typed", "report/page.js", "report/template.html"]
BESIDE = ["CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, ""),
        ("no page.js", "h.whl: missing: hpolab/report/page.js"),
        ("no py.typed in the sdist", "h.tar.gz: missing: hpolab/py.typed"),
        ("tests in the wheel", "h.whl: too much: tests/test_a.py"),
        ("a notebook in the sdist", "h.tar.gz: too much: examples/first.ipynb"),
        ("no template anywhere", "missing: hpolab/report/template.html"),
    ],
)
def test_contents_of_wheel_and_sdist_are_checked(tmp_path, change, said):
    files = [f"hpolab/{name}" for name in FILES]
    if change == "no template anywhere":
        files.remove("hpolab/report/template.html")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    call("git", "init", "-q", tmp_path)
    wheel, sdist = list(files), [*files, *BESIDE]
    if change == "no page.js":
        wheel.remove("hpolab/report/page.js")
    elif change == "no py.typed in the sdist":
        sdist.remove("hpolab/py.typed")
    elif change == "tests in the wheel":
        wheel.append("tests/test_a.py")
    elif change == "a notebook in the sdist":
        sdist.append("examples/first.ipynb")
    with zipfile.ZipFile(tmp_path / "h.whl", "w") as archive:
        for name in [*wheel, "hpolab-0.1.0.dist-info/METADATA"]:
            archive.writestr(name, "")
    with tarfile.open(tmp_path / "h.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"hpolab-0.1.0/{name}"))
    check = [sys.executable, ROOT / ".ci" / "check_contents.py", "h.whl", "h.tar.gz"]
    done = call(*check, cwd=tmp_path)
    assert done.returncode == (change is not None)
    assert said in done.stderr
