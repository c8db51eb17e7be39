"""Processes that stand for hosts: each has the storage open once, and runs simulated workers."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import random
import socket
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from _simulated import N_REPORTS, STUDY, WORKERS, Losses, SimulatedWorker, Turns
from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage, get_storage
from optuna.storages._rdb import models
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState, create_trial
from sqlalchemy import update

from hpolab import make_study, open_storage
from hpolab._optuna import SLOT_KEY
from hpolab.storage.bulk import write_trials
from hpolab.trial.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_SPACE = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("x", "y")}
_AT_ONCE = 5_000  # trials in one bulk write


@dataclass(frozen=True)
class Place:
    """A storage, and whose workers use it.

    Attributes:
        kind: "SQLite", "journal", "PostgreSQL", "Redis" or "gRPC".
        of: "hpolab" or "Optuna".
        url: The workers' URL, as hpolab has it.
        direct_url: The same storage without a proxy in between.
    """

    kind: str
    of: str
    url: str
    direct_url: str

    def open(self, url: str) -> BaseStorage:
        """Open it as a user of hpolab or of Optuna would."""
        if self.of == "hpolab":
            return open_storage(url)
        scheme, _, rest = url.partition("://")
        if scheme == "journal":
            return JournalStorage(JournalFileBackend(rest.removeprefix("/")))
        if scheme == "redis":
            return JournalStorage(JournalRedisBackend(url))
        if scheme == "grpc":
            host, _, port = rest.rpartition(":")
            return GrpcStorageProxy(host=host, port=int(port))
        return get_storage(url.replace("postgresql://", "postgresql+psycopg://"))

    @property
    def is_database(self) -> bool:
        """Whether it is Optuna's RDBStorage, which is slow to load and may be forked."""
        return self.kind in ("SQLite", "PostgreSQL")


