"""How many workers `n_workers="auto"` takes, and the line about threads without a core."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from hpolab import InvalidArgument, LocalProcesses, Objective, make_study, run
from hpolab.cores import n_threads_asked, n_usable_cores
from hpolab.running.capacity import CoresWatch, suitable_n_workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 2**30


def square(trial: Any) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


class Threaded(Objective):
    """Asks for several threads."""

    n_threads = 3

    def train(self, params: Any, reporter: Any) -> float:
        return float(params["x"])


@dataclass
class Machine:
    """What the machine pretends to be."""

    cores: int = 8
    free: float = 64 * GIB
    own: float = GIB


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of another size: a mock, as tests cannot change the one that they run on."""
    made = Machine()
    monkeypatch.setattr("hpolab.running.capacity.n_usable_cores", lambda: made.cores)
    memory = lambda: type("Memory", (), {"available": made.free})  # noqa: E731
    monkeypatch.setattr(psutil, "virtual_memory", memory)
    info = lambda self: type("Info", (), {"rss": made.own})  # noqa: E731
    monkeypatch.setattr(psutil.Process, "memory_info", info)
    return made


@pytest.fixture
def study(tmp_path: Path) -> Any:
    return make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random", seed=0)


def threaded() -> Threaded:
    return Threaded(search_space={"x": (0.0, 1.0)}, direction="minimize", max_steps=1)


@pytest.mark.parametrize(
    ("changes", "make", "n_left", "expected", "reason"),
    [
        ({}, lambda: square, 100, 8, "8 usable cores"),
        ({}, lambda: square, 3, 3, "trials that are left"),
        ({}, threaded, 100, 2, "8 usable cores, 3 a trial"),
        ({"cores": 2}, threaded, 100, 1, "2 usable cores, 3 a trial"),
        ({"own": 16 * GIB}, lambda: square, 100, 2, "memory"),
        ({"free": GIB / 8}, lambda: square, 100, 1, "memory"),
    ],
    ids=["cores", "few trials", "threads", "more threads than cores", "large data", "no memory"],
)
def test_auto_takes_what_the_machine_has_room_for(
    study, machine, caplog, changes, make, n_left, expected, reason
):
    for name, value in changes.items():
        setattr(machine, name, value)
    with caplog.at_level(logging.INFO, "hpolab"):
        assert suitable_n_workers(study, make(), n_left) == expected
    assert reason in caplog.text


def test_auto_is_one_worker_for_a_study_in_memory(machine, caplog):
    study = make_study("s", storage="memory://", sampler="random", seed=0)
    with caplog.at_level(logging.INFO, "hpolab"):
        run(study, square, n_trials=3, n_workers="auto", show_progress_bar=False)
    assert len(study.trials) == 3
    assert "a study in memory" in caplog.text


def test_auto_is_one_worker_on_an_accelerator(study, machine):
    objective = threaded()
    objective.n_threads = 1
    objective.task = type("Task", (), {"device": "cuda:0"})
    assert suitable_n_workers(study, objective, 100) == 1


@pytest.mark.parametrize(("visible", "expected"), [("0", 1), ("-1", 8), ("", 8)])
def test_auto_is_one_worker_where_the_environment_names_a_gpu(
    study, machine, monkeypatch, visible, expected
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert suitable_n_workers(study, square, 100) == expected


def test_auto_spends_the_budget_in_processes(study, monkeypatch):
    def own_pid(trial: Any) -> float:
        trial.set_user_attr("pid", os.getpid())
        return square(trial)

    monkeypatch.setattr("hpolab.running.capacity.n_usable_cores", lambda: 2)
    run(study, own_pid, n_trials=4, n_workers="auto", show_progress_bar=False)
    assert len(study.trials) == 4
    assert os.getpid() not in {trial.user_attrs["pid"] for trial in study.trials}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_workers": "all"}, "`n_workers` must be a number or 'auto', got 'all'"),
        ({"n_workers": "auto", "reproducible": True}, "must be a number under `reproducible`"),
        (
            {"n_workers": "auto", "executor": LocalProcesses(2)},
            r"`n_workers` must be None where `executor` is given, got 'auto'",
        ),
    ],
    ids=["word", "reproducible", "executor"],
)
def test_auto_is_refused_where_the_number_is_part_of_the_result(study, options, message):
    with pytest.raises(InvalidArgument, match=message):
        run(study, square, n_trials=3, **options)
    assert not study.trials


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are bound on Linux only")
def test_usable_cores_are_those_that_the_process_is_bound_to():
    of_child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
            "from hpolab.cores import n_threads_asked, n_usable_cores; print(n_usable_cores())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(of_child.stdout) == 1
    assert n_usable_cores() >= 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3), (np.int64(3), 3), (2.0, 2), (None, 1), ("4", 1), (-100, 1), (0, 8), (-1, 8), (-2, 7)],
    ids=repr,
)
def test_threads_are_asked_for_as_libraries_read_the_number(monkeypatch, value, expected):
    monkeypatch.setattr("hpolab.cores.n_usable_cores", lambda: 8)
    assert n_threads_asked(value) == expected


