"""Leases: who is dead, what is requeued, and what a worker does that has lost its trial."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpolab import Reporter, make_study, run
from hpolab.trial.checkpoint import Checkpoint, TrialCheckpoints, default_store
from hpolab.trial.lease import Lease, requeue_dead_trials

PARAMS = {"x": 0.5}
DISTRIBUTIONS = {"x": optuna.distributions.FloatDistribution(-1, 1)}


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def running(lease: Lease) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params=PARAMS,
        distributions=DISTRIBUTIONS,
        intermediate_values={0: 1.0},
        user_attrs=dict([lease.as_mark()]),
    )


@cache
def dead_lease() -> Lease:
    """The lease of a process that has ended."""
    code = "from hpolab.trial.lease import Lease; print(repr(Lease.mine()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lease = eval(shown.stdout)
    assert isinstance(lease, Lease)
    return lease


def test_living_process_is_not_dead_and_an_ended_one_is():
    assert not Lease.mine().process_is_dead()
    assert dead_lease().process_is_dead()


def test_process_that_got_the_pid_of_a_dead_one_is_not_taken_for_it():
    assert replace(Lease.mine(), started=Lease.mine().started - 60).process_is_dead()


def test_zombie_is_dead():
    code = "from hpolab.trial.lease import Lease; print(repr(Lease.mine()), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lease = eval(child.stdout.readline())
        child.stdout.read()
        deadline = time.monotonic() + 10
        while not lease.process_is_dead():  # it has ended, and nobody has waited for it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_process_of_another_host_cannot_be_looked_up():
    assert not replace(dead_lease(), host="elsewhere").process_is_dead()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_has_a_lease_of_its_own():
    mine = Lease.mine()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(Lease.mine() != mine and not mine.is_mine).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"True"
    os.close(reader)
    os.close(writer)


def test_trial_of_a_dead_process_goes_on_under_its_number(storage_url, study_name):
    study = make_study(study_name, storage=storage_url, sampler="random")
    study.add_trial(running(dead_lease()))
    assert requeue_dead_trials(study) == [0]
    trial = study.get_trials()[0]
    assert trial.state == TrialState.WAITING
    assert (trial.params, trial.intermediate_values) == (PARAMS, {0: 1.0})
    run(study, square, n_trials=2)
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2
    assert trials[0].params == PARAMS
    assert trials[0].value == 0.25


def test_trial_of_a_living_process_is_left_alone():
    study = make_study("s", storage="memory://")
    trial = study.ask()
    reporter = Reporter(trial)
    assert requeue_dead_trials(study) == []
    reporter.report(1.0, 0)
    assert study.trials[0].state == TrialState.RUNNING


def test_trial_that_this_process_has_dropped_is_requeued():
    study = make_study("s", storage="memory://")
    trial = study.ask()
    Reporter(trial)
    del trial
    assert requeue_dead_trials(study) == [0]


def test_trial_without_a_lease_is_left_alone():
    study = make_study("s", storage="memory://")
    study.ask()
    assert requeue_dead_trials(study) == []
    run(study, square, n_trials=2)
    assert [t.state for t in study.trials] == [TrialState.RUNNING, TrialState.COMPLETE]


def test_remote_worker_is_dead_when_its_lease_stands_still_for_the_grace_period():
    study = make_study("s", storage="memory://")
    lease = replace(Lease.mine(), host="elsewhere", grace_seconds=0.3)
    study.add_trial(running(lease))
    assert requeue_dead_trials(study) == []
    time.sleep(0.2)
    # It beats: whatever its clock says, it lives.
    trial = study.trials[0]
    key, value = replace(lease, beats=1, started=0.0).as_mark()
    study._storage.set_trial_user_attr(trial._trial_id, key, value)
    assert requeue_dead_trials(study) == []
    time.sleep(0.2)
    assert requeue_dead_trials(study) == []
    time.sleep(0.2)
    assert requeue_dead_trials(study) == [0]


def test_trial_that_kills_its_worker_too_often_fails_with_the_reason():
    study = make_study("s", storage="memory://")
    lease = dead_lease()
    study.add_trial(running(lease))
    for _ in range(2):
        assert requeue_dead_trials(study, max_retries=2) == [0]
        trial_id = study.trials[0]._trial_id
        study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        study._storage.set_trial_user_attr(trial_id, *lease.as_mark())
    assert requeue_dead_trials(study, max_retries=2) == []
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["hpolab:error"] == "the worker died 3 times in this trial"


def test_trial_that_is_given_up_leaves_no_checkpoint(tmp_path):
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db")
    study.add_trial(running(dead_lease()))
    checkpoints = TrialCheckpoints(default_store(study), "s", 0)
    checkpoints.save(Checkpoint(step=0, reports={0: 1.0}, progress={}, state=b""))
    assert checkpoints.load() is not None
    assert requeue_dead_trials(study, max_retries=0) == []
    assert study.trials[0].state == TrialState.FAIL
    assert checkpoints.load() is None


@pytest.mark.parametrize("loop", ["optimize", "ask"])
def test_dead_trial_goes_on_under_study_optimize_and_ask_and_tell(loop):
    study = make_study("s", storage="memory://")
    study.add_trial(running(dead_lease()))

    def objective(trial: optuna.Trial) -> float:
        with Reporter(trial) as reporter:
            reporter.report(square(trial), 0)
            return square(trial)

    if loop == "optimize":
        study.optimize(objective, n_trials=2)
    else:
        for _ in range(2):
            trial = study.ask()
            study.tell(trial, objective(trial))
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    assert study.trials[0].value == 0.25


def test_lease_is_renewed_while_an_epoch_lasts(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"

    def objective(trial: optuna.Trial) -> float:
        time.sleep(1.2)
        return 0.0

    study = make_study("s", storage=url)
    run(study, objective, n_trials=1, grace_seconds=1)
    lease = Lease.of(study.trials[0])
    assert lease is not None
    assert lease.beats >= 3


def test_worker_that_lost_its_trial_leaves_it_to_the_other(tmp_path):
    """As after a laptop's sleep: the worker was taken for dead, and wakes up."""
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url)
    taken = threading.Event()

    def objective(trial: optuna.Trial) -> float:
        if trial.number > 0 or taken.is_set():
            return square(trial)
        taken.set()
        other = Lease.mine()
        key, value = replace(other, host="elsewhere", grace_seconds=2.0).as_mark()
        trial.set_user_attr(key, value)
        return 99.0

    run(study, objective, n_trials=3, grace_seconds=1)
    trials = study.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 3
    assert trials[0].value != 99.0


