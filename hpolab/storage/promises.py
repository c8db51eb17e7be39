"""What a storage promises, read off the real file or server where it can be."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from optuna.storages import InMemoryStorage

from hpolab.display import Displayed
from hpolab.keywords import checks_keywords
from hpolab.storage.location import url_of
from hpolab.storage.paths import path_of
from hpolab.storage.redaction import redact
from hpolab.storage.url import default_url, open_storage
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike
    from pathlib import Path

__all__ = [
    "Promise",
    "StoragePromises",
    "check_storage",
    "grpc_promises",
    "journal_promises",
    "memory_promises",
    "mysql_promises",
    "postgresql_promises",
    "redis_promises",
    "sqlite_promises",
    "why_not_many_hosts",
]

# As the operating systems name them.
_NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
        "webdav",
    ]
)
# As `PRAGMA synchronous` numbers them.
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_POSTGRESQL_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")
_NOT_SQLITE = "SQLite's log needs memory that the processes share"
_MEMORY_FILE_SYSTEMS = frozenset(["ramfs", "tmpfs"])


@dataclass(frozen=True)
class Promise:
    """One promise.

    Attributes:
        kept: Whether the storage keeps it; None if that cannot be told from here.
        reason: Why, in one line.
    """

    kept: bool | None
    reason: str


@dataclass(frozen=True, repr=False)
class StoragePromises(Displayed):
    """What a storage promises; ``str()`` of it is a table for the terminal.

    Attributes:
        url: The storage, without its password.
        process_kill: What was told outlives ``kill -9`` of the process that told it.
        server_kill: It outlives ``kill -9`` of the server.
        power_cut: It outlives the sudden end of the machine that keeps it.
        many_processes: Several processes may share a study.
        many_hosts: They may run on several machines.
    """

    url: str
    process_kill: Promise
    server_kill: Promise
    power_cut: Promise
    many_processes: Promise
    many_hosts: Promise

    def _in_one_line(self) -> str:
        kept = [_TITLES[name] for name, promise in self._named() if promise.kept]
        return f"{self.url}: {', '.join(kept) or 'nothing for sure'}"

    def __str__(self) -> str:
        rows = [
            f"  {_TITLES[name]:<24}{_MARKS[promise.kept]:<5}{promise.reason}"
            for name, promise in self._named()
        ]
        return "\n".join([self.url, *rows])

    def _parts(self) -> list[str | TextTable]:
        rows = [
            [_TITLES[name], _MARKS[promise.kept], promise.reason] for name, promise in self._named()
        ]
        return [self.url, TextTable(["promise", "kept", "why"], rows)]

    def _named(self) -> list[tuple[str, Promise]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)[1:]]


_MARKS = {True: "yes", False: "NO", None: "?"}

_TITLES = {
    "process_kill": "survives a process kill",
    "server_kill": "survives a server kill",
    "power_cut": "survives a power cut",
    "many_processes": "several processes",
    "many_hosts": "several hosts",
}


@checks_keywords()
def check_storage(url: str | PathLike[str] | None = None) -> StoragePromises:
    """Tell what the storage at a URL promises, by what its file system or server says of itself.

    The storage is opened for it; a file is not created.

    Args:
        url: As for `open_storage`.

    Raises:
        StorageNotFound: If there is no such file.
        StorageUnavailable: As from `open_storage`.
        InvalidArgument: As from `open_storage`.

    Example:
        >>> print(check_storage("memory://"))
        memory://
          survives a process kill NO   it is this process's memory
          survives a server kill  NO   it is this process's memory
          survives a power cut    NO   it is this process's memory
          several processes       NO   each process has a memory of its own
          several hosts           NO   each process has a memory of its own
    """
    url = default_url() if url is None else url_of(url)
    scheme = url.partition("://")[0]
    # A question makes no file.
    storage = open_storage(url, create=scheme not in ("journal", "sqlite"))
    return _CHECKS[scheme](url, storage)


def why_not_many_hosts(storage: Any) -> str | None:
    """Return why a study's storage cannot be shared by several hosts; None if it may be.

    Args:
        storage: What keeps the study behind Optuna's cache or journal.
    """
    path = getattr(storage, "path", getattr(storage, "_file_path", None))
    if path is not None:
        promise = _check_journal(f"journal:///{path}", storage).many_hosts
    elif getattr(getattr(storage, "engine", None), "name", "") == "sqlite":
        promise = Promise(False, _NOT_SQLITE)
    elif isinstance(storage, InMemoryStorage):
        promise = memory_promises("memory://", storage).many_hosts
    else:
        return None
    return promise.reason if promise.kept is False else None


def memory_promises(url: str, storage: Any = None) -> StoragePromises:
    """Return what a process's own memory promises: nothing."""
    gone = Promise(False, "it is this process's memory")
    alone = Promise(False, "each process has a memory of its own")
    return StoragePromises(url, gone, gone, gone, alone, alone)


