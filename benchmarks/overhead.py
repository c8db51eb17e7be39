"""What does `run` cost beside plain `study.optimize`?

The same objective, sampler (TPE) and kind of storage; hpolab opens the storage by its URL, the
rival as an Optuna user would. In memory the objective takes 50 ms, as a very quick training does;
on SQLite and the journal it takes no time and reports ten values, so that only overhead is left.

    python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import warnings
from pathlib import Path

import optuna
from _compare import Record, add_json, compare
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hpolab import make_study, run


def train(trial: optuna.Trial, *, seconds: float, n_reports: int) -> float:
    """Suggest two parameters, work, report."""
    x, y = trial.suggest_float("x", -1, 1), trial.suggest_float("y", -1, 1)
    for step in range(n_reports):
        trial.report(x**2 + y**2, step)
    time.sleep(seconds)
    return x**2 + y**2


def main() -> None:
    """Run the three comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--trials", type=int, default=60)
    add_json(parser)
    args = parser.parse_args()
    record = Record(args.json)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    fresh = itertools.count()

    with tempfile.TemporaryDirectory() as folder:

        def path(suffix: str) -> Path:
            return Path(folder) / f"{next(fresh)}.{suffix}"

        def ours(url: str, seconds: float, n_reports: int) -> None:
            study = make_study("s", storage=url, sampler="tpe", pruner="none", seed=0)
            run(
                study,
                lambda trial: train(trial, seconds=seconds, n_reports=n_reports),
                n_trials=args.trials,
                show_progress_bar=False,
            )

        def rival(storage: str | JournalStorage | None, seconds: float, n_reports: int) -> None:
            study = optuna.create_study(
                storage=storage,
                sampler=optuna.samplers.TPESampler(seed=0),
                pruner=optuna.pruners.NopPruner(),
            )
            study.optimize(
                lambda trial: train(trial, seconds=seconds, n_reports=n_reports),
                n_trials=args.trials,
            )

        compare(
            "memory, 50 ms objective, no report",
            lambda: ours("memory://", 0.05, 0),
            lambda: rival(None, 0.05, 0),
            n_repeats=args.repeats,
            per=args.trials,
            target="(target: wall <= 1.05)",
            record=record,
            key="run-in-memory",
            question="run in memory, an objective of 50 ms",
        )
        compare(
            "SQLite, ten reports",
            lambda: ours(f"sqlite:///{path('db')}", 0, 10),
            lambda: rival(f"sqlite:///{path('db')}", 0, 10),
            n_repeats=args.repeats,
            per=args.trials,
            target="(target: wall <= 1.0)",
            record=record,
            key="run-on-sqlite",
            question="run on SQLite, ten reports a trial and nothing else",
        )
        compare(
            "journal, ten reports",
            lambda: ours(f"journal:///{path('log')}", 0, 10),
            lambda: rival(JournalStorage(JournalFileBackend(str(path("log")))), 0, 10),
            n_repeats=args.repeats,
            per=args.trials,
            record=record,
            key="run-on-journal",
            question="run on a journal file, ten reports a trial and nothing else",
        )
    record.finish()


if __name__ == "__main__":
    main()
