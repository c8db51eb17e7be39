"""What a tracker costs: CPU time of a trial of ten reports, with and without each.

python benchmarks/trackers.py --n-trials 30

optuna-integration's MLflowCallback, which logs no reports, stands beside; all write to files in a
temporary folder. The time is this process's own: W&B's service is another one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import optuna

from hpolab import MLflowTracker, Reporter, TensorBoardTracker, WandbTracker, make_study, run


def objective(trial):
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    reporter = Reporter(trial)
    for step in range(10):
        reporter.report(lr / (step + 1), step)
    return lr


def measured(folder: Path, n_trials: int, trackers=(), callbacks=()) -> float:
    """Return the CPU seconds of a trial, without what is done once a study."""
    url = f"sqlite:///{folder / 'study.db'}"
    study = make_study("overhead", storage=url, sampler="random", pruner="none", seed=0)
    options = {"trackers": trackers, "callbacks": callbacks}
    run(study, objective, n_trials=1, **options)
    before = time.process_time()
    run(study, objective, n_trials=1 + n_trials, **options)
    return (time.process_time() - before) / n_trials


def main(n_trials: int = 30) -> None:
    from optuna_integration import MLflowCallback

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = {kind: root / kind for kind in ("none", "tb", "mlflow", "callback", "wandb")}
        for folder in folders.values():
            folder.mkdir()
        mlflow = f"sqlite:///{folders['mlflow'] / 'mlflow.db'}"
        theirs = f"sqlite:///{folders['callback'] / 'mlflow.db'}"
        wandb = WandbTracker("overhead", mode="offline", folder=str(folders["wandb"]))
        rows = {
            "no tracker": measured(folders["none"], n_trials),
            "TensorBoardTracker": measured(
                folders["tb"], n_trials, [TensorBoardTracker(folders["tb"] / "logs")]
            ),
            "MLflowTracker": measured(
                folders["mlflow"], n_trials, [MLflowTracker(tracking_uri=mlflow)]
            ),
            "optuna-integration's MLflowCallback": measured(
                folders["callback"], n_trials, callbacks=[MLflowCallback(tracking_uri=theirs)]
            ),
            "WandbTracker, offline": measured(folders["wandb"], n_trials, [wandb]),
        }
    for what, seconds in rows.items():
        print(f"{what:40s} {1000 * seconds:7.1f} ms a trial")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-trials", type=int, default=30)
    main(**vars(parser.parse_args()))
