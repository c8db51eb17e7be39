"""What is left of a study that is killed three times with SIGKILL and started again?

hpolab, plain Optuna, Ray Tune and FLAML tune the same small training: 20 trials of 10 epochs, one
at a time, seed 0. Each resumes in the way that its documentation shows: Optuna by heartbeat and
`RetryHeartbeatStaleTrialCallback`, with checkpoints written by hand and `MaxTrialsCallback`; Ray
Tune by `Tuner.restore` with a checkpoint each epoch; FLAML by `points_to_evaluate` and
`evaluated_rewards`, as it keeps no state of its own. Each is run once without a kill as well.

    pip install 'ray[tune]' 'flaml[automl]'
    python benchmarks/after_a_kill.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

N_TRIALS, N_EPOCHS = 20, 10
LOW, HIGH = 1e-4, 1e-1
KILLED_AFTER = (45, 97, 149)  # epochs trained, in all processes together: each in mid-trial


def train_epochs(
    folder: Path, lr: float, state: Mapping[str, float] | None
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train: a quadratic bowl, whose state is its one weight. Each epoch is written to a file."""
    weight, first = (5.0, 0) if state is None else (state["weight"], int(state["epoch"]) + 1)
    for epoch in range(first, N_EPOCHS):
        time.sleep(0.05)
        weight -= 2 * lr * weight
        with (folder / "epochs").open("a") as log:
            print(lr, epoch, file=log)
        yield epoch, {"weight": weight, "epoch": float(epoch)}


def tune_by_hpolab(folder: Path) -> list[tuple[float, float]]:
    import pickle

    from hpolab import Reporter, make_study, run

    def objective(trial: Any) -> float:
        lr = trial.suggest_float("lr", LOW, HIGH, log=True)
        with Reporter(trial, checkpoint_seconds=0) as reporter:
            kept = reporter.restore()
            for epoch, state in train_epochs(folder, lr, kept and pickle.loads(kept)):
                packed = pickle.dumps(state)
                reporter.report(state["weight"], epoch, state=lambda packed=packed: packed)
        return float(reporter.best_value)

    study = make_study(
        "killed",
        storage=f"sqlite:///{folder}/study.db",
        direction="minimize",
        pruner="none",
        seed=0,
    )
    run(study, objective, n_trials=N_TRIALS)
    return [(t.params["lr"], t.value) for t in study.trials if t.value is not None]


def tune_by_optuna(folder: Path) -> list[tuple[float, float]]:
    import optuna
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.study import MaxTrialsCallback

    def objective(trial: Any) -> float:
        lr = trial.suggest_float("lr", LOW, HIGH, log=True)
        # It reads what only a FrozenTrial has.
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        retried = RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
        file = folder / f"{trial.number if retried is None else retried}.json"
        kept = json.loads(file.read_text()) if file.exists() else None
        weight = 5.0 if kept is None else kept["weight"]
        for epoch, state in train_epochs(folder, lr, kept):
            weight = state["weight"]
            file.write_text(json.dumps(state))
            trial.report(weight, epoch)
        return weight

    study = optuna.create_study(
        study_name="killed",
        storage=RDBStorage(
            f"sqlite:///{folder}/study.db",
            heartbeat_interval=1,
            grace_period=2,
            failed_trial_callback=RetryHeartbeatStaleTrialCallback(),
        ),
        sampler=optuna.samplers.TPESampler(seed=0),
        load_if_exists=True,
    )
    study.optimize(objective, callbacks=[MaxTrialsCallback(N_TRIALS)])
    return [(t.params["lr"], t.value) for t in study.trials if t.value is not None]


