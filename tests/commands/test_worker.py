"""``hpolab worker``: real processes that join a study, are stopped, killed, and refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from hpolab import StudyNotFound, load_study, make_study, run
from hpolab.cli import app
from hpolab.trial.lease import Lease

WORKER = "import sys; from hpolab.cli import app; app(sys.argv[1:], prog_name='hpolab')"

# Ignored where the study is there already.
CREATE = ("--create", "--direction", "minimize")

# Objectives of each kind. With the variable PAUSE, the process stands still once, in the middle of
# that step of trial 1, until it is asked to stop.
OBJECTIVES = """
import os, pickle, time
from pathlib import Path
import numpy as np
from hpolab import FunctionObjective, Reporter
from hpolab.trial import reporter as reporters
from hpolab.trial.soft_stop import is_asked_to_stop

FOLDER = Path(__file__).parent

def pause(number, step):
    with (FOLDER / "steps").open("a") as file:
        file.write(f"{number}:{step}\\n")
    if os.environ.get("PAUSE") == f"{number}:{step}" and not (FOLDER / "paused").exists():
        (FOLDER / "paused").write_text(str(os.getpid()))
        end = time.monotonic() + 30
        while not is_asked_to_stop() and time.monotonic() < end:
            time.sleep(0.01)

report = Reporter.report
def paused(self, value, step, **more):
    if self.trial is not None:
        pause(self.trial.number, step)
    report(self, value, step, **more)
Reporter.report = paused

def plain(trial):
    x = trial.suggest_float("x", -1, 1)
    pause(trial.number, 0)
    if os.environ.get("PAUSE") == f"{trial.number}:0":
        time.sleep(60)
    return x**2

def steps(trial):
    with Reporter(trial) as reporter:
        x, rng = trial.suggest_float("x", -1, 1), np.random.default_rng(reporter.seed)
        saved = reporter.restore()
        if saved is not None:
            x, rng = pickle.loads(saved)
        for step in reporter.steps(4):
            x = 0.9 * x + rng.normal() / 10
            reporter.report(x**2, step, state=lambda: pickle.dumps((x, rng)))
    return reporter.best_value

def broken(trial):
    raise RuntimeError("the data is not there")

def short(trial):
    time.sleep(float(os.environ.get("SECONDS_A_TRIAL", 0)))
    return trial.suggest_float("x", -1, 1) ** 2

def held(trial):
    while not (FOLDER / "go").exists():
        time.sleep(0.05)
    return trial.suggest_float("x", -1, 1) ** 2

number = 3
"""
LIGHTGBM = pytest.mark.needs("lightgbm", "sklearn")
SKLEARN = pytest.mark.needs("sklearn")
TORCH = pytest.mark.needs("torch")
FAMILIES = {
    "lightgbm": """
from hpolab import LightGBMObjective
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4)); y = (X[:, 0] + rng.normal(size=200) > 0).astype(int)
objective = LightGBMObjective(
    (X, y), objective="binary", max_rounds=40, search_space={"learning_rate": (0.05, 0.3)}
)
""",
    "sklearn": """
from sklearn.linear_model import Ridge
from hpolab import SklearnObjective
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4)); y = X[:, 0] + rng.normal(size=60)
objective = SklearnObjective(Ridge(), (X, y), folds=4, search_space={"alpha": (0.1, 10.0)})
""",
    "torch": """
import torch
from hpolab import TorchObjective, optimizer_space
rng = np.random.default_rng(0)
X = rng.normal(size=(96, 4)).astype("float32"); y = (X[:, 0] > 0).astype("int64")
train, valid, score = ((X[i : i + 32], y[i : i + 32]) for i in (0, 32, 64))
objective = TorchObjective(
    lambda params: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
                                       torch.nn.Linear(8, 2)),
    train=train, valid=valid, score=score, search_space=optimizer_space("adam"),
    loss="cross_entropy", metric="accuracy", max_epochs=4, batch_size=16,
)
from hpolab.torch.fused import crew
together = crew.report_together
def paused_together(reports):
    for each in reports:
        pause(each.reporter.trial.number, each.step)
    return together(reports)
