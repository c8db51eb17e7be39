"""`python -m hpolab` is the command `hpolab`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def test_module_runs_as_the_command():
    command = [sys.executable, "-m", "hpolab", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"hpolab {version('hpolab')}, optuna {version('optuna')}\n"
