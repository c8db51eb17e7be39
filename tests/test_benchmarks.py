"""Benchmarks that take minutes run on small settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "storage",
    [
        "Redis",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("SQLite", "journal", "PostgreSQL", "gRPC")
        ),
    ],
)
def test_scale_simulates_workers_on_a_real_storage_beside_plain_optuna(storage):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "scale.py", "--quick", "--storages", storage],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for row in ("hpolab: makespan", "Optuna: makespan", "hpolab: back to back, trials/s"):
        assert row in done.stdout
    assert f"{storage}, 100 stored trials" in done.stdout
