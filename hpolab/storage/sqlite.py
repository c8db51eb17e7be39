"""Optuna's storage on a SQLite file that many processes can create, share and be killed in.

Optuna's underscored names here: ``_set_trial_param`` and ``_get_trials`` are what its cache calls
in the place of their public namesakes, and its table of reports is written to directly.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, final
from urllib.parse import quote_from_bytes

from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import bindparam, event, select, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from hpolab.errors import StorageUnavailable
from hpolab.storage.bulk import report_row
from hpolab.storage.numbered import refuse_other, without_number
from hpolab.storage.rows import RowMemo, glance_at, read_trial, read_trials
from hpolab.storage.waiting import BuffersReports, WaitingReports

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
    from pathlib import Path

    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy.engine import Connection, ExceptionContext
    from sqlalchemy.orm import Session

    from hpolab.storage.glance import Glance

__all__ = ["SQLiteStorage", "has_studies", "is_sqlite"]

# How long a write waits for the others'. Commits are milliseconds long, so only a process that was
# suspended in the middle of one makes anybody wait this long.
BUSY_TIMEOUT_SECONDS = 60.0


@final
class SQLiteStorage(BuffersReports, RDBStorage):
    """An ``optuna.storages.RDBStorage`` whose file stands many processes and their sudden ends.

    The file is created by one process at a time and keeps a write-ahead log (WAL): readers never
    wait, a write is one append, and what a finished call has written survives both ``kill -9``
    and a power cut. Two workers never start the same waiting trial.

    WAL needs memory shared between the processes, so all of them must run on one machine. For
    several machines use a server: ``postgresql://``, ``redis://`` or ``grpc://``.

    A report is a transaction of its own, as other workers' pruners read it. Where there is none
    to read it, `buffer_reports` writes a trial's reports together.

    Args:
        path: The file, created if it is missing; its folder must exist.

    Raises:
        RuntimeError: If the file was made by an incompatible Optuna; it is left as it was.
        StorageUnavailable: If the file is locked, read-only or damaged, or the disk is full; later
            from any call as well. The call has then written nothing.

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
        self._path = path.absolute()
        with _border(self._path), _one_process_at_a_time(self._path):
            has_schema = _has_schema(self._path)
            if not has_schema:
                _enter_wal(self._path)
            try:
                super().__init__(
                    # For the dialect and for messages alone: SQLAlchemy reads options behind a "?"
                    # and decodes a "%", by its version, so a path must not go through its URLs.
                    f"sqlite:///{quote_from_bytes(os.fsencode(self._path))}",
                    engine_kwargs={
                        "creator": partial(_connect, self._path),
                        # The connection that was used last, which knows what it has written.
                        "pool_use_lifo": True,
                    },
                    # Tables of another version are to be refused before they are touched.
                    skip_table_creation=has_schema,
                )
                if has_schema:
                    _enter_wal(self._path)
            except Exception:
                self.engine.dispose()
                raise
        self._begin()

    def __getstate__(self) -> dict[Any, Any]:
        self.flush_reports()
        state = super().__getstate__()
        del state["_waiting"], state["_memo"]
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        with _border(state["_path"]):
            super().__setstate__(state)
        self._begin()

    def _begin(self) -> None:
        self._waiting = WaitingReports(self._write_waiting)
        self._memo = RowMemo(_version)
        event.listen(self.engine, "handle_error", partial(_raise_ours, self._path))

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self._path

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        # The lock is held to the end, so that no report comes in between and is forgotten.
        with self._waiting.lock:
            # Optuna reads the state with SELECT ... FOR UPDATE, which SQLite ignores, and writes
            # it afterwards: eight threads that asked 40 times for a waiting trial got 21 different
            # ones. Taking the write lock before the read makes the two one step.
            with _rollback_on_error(self.scoped_session()) as session:
                session.execute(text("BEGIN IMMEDIATE"))
                reports = self._waiting.of(trial_id)
                if reports:
                    refused = _upsert(session.connection(), {trial_id: reports})
                    for error in refused.values():
                        self._waiting.end(trial_id)
                        raise error
                changed = super().set_trial_state_values(trial_id, state, values)
            self._waiting.end(trial_id)
        return changed

    creates_by_number = True

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        # In the transaction that holds the file's write lock from its first insertion on.
        template, only = without_number(template_trial)
        trial = super()._get_prepared_new_trial(study_id, template, session)
        refuse_other(int(trial.number), only)
        return trial

    def _set_trial_param(self, trial_id: int, *args: Any, **kwargs: Any) -> None:
        self.flush_reports(trial_id)
        super()._set_trial_param(trial_id, *args, **kwargs)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.flush_reports(trial_id)
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.flush_reports(trial_id)
        super().set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._waiting.shown_in(read_trial(self, trial_id, self._memo))

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trials = read_trials(
            self, study_id, states, included_trial_ids, trial_id_greater_than, self._memo
        )
        return self._waiting.shown_in_all(trials)

    def glance(self, study_id: int) -> Glance:
        """Look at a study without reading its finished trials.

        Raises:
            KeyError: If there is no such study.
        """
        glance = glance_at(self, study_id)
        return replace(glance, running=[self._waiting.shown_in(each) for each in glance.running])

    def _write_waiting(
        self, reports: Mapping[int, Mapping[int, float]]
    ) -> dict[int, UpdateFinishedTrialError | KeyError]:
        with self.engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return _upsert(connection, reports)


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database or still empty, as far as SQLite tells.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     notes = pathlib.Path(folder) / "notes.txt"
        ...     _ = notes.write_text("lr=0.1 was best")
        ...     is_sqlite(notes)
        False
    """
    # Never by reading the file: to close it would end all locks that this process has on it
    # (https://sqlite.org/howtocorrupt.html, section 2.2), and the next program that closes the
    # database would take itself for the last one and remove the log that is being written here.
    try:
        with _connection(path, timeout=0) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_NOTADB
    return True


def _upsert(
    connection: Connection, reports: Mapping[int, Mapping[int, float]]
) -> dict[int, UpdateFinishedTrialError | KeyError]:
    """Write reports, trial id -> step -> value, but for those of trials that take none any more.

    Optuna's own way is a query and an insertion for each.

    Returns:
        Those trials, each with the error that says so.
    """
    # Not by Optuna's check, which reads the trial and would find what waits.
    found = {row.trial_id: row for row in connection.execute(_HEADS, {"ids": list(reports)})}
    refused: dict[int, UpdateFinishedTrialError | KeyError] = {}
    for trial_id in reports:
        if trial_id not in found:
            refused[trial_id] = KeyError(models.NOT_FOUND_MSG)
        elif found[trial_id].state.is_finished():
            number = found[trial_id].number
            refused[trial_id] = UpdateFinishedTrialError(f"Trial {number} has finished already.")
    rows = [
        {"trial_id": trial_id, **report_row(step, value)}
        for trial_id, of_trial in reports.items()
        if trial_id not in refused
        for step, value in of_trial.items()
    ]
    if rows:
        connection.execute(_UPSERTION, rows)
    return refused


_TRIALS = models.BaseModel.metadata.tables["trials"]
_HEADS = select(_TRIALS.c.trial_id, _TRIALS.c.number, _TRIALS.c.state).where(
    _TRIALS.c.trial_id.in_(bindparam("ids", expanding=True))
)
_INSERTION = insert(models.BaseModel.metadata.tables["trial_intermediate_values"])
_UPSERTION = _INSERTION.on_conflict_do_update(
    index_elements=["trial_id", "step"],
    set_={
        name: _INSERTION.excluded[name]
        for name in ("intermediate_value", "intermediate_value_type")
    },
)


def _version(connection: Connection) -> Hashable | None:
    """Return what changes whenever anybody writes to the file; None inside a transaction.

    SQLite's ``data_version`` tells of a connection whether another has written, and the count of
    changes whether this one has. One that was rolled back is counted, too, which does no harm.
    """
    driver: Any = connection.connection.dbapi_connection
    if driver.in_transaction:
        return None
    (version,) = driver.execute("PRAGMA data_version").fetchone()
    connections: Any = connection.info
    which = connections.setdefault("hpolab:which", object())
    return which, version, driver.total_changes


def _connect(path: Path) -> sqlite3.Connection:
    """Make a connection of the engine's, whose pool hands it from thread to thread."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False)
    # FULL syncs the log at each commit. NORMAL survives the death of the process but not a
    # power cut, and some builds of SQLite (Apple's) have it as their default.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


