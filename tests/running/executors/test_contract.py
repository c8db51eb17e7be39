"""What every executor promises: this process, local processes, a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import cloudpickle
import pytest
from optuna.trial import TrialState

from hpolab import (
    Executor,
    InvalidArgument,
    InvalidType,
    LocalProcesses,
    RayExecutor,
    TooManyFailures,
    make_study,
    run,
)
from hpolab.running.executors.this_process import ThisProcess

if TYPE_CHECKING:
    import optuna

# A worker on Ray has no folder of tests in its search path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EXECUTORS = [
    pytest.param(ThisProcess(), id="this process"),
    pytest.param(LocalProcesses(2), id="processes"),
    pytest.param(RayExecutor(n_workers=2), id="ray", marks=pytest.mark.xdist_group("ray")),
]
WITH_WORKERS = EXECUTORS[1:]

every_executor = pytest.mark.parametrize("executor", EXECUTORS)
every_executor_with_workers = pytest.mark.parametrize("executor", WITH_WORKERS)


@pytest.fixture
def study(tmp_path):
    return make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random", seed=0)


@pytest.fixture(autouse=True)
def surroundings(request):
    """A cluster or a warm Python for an executor that needs one; no actor is left behind."""
    callspec = getattr(request.node, "callspec", None)
    executor = None if callspec is None else callspec.params.get("executor")
    if isinstance(executor, LocalProcesses):
        request.getfixturevalue("warm_workers")
    if not isinstance(executor, RayExecutor):
        yield
        return
    cluster = request.getfixturevalue("ray_cluster")
    yield
    assert cluster.actors() == []


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


class QuotaExceeded(Exception):
    """Its class takes other arguments than it keeps."""

    def __init__(self, user: str, limit: int) -> None:
        super().__init__(f"{user} is over {limit}")


@every_executor
def test_budget_is_spent_exactly_and_a_study_resumes(executor, study, capfd):
    run(study, square, n_trials=5, executor=executor, show_progress_bar=True)
    assert states(study) == ["COMPLETE"] * 5
    assert "5/5" in capfd.readouterr().err
    first = [trial.params for trial in study.trials]
    run(study, square, n_trials=8, executor=executor)
    assert states(study) == ["COMPLETE"] * 8
    assert [trial.params for trial in study.trials[:5]] == first


@every_executor
def test_failed_trial_is_logged_once_here_and_the_study_goes_on(executor, study, caplog):
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise KeyError("no such column")
        return square(trial)

    run(study, objective, n_trials=6, executor=executor)
    assert states(study) == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 3
    said = [r.getMessage() for r in caplog.records]
    assert len([each for each in said if "Trial 2 of study 's' failed: KeyError" in each]) == 1


@every_executor
def test_study_whose_first_trials_all_fail_is_ended(executor, study):
    def objective(trial: optuna.Trial) -> float:
        raise ValueError("the file is not there")

    with pytest.raises(TooManyFailures, match="the file is not there"):
        run(study, objective, n_trials=30, executor=executor)
    assert set(states(study)) <= {"FAIL", "WAITING"}


@every_executor
def test_error_of_a_callback_is_raised_as_it_was(executor, study):
    def look_up(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        raise QuotaExceeded("ann", 3)

    with pytest.raises(QuotaExceeded, match="ann is over 3") as raised:
        run(study, square, n_trials=40, executor=executor, callbacks=[look_up])
    assert "in look_up" in "".join(traceback.format_exception(raised.value))
    assert "RUNNING" not in states(study)


@every_executor
def test_stop_in_an_objective_ends_the_run_once_what_is_in_training_has_ended(executor, study):
    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.1)
        if trial.number == 3:
            trial.study.stop()
        return square(trial)

    run(study, objective, n_trials=60, executor=executor)
    assert "RUNNING" not in states(study)
    assert 3 <= states(study).count("COMPLETE") < 40


@every_executor
def test_no_trial_is_begun_after_the_time_limit(executor, study):
    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.4)
        return square(trial)

    # Workers of a cluster on a busy machine take seconds to start.
    run(study, objective, n_trials=500, timeout_seconds=10, executor=executor)
    assert set(states(study)) <= {"COMPLETE", "WAITING"}
    assert 1 <= states(study).count("COMPLETE") < 100


@every_executor
def test_ctrl_c_requeues_what_is_in_training(executor, study):
    def objective(trial: optuna.Trial) -> float:
        value = square(trial)
        time.sleep(120)
        return value

    def press() -> None:
        while "RUNNING" not in states(study):
            time.sleep(0.05)
        time.sleep(0.5)
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    pressed: list[float] = []
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match="start it again to resume"):
        run(study, objective, n_trials=6, executor=executor)
    assert time.monotonic() - pressed[0] < 15  # a training is interrupted, not waited for
    trials = study.trials
    assert {trial.state for trial in trials} == {TrialState.WAITING}
    assert trials[0].user_attrs.get("hpolab:retries", 0) == 0
    begun = trials[0].params
    run(study, square, n_trials=6)
    assert study.trials[0].params == begun


@every_executor_with_workers
def test_dead_worker_is_replaced_and_its_trial_resumes(executor, study, tmp_path):
    marker = tmp_path / "died"

    def objective(trial: optuna.Trial) -> float:
        value = square(trial)
        if trial.number == 3 and not marker.exists():
            marker.write_text(str(trial.params))
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    run(study, objective, n_trials=8, executor=executor)
    assert states(study) == ["COMPLETE"] * 8
    assert str(study.trials[3].params) == marker.read_text()
    assert study.trials[3].user_attrs["hpolab:retries"] == 1


@every_executor_with_workers
def test_study_in_memory_is_refused_before_a_trial(executor):
    with pytest.raises(InvalidArgument, match="a study in memory"):
        run(make_study("s", storage="memory://"), square, n_trials=1, executor=executor)


@every_executor_with_workers
def test_objective_that_cannot_be_sent_is_refused_with_what_is_in_the_way(executor, study):
    lock = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        with lock:
            return square(trial)

    with pytest.raises(InvalidType, match=r"`objective` must be one that `cloudpickle`.*'lock'"):
        run(study, objective, n_trials=4, executor=executor)
    assert study.trials == [] or set(states(study)) == {"WAITING"}


@every_executor_with_workers
def test_executor_and_n_workers_together_are_refused(executor, study):
    with pytest.raises(InvalidArgument, match="`n_workers` must be None where `executor`"):
        run(study, square, n_trials=4, n_workers=2, executor=executor)


@pytest.mark.parametrize("wrong", [4, "ray", RayExecutor])
def test_what_is_no_executor_is_refused(wrong, study):
    with pytest.raises(InvalidType, match="`executor` must be a RayExecutor"):
        run(study, square, n_trials=4, executor=wrong)


def test_executor_of_the_users_own_is_taken(study):
    class Twice(Executor):
        n_workers = 1

        def check(self, study: optuna.Study) -> None:
            pass

        def execute(self, study, objective, plan, interrupts, after_trial) -> None:
            ThisProcess().execute(study, objective, plan, interrupts, after_trial)

    run(study, square, n_trials=3, executor=Twice())
    assert states(study) == ["COMPLETE"] * 3
