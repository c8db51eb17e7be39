"""Worker processes on this host, each in a fresh interpreter."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpolab import _optuna
from hpolab.cores import n_usable_cores
from hpolab.errors import InvalidArgument, WorkersDied, check_count
from hpolab.logs import get_logger
from hpolab.running.carrying import CarriedError, LogReader, carry_error, carry_logs
from hpolab.running.executors.base import Executor
from hpolab.running.interpreter import command_of, pack, unpack, wait_for_parents_end
from hpolab.running.interrupts import Interrupts
from hpolab.running.outcome import say_whom_it_waits_for
from hpolab.running.worker import SILENT_SECONDS, work
from hpolab.studies.history import history_of
from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["LocalProcesses"]

_logger = get_logger(__name__)

_POLL_SECONDS = 0.1
_STOP_SECONDS = 30.0
# Deaths in a row, for each worker, without one trial finished: the workers cannot live here.
_MAX_DEATHS = 5


@dataclass(frozen=True)
class LocalProcesses(Executor):
    """Trains in processes on this machine, each in a fresh interpreter.

    ``run(..., n_workers=4)`` is the short form. Study and objective travel by cloudpickle, so that
    functions of a script or a notebook do too, without the ``__main__`` guard of
    ``multiprocessing``. Each process gets its share of the cores as OMP_NUM_THREADS, unless that is
    set. The processes end with the one that calls `run`.

    Args:
        n_workers: Number of processes.

    Example:
        >>> LocalProcesses(4).n_workers
        4
    """

    n_workers: int = 1

    def __post_init__(self) -> None:
        check_count("n_workers", self.n_workers)

    def check(self, study: Study) -> None:
        """See `Executor`."""
        if _optuna.is_in_memory(study):
            raise InvalidArgument(
                "`n_workers` must be 1 for a study in memory, which other processes cannot see, "
                f"got {self.n_workers}. Give `make_study` a `storage`, such as "
                "'sqlite:///hpolab.db'."
            )

    def execute(
        self,
        study: Study,
        objective: ObjectiveFunction,
        plan: Plan,
        interrupts: Interrupts,
        after_trial: Callable[[], None],
    ) -> None:
        """See `Executor`."""
        known = history_of(study)
        if not known.unfinished and not plan.only_enqueued:
            # The workers start in one instant, and would all open it.
            _optuna.open_slot(study, len(known.trials), plan.n_trials)
        with tempfile.TemporaryDirectory(prefix="hpolab-") as folder:
            payload = Path(folder) / "payload"
            plan = replace(plan, stop_file=payload.with_name("stop"))
            payload.write_bytes(pack(study, objective, plan))
            crew = _Workers(study, plan, payload, self.n_workers)
            try:
                while crew.are_there and interrupts.pressed is None:
                    interrupts.sleep(_POLL_SECONDS)
                    if crew.look_at_trials():
                        after_trial()
                    crew.look_at_processes()
            finally:
                crew.stop()


class _Workers:
    """The worker processes of a run, from the first one's start to the last one's end."""

    def __init__(self, study: Study, plan: Plan, payload: Path, n_workers: int) -> None:
        self._study = study
        self._plan = plan
        self._payload = payload
        self._n_workers = n_workers
        self._logs = LogReader(payload.parent, "log-*")
        self._pids: set[int] = set()
        self._n_deaths = 0
        self._n_finished = -1
        self._changed = time.monotonic()
        self._raised = ""
        self._running = [self._started() for _ in range(n_workers)]

    @property
    def are_there(self) -> bool:
        """Whether there are any left."""
        return bool(self._running)

    def _started(self) -> subprocess.Popen[bytes]:
        worker = _start(self._payload, self._n_workers)
        self._pids.add(worker.pid)
        return worker

    def look_at_trials(self) -> bool:
        """Tell whether any was finished, and say so if all wait for others than these workers."""
        self._logs.relay()
        known = history_of(self._study)
        n = known.tally.finished
        has_changed = n != self._n_finished
        if has_changed:
            self._n_deaths, self._n_finished = 0, n
        if has_changed or self._work_on_any_of(known.running):
            self._changed = time.monotonic()
        elif time.monotonic() - self._changed >= SILENT_SECONDS:
            say_whom_it_waits_for(self._study, self._plan.n_trials)
            self._changed = math.inf  # said once
        return has_changed

    def _work_on_any_of(self, running: Sequence[FrozenTrial]) -> bool:
        running = [trial for trial in running if trial.number < self._plan.n_trials]
        leases = [lease for lease in map(Lease.of, running) if lease is not None]
        return not running or any(lease.pid in self._pids for lease in leases)

    def look_at_processes(self) -> None:
        """Replace those that have died.

        Raises:
            WorkersDied: If they die over and over.
            Exception: What one has raised.
        """
        for worker in [worker for worker in self._running if worker.poll() is not None]:
            self._running.remove(worker)
            _reap(worker)
            error = CarriedError.read(_file(self._payload, "error", worker.pid))
            if error is not None:
                self._raised = error.kind
                raise error.again()
            # A library, or the objective, may end the process without an error.
            if worker.returncode != 0 or not _file(self._payload, "done", worker.pid).exists():
                self._n_deaths += 1
                _logger.warning(f"A worker died ({_cause(worker)}); another takes over.")
                if self._n_deaths > _MAX_DEATHS * self._n_workers:
                    raise WorkersDied(
                        f"Workers died {self._n_deaths} times in a row without finishing a "
                        f"trial, the last one: {_cause(worker)}."
                    )
                self._running.append(self._started())

    def stop(self) -> None:
        """Stop all, and say which could not requeue their trials."""
        _stop(self._running)
        self._logs.relay()
        for worker in self._running:
            error = CarriedError.read(_file(self._payload, "error", worker.pid))
            # What another has raised may have come to this one, too, as it was told to stop.
            if error is None or error.kind == self._raised:
                continue
            if error.while_stopping:
                _logger.warning(
                    f"A worker could not requeue its trial ({error.brief}); the trial resumes "
                    "when the study does."
                )
            else:
                _logger.warning(f"Another worker ended by an error, too: {error.brief}")
        if self._plan.stop_file is not None and self._plan.stop_file.exists():
            _optuna.request_stop(self._study)


def _start(payload: Path, n_workers: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, n_usable_cores() // n_workers)))
    return subprocess.Popen(
        command_of(payload),
        # The worker reads this pipe to its end, which comes when this process is gone.
        stdin=subprocess.PIPE,
        env=environment,
        # The terminal's Ctrl-C is for this process, which stops its workers itself.
        start_new_session=True,
    )


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    """Let workers requeue their trials; kill those that cannot."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        try:
            worker.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
        _reap(worker)