crew.report_together = paused_together
""",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, in which the module ``objectives`` lies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "objectives.py").write_text(OBJECTIVES)
    for name, code in FAMILIES.items():
        (tmp_path / f"{name}_objective.py").write_text(f"from objectives import *\n{code}")
    return tmp_path


@pytest.fixture
def url(folder):
    return f"sqlite:///{folder}/study.db"


@pytest.fixture
def start(python, url):
    """Start a worker of the study ``s``; it ends with the test."""
    started = []

    def start(objective, *options, storage=url, code=WORKER):
        each = python.start(code, "worker", objective, "--study", "s", "-s", storage, *options)
        started.append(each)
        return each

    yield start
    for each in started:
        each.kill()
        with suppress(ValueError):  # its pipes were read to their end
            each.__exit__(None, None, None)


@pytest.fixture
def join(start):
    """Run a worker to its end; return its exit code and what it said."""

    def join(objective, *options, **more):
        worker = start(objective, *options, **more)
        _, said = worker.communicate(timeout=100)
        return worker.returncode, said

    return join


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def results(study):
    return [(t.number, t.params, t.value, t.intermediate_values, t.state) for t in study.trials]


def trained_steps(folder):
    path = folder / "steps"
    return path.read_text().split() if path.exists() else []


def test_workers_spend_the_budget_exactly_between_them(start, url):
    make_study("s", storage=url, sampler="random")
    workers = [start("objectives:short", "-n", "7") for _ in range(2)]
    for worker in workers:
        _, said = worker.communicate(timeout=100)
        assert worker.returncode == 0, said
        assert re.search(r"Worker \S+ \(pid \d+\): joins study 's'", said)
    assert [t.state for t in load_study("s", storage=url).trials] == [TrialState.COMPLETE] * 7


def test_budget_is_that_of_the_last_run(join, url):
    study = make_study("s", storage=url, sampler="random")
    run(study, lambda trial: trial.suggest_float("x", -1, 1), n_trials=2)
    assert join("objectives:short", "-n", "4")[0] == 0
    assert join("objectives:short")[0] == 0
    assert len(load_study("s", storage=url).trials) == 4


def test_worker_without_any_budget_is_told_to_name_one(join, url):
    make_study("s", storage=url)
    code, said = join("objectives:short")
    assert code == 2
    assert "`--n-trials` must be given" in said


@pytest.mark.parametrize(
    ("notice", "place", "options", "repeats"),
    [
        (signal.SIGUSR1, "objectives:steps", (), False),
        (signal.SIGTERM, "objectives:steps", (), False),
        (signal.SIGUSR1, "objectives:plain", ("--stop-seconds", "0.2"), True),
        # LightGBM keeps no checkpoints.
        pytest.param(signal.SIGTERM, "lightgbm_objective:objective", (), True, marks=LIGHTGBM),
        pytest.param(signal.SIGUSR1, "sklearn_objective:objective", (), False, marks=SKLEARN),
        pytest.param(signal.SIGTERM, "torch_objective:objective", (), False, marks=TORCH),
        pytest.param(
            signal.SIGUSR1, "torch_objective:objective", ("--fuse", "2"), False, marks=TORCH
        ),
    ],
    ids=["reporter", "reporter by SIGTERM", "plain", "lightgbm", "sklearn", "torch", "fused"],
)
def test_worker_that_is_asked_to_stop_in_an_epoch_leaves_the_study_as_if_it_had_not_been(
    start, join, url, folder, monkeypatch, notice, place, options, repeats
):
    step = 0 if place.endswith("plain") else 1
    whole = f"sqlite:///{folder}/whole.db"
    create = CREATE if place.startswith("objectives:") else ("--create",)
    code, said = join(place, "-n", "3", *create, *options, storage=whole)
    assert code == 0, said
    n_steps = len(trained_steps(folder))

    (folder / "steps").unlink()
    monkeypatch.setenv("PAUSE", f"1:{step}")
    stopped = start(place, "-n", "3", *create, *options)
    wait_for((folder / "paused").exists)
    os.kill(stopped.pid, notice)
    asked = time.monotonic()
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 0, said
    assert time.monotonic() - asked < 30
    assert f"stopped by {notice.name}" in said
    study = load_study("s", storage=url)
    assert study.trials[1].state == TrialState.WAITING
    assert step in study.trials[1].intermediate_values or place.endswith("plain")

    monkeypatch.delenv("PAUSE")
    code, said = join(place, *options)
    assert code == 0, said
    assert results(load_study("s", storage=url)) == results(load_study("s", storage=whole))
    assert repeats or len(trained_steps(folder)) == n_steps


def test_second_signal_stops_at_once(start, folder, url, monkeypatch):
    monkeypatch.setenv("PAUSE", "1:0")
    worker = start("objectives:plain", "-n", "3", *CREATE)
    wait_for((folder / "paused").exists)
    os.kill(worker.pid, signal.SIGUSR1)
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGTERM)
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0, said
    assert load_study("s", storage=url).trials[1].state == TrialState.WAITING


def test_time_limit_stops_as_a_signal_does(start, folder, url, monkeypatch):
    monkeypatch.setenv("PAUSE", "1:1")
    worker = start("objectives:steps", "-n", "3", *CREATE, "--max-seconds", "8")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert "stopped by --max-seconds" in said
    study = load_study("s", storage=url)
    assert study.trials[1].state == TrialState.WAITING
    assert list(study.trials[1].intermediate_values) == [0, 1]


def test_slurm_s_end_of_the_job_stops_in_time(start, folder, url, monkeypatch):
    monkeypatch.setenv("PAUSE", "1:1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 8))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    worker = start("objectives:steps", "-n", "3", *CREATE)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert "SLURM job 77): stopped by the job's end (SLURM_JOB_END_TIME)" in said
    assert load_study("s", storage=url).trials[1].state == TrialState.WAITING


HARD = """
import sys, time
def sleepless(trial):
    open("paused", "w").close()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_training_that_answers_to_no_interrupt_is_requeued_all_the_same(
    start, folder, url, python, monkeypatch
):
    (folder / "hard.py").write_text(
        f"import hpolab.running.interrupts as i\ni.LAST_SECONDS = 0.3\n{HARD}"
    )
    worker = start("hard:sleepless", "-n", "1", *CREATE, "--stop-seconds", "0.2")
    wait_for((folder / "paused").exists)
    os.kill(worker.pid, signal.SIGUSR1)
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0, said
    assert "did not answer" in said
    assert load_study("s", storage=url).trials[0].state == TrialState.WAITING