def tune_by_ray(folder: Path) -> list[tuple[float, float]]:
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, float]) -> None:
        checkpoint, kept = tune.get_checkpoint(), None
        if checkpoint:
            with checkpoint.as_directory() as at:
                kept = json.loads((Path(at) / "state.json").read_text())
        for _, state in train_epochs(folder, config["lr"], kept):
            with tempfile.TemporaryDirectory() as at:
                (Path(at) / "state.json").write_text(json.dumps(state))
                tune.report(
                    {"value": state["weight"]}, checkpoint=tune.Checkpoint.from_directory(at)
                )

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    at = folder / "ray" / "killed"
    if tune.Tuner.can_restore(str(at)):
        tuner = tune.Tuner.restore(str(at), trainable, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={"lr": tune.loguniform(LOW, HIGH)},
            tune_config=tune.TuneConfig(
                metric="value",
                mode="min",
                search_alg=OptunaSearch(seed=0),
                num_samples=N_TRIALS,
                max_concurrent_trials=1,
            ),
            run_config=tune.RunConfig(name="killed", storage_path=str(folder / "ray"), verbose=0),
        )
    found = tuner.fit()
    return [(each.config["lr"], each.metrics["value"]) for each in found if each.metrics]


def tune_by_flaml(folder: Path) -> list[tuple[float, float]]:
    from flaml import tune

    file = folder / "done.json"
    done: list[tuple[float, float]] = json.loads(file.read_text()) if file.exists() else []

    def evaluate(config: dict[str, float]) -> dict[str, float]:
        *_, (_, state) = train_epochs(folder, config["lr"], None)
        done.append((config["lr"], state["weight"]))
        file.write_text(json.dumps(done))
        return {"value": state["weight"]}

    tune.run(
        evaluate,
        config={"lr": tune.loguniform(LOW, HIGH)},
        metric="value",
        mode="min",
        num_samples=N_TRIALS - len(done),
        points_to_evaluate=[{"lr": lr} for lr, _ in done] or None,
        evaluated_rewards=[value for _, value in done] or None,
        verbose=0,
    )
    return done


TOOLS: dict[str, Callable[[Path], list[tuple[float, float]]]] = {
    "hpolab": tune_by_hpolab,
    "Optuna": tune_by_optuna,
    "Ray Tune": tune_by_ray,
    "FLAML": tune_by_flaml,
}


def n_epochs(folder: Path) -> int:
    file = folder / "epochs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [*psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.kill()
    process.wait()


def study_of(tool: str, folder: Path, kills: tuple[int, ...]) -> list[tuple[float, float]]:
    """Run a tool to its end, killed at the given counts of epochs; return its (lr, value)."""
    command = [sys.executable, __file__, "--tool", tool, "--folder", str(folder)]
    with (folder / "output").open("w") as output:
        for after in kills:
            process = subprocess.Popen(command, stdout=output, stderr=output)
            while process.poll() is None and n_epochs(folder) < after:
                time.sleep(0.005)
            kill(process)
        subprocess.run(command, stdout=output, stderr=output, check=True)
    return [tuple(each) for each in json.loads((folder / "result").read_text())]


def show(tool: str, whole_folder: Path, folder: Path) -> None:
    began = time.perf_counter()
    whole = study_of(tool, whole_folder, ())
    seconds = time.perf_counter() - began
    found = study_of(tool, folder, KILLED_AFTER)
    print(
        f"{tool:9} trials finished {len(found)} of {N_TRIALS}, "
        f"distinct configurations {len({lr for lr, _ in found})}, "
        f"epochs trained {n_epochs(folder)} of {N_TRIALS * N_EPOCHS}, "
        f"the study that was never killed: {'yes' if sorted(found) == sorted(whole) else 'no'} "
        f"({len(set(found) & set(whole))} of its {len(whole)} trials); "
        f"never killed, it takes {seconds:.0f} s, with start and imports, for 10 s of training",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.tool:
        found = TOOLS[asked.tool](asked.folder)
        (asked.folder / "result").write_text(json.dumps(found))
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for tool in asked.tools:
        with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as killed:
            show(tool, Path(whole), Path(killed))


if __name__ == "__main__":
    main()
