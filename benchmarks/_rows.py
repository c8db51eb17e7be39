"""Rows of the table from scripts whose ``--json`` holds one record for each run."""

from __future__ import annotations

import functools
import json
import math
import statistics
from typing import TYPE_CHECKING, Any

from _compare import reason_without, version_in
from _table import NOT_INSTALLED, Figure, Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Version = Callable[[str], str]

Runs = list[dict[str, Any]]

# Tuner -> the package whose version is told.
TUNERS = {"plain Optuna": "optuna", "LightGBMTuner": "optuna-integration", "FLAML": "flaml"}


def read_rows(path: Path, script: str, python: Path, reason: str = "") -> list[Row]:
    """Return the rows that a script has saved.

    Args:
        path: What it was told to save them in.
        script: Its name.
        python: The Python that ran it, whose packages' versions are told.
        reason: Why peers are missing there.
    """
    kept = json.loads(path.read_text())
    if not isinstance(kept, list):
        return Table.read(path).rows
    version = functools.cache(functools.partial(version_in, python))
    return list(READERS[script](kept, version, reason))


def mnist_rows(runs: Runs, version: Version, reason: str) -> Iterator[Row]:
    """Yield the rows of `mnist_study.py`."""
    n_trials, of = runs[0]["n_trials"], {}
    for side in ("hpolab", "Optuna"):
        of[side] = sorted((run for run in runs if run["side"] == side), key=lambda run: run["seed"])
    pairs = list(zip(of["hpolab"], of["Optuna"], strict=True))
    for key, question, unit, better, read in (
        ("study", f"MNIST study of {n_trials} trials, start to end", "s", "lower", seconds_of),
        ("epoch", "an epoch of that study", "s", "lower", epoch_seconds_of),
        ("accuracy", "its best configuration on MNIST's test images", "", "higher", accuracy_of),
    ):
        yield Row.of_pairs(
            key,
            question,
            [(read(ours), read(theirs)) for ours, theirs in pairs],
            peer="Optuna",
            peer_version=version("optuna"),
            unit=unit,
            better=better,
        )


def seconds_of(run: dict[str, Any]) -> float:
    return run["seconds"]


def epoch_seconds_of(run: dict[str, Any]) -> float:
    return run["seconds"] / run["n_epochs"]


def accuracy_of(run: dict[str, Any]) -> float:
    return run["test"]


def lightgbm_rows(runs: Runs, version: Version, reason: str) -> Iterator[Row]:
    """Yield the rows of `lightgbm_tuners.py`, of the longest time: mean ranks, then each table."""
    seconds = max(run["seconds"] for run in runs)
    at = [run for run in runs if run["seconds"] == seconds]
    scores = {(run["tuner"], run["table"], run["seed"]): run["test"] for run in at}
    tasks = list(dict.fromkeys((run["table"], run["seed"]) for run in at))
    tables, seeds = ({task[i] for task in tasks} for i in (0, 1))
    there = list(dict.fromkeys(run["tuner"] for run in at))
    ranks = {
        tuner: [rank([scores[t, *task] for t in there], scores[tuner, *task]) for task in tasks]
        for tuner in there
    }
    note = f"{seconds:.0f} seconds of one thread, {len(tables)} tables, {len(seeds)} seeds"
    question = f"LightGBM in {seconds:.0f} s on {len(tables)} tables: held-out score"
    for peer, package in TUNERS.items():
        if peer not in there:
            why = reason or reason_without(package)
            yield Row("rank", question, peer, status=NOT_INSTALLED, note=why)
            continue
        yield Row(
            "rank",
            question,
            peer,
            version(package),
            unit=f"mean rank of {len(there)}",
            ours=Figure.of([statistics.mean(ranks["hpolab"])]),
            theirs=Figure.of([statistics.mean(ranks[peer])]),
            n_repeats=len(tasks),
            note=note,
        )
    for table in dict.fromkeys(table for table, _ in tasks):
        for peer, package in TUNERS.items():
            of_seeds = [seed for name, seed in tasks if name == table and peer in there]
            pairs = [(scores["hpolab", table, s], scores[peer, table, s]) for s in of_seeds]
            # A tuner without any model in time has no score; its rank says so.
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if pairs:
                yield Row.of_pairs(
                    table,
                    f"{table}: held-out loss or RMSE",
                    pairs,
                    peer=peer,
                    peer_version=version(package),
                    note=note,
                )


def rank(scores: list[float], score: float) -> float:
    """Return the rank of a score among all, 1 for the lowest; equal ones share theirs."""
    n_lower = sum(other < score for other in scores)
    n_equal = sum(other == score for other in scores)
    return n_lower + (n_equal + 1) / 2


READERS: dict[str, Callable[[Runs, Version, str], Iterator[Row]]] = {
    "mnist_study.py": mnist_rows,
    "lightgbm_tuners.py": lightgbm_rows,
}