HELPED = """
import multiprocessing, subprocess, sys, time

def by_program(trial):
    if trial.number == 1 and "helper" not in trial.study.user_attrs:
        with subprocess.Popen(["sleep", "60"]) as helper:
            trial.study.set_user_attr("helper", helper.pid)
            if helper.wait() != 0:
                raise RuntimeError("the helper is gone")
    return 1.0

def by_pool(trial):
    with multiprocessing.get_context("fork").Pool(2) as pool:  # ended by SIGTERM
        return sum(pool.map(abs, [1, -2]))
"""


def test_error_by_a_notice_that_reached_the_training_s_own_processes_fails_no_trial(
    start, join, folder, url
):
    (folder / "helped.py").write_text(HELPED)
    worker = start("helped:by_program", "-n", "3", *CREATE)
    wait_for(lambda: (folder / "study.db").exists())
    study = make_study("s", storage=url)
    wait_for(lambda: "helper" in study.user_attrs)
    os.kill(worker.pid, signal.SIGUSR1)
    os.kill(study.user_attrs["helper"], signal.SIGUSR1)
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0, said
    assert "is requeued" in said
    assert study.trials[1].state == TrialState.WAITING
    assert join("helped:by_program")[0] == 0
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3


def test_processes_that_a_training_forks_end_as_it_ends_them(join, folder, url):
    (folder / "helped.py").write_text(HELPED)
    code, said = join("helped:by_pool", "-n", "2", *CREATE)
    assert code == 0, said
    assert [t.value for t in load_study("s", storage=url).trials] == [3.0, 3.0]


