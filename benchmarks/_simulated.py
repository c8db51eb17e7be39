"""Simulated workers: many in one process, in real time, on a real storage.

A worker's training is a pause; all else is what a worker does: the code of `run` (or of plain
Optuna), call by call, on the storage. The workers of a process take turns. One whose epoch has
ended while another talks to the storage waits until that one is through, and this waiting counts as
lost time, as does the call itself.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna
from greenlet import getcurrent, greenlet

from hpolab import Reporter, load_study
from hpolab.running.interrupts import Interrupts
from hpolab.running.plan import Plan
from hpolab.running.worker import Worker, work
from hpolab.trial import lease as leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna.storages import BaseStorage

STUDY = "scale"
N_REPORTS = 10
_GRACE_SECONDS = leases.GRACE_SECONDS
_BEATS_PER_GRACE = 4


class Turns:
    """Workers of one process that take turns: each sleeps until its moment has come."""

    def __init__(self) -> None:
        self._between = getcurrent()
        self._order = itertools.count()
        self._ready: list[greenlet] = []
        self.asleep: list[tuple[float, int, greenlet]] = []

    def prepare(self, worker: Callable[[], None], *, is_running: bool) -> None:
        """Take a worker in, and let one that runs a trial already get up to its training."""
        each = greenlet(worker, parent=self._between)
        if is_running:
            each.switch()
        else:
            self._ready.append(each)

    def wait_for_start(self) -> None:
        """Called by a worker: wait until all are there."""
        self._ready.append(getcurrent())
        self._between.switch()

    def start(self, moment: float) -> None:
        """Let all workers begin at a moment of ``time.monotonic()``."""
        while self._ready:
            self._push(moment, self._ready.pop())

    def sleep_until(self, moment: float) -> None:
        """Called by a worker: let others take their turns until the moment."""
        self._push(moment, getcurrent())
        self._between.switch()

    def take(self, until: float) -> None:
        """Take turns until a moment."""
        while self.asleep and time.monotonic() < until:
            due = self.asleep[0][0]
            pause = min(due, until) - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            if due < until:
                heapq.heappop(self.asleep)[2].switch()

    def end(self) -> None:
        """End all workers where they are, as a signal does."""
        while self.asleep:
            with suppress(KeyboardInterrupt):
                self.asleep.pop()[2].throw(KeyboardInterrupt)

    def _push(self, moment: float, worker: greenlet) -> None:
        heapq.heappush(self.asleep, (moment, next(self._order), worker))


@dataclass
class Losses:
    """What the workers of a process have lost to the storage in a span of time.

    Attributes:
        start: Its start, by ``time.monotonic()``.
        end: Its end.
        trained_seconds: What all workers have trained in it.
        reporting: Seconds from an epoch's end to the next one's start, each.
        changing: The same from a trial's last epoch to the next trial's first.
        n_ended: Trials that have ended in it.
    """

    start: float
    end: float
    trained_seconds: float = 0.0
    reporting: list[float] = field(default_factory=list)
    changing: list[float] = field(default_factory=list)
    n_ended: int = 0

    def is_within(self, moment: float) -> bool:
        """Tell whether a moment lies in the span."""
        return self.start <= moment < self.end

    def note_training(self, begin: float, end: float) -> None:
        """Note that a worker trains from one moment to another."""
        self.trained_seconds += max(0.0, min(end, self.end) - max(begin, self.start))


class SimulatedWorker:
    """One worker's trainings: how long their epochs take, and what was lost between them.

    Args:
        turns: Who takes turns.
        losses: Of the process.
        trainings: Seconds of each epoch, training by training.
        seed: Draws from them.
    """

    def __init__(
        self, turns: Turns, losses: Losses, trainings: Sequence[Sequence[float]], seed: int
    ) -> None:
        self._turns = turns
        self._losses = losses
        self._trainings = trainings
        self._dice = random.Random(seed)
        self._due: float | None = None
        self._is_changing = False

    def epochs(self, *, is_first: bool = False) -> Iterator[int]:
        """Train; return the steps to report. The first training is met somewhere on its way."""
        seconds = self._dice.choice(self._trainings)
        done = self._dice.random() * sum(seconds) if is_first else 0.0
        if is_first:
            self._turns.wait_for_start()
        for step, each in enumerate(seconds):
            if done <= 0 or done < each:
                self._train(each - max(0.0, done))
                yield step
            done -= each

    def ended(self, *_: object) -> None:
        """Note that a trial has ended."""
        self._is_changing = True
        self._losses.n_ended += self._losses.is_within(time.monotonic())

    def _train(self, seconds: float) -> None:
        now = time.monotonic()
        if self._due is not None and self._losses.is_within(now):
            lost = self._losses.changing if self._is_changing else self._losses.reporting
            lost.append(now - self._due)
        self._is_changing = False
        self._due = now + seconds
        self._losses.note_training(now, self._due)
        self._turns.sleep_until(self._due)


class _Signals(Interrupts):
    """No signal comes; who waits lets others take their turns."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def sleep(self, seconds: float) -> None:
        try:
            self._turns.sleep_until(time.monotonic() + seconds)
        except KeyboardInterrupt:
            self.pressed = signal.SIGTERM


