"""Who works on a study's running trials, for people to look at."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

__all__ = ["WorkerAtWork", "workers_at_work"]


@dataclass(frozen=True)
class WorkerAtWork:
    """A running trial and who runs it.

    Attributes:
        trial: The trial's number.
        host: The host's name; "" if nobody has said who runs the trial.
        pid: The process's id there; None if nobody has said it.
        job: What the scheduler calls its job; "" without one.
        objective: What it trains; "" if it does not say.
        device: Where it trains; "" if it does not say.
        seconds: How long it has been in training, since it was last begun.
        silent_seconds: How long ago the worker was last heard of, by its own clock against ours;
            None if it has not said. The clocks of two hosts may differ.
        looks_dead: Whether its process is gone from this host, or has been silent on another for
            longer than it may be. What is requeued is for workers to decide, who compare no clocks.
    """

    trial: int
    host: str
    pid: int | None
    job: str
    objective: str
    device: str
    seconds: float
    silent_seconds: float | None
    looks_dead: bool


def workers_at_work(
    running: Sequence[FrozenTrial], *, now: float | None = None
) -> list[WorkerAtWork]:
    """Return who works on running trials.

    Args:
        running: Trials that run, with their user attributes.
        now: Seconds since the epoch; None for this moment.

    Example:
        >>> workers_at_work([])
        []
    """
    now = time.time() if now is None else now
    return [_of(trial, now) for trial in running]


def _of(trial: FrozenTrial, now: float) -> WorkerAtWork:
    begun = trial.datetime_start
    seconds = 0.0 if begun is None else max(0.0, now - begun.timestamp())
    lease = Lease.of(trial)
    if lease is None:
        return WorkerAtWork(trial.number, "", None, "", "", "", seconds, None, looks_dead=False)
    silent = max(0.0, now - lease.beat_at) if lease.beat_at else None
    if lease.is_here:
        looks_dead = lease.process_is_dead()
    else:
        looks_dead = silent is not None and silent > lease.grace_seconds
    return WorkerAtWork(
        trial=trial.number,
        host=lease.host.partition("/")[0],
        pid=lease.pid,
        job=lease.job,
        objective=lease.objective,
        device=lease.device,
        seconds=seconds,
        silent_seconds=silent,
        looks_dead=looks_dead,
    )