def _reap(worker: subprocess.Popen[bytes]) -> None:
    worker.wait()
    assert worker.stdin is not None
    worker.stdin.close()


def _cause(worker: subprocess.Popen[bytes]) -> str:
    code = worker.returncode
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _file(payload: Path, kind: str, pid: int) -> Path:
    """Return where a worker leaves its error or its log lines, or notes that it is done."""
    return payload.with_name(f"{kind}-{pid}")


def _end_with_parent() -> None:
    """Requeue the trial and end this process when the one that started it is gone."""
    wait_for_parents_end()
    os.kill(os.getpid(), signal.SIGTERM)


def _main(payload: Path) -> None:
    """Be a worker process."""
    carry_logs(_file(payload, "log", os.getpid()))
    interrupts = Interrupts()
    try:
        study, objective, plan = unpack(payload.read_bytes())
        with interrupts:
            threading.Thread(target=_end_with_parent, daemon=True).start()
            work(study, objective, plan, interrupts, after_trial=lambda: None)
    # SystemExit: an objective that ends its program would end it without workers, too.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again in the parent
        error_file = _file(payload, "error", os.getpid())
        carry_error(error_file, error, while_stopping=interrupts.pressed is not None)
        sys.exit(1)
    _file(payload, "done", os.getpid()).touch()
    if interrupts.pressed is not None:
        sys.exit(128 + interrupts.pressed)