def test_worker_started_when_all_slots_are_taken_waits_and_takes_over(
    start, folder, url, monkeypatch
):
    monkeypatch.setenv("PAUSE", "1:0")
    first = start("objectives:plain", "-n", "2", *CREATE)
    wait_for((folder / "paused").exists)
    monkeypatch.delenv("PAUSE")
    second = start("objectives:plain")
    time.sleep(1.0)
    assert second.poll() is None
    first.kill()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert [t.state for t in load_study("s", storage=url).trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("objectives:broken", ["the data is not there", "3 trials all failed"]),
        ("objectives:shrot", ["has no 'shrot'", "Did you mean 'short'?"]),
        ("objetives:short", ["no 'objetives'", "Did you mean 'objectives'?"]),
        ("bad:objective", ["cannot be imported", "bad.py", "no_such_package"]),
        pytest.param("no_gpu.py:objective", ["`device` must be available", "'cuda'"], marks=TORCH),
        ("script.py:objective", ["ends the program", "if __name__ == '__main__':"]),
        ("objectives:number", ["which is int"]),
        ("objectives:Reporter", ["which is the class Reporter"]),
    ],
)
def test_broken_objective_ends_with_1_and_says_why(join, folder, objective, words):
    (folder / "bad.py").write_text("import no_such_package\n")
    (folder / "script.py").write_text("import sys\nsys.exit()\n")
    code = FAMILIES["torch"].replace("max_epochs=4", 'max_epochs=4, device="cuda"')
    (folder / "no_gpu.py").write_text(f"from objectives import *\n{code}")
    code, said = join(objective, "-n", "5", *CREATE)
    assert code == 1
    assert re.search(r"Worker \S+ \(pid \d+\): ", said)
    for each in words:
        assert each in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-n", "0", "--create"), "-n"),
        (("-n", "3"), "`--create`"),
        (("-n", "3", "--create", "--fuse", "many"), "--fuse"),
        (("-n", "3", "--create"), "`--direction minimize` or `--direction maximize`"),
        (("-n", "3", "--create", "--direction", "max"), "'max'"),
    ],
)
def test_wrong_usage_ends_with_2(join, options, words):
    code, said = join("objectives:short", *options)
    assert code == 2
    assert words in re.sub(r"\x1b\[[0-9;]*m", "", said)


def test_plain_function_is_optimized_in_the_direction_that_is_given(join, url):
    create = ("-n", "3", "--create", "--direction")
    assert join("objectives:short", *create, "maximize")[0] == 0
    assert load_study("s", storage=url).direction.name == "MAXIMIZE"
    code, said = join("objectives:short", *create, "minimize")
    assert code == 1
    assert "must be that of study 's', maximize, got minimize" in said


@pytest.mark.needs("sklearn")
def test_objective_that_knows_its_direction_takes_no_other(join, url):
    code, said = join(
        "sklearn_objective:objective", "-n", "3", "--create", "--direction", "minimize"
    )
    assert code == 2
    assert "must be left out, or be that of sklearn_objective:objective, maximize" in said
    with pytest.raises(StudyNotFound):
        load_study("s", storage=url)


def test_objective_without_a_name_is_wrong_usage(join):
    code, said = join("objectives", "-n", "3", "--create")
    assert code == 2
    assert "'module:name'" in said


