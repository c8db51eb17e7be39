"""Workers on Ray: a real cluster of two nodes, whose nodes, workers and driver die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import cloudpickle
import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from sklearn.ensemble import HistGradientBoostingClassifier

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    LightGBMObjective,
    RayExecutor,
    RayUnavailable,
    RecipeMismatch,
    Reporter,
    SearchSpace,
    SklearnObjective,
    TorchObjective,
    compare,
    confirm,
    fold_ensemble,
    load_study,
    make_study,
    optimizer_space,
    run,
    sweep,
)

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import optuna

    from hpolab import Objective

pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray leaves pipes and files to the end of its processes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def actor_ids() -> dict[str, str]:
    """Return the id of each actor of a study's, by its name."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return {
        each["name"]: ray.get_actor(each["name"], namespace=each["namespace"])._actor_id.hex()
        for each in named
        if each["namespace"].startswith("hpolab-")
    }


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def test_workers_spend_one_budget_in_processes_of_their_own_and_are_gone(ray_cluster, url, caplog):
    data = np.arange(1_000_000.0)

    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.3)
        trial.set_user_attr("pid", os.getpid())
        trial.set_user_attr("threads", os.environ["OMP_NUM_THREADS"])
        trial.set_user_attr("folder", os.getcwd())
        trial.set_user_attr("sum", float(data.sum()))
        if trial.number == 3:
            raise ValueError("no such column")
        return square(trial)

    study = make_study("s", storage=url, sampler="random")
    run(study, objective, n_trials=12, executor=RayExecutor(n_workers=2))
    states = Counter(trial.state for trial in study.trials)
    assert states == {TrialState.COMPLETE: 11, TrialState.FAIL: 1}
    attrs = [trial.user_attrs for trial in study.trials]
    pids = {each["pid"] for each in attrs}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {each["threads"] for each in attrs} == {os.environ.get("OMP_NUM_THREADS", "1")}
    assert {each["folder"] for each in attrs} == {os.getcwd()}
    assert {each["sum"] for each in attrs} == {float(data.sum())}
    assert sum("failed: ValueError: no such column" in line for line in caplog.messages) == 1
    assert ray_cluster.actors() == []


@pytest.fixture
def postgres(postgres_url: str) -> str:
    """A database of the test's own."""
    import psycopg

    name = f"ray_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_url.rpartition('/')[0]}/{name}"


N_EPOCHS = 5


class Epochs:
    """Trains in epochs with a checkpoint after each, and notes each that it has trained."""

    def __init__(self, side_file: str) -> None:
        self.side_file = side_file

    def __call__(self, trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        with Reporter(trial, checkpoint_seconds=0) as reporter:
            reporter.restore()
            for epoch in reporter.steps(N_EPOCHS):
                time.sleep(0.2)
                with open(self.side_file, "a") as file:
                    file.write(f"{trial.number} {epoch}\n")
                reporter.report(x**2 + 1 / (epoch + 1), epoch, state=lambda: b"state")
        return x**2


def lost_epochs(side_file: Path) -> int:
    """Return the most epochs of a trial that were trained twice."""
    trained = Counter(side_file.read_text().splitlines())
    again: Counter[str] = Counter()
    for line, times in trained.items():
        again[line.split()[0]] += times - 1
    return max(again.values())


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_node_that_is_killed_costs_each_trial_at_most_an_epoch(ray_cluster, postgres, tmp_path):
    side_file = tmp_path / "epochs"
    study = make_study("s", storage=postgres, sampler="random", pruner="none")
    node = ray_cluster.add_node(num_cpus=1)

    def kill_a_node() -> None:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 15)
        ray_cluster.kill_node(node)

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    run(study, Epochs(str(side_file)), n_trials=12, executor=RayExecutor(n_workers=3))
    killer.join()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    assert lost_epochs(side_file) <= 1
    assert len(set(side_file.read_text().splitlines())) == 12 * N_EPOCHS
    assert ray_cluster.actors() == []


DRIVER = """
import sys, time
from hpolab import RayExecutor, Reporter, make_study, run

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    with Reporter(trial, checkpoint_seconds=0) as reporter:
        reporter.restore()
        for epoch in reporter.steps(5):
            time.sleep(0.2)
            with open(sys.argv[2], "a") as file:
                file.write(f"{trial.number} {epoch}\\n")
            reporter.report(x**2 + 1 / (epoch + 1), epoch, state=lambda: b"state")
    return x**2

side_file = sys.argv[2]
def objective_of(side_file):
    def train(trial):
        sys.argv[2:] = [side_file]
        return objective(trial)
    return train

if __name__ == "__main__":
    study = make_study("s", storage=sys.argv[1], sampler="random", pruner="none", seed=0)
    executor = RayExecutor(n_workers=2, address=sys.argv[3])
    run(study, objective_of(side_file), n_trials=int(sys.argv[4]), executor=executor)
"""


