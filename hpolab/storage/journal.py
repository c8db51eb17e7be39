"""A journal file that no crash makes unreadable and no worker has to wait long for.

The format is Optuna's, one JSON object a line, so ``JournalFileBackend`` reads what is written
here and the other way round.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import threading
import uuid
import weakref
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple, final

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from hpolab._optuna import HeldTrials
from hpolab.errors import StorageUnavailable
from hpolab.files import sync_folder
from hpolab.logs import get_logger
from hpolab.storage.bulk import Report, report_logs
from hpolab.storage.numbered import refuse_other, without_number
from hpolab.storage.waiting import BuffersReports, WaitingReports

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from optuna.trial import FrozenTrial, TrialState

__all__ = ["ForkSafeJournalStorage", "JournalFile"]

_logger = get_logger(__name__)

# How much of a torn entry a log message shows.
_SHOWN_BYTES = 1000
_BLOCK_BYTES = 4096

# How entries of Optuna's SET_TRIAL_PARAM and SET_TRIAL_INTERMEDIATE_VALUE begin.
_PARAMS_AND_REPORTS = (b'{"op_code":5,', b'{"op_code":7,')


class _Place(NamedTuple):
    """A place between two lines of the file: how many lines and bytes, and which line, precede."""

    n_lines: int = 0
    offset: int = 0
    line: bytes = b""


class _Own(NamedTuple):
    """Lines that this process has appended, and the place before them."""

    start: _Place
    lines: list[bytes]


@final
class JournalFile(BaseJournalBackend):
    """An append-only file for ``optuna.storages.JournalStorage``.

    An append is on the disk (``fsync``) when it returns. One that fails half-way, on a full disk
    for instance, is taken back; one whose process was killed half-way is cut by the next that
    opens or appends, with a warning that shows what was cut. Both happen under a lock of the
    operating system, which ends with its process. Nobody reads an entry that may still be taken
    back, so what one worker has seen, all see.

    The lock is ``flock`` on the file itself: those who wait sleep until it is their turn. (A lock
    that is polled for is won by whoever asks most often: of eight processes that shared one for
    three seconds, the last got a single turn.) Windows has no ``flock``; there a lock file beside
    the journal is polled, just as safe but not as fair.

    Use it on a disk of this machine. On NFS ``flock`` works between hosts only if the mount and
    the server forward it (not with ``nolock`` or ``local_lock``), and a host that dies keeps its
    lock until the server notices. Optuna's ``JournalFileBackend`` may open the same file before
    or after, but not at the same time, as it takes another lock.

    The object holds no open file and no lock between calls, so it may be pickled, forked and
    shared by threads.

    Args:
        path: The file, created if it is missing; its folder must exist.

    Attributes:
        path: The file's absolute path.

    Raises:
        StorageUnavailable: If the file cannot be opened; later, from any call, if it was deleted,
            replaced, shortened or damaged, or cannot be written to. The file is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> import optuna
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = JournalFile(pathlib.Path(folder) / "study.log")
        ...     study = optuna.create_study(storage=optuna.storages.JournalStorage(file))
        ...     study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        ...     len(study.trials)
        3
    """

    _inode: int | None
    # Where the last reader stopped. Immutable and replaced whole, so threads need no lock.
    _place: _Place
    # Up to here, by our own last append, no entry can be taken back any more.
    _settled: int
    # Our own last append, if all that precedes it had been read. Immutable as `_place`.
    _own: _Own | None

    def __init__(self, path: Path) -> None:
        # Absolute, so that `os.chdir` does not lead to another file.
        self.path = path.absolute()
        self._forget()
        with self._border("open"):
            _create(self.path)
            with self._open("r+b") as file, _locked(file, self.path):
                self._check_identity(file)
                self._cut_torn_tail(file)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, each a line, and sync them to the disk.

        Args:
            logs: What ``json`` can write.

        Raises:
            StorageUnavailable: If they cannot be written; the file is as it was before.
        """
        self._append(logs)

    def append_logs_at(self, logs: list[dict[str, Any]], n_logs: int) -> bool:
        """Append entries if there are ``n_logs`` by then, those that were read; tell whether.

        Raises:
            StorageUnavailable: As `append_logs`.
        """
        return self._append(logs, n_logs)

    def _append(self, logs: list[dict[str, Any]], n_logs: int | None = None) -> bool:
        lines = [f"{json.dumps(log, separators=(',', ':'))}\n".encode() for log in logs]
        data = b"".join(lines)
        with (
            self._border("write to"),
            self._open("r+b") as file,
            _locked(file, self.path),
        ):
            # Under the lock, as it may have been replaced while we waited for that.
            self._check_identity(file)
            place = self._place
            size = self._check_unchanged(file, place)
            # A file that ends with the line that was read last has no torn tail.
            end = size if size == place.offset else self._cut_torn_tail(file)
            if n_logs is not None and (n_logs, end) != place[:2]:
                return False
            try:
                _write(file, data)
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise
            # Set under the lock, so that no thread sets it back.
            self._settled = end + len(data)
            self._own = _Own(place, lines) if end == place.offset else None
        return True

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Read the entries from a number on.

        What was read before is not read again, if one reader goes on where it stopped.

        Args:
            log_number_from: How many entries to leave out.

        Yields:
            The entries, in the order in which they were appended.

        Raises:
            StorageUnavailable: If a line is not an entry; the message names the line.
        """
        own, place = self._own, self._place
        if own is not None and own.start is place and place.n_lines == log_number_from:
            # What follows was appended by others after our own; the next reader finds it.
            yield from self._read_own(own)
            return
        place = place if place.n_lines <= log_number_from else _Place()
        with self._border("read"), self._open("rb") as file:
            self._check_identity(file)
            # In this order, so that the reader's buffer holds nothing that may be taken back.
            end = self._end(file, place)
            self._check_unchanged(file, place)
            while place.offset < end:
                line = file.readline()
                if place.n_lines >= log_number_from:
                    # Moved on only when the next one is asked for: whoever fails at an entry has
                    # counted it, and asks for the next.
                    self._place = place
                    yield self._entry(line, place.n_lines + 1)
                place = _Place(place.n_lines + 1, place.offset + len(line), line)
            self._place = place

    def _read_own(self, own: _Own) -> Iterator[dict[str, Any]]:
        """Read our own last append without a look at the file."""
        place = own.start
        for line in own.lines:
            self._place = place
            yield self._entry(line, place.n_lines + 1)
            place = _Place(place.n_lines + 1, place.offset + len(line), line)
        self._place = place

    def skim_logs(self, log_number_from: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Read the entries from a number on, but for params and reports, which are the most.

        Yields:
            How many entries there are up to this one's end, and the entry; at the end None.

        Raises:
            StorageUnavailable: As `read_logs`.
        """
        place = self._place if self._place.n_lines <= log_number_from else _Place()
        with self._border("read"), self._open("rb") as file:
            self._check_identity(file)
            end = self._end(file, place)
            self._check_unchanged(file, place)
            n_lines, offset, line = place
            while offset < end:
                line = file.readline()
                n_lines += 1
                offset += len(line)
                if n_lines > log_number_from and not line.startswith(_PARAMS_AND_REPORTS):
                    yield n_lines, self._entry(line, n_lines)
            self._place = _Place(n_lines, offset, line)
        yield n_lines, None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._inode = None
        self._place = _Place()
        self._settled = 0
        self._own = None

    @contextmanager
    def _border(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) and self._inode is not None
            reason = "it was deleted" if gone else (error.strerror or str(error))
            raise self._unavailable(
                verb, reason, "What was told before is safe; fix this and start again to resume"
            ) from error

    def _unavailable(self, verb: str, reason: str, advice: str) -> StorageUnavailable:
        return StorageUnavailable(f"Cannot {verb} {str(self.path)!r}: {reason}. {advice}.")

    def _open(self, mode: str) -> IO[bytes]:
        # Opened for each call: NFS shows what other hosts wrote only to those who open afterwards.
        # Unbuffered for writing: a buffer that could not be written is tried again on closing.
        return open(self.path, mode, buffering=-1 if mode == "rb" else 0)

    def _check_identity(self, file: IO[bytes]) -> None:
        inode = os.fstat(file.fileno()).st_ino
        self._inode = self._inode or inode
        if inode != self._inode or inode != os.stat(self.path).st_ino:
            raise self._changed("it was replaced by another file")

    def _check_unchanged(self, file: IO[bytes], place: _Place) -> int:
        """Return the file's size; refuse it if what was read up to a place has changed."""
        # Read before the size: another thread may append in between, which shortens nothing.
        expected = max(place.offset, self._settled)
        size = file.seek(0, os.SEEK_END)
        if size < expected:
            raise self._changed("it was shortened")
        file.seek(place.offset - len(place.line))
        if file.read(len(place.line)) != place.line:
            raise self._changed("what was read from it before has been overwritten")
        return size

    def _changed(self, reason: str) -> StorageUnavailable:
        return self._unavailable("resume", reason, "Restore the journal and start again")

    def _end(self, file: IO[bytes], place: _Place) -> int:
        """Return how far a reader may read: to the end of the last entry that is there to stay."""
        size = os.fstat(file.fileno()).st_size
        if size == max(place.offset, self._settled):
            return size
        # What is beyond may be an entry whose append is about to fail; the lock waits for that.
        with _locked(file, self.path, shared=True):
            return _end_of_last_line(file)

    def _cut_torn_tail(self, file: IO[bytes]) -> int:
        """Cut what follows the last newline, under the lock; return where the file ends."""
        size, end = file.seek(0, os.SEEK_END), _end_of_last_line(file)
        if end < size:
            file.seek(end)
            torn = file.read(_SHOWN_BYTES)
            file.truncate(end)
            _logger.warning(
                "Cut an entry that a crash left unfinished at the end of %r: %d bytes, %r.",
                str(self.path),
                size - end,
                torn,
            )
        return end

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise self._unavailable(
                "read",
                f"line {number} is not an entry of a journal: {line[:80]!r}",
                "Check that the journal is intact; without that line it can be read again",
            )
        return entry