_WAIT = f"Another program has held it for {BUSY_TIMEOUT_SECONDS:.0f} seconds; end that one"
_REPAIR = "Nothing was changed; `sqlite3 FILE .recover` saves what can still be read"
_MAKE_WRITABLE = "Make the file and its folder writable and start again to resume"
_MAKE_ROOM = "What was told before is safe; make room and start again to resume"
_CHECK_THE_DISK = "What was told before is safe; check the disk and start again to resume"

# By SQLite's primary result code. Any other is a mistake in a statement, not in the file.
_ADVICE = {
    sqlite3.SQLITE_BUSY: _WAIT,
    sqlite3.SQLITE_LOCKED: _WAIT,
    sqlite3.SQLITE_PERM: _MAKE_WRITABLE,
    sqlite3.SQLITE_READONLY: _MAKE_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _MAKE_WRITABLE,
    sqlite3.SQLITE_CORRUPT: _REPAIR,
    sqlite3.SQLITE_NOTADB: _REPAIR,
    sqlite3.SQLITE_FULL: _MAKE_ROOM,
    sqlite3.SQLITE_IOERR: _CHECK_THE_DISK,
}


def _raise_ours(path: Path, context: ExceptionContext) -> None:
    """Stand in for an error of the engine before Optuna wraps it in advice of its own."""
    error = _unavailable(path, context.original_exception)
    if error is not None:
        raise error


