"""What each storage promises, by the functions that `check_storage` asks."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from hpolab.storage.promises import (
    grpc_promises,
    journal_promises,
    memory_promises,
    mysql_promises,
    postgresql_promises,
    redis_promises,
    sqlite_promises,
)

if TYPE_CHECKING:
    from hpolab import Promise, StoragePromises

__all__ = ["by_storage", "promises", "why"]

# As `open_storage` sets them.
_SQLITE = {"journal_mode": "wal", "synchronous": "FULL"}
# The server's own defaults; a host that is not this machine, as in real life.
_POSTGRESQL = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_SAVE = "3600 1 300 100 60 10000"

_MARKS = {True: "yes", False: "**no**", None: "depends"}
_TITLES = {
    "process_kill": "`kill -9` of a worker",
    "server_kill": "`kill -9` of the server",
    "power_cut": "power cut",
    "many_processes": "several processes",
    "many_hosts": "several machines",
}


def by_storage() -> dict[str, dict[str, StoragePromises]]:
    """Return storage -> its settings -> what it promises then."""
    redis = "redis://host"
    postgresql = "postgresql://host/db"
    return {
        "SQLite": {
            "local disk": sqlite_promises("sqlite:///study.db", "ext4", _SQLITE),
            "network disk": sqlite_promises("sqlite:///study.db", "nfs4", _SQLITE),
        },
        "Journal file": {
            "local disk": journal_promises("journal:///study.log", "ext4"),
            "network disk": journal_promises("journal:///study.log", "nfs4"),
        },
        "Redis": {
            f"appendonly {'yes' if append else 'no'}, {said}": redis_promises(
                redis, append, {"appendfsync": sync, "save": save}
            )
            for append, sync, save, said in (
                (True, "always", "", "appendfsync always"),
                (True, "everysec", "", "appendfsync everysec"),
                (False, "everysec", _SAVE, "save points (the server's default)"),
                (False, "everysec", "", "no save points"),
            )
        },
        "PostgreSQL": {
            "as installed": postgresql_promises(postgresql, _POSTGRESQL),
            "synchronous_commit off": postgresql_promises(
                postgresql, {**_POSTGRESQL, "synchronous_commit": "off"}
            ),
            "fsync off": postgresql_promises(postgresql, {**_POSTGRESQL, "fsync": "off"}),
        },
        "MySQL": {"": mysql_promises("mysql://host/db")},
        "gRPC proxy": {"": grpc_promises("grpc://host:13000")},
        "Memory": {"": memory_promises("memory://")},
    }


def promises() -> str:
    """Return one table: a row for each storage and its settings, yes or no for each promise."""
    head = f"| storage | {' | '.join(_TITLES.values())} |"
    rows = [
        f"| {storage}{f', {setting}' if setting else ''} | {' | '.join(_marks(promised))} |"
        for storage, kinds in by_storage().items()
        for setting, promised in kinds.items()
    ]
    return "\n".join([head, "|---" * (len(_TITLES) + 1) + "|", *rows])


def why() -> str:
    """Return a table for each storage: the reason of each promise."""
    return "\n".join(
        f"#### {storage}\n\n{_reasons(kinds)}\n" for storage, kinds in by_storage().items()
    )


def _marks(promised: StoragePromises) -> list[str]:
    return [_MARKS[_promise(promised, name).kept] for name in _TITLES]


def _reasons(kinds: dict[str, StoragePromises]) -> str:
    rows = ["| | | because |", "|---|---|---|"]
    for name, title in _TITLES.items():
        settings: dict[Promise, list[str]] = {}
        for setting, promised in kinds.items():
            settings.setdefault(_promise(promised, name), []).append(setting)
        for promise, where in settings.items():
            said = f" ({'; '.join(where)})" if len(settings) > 1 else ""
            rows.append(f"| {title}{said} | {_MARKS[promise.kept]} | {promise.reason} |")
    return "\n".join(rows)


def _promise(promised: StoragePromises, name: str) -> Promise:
    promise: Promise = getattr(promised, name)
    return promise


# A promise that the storages make and that has no title here would be left out in silence.
assert [field.name for field in fields(memory_promises("memory://"))][1:] == [*_TITLES]
