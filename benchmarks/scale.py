"""How many workers does a storage serve, and how many stored trials?

Workers are simulated, storages are real. A worker's training is a pause as long as a real one: the
epochs of a small network on digits, measured when the script starts and stretched to a mean of
``--trial-seconds``. What it does in between is what a worker of `run` does, on the real storage:
claim a trial, draw two parameters, report ten times, tell, renew its lease. Four processes, each
with a storage object of its own, stand for four hosts with a quarter of the workers each. Beside it
plain Optuna with its own storages: ask, report, tell.

For each storage and number of stored trials:

- "back to back": trials a second of 1, 2, 4 and 8 processes whose trials take no time. Workers
  that a storage can serve are at most this times the seconds that a trial takes.
- "lost": milliseconds that a trial loses to the storage, median and 95th percentile: the calls
  themselves, and the waiting for other workers' calls in the same process.
- "makespan": the time that a study takes, against the time without any storage. Once it is above
  two, more workers are not tried.

Where workers demand fewer than five trials a second, their trials are shortened until they do, so
that there is something to measure; "makespan" is that of the whole trials. Processes and servers
share the machine's cores, so that real hosts get more out of a server. But each of them reads all
others' trials, and here all workers of a process read them once.

    python benchmarks/scale.py                                   # all, about 25 minutes
    python benchmarks/scale.py --storages Redis --stored 1000    # a part
    python benchmarks/scale.py --quick                           # does it run?
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from _compare import Record, add_json
from _hosts import Cell, Outcome, Place, fill, hosts_of, stored_trials
from _servers import grpc_server, new_database, postgres_server, redis_server
from _simulated import N_REPORTS
from _table import Figure, Row, version_of

from hpolab import Reporter, load_digits, make_study, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

STORAGES = ("SQLite", "journal", "PostgreSQL", "Redis", "gRPC")
WORKERS = (1, 4, 16, 64, 256, 1_000)
STORED = (1_000, 10_000, 100_000)
N_PROCESSES = (1, 2, 4, 8)
N_HOSTS = 4
MIN_RATE = 5.0  # trials a second
TOO_SLOW = 2.0  # makespan against the ideal at which more workers are not tried
ENOUGH = 1.05  # the same up to which a storage counts as enough


@dataclass
class Found:
    """What was measured of one storage, with one number of stored trials.

    Attributes:
        by_processes: Processes -> trials a second, back to back.
        by_workers: Simulated workers -> (lost per trial: median, 95th percentile; makespan).
    """

    by_processes: dict[int, float] = field(default_factory=dict)
    by_workers: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def enough_for(self) -> int:
        """The most workers whose study takes at most 5 % longer; 0 for none."""
        return max(
            (n for n, (*_, makespan) in self.by_workers.items() if makespan <= ENOUGH), default=0
        )


def measured_trainings(n_trials: int) -> list[list[float]]:
    """Run a study of a small network on digits; return the seconds of each trial's epochs."""
    from sklearn.neural_network import MLPClassifier

    images, y = load_digits()
    X = images.reshape(len(images), -1)
    trainings: list[list[float]] = []

    def objective(trial: optuna.Trial) -> float:
        model = MLPClassifier(
            (trial.suggest_int("hidden", 8, 128, log=True),),
            batch_size=trial.suggest_int("batch_size", 16, 128, log=True),
            random_state=0,
        )
        epochs, begin = [], time.perf_counter()
        with Reporter(trial) as reporter:
            for epoch in range(N_REPORTS):
                model.partial_fit(X[:1000], y[:1000], classes=range(10))
                reporter.report(model.score(X[1000:], y[1000:]), epoch)
                epochs.append(time.perf_counter() - begin)
                begin = time.perf_counter()
        trainings.append(epochs)
        return model.score(X[1000:], y[1000:])

    study = make_study("digits", storage="memory://", direction="maximize", pruner="none", seed=0)
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return trainings


def stretched(trainings: Sequence[Sequence[float]], mean_seconds: float) -> list[list[float]]:
    """Return trainings of the same shape that take so long on average."""
    factor = mean_seconds / statistics.mean(map(sum, trainings))
    return [[seconds * factor for seconds in epochs] for epochs in trainings]