@dataclass(frozen=True)
class Cell:
    """What all hosts are to simulate at once.

    Attributes:
        n_workers: Workers of all hosts.
        trainings: Seconds of each epoch, training by training; all 0 for empty trials.
        warm_up_seconds: What is not counted.
        seconds: What is.
    """

    n_workers: int
    trainings: Sequence[Sequence[float]]
    warm_up_seconds: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the workers of all hosts have done and lost in a cell.

    Attributes:
        trained_share: What they have trained, of all their time.
        n_ended: Trials that ended.
        reporting: Seconds lost between two epochs, each.
        changing: Seconds lost between two trials, each.
    """

    trained_share: float
    n_ended: int
    reporting: Sequence[float]
    changing: Sequence[float]

    def lost_by_trial(self, n_draws: int = 2_000) -> list[float]:
        """Return seconds that trials have lost, sorted.

        Few trials begin and end in a cell, so each is put together from losses drawn at random:
        one between two trials, nine between two epochs.
        """
        if not self.changing or not self.reporting:
            return []
        dice = random.Random(0)
        return sorted(
            dice.choice(self.changing) + sum(dice.choices(self.reporting, k=N_REPORTS - 1))
            for _ in range(n_draws)
        )


def stored_trials(n_trials: int) -> list[FrozenTrial]:
    """Return finished trials of two parameters and ten reports, numbered from 0."""
    dice = random.Random(0)
    mark = dict([Lease.mine().as_mark()])
    trials = []
    for number in range(n_trials):
        params = {name: dice.random() for name in _SPACE}
        trial = create_trial(
            value=sum(params.values()),
            params=params,
            distributions=_SPACE,
            intermediate_values={step: dice.random() for step in range(N_REPORTS)},
            user_attrs=mark,
        )
        trial.number = number
        trials.append(trial)
    return trials


def fill(place: Place, trials: Sequence[FrozenTrial]) -> None:
    """Make the study and write its trials."""
    storage = place.open(place.direct_url)
    if place.of == "hpolab":
        study = make_study(STUDY, storage=storage, sampler="random", pruner="none", seed=0)
    else:
        study = optuna.create_study(study_name=STUDY, storage=storage)
    for first in range(0, len(trials), _AT_ONCE):
        _write(study, trials[first : first + _AT_ONCE])


def _write(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    storage: Any = study._storage
    write_trials(getattr(storage, "_backend", storage), study._study_id, trials)


def _end_all(storage: Any, trial_ids: Sequence[int]) -> None:
    """End trials as failed, at once: one by one, a thousand would take a minute."""
    if not trial_ids:
        return
    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, RDBStorage):
        with backend.engine.begin() as connection:
            table = models.TrialModel.__table__
            ended = update(table).where(table.c.trial_id.in_(trial_ids))
            connection.execute(ended.values(state=TrialState.FAIL))
        return
    end = {
        "op_code": JournalOperation.SET_TRIAL_STATE_VALUES.value,
        "worker_id": "hosts",
        "state": TrialState.FAIL.value,
        "values": None,
        "datetime_complete": datetime.datetime.now().isoformat(timespec="microseconds"),
    }
    backend.append_logs([{**end, "trial_id": trial_id} for trial_id in trial_ids])


class Hosts:
    """Processes that have a study's storage open, for one cell after another.

    Args:
        place: The storage.
        n_hosts: How many there are.
    """

    def __init__(self, place: Place, n_hosts: int) -> None:
        self._place = place
        storage = place.open(place.direct_url)
        self._study = optuna.load_study(study_name=STUDY, storage=storage, sampler=_RANDOM)
        self._study.get_trials(deepcopy=False)  # read once: what hosts inherit
        inherited: BaseStorage | None = None
        if place.is_database:
            inherited = self._study._storage
            inherited._backend.engine.dispose()  # type: ignore[attr-defined]
        context = multiprocessing.get_context("fork")
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(n_hosts):
            ours, theirs = context.Pipe()
            process = context.Process(target=_host, args=(theirs, place, inherited, number))
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._marks = [connection.recv() for connection in self._connections]

    def simulate(self, cell: Cell, n_hosts: int) -> Outcome:
        """Run a cell on some of the hosts.

        Args:
            cell: The cell.
            n_hosts: How many of them share its workers.
        """
        self._end_work()
        n_hosts = min(n_hosts, cell.n_workers)
        connections = self._connections[:n_hosts]
        shares = [len(range(host, cell.n_workers, n_hosts)) for host in range(n_hosts)]
        firsts = self._begin_trials(shares) if cell.trainings[0][0] > 0 else [None] * n_hosts
        for connection, share, first in zip(connections, shares, firsts, strict=True):
            connection.send((cell, share, first))
        for connection in connections:
            connection.recv()  # all are ready
        start = time.monotonic() + 0.1 + cell.warm_up_seconds
        for connection in connections:
            connection.send((start, start + cell.seconds))
        found: list[Losses] = [connection.recv() for connection in connections]
        return Outcome(
            trained_share=sum(each.trained_seconds for each in found)
            / (cell.n_workers * cell.seconds),
            n_ended=sum(each.n_ended for each in found),
            reporting=[lost for each in found for lost in each.reporting],
            changing=[lost for each in found for lost in each.changing],
        )

    def _end_work(self) -> None:
        """End the trials that the cell before has left, and its workers."""
        left = (TrialState.RUNNING, TrialState.WAITING)
        trials = self._study.get_trials(deepcopy=False, states=left)
        _end_all(self._study._storage, [trial._trial_id for trial in trials])
        for connection in self._connections:
            connection.send("end work")
        for connection in self._connections:
            connection.recv()

    def _begin_trials(self, shares: Sequence[int]) -> list[int | None]:
        """Write running trials of each host's workers; return each host's first number."""
        known = len(self._study.get_trials(deepcopy=False))
        is_ours = self._place.of == "hpolab"
        trials, firsts = [], []
        for share, mark in zip(shares, self._marks, strict=False):
            firsts.append(known + len(trials))
            attrs = dict([mark]) if is_ours else {}
            trials += [
                create_trial(
                    state=TrialState.RUNNING, user_attrs=attrs, params={}, distributions={}
                )
                for _ in range(share)
            ]
        if is_ours:  # the slot that the last of them has opened
            attrs = {SLOT_KEY: None}
            trials.append(create_trial(state=TrialState.WAITING, user_attrs=attrs))
        for index, trial in enumerate(trials):
            trial.number, trial.datetime_start = known + index, datetime.datetime.now()
        _write(self._study, trials)
        return list(firsts)

    def close(self) -> None:
        """End them."""
        for connection in self._connections:
            with contextlib.suppress(BrokenPipeError):
                connection.send("close")
        for process in self._processes:
            process.join()


@contextlib.contextmanager
def hosts_of(place: Place, n_hosts: int) -> Iterator[Hosts]:
    """Start hosts, and end them."""
    hosts = Hosts(place, n_hosts)
    try:
        yield hosts
    finally:
        hosts.close()


_RANDOM = optuna.samplers.RandomSampler()


def _host(connection: Connection, place: Place, inherited: BaseStorage | None, number: int) -> None:
    # What a process is to the others goes by its host's name, and these are on one machine.
    socket.gethostname = lambda: f"host-{number}"
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = place.open(place.url) if inherited is None else inherited
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=_RANDOM)
    study.get_trials(deepcopy=False)
    connection.send(Lease.mine().as_mark())
    turns = Turns()
    while (order := connection.recv()) != "close":
        if order == "end work":
            turns.end()
            connection.send("ended")
            continue
        cell, n_workers, first = order
        study.get_trials(deepcopy=False)  # Optuna's cache must have seen the trials that begin
        losses = Losses(0.0, 0.0)
        workers = [SimulatedWorker(turns, losses, cell.trainings, n) for n in range(n_workers)]
        for index, each in enumerate(workers):
            trial = None if first is None else first + index
            begin = WORKERS[place.of](storage, each, turns, trial)
            turns.prepare(begin, is_running=trial is not None)
        connection.send("ready")
        losses.start, losses.end = connection.recv()
        turns.start(losses.start - cell.warm_up_seconds)
        turns.take(until=losses.end)
        # Whose turn has not come has lost at least this much.
        losses.reporting += [losses.end - due for due, *_ in turns.asleep if due < losses.end]
        connection.send(losses)
    os._exit(0)  # not into what was forked along
