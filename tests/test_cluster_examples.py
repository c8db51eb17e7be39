"""Every file of examples/cluster is what its system reads, and starts the command as it is."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import pytest
import submitit
import typer
import yaml

from hpolab import load_study
from hpolab.cli import app
from hpolab.errors import HpolabError
from hpolab.running.joining import BROKEN, OUT_OF_REACH, WRONG_USAGE

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "examples" / "cluster"
PROGRAMS = Path(sys.executable).parent


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, CLUSTER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kubernetes() -> dict[str, dict]:
    """Return the objects of the Kubernetes file by their kinds."""
    found = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    return {each["kind"]: each for each in found}


def compose() -> dict:
    return yaml.safe_load((CLUSTER / "compose.yaml").read_text())


class Recorder:
    """Stands for submitit's executor: keeps what is submitted."""

    def __init__(self, **_):
        self.commands = []

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def batch(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, function):
        self.commands.append(function.command)
        return function


def submitted(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(submitit, "AutoExecutor", lambda **_: recorder)
    loaded("submitit_jobs").main()
    return recorder


def commands(monkeypatch) -> dict[str, list[str]]:
    """Return what follows `hpolab worker` in each file that starts it."""
    slurm = re.search(r"^exec (hpolab worker .*)$", (CLUSTER / "slurm.sh").read_text(), re.M)
    (container,) = kubernetes()["Job"]["spec"]["template"]["spec"]["containers"]
    words = {
        "slurm.sh": shlex.split(slurm[1]),
        "kubernetes.yaml": [*container["command"], *container["args"]],
        "compose.yaml": compose()["services"]["worker"]["command"],
        "submitit_jobs.py": submitted(monkeypatch).commands[0][2:],
    }
    shown = re.findall(r"^hpolab worker .*$", (CLUSTER / "README.md").read_text(), re.M)
    words |= {f"README.md, {n}": shlex.split(line) for n, line in enumerate(shown)}
    assert shown
    for each in words.values():
        assert each[:2] == ["hpolab", "worker"]
    return {name: each[2:] for name, each in words.items()}


def parsed(arguments: list[str]) -> dict[str, object]:
    """Return how the command line reads arguments of `hpolab worker`; unknown ones are an error."""
    worker = typer.main.get_command(app).commands["worker"]
    return worker.make_context("worker", list(arguments)).params


def test_every_command_is_one_that_the_command_line_takes(monkeypatch):
    for name, arguments in commands(monkeypatch).items():
        found = parsed(arguments)
        assert found["objective"] == "objective:objective", name
        assert found["study_name"] == "digits", name
        assert found["n_trials"], name
        assert found["create"], name


def test_readme_shows_commands_that_the_command_line_takes():
    shown = re.findall(r"^(?:exec )?hpolab worker (.*)$", (ROOT / "README.md").read_text(), re.M)
    assert shown
    for line in shown:
        assert parsed(shlex.split(line))["n_trials"] == 2000


def test_an_option_that_does_not_exist_is_noticed(monkeypatch):
    for arguments in commands(monkeypatch).values():
        with pytest.raises(Exception, match="no-such-option"):
            parsed([*arguments, "--no-such-option"])


def test_every_example_is_listed_in_the_readme():
    listed = set(re.findall(r"\]\((\S+?)\)", (CLUSTER / "README.md").read_text()))
    files = {path.name for path in CLUSTER.iterdir() if path.is_file()}
    assert listed == files - {"README.md", "Dockerfile"}


@pytest.mark.parametrize("check", [["bash", "-n"], [PROGRAMS / "shellcheck"]])
def test_slurm_script_is_sound(check):
    done = subprocess.run([*check, CLUSTER / "slurm.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_slurm_sends_its_notice_in_time_and_to_the_worker_alone():
    script = (CLUSTER / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.M))
    assert re.search(r"^#SBATCH --requeue$", script, re.M)
    to, seconds = options["signal"].split("@")
    assert to == "B:USR1"
    assert int(seconds) >= 60  # as long as an epoch may take
    assert script.rstrip().splitlines()[-1].startswith("exec hpolab worker ")


def test_kubernetes_job_follows_the_schema():
    for each in kubernetes().values():
        kubernetes_validate.validate(each, desired_version="1.33", strict=True)


def test_kubernetes_retries_a_storage_out_of_reach_and_gives_up_a_broken_objective():
    spec = kubernetes()["Job"]["spec"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 60
    by_code = {
        code: rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert by_code == {BROKEN: "FailJob", WRONG_USAGE: "FailJob", OUT_OF_REACH: "Count"}
    assert spec["backoffLimitPerIndex"] > 0
    names = {each["name"] for each in spec["template"]["spec"]["containers"]}
    rules = [r["onExitCodes"] for r in spec["podFailurePolicy"]["rules"] if "onExitCodes" in r]
    assert {rule["containerName"] for rule in rules} <= names


def test_compose_file_follows_the_schema():
    check = [PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, CLUSTER / "compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_workers_wait_for_the_database_and_get_time_to_stop():
    services = compose()["services"]
    worker = services["worker"]
    assert worker["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "healthcheck" in services["postgres"]
    assert int(worker["stop_grace_period"].removesuffix("s")) >= 60
    assert worker["deploy"]["replicas"] > 1
    assert (CLUSTER / worker["build"]["context"] / worker["build"]["dockerfile"]).is_file()
    volumes = {each.split(":")[0] for service in services.values() for each in service["volumes"]}
    assert volumes == set(compose()["volumes"])


def test_image_holds_what_the_workers_need():
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    extras = re.search(r"/source\[(.*?)\]", dockerfile)[1].split(",")
    assert {"torch", "sklearn", "postgres"} <= set(extras)
    for source in re.findall(r"^COPY (\S+)", dockerfile, re.M):
        assert (ROOT / source).exists()


def test_submitit_leaves_the_worker_time_to_stop_by_itself(monkeypatch):
    recorder = submitted(monkeypatch)
    assert len(recorder.commands) == 50
    limit = parsed(recorder.commands[0][4:])["max_seconds"]
    assert limit == 60 * recorder.parameters["timeout_min"]
    # Later than the worker's own end, which is a minute before the limit.
    assert recorder.parameters["slurm_signal_delay_s"] < 60


def environment(storage: str, folder: Path) -> dict[str, str]:
    """Return what a job of these examples runs in, with few threads."""
    return os.environ | {
        "HPOLAB_STORAGE": storage,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_SUBMIT_DIR": str(folder),
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder that holds the objective."""
    shutil.copy(CLUSTER / "objective.py", tmp_path)
    return tmp_path


def test_submitit_starts_workers_that_share_the_budget(folder, monkeypatch):
    storage = f"sqlite:///{folder}/s.db"
    monkeypatch.chdir(folder)
    for name, value in environment(storage, folder).items():
        monkeypatch.setenv(name, value)
    jobs = loaded("submitit_jobs").main(cluster="local", n_workers=2, n_trials=3, minutes=3)
    for job in jobs:
        job.result()
    trials = load_study("digits", storage=storage).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert all(trial.state.is_finished() for trial in trials)


def test_notice_to_the_slurm_script_requeues_the_trial(folder):
    storage = f"sqlite:///{folder}/s.db"
    script = shutil.copy(CLUSTER / "slurm.sh", folder)
    with (folder / "log").open("w") as log:
        job = subprocess.Popen(["bash", script], env=environment(storage, folder), stderr=log)
    deadline = time.monotonic() + 60
    while not any(state == "RUNNING" for state in states(storage)):
        assert job.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0, (folder / "log").read_text()
    assert "RUNNING" not in states(storage)


def states(storage: str) -> list[str]:
    try:
        return [trial.state.name for trial in load_study("digits", storage=storage).trials]
    except HpolabError:
        return []


@pytest.mark.long
def test_ray_job_runs_on_a_local_ray(folder, monkeypatch):
    pytest.importorskip("ray")
    storage = f"sqlite:///{folder}/s.db"
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
    loaded("ray_job").main(storage, n_trials=3, n_workers=1, address=None)
    trials = load_study("digits", storage=storage).trials
    assert [trial.state.is_finished() for trial in trials] == [True] * 3