@contextmanager
def _border(path: Path) -> Iterator[None]:
    """Stand in for an error while the engine has no `_raise_ours` yet."""
    try:
        yield
    except (DBAPIError, StorageInternalError, sqlite3.Error, Timeout) as error:
        source = error.__cause__ if isinstance(error, StorageInternalError) else error
        ours = _unavailable(path, getattr(source, "orig", source))
        if ours is None:
            raise
        raise ours from error


def _unavailable(path: Path, error: BaseException | None) -> StorageUnavailable | None:
    if isinstance(error, Timeout):
        reason, advice = "database is locked", _WAIT
    else:
        # An extended code has its primary one in the lowest byte.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in _ADVICE:
            return None
        reason, advice = str(error), _ADVICE[code]
    return StorageUnavailable(f"Cannot use {str(path)!r}: {reason}. {advice}.")


@contextmanager
def _rollback_on_error(session: Session) -> Iterator[Session]:
    try:
        yield session
    except Exception:
        session.rollback()
        raise


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


def has_studies(path: Path) -> bool:
    """Whether Optuna's tables are all in a file; it is not changed."""
    with _border(path):
        return _has_schema(path)


def _has_schema(path: Path) -> bool:
    """Whether Optuna's tables are all there: the migration's version is what it writes last."""
    if not path.exists():
        return False
    with _connection(path, timeout=BUSY_TIMEOUT_SECONDS) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        if tables.fetchone() is None:
            return False
        return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None


def _enter_wal(path: Path) -> None:
    """Switch a file to a write-ahead log, created if it is new."""
    # The mode is written into the file, so it holds for every later connection of any program. A
    # file system without shared memory keeps the rollback journal: slower and just as safe.
    with _connection(path, timeout=BUSY_TIMEOUT_SECONDS, mode="rwc") as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()


@contextmanager
def _connection(path: Path, *, timeout: float, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    # "rw" creates nothing; "ro" could not undo what a killed process has left half-written.
    url = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(url, uri=True, timeout=timeout)) as connection:
        yield connection
