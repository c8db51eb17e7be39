"""What a storage promises, read off the real file or server where it can be."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from optuna.storages import InMemoryStorage

from hpolab.keywords import checks_keywords
from hpolab.storage.location import url_of
from hpolab.storage.paths import path_of
from hpolab.storage.redaction import redact
from hpolab.storage.url import default_url, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

__all__ = ["Promise", "StoragePromises", "check_storage", "why_not_many_hosts"]

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


@dataclass(frozen=True)
class StoragePromises:
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

    def __str__(self) -> str:
        marks = {True: "yes", False: "NO", None: "?"}
        promises = [(field.name, getattr(self, field.name)) for field in fields(self)[1:]]
        rows = [
            f"  {_TITLES[name]:<24}{marks[promise.kept]:<5}{promise.reason}"
            for name, promise in promises
        ]
        return "\n".join([self.url, *rows])


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
        promise = _check_memory("memory://", storage).many_hosts
    else:
        return None
    return promise.reason if promise.kept is False else None


def _check_memory(url: str, storage: Any) -> StoragePromises:
    gone = Promise(False, "it is this process's memory")
    alone = Promise(False, "each process has a memory of its own")
    return StoragePromises(url, gone, gone, gone, alone, alone)


def _check_sqlite(url: str, storage: Any) -> StoragePromises:
    path = path_of(url)
    mode, synchronous = (
        _sql(storage, f"PRAGMA {name}") for name in ("journal_mode", "synchronous")
    )
    kind = _file_system(path)
    shared = kind not in _NETWORK_FILE_SYSTEMS
    return StoragePromises(
        url,
        process_kill=Promise(True, f"each commit is in the file (journal_mode={mode})"),
        server_kill=Promise(True, "there is no server"),
        power_cut=_power_cut(
            kind, f"each commit is synced to the disk (synchronous={_SYNCHRONOUS[synchronous]})"
        ),
        many_processes=(
            Promise(True, "SQLite's locks, on one machine")
            if shared
            else Promise(False, f"SQLite's locks are not reliable on a network disk ({kind})")
        ),
        many_hosts=Promise(False, _NOT_SQLITE),
    )


def _check_journal(url: str, storage: Any) -> StoragePromises:
    kind = _file_system(path_of(url))
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
        sync, save_points = (_redis_setting(client, name) for name in ("appendfsync", "save"))
    if persistence.get("aof_enabled"):
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
    names = ("fsync", "synchronous_commit", "full_page_writes")
    off = [f"{name}=off" for name in names if _sql(storage, f"SHOW {name}") == "off"]
    if "synchronous_commit=off" in off:
        killed = Promise(False, "the last commits are lost (synchronous_commit=off)")
    else:
        killed = Promise(True, "each commit has left the server's memory")
    if off:
        cut = Promise(False, f"commits are not safe on its disk ({', '.join(off)})")
    else:
        cut = Promise(True, "each commit is synced to its disk (fsync, full_page_writes)")
    return _server(url, killed, cut)


def _check_mysql(url: str, storage: Any) -> StoragePromises:
    told = "its settings are not read; innodb_flush_log_at_trx_commit=1 is needed"
    return _server(url, Promise(None, told), Promise(None, told))


def _check_grpc(url: str, storage: Any) -> StoragePromises:
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
    "grpc": _check_grpc,
    "journal": _check_journal,
    "memory": _check_memory,
    "mysql": _check_mysql,
    "postgres": _check_postgresql,
    "postgresql": _check_postgresql,
    "redis": _check_redis,
    "rediss": _check_redis,
    "sqlite": _check_sqlite,
    "unix": _check_redis,
}
