"""Worker processes: one budget, the dead replaced, errors carried home, reproducible studies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import psutil
import pytest
from optuna.trial import TrialState

from hpolab import (
    InvalidArgument,
    RecipeMismatch,
    Reporter,
    SearchSpace,
    StudyNotFound,
    TooManyFailures,
    WorkerError,
    WorkersDied,
    load_study,
    make_study,
    run,
)
from hpolab.running.carrying import CarriedError, carry_error

if TYPE_CHECKING:
    import optuna


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def pids_of_workers(trials: list[optuna.trial.FrozenTrial]) -> set[int]:
    """Return who runs or ran them; a trial that has just been claimed does not tell yet."""
    leases = [trial.user_attrs.get("hpolab:lease") for trial in trials]
    return {lease["pid"] for lease in leases if lease is not None}


def test_workers_spend_one_budget_in_processes_of_their_own(url):
    study = make_study("s", storage=url, sampler="random")

    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.05)
        return square(trial)

    run(study, objective, n_trials=20, n_workers=2)
    trials = study.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 20
    workers = pids_of_workers(trials)
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert not any(psutil.pid_exists(pid) for pid in workers)


@pytest.mark.usefixtures("warm_workers")
def test_one_progress_bar_for_all_workers(url, capfd):
    run(make_study("bar", storage=url), square, n_trials=6, n_workers=2, show_progress_bar=True)
    assert "6/6" in capfd.readouterr().err


def test_workers_share_the_cores(url):
    def objective(trial: optuna.Trial) -> float:
        return float(os.environ["OMP_NUM_THREADS"])

    study = make_study("s", storage=url)
    run(study, objective, n_trials=1, n_workers=2)
    assert study.trials[0].value == max(1, (os.cpu_count() or 1) // 2)


@pytest.mark.usefixtures("warm_workers")
def test_dead_worker_is_replaced_and_its_trial_goes_on(url, tmp_path):
    marker = tmp_path / "died"

    def objective(trial: optuna.Trial) -> float:
        value = square(trial)
        if trial.number == 3 and not marker.exists():
            marker.write_text(str(trial.params))
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    study = make_study("s", storage=url, sampler="random")
    run(study, objective, n_trials=10, n_workers=2)
    trials = study.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 10
    assert str(trials[3].params) == marker.read_text()
    assert trials[3].user_attrs["hpolab:retries"] == 1


def test_trial_that_always_kills_its_worker_fails_and_the_study_goes_on(url):
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            os._exit(3)
        return square(trial)

    study = make_study("s", storage=url)
    run(study, objective, n_trials=5, n_workers=2, max_retries=1)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL"] + ["COMPLETE"] * 3
    assert study.trials[1].user_attrs["hpolab:error"] == "the worker died 2 times in this trial"


@pytest.mark.usefixtures("warm_workers")
def test_error_of_a_worker_is_raised_here(url):
    def objective(trial: optuna.Trial) -> float:
        raise KeyError("no such column")

    with pytest.raises(TooManyFailures, match="no such column"):
        run(make_study("s", storage=url), objective, n_trials=9, n_workers=2)


class QuotaExceeded(Exception):
    """Its class takes other arguments than it keeps."""

    def __init__(self, user: str, limit: int) -> None:
        super().__init__(f"{user} is over {limit}")


class Coded(Exception):
    """Its class takes its arguments by name alone, and it knows more than it says."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Locked(Exception):
    """It holds what cannot be pickled."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.lock = threading.Lock()


def carried(tmp_path, error: BaseException) -> BaseException:
    """Return an error as the process that started the worker gets it."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001
        carry_error(tmp_path / "error", raised, while_stopping=False)
    found = CarriedError.read(tmp_path / "error")
    assert found is not None
    return found.again()


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("ann", 3),
        Coded(code=3),
        KeyError("no such column"),
        OSError(28, "No space left", "/tmp/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        TooManyFailures("all failed"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_of_a_worker_is_the_same_here_with_its_traceback(error, tmp_path):
    again = carried(tmp_path, error)
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    shown = "".join(traceback.format_exception(again))
    assert "in carried" in shown
    assert "raise error" in shown


def test_error_that_cannot_travel_is_told_in_words(tmp_path):
    again = carried(tmp_path, Locked("the door"))
    assert isinstance(again, WorkerError)
    assert "Locked: the door" in str(again)
    assert "in carried" in "".join(traceback.format_exception(again))


@pytest.mark.usefixtures("warm_workers")
def test_error_of_a_callback_is_the_same_with_workers_as_with_one(url):
    def look_up(study, trial):
        raise QuotaExceeded("ann", 3)

    for n_workers in (1, 2):
        study = make_study(f"s{n_workers}", storage=url)
        with pytest.raises(QuotaExceeded, match="ann is over 3") as raised:
            run(study, square, n_trials=4, n_workers=n_workers, callbacks=[look_up])
        shown = "".join(traceback.format_exception(raised.value))
        assert "in look_up" in shown


@pytest.mark.usefixtures("warm_workers")
def test_workers_that_all_fail_warn_of_no_trial_that_could_not_be_requeued(url, caplog):
    def objective(trial: optuna.Trial) -> float:
        raise ValueError("no such column")

    with pytest.raises(TooManyFailures):
        run(make_study("s", storage=url), objective, n_trials=20, n_workers=3)
    others = [r.getMessage() for r in caplog.records if "failed: ValueError" not in r.getMessage()]
    assert [each for each in others if "requeue" in each or "Another" in each] == []


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize("place", ["objective", "callback"])
def test_stop_ends_the_run_of_all_workers_once_their_trials_have_ended(url, place):
    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.number == 3:
            study.stop()

    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.2)
        if place == "objective" and trial.number == 3:
            trial.study.stop()
        return square(trial)

    study = make_study("s", storage=url, sampler="random")
    callbacks = [stop] if place == "callback" else []
    run(study, objective, n_trials=24, n_workers=2, callbacks=callbacks)
    states = [trial.state for trial in study.trials]
    assert TrialState.RUNNING not in states
    assert states.count(TrialState.COMPLETE) <= 8
    run(study, square, n_trials=10, n_workers=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 10


@pytest.mark.usefixtures("warm_workers")
def test_workers_stop_where_the_sampler_is_exhausted_and_run_what_is_enqueued(url):
    space = SearchSpace({"x": ["a", "bb", "ccc"]})
    study = make_study("s", storage=url, sampler="grid", search_space=space)

    def objective(trial: optuna.Trial) -> float:
        return float(len(trial.suggest_categorical("x", ["a", "bb", "ccc"])))

    run(study, objective, n_trials=20, n_workers=2)
    n_finished = sum(trial.state.is_finished() for trial in study.trials)
    # While a worker runs the last point, Optuna's sampler gives it to the other one, too.
    assert 3 <= n_finished < 20
    assert {trial.params["x"] for trial in study.trials if trial.params} == {"a", "bb", "ccc"}
    study.enqueue_trial({"x": "bb"})
    study.enqueue_trial({"x": "a"})
    run(study, objective, n_trials=20, n_workers=2)
    assert sum(trial.state.is_finished() for trial in study.trials) == n_finished + 2


@pytest.mark.usefixtures("warm_workers")
def test_objective_that_ends_its_program_ends_the_run(url):
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            sys.exit(4)
        return square(trial)

    with pytest.raises(SystemExit) as ended:
        run(make_study("s", storage=url), objective, n_trials=6, n_workers=2)
    assert ended.value.code == 4


@pytest.mark.usefixtures("warm_workers")
def test_worker_that_ends_without_an_error_in_a_trial_is_replaced(url):
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1 and trial.user_attrs.get("hpolab:retries", 0) == 0:
            os._exit(0)
        return square(trial)

    study = make_study("s", storage=url)
    run(study, objective, n_trials=6, n_workers=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6


@pytest.mark.usefixtures("warm_workers")
def test_workers_that_cannot_live_end_the_run(url, monkeypatch):
    monkeypatch.setattr("hpolab.running.executors.processes._MAX_DEATHS", 2)  # for each worker

    class KillsOnArrival:
        def __reduce__(self) -> tuple[object, tuple[int]]:
            return os._exit, (9,)

        def __call__(self, trial: optuna.Trial) -> float:
            return 0.0

    with pytest.raises(WorkersDied, match="exit status 9"):
        run(make_study("s", storage=url), KillsOnArrival(), n_trials=2, n_workers=1 + 1)


def test_study_in_memory_refuses_workers_with_the_reason():
    with pytest.raises(
        InvalidArgument, match=r"`n_workers` must be 1 for a study in memory.*got 2"
    ):
        run(make_study("s", storage="memory://"), square, n_trials=1, n_workers=2)


SCRIPT = """
import sys, time
from hpolab import make_study, run
def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    time.sleep(0.3)
    return x**2
run(make_study("s", storage=sys.argv[1]), objective, n_trials=500, n_workers=2)
"""


def running_trials(url: str) -> list[optuna.trial.FrozenTrial]:
    try:
        trials = load_study("s", storage=url).trials
    except StudyNotFound:
        return []
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_parent_leaves_no_worker_and_no_running_trial(url, signum, python):
    with python.start(SCRIPT, url) as parent:
        deadline = time.monotonic() + 60
        workers: set[int] = set()
        while len(workers) < 2:  # not both need be in a trial at one moment
            assert time.monotonic() < deadline
            time.sleep(0.05)
            workers |= pids_of_workers(running_trials(url))
        parent.send_signal(signum)
        parent.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived the process that started it"
        time.sleep(0.05)
    assert running_trials(url) == []


def test_worker_that_cannot_put_its_trial_back_is_told_of(url, python):
    script = """
import sys, time
from hpolab import make_study, run
from hpolab.errors import StorageUnavailable
def objective(trial):
    try:
        trial.set_user_attr("begun", True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise StorageUnavailable("the disk is gone")
run(make_study("s", storage=sys.argv[1]), objective, n_trials=5, n_workers=2)
"""
    with python.start(script, url) as parent:
        deadline = time.monotonic() + 60
        while sum("begun" in trial.user_attrs for trial in running_trials(url)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        errors = parent.communicate(timeout=30)[1]
    assert errors.count("could not requeue its trial (StorageUnavailable: the disk is gone)") == 2


def noisy(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-3, 1, log=True)
    reporter = Reporter(trial)
    for epoch in reporter.steps(4):
        time.sleep(0.01 * (1 + int.from_bytes(os.urandom(1)) % 4))  # no two runs take equally long
        reporter.report(x**2 + y / (epoch + 1), epoch)
    return x**2 + y


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("tpe", "median"),
        pytest.param("nsga2", "hyperband", marks=pytest.mark.long),
        pytest.param("cmaes", "asha", marks=pytest.mark.long),
    ],
)
def test_reproducible_study_depends_on_workers_and_seed_but_not_on_timing(
    sampler, pruner, tmp_path
):
    def outcome(name: str, n_workers: int) -> list[object]:
        study = make_study(
            "s", storage=f"sqlite:///{tmp_path}/{name}.db", sampler=sampler, pruner=pruner
        )
        run(study, noisy, n_trials=18, n_workers=n_workers, reproducible=True)
        return [(t.number, t.state, t.params, t.values) for t in study.trials]

    first = outcome("first", 3)
    assert len(first) == 18
    assert first == outcome("second", 3)


@pytest.mark.usefixtures("warm_workers")
def test_reproducible_study_is_resumed_as_it_began(url):
    study = make_study("s", storage=url)
    run(study, square, n_trials=2, n_workers=2, reproducible=True)
    with pytest.raises(RecipeMismatch, match=r"n_workers=2, asked for reproducible=False"):
        run(study, square, n_trials=4)
    run(study, square, n_trials=4, n_workers=2, reproducible=True)
    assert len(study.trials) == 4
