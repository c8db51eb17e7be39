"""What is left of a study that is killed three times with SIGKILL and started again?

hpolab, plain Optuna, Ray Tune, Keras Tuner and FLAML tune the same small training: 20 trials of 10
epochs, one at a time, seed 0. Each resumes in the way that its documentation shows: Optuna by
heartbeat and `RetryHeartbeatStaleTrialCallback`, with checkpoints written by hand and
`MaxTrialsCallback`; Ray Tune by `Tuner.restore` with a checkpoint each epoch; Keras Tuner by a
tuner on the same folder (`overwrite=False`), with checkpoints written by hand into the trial's
folder; FLAML by `points_to_evaluate` and `evaluated_rewards`, as it keeps no state of its own. Each
is run once without a kill as well. Of each tool is counted, at the end:

- lost: configurations whose training began and that have no value;
- repeated: trials that trained a configuration of an earlier trial again;
- overspent: epochs trained beyond those of the budget;
- as if never killed: trials with the parameters and the value of one of the uninterrupted study;
- hanging: studies that neither train nor end for ``--limit`` seconds.

    pip install -r benchmarks/peers/tuners.txt
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from _compare import Record, add_json, has, one_line
from _table import Figure, Row, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

N_EPOCHS, EPOCH_SECONDS = 10, 0.05
LOW, HIGH = 1e-4, 1e-1


def train_epochs(
    folder: Path, lr: float, state: Mapping[str, float] | None
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train: a quadratic bowl, whose state is its one weight. Each epoch is written to a file."""
    weight, first = (5.0, 0) if state is None else (state["weight"], int(state["epoch"]) + 1)
    for epoch in range(first, N_EPOCHS):
        time.sleep(EPOCH_SECONDS)
        weight -= 2 * lr * weight
        with (folder / "epochs").open("a") as log:
            print(lr, epoch, file=log)
        yield epoch, {"weight": weight, "epoch": float(epoch)}


def tune_by_hpolab(folder: Path, n_trials: int) -> list[tuple[float, float]]:
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
    run(study, objective, n_trials=n_trials)
    return [(t.params["lr"], t.value) for t in study.trials if t.value is not None]


def tune_by_optuna(folder: Path, n_trials: int) -> list[tuple[float, float]]:
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
    study.optimize(objective, callbacks=[MaxTrialsCallback(n_trials)])
    return [(t.params["lr"], t.value) for t in study.trials if t.value is not None]


def tune_by_ray(folder: Path, n_trials: int) -> list[tuple[float, float]]:
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
                num_samples=n_trials,
                max_concurrent_trials=1,
            ),
            run_config=tune.RunConfig(name="killed", storage_path=str(folder / "ray"), verbose=0),
        )
    found = tuner.fit()
    return [(each.config["lr"], each.metrics["value"]) for each in found if each.metrics]


def tune_by_flaml(folder: Path, n_trials: int) -> list[tuple[float, float]]:
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
        num_samples=n_trials - len(done),
        points_to_evaluate=[{"lr": lr} for lr, _ in done] or None,
        evaluated_rewards=[value for _, value in done] or None,
        verbose=0,
    )
    return done


def tune_by_keras(folder: Path, n_trials: int) -> list[tuple[float, float]]:
    os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported
    import keras_tuner

    class Tuner(keras_tuner.BayesianOptimization):
        def run_trial(self, trial: Any) -> float:
            lr = trial.hyperparameters.Float("lr", LOW, HIGH, sampling="log")
            file = Path(self.get_trial_dir(trial.trial_id)) / "state.json"
            kept = json.loads(file.read_text()) if file.exists() else None
            weight = 5.0 if kept is None else kept["weight"]
            for _, state in train_epochs(folder, lr, kept):
                weight = state["weight"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(state))
            return weight

    tuner = Tuner(
        objective=keras_tuner.Objective("default_objective", "min"),
        max_trials=n_trials,
        seed=0,
        directory=folder,
        project_name="killed",
        overwrite=False,
    )
    tuner.search()
    trials = tuner.oracle.trials.values()
    return [(t.hyperparameters["lr"], t.score) for t in trials if t.score is not None]


@dataclass(frozen=True)
class Tool:
    """How a tool tunes, what has to be imported for it, and its package."""

    tune: Callable[[Path, int], list[tuple[float, float]]]
    module: str
    package: str