class Benchmark:
    """Measures storages, each in a process of its own.

    Args:
        options: Of the command line.
        trainings: Seconds of each epoch of real trainings.
        folder: Where files and servers live.
    """

    def __init__(
        self, options: argparse.Namespace, trainings: Sequence[Sequence[float]], folder: Path
    ) -> None:
        self._options = options
        self._trainings = trainings
        self._folder = folder

    @contextlib.contextmanager
    def place(self, kind: str, of: str, n_stored: int) -> Iterator[Place]:
        """Start what a storage needs, and fill it."""
        name = f"{kind}_{of}_{n_stored}".lower()
        folder = self._folder / name
        folder.mkdir()
        folder.chmod(0o755)
        with contextlib.ExitStack() as stack:
            if kind == "SQLite":
                url = f"sqlite:///{folder}/s.db"
            elif kind == "journal":
                url = f"journal:///{folder}/s.log"
            elif kind == "Redis":
                url = f"{stack.enter_context(redis_server(folder))}/0"
            else:
                server = stack.enter_context(postgres_server(folder))
                url = new_database(server, "study")
            place = Place(kind, of, url, url)
            # By a process of its own: a process that has open connections cannot be forked.
            _in_process(_fill, place, n_stored)
            if kind == "gRPC":
                behind = url if of == "hpolab" else url.replace("://", "+psycopg://")
                place = Place(kind, of, stack.enter_context(grpc_server(folder, behind, of)), url)
            yield place
        shutil.rmtree(folder, ignore_errors=True)

    def measure(self, kind: str, of: str, n_stored: int) -> Found:
        """Measure one storage with one number of stored trials."""
        with self.place(kind, of, n_stored) as place:
            return _in_process(self._measure, place, n_stored)

    def _measure(self, place: Place, n_stored: int) -> Found:
        options, found = self._options, Found()
        began = time.monotonic()
        with hosts_of(place, max(N_HOSTS, *options.processes)) as hosts:
            self._say(place, n_stored, f"open after {time.monotonic() - began:.0f} s")
            for n in options.processes:
                cell = Cell(n, [[0.0] * N_REPORTS], 0.2, options.seconds / 2)
                rate = hosts.simulate(cell, n).n_ended / cell.seconds
                found.by_processes[n] = rate
                self._say(place, n_stored, f"{n} back to back: {rate:.1f} trials a second")
            for n in options.workers:
                rate = max(n / options.trial_seconds, MIN_RATE)
                trainings = stretched(self._trainings, n / rate)
                outcome = hosts.simulate(Cell(n, trainings, 1.0, options.seconds), N_HOSTS)
                found.by_workers[n] = _figures(outcome, n / rate, options.trial_seconds)
                makespan = found.by_workers[n][2]
                self._say(
                    place,
                    n_stored,
                    f"{n} workers: {_lost(found.by_workers[n])} ms lost a trial, "
                    f"makespan {makespan:.2f}",
                )
                if makespan > TOO_SLOW:
                    break
        return found

    def _say(self, place: Place, n_stored: int, what: str) -> None:
        print(
            f"  {place.kind}, {n_stored:,} stored, {place.of}: {what}", file=sys.stderr, flush=True
        )


def _fill(place: Place, n_stored: int) -> None:
    fill(place, stored_trials(n_stored))


def _figures(
    outcome: Outcome, cell_seconds: float, trial_seconds: float
) -> tuple[float, float, float]:
    """Return what a trial loses (median, 95th percentile) and the makespan against the ideal."""
    # Where no trial has ended in the cell, all that is known is how little was trained.
    lost = outcome.lost_by_trial() or [math.inf]
    # Of each trial's time, what is not trained is lost.
    share = outcome.trained_share
    mean = cell_seconds * (1 / share - 1) if share > 0 else math.inf
    return statistics.median(lost), lost[int(0.95 * len(lost))], 1 + mean / trial_seconds