def _check_sqlite(url: str, storage: Any) -> StoragePromises:
    mode, synchronous = (
        _sql(storage, f"PRAGMA {name}") for name in ("journal_mode", "synchronous")
    )
    settings = {"journal_mode": mode, "synchronous": _SYNCHRONOUS[synchronous]}
    return sqlite_promises(url, _file_system(path_of(url)), settings)


def sqlite_promises(url: str, kind: str, settings: Mapping[str, str]) -> StoragePromises:
    """Return what a SQLite file promises.

    Args:
        url: Its URL.
        kind: The file system that it is on, in the operating system's word.
        settings: SQLite's ``journal_mode`` and ``synchronous``.
    """
    mode, synchronous = settings["journal_mode"], settings["synchronous"]
    shared = kind not in _NETWORK_FILE_SYSTEMS
    return StoragePromises(
        url,
        process_kill=Promise(True, f"each commit is in the file (journal_mode={mode})"),
        server_kill=Promise(True, "there is no server"),
        power_cut=_power_cut(
            kind, f"each commit is synced to the disk (synchronous={synchronous})"
        ),
        many_processes=(
            Promise(True, "SQLite's locks, on one machine")
            if shared
            else Promise(False, f"SQLite's locks are not reliable on a network disk ({kind})")
        ),
        many_hosts=Promise(False, _NOT_SQLITE),
    )


def _check_journal(url: str, storage: Any) -> StoragePromises:
    return journal_promises(url, _file_system(path_of(url)))


def journal_promises(url: str, kind: str) -> StoragePromises:
    """Return what a journal file promises.

    Args:
        url: Its URL.
        kind: The file system that it is on, in the operating system's word.
    """
    remote = kind in _NETWORK_FILE_SYSTEMS
    return StoragePromises(
        url,
        process_kill=Promise(True, "each append is in the file"),
        server_kill=Promise(True, "there is no server"),
        power_cut=_power_cut(kind, "each append is synced to the disk (fsync)"),
        many_processes=Promise(True, "a lock that ends with its process (flock)"),
        many_hosts=(
            Promise(None, f"only if the mount forwards flock to its server ({kind})")
            if remote
            else Promise(False, f"the file is on a disk of this machine ({kind})")
        ),
    )


def _power_cut(kind: str, reason: str) -> Promise:
    if kind in _MEMORY_FILE_SYSTEMS:
        return Promise(False, f"the file is in memory ({kind})")
    if kind in _NETWORK_FILE_SYSTEMS:
        return Promise(None, f"the server of the network disk decides ({kind})")
    return Promise(True, reason)


def _check_redis(url: str, storage: Any) -> StoragePromises:
    import redis

    with redis.Redis.from_url(url) as client:
        persistence: Any = client.info("persistence")
        settings = {name: _redis_setting(client, name) for name in ("appendfsync", "save")}
    return redis_promises(url, bool(persistence.get("aof_enabled")), settings)


