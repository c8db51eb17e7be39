"""What does a LightGBM trial cost, with the same configurations in both?

The rival makes a new Dataset in each trial and evaluates after every round, as most notebooks do;
hpolab shares the bins and evaluates every five rounds (at learning rate 0.1). Same rows, same
configurations, same rounds, one thread. ``--folds 5`` compares five-fold trials.

    python benchmarks/lightgbm_trials.py --table adult
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from _compare import compare
from sklearn.datasets import make_classification
from sklearn.model_selection import KFold

from hpolab import LightGBMObjective, make_study, run

MAX_ROUNDS, PATIENCE = 300, 50


def load(table: str) -> tuple[pd.DataFrame, pd.Series, str, str]:
    if table == "synthetic":
        X, y = make_classification(100_000, 50, n_informative=20, flip_y=0.05, random_state=0)
        return pd.DataFrame(X).add_prefix("x"), pd.Series(y), "binary", "binary_logloss"
    folder = Path(os.environ["HPOLAB_DATA"]) / "tabular"
    if table == "california":
        frame = pd.read_csv(folder / "california_housing.csv.gz")
        return frame, frame.pop("MedHouseVal"), "regression", "rmse"
    frame = pd.read_csv(folder / "adult.csv.gz")
    target = (frame.pop("income") == ">50K").astype(int)
    for column in frame.columns[frame.dtypes.map(lambda kind: kind.kind not in "iuf")]:
        frame[column] = frame[column].astype("category")
    return frame, target, "binary", "binary_logloss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=("california", "adult", "synthetic"), required=True)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    X, y, objective_name, metric = load(arguments.table)
    splits = list(KFold(max(arguments.folds, 5), shuffle=True, random_state=0).split(X))
    folds = splits[: arguments.folds]

    def new_objective() -> LightGBMObjective:
        return LightGBMObjective(
            (X, y), objective=objective_name, metric=metric, folds=folds, max_rounds=MAX_ROUNDS
        )

    space = new_objective().search_space
    rng = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configurations = [space.suggest(rng.ask()) for _ in range(arguments.trials)]

    def ours() -> None:
        # Reading and binning the table once is part of it.
        study = make_study("trials", storage="memory://", sampler="manual", pruner="none")
        for params in configurations:
            study.enqueue_trial(space.to_trial(params))
        run(study, new_objective())

    def rival() -> None:
        study = optuna.create_study()

        def objective(trial: optuna.Trial) -> float:
            params = {"objective": objective_name, "metric": metric, "verbosity": -1}
            params |= {"num_threads": 1, **space.suggest(trial)}
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
                values.append(booster.best_score["valid_0"][metric])
            return float(np.mean(values))

        for params in configurations:
            study.enqueue_trial(space.to_trial(params))
        study.optimize(objective, n_trials=len(configurations))

    what = "hold-out" if arguments.folds == 1 else f"{arguments.folds} folds"
    compare(
        f"{arguments.table}, {what}, {MAX_ROUNDS} rounds at most",
        ours,
        rival,
        n_repeats=arguments.repeats,
        per=arguments.trials,
        target="target 0.667 (1.5 times the trials)",
    )


if __name__ == "__main__":
    main()
