"""``hpolab status``: who works on a study, and how it is watched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from hpolab import make_study
from hpolab.cli import app
from hpolab.trial.lease import Lease

invoke = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).invoke


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def study(url):
    return make_study("s", storage=url, sampler="random")


def running_under(study, lease):
    trial = create_trial(state=TrialState.RUNNING)
    study.add_trial(trial)
    if lease is not None:
        number = len(study.trials) - 1
        study._storage.set_trial_user_attr(study.trials[number]._trial_id, *lease.as_mark())


def elsewhere(host: str = "node7", **facts):
    facts = {"pid": 41, "started": 0.0, "beat_at": time.time()} | facts
    return Lease(host=f"{host}/boot/pid:[4026]", **facts)


def test_worker_is_shown_with_host_process_job_device_and_trial(study, url):
    told = {"objective": "train", "device": "cuda:0 of GPU 3", "job": "SLURM job 900_7"}
    running_under(study, elsewhere(**told))
    shown = invoke(app, ["status", "-s", url]).output
    assert "running" in shown
    row = next(line for line in shown.splitlines() if "node7" in line)
    for word in ("41", "SLURM job 900_7", "cuda:0 of GPU 3", "train", "s ago"):
        assert word in row
    assert "looks dead" not in row


def test_worker_of_this_host_that_is_gone_looks_dead(study, url):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    mine = Lease.mine()
    running_under(study, Lease(mine.host, ended.pid, mine.started, beat_at=time.time()))
    assert "looks dead" in invoke(app, ["status", "-s", url]).output


def test_worker_of_another_host_that_is_silent_for_longer_than_it_may_looks_dead(study, url):
    running_under(study, elsewhere("late", beat_at=time.time() - 200, grace_seconds=60))
    running_under(study, elsewhere("quick", beat_at=time.time() - 20, grace_seconds=60))
    shown = invoke(app, ["status", "s", "-s", url]).output
    rows = {line.split()[0]: line for line in shown.splitlines() if " ago" in line}
    assert re.search(r"3 min 2\d s ago, looks dead", rows["late"])
    assert "dead" not in rows["quick"]


def test_clock_that_is_ahead_of_ours_is_no_sign_of_death(study, url):
    running_under(study, elsewhere(beat_at=time.time() + 3600))
    shown = invoke(app, ["status", "-s", url]).output
    assert "0 s ago" in shown
    assert "looks dead" not in shown


@pytest.mark.parametrize("lease", [None, Lease("old/boot/ns", 7, 0.0)])
def test_trial_of_which_less_is_known_is_shown_too(study, url, lease):
    running_under(study, lease)
    shown = invoke(app, ["status", "-s", url])
    assert shown.exit_code == 0
    assert ("asked for by `study.ask`" if lease is None else "old") in shown.output


def test_crowd_is_cut_and_counted(study, url):
    for i in range(53):
        running_under(study, elsewhere(f"node{i}"))
    shown = invoke(app, ["status", "-s", url]).output
    assert "and 3 more" in shown
    assert shown.count("s ago") == 50


def test_watching_shows_what_changes_until_ctrl_c(study, url, python):
    code = "import sys; from hpolab.cli import app; app(sys.argv[1:], prog_name='hpolab')"
    watching = python.start(code, "status", "s", "-s", url, "--watch", "--every", "0.2")
    with watching:
        read = watching.stdout
        while "0 " not in (line := read.readline()) or not line.startswith("s "):
            assert line
        study.add_trial(create_trial(value=0.25))
        while "0.25" not in (line := read.readline()):
            assert line
        os.kill(watching.pid, signal.SIGINT)
        _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert errors == ""
