"""What a worker is to do: the budget and the rules, which travel to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hpolab.errors import check_count, check_seconds
from hpolab.trial.lease import GRACE_SECONDS, MAX_RETRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.trial.tracker import Tracker

    Callback = Callable[[Study, FrozenTrial], None]
    ObjectiveFunction = Callable[[Trial], float | Sequence[float]]

__all__ = ["Plan", "StopMark"]


class StopMark(Protocol):
    """What tells the workers of a `run` that one of them has seen ``study.stop``: a file, say."""

    def exists(self) -> bool:
        """Tell whether one has."""
        ...

    def touch(self) -> None:
        """Note that this one has."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a worker is to do; it travels to worker processes.

    Attributes:
        n_trials: The study's budget, `sys.maxsize` for none.
        first_params: What trial 0 tries, as trial params; None leaves it to the sampler.
        timeout_seconds: No trial is started after this time, and objectives of hpolab's end the
            one they are in; infinity for no limit.
        max_failures: Failures in a row, without any success in the study, that end it.
        max_retries: Deaths of a worker in one trial that are forgiven.
        grace_seconds: How long the worker's lease may stand still.
        window: Trials that may run at once where the study must not depend on timing.
        shared: Whether other workers start with this one.
        fuse: How many trials to train as one, or "auto"; None for one after the other.
        callbacks: Called with (study, trial) after each trial.
        trackers: Where each trial is tracked, from `as_trackers`.
        only_enqueued: Whether no trial is made that has no parameters: the sampler is exhausted.
        asked: Trials that the process of `run` has asked for itself, and that nobody waits for.
        objective: What the worker's leases call the objective.
        device: Where they say that it trains.
        stop_file: Exists once a worker has seen that ``study.stop`` was called; None for one alone.
        trial_lines: Whether the log has a line for each trial that ends.
    """

    n_trials: int
    first_params: Mapping[str, Any] | None = None
    timeout_seconds: float = math.inf
    max_failures: int = 3
    max_retries: int = MAX_RETRIES
    grace_seconds: float = GRACE_SECONDS
    window: int | None = None
    shared: bool = False
    fuse: int | str | None = None
    callbacks: Sequence[Callback] = ()
    trackers: Sequence[Tracker] = ()
    only_enqueued: bool = False
    asked: frozenset[int] = frozenset()
    objective: str = ""
    device: str = ""
    stop_file: StopMark | None = None
    trial_lines: bool = False

    def __post_init__(self) -> None:
        check_count("max_failures", self.max_failures)
        check_count("max_retries", self.max_retries, low=0)
        check_seconds("grace_seconds", self.grace_seconds, low=1)
