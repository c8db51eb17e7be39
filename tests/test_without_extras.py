"""The plugin that tests environments without extras hides no failure and no missing promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# As if these were not installed.
HIDDEN = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in ("lightgbm", "polars"):
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
LEAST = """
import tests.without_extras as plugin
plugin.LEAST["lowest"] = {least}
"""


@pytest.fixture
def run(tmp_path: Path):
    """Runs test files under the plugin, each folder with its least number of passed tests."""

    def run(files: dict[str, str], **least: int) -> subprocess.CompletedProcess[str]:
        package = tmp_path / "tests"
        package.mkdir()
        shutil.copy(ROOT / "tests" / "without_extras.py", package)
        (tmp_path / "set_up.py").write_text(HIDDEN + LEAST.format(least=least))
        for name, text in files.items():
            (package / name).parent.mkdir(exist_ok=True)
            (package / name).write_text(text)
        options = ["-p", "set_up", "-p", "tests.without_extras", "--environment", "lowest"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "-rs", "tests"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


PASSES = "def test_it():\n    pass\n"


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("import lightgbm\n" + PASSES, "lightgbm"),
        ("from hpolab import LightGBMObjective\n" + PASSES, "lightgbm"),
        ("def test_it():\n    import polars\n", "polars"),
        ("def test_it():\n    from hpolab import LightGBMObjective\n", "lightgbm"),
        (
            "import pytest\n@pytest.fixture\ndef model():\n    import lightgbm\n"
            "def test_it(model):\n    pass\n",
            "lightgbm",
        ),
        ("import pytest\n@pytest.mark.needs('no_such_package')\n" + PASSES, "no_such_package"),
    ],
    ids=["file", "name of a file", "test", "name of a test", "fixture", "mark"],
)
def test_what_needs_a_missing_package_is_skipped_and_says_which(run, text, needed):
    done = run({"a/test_a.py": text, "a/test_b.py": PASSES}, a=1)
    assert done.returncode == 0, done.stdout
    assert re.search(rf"SKIPPED \[1\] .*needs {needed}\n", done.stdout)
    assert "1 passed, 1 skipped" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "def test_it():\n    assert False\n",
        "import hpolab.no_such_module\n" + PASSES,
        "from hpolab.errors import no_such_name\n" + PASSES,
        "def test_it():\n    import no_such_package\n",
        "def test_it():\n    from hpolab import no_such_name\n",
        "def test_it():\n    raise ImportError('half installed')\n",
    ],
)
def test_any_other_error_stays_one(run, text):
    done = run({"a/test_a.py": text, "a/test_b.py": PASSES})
    assert done.returncode != 0
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_a_folder_with_too_few_passed_tests_fails_the_run(run):
    files = {
        "a/test_a.py": "import lightgbm\n" + PASSES,
        "a/test_b.py": PASSES,
        "test_c.py": PASSES,
    }
    done = run(files, a=2, test_c=1)
    assert done.returncode == 1
    assert "a: 1 tests passed where 2 must" in done.stdout
    assert "passed by folder: a 1, test_c 1" in done.stdout


def test_a_folder_without_any_test_fails_the_run(run):
    done = run({"test_c.py": PASSES}, search_space=1)
    assert done.returncode == 1
    assert "search_space: 0 tests passed where 1 must" in done.stdout


def test_the_core_is_not_tested_beside_extras(tmp_path):
    (tmp_path / "test_a.py").write_text(PASSES)
    options = ["-p", "tests.without_extras", "--environment", "core", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={tmp_path}", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the core is to be tested alone, but there is" in done.stderr
