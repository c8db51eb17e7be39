"""What `open_storage` promises, on real servers; MySQL is the exception, see the end."""

from __future__ import annotations

import hashlib
import logging
import pickle
import socket
import sqlite3
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import optuna
import psycopg
import pytest
import redis

import hpolab.storage.url
from hpolab import (
    DEFAULT_URL,
    HpolabError,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    StorageUnavailable,
    open_storage,
    redact,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "h/nt€r 2@%:"
QUOTED = quote(SECRET, safe="")


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    return x


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file under a folder, with its content."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpolab.storage.url, "ANSWER_TIMEOUT_SECONDS", 1)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# What works.


def test_a_study_goes_on_in_a_second_opening(storage_url: str, study_name: str) -> None:
    first = optuna.create_study(study_name=study_name, storage=open_storage(storage_url))
    first.optimize(objective, n_trials=3)
    second = open_storage(storage_url)
    if storage_url == "memory://":
        assert second.get_all_studies() == []
        return
    resumed = optuna.load_study(study_name=study_name, storage=second)
    resumed.optimize(objective, n_trials=1)
    assert [trial.number for trial in resumed.trials] == [0, 1, 2, 3]
    assert [trial.params for trial in resumed.trials[:3]] == [t.params for t in first.trials[:3]]


def test_a_pickled_storage_reaches_the_same_study(
    storage_url: str, study_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(storage_url)
    study = optuna.create_study(study_name=study_name, storage=storage)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    copy = pickle.loads(pickle.dumps(storage))
    optuna.load_study(study_name=study_name, storage=copy).optimize(objective, n_trials=2)
    # A pickled memory is another memory.
    assert len(study.get_trials()) == (0 if storage_url == "memory://" else 2)
    if isinstance(copy, optuna.storages.RDBStorage):
        copy.engine.dispose()


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_relative_file_stays_the_same_file_after_chdir(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = open_storage(f"{scheme}:///a study {{1}} 100%")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with ThreadPoolExecutor(1) as another_connection:
        another_connection.submit(
            lambda: optuna.create_study(storage=storage).optimize(objective, n_trials=1)
        ).result()
    assert (tmp_path / "a study {1} 100%").stat().st_size > 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_url_is_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    optuna.create_study(study_name="a", storage=open_storage())
    assert optuna.get_all_study_names(open_storage(DEFAULT_URL)) == ["a"]
    assert (tmp_path / "hpolab.db").exists()


@pytest.mark.parametrize(("value", "file"), [("journal:///own.log", "own.log"), ("", "hpolab.db")])
def test_the_environment_may_name_another_default(
    value: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPOLAB_STORAGE", value)
    optuna.create_study(study_name="a", storage=open_storage())
    assert optuna.get_all_study_names(open_storage()) == ["a"]
    assert (tmp_path / file).exists()


def test_an_open_storage_passes_through() -> None:
    storage = optuna.storages.InMemoryStorage()
    assert open_storage(storage) is storage


def test_databases_come_back_for_optuna_to_cache(tmp_path: Path, postgres_database: str) -> None:
    for url in (f"sqlite:///{tmp_path}/study.db", postgres_database):
        assert isinstance(open_storage(url), optuna.storages.RDBStorage)


def test_postgresql_is_reached_by_psycopg_and_notices_dropped_connections(
    postgres_url: str, postgres_database: str
) -> None:
    storage = open_storage(postgres_database.replace("postgresql://", "postgres://"))
    assert isinstance(storage, optuna.storages.RDBStorage)
    assert storage.engine.url.drivername == "postgresql+psycopg"
    study = optuna.create_study(storage=storage)
    with psycopg.connect(postgres_url, autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [postgres_database.rpartition("/")[2]],
        )
    study.optimize(objective, n_trials=1)
    assert len(study.trials) == 1


def test_eight_can_open_one_new_postgresql_database_at_once(postgres_database: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        storages = list(pool.map(open_storage, [postgres_database] * 8))
    assert all(storage.get_all_studies() == [] for storage in storages)


def test_redis_is_reached_by_its_unix_socket(redis_database: str) -> None:
    with redis.Redis.from_url(redis_database) as client:
        path = client.config_get("unixsocket")["unixsocket"]
    address = urlsplit(redis_database)
    by_socket = f"unix://{path}?db={address.path[1:]}&password={address.password}"
    optuna.create_study(study_name="a", storage=open_storage(redis_database))
    assert optuna.get_all_study_names(open_storage(by_socket)) == ["a"]


def test_redis_keys_carry_our_prefix(redis_database: str) -> None:
    optuna.create_study(storage=open_storage(redis_database))
    with redis.Redis.from_url(redis_database) as client:
        assert all(key.startswith(b"hpolab:") for key in client.scan_iter())


@pytest.mark.parametrize("server", ["redis_url", "grpc_url"])
def test_only_optunas_own_mark_is_silenced(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(server)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", optuna.exceptions.ExperimentalWarning)
        open_storage(url)
        assert caught == []
        optuna.storages.GrpcStorageProxy(port=1).close()
    assert [warning.category for warning in caught] == [optuna.exceptions.ExperimentalWarning]


# Bad input: refused before anything is created or changed.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlit:///study.db", "Did you mean 'sqlite'?"),
        ("reddis://localhost", "Did you mean 'redis'?"),
        ("postgresql+psycopg2://u@h/d", "Did you mean 'postgresql'?"),
        ("mysql+pymysql://u@h/d", "Did you mean 'mysql'?"),
        ("study", "or a URL such as 'sqlite:///hpolab.db', got 'study'"),
        ("", "must be a file that ends in .db (SQLite)"),
        ("sqlite://study.db", "must be of the form 'sqlite:///folder/file'"),
        ("sqlite:///study.db?timeout=5", "must be of the form 'sqlite:///folder/file'"),
        ("sqlite://", "must name a file or be 'memory://'"),
        ("sqlite:///", "must name a file or be 'memory://'"),
        ("sqlite:///:memory:", "must name a file or be 'memory://'"),
        ("journal://", "must be of the form 'journal:///folder/file'"),
        ("journal:///", "must be of the form 'journal:///folder/file'"),
        ("memory://a", "must be of the form 'memory://', got 'memory://a'"),
        ("redis://", "must be of the form 'redis://user:password@host:port/0'"),
        ("redis://:6379/0", "must be of the form 'redis://user:password@host:port/0'"),
        ("redis://localhost/studies", "must be of the form"),
        ("redis://localhost:six/0", "must be of the form"),
        ("redis://localhost:99999/0", "must be of the form"),
        ("unix://redis.sock", "must be of the form 'unix:///folder/redis.sock?db=0'"),
        ("postgresql://", "must be of the form 'postgresql://user:password@host:port/database'"),
        ("postgresql://localhost", "must be of the form"),
        ("postgresql:///studies", "must be of the form"),
        ("postgresql://localhost:five/studies", "must be of the form"),
        ("mysql://localhost", "must be of the form 'mysql://user:password@host:port/database'"),
        ("grpc://", "must be of the form 'grpc://host:port'"),
        ("grpc://localhost", "must be of the form 'grpc://host:port'"),
        ("grpc://localhost:13000/study", "must be of the form 'grpc://host:port'"),
        ("grpc://ada@localhost:13000", "must be of the form 'grpc://host:port'"),
    ],
)
def test_a_url_that_breaks_the_grammar_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        open_storage(url)
    assert message in str(refusal.value)


@pytest.mark.parametrize("argument", [b"study.db", 1, ["a.db"]])
def test_what_is_no_url_is_refused(argument: object) -> None:
    with pytest.raises(InvalidType, match="must be a URL, a file's path, or an Optuna"):
        open_storage(argument)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
class TestAFileThatCannotBeUsed:
    def refused(self, url: str, folder: Path, message: str) -> None:
        before = fingerprint(folder)
        with pytest.raises(StorageUnavailable) as refusal:
            open_storage(url)
        assert message in str(refusal.value)
        assert url in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert fingerprint(folder) == before

    def test_missing_folder(self, scheme: str, tmp_path: Path) -> None:
        self.refused(f"{scheme}:///{tmp_path}/no/study", tmp_path, "there is no folder")

    def test_folder_in_its_place(self, scheme: str, tmp_path: Path) -> None:
        (tmp_path / "study").mkdir()
        self.refused(f"{scheme}:///{tmp_path}/study", tmp_path, "is no plain file")

    @pytest.mark.parametrize("content", [b"lr=0.1 was best\n", b"{}\n", b"\x00" * 4096])
    def test_file_of_another_kind(self, scheme: str, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "study").write_bytes(content)
        self.refused(f"{scheme}:///{tmp_path}/study", tmp_path, "is not a")

    # Root may write to read-only files and folders, so for root these show that hpolab respects
    # the mark, not that the system does.
    def test_read_only_file(self, scheme: str, tmp_path: Path) -> None:
        optuna.create_study(storage=open_storage(f"{scheme}:///{tmp_path}/study"))
        (tmp_path / "study").chmod(0o444)
        self.refused(f"{scheme}:///{tmp_path}/study", tmp_path, "is read-only")

    def test_read_only_folder(self, scheme: str, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        folder.chmod(0o555)
        self.refused(f"{scheme}:///{folder}/study", tmp_path, "is read-only")
        folder.chmod(0o755)


def test_a_damaged_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    before = fingerprint(tmp_path)
    with pytest.raises(StorageUnavailable, match=r"is not a SQLite database.* \.recover"):
        open_storage(f"sqlite:///{path}")
    assert fingerprint(tmp_path) == before


def test_a_sqlite_file_of_another_optuna_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    old = optuna.storages.RDBStorage(f"sqlite:///{path}")
    old.engine.dispose()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v1.3.0.a'")
        connection.execute("DROP TABLE trial_heartbeats")
    connection.close()
    before = fingerprint(tmp_path)
    with pytest.raises(StorageUnavailable, match="optuna storage upgrade"):
        open_storage(f"sqlite:///{path}")
    assert fingerprint(tmp_path) == before


def test_a_damaged_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    optuna.create_study(storage=open_storage(f"journal:///{path}"))
    path.write_bytes(path.read_bytes() + b'{"op_code":4,\n{"op_code":4}\n')
    before = fingerprint(tmp_path)
    with pytest.raises(StorageUnavailable, match="Check that the journal is intact"):
        open_storage(f"journal:///{path}")
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [
        ("redis", "redis", "redis"),
        ("postgresql", "psycopg", "postgres"),
        ("mysql", "pymysql", "mysql"),
        ("grpc", "grpc", "grpc"),
        ("grpc", "google.protobuf", "grpc"),
    ],
)
def test_a_missing_driver_names_its_extra(
    scheme: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    url = "grpc://localhost:1" if scheme == "grpc" else f"{scheme}://ada:{QUOTED}@localhost:1/0"
    with pytest.raises(MissingExtra, match=rf"pip install 'hpolab\[{extra}\]'") as refusal:
        open_storage(url)
    assert QUOTED not in "".join(traceback.format_exception(refusal.value))


def test_grpc_waits_for_a_server_only_so_long(silent_port: int) -> None:
    with pytest.raises(StorageUnavailable, match="run_grpc_proxy_server"):
        open_storage(f"grpc://127.0.0.1:{silent_port}")


# Passwords: in no error, log, repr or chain of exceptions.


def every_text(error: BaseException | None) -> str:
    """The traceback, and every exception behind it, also where ``from None`` hides it."""
    texts = []
    while error is not None:
        texts += traceback.format_exception(error)
        texts += [repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "".join(texts)


LOGIN = f"ada:{QUOTED}"
UNREACHABLE = {
    "redis closed": f"redis://{LOGIN}@127.0.0.1:{{closed}}/0",
    "redis query": f"redis://127.0.0.1:{{closed}}/0?password={QUOTED}",
    "redis tls": f"rediss://:{QUOTED}@127.0.0.1:{{closed}}/0",
    "redis socket": f"unix:///no/redis.sock?password={QUOTED}",
    "redis refuses": f"redis://:{QUOTED}@{{redis}}",
    "redis refuses user": f"redis://{LOGIN}@{{redis}}",
    "redis bad option": f"redis://:{QUOTED}@{{redis}}?db=a",
    "postgresql closed": f"postgresql://{LOGIN}@127.0.0.1:{{closed}}/studies",
    "postgresql query": f"postgresql://ada@127.0.0.1:{{closed}}/studies?password={QUOTED}",
    "postgresql refuses": f"postgresql://{LOGIN}@{{postgresql}}",
    "postgresql no database": "{postgresql_url}_none",
    "postgresql bad option": f"postgresql://{LOGIN}@127.0.0.1:{{closed}}/db?{SECRET}=1",
    "mysql closed": f"mysql://ada:{quote('hünter 2@%:', safe='')}@127.0.0.1:{{closed}}/studies",
    "mysql latin": f"mysql://{LOGIN}@127.0.0.1:{{closed}}/studies",
    "mysql bad option": f"mysql://{LOGIN}@127.0.0.1:{{closed}}/studies?connect_timeout=a",
    "unknown scheme": f"rediz://{LOGIN}@127.0.0.1/0",
    "no scheme": f"{LOGIN}@127.0.0.1/0",
    "not encoded redis": f"redis://:{SECRET}@127.0.0.1:{{closed}}/0",
    "not encoded postgresql": f"postgresql://ada:{SECRET}@127.0.0.1:{{closed}}/0",
    "bad port": f"postgresql://{LOGIN}@127.0.0.1:five/0",
}


@pytest.fixture
def unreachable(
    request: pytest.FixtureRequest, redis_url: str, postgres_url: str, closed_port: int
) -> str:
    """The URL of ``UNREACHABLE`` that the test is parametrized by."""
    return UNREACHABLE[request.param].format(
        closed=closed_port,
        redis=redis_url.rpartition("@")[2],
        postgresql=postgres_url.rpartition("@")[2],
        postgresql_url=postgres_url,
    )


@pytest.mark.parametrize("unreachable", UNREACHABLE, indirect=True)
def test_no_password_is_shown_when_a_server_cannot_be_used(
    unreachable: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(HpolabError) as refusal:
        open_storage(unreachable)
    shown = every_text(refusal.value) + caplog.text
    server_password = urlsplit(postgres_url).password or ""
    for secret in (SECRET, QUOTED, "hünter", server_password, unquote(server_password)):
        assert secret not in shown
    if isinstance(refusal.value, StorageUnavailable):
        assert refusal.value.__context__ is None
        assert redact(unreachable) in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("password", ["ab@cde", "12?cde@", "12#cde", "12/cde", "12@3/cde"])
@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_no_part_of_a_password_that_was_not_encoded_is_shown(scheme: str, password: str) -> None:
    with pytest.raises(HpolabError) as refusal:
        open_storage(f"{scheme}://ada:{password}@127.0.0.1:1/0")
    assert "cde" not in every_text(refusal.value)


def test_a_password_in_a_drivers_message_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def quote_everything(_: redis.Redis) -> None:
        raise redis.ConnectionError(f"no server for {SECRET!r} ({QUOTED})\nbut more of {SECRET}")

    monkeypatch.setattr(redis.Redis, "ping", quote_everything)
    with pytest.raises(StorageUnavailable, match=r"no server for '\*\*\*' \(\*\*\*\)\. Check"):
        open_storage(f"redis://ada:{QUOTED}@127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("unreachable", "reason"),
    [
        ("redis closed", "Connection refused"),
        ("redis socket", "No such file"),
        ("redis refuses", "invalid username-password pair"),
        ("postgresql closed", "Connection refused"),
        ("postgresql refuses", "password authentication failed"),
        ("postgresql no database", "does not exist"),
        ("mysql closed", "Connection refused"),
    ],
    indirect=["unreachable"],
)
def test_the_message_keeps_what_went_wrong(unreachable: str, reason: str) -> None:
    with pytest.raises(StorageUnavailable, match=reason):
        open_storage(unreachable)


@pytest.mark.parametrize("scheme", ["redis", "postgresql", "mysql"])
def test_a_server_that_never_answers_is_given_up(scheme: str, silent_port: int) -> None:
    with pytest.raises(StorageUnavailable, match=r"Check that the server runs there"):
        open_storage(f"{scheme}://ada:secret@127.0.0.1:{silent_port}/0")


@pytest.mark.parametrize("server", ["redis_database", "postgres_database"])
def test_an_open_storage_shows_no_password(
    server: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    url = request.getfixturevalue(server)
    caplog.set_level(logging.DEBUG)
    storage = open_storage(url)
    study = optuna.create_study(storage=storage)
    study.optimize(objective, n_trials=1)
    shown = caplog.text + repr(storage) + repr(getattr(storage, "engine", "")) + repr(study)
    password = urlsplit(url).password or ""
    assert password not in shown
    assert unquote(password) not in shown


# There is no MySQL server to be had from a wheel, so no test here opens a study in one. What
# stands above about "mysql" (its grammar, its driver, a closed port, a server that stays silent)
# is all that is tested; that tables are created and locked is not.