def hpolab_worker(
    storage: BaseStorage, simulated: SimulatedWorker, turns: Turns, first: int | None
) -> Callable[[], None]:
    """Return hpolab's worker, as `run` and `hpolab worker` have it.

    Args:
        storage: The storage, which all workers of the process share.
        simulated: Its trainings.
        turns: Who takes turns.
        first: The number of a trial that it runs already; None for none.
    """
    study = load_study(STUDY, storage=storage)
    plan = Plan(n_trials=sys.maxsize, callbacks=[simulated.ended], shared=True)
    interrupts = _Signals(turns)

    def objective(trial: optuna.Trial, *, is_first: bool = False) -> float:
        value = _suggested(trial)
        with Reporter(trial) as reporter:
            for step in simulated.epochs(is_first=is_first):
                reporter.report(value, step)
        return value

    running = None
    if first is not None:
        running = _running(study, first)
        leases.hold_lease(running, leases.Lease.mine(_GRACE_SECONDS))
        _spread_renewals(running)

    def begin() -> None:
        if running is not None:
            Worker(study, plan).run_trial(
                running, lambda trial: objective(trial, is_first=True), interrupts
            )
        work(study, objective, plan, interrupts, after_trial=lambda: None)

    return begin


def optuna_worker(
    storage: BaseStorage, simulated: SimulatedWorker, turns: Turns, first: int | None
) -> Callable[[], None]:
    """Return the worker of plain Optuna: ask, suggest, report, tell; arguments as above."""
    study = optuna.load_study(
        study_name=STUDY,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )

    def train(trial: optuna.Trial, *, is_first: bool = False) -> None:
        value = _suggested(trial)
        for step in simulated.epochs(is_first=is_first):
            trial.report(value, step)
        study.tell(trial, value)
        simulated.ended()

    running = None if first is None else _running(study, first)

    def begin() -> None:
        if running is not None:
            train(running, is_first=True)
        while True:
            train(study.ask())

    return begin


WORKERS = {"hpolab": hpolab_worker, "Optuna": optuna_worker}


def _suggested(trial: optuna.Trial) -> float:
    x: float = trial.suggest_float("x", 0, 1)
    y: float = trial.suggest_float("y", 0, 1)
    return x + y


def _running(study: optuna.Study, number: int) -> optuna.Trial:
    """Return a trial that the storage has as running."""
    storage = study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return optuna.Trial(study, trial_id)


def _spread_renewals(trial: optuna.Trial) -> None:
    """Let the next renewal come at any moment, as of a trial that runs for long."""
    hold = leases._held[trial]
    hold.due -= random.random() * _GRACE_SECONDS / _BEATS_PER_GRACE
