"""Workers on Ray: a real cluster of two nodes, whose nodes, workers and driver die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import psutil
import pytest
from optuna.trial import TrialState

from hpolab import (
    InvalidArgument,
    InvalidType,
    LocalProcesses,
    RayExecutor,
    RayUnavailable,
    RecipeMismatch,
    Reporter,
    TooManyFailures,
    compare,
    load_study,
    make_study,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray.cluster_utils import Cluster

pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray leaves pipes and files to the end of its processes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def ray_cluster(end_with_tests: Callable[[Path], None]) -> Iterator[Cluster]:
    """A Ray of two nodes on this machine, of one CPU each; this process is connected to it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="hpolab-ray-"))  # short, as sockets are in it
    end_with_tests(folder)
    with contextlib.chdir(folder):
        cluster = Cluster(
            initialize_head=True,
            head_node_args={**NODE, "include_dashboard": False, "temp_dir": str(folder / "t")},
        )
        cluster.add_node(**NODE)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    patch.undo()
    for process in psutil.process_iter(["cwd"]):
        if Path(process.info["cwd"] or "/").is_relative_to(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def two_nodes(ray_cluster: Cluster) -> Cluster:
    """The cluster, with both nodes alive."""
    if len(ray_cluster.worker_nodes) < 1:
        ray_cluster.add_node(**NODE)
    return ray_cluster


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def actors() -> dict[str, str]:
    """Return the id of each actor of hpolab's that is there, by its name."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return {
        each["name"]: ray.get_actor(each["name"], namespace=each["namespace"])._actor_id.hex()
        for each in named
        if each["namespace"].startswith("hpolab-")
    }


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


@pytest.mark.usefixtures("two_nodes")
def test_workers_spend_one_budget_in_processes_of_their_own_and_are_gone(url, caplog):
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
    assert actors() == {}


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


def test_node_that_is_killed_costs_each_trial_at_most_an_epoch(two_nodes, postgres, tmp_path):
    import threading

    side_file = tmp_path / "epochs"
    study = make_study("s", storage=postgres, sampler="random", pruner="none")

    def kill_a_node() -> None:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 15)
        (node,) = two_nodes.worker_nodes
        two_nodes.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    run(study, Epochs(str(side_file)), n_trials=12, executor=RayExecutor(n_workers=2))
    killer.join()
    assert len(two_nodes.worker_nodes) == 0
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    assert lost_epochs(side_file) <= 1
    assert len(set(side_file.read_text().splitlines())) == 12 * N_EPOCHS
    assert actors() == {}


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


def test_driver_that_is_killed_comes_back_to_its_workers(two_nodes, postgres, tmp_path):
    side_file = tmp_path / "epochs"
    arguments = (tmp_path / "driver.py", postgres, side_file, two_nodes.address, 16)
    with driver(*arguments) as first:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 8)
        first.send_signal(signal.SIGKILL)
    found = actors()
    assert sorted(found) == ["keeper", "worker-0", "worker-1"]
    with driver(*arguments) as second:
        wait_until(lambda: side_file.read_text().count("\n") >= 40)
        between = actors()
        _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert "has 2 workers on Ray already" in said
    assert between == found
    trials = load_study("s", storage=postgres).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 16
    assert lost_epochs(side_file) == 0
    assert actors() == {}


def test_workers_whose_driver_was_killed_end_by_themselves(two_nodes, postgres, tmp_path):
    side_file = tmp_path / "epochs"
    arguments = (tmp_path / "driver.py", postgres, side_file, two_nodes.address, 6)
    with driver(*arguments) as first:
        wait_until(lambda: side_file.exists() and side_file.read_text().count("\n") >= 8)
        first.send_signal(signal.SIGKILL)
    wait_until(lambda: actors() == {}, 90)
    trials = load_study("s", storage=postgres).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6


@pytest.mark.usefixtures("two_nodes")
def test_another_objective_is_refused_while_workers_are_there(url, tmp_path):
    study = make_study("s", storage=url, sampler="random")
    refused: list[str] = []

    def other(trial: optuna.Trial) -> float:
        return 0.0

    def begin_another(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        pass

    import threading

    def second() -> None:
        wait_until(lambda: len(actors()) == 3)
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


@pytest.mark.usefixtures("two_nodes")
def test_large_arrays_are_stored_once_for_all_workers_and_are_read_only(url):
    import ray

    data = np.ones(2_000_000)

    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.3)
        trial.set_user_attr("is_read_only", not data.flags.writeable)
        with open("/proc/self/maps") as file:
            shared = [line for line in file if "plasma" in line or "/dev/shm" in line]
        address = data.__array_interface__["data"][0]
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in shared]
        trial.set_user_attr("is_shared", any(low <= address < high for low, high in ranges))
        return square(trial)

    before = ray._private.internal_api.memory_summary(stats_only=True)
    assert before
    study = make_study("s", storage=url, sampler="random")
    run(study, objective, n_trials=6, executor=RayExecutor(n_workers=2, cpus_per_worker=0.5))
    assert {t.user_attrs["is_read_only"] for t in study.trials} == {True}
    assert {t.user_attrs["is_shared"] for t in study.trials} == {True}


@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize(
    ("executor", "said"),
    [
        (RayExecutor(n_workers=3), "there is room for 2 on 2 nodes"),
        (RayExecutor(n_workers=1, cpus_per_worker=2), "no node has room for one of them"),
        (RayExecutor(n_workers=1, gpus_per_worker=1), "0 GPUs"),
    ],
    ids=["workers", "cpus", "gpus"],
)
def test_what_the_cluster_does_not_have_is_refused_at_once(url, executor, said):
    study = make_study("s", storage=url)
    with pytest.raises(InvalidArgument, match=said):
        run(study, square, n_trials=4, executor=executor)
    assert actors() == {}


@pytest.mark.usefixtures("two_nodes")
def test_objective_that_no_worker_can_import_is_refused_with_worker_and_module(url, tmp_path):
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
    assert actors() == {}


@pytest.mark.usefixtures("two_nodes")
def test_objective_that_cannot_be_pickled_is_refused_by_name(url):
    import threading

    lock = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        with lock:
            return 0.0

    with pytest.raises(InvalidType, match="'lock'"):
        run(make_study("s", storage=url), objective, n_trials=4, executor=RayExecutor(2))
    assert actors() == {}


def test_node_of_other_versions_is_named_before_the_first_trial(two_nodes, url, monkeypatch):
    from hpolab.running.on_ray import cluster

    here = {**cluster.versions_in_use(), "optuna": "4.1.0"}
    monkeypatch.setattr(cluster, "versions_in_use", lambda: here)
    study = make_study("s", storage=url)
    with pytest.raises(InvalidArgument, match=r"has optuna .*, and 4\.1\.0 is here"):
        run(study, square, n_trials=4, executor=RayExecutor(n_workers=2))
    assert study.trials == []


@pytest.mark.usefixtures("two_nodes")
def test_compare_takes_workers_on_ray(url, monkeypatch):
    made = compare_two(url, RayExecutor(n_workers=2))
    assert made == compare_two(url + "2", LocalProcesses(2))


def compare_two(url: str, executor: object) -> list[int]:
    from hpolab import FunctionObjective, SearchSpace

    space = SearchSpace({"x": (0.0, 1.0)})
    objectives = {
        name: FunctionObjective(lambda params: params["x"] ** 2, space, direction="minimize")
        for name in ("a", "b")
    }
    comparison = compare(objectives, study_name="c", storage=url, n_trials=3, executor=executor)
    return [each.n_trials for each in comparison.contenders]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:9"])
def test_unreachable_address_is_told_fast(address, url, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    began = time.monotonic()
    with pytest.raises(RayUnavailable, match="Nobody answers"):
        run(make_study("s", storage=url), square, n_trials=1, executor=RayExecutor(address=address))
    assert time.monotonic() - began < 20


def test_storage_that_other_machines_cannot_see_is_refused(two_nodes, url, monkeypatch):
    monkeypatch.setattr("hpolab.running.executors.ray.this_host", lambda: "another machine")
    with pytest.raises(InvalidArgument, match="all machines of the Ray cluster"):
        run(make_study("s", storage=url), square, n_trials=1, executor=RayExecutor())


def test_study_in_memory_is_refused():
    with pytest.raises(InvalidArgument, match="study in memory"):
        run(make_study("s", storage="memory://"), square, n_trials=1, executor=RayExecutor())


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


def test_both_n_workers_and_executor_are_refused(url):
    with pytest.raises(InvalidArgument, match="`n_workers` must be None where `executor`"):
        run(make_study("s", storage=url), square, n_trials=1, n_workers=2, executor=RayExecutor(2))


@pytest.mark.usefixtures("two_nodes")
def test_error_of_a_worker_is_raised_here(url):
    def objective(trial: optuna.Trial) -> float:
        raise KeyError("no such column")

    with pytest.raises(TooManyFailures, match="no such column"):
        run(make_study("s", storage=url), objective, n_trials=9, executor=RayExecutor(2))
    assert actors() == {}