TOOLS = {
    "hpolab": Tool(tune_by_hpolab, "hpolab", "hpolab"),
    "Optuna": Tool(tune_by_optuna, "optuna", "optuna"),
    "Ray Tune": Tool(tune_by_ray, "pyarrow", "ray"),  # what `ray[tune]` adds
    "Keras Tuner": Tool(tune_by_keras, "keras_tuner", "keras-tuner"),
    "FLAML": Tool(tune_by_flaml, "flaml", "flaml"),
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


Values = list[tuple[float, float]]


class Hangs(Exception):
    """A study that did not come to an end in time."""


class Crashes(Exception):
    """A study whose process failed; says how."""


@dataclass(frozen=True)
class Script:
    """The study that is killed.

    Attributes:
        n_trials: Its budget.
        n_kills: How often it is killed, each time in mid-trial.
        limit: Seconds without an epoch after which it is taken to hang.
    """

    n_trials: int
    n_kills: int
    limit: float

    @property
    def n_epochs(self) -> int:
        return self.n_trials * N_EPOCHS

    @property
    def killed_after(self) -> list[int]:
        """Epochs trained, in all processes together, at which it is killed."""
        share = self.n_trials // (self.n_kills + 1) * N_EPOCHS
        return [share * (n + 1) - 5 + 2 * n for n in range(self.n_kills)]

    def run(self, tool: str, folder: Path, kills: Sequence[int]) -> Values:
        """Run a tool to its end, killed at the given counts of epochs; return its (lr, value)."""
        command = [sys.executable, __file__, "--tool", tool, "--folder", str(folder)]
        command += ["--trials", str(self.n_trials)]
        with (folder / "output").open("w") as output:
            for after in [*kills, None]:
                process = subprocess.Popen(command, stdout=output, stderr=output)
                try:
                    self._wait(process, folder, after)
                finally:
                    kill(process)
            if process.returncode:
                lines = (folder / "output").read_text().strip().splitlines()
                raise Crashes(one_line(lines[-1] if lines else f"status {process.returncode}"))
        return [(lr, value) for lr, value in json.loads((folder / "result").read_text())]

    def _wait(self, process: subprocess.Popen[bytes], folder: Path, after: int | None) -> None:
        """Return at a process's end, or when so many epochs are trained.

        A slow machine is no hang, so the limit holds for the time without a new epoch.
        """
        seen, since = -1, time.monotonic()
        while process.poll() is None:
            n = n_epochs(folder)
            if after is not None and n >= after:
                return
            if n != seen:
                seen, since = n, time.monotonic()
            if time.monotonic() - since > self.limit:
                raise Hangs(f"no end, and no epoch in {self.limit:.0f} seconds")
            time.sleep(0.005)


@dataclass(frozen=True)
class Outcome:
    """What is left of a study that was killed; the fields are those of `QUESTIONS`."""

    lost: int
    repeated: int
    overspent: int
    kept: int
    hanging: int


QUESTIONS = {
    "lost": "configurations begun and left without a value",
    "repeated": "trials that trained an earlier configuration again",
    "overspent": "epochs beyond the {epochs} of the budget",
    "kept": "trials as if never killed, of {trials}",
    "hanging": "runs that hung: no epoch and no end in {limit:.0f} s",
}


def outcomes(tool: str, script: Script, n_repeats: int) -> list[Outcome]:
    """Return what is left of a study after each repeat; print it."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        whole = script.run(tool, Path(folder), ())
        seconds = time.perf_counter() - began
    for _ in range(n_repeats):
        with tempfile.TemporaryDirectory() as folder:
            hanging = 0
            try:
                killed = script.run(tool, Path(folder), script.killed_after)
            except Hangs:
                killed, hanging = [], 1
            found.append(outcome(script, Path(folder), killed, whole, hanging))
            show(tool, script, Path(folder), killed, whole)
    print(
        f"{tool:11} never killed, it takes {seconds:.0f} s, with start and imports, for "
        f"{EPOCH_SECONDS * script.n_epochs:.0f} s of training",
        flush=True,
    )
    return found


def outcome(script: Script, folder: Path, found: Values, whole: Values, hanging: int) -> Outcome:
    epochs = (folder / "epochs").read_text().splitlines()
    begun, told = {float(line.split()[0]) for line in epochs}, {lr for lr, _ in found}
    return Outcome(
        lost=len(begun - told),
        repeated=len(found) - len(told),
        overspent=max(0, len(epochs) - script.n_epochs),
        kept=len(set(found) & set(whole)),
        hanging=hanging,
    )


def show(tool: str, script: Script, folder: Path, found: Values, whole: Values) -> None:
    print(
        f"{tool:11} trials finished {len(found)} of {script.n_trials}, "
        f"distinct configurations {len({lr for lr, _ in found})}, "
        f"epochs trained {n_epochs(folder)} of {script.n_epochs}, "
        f"the study that was never killed: {'yes' if sorted(found) == sorted(whole) else 'no'} "
        f"({len(set(found) & set(whole))} of its {len(whole)} trials)",
        flush=True,
    )


def rows_of(peer: str, script: Script, ours: list[Outcome], theirs: list[Outcome]) -> Iterator[Row]:
    facts = {"epochs": script.n_epochs, "trials": script.n_trials, "limit": script.limit}
    for key, question in QUESTIONS.items():
        pairs = [(getattr(a, key), getattr(b, key)) for a, b in zip(ours, theirs, strict=True)]
        yield Row(
            key,
            question.format(**facts),
            peer,
            version_of(TOOLS[peer].package),
            ours=Figure.of(a for a, _ in pairs),
            theirs=Figure.of(b for _, b in pairs),
            n_repeats=len(pairs),
            better="higher" if key == "kept" else "lower",
            note=f"A study of {script.n_trials} trials of {N_EPOCHS} epochs, one at a time, killed "
            f"{script.n_kills} times with SIGKILL",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2, help="killed studies of each")
    parser.add_argument("--limit", type=float, default=120, help="seconds without an epoch: a hang")
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_json(parser)
    asked = parser.parse_args()
    if asked.tool:
        found = TOOLS[asked.tool].tune(asked.folder, asked.trials)
        (asked.folder / "result").write_text(json.dumps(found))
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    script, record = Script(asked.trials, asked.kills, asked.limit), Record(asked.json)
    ours: list[Outcome] = []
    for tool in dict.fromkeys(["hpolab", *asked.tools]):
        about = {"key": tool, "question": "a study that is killed", "peer": tool}
        if not has(TOOLS[tool].module):
            record.add_missing(**about, package=TOOLS[tool].package)
            continue
        with record.survived(**about):
            found = outcomes(tool, script, asked.repeats)
            if tool == "hpolab":
                ours = found
            elif ours:
                record.add(*rows_of(tool, script, ours, found))
    record.finish()


if __name__ == "__main__":
    main()
