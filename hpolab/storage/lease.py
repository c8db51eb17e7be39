"""A worker's claim on a running trial, and what happens to a dead worker's trial."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab import _optuna

if TYPE_CHECKING:
    from optuna import Study, Trial

__all__ = ["LEASE_KEY", "Lease", "put_back_dead_trials", "take_lease"]

LEASE_KEY = "hpolab:lease"

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
    """

    host: str
    pid: int
    started: float

    @classmethod
    def mine(cls) -> Lease:
        """Return the lease of the calling process."""
        return _lease_of(os.getpid())

    def is_dead(self) -> bool:
        """Tell whether the worker is known to be dead; False if it ran on another host."""
        import psutil  # here and below: it takes as long to import as the rest of this package

        if self.host != _this_host():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            started: float = process.create_time()
            return abs(started - self.started) > _SAME_START_SECONDS
        except psutil.NoSuchProcess:
            return True

    def as_mark(self) -> tuple[str, dict[str, Any]]:
        """Return the lease as the user attribute that stores it: (key, value)."""
        return LEASE_KEY, asdict(self)


def take_lease(trial: Trial) -> None:
    """Write the calling process's lease on a running trial, unless it is there already."""
    key, value = Lease.mine().as_mark()
    if trial.user_attrs.get(key) != value:
        trial.set_user_attr(key, value)


def put_back_dead_trials(study: Study) -> list[int]:
    """Make every RUNNING trial of a dead worker WAITING again.

    The trial keeps its number, parameters and reports; the next worker that pops it goes on.

    Returns:
        The numbers of the trials put back.
    """
    dead = [
        trial.number
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if LEASE_KEY in trial.user_attrs and Lease(**trial.user_attrs[LEASE_KEY]).is_dead()
    ]
    for number in dead:
        _optuna.put_back(study, number)
    return dead


@lru_cache(maxsize=1)
def _lease_of(pid: int) -> Lease:
    import psutil

    # Cached by pid, so that a forked child does not inherit its parent's lease.
    return Lease(host=_this_host(), pid=pid, started=psutil.Process(pid).create_time())


@lru_cache(maxsize=1)
def _this_host() -> str:
    import psutil

    # Two containers may share a boot, even a host name; a pid means nothing across them, so the
    # process namespace is part of the host where the kernel has one.
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        namespace, boot = "", str(round(psutil.boot_time()))
    return "/".join((socket.gethostname(), boot, namespace))
