"""A worker's claim on a running trial, and what happens to a dead worker's trial.

A lease is a user attribute of its trial: who runs it, and a counter that a thread of the worker
advances. A process on the observer's own host is looked up; of one on another host the observer
sees that its counter stands still, by the observer's own clock. Clocks of hosts are not compared.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.logs import get_logger
from hpolab.studies.history import history_of
from hpolab.trial.checkpoint import TrialCheckpoints, default_store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.studies.history import History

__all__ = [
    "ERROR_KEY",
    "GRACE_SECONDS",
    "MAX_RETRIES",
    "RETRIES_KEY",
    "Lease",
    "asked_here",
    "awaited",
    "claiming",
    "hold_lease",
    "is_held_by_run",
    "is_spent",
    "is_still_mine",
    "lease_lost",
    "note_error",
    "release_ended",
    "release_lease",
    "requeue_dead_trials",
    "requeue_held",
    "requeue_mine",
    "requeue_trial",
    "take_lease",
    "whose",
]

_logger = get_logger(__name__)

ERROR_KEY = "hpolab:error"
GRACE_SECONDS = 60.0
MAX_RETRIES = 2
_LEASE_KEY = "hpolab:lease"
RETRIES_KEY = "hpolab:retries"

# Renewals in one grace period: one or two may be late before the worker counts as dead.
_BEATS_PER_GRACE = 4

# A worker writes its lease within milliseconds of popping a trial. One that has not after so long
# is dead: it is known to be gone, or nothing is known.
_POP_SECONDS_IF_GONE = 0.25
_POP_SECONDS = 5.0

# psutil reads a start time in ticks of 10 ms and adds the boot time, which a corrected clock may
# move; two processes that share a pid within this many seconds are the same process.
_SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class Lease:
    """Who runs a trial.

    Attributes:
        host: Host name, boot and process namespace: where the pid means something.
        pid: The worker's process id there.
        started: The process's start, in seconds since the epoch by that host's clock. A pid is
            given to another process sooner or later; a pid with its start is not.
        grace_seconds: How long the counter may stand still before the worker counts as dead.
        beats: The counter.
        beat_at: When the worker counted last, in seconds since the epoch by its own clock. For
            people to look at; no worker compares it with its own.
        objective: What the worker trains; "" if it does not say.
        device: Where it trains; "" if it does not say.
        job: The worker's job, as its scheduler calls it; "" without one.
    """

    host: str
    pid: int
    started: float
    grace_seconds: float = GRACE_SECONDS
    beats: int = 0
    beat_at: float = 0.0
    objective: str = ""
    device: str = ""
    job: str = ""

    @classmethod
    def mine(
        cls,
        grace_seconds: float = GRACE_SECONDS,
        *,
        objective: str = "",
        device: str = "",
        job: str = "",
    ) -> Lease:
        """Return the lease of the calling process."""
        host, pid, started = _this_process(os.getpid())
        return cls(
            *(host, pid, started, grace_seconds),
            beat_at=time.time(),
            objective=objective,
            device=device,
            job=job,
        )

    @classmethod
    def of(cls, trial: FrozenTrial) -> Lease | None:
        """Return the lease stored with a trial, or None."""
        stored = trial.user_attrs.get(_LEASE_KEY)
        return None if stored is None else cls.read(stored)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Lease:
        """Return a stored lease; what another version has written beside it is left out."""
        return cls(**{key: value for key, value in stored.items() if key in _FIELDS})

    @property
    def is_mine(self) -> bool:
        """Whether the calling process holds it."""
        return (self.host, self.pid, self.started) == _this_process(os.getpid())

    @property
    def is_here(self) -> bool:
        """Whether its process can be looked up in this one's host."""
        return self.host == _this_process(os.getpid())[0]

    def as_mark(self) -> tuple[str, dict[str, Any]]:
        """Return the lease as the user attribute that stores it: (key, value)."""
        return _LEASE_KEY, asdict(self)

    def process_is_dead(self) -> bool:
        """Tell whether the worker ran on this host and is gone."""
        return _process_is_dead(self.host, self.pid, self.started)


def _process_is_dead(host: str, pid: int, started: float) -> bool:
    import psutil  # here and below: it takes as long to import as the rest of this package

    if host != _this_process(os.getpid())[0]:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        begun: float = process.create_time()
        return abs(begun - started) > _SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return True


_FIELDS = frozenset(field.name for field in fields(Lease))


