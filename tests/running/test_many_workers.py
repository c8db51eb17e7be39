"""Many workers of one study at once: the budget is exact, and no server has too many clients."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from hpolab import load_study, make_study

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
OBJECTIVE = """
import time

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    trial.report(x, 0)
    time.sleep(0.01)
    return x**2
"""
WORKER = "import sys; from hpolab.cli import app; sys.path.insert(0, ''); app(sys.argv[1:])"


class Connections(threading.Thread):
    """Counts the connections to a PostgreSQL database, without its own, until told to end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        asked = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._ended.wait(0.1):
                self.most = max(self.most, connection.execute(asked).fetchone()[0])

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.most


@pytest.fixture(params=["redis", "postgresql"])
def server_url(request: pytest.FixtureRequest) -> str:
    """A database of a server with its default limits: PostgreSQL takes 100 connections."""
    if request.param == "redis":
        return request.getfixturevalue("redis_database")
    return request.getfixturevalue("postgres_server").url


def spend(url: str, folder: Path, start, *, n_workers: int, n_trials: int) -> Iterator[str]:
    """Let workers spend a budget at once; yield what is wrong."""
    make_study("many", storage=url, sampler="random", pruner="none", seed=0)
    (folder / "many_objective.py").write_text(OBJECTIVE)
    arguments = ["worker", "many_objective:objective", "--study", "many", "--storage", url]
    arguments += ["--n-trials", str(n_trials)]
    connections = Connections(url) if url.startswith("postgresql") else None
    if connections is not None:
        connections.start()
    workers = [start(arguments) for _ in range(n_workers)]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=900)
            if worker.returncode != 0:
                yield f"a worker ended with {worker.returncode}: {errors[-2000:]}"
    finally:
        for worker in workers:
            worker.kill()
        most = 0 if connections is None else connections.end()
    trials = load_study("many", storage=url).trials
    if Counter(trial.state.name for trial in trials) != {"COMPLETE": n_trials}:
        yield f"trials by state: {Counter(trial.state.name for trial in trials)}"
    if [trial.number for trial in trials] != list(range(n_trials)):
        yield "numbers are missing or doubled"
    if len({trial.params["x"] for trial in trials}) != n_trials:
        yield "two trials drew the same parameters"
    # One of this process; and one that has opened the storage under a lock may have two more.
    if most > n_workers + 3:
        yield f"{most} connections of {n_workers} workers"


def test_a_dozen_workers_spend_one_budget_with_a_connection_each(
    server_url, tmp_path, python, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def start(arguments: list[str]):
        return python.start(WORKER, *arguments)

    assert list(spend(server_url, tmp_path, start, n_workers=12, n_trials=200)) == []


@pytest.mark.long
def test_fifty_workers_spend_one_budget_with_a_connection_each(server_url, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hpolab", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert list(spend(server_url, tmp_path, start, n_workers=50, n_trials=2000)) == []
