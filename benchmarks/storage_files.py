"""What do the file storages cost and stand, beside Optuna's own?

- SQLite: a trial of ten reports, reports written together and one by one, against Optuna's
  ``sqlite:///``.
- SQLite: eight processes open one new file at the same instant; how many of them crash?
- Journal: a trial of ten reports; what the sync to the disk costs; how turns are shared out among
  eight processes that append as fast as they can.

    python benchmarks/storage_files.py
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from _compare import Record, add_json, compare
from _table import Figure, Row, version_of
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from hpolab.storage.journal import JournalFile
from hpolab.storage.sqlite import SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend

N_WORKERS = 8
SECONDS = 3.0

FILES: dict[str, Callable[[Path], BaseJournalBackend]] = {
    "hpolab": JournalFile,
    "Optuna, symbolic link": lambda path: JournalFileBackend(str(path)),
    "Optuna, open": lambda path: JournalFileBackend(str(path), JournalFileOpenLock(str(path))),
}
DATABASES: dict[str, Callable[[Path], BaseStorage]] = {
    "hpolab": SQLiteStorage,
    "Optuna": lambda path: RDBStorage(f"sqlite:///{path}"),
}


def ten_reports(storage: BaseStorage, n_trials: int, *, buffered: bool = False) -> None:
    """Run a study whose objective does nothing but suggest two parameters and report ten times."""
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
    )

    def objective(trial: optuna.Trial) -> float:
        if buffered:
            storage.buffer_reports(trial._trial_id)
        x, y = trial.suggest_float("x", -1, 1), trial.suggest_float("y", -1, 1)
        for step in range(10):
            trial.report(x**2 + y**2, step)
        return x**2 + y**2

    study.optimize(objective, n_trials=n_trials)


def at_once(worker: Callable[..., None], *arguments: object) -> list[int]:
    """Run a function in eight processes from the same instant on; return what each has put."""
    context = multiprocessing.get_context("fork")
    results, barrier = context.Queue(), context.Barrier(N_WORKERS)
    workers = [
        context.Process(target=worker, args=(results, barrier, *arguments))
        for _ in range(N_WORKERS)
    ]
    for each in workers:
        each.start()
    answers = [results.get() for _ in workers]
    for each in workers:
        each.join()
    return answers


def open_database(results: multiprocessing.Queue, barrier: object, kind: str, path: Path) -> None:
    """Put 1 if opening a new file crashes, otherwise 0."""
    barrier.wait()
    try:
        DATABASES[kind](path)
    except Exception:  # noqa: BLE001 - any error is a crash
        results.put(1)
    else:
        results.put(0)


def append(results: multiprocessing.Queue, barrier: object, kind: str, path: Path) -> None:
    """Put how many appends this process has got through in three seconds."""
    file = FILES[kind](path)
    report = {"op_code": 7, "worker_id": "a" * 40, "trial_id": 1, "step": 2}
    barrier.wait()
    end = time.monotonic() + SECONDS
    n_appends = 0
    while time.monotonic() < end:
        file.append_logs([{**report, "intermediate_value": 0.5}])
        n_appends += 1
    results.put(n_appends)


def main(arguments: list[str] | None = None) -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--trials", type=int, default=40)
    add_json(parser)
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    warnings.simplefilter("ignore")
    fresh = itertools.count()
    record = Record(args.json)
    with tempfile.TemporaryDirectory() as folder:

        def path() -> Path:
            return Path(folder) / f"study-{next(fresh)}"

        for key, title, buffered, target, asked in (
            (
                "sqlite",
                "SQLite, ten reports, written together",
                True,
                "(target: wall <= 0.5)",
                "SQLite: a trial of ten reports, no pruner",
            ),
            (
                "sqlite-pruner",
                "SQLite, ten reports, one by one",
                False,
                "",
                "SQLite: the same with a pruner of your own, whose reports cannot wait",
            ),
        ):
            compare(
                title,
                lambda: ten_reports(DATABASES["hpolab"](path()), args.trials, buffered=buffered),  # noqa: B023
                lambda: ten_reports(DATABASES["Optuna"](path()), args.trials),
                n_repeats=args.repeats,
                per=args.trials,
                target=target,
                record=record,
                key=key,
                question=asked,
            )
        compare(
            "journal, ten reports",
            lambda: ten_reports(JournalStorage(FILES["hpolab"](path())), args.trials),
            lambda: ten_reports(
                JournalStorage(FILES["Optuna, symbolic link"](path())), args.trials
            ),
            n_repeats=args.repeats,
            per=args.trials,
            record=record,
            key="journal",
            question="journal file: a trial of ten reports",
        )
        sync = os.fsync
        for title, each in (("with", sync), ("without", lambda _: None)):
            os.fsync = each
            file = JournalFile(path())
            start = time.perf_counter()
            for _ in range(500):
                file.append_logs([{"op_code": 7, "trial_id": 1, "step": 2}])
            print(f"journal, an append {title} fsync: {2 * (time.perf_counter() - start):.3f} ms")
        os.fsync = sync
        shares = {}
        for kind in FILES:
            turns = sorted(at_once(append, kind, path()))
            share = shares[kind] = turns[0] / statistics.mean(turns)
            print(
                f"journal, {N_WORKERS} processes, {SECONDS:.0f} s, {kind}: {turns}; "
                f"the worst gets {share:.2f} of the mean"
                f"{'   (target: >= 0.5)' if kind == 'hpolab' else ''}"
            )
        record.add(
            counted(
                "journal-turns",
                "journal file: appends of the worst of eight processes, as a share of the mean",
                shares["hpolab"],
                shares["Optuna, symbolic link"],
                better="higher",
            )
        )
        n_crashes = {}
        for kind in DATABASES:
            crashes = [sum(at_once(open_database, kind, path())) for _ in range(5)]
            n_crashes[kind] = sum(crashes)
            print(f"SQLite, {N_WORKERS} processes open a new file, {kind}: {crashes} crashes")
    record.add(
        counted(
            "sqlite-open",
            f"SQLite: crashes when {N_WORKERS} processes open one new file, of {5 * N_WORKERS}",
            n_crashes["hpolab"],
            n_crashes["Optuna"],
        )
    )
    record.finish()


def counted(key: str, question: str, ours: float, theirs: float, *, better: str = "lower") -> Row:
    """Return a row of what was counted once."""
    return Row(
        key,
        question,
        "Optuna",
        version_of("optuna"),
        ours=Figure.of([ours]),
        theirs=Figure.of([theirs]),
        n_repeats=1,
        better=better,
    )


if __name__ == "__main__":
    main()