def test_other_study_s_name_is_told_with_the_nearest(join, url):
    make_study("t", storage=url)
    code, said = join("objectives:short", "-n", "3")
    assert code == 2
    assert "No study 's'" in said
    assert "Did you mean 't'?" in said or "--create" in said


@pytest.mark.needs("redis")
def test_storage_that_cannot_be_reached_ends_with_75(join, closed_port):
    code, said = join("objectives:short", "-n", "3", storage=f"redis://127.0.0.1:{closed_port}/0")
    assert code == 75
    assert "out of reach" in said


IMPATIENT = f"""
from hpolab.storage.redis import RedisJournalBackend
RedisJournalBackend.__init__.__kwdefaults__["patience_seconds"] = 1.0
{WORKER}
"""


def test_storage_that_goes_away_ends_with_75(start, redis_server, monkeypatch):
    monkeypatch.setenv("SECONDS_A_TRIAL", "0.05")
    study = make_study("s", storage=redis_server.url, sampler="random")
    worker = start("objectives:short", "-n", "100000", storage=redis_server.url, code=IMPATIENT)
    wait_for(lambda: any(t.state == TrialState.COMPLETE for t in study.get_trials()))
    redis_server.kill()
    _, said = worker.communicate(timeout=200)
    redis_server.start()
    assert worker.returncode == 75, said
    assert "out of reach" in said


def test_other_versions_are_refused_unless_allowed(join, url):
    study = make_study("s", storage=url, sampler="random")
    recipe = dict(study.user_attrs["hpolab:recipe"])
    recipe["versions"] = {**recipe["versions"], "python": "3.1.0"}
    study.set_user_attr("hpolab:recipe", recipe)
    code, said = join("objectives:short", "-n", "2")
    assert code == 1
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert re.search(rf"of \S+ \(pid \d+\): python 3\.1\.0 made it and {here}\.\S+ is here", said)
    assert "--any-versions" in said
    assert not study.trials
    assert join("objectives:short", "-n", "2", "--any-versions")[0] == 0


def test_another_objective_beside_a_living_worker_is_refused_and_the_worker_goes_on(
    start, join, folder, url, monkeypatch
):
    monkeypatch.setenv("PAUSE", "0:1")
    first = start("objectives:steps", "-n", "2", *CREATE)
    wait_for((folder / "paused").exists)
    code, said = join("objectives:short", "-n", "2")
    assert code == 1
    assert f"process {first.pid} on " in said
    assert "trains trial 0 with 'steps'" in said
    assert "'short'" in said
    os.kill(first.pid, signal.SIGUSR1)
    assert first.wait(30) == 0
    assert join("objectives:steps")[0] == 0


def test_several_workers_may_create_the_study_at_once(start, url):
    workers = [start("objectives:short", "-n", "6", *CREATE) for _ in range(6)]
    for worker in workers:
        _, said = worker.communicate(timeout=100)
        assert worker.returncode == 0, said
    assert len(load_study("s", storage=url).trials) == 6


SMI = """#!/bin/sh
echo "GPU 0: NVIDIA H100 (UUID: GPU-aa)"
echo "GPU 1: NVIDIA H100 (UUID: GPU-bb)"
"""


