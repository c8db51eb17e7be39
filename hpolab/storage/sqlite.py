"""Optuna's storage on a SQLite file that many processes can create, share and be killed in."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, final

from filelock import FileLock
from optuna.storages import RDBStorage
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from optuna.trial import TrialState

__all__ = ["SQLiteStorage", "is_sqlite"]

# How long a write waits for the others'. Commits are milliseconds long, so only a process that was
# suspended in the middle of one makes anybody wait this long.
BUSY_TIMEOUT_SECONDS = 60.0

_MAGIC = b"SQLite format 3\0"


@final
class SQLiteStorage(RDBStorage):
    """An ``optuna.storages.RDBStorage`` whose file stands many processes and their sudden ends.

    The file is created by one process at a time and keeps a write-ahead log (WAL): readers never
    wait, a write is one append, and what a finished call has written survives both ``kill -9``
    and a power cut. Two workers never start the same waiting trial.

    WAL needs memory shared between the processes, so all of them must run on one machine. For
    several machines use a server: ``postgresql://``, ``redis://`` or ``grpc://``.

    Args:
        path: The file, created if it is missing; its folder must exist.

    Raises:
        RuntimeError: If the file was made by an incompatible Optuna; it is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> import optuna
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = SQLiteStorage(pathlib.Path(folder) / "study.db")
        ...     study = optuna.create_study(storage=storage)
        ...     study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        ...     len(study.trials)
        ...     storage.engine.dispose()
        3
    """

    def __init__(self, path: Path) -> None:
        # Absolute: a connection opened after `os.chdir`, or by a worker that unpickled the storage
        # elsewhere, must reach the same file.
        path = path.absolute()
        with _one_process_at_a_time(path):
            has_schema = _has_schema(path)
            if not has_schema:
                _enter_wal(path)
            try:
                super().__init__(
                    # RDBStorage fills the URL in as a format string.
                    f"sqlite:///{path}".replace("{", "{{").replace("}", "}}"),
                    engine_kwargs={
                        "connect_args": {"timeout": BUSY_TIMEOUT_SECONDS, "factory": _Connection}
                    },
                    # Tables of another version are to be refused before they are touched.
                    skip_table_creation=has_schema,
                )
            except RuntimeError:
                self.engine.dispose()
                raise
            if has_schema:
                _enter_wal(path)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        # Optuna reads the state with SELECT ... FOR UPDATE, which SQLite ignores, and writes it
        # afterwards: eight threads that asked 40 times for a waiting trial got 21 different ones.
        # Taking the write lock before the read makes the two one step.
        self.scoped_session().execute(text("BEGIN IMMEDIATE"))
        return super().set_trial_state_values(trial_id, state, values)


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database or still empty, judged by its first 16 bytes.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     notes = pathlib.Path(folder) / "notes.txt"
        ...     _ = notes.write_text("lr=0.1 was best")
        ...     is_sqlite(notes)
        False
    """
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    return head in (b"", _MAGIC)


class _Connection(sqlite3.Connection):
    """What every connection of the engine sets; a class, because it is pickled by its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # FULL syncs the log at each commit. NORMAL survives the death of the process but not a
        # power cut, and some builds of SQLite (Apple's) have it as their default.
        self.execute("PRAGMA synchronous = FULL")


@contextmanager
def _one_process_at_a_time(path: Path) -> Iterator[None]:
    # Of several processes that create Optuna's tables in one new file most fail: "table studies
    # already exists". The lock is the operating system's, so it dies with its holder. Its file
    # stands beside the database because only there all users of the database agree on the place,
    # and is removed while still held: filelock (3.21 on) tries again when the file that it has
    # locked is no longer there.
    lock_file = path.with_name(f"{path.name}.opening")
    with FileLock(lock_file, timeout=BUSY_TIMEOUT_SECONDS):
        try:
            yield
        finally:
            # Windows removes no open file; filelock removes it there itself.
            with suppress(PermissionError):
                lock_file.unlink()


def _has_schema(path: Path) -> bool:
    """Whether Optuna's tables are all there: the migration's version is what it writes last."""
    if not path.exists():
        return False
    # mode=rw creates nothing; mode=ro could not undo what a killed process has left half-written.
    with closing(
        sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
    ) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        if tables.fetchone() is None:
            return False
        return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None


def _enter_wal(path: Path) -> None:
    # The mode is written into the file, so it holds for every later connection of any program. A
    # file system without shared memory keeps the rollback journal: slower and just as safe.
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