@lru_cache(maxsize=1)
def _this_process(pid: int) -> tuple[str, int, float]:
    """Return (host, pid, start); cached by pid, so that a fork does not take its parent's."""
    import psutil

    # Two containers may share a boot, even a host name; a pid means nothing across them, so the
    # process namespace is part of the host where the kernel has one.
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        namespace, boot = "", str(round(psutil.boot_time()))
    host = "/".join((socket.gethostname(), boot, namespace))
    return host, pid, psutil.Process(pid).create_time()


class _Hold:
    """A lease that this process holds on a trial."""

    def __init__(self, lease: Lease, by_run: bool) -> None:
        self.lease = lease
        self.by_run = by_run
        self.lost = False
        self.ended = False
        self.due = time.monotonic() + lease.grace_seconds / _BEATS_PER_GRACE


# Held while a trial is claimed or requeued: a thread of this process that has written its lease
# and not yet noted it below must not be taken for a dead worker by another.
claiming = threading.RLock()

# If the Trial was garbage-collected before `tell`, nobody owns it, even if its process is alive.
_held: WeakKeyDictionary[Trial, _Hold] = WeakKeyDictionary()
_held_lock = threading.Lock()


def hold_lease(trial: Trial, lease: Lease) -> None:
    """Keep renewing the lease that `run` has claimed a trial with, until the trial ends."""
    with _held_lock:
        _held[trial] = _Hold(lease, by_run=True)
    _start_renewing(trial.study)


def take_lease(trial: Trial) -> None:
    """Write and hold a lease on a trial that `run` has not claimed.

    Under ``Study.optimize`` and ask/tell, this is also where the trials of dead workers are
    requeued, for the next ``ask`` to pop.
    """
    with _held_lock:
        if trial in _held:
            return
        lease = Lease.mine()
        _held[trial] = _Hold(lease, by_run=False)
    trial.set_user_attr(*lease.as_mark())
    requeue_dead_trials(trial.study)
    _start_renewing(trial.study)


def release_lease(trial: Trial) -> None:
    """Stop renewing a trial's lease: it has ended, or was requeued."""
    with _held_lock:
        _held.pop(trial, None)


def note_error(trial: Trial) -> None:
    """Note that an error has ended a trial's training, of which its user may tell yet."""
    with _held_lock:
        held = _held.get(trial)
        if held is not None:
            held.ended = True


def release_ended(study: Study) -> None:
    """Release the trials of a study asked for here whose training an error has ended.

    Not at once: their user, `Study.optimize` for one, tells them after the error. Those that are
    left when `run` begins are nobody's, and it resumes them.
    """
    with _held_lock:
        ended = [trial for trial, hold in _held.items() if hold.ended and not hold.by_run]
        for trial in ended:
            if _same(trial.study, study):
                del _held[trial]


def lease_lost(trial: Trial) -> bool:
    """Tell whether another worker has taken a trial that this process held for `run`."""
    with _held_lock:
        held = _held.get(trial)
    return held is not None and held.by_run and held.lost


def is_held_by_run(trial: Trial) -> bool:
    """Tell whether `run` has claimed a trial in this process."""
    with _held_lock:
        held = _held.get(trial)
    return held is not None and held.by_run


def requeue_dead_trials(
    study: Study, max_retries: int = MAX_RETRIES, known: History | None = None
) -> list[int]:
    """Make every RUNNING trial of a dead worker WAITING again.

    The trial keeps its number, parameters, reports and checkpoint; the next worker that pops it
    resumes it. One that has killed its worker more than ``max_retries`` times fails instead.

    Args:
        study: The study.
        max_retries: Deaths of a worker in one trial that are forgiven.
        known: The study's trials, if they have just been read.

    Returns:
        The numbers of the requeued trials.
    """
    with claiming:
        running = (known or history_of(study)).running
        return _requeue_dead_trials(study, max_retries, running)


