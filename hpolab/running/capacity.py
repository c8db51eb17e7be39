"""How many workers a machine has room for, and whether its cores are taken by others."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import psutil

from hpolab import _optuna
from hpolab.cores import n_usable_cores
from hpolab.logs import get_logger
from hpolab.objectives.base import Objective
from hpolab.running.described import device_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from optuna import Study

    from hpolab.running.plan import ObjectiveFunction

__all__ = ["CoresWatch", "n_threads_here", "suitable_n_workers"]

_logger = get_logger(__name__)

# A worker holds what this process holds: the libraries and the data. Training takes about as much.
_MEMORY_OF_WORKER = 2.0
# The least that a worker with a training library takes.
_LEAST_BYTES = 512 * 2**20

# Shorter looks at the cores say more about chance than about other processes.
_LEAST_SECONDS = 2.0
# Of a core that threads may lack before that is worth a line: the operating system takes some.
_SLACK = 0.5


def suitable_n_workers(study: Study, objective: ObjectiveFunction, n_left: int) -> int:
    """Return how many workers of this machine suit a run, and say so.

    There is one worker for each core, as trials side by side use cores better than the threads of
    one trial, which wait for each other. There are fewer if trials ask for several threads by
    themselves, if memory would not suffice, or if fewer trials are left. There is one if the study
    is in memory, or if trials train on an accelerator, which they would share.

    Args:
        study: The study.
        objective: The objective.
        n_left: Number of trials that are left to train.
    """
    n_cores = n_usable_cores()
    n_threads = objective.n_threads if isinstance(objective, Objective) else 1
    of_cores = f"{n_cores} usable cores" + (f", {n_threads} a trial" if n_threads > 1 else "")
    limits = {
        of_cores: n_cores // n_threads,
        "the memory that is free": _n_in_memory(),
        "the trials that are left": n_left,
    }
    if _optuna.is_in_memory(study):
        limits["a study in memory, which other processes cannot see"] = 1
    device = device_of(objective)
    if device not in ("", "cpu"):
        limits[f"the accelerator that they would share ({device})"] = 1
    n_workers = max(1, min(limits.values()))
    reason = min(limits, key=lambda each: limits[each])
    _logger.info(f"`n_workers='auto'` takes {n_workers}, limited by {reason}.")
    return n_workers


def _n_in_memory() -> int:
    of_one = max(_LEAST_BYTES, _MEMORY_OF_WORKER * psutil.Process().memory_info().rss)
    return int(psutil.virtual_memory().available / of_one)


def n_threads_here(objective: ObjectiveFunction) -> int:
    """Return how many threads a trial computes with in this process, as far as can be told."""
    n_threads = objective.n_threads if isinstance(objective, Objective) else 1
    if device_of(objective) == "cpu" and "torch" in sys.modules:
        of_torch: int = sys.modules["torch"].get_num_threads()
        return max(n_threads, of_torch)
    return n_threads


class CoresWatch:
    """Tells once if the threads of a training have to share cores with other processes.

    Threads of one training wait for each other at every operation. If one of them has no core of
    its own, all wait for it: two threads beside one busy process were 44 times slower than one.

    Args:
        n_threads: Threads that a training uses; nothing is looked at for 1.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._started = _Look.now() if n_threads > 1 else None

    def look(self) -> None:
        """Look at the cores; call it after each trial."""
        before = self._started
        if before is None or time.monotonic() - before.wall < _LEAST_SECONDS:
            return
        self._started = now = _Look.now()
        n_others = now.busy_beside_this(before)
        # A container may have fewer cores than it sees.
        n_free = min(n_usable_cores(), len(_seen_cores()) - n_others)
        if self._n_threads > n_free + _SLACK:
            self._started = None
            n_threads = max(1, round(n_free))
            _logger.warning(
                f"A trial computes with {self._n_threads} threads, and has {max(0, n_free):.1f} "
                f"cores: other processes keep {n_others:.1f} of {len(_seen_cores())} busy. Threads "
                "without a core of their own slow all others down, often many times: set "
                f"OMP_NUM_THREADS={n_threads} (PyTorch: torch.set_num_threads({n_threads})), or "
                "let `run(..., n_workers='auto')` give each worker its cores."
            )


def _seen_cores() -> Collection[int]:
    """Return the numbers of the cores that this process is bound to, or of all."""
    every = range(psutil.cpu_count() or 1)
    bound = getattr(os, "sched_getaffinity", lambda _: every)(0)
    return [core for core in every if core in bound]


class _Look:
    """What cores have done until a moment, in seconds."""

    def __init__(self, wall: float, busy: float, own: float) -> None:
        self.wall = wall
        self._busy = busy
        self._own = own

    @classmethod
    def now(cls) -> _Look:
        every = psutil.cpu_times(percpu=True)
        busy = sum(every[core].user + every[core].system for core in _seen_cores())
        own = psutil.Process().cpu_times()
        return cls(time.monotonic(), busy, own.user + own.system)

    def busy_beside_this(self, before: _Look) -> float:
        """Return how many cores other processes have kept busy since an earlier look."""
        others = (self._busy - before._busy) - (self._own - before._own)
        return max(0.0, others / (self.wall - before.wall))