def driver(script: Path, *arguments: object) -> subprocess.Popen[str]:
    script.write_text(DRIVER)
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


def test_driver_that_is_killed_comes_back_to_its_workers(ray_cluster, postgres, tmp_path):
    side_file = tmp_path / "epochs"
    arguments = (tmp_path / "driver.py", postgres, side_file, ray_cluster.address, 16)
    with driver(*arguments) as first:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 8)
        first.send_signal(signal.SIGKILL)
    found = actor_ids()
    assert sorted(found) == ["keeper", "worker-0", "worker-1"]
    with driver(*arguments) as second:
        wait_until(lambda: side_file.read_text().count("\n") >= 40)
        between = actor_ids()
        _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert "has 2 workers on Ray already" in said
    assert between == found
    trials = load_study("s", storage=postgres).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 16
    assert lost_epochs(side_file) == 0
    assert ray_cluster.actors() == []


@pytest.mark.long
def test_workers_whose_driver_was_killed_end_by_themselves(ray_cluster, postgres, tmp_path):
    side_file = tmp_path / "epochs"
    arguments = (tmp_path / "driver.py", postgres, side_file, ray_cluster.address, 6)
    with driver(*arguments) as first:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 8)
        first.send_signal(signal.SIGKILL)
    wait_until(lambda: ray_cluster.actors() == [], 90)
    trials = load_study("s", storage=postgres).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6


