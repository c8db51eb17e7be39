"""The package as a whole: its surface, what importing it costs, what it may not hold."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import hpolab

MODULES = [
    module.name
    for module in pkgutil.walk_packages(hpolab.__path__, "hpolab.")
    if module.name != "hpolab.__main__"
]


def test_public_names():
    assert hpolab.__all__ == ["Reporter", "copy_study", "load_study", "make_study", "run"]


@pytest.mark.parametrize("name", MODULES)
def test_public_surface_is_a_list_of_names_that_exist(name):
    module = importlib.import_module(name)
    if name.rsplit(".", 1)[-1].startswith("_"):
        return  # the border to Optuna: nothing there is public
    assert len(set(module.__all__)) == len(module.__all__)  # ruff sees that it is sorted
    assert all(hasattr(module, public) for public in module.__all__)


def test_importing_hpolab_imports_no_heavy_package():
    heavy = ("torch", "sklearn", "lightning", "lightgbm", "psycopg", "rich", "typer")
    code = f"import sys, hpolab; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