def _requeue_dead_trials(
    study: Study, max_retries: int, running: Sequence[FrozenTrial]
) -> list[int]:
    requeued = []
    _forget_changed(study, running)
    held = _held_here(study)
    # Asked for once a look: a worker may hold many trials.
    is_gone = cache(_process_is_dead)
    for trial in running:
        lease = Lease.of(trial)
        if not _is_dead(study, trial, lease, held, is_gone):
            continue
        # Another worker may have requeued it, even popped it, since the list was read.
        latest = _optuna.reread(study, trial.number)
        if latest.state != TrialState.RUNNING or Lease.of(latest) != lease:
            continue
        n_deaths = latest.user_attrs.get(RETRIES_KEY, 0) + 1
        try:
            if n_deaths > max_retries:
                # Not counted: another observer, in this moment, would count the same death again.
                reason = f"the worker died {n_deaths} times in this trial"
                _optuna.set_user_attr(study, trial.number, ERROR_KEY, reason)
                try:
                    study.tell(trial.number, state=TrialState.FAIL)
                except ValueError:
                    if _optuna.reread(study, trial.number).state == TrialState.RUNNING:
                        raise
                    continue  # another observer of the same death has just told it
                failed = f"Trial {trial.number} of study {study.study_name!r} failed"
                _logger.warning(f"{failed}: {reason}")
                store = default_store(study)
                if store is not None:
                    TrialCheckpoints(store, study.study_name, trial.number).remove()
            else:
                # Without its lease first, so that no other observer counts this death again.
                _optuna.set_user_attr(study, trial.number, _LEASE_KEY, None)
                _optuna.set_user_attr(study, trial.number, RETRIES_KEY, n_deaths)
                requeue_trial(study, trial.number)
                requeued.append(trial.number)
                _say_requeued(study, trial.number, lease)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue  # its worker was alive after all, and has just told it
    return requeued


def _say_requeued(study: Study, number: int, lease: Lease | None) -> None:
    host = "" if lease is None else f" (pid {lease.pid} on {lease.host.partition('/')[0]})"
    _logger.info(
        f"Trial {number} of study {study.study_name!r} is requeued. Its worker{host} died; another "
        "one goes on with it."
    )


def requeue_trial(study: Study, number: int) -> None:
    """Make a RUNNING trial WAITING again, without a lease."""
    _optuna.set_user_attr(study, number, _LEASE_KEY, None)
    _optuna.set_user_attr(study, number, _optuna.SLOT_KEY, None)
    _optuna.requeue(study, number)


def is_still_mine(study: Study, trial: Trial) -> bool:
    """Tell whether a trial runs under this process's lease, as the storage has it now."""
    latest = _optuna.reread(study, trial.number)
    lease = Lease.of(latest)
    return latest.state == TrialState.RUNNING and lease is not None and lease.is_mine


def requeue_mine(study: Study, trial: Trial) -> None:
    """Release a trial and make it WAITING again, unless another worker has taken it."""
    try:
        if is_still_mine(study, trial):
            requeue_trial(study, trial.number)
    finally:
        release_lease(trial)


def requeue_held() -> None:
    """Requeue all trials that `run` has claimed in this process."""
    with _held_lock:
        held = [trial for trial, hold in _held.items() if hold.by_run]
    for trial in held:
        requeue_mine(trial.study, trial)


def asked_here(study: Study) -> frozenset[int]:
    """Return the trials that this process has asked for itself, outside `run`, and not told."""
    with _held_lock:
        held = [(trial, hold.by_run) for trial, hold in _held.items()]
    return frozenset(
        trial.number for trial, by_run in held if not by_run and _same(trial.study, study)
    )


def awaited(trials: Sequence[FrozenTrial], asked: Collection[int] = ()) -> list[FrozenTrial]:
    """Return the running trials whose end `run` waits for: those that a worker has claimed.

    Any other is its user's own affair: nobody can tell whether it lives.

    Args:
        trials: The study's trials, within the budget.
        asked: Those that `asked_here` has found. `run` itself may be what keeps its caller from
            telling them.
    """
    return [
        trial
        for trial in trials
        if trial.state == TrialState.RUNNING and trial.number not in asked and _is_claimed(trial)
    ]


def is_spent(
    study: Study, n_trials: int, *, asked: Collection[int] = (), only_enqueued: bool = False
) -> bool:
    """Tell whether all trials numbered below ``n_trials`` exist and none is left to run.

    Args:
        study: The study.
        n_trials: The budget.
        asked: As in `awaited`.
        only_enqueued: Whether the study makes no new trial, so that its end is that of those which
            have parameters.
    """
    known = history_of(study)
    unfinished = [trial for trial in known.unfinished if trial.number < n_trials]
    if only_enqueued:
        waiting = [t for t in unfinished if _optuna.is_enqueued(t)]
    else:
        waiting = [t for t in unfinished if t.state == TrialState.WAITING]
    complete = only_enqueued or len(known.trials) >= n_trials
    if not complete or awaited(unfinished, asked):
        return False
    # Read again: a server's cache may never learn of the end of a trial that was short.
    return all(_optuna.reread(study, t.number).state != TrialState.WAITING for t in waiting)