@pytest.mark.long
def test_another_objective_is_refused_while_workers_are_there(ray_cluster, url, tmp_path):
    study = make_study("s", storage=url, sampler="random")
    refused: list[str] = []

    def other(trial: optuna.Trial) -> float:
        return 0.0

    def begin_another(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        pass

    def second() -> None:
        wait_until(lambda: len(ray_cluster.actors()) == 3)
        try:
            run(load_study("s", storage=url), other, n_trials=8, executor=RayExecutor(n_workers=2))
        except RecipeMismatch as error:
            refused.append(str(error))

    def slow(trial: optuna.Trial) -> float:
        time.sleep(0.5)
        return square(trial)

    thread = threading.Thread(target=second)
    thread.start()
    run(study, slow, n_trials=20, executor=RayExecutor(n_workers=2), callbacks=[begin_another])
    thread.join()
    assert "objective" in refused[0]
    assert len(study.trials) == 20


@pytest.mark.usefixtures("ray_cluster")
def test_large_arrays_are_in_memory_once_a_node_and_are_read_only(url, tmp_path):
    data = np.ones(2_000_000)

    def objective(trial: optuna.Trial) -> float:
        (tmp_path / f"pid-{os.getpid()}").touch()
        wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
        trial.set_user_attr("is_read_only", not data.flags.writeable)
        trial.set_user_attr("place", place_of(data.__array_interface__["data"][0]))
        return square(trial)

    study = make_study("s", storage=url, sampler="random")
    run(study, objective, n_trials=6, executor=RayExecutor(n_workers=2))
    assert {trial.user_attrs["is_read_only"] for trial in study.trials} == {True}
    assert len({tuple(trial.user_attrs["place"]) for trial in study.trials}) == 1


def place_of(address: int) -> tuple[str, int]:
    """Return the file that processes share, and where in it, of an address in memory."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            ends, _, offset, _, inode = line.split()[:5]
            low, high = (int(end, 16) for end in ends.split("-"))
            if low <= address < high and inode != "0":
                return inode, address - low + int(offset, 16)
    raise AssertionError("it is this process's own memory")


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        (RayExecutor(n_workers=3), "there is room for 2 on 1 node"),
        (RayExecutor(n_workers=1, cpus_per_worker=3), "no node has room for one of them"),
        (RayExecutor(n_workers=1, gpus_per_worker=1), "0 GPUs"),
    ],
    ids=["workers", "cpus", "gpus"],
)
def test_what_the_cluster_does_not_have_is_refused_at_once(ray_cluster, url, executor, said):
    ray_cluster.wait_for_the_head_alone()
    study = make_study("s", storage=url)
    with pytest.raises(InvalidArgument, match=said):
        run(study, square, n_trials=4, executor=executor)
    assert ray_cluster.actors() == []


def test_objective_that_no_worker_can_import_is_refused_with_worker_and_module(
    ray_cluster, url, tmp_path
):
    module = tmp_path / "only_here.py"
    module.write_text("def objective(trial):\n    return 0.0\n")
    sys.path.insert(0, str(tmp_path))
    try:
        from only_here import objective
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(InvalidArgument, match="only_here") as refused:
        run(make_study("s", storage=url), objective, n_trials=4, executor=RayExecutor(2))
    assert "from the worker on " in refused.value.__notes__[0]
    assert ray_cluster.actors() == []


def test_node_of_other_versions_is_named_before_the_first_trial(ray_cluster, url, monkeypatch):
    from hpolab.running.on_ray import cluster

    here = {**cluster.versions_in_use(), "optuna": "4.1.0"}
    monkeypatch.setattr(cluster, "versions_in_use", lambda: here)
    study = make_study("s", storage=url)
    with pytest.raises(InvalidArgument, match=r"has optuna .*, and 4\.1\.0 is here"):
        run(study, square, n_trials=4, executor=RayExecutor(n_workers=2))
    assert study.trials == []


def score_of(params: Mapping[str, float], reporter: Reporter) -> float:
    return params["x"] ** 2


class Square(FunctionObjective):
    """An objective whose models are their parameter."""

    def __init__(self) -> None:
        super().__init__(
            score_of, search_space=SearchSpace({"x": (0.0, 1.0)}), direction="minimize", max_steps=1
        )

    def fit(self, params, seed):
        return params["x"]

    def evaluate(self, model, data):
        return {self.metric: model**2 + data}


def fit_rows(params, seed, rows):
    return np.random.default_rng(seed).normal(size=4) + params["level"]


def error_of(predictions):
    return float(np.abs(predictions).mean())


@pytest.mark.long
def test_compare_sweep_confirm_and_ensembles_take_workers_on_ray(ray_cluster, url):
    on_ray = RayExecutor(n_workers=2)
    rivals = {"a": Square(), "b": Square()}
    comparison = compare(None, rivals, study_name="c", storage=url, n_trials=3, executor=on_ray)
    assert list(comparison.contenders) == ["a", "b"]
    stages = {"first": {"x": [0.1, 0.5]}}
    sweep(Square(), stages, study_name="w", storage=url, executor=on_ray)
    study = make_study("s", objective=Square(), storage=url)
    run(study, Square(), n_trials=3, executor=on_ray)
    found = confirm(study, Square(), test=0.0, top_k=1, n_seeds=2, executor=on_ray)
    assert found is not None
    ensemble = fold_ensemble(
        fit_rows,
        {"level": 1.0},
        metric=error_of,
        direction="minimize",
        labels=np.arange(20) % 2,
        n_seeds=2,
        study=make_study("e", storage=url),
        executor=on_ray,
    )
    assert ensemble.n_seeds == 2
    assert ray_cluster.actors() == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:9"])
def test_unreachable_address_is_told_fast(address, url, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    began = time.monotonic()
    with pytest.raises(RayUnavailable, match="Nobody answers"):
        run(make_study("s", storage=url), square, n_trials=1, executor=RayExecutor(address=address))
    assert time.monotonic() - began < 20


def test_storage_that_other_machines_cannot_see_is_refused(ray_cluster, url, monkeypatch):
    monkeypatch.setattr("hpolab.running.executors.ray.this_host", lambda: "another machine")
    with pytest.raises(InvalidArgument, match="all machines of the Ray cluster"):
        run(make_study("s", storage=url), square, n_trials=1, executor=RayExecutor())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_workers": 0}, InvalidArgument),
        ({"cpus_per_worker": -1}, InvalidArgument),
        ({"cpus_per_worker": float("nan")}, InvalidArgument),
        ({"gpus_per_worker": 1.5}, InvalidArgument),
        ({"gpus_per_worker": "one"}, InvalidType),
        ({"address": 6379}, InvalidType),
    ],
)
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        RayExecutor(**arguments)


def objectives_of_families(kind: str) -> Objective:
    """Return an objective whose data is held in arrays."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(4000, 6)), np.arange(4000) % 2
    splits = {"train": (rows[:3000], labels[:3000]), "valid": (rows[3000:], labels[3000:])}
    if kind == "lightgbm":
        return LightGBMObjective(**splits, objective="binary", metric="auc", max_rounds=3)
    if kind == "sklearn":
        return SklearnObjective(HistGradientBoostingClassifier(max_iter=32), rows, labels, folds=2)
    splits = {name: (x.astype(np.float32), y.astype(np.int64)) for name, (x, y) in splits.items()}
    return TorchObjective(
        lambda params: torch.nn.Linear(6, 2),
        **splits,
        search_space=optimizer_space("sgd"),
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=2,
        batch_size=64,
    )


@pytest.mark.parametrize("kind", ["torch", "lightgbm", "sklearn"])
def test_objectives_train_on_memory_that_is_read_only(kind):
    study = make_study("s", objective=objectives_of_families(kind), storage="memory://", seed=0)
    buffers: list[bytes] = []

    def aside(buffer: pickle.PickleBuffer) -> bool:
        buffers.append(bytes(buffer.raw()))
        return False

    objective = objectives_of_families(kind)
    sent = cloudpickle.dumps(objective, buffer_callback=aside)
    received = cloudpickle.loads(sent, buffers=buffers)
    run(study, received, n_trials=2)
    again = make_study("a", objective=objective, storage="memory://", seed=0)
    run(again, objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert [trial.value for trial in study.trials] == [trial.value for trial in again.trials]
