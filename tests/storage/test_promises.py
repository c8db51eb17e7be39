"""What `check_storage` says of each kind of storage, read off real files and servers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from sqlalchemy import text

from hpolab import (
    HpolabError,
    InvalidArgument,
    Promise,
    StoragePromises,
    StorageUnavailable,
    check_storage,
    open_storage,
    redact,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RedisServer


def kept(promises: StoragePromises) -> list[bool | None]:
    return [getattr(promises, field.name).kept for field in dataclasses.fields(StoragePromises)[1:]]


def test_every_storage_answers_and_shows_no_password(storage_url: str) -> None:
    open_storage(storage_url)
    promises = check_storage(storage_url)
    assert promises.url == redact(storage_url)
    lines = str(promises).splitlines()
    assert len(lines) == 6
    assert max(map(len, lines[1:])) <= 120
    password = urlsplit(storage_url).password
    assert password is None or password not in str(promises)


def test_promises_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        check_storage("memory://").url = "other"  # type: ignore[misc]


def test_memory_promises_nothing() -> None:
    assert kept(check_storage("memory://")) == [False] * 5


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Pretend that a folder is a file system of a kind of its own."""
    (template,) = psutil.disk_partitions(all=True)[:1]
    mount = template._replace(mountpoint=str(folder), fstype=kind)
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [mount])
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(folder))


@pytest.mark.parametrize(
    ("scheme", "kind", "expected"),
    [
        ("sqlite", "ext4", [True, True, True, True, False]),
        ("sqlite", "tmpfs", [True, True, False, True, False]),
        ("sqlite", "nfs4", [True, True, None, False, False]),
        ("journal", "ext4", [True, True, True, True, False]),
        ("journal", "tmpfs", [True, True, False, True, False]),
        ("journal", "nfs", [True, True, None, True, None]),
    ],
)
def test_a_file_promises_what_its_file_system_does(
    scheme: str,
    kind: str,
    expected: list[bool | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"{scheme}:///{tmp_path}/study"
    open_storage(url)
    mounted(monkeypatch, tmp_path, kind)
    promises = check_storage(url)
    assert kept(promises) == expected
    assert kind == "ext4" or kind in str(promises)


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_question_creates_no_file(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="there is no such file"):
        check_storage(f"{scheme}:///{tmp_path}/study")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "error"),
    [("sqlit:///a", InvalidArgument), ("sqlite://a", InvalidArgument), ("a.bin", InvalidArgument)],
)
def test_bad_urls_are_refused_as_by_open_storage(url: str, error: type[HpolabError]) -> None:
    with pytest.raises(error):
        check_storage(url)


@pytest.mark.parametrize(
    ("options", "server_kill", "power_cut", "reason"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, True, True, "appendfsync=always"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, None, False, "the last second is lost"),
        ({"appendonly": "yes", "appendfsync": "no"}, True, False, "appendfsync=no"),
        ({"appendonly": "no", "save": ""}, False, False, "keeps nothing on disk"),
        ({"appendonly": "no", "save": "3600 1"}, False, False, "save='3600 1'"),
    ],
)
def test_redis_promises_what_it_is_configured_for(
    options: dict[str, str],
    server_kill: bool | None,
    power_cut: bool,
    reason: str,
    redis_server: RedisServer,
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        for name, value in options.items():
            client.config_set(name, value)
    promises = check_storage(redis_server.url)
    assert kept(promises) == [True, server_kill, power_cut, True, True]
    assert reason in str(promises)


def test_a_redis_that_hides_its_settings_is_not_trusted(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise redis.ResponseError("unknown command 'CONFIG'")

    monkeypatch.setattr(redis.Redis, "config_get", refuse)
    assert check_storage(redis_server.url).power_cut.kept is None


@pytest.mark.parametrize(("setting", "server_kill"), [(None, True), ("synchronous_commit", False)])
def test_postgresql_promises_what_it_is_configured_for(
    setting: str | None, server_kill: bool, postgres_database: str
) -> None:
    # The tests' server runs with fsync=off.
    if setting is not None:
        storage: Any = open_storage(postgres_database)
        name = postgres_database.rpartition("/")[2]
        with storage.engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {name} SET {setting} = off"))
    promises = check_storage(postgres_database)
    assert kept(promises) == [True, server_kill, False, True, True]
    assert "fsync=off" in promises.power_cut.reason


def test_grpc_says_that_another_storage_decides(grpc_url: str) -> None:
    promises = check_storage(grpc_url)
    behind = Promise(None, "the storage behind the gRPC server decides")
    assert promises.server_kill == promises.power_cut == behind
