"""Worker processes on this host, each in a fresh interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from hpolab import _optuna
from hpolab.errors import WorkersDied, in_brief
from hpolab.files import replace_file
from hpolab.running.interpreter import command_of, pack, unpack, wait_for_parents_end
from hpolab.running.worker import Interrupts, Plan, work
from hpolab.studies.trials import tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from hpolab.running.worker import ObjectiveFunction

__all__ = ["run_in_processes"]

_logger = optuna.logging.get_logger(__name__)

_POLL_SECONDS = 0.1
_STOP_SECONDS = 30.0
# Deaths in a row, for each worker, without one trial finished: the workers cannot live here.
_MAX_DEATHS = 5


def run_in_processes(
    study: Study,
    objective: ObjectiveFunction,
    plan: Plan,
    n_workers: int,
    interrupts: Interrupts,
    after_trial: Callable[[], None],
) -> None:
    """Do what `work` does in ``n_workers`` processes, and replace those that die.

    Study and objective travel by cloudpickle, so that functions of a script or a notebook do too,
    without the ``__main__`` guard of ``multiprocessing``. Each process gets its share of the cores
    as OMP_NUM_THREADS, unless that is set.

    Raises:
        InvalidType: If study, objective or callbacks cannot be sent.
        WorkersDied: If workers die over and over without finishing a trial.
        Exception: What a worker raised, e.g. `TooManyFailures`.
    """
    trials = study.get_trials(deepcopy=False)
    if all(trial.state.is_finished() for trial in trials):
        # The workers start in one instant, and would all open it.
        _optuna.open_slot(study, len(trials), plan.n_trials)
    with tempfile.TemporaryDirectory(prefix="hpolab-") as folder:
        payload = Path(folder) / "payload"
        payload.write_bytes(pack(study, objective, plan))
        workers = [_start(payload, n_workers) for _ in range(n_workers)]
        n_deaths, n_finished = 0, -1
        try:
            while workers and interrupts.pressed is None:
                interrupts.sleep(_POLL_SECONDS)
                n = tally(study.get_trials(deepcopy=False)).finished
                if n != n_finished:
                    n_deaths, n_finished = 0, n
                    after_trial()
                for worker in [worker for worker in workers if worker.poll() is not None]:
                    workers.remove(worker)
                    _reap(worker)
                    error = _error_of(payload, worker.pid)
                    if error is not None:
                        raise error
                    if worker.returncode != 0:
                        n_deaths += 1
                        _logger.warning(f"A worker died ({_cause(worker)}); another takes over.")
                        if n_deaths > _MAX_DEATHS * n_workers:
                            raise WorkersDied(
                                f"Workers died {n_deaths} times in a row without finishing a "
                                f"trial, the last one: {_cause(worker)}."
                            )
                        workers.append(_start(payload, n_workers))
        finally:
            _stop(workers)
            for worker in workers:
                error = _error_of(payload, worker.pid)
                if error is not None:
                    _logger.warning(
                        f"A worker could not requeue its trial ({in_brief(error)}); the trial "
                        "resumes when the study does."
                    )


def _start(payload: Path, n_workers: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_workers)))
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


def _error_of(payload: Path, pid: int) -> Exception | None:
    """Return what a worker raised, None if it ended otherwise."""
    import cloudpickle

    file = _error_file(payload, pid)
    if not file.exists():
        return None
    error: Exception = cloudpickle.loads(file.read_bytes())
    return error


def _error_file(payload: Path, pid: int) -> Path:
    return payload.with_name(f"error-{pid}")


def _end_with_parent() -> None:
    """Requeue the trial and end this process when the one that started it is gone."""
    wait_for_parents_end()
    os.kill(os.getpid(), signal.SIGTERM)


def _main(payload: Path) -> None:
    """Be a worker process."""
    import cloudpickle

    try:
        study, objective, plan = unpack(payload.read_bytes())
        with Interrupts() as interrupts:
            threading.Thread(target=_end_with_parent, daemon=True).start()
            work(study, objective, plan, interrupts, after_trial=lambda: None)
    except Exception as error:  # noqa: BLE001 - raised again in the process that started this one
        replace_file(_error_file(payload, os.getpid()), cloudpickle.dumps(error))
        sys.exit(1)
    if interrupts.pressed is not None:
        sys.exit(128 + interrupts.pressed)