def _in_process(function, *arguments):  # type: ignore[no-untyped-def]
    """Call a function in a fork of this process, and return what it returns."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} has failed, see above") from None
    finally:
        process.join()


def _call(connection: Connection, function, arguments) -> None:  # type: ignore[no-untyped-def]
    connection.send(function(*arguments))


def table(
    kind: str, n_stored: int, by_system: dict[str, Found], options: argparse.Namespace
) -> str:
    """Return the table of one storage with one number of stored trials."""
    title = f"{kind}, {n_stored:,} stored trials"
    lines = ["", title, "-" * len(title)]
    heads = [f"{n:,}" for n in options.workers]
    lines.append(_row("workers", heads))
    demand = [f"{n / options.trial_seconds:.2f}" for n in options.workers]
    lines.append(_row("demanded, trials/s", demand))
    for of, found in by_system.items():
        cells = [found.by_workers.get(n) for n in options.workers]
        lines.append(_row(f"{of}: lost, ms", [_shown(c, _lost) for c in cells]))
        lines.append(_row(f"{of}: makespan", [_shown(c, lambda c: f"{c[2]:.3f}") for c in cells]))
    lines.append(_row("processes", [str(n) for n in options.processes]))
    for of, found in by_system.items():
        rates = [f"{found.by_processes[n]:.1f}" for n in options.processes]
        lines.append(_row(f"{of}: back to back, trials/s", rates))
    return "\n".join(lines)


def _shown(cell, form) -> str:  # type: ignore[no-untyped-def]
    return "-" if cell is None else form(cell)


def _lost(figures: tuple[float, float, float]) -> str:
    median, high, _ = figures
    return "?" if math.isinf(median) else f"{1000 * median:.0f} ({1000 * high:.0f})"


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:32}" + "".join(f"{cell:>15}" for cell in cells)


def rows_of(kind: str, n_stored: int, by_system: dict[str, Found]) -> Iterator[Row]:
    """Yield the rows of one storage; there is none without both systems."""
    if not {"hpolab", "Optuna"} <= set(by_system):
        return
    ours, theirs = by_system["hpolab"], by_system["Optuna"]
    where = f"{kind}, {n_stored:,} stored trials"
    measured = [
        (f"rate-{n}", f"{where}: trials a second of {n} processes, back to back", "higher", a, b)
        for n, a in ours.by_processes.items()
        if (b := theirs.by_processes.get(n)) is not None
    ]
    measured += [
        (
            f"lost-{n}",
            f"{where}: lost to the storage with {n} workers, ms a trial",
            "lower",
            1000 * a[0],
            1000 * b[0],
        )
        for n, a in ours.by_workers.items()
        if (b := theirs.by_workers.get(n)) is not None and math.isfinite(a[0] + b[0])
    ]
    for key, question, better, a, b in measured:
        yield Row(
            f"{kind.lower()}-{key}",
            question,
            "Optuna",
            version_of("optuna"),
            ours=Figure.of([a]),
            theirs=Figure.of([b]),
            ratio=Figure.of([a / b]) if b else None,
            n_repeats=1,
            better=better,
        )


def verdict(found: dict[tuple[str, int], dict[str, Found]], options: argparse.Namespace) -> str:
    """Return the table that says where each storage stops being enough."""
    lines = [
        "",
        "Workers for whom a storage is enough, of " + ", ".join(f"{n:,}" for n in options.workers),
        f"(trials of {options.trial_seconds:g} s; the study takes {ENOUGH - 1:.0%} longer at most)",
        _row("", [f"{n:,} stored" for n in options.stored]),
    ]
    for of in options.systems:
        for kind in options.storages:
            cells = [f"{found[kind, n][of].enough_for:,}" for n in options.stored]
            lines.append(_row(f"{kind}, {of}", cells))
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; `--quick` is a set of small ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=STORAGES)
    parser.add_argument(
        "--systems", nargs="+", choices=("hpolab", "Optuna"), default=("hpolab", "Optuna")
    )
    parser.add_argument("--stored", nargs="+", type=int, default=STORED)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS)
    parser.add_argument("--processes", nargs="+", type=int, default=N_PROCESSES)
    parser.add_argument("--trial-seconds", type=float, default=60.0, help="mean of a training")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="small: does it run?")
    add_json(parser)
    options = parser.parse_args(arguments)
    if options.quick:
        options.stored, options.workers, options.processes = [100], [1, 8], [1, 2]
        options.seconds, options.trial_seconds = 0.8, 4.0
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parsed(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    began, record = time.monotonic(), Record(options.json)
    trainings = _in_process(measured_trainings, 4 if options.quick else 16)
    found: dict[tuple[str, int], dict[str, Found]] = {}
    with tempfile.TemporaryDirectory(prefix="hpolab-scale-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        benchmark = Benchmark(options, trainings, folder)
        for n_stored in options.stored:
            for kind in options.storages:
                found[kind, n_stored] = {
                    of: benchmark.measure(kind, of, n_stored) for of in options.systems
                }
                print(table(kind, n_stored, found[kind, n_stored], options), flush=True)
                record.add(*rows_of(kind, n_stored, found[kind, n_stored]))
    print(verdict(found, options))
    print(f"\n{(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