@pytest.fixture
def smi(folder, monkeypatch):
    """A machine with two GPUs, as far as ``nvidia-smi`` tells."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def per_gpu(url, objective, *options):
    """Start a worker for each GPU by the real command."""
    command = [sys.executable, "-m", "hpolab", "worker", objective, "--study", "s", "-s", url]
    return subprocess.Popen([*command, "--per-gpu", *options], stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("smi")
def test_each_gpu_gets_a_worker_and_signals_reach_all(folder, url):
    (folder / "gpus.py").write_text(
        "import os, time\n"
        "def where(trial):\n"
        "    open('gpu-' + os.environ['CUDA_VISIBLE_DEVICES'], 'w').close()\n"
        "    time.sleep(60)\n"
    )
    options = ("-n", "4", *CREATE, "--stop-seconds", "0.2")
    with per_gpu(url, "gpus:where", *options) as workers:
        wait_for(lambda: (folder / "gpu-0").exists() and (folder / "gpu-1").exists())
        workers.send_signal(signal.SIGUSR1)
        _, said = workers.communicate(timeout=60)
    assert workers.returncode == 0, said
    assert said.count("stopped by SIGUSR1") == 2
    states = [t.state for t in load_study("s", storage=url).trials]
    assert states[:2] == [TrialState.WAITING] * 2


@pytest.mark.usefixtures("smi")
def test_workers_of_the_gpus_end_with_the_process_that_started_them(folder, url):
    (folder / "gpus.py").write_text(
        "import os, time\n"
        "def where(trial):\n"
        "    open('gpu-' + os.environ['CUDA_VISIBLE_DEVICES'], 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
    )
    options = ("-n", "4", *CREATE, "--stop-seconds", "0.2")
    paths = [folder / "gpu-0", folder / "gpu-1"]
    with per_gpu(url, "gpus:where", *options) as workers:
        wait_for(lambda: all(path.exists() and path.read_text() for path in paths))
        workers.kill()
    wait_for(lambda: not any(psutil.pid_exists(int(path.read_text())) for path in paths))
    assert not load_study("s", storage=url).get_trials(states=[TrialState.RUNNING])


def test_no_gpu_where_one_is_asked_for_is_an_error(url, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with per_gpu(url, "objectives:short", "-n", "2", *CREATE) as workers:
        _, said = workers.communicate(timeout=60)
    assert workers.returncode == 1
    assert "needs a machine with a GPU" in said
    assert f"(pid {workers.pid})" in said


NEW_HOST = ["unshare", "--uts", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module")
def namespaces():
    """Skip where this machine starts no process in namespaces of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine: hosts with names of their own need it")
    tried = subprocess.run([*NEW_HOST, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine allows no namespaces: {tried.stderr.strip()}")


@pytest.mark.usefixtures("namespaces")
def test_killed_one_of_four_hosts_leaves_its_trial_to_the_others(redis_server, folder):
    """Each worker has a host name, a process namespace and a network of its own."""
    url = redis_server.socket_url
    study = make_study("s", storage=url, sampler="random")
    hosts = [f"node{i}" for i in range(4)]
    command = [sys.executable, "-m", "hpolab", "worker", "objectives:held", "--study", "s"]
    options = ["-s", url, "-n", "12", "--grace-seconds", "2"]
    script = 'hostname "$1"; shift; exec "$@"'
    workers = {
        host: subprocess.Popen(
            [*NEW_HOST, "sh", "-c", script, "sh", host, *command, *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in hosts
    }

    def at_work():
        leases = [(trial.number, Lease.of(trial)) for trial in study.get_trials()]
        return {lease.host: number for number, lease in leases if lease is not None}

    try:
        wait_for(lambda: len(at_work()) == 4)
    except AssertionError:
        (folder / "go").touch()  # nobody is left behind
        raise
    numbers = {host.partition("/")[0]: number for host, number in at_work().items()}
    assert sorted(numbers) == hosts
    workers["node2"].kill()  # and with it all in its namespace
    (folder / "go").touch()
    for host, each in workers.items():
        _, said = each.communicate(timeout=100)
        assert each.returncode == (-9 if host == "node2" else 0), said
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 12
    left = trials[numbers["node2"]]
    assert left.user_attrs["hpolab:retries"] == 1
    assert Lease.of(left).host.partition("/")[0] in {"node0", "node1", "node3"}


def test_help_teaches_how_schedulers_start_it():
    shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["worker", "--help"])
    assert shown.exit_code == 0
    for word in ("sbatch --array", "ssh node7", "Kubernetes", "75", "--max-seconds", "--per-gpu"):
        assert word in shown.output