@final
class ForkSafeJournalStorage(BuffersReports, JournalStorage):
    """An ``optuna.storages.JournalStorage`` that a forked child can use.

    Optuna's tells whose a log is by the storage's random name and the thread, and both are the same
    on the two sides of a fork: of 200 trials that two children asked for, 48 were run by both. Here
    a forked child has the storage as if it had been pickled: with a name of its own.

    Optuna's also counts an entry before it replays it, so Ctrl-C in between leaves it out for good:
    a notebook that goes on has a trial without its parameters, or without its end. Here a replay
    that was interrupted is begun anew.

    A report is an append of its own. Where no other process needs it at once, `buffer_reports`
    writes a trial's reports together.

    Args:
        backend: Where the journal is kept.
    """

    def __init__(self, backend: BaseJournalBackend) -> None:
        self._waiting = WaitingReports(self._write_waiting)
        super().__init__(backend)
        _open_storages.add(self)

    # Of all storages: a thread is in one call at a time.
    _only = threading.local()

    creates_by_number = True

    def __getstate__(self) -> dict[Any, Any]:
        self.flush_reports()
        state = super().__getstate__()
        del state["_waiting"]
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._waiting = WaitingReports(self._write_waiting)
        _open_storages.add(self)

    def _write_waiting(self, reports: Mapping[int, Mapping[int, float]]) -> dict[int, Exception]:
        logs = report_logs([Report(i, *report) for i in reports for report in reports[i].items()])
        with self._thread_lock:
            self._backend.append_logs(logs)
            self._sync_with_backend()
        return {}

    # The lock of what waits is taken before Optuna's, within which these write.

    def set_trial_param(self, trial_id: int, *args: Any, **kwargs: Any) -> None:
        with self._waiting.lock:
            super().set_trial_param(trial_id, *args, **kwargs)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._waiting.lock:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._waiting.lock:
            super().set_trial_system_attr(trial_id, key, value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        with self._waiting.lock:
            changed = super().set_trial_state_values(trial_id, state, values)
            self._waiting.end(trial_id)
        return changed

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = super().get_trial(trial_id)
        if trial.state.is_finished():
            return trial
        # What the replay itself holds, in which an `optuna.Trial` would note a report that waits.
        seen = copy.copy(trial)
        seen.intermediate_values = {**trial.intermediate_values, **self._waiting.of(trial_id)}
        return seen

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return self._waiting.shown_in_all(super().get_all_trials(study_id, deepcopy, states))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        template, self._only.number = without_number(template_trial)
        try:
            trial_id: int = super().create_new_trial(study_id, template)
        finally:
            self._only.number = None
        return trial_id

    def held_trials(self, study_id: int) -> HeldTrials:
        """Return a study's trials as the replay holds them, once it has read what is new.

        Raises:
            KeyError: If there is no such study.
        """
        with self._thread_lock:
            self._sync_with_backend()
            result = self._replay_result
            result.get_study(study_id)
            ids, trials = result._study_id_to_trial_ids[study_id], result._trials
        shown_in = self._waiting.shown_in
        return HeldTrials(result, len(ids), lambda number: shown_in(trials[ids[number]]))

    def _sync_with_backend(self) -> None:
        """Replay what is new."""
        try:
            super()._sync_with_backend()
        except Exception:
            raise  # of an entry that is refused, which is counted rightly
        except BaseException:
            # Under another name: a refused entry of this one would be refused once more.
            self._worker_id_prefix = f"{uuid.uuid4()}-"
            self._replay_result = type(self._replay_result)(self._worker_id_prefix)
            raise

    def _write_log(self, op_code: int, extra_fields: dict[str, Any]) -> None:
        """Write an entry: behind the reports of its trial that wait; that of a trial with an only
        number behind no entry that takes it.
        """
        trial_id = extra_fields.get("trial_id", -1)
        waiting = self._waiting.of(trial_id)
        if waiting:
            self._write_behind(waiting, op_code, extra_fields)
            return
        only = getattr(self._only, "number", None)
        if only is None:
            super()._write_log(op_code, extra_fields)
            return
        log = {"op_code": op_code, "worker_id": self._replay_result.worker_id, **extra_fields}
        is_written = False
        while not is_written:
            # Counted as Optuna's replay keeps them: its public list would be made for each trial.
            known = self._replay_result._study_id_to_trial_ids
            refuse_other(len(known.get(extra_fields["study_id"], ())), only)
            n_logs = self._replay_result.log_number_read
            is_written = self._backend.append_logs_at([log], n_logs)  # type: ignore[attr-defined]
            if not is_written:
                self._sync_with_backend()

    def _write_behind(
        self, reports: Mapping[int, float], op_code: int, extra_fields: dict[str, Any]
    ) -> None:
        """Write an entry about a trial and, before it, the trial's reports that wait."""
        trial_id = extra_fields["trial_id"]
        logs = report_logs([Report(trial_id, *report) for report in reports.items()])
        log = {"op_code": op_code, "worker_id": self._replay_result.worker_id, **extra_fields}
        self._backend.append_logs([*logs, log])
        self._waiting.note_written(trial_id)


_open_storages: weakref.WeakSet[ForkSafeJournalStorage] = weakref.WeakSet()


def _rename_in_child() -> None:
    # What waits is the parent's to write, and is forgotten here by a hook that runs before.
    for storage in list(_open_storages):
        storage.__setstate__(storage.__getstate__())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rename_in_child)


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    except FileExistsError:
        return
    sync_folder(path.parent)


def _write(file: IO[bytes], data: bytes) -> None:
    file.seek(0, os.SEEK_END)
    # A disk that is nearly full takes a part, and refuses only the rest.
    while data:
        data = data[file.write(data) :]


def _end_of_last_line(file: IO[bytes]) -> int:
    """Return the offset behind the last newline."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


@contextmanager
def _flock(file: IO[bytes], path: Path, *, shared: bool = False) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Not left to closing: a child forked meanwhile has the same open file, and keeps it.
        fcntl.flock(file, fcntl.LOCK_UN)


def _lock_file(file: IO[bytes], path: Path, *, shared: bool = False) -> AbstractContextManager[Any]:
    from filelock import FileLock  # here, as only Windows has a use for it

    # Not "….lock", which Optuna's own lock would take for a lock that is held.
    return FileLock(f"{path}.appending")


_locked = _lock_file if sys.platform == "win32" else _flock
