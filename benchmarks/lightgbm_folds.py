"""Five folds: how much CPU time until hpolab has what the loop that people write has at its end?

The rival is the loop of most notebooks: TPE, and in each trial five times ``lgb.train`` on new
Datasets, each with early stopping, the mean of the five as its value. It runs its trials; then
hpolab's study runs until its best is as good, on the same folds, with the same ranges and rounds.
Both read their process's CPU time, one thread, and take turns.

    python benchmarks/lightgbm_folds.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from hpolab import LightGBMObjective, lightgbm_space, make_study, run

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MAX_ROUNDS, PATIENCE = 1000, 50


def load(table: str) -> tuple[pd.DataFrame, pd.Series]:
    if table == "synthetic":
        X, y = make_classification(8_000, 20, n_informative=10, flip_y=0.05, random_state=0)
        return pd.DataFrame(X).add_prefix("x"), pd.Series(y)
    frame = pd.read_csv(Path(os.environ["HPOLAB_DATA"]) / "tabular" / "adult.csv.gz")
    target = (frame.pop("income") == ">50K").astype(int)
    for column in frame.columns[frame.dtypes.map(lambda kind: kind.kind not in "iuf")]:
        frame[column] = frame[column].astype("category")
    return frame, target


def cpu_of_loop(X: pd.DataFrame, y: pd.Series, seed: int, n_trials: int) -> tuple[float, float]:
    """Return CPU seconds until the loop's best trial was done, and its value."""
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    space = lightgbm_space(n_rows=len(X) * 4 // 5)
    done: list[tuple[float, float]] = []
    started = time.process_time()

    def objective(trial: optuna.Trial) -> float:
        params = {"objective": "binary", "metric": "binary_logloss", "num_threads": 1}
        params |= {"verbosity": -1, "seed": seed, **space.suggest(trial)}
        values = []
        for train, valid in folds:
            dataset = lgb.Dataset(X.iloc[train], y.iloc[train])
            booster = lgb.train(
                params,
                dataset,
                num_boost_round=MAX_ROUNDS,
                valid_sets=[lgb.Dataset(X.iloc[valid], y.iloc[valid], reference=dataset)],
                callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
            )
            values.append(booster.best_score["valid_0"]["binary_logloss"])
        return float(np.mean(values))

    def note(study: optuna.Study, trial: FrozenTrial) -> None:
        done.append((time.process_time() - started, study.best_value))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=n_trials, callbacks=[note])
    best = done[-1][1]
    return next(cpu for cpu, value in done if value <= best), best


def cpu_of_hpolab(
    X: pd.DataFrame,
    y: pd.Series,
    seed: int,
    target: float,
    limit: float,
    pruner: str,
    fidelity: str,
) -> tuple[float, float, str]:
    """Return CPU seconds until a trial was as good as ``target``, the best value, and counts."""
    started = time.process_time()
    objective = LightGBMObjective(
        (X, y),
        objective="binary",
        folds=StratifiedKFold(5, shuffle=True, random_state=0),
        max_rounds=MAX_ROUNDS,
        fidelity=fidelity,
    )
    study = make_study("folds", storage="memory://", objective=objective, pruner=pruner, seed=seed)
    reached = False

    def note(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal reached
        cpu = time.process_time() - started
        reached = any(t.state.name == "COMPLETE" for t in study.trials) and (
            study.best_value <= target
        )
        if reached or cpu > limit:
            study.stop()

    run(study, objective, n_trials=10_000, callbacks=[note])
    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    counts = f"{len(study.trials)} trials, {pruned} pruned" + ("" if reached else ", NOT REACHED")
    return time.process_time() - started, study.best_value, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=25, help="Trials of the rival.")
    parser.add_argument("--pruner", default="race")
    parser.add_argument("--fidelity", default="folds")
    parser.add_argument("--tables", nargs="+", default=["adult", "synthetic"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for table in arguments.tables:
        X, y = load(table)
        ratios = []
        for seed in range(arguments.seeds):
            loop_cpu, target = cpu_of_loop(X, y, seed, arguments.trials)
            cpu, value, counts = cpu_of_hpolab(
                X, y, seed, target, 2 * loop_cpu, arguments.pruner, arguments.fidelity
            )
            ratios.append(cpu / loop_cpu)
            print(
                f"{table:10} seed {seed}  loop {target:.5f} in {loop_cpu:.1f} s CPU   "
                f"hpolab {value:.5f} in {cpu:.1f} s CPU ({counts})   ratio {ratios[-1]:.2f}",
                flush=True,
            )
        print(
            f"{table:10} CPU time to the same best, hpolab / loop (target 0.5): "
            f"{statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
        )


if __name__ == "__main__":
    main()
