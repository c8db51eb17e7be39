"""Does a trial cost more the more trials its study has?

The CPU time of a trial of an empty objective, in a study that has 100 to 100,000 trials already:
`hpolab.run` beside Optuna's `study.optimize`, on the same storage and with the same sampler,
alternating. Studies are filled in bulk. Redis and PostgreSQL come from wheels and are started here;
their own CPU time is not counted, only the worker's.

    python benchmarks/growth.py
    python benchmarks/growth.py --storages memory --samplers tpe gp --sizes 1000 5000
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
from _compare import Record, add_json
from _servers import postgres_server, redis_server
from _table import Row, version_of
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpolab import make_study, run
from hpolab._optuna import place
from hpolab.storage.bulk import write_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

SAMPLERS = {
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
}
SPACE = {name: FloatDistribution(-1, 1) for name in ("x", "y")}

# A trial of Optuna's takes longer than this many seconds on a large study; fewer are run there.
PATIENCE_SECONDS = 10.0


def objective(trial: optuna.Trial) -> float:
    """Return at once."""
    return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", -1, 1) ** 2


def finished_trials(first: int, last: int) -> list[FrozenTrial]:
    """Return complete trials of the objective with these numbers."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(first, last):
        x, y = (float(value) for value in rng.uniform(-1, 1, 2))
        trial = create_trial(params={"x": x, "y": y}, distributions=SPACE, value=x**2 + y**2)
        trial.number = number
        trials.append(trial)
    return trials


def filled(url: str, sampler: str, n_trials: int) -> Study:
    """Make a study that has this many trials."""
    study = make_study(f"growth-{sampler}-{n_trials}", storage=url, sampler=sampler, seed=0)
    run(study, objective, n_trials=1)
    write_trials(*place(study), finished_trials(1, n_trials))
    return study


def cpu_ms(run_trials: Callable[[int], None], n_trials: int) -> float:
    """Return the CPU milliseconds of a trial."""
    started = time.process_time()
    run_trials(n_trials)
    return 1000 * (time.process_time() - started) / n_trials


def measure(study: Study, sampler: str, n_trials: int, repeats: int) -> list[tuple[float, float]]:
    """Return CPU milliseconds of a trial, in turn: hpolab's, Optuna's."""
    plain = optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=SAMPLERS[sampler](seed=0)
    )

    def ours(n: int) -> None:
        run(study, objective, n_trials=len(study.get_trials(deepcopy=False)) + n)

    def theirs(n: int) -> None:
        plain.optimize(objective, n_trials=n)

    for warm_up in (ours, theirs):
        warm_up(2)
    n_theirs = max(2, min(n_trials, int(1000 * PATIENCE_SECONDS / cpu_ms(theirs, 1) / repeats)))
    return [(cpu_ms(ours, n_trials), cpu_ms(theirs, n_theirs)) for _ in range(repeats)]


@contextlib.contextmanager
def opened(storage: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty storage."""
    match storage:
        case "memory":
            yield "memory://"
        case "sqlite":
            yield f"sqlite:///{folder}/growth.db"
        case "journal":
            yield f"journal:///{folder}/growth.log"
        case "redis":
            with redis_server(folder) as url:
                yield url
        case _:
            with postgres_server(folder) as url:
                yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    storages = ["memory", "sqlite", "journal", "redis", "postgresql"]
    parser.add_argument("--storages", nargs="+", choices=storages, default=storages[:3])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["random", "qmc", "tpe"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--trials", type=int, default=100, help="measured at once")
    parser.add_argument("--repeats", type=int, default=3)
    add_json(parser)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("hpolab").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    record = Record(arguments.json)
    print("CPU ms a trial; growth: against the study of 1,000 trials, or the smallest")
    print(f"{'storage':<12}{'sampler':<9}{'trials':>8}{'hpolab':>9}{'growth':>8}", end="")
    print(f"{'Optuna':>9}{'growth':>8}")
    for storage in arguments.storages:
        for sampler in arguments.samplers:
            base = None
            for size in arguments.sizes:
                with tempfile.TemporaryDirectory() as folder, opened(storage, Path(folder)) as url:
                    study = filled(url, sampler, size)
                    pairs = measure(study, sampler, arguments.trials, arguments.repeats)
                found = tuple(statistics.median(side) for side in zip(*pairs, strict=True))
                record.add(row_of(storage, sampler, size, pairs))
                if base is None or size == 1_000:
                    base = found
                ours, theirs = (f"{a:>9.2f}{a / b:>8.2f}" for a, b in zip(found, base, strict=True))
                print(f"{storage:<12}{sampler:<9}{size:>8,}{ours}{theirs}", flush=True)


def row_of(storage: str, sampler: str, size: int, pairs: list[tuple[float, float]]) -> Row:
    where = "memory" if storage == "memory" else storage
    name = {"tpe": "TPE", "gp": "GP", "qmc": "QMC"}.get(sampler, sampler)
    return Row.of_pairs(
        f"growth-{sampler}-{size}" if storage == "memory" else f"growth-{storage}-{sampler}-{size}",
        f"an empty trial in a study of {size:,} in {where}, {name} sampler",
        pairs,
        peer="Optuna",
        peer_version=version_of("optuna"),
        unit="CPU ms",
    )


if __name__ == "__main__":
    main()
