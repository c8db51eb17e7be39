"""The package as a whole: its door, what importing it costs, what it may not hold."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hpolab

STUB = Path(hpolab.__file__).with_suffix(".pyi")
FOLDERS = {module.name for module in pkgutil.walk_packages(hpolab.__path__, "hpolab.")
           if module.ispkg}  # fmt: skip
MODULES = [
    module.name
    for module in pkgutil.walk_packages(hpolab.__path__, "hpolab.")
    if module.name not in FOLDERS and not module.name.rsplit(".", 1)[-1].startswith("_")
]


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def places() -> dict[str, str]:
    """Return where the stub says that each public name stands."""
    nodes = ast.parse(STUB.read_text()).body
    return {
        alias.name: f"hpolab.{node.module}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_stub_and_door_list_the_same_names():
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.Assign)
    )
    assert set(listed) == {*places(), "__version__"}
    assert set(hpolab.__all__) == set(places())
    assert set(dir(hpolab)) == set(listed)


@pytest.mark.parametrize("name", sorted(places()))
def test_each_public_name_is_loaded_from_where_the_stub_says(name):
    module = importlib.import_module(places()[name])
    assert getattr(hpolab, name) is getattr(module, name)
    assert name in module.__all__


@pytest.mark.parametrize("name", MODULES)
def test_surface_of_each_file_is_a_list_of_names_that_exist(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)  # ruff sees that it is sorted
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_the_face_of_a_folder_hands_nothing_on(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(ast.parse(Path(module.__file__).read_text()).body) == 1


def test_version_is_that_of_the_distribution():
    assert hpolab.__version__ == importlib.metadata.version("hpolab")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("TorchObjectiv", "TorchObjective"),
        ("searchspace", "SearchSpace"),
        ("maek_study", "make_study"),
    ],
)
def test_a_name_that_is_not_there_brings_the_nearest(wrong, right):
    with pytest.raises(AttributeError, match=f"no attribute '{wrong}'. Did you mean '{right}'?"):
        getattr(hpolab, wrong)


def test_a_name_like_no_other_brings_no_hint():
    with pytest.raises(AttributeError, match=r"has no attribute 'quicksort'\.$"):
        hpolab.quicksort  # noqa: B018


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("LightningPruningCallback", "lightning", "lightning"),
        ("fit_by_epochs", "sklearn", "sklearn"),
        ("SklearnObjective", "sklearn", "sklearn"),
        ("LightGBMModel", "lightgbm", "lightgbm"),
        ("LightGBMPruning", "lightgbm", "lightgbm"),
        ("TorchObjective", "torch", "torch"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name, package, extra):
    message = python(
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"try:\n    from hpolab import {name}\n"
        "except ImportError as error:\n    print(error)"
    )
    assert message.startswith(f"`{name}` needs ")
    assert f"hpolab[{extra}]" in message


def test_importing_hpolab_imports_no_heavy_package():
    heavy = ("torch", "sklearn", "lightning", "lightgbm", "psycopg", "rich", "typer", "pandas")
    assert python(f"import sys, hpolab; print([n for n in {heavy!r} if n in sys.modules])") == "[]"


def test_what_a_study_needs_imports_no_family():
    heavy = ("torch", "sklearn", "lightning", "lightgbm", "pandas")
    code = f"from hpolab import *; print([name for name in {heavy!r} if name in sys.modules])"
    names = "make_study, run, Objective, FunctionObjective, SearchSpace, optimizer_space, compare"
    code = f"import sys; {code.replace('*', names)}"
    assert python(code) == "[]"


USER = """
from hpolab import SearchSpace, TorchObjective, make_study, optimizer_space

space: int = optimizer_space("adam")
study: int = make_study("squares")
objective: int = TorchObjective
"""


# It comes with the tests' extra, as all the packages do whose types are looked at.
@pytest.mark.needs("basedpyright")
@pytest.mark.parametrize("checker", [pytest.param("mypy", marks=pytest.mark.long), "basedpyright"])
def test_type_checkers_see_the_types_from_outside(checker, tmp_path):
    path = shutil.which(checker, path=str(Path(sys.executable).parent))
    assert path is not None, f"{checker} comes with the extra `test`"
    program = tmp_path / "program.py"
    program.write_text(USER)
    arguments = ["--strict"] if checker == "mypy" else ["--pythonpath", sys.executable]
    shown = subprocess.run(
        [path, *arguments, str(program)], capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert "SearchSpace" in shown
    assert "Study" in shown
    assert "type[TorchObjective]" in shown