@pytest.mark.needs("lightgbm")
@pytest.mark.parametrize(("value", "expected"), [(2, 2), (None, 1)])
def test_lightgbm_asks_for_the_threads_of_its_parameters(value, expected):
    from hpolab import LightGBMObjective

    rows, labels = np.random.default_rng(0).normal(size=(80, 3)), np.arange(80) % 2
    made = LightGBMObjective(
        rows, labels, objective="binary", metric="auc", folds=2, params={"n_jobs": value}
    )
    assert made.n_threads == expected


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize(("value", "expected"), [(2, 2), (None, 1)])
def test_an_estimator_asks_for_its_jobs_inside_a_pipeline_too(value, expected):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from hpolab.sklearn.estimators import n_threads_of

    assert n_threads_of(make_pipeline(RandomForestClassifier(n_jobs=value))) == expected


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Other processes, one for each core, that keep it busy."""
    loop = "while True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(n_usable_cores())]
    yield
    for process in processes:
        process.kill()
        process.wait()


def test_threads_without_a_core_of_their_own_are_said_once(busy_cores, caplog):
    cores = CoresWatch(n_usable_cores() + 1)
    for _ in range(3):
        time.sleep(2.1)
        cores.look()
    lines = [line for line in caplog.messages if "threads" in line]
    assert len(lines) == 1
    assert f"computes with {n_usable_cores() + 1} threads" in lines[0]
    assert "OMP_NUM_THREADS=1" in lines[0]


def test_one_thread_is_no_reason_for_a_line(busy_cores, caplog):
    cores = CoresWatch(1)
    time.sleep(2.1)
    cores.look()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("n_threads", "is_said"), [(4, False), (64, True)], ids=["as allowed", "as seen"]
)
def test_a_container_has_the_cores_of_its_quota_whatever_the_host_does(
    monkeypatch, caplog, n_threads, is_said
):
    """64 cores are seen, 30 of them busy, and 4 allowed: mocks, as this machine has neither."""
    seen = iter([0.0, 10.0])
    looks = type("Look", (), {"busy_beside_this": lambda self, before: 30.0})
    monkeypatch.setattr(
        "hpolab.running.capacity._Look.now", lambda: type("Now", (looks,), {"wall": next(seen)})()
    )
    monkeypatch.setattr("hpolab.running.capacity._seen_cores", lambda: range(64))
    monkeypatch.setattr("hpolab.running.capacity.n_usable_cores", lambda: 4)
    cores = CoresWatch(n_threads)
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    cores.look()
    assert any("OMP_NUM_THREADS=4" in line for line in caplog.messages) == is_said


@pytest.mark.needs("torch")
def test_a_run_in_this_process_says_that_its_threads_have_no_cores(monkeypatch, caplog):
    """The other processes are a mock: they shall not depend on this machine's cores."""
    import torch

    from hpolab import TorchObjective, optimizer_space

    seen = iter(range(-1000, 0, 10))
    look = type("Look", (), {"busy_beside_this": lambda self, before: 4.0})
    monkeypatch.setattr(
        "hpolab.running.capacity._Look.now",
        lambda: type("Now", (look,), {"wall": next(seen)})(),
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr("hpolab.running.capacity.n_usable_cores", lambda: 4)
    monkeypatch.setattr("hpolab.running.capacity._seen_cores", lambda: range(4))
    monkeypatch.setattr("hpolab.running.capacity._LEAST_SECONDS", 0.0)
    rows = torch.linspace(-1, 1, 60).reshape(-1, 1)
    train, valid = (rows[0::2], rows[0::2]), (rows[1::2], rows[1::2])
    objective = TorchObjective(
        lambda params: torch.nn.Linear(1, 1),
        train=train,
        valid=valid,
        search_space=optimizer_space("sgd"),
        loss="mse",
        metric="rmse",
        max_epochs=1,
    )
    study = make_study("s", objective=objective, storage="memory://", sampler="random", seed=0)
    run(study, objective, n_trials=3, show_progress_bar=False)
    assert sum("computes with 4 threads" in line for line in caplog.messages) == 1
