"""Optuna's storage on a SQLite file that many processes can create, share and be killed in.

Optuna's underscored names here: ``_set_trial_param`` and ``_get_trials`` are what its cache calls
in the place of their public namesakes, and its table of reports is written to directly.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, final
from urllib.parse import quote_from_bytes

from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import event, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hpolab.errors import StorageUnavailable
from hpolab.storage.bulk import report_row
from hpolab.storage.numbered import refuse_other, without_number
from hpolab.storage.rows import glance_at, read_trial, read_trials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy.engine import ExceptionContext

    from hpolab.storage.glance import Glance

__all__ = ["SQLiteStorage", "has_studies", "is_sqlite"]

# How long a write waits for the others'. Commits are milliseconds long, so only a process that was
# suspended in the middle of one makes anybody wait this long.
BUSY_TIMEOUT_SECONDS = 60.0

# How long a buffered report waits at most, as long as others follow it.
MAX_WAIT_SECONDS = 1.0


@final
class SQLiteStorage(RDBStorage):
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
                    engine_kwargs={"creator": partial(_connect, self._path)},
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
        del state["_reports"], state["_reports_lock"]
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        with _border(state["_path"]):
            super().__setstate__(state)
        self._begin()

    def _begin(self) -> None:
        # The reports in memory, by trial; a trial that stands here is buffered.
        self._reports: dict[int, _Reports] = {}
        # Taken before the file's write lock by those who take both.
        self._reports_lock = threading.RLock()
        event.listen(self.engine, "handle_error", partial(_raise_ours, self._path))

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self._path

    def buffer_reports(self, trial_id: int) -> None:
        """Write a trial's reports together, until it changes its state.

        For a trial whose reports nobody else needs at once: its pruner looks at no other trial,
        or no other worker runs. Reports then wait in memory, and are written in one transaction

        - before any other write about the trial, so that what is on the disk of a trial is always
          what was said of it first;
        - before any read of trials through this object, which therefore shows them;
        - with the first report that comes more than a second after the last writing;
        - by `flush_reports`, and before the object is pickled.

        A killed process loses the reports that wait, at most a second's, and nothing else. A
        checkpoint that is to go on after them has to be preceded by `flush_reports`.

        Args:
            trial_id: The storage's id of the trial, which is not its number.
        """
        with self._reports_lock:
            self._reports.setdefault(trial_id, _Reports())

    def flush_reports(self, trial_id: int | None = None) -> None:
        """Write the reports that wait in memory.

        Args:
            trial_id: Whose reports; None for every trial's.

        Raises:
            UpdateFinishedTrialError: If another worker has finished the trial, as an unbuffered
                report would have found.
            StorageUnavailable: If they cannot be written; they go on waiting.
        """
        with self._reports_lock:
            for each in list(self._reports) if trial_id is None else [trial_id]:
                self._flush(each)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        with self._reports_lock:
            if trial_id in self._reports:
                reports = self._reports[trial_id]
                reports.waiting[step] = intermediate_value
                if time.monotonic() - reports.written_at > MAX_WAIT_SECONDS:
                    self._flush(trial_id)
                return
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        # The lock is held to the end, so that no report comes in between and is forgotten.
        with self._reports_lock:
            self._flush(trial_id)
            # Optuna reads the state with SELECT ... FOR UPDATE, which SQLite ignores, and writes
            # it afterwards: eight threads that asked 40 times for a waiting trial got 21 different
            # ones. Taking the write lock before the read makes the two one step.
            with _rollback_on_error(self.scoped_session()) as session:
                session.execute(text("BEGIN IMMEDIATE"))
                changed = super().set_trial_state_values(trial_id, state, values)
            self._reports.pop(trial_id, None)
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
        # This trial's alone: Optuna calls it from inside transactions that refuse a trial's write.
        self._flush_for_a_reader(self._reports.keys() & {trial_id})
        return read_trial(self, trial_id)

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        self._flush_for_a_reader(list(self._reports))
        return read_trials(self, *args, **kwargs)

    def glance(self, study_id: int) -> Glance:
        """Look at a study without reading its finished trials.

        Raises:
            KeyError: If there is no such study.
        """
        self._flush_for_a_reader(list(self._reports))
        return glance_at(self, study_id)

    def _flush_for_a_reader(self, trial_ids: Iterable[int]) -> None:
        for trial_id in trial_ids:
            # A trial that is finished or gone takes no report; its worker's next write will find
            # that out, and a reader has nothing to do with it.
            with suppress(UpdateFinishedTrialError, KeyError):
                self.flush_reports(trial_id)

    def _flush(self, trial_id: int) -> None:
        reports = self._reports.get(trial_id)
        if reports is None or not reports.waiting:
            return
        try:
            with Session(self.engine) as session, session.begin():
                session.execute(text("BEGIN IMMEDIATE"))
                trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                if trial.state.is_finished():
                    # Not by Optuna's check, which reads the trial and would come by here again.
                    raise UpdateFinishedTrialError(f"Trial {trial.number} has finished already.")
                _upsert(session, trial_id, reports.waiting)
        except (UpdateFinishedTrialError, KeyError):
            del self._reports[trial_id]
            raise
        # Only now, so that a reader who comes meanwhile finds something to wait for.
        self._reports[trial_id] = _Reports()


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


@dataclass
class _Reports:
    """A trial's reports that are not written yet, step -> value."""

    waiting: dict[int, float] = field(default_factory=dict)
    written_at: float = field(default_factory=time.monotonic)


def _upsert(session: Session, trial_id: int, reports: Mapping[int, float]) -> None:
    # Optuna's own way is a query and an insertion for each.
    rows = [{"trial_id": trial_id, **report_row(step, value)} for step, value in reports.items()]
    insertion = insert(models.TrialIntermediateValueModel)
    session.execute(
        insertion.on_conflict_do_update(
            index_elements=["trial_id", "step"],
            set_={
                name: insertion.excluded[name]
                for name in ("intermediate_value", "intermediate_value_type")
            },
        ),
        rows,
    )


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
