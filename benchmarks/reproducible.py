"""What does `reproducible=True` cost in waiting?

Trials of random length (log-normal, so that some take several times the median) in four worker
processes, with and without. The trials sleep, so that two cores do for four workers.

    python benchmarks/reproducible.py
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from pathlib import Path

import optuna
from _compare import compare

from hpolab import make_study, run


def main() -> None:
    """Compare at three spreads of the trials' length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fresh = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        for sigma in (0.0, 0.5, 1.0):

            def study_of(reproducible: bool, sigma: float = sigma) -> None:
                def objective(trial: optuna.Trial) -> float:
                    x = trial.suggest_float("x", -1, 1)
                    time.sleep(0.3 * random.Random(trial.number).lognormvariate(0, sigma))
                    return x**2

                url = f"sqlite:///{Path(folder) / str(next(fresh))}.db"
                run(
                    make_study("s", storage=url, sampler="random", pruner="none"),
                    objective,
                    n_trials=args.trials,
                    n_workers=args.workers,
                    reproducible=reproducible,
                )

            compare(
                f"reproducible against not, {args.workers} workers, length 0.3 s, sigma {sigma}",
                lambda study_of=study_of: study_of(True),
                lambda study_of=study_of: study_of(False),
                n_repeats=args.repeats,
                per=args.trials,
            )


if __name__ == "__main__":
    main()
