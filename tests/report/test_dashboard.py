"""optuna-dashboard opens a study of ours as it is."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from hpolab import make_study, run

pytest.importorskip("optuna_dashboard")

START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def dashboard(tmp_path, curve, end_with_tests):
    """The address of a dashboard over a SQLite file with a study of three trials."""
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("curve", storage=url, objective=curve, pruner="none", seed=3)
    run(study, curve, n_trials=3, show_progress_bar=False)
    end_with_tests(tmp_path)
    port = free_port()
    program = "from optuna_dashboard._cli import main; main()"
    arguments = [url, "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "dashboard.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, stdout=log, stderr=log
        )
        try:
            yield f"http://127.0.0.1:{port}", server
        finally:
            server.terminate()
            server.wait(START_SECONDS)


def read(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def read_once_it_answers(address: str, server: subprocess.Popen[bytes]) -> dict:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return read(address)
        except urllib.error.URLError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_dashboard_shows_the_study_and_its_trials(dashboard):
    address, server = dashboard
    summaries = read_once_it_answers(f"{address}/api/studies", server)["study_summaries"]
    assert [summary["study_name"] for summary in summaries] == ["curve"]
    shown = read(f"{address}/api/studies/{summaries[0]['study_id']}?after=0")
    assert [trial["state"] for trial in shown["trials"]] == ["Complete"] * 3
    first = shown["trials"][0]
    assert {param["name"] for param in first["params"]} >= {"lr", "one_minus_beta2", "hidden"}
    assert len(first["intermediate_values"]) == 8