def redis_promises(
    url: str, append_only: bool, settings: Mapping[str, str | None]
) -> StoragePromises:
    """Return what a Redis server promises.

    Args:
        url: Its URL.
        append_only: Whether it writes an append-only file.
        settings: Its ``appendfsync`` and ``save``; None where it keeps them to itself.
    """
    sync, save_points = settings["appendfsync"], settings["save"]
    if append_only:
        # "everysec" also puts writing off while a sync is slow.
        killed = (
            Promise(None, "all but two seconds', while its disk is slow (appendfsync=everysec)")
            if sync == "everysec"
            else Promise(True, "each write is in its append-only file (appendonly=yes)")
        )
        cut = {
            "always": Promise(True, "each write is synced to its disk (appendfsync=always)"),
            "everysec": Promise(
                False, "the last second is lost (appendfsync=everysec; set it to always)"
            ),
            "no": Promise(False, "it never syncs its file (appendfsync=no; set it to always)"),
        }.get(sync or "", Promise(None, "it does not say when it syncs its file (appendfsync)"))
    elif save_points == "":
        killed = cut = Promise(False, "it keeps nothing on disk (appendonly=no, no save points)")
    else:
        points = "" if save_points is None else f", save={save_points!r}"
        killed = cut = Promise(
            False, f"what came after the last save point is lost (appendonly=no{points})"
        )
    return _server(url, killed, cut)


def _redis_setting(client: Any, name: str) -> str | None:
    from redis import ResponseError

    try:
        setting: str | None = client.config_get(name).get(name)
    except ResponseError:
        return None  # a rented server keeps its settings to itself
    return setting


def _check_postgresql(url: str, storage: Any) -> StoragePromises:
    settings = {name: _sql(storage, f"SHOW {name}") for name in _POSTGRESQL_SETTINGS}
    return postgresql_promises(url, settings)


def postgresql_promises(url: str, settings: Mapping[str, str]) -> StoragePromises:
    """Return what a PostgreSQL server promises.

    Args:
        url: Its URL.
        settings: Its ``fsync``, ``synchronous_commit`` and ``full_page_writes``.
    """
    off = [f"{name}=off" for name in _POSTGRESQL_SETTINGS if settings[name] == "off"]
    if "synchronous_commit=off" in off:
        killed = Promise(False, "the last commits are lost (synchronous_commit=off)")
    else:
        killed = Promise(True, "each commit has left the server's memory")
    if off:
        cut = Promise(False, f"commits are not safe on its disk ({', '.join(off)})")
    else:
        cut = Promise(True, "each commit is synced to its disk (fsync, full_page_writes)")
    return _server(url, killed, cut)


def mysql_promises(url: str, storage: Any = None) -> StoragePromises:
    """Return what a MySQL server promises: whatever its settings say, which are not read."""
    told = "its settings are not read; innodb_flush_log_at_trx_commit=1 is needed"
    return _server(url, Promise(None, told), Promise(None, told))


def grpc_promises(url: str, storage: Any = None) -> StoragePromises:
    """Return what a gRPC server promises: whatever the storage behind it promises."""
    behind = Promise(None, "the storage behind the gRPC server decides")
    return _server(url, behind, behind)


def _server(url: str, server_kill: Promise, power_cut: Promise) -> StoragePromises:
    local = urlsplit(url).hostname in (None, "localhost", "127.0.0.1", "::1")
    reach = "if they reach it, by another name than in this URL" if local else "if they reach it"
    return StoragePromises(
        redact(url),
        process_kill=Promise(True, "what was told is with the server"),
        server_kill=server_kill,
        power_cut=power_cut,
        many_processes=Promise(True, "the server orders their writes"),
        many_hosts=Promise(True, reach),
    )


def _sql(storage: Any, question: str) -> Any:
    from sqlalchemy import text

    with storage.engine.connect() as connection:
        return connection.execute(text(question)).scalar()


def _file_system(path: Path) -> str:
    """Return the kind of file system that a file is on, in the operating system's word."""
    import psutil

    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    folders = [str(folder) for folder in path.resolve().parents if os.path.ismount(folder)]
    return next((mounts[folder] for folder in folders if folder in mounts), "unknown")


_CHECKS: dict[str, Callable[[str, Any], StoragePromises]] = {
    "grpc": grpc_promises,
    "journal": _check_journal,
    "memory": memory_promises,
    "mysql": mysql_promises,
    "postgres": _check_postgresql,
    "postgresql": _check_postgresql,
    "redis": _check_redis,
    "rediss": _check_redis,
    "sqlite": _check_sqlite,
    "unix": _check_redis,
}
