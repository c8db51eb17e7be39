"""How long does it take to look at a study of 100,000 trials, and to load it?

`hpolab status` as a whole command, beside a program that counts the trials by Optuna; and
`load_study` with its trials, beside Optuna's on its own storage. CPU seconds of the process, its
start included; those of Redis and PostgreSQL are not counted. Each trial has five params, five
reports and an attribute.

    python benchmarks/large_study.py
    python benchmarks/large_study.py --trials 10000 --storages sqlite journal
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
from _compare import Record, add_json
from _servers import new_database, postgres_server, redis_server
from _table import Row, version_of
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpolab import make_study
from hpolab._optuna import place
from hpolab.storage.bulk import write_trials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.trial import FrozenTrial

SPACE = {f"x{n}": FloatDistribution(-1, 1) for n in range(5)}

STATUS = "from hpolab.cli import app; app(['status', '-s', URL])"
LOADING = "import hpolab; len(hpolab.load_study('large', storage=URL).get_trials(deepcopy=False))"

# Optuna's own storage for each URL, as its documentation makes them.
OPTUNA = """
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend
optuna.logging.set_verbosity(optuna.logging.ERROR)
scheme = URL.partition(":")[0]
if scheme == "journal":
    storage = JournalStorage(JournalFileBackend(URL.removeprefix("journal:///")))
elif scheme == "redis":
    storage = JournalStorage(JournalRedisBackend(URL))
else:
    storage = URL.replace("postgresql://", "postgresql+psycopg://")
study = optuna.load_study(study_name="large", storage=storage)
trials = study.get_trials(deepcopy=False)
"""
COUNTING = OPTUNA + "import collections; collections.Counter(t.state for t in trials)\n"


def trials_of(n_trials: int) -> list[FrozenTrial]:
    """Return complete trials."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(n_trials):
        values = [float(value) for value in rng.uniform(-1, 1, 11)]
        trial = create_trial(
            params=dict(zip(SPACE, values[:5], strict=True)),
            distributions=SPACE,
            intermediate_values=dict(enumerate(values[5:10])),
            user_attrs={"hpolab:note": {"seconds": values[10]}},
            value=values[10],
        )
        trial.number = number
        trials.append(trial)
    return trials


@contextlib.contextmanager
def opened(storage: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty storage."""
    match storage:
        case "sqlite":
            yield f"sqlite:///{folder}/large.db"
        case "journal":
            yield f"journal:///{folder}/large.log"
        case "redis":
            with redis_server(folder) as url:
                yield f"{url}/0"
        case _:
            with postgres_server(folder) as url:
                yield new_database(url, "large")


def cpu_seconds(program: str, url: str) -> float:
    """Return the CPU seconds of a program that finds the URL in URL."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", "-c", f"URL = {url!r}\n{program}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    storages = ["sqlite", "journal", "redis", "postgresql"]
    parser.add_argument("--storages", nargs="+", choices=storages, default=storages)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    add_json(parser)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    record = Record(arguments.json)
    programs = {"status": STATUS, "counting": COUNTING, "load": LOADING, "Optuna's load": OPTUNA}
    print(f"CPU seconds, {arguments.trials:,} trials; medians of {arguments.repeats}")
    print(f"{'storage':<12}" + "".join(f"{name:>15}" for name in programs) + f"{'ratio':>8}")
    trials = trials_of(arguments.trials)
    for storage in arguments.storages:
        with tempfile.TemporaryDirectory() as folder, opened(storage, Path(folder)) as url:
            study = make_study("large", storage=url, sampler="random", seed=0)
            # Redis-py refuses what is sent in one piece of a gigabyte.
            for first in range(0, len(trials), 10_000):
                write_trials(*place(study), trials[first : first + 10_000])
            # Optuna keeps Redis's journal under keys of its own; what is not there is not read.
            shown = {
                name: program
                for name, program in programs.items()
                if storage != "redis" or "optuna.load_study" not in program
            }
            found = {name: [] for name in shown}
            for _ in range(arguments.repeats):
                for name, program in shown.items():
                    found[name].append(cpu_seconds(program, url))
        for row in rows_of(storage, arguments.trials, found):
            record.add(row)
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        cells = [
            f"{medians[name]:>15.2f}" if name in medians else f"{'-':>15}" for name in programs
        ]
        ratio = medians["load"] / medians["Optuna's load"] if "Optuna's load" in medians else None
        cells.append(f"{'-':>8}" if ratio is None else f"{ratio:>8.2f}")
        print(f"{storage:<12}" + "".join(cells), flush=True)


def rows_of(storage: str, n_trials: int, found: dict[str, list[float]]) -> Iterator[Row]:
    """Yield the rows of one storage; there is none without both sides."""
    name = {"sqlite": "SQLite", "journal": "journal file", "redis": "Redis"}.get(storage, storage)
    size = f"a study of {n_trials:,} trials"
    for key, asked, ours, theirs in (
        ("load", f"loading {size}, with imports", "load", "Optuna's load"),
        ("status", f"hpolab status of {size}, beside counting by Optuna", "status", "counting"),
    ):
        if theirs in found:
            yield Row.of_pairs(
                f"{key}-{storage}",
                f"{name}: {asked}",
                list(zip(found[ours], found[theirs], strict=True)),
                peer="Optuna",
                peer_version=version_of("optuna"),
                unit="CPU s",
            )


if __name__ == "__main__":
    main()