def whose(trial: FrozenTrial) -> str:
    """Return who runs a trial, in words."""
    lease = Lease.of(trial)
    if lease is None:
        return "asked for by `study.ask` somewhere"
    if lease.is_mine:
        return "asked for in this process"
    host = lease.host.partition("/")[0]
    here = lease.host == Lease.mine().host
    return f"process {lease.pid} on {'this host' if here else host}"


def _is_claimed(trial: FrozenTrial) -> bool:
    return Lease.of(trial) is not None or _optuna.SLOT_KEY in trial.user_attrs


# What this process last saw of leases that it cannot look up: trial number -> (lease, since when).
_seen: WeakKeyDictionary[Study, dict[int, tuple[Lease | None, float]]] = WeakKeyDictionary()


def _held_here(study: Study) -> frozenset[int]:
    """Return the trials of a study that this process holds."""
    with _held_lock:
        held = list(_held)
    return frozenset(trial.number for trial in held if _same(trial.study, study))


def _is_dead(
    study: Study,
    trial: FrozenTrial,
    lease: Lease | None,
    held: Collection[int],
    is_gone: Callable[[str, int, float], bool],
) -> bool:
    if lease is None:
        # Either popped in this instant, or its worker was killed between that and its lease. The
        # last one that tried to pop it is most likely the one that did.
        if not _is_claimed(trial):
            return False
        tried = trial.user_attrs.get(_optuna.SLOT_KEY)
        has_gone = tried is not None and Lease.read(tried).process_is_dead()
        seconds = _POP_SECONDS_IF_GONE if has_gone else _POP_SECONDS
        return _stood_still(study, trial, lease, seconds)
    if lease.is_mine:
        return trial.number not in held
    if lease.is_here:
        return is_gone(lease.host, lease.pid, lease.started)
    return _stood_still(study, trial, lease, lease.grace_seconds)


def _forget_changed(study: Study, running: Sequence[FrozenTrial]) -> None:
    leases = {trial.number: Lease.of(trial) for trial in running}
    _seen[study] = {
        number: (lease, since)
        for number, (lease, since) in _seen.get(study, {}).items()
        if number in leases and leases[number] == lease
    }


def _stood_still(study: Study, trial: FrozenTrial, lease: Lease | None, seconds: float) -> bool:
    """Tell whether this process has seen the same lease for so long, by its own clock."""
    now = time.monotonic()
    _, since = _seen[study].setdefault(trial.number, (lease, now))
    return now - since >= seconds


def _same(one: Study, other: Study) -> bool:
    return one is other or (one.study_name == other.study_name and not _optuna.is_in_memory(one))


_renewing_pid: int | None = None
_wake = threading.Event()


def _start_renewing(study: Study) -> None:
    global _renewing_pid
    if _optuna.is_in_memory(study):
        return
    _wake.set()
    with _held_lock:
        if _renewing_pid == os.getpid():
            return
        _renewing_pid = os.getpid()
    threading.Thread(target=_renew_for_ever, name="hpolab-leases", daemon=True).start()


def _renew_for_ever() -> None:
    while True:
        _wake.clear()
        _wake.wait(timeout=_renew_all_due())


def _renew_all_due() -> float | None:
    """Renew what is due and return the seconds until the next is, None if there is none.

    A function of its own, so that no local name keeps a trial alive while the thread sleeps.
    """
    with _held_lock:
        due = [(trial, hold) for trial, hold in _held.items() if hold.due <= time.monotonic()]
    for trial, hold in due:
        _renew(trial, hold)
    with _held_lock:
        waits = [hold.due - time.monotonic() for hold in _held.values()]
    return max(0.0, min(waits)) if waits else None


def _renew(trial: Trial, hold: _Hold) -> None:
    hold.due = time.monotonic() + hold.lease.grace_seconds / _BEATS_PER_GRACE
    try:
        latest = _optuna.reread(trial.study, trial.number)
        if latest.state.is_finished():
            release_lease(trial)
            return
        stored = Lease.of(latest)
        if latest.state != TrialState.RUNNING or stored is None or not stored.is_mine:
            hold.lost = True
            return
        hold.lease = replace(hold.lease, beats=hold.lease.beats + 1, beat_at=time.time())
        key, value = hold.lease.as_mark()
        _optuna.set_user_attr(trial.study, trial.number, key, value)
    except optuna.exceptions.UpdateFinishedTrialError:
        release_lease(trial)
    except Exception as error:  # noqa: BLE001 - the worker's own next call meets the same trouble
        _logger.warning(f"The lease of trial {trial.number} could not be renewed: {error}")