def test_reporter_of_a_lost_trial_stops_the_training(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url)
    steps = []

    def objective(trial: optuna.Trial) -> float:
        reporter = Reporter(trial)
        if trial.number == 0 and not steps:
            key, value = replace(Lease.mine(), host="elsewhere", grace_seconds=1.0).as_mark()
            trial.set_user_attr(key, value)
            for step in reporter.steps(100):
                steps.append(step)
                time.sleep(0.1)
                reporter.report(1.0, step)
        return 0.5

    run(study, objective, n_trials=1, grace_seconds=1)
    assert 0 < len(steps) < 50
    assert study.trials[0].value == 0.5


def test_worker_killed_between_popping_a_trial_and_writing_its_lease_is_noticed(monkeypatch):
    # Five seconds of waiting are shortened; all else is as it happens.
    monkeypatch.setattr("hpolab.trial.lease._POP_SECONDS", 0.2)
    study = make_study("s", storage="memory://")
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"hpolab:slot": None}))
    assert requeue_dead_trials(study) == []
    time.sleep(0.25)
    assert requeue_dead_trials(study) == [0]


def test_worker_that_is_gone_needs_no_long_wait():
    study = make_study("s", storage="memory://")
    tried = {"hpolab:slot": dead_lease().as_mark()[1]}
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=tried))
    assert requeue_dead_trials(study) == []
    time.sleep(0.3)
    assert requeue_dead_trials(study) == [0]


def test_lease_of_an_earlier_or_a_later_version_is_read():
    mine = Lease.mine(objective="train", device="cuda:0", job="SLURM job 7")
    key, stored = mine.as_mark()
    later = create_trial(state=TrialState.RUNNING, user_attrs={key: stored | {"mood": "good"}})
    assert Lease.of(later) == mine
    fields = ("host", "pid", "started", "grace_seconds", "beats")
    earlier = {name: stored[name] for name in fields}
    lease = Lease.of(create_trial(state=TrialState.RUNNING, user_attrs={key: earlier}))
    assert lease is not None
    assert lease.is_mine
    assert (lease.objective, lease.device, lease.job, lease.beat_at) == ("", "", "", 0.0)


def test_lease_says_what_the_worker_trains_and_when_it_was_heard_of(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random")
    seen = []

    def train(trial):
        deadline = time.monotonic() + 10
        while len(seen) < 2 and time.monotonic() < deadline:
            lease = Lease.of(study.get_trials(deepcopy=False)[trial.number])
            if not seen or lease.beats > seen[-1].beats:
                seen.append(lease)
            time.sleep(0.05)
        return 1.0

    run(study, train, n_trials=1, grace_seconds=1)
    assert [lease.objective for lease in seen] == ["train"] * 2
    assert seen[0].job == "SLURM job 77"
    assert 0 < seen[0].beat_at < seen[1].beat_at <= time.time()
