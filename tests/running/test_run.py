"""run(): the budget, restarts, failures, Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hpolab import (
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    Reporter,
    SearchSpace,
    StorageUnavailable,
    StudyNotFound,
    TooManyFailures,
    load_study,
    make_study,
    run,
)
from hpolab.studies.recipe import REFERENCES_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


class Descent(Objective):
    """Gradient descent on w**2 from 5; the value after the last step."""

    def train(self, params, reporter):
        weight = 5.0
        for step in reporter.steps(self.max_steps):
            weight -= params["lr"] * 2 * weight
            reporter.report(weight**2, step)
        return reporter.best_value


LR = SearchSpace({"lr": FloatDistribution(1e-3, 1e-1, log=True)}, defaults={"lr": 0.01})


def descent(direction: str = "minimize", search_space: SearchSpace = LR) -> Descent:
    return Descent(search_space=search_space, direction=direction, max_steps=5)


def test_brute_force_refuses_a_range_that_it_cannot_count():
    study = make_study("s", storage="memory://", objective=descent(), sampler="brute_force")
    with pytest.raises(InvalidArgument, match=r"'brute_force'.* got FloatDistribution.* 'lr'"):
        run(study, descent(), n_trials=2, show_progress_bar=False)
    assert study.trials == []
    counted = SearchSpace({"lr": FloatDistribution(0.1, 0.3, step=0.1)})
    study = make_study(
        "t", storage="memory://", objective=descent(search_space=counted), sampler="brute_force"
    )
    run(study, descent(search_space=counted), n_trials=2, show_progress_bar=False)
    assert len(study.trials) == 2


def test_n_trials_is_the_total(storage_url, study_name):
    study = make_study(study_name, storage=storage_url, sampler="random")
    run(study, square, n_trials=3)
    run(study, square, n_trials=3)
    assert len(study.trials) == 3
    run(study, square, n_trials=5)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_plain_function_gives_the_trials_of_study_optimize():
    ours = make_study("s", storage="memory://", sampler="tpe", seed=3)
    run(ours, square, n_trials=15)
    theirs = make_study("s", storage="memory://", sampler="tpe", seed=3)
    theirs.optimize(square, n_trials=15)
    assert [t.params for t in ours.trials] == [t.params for t in theirs.trials]


def test_trial_0_is_the_default_configuration():
    study = make_study("s", storage="memory://")
    run(study, descent(), n_trials=2)
    assert study.trials[0].params == {"lr": 0.01}
    assert study.trials[1].params != {"lr": 0.01}


def test_default_first_can_be_refused():
    study = make_study("s", storage="memory://")
    run(study, descent(), n_trials=1, default_first=False)
    assert study.trials[0].params != {"lr": 0.01}


def test_enqueued_trial_comes_before_the_default():
    study = make_study("s", storage="memory://")
    study.enqueue_trial({"lr": 0.05})
    run(study, descent(), n_trials=1)
    assert study.trials[0].params == {"lr": 0.05}


def test_enqueued_trials_count_toward_the_budget():
    study = make_study("s", storage="memory://", sampler="random")
    for x in (0.1, 0.2):
        study.enqueue_trial({"x": x})
    run(study, square, n_trials=3)
    assert [t.params["x"] for t in study.trials][:2] == [0.1, 0.2]
    assert len(study.trials) == 3


class Referred(Descent):
    """Knows what simple solutions reach, and how often it was asked."""

    n_asked = 0

    def references(self):
        self.n_asked += 1
        return {"mean": {"loss": 0.5}, "oracle": "left out: it is not there"}


def test_references_are_stored_once():
    study = make_study("s", storage="memory://")
    objective = Referred(search_space=LR, direction="minimize", max_steps=1)
    for n_trials in (1, 2):
        run(study, objective, n_trials=n_trials)
    assert objective.n_asked == 1
    assert study.user_attrs[REFERENCES_KEY] == {
        "mean": {"loss": 0.5},
        "oracle": "left out: it is not there",
    }


def test_objective_without_references_stores_none():
    study = make_study("s", storage="memory://")
    run(study, descent(), n_trials=1)
    assert REFERENCES_KEY not in study.user_attrs


def test_failing_trial_is_stored_with_its_error_and_the_study_goes_on():
    def objective(trial):
        if trial.number == 1:
            raise KeyError("no such column")
        return square(trial)

    study = make_study("s", storage="memory://", sampler="random")
    run(study, objective, n_trials=4)
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert study.trials[1].user_attrs["hpolab:error"] == "KeyError: 'no such column'"


def test_storage_that_fails_in_a_trial_stops_the_study_and_the_trial_goes_on_later():
    study = make_study("s", storage="memory://", sampler="random")

    def objective(trial):
        if trial.number == 1:
            raise StorageUnavailable("the disk is full")
        return square(trial)

    with pytest.raises(StorageUnavailable, match="the disk is full"):
        run(study, objective, n_trials=3)
    assert study.trials[1].state == TrialState.RUNNING  # a full disk takes no state either
    run(study, square, n_trials=3)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3


def test_study_stops_when_the_first_trials_all_fail():
    def objective(trial):
        raise KeyError("no such column")

    study = make_study("s", storage="memory://")
    with pytest.raises(TooManyFailures, match=r"first 3 trials all failed.*no such column"):
        run(study, objective, n_trials=10)
    assert len(study.trials) == 3


def test_failures_after_a_success_do_not_stop_the_study():
    def objective(trial):
        if trial.number > 0:
            raise KeyError("later")
        return 0.0

    study = make_study("s", storage="memory://")
    run(study, objective, n_trials=6)
    assert len(study.trials) == 6


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_prunes_the_trial_with_a_violated_constraint(value):
    study = make_study("s", storage="memory://")
    run(study, lambda trial: value if trial.number == 0 else square(trial), n_trials=2)
    dead = study.trials[0]
    assert dead.state == TrialState.PRUNED
    assert all(violation > 0 for violation in dead.constraints.values())
    assert dead.constraints
    assert str(value) in dead.user_attrs["hpolab:reason"]
    assert study.best_trial.number == 1


def test_wrong_number_of_values_fails_the_trial():
    study = make_study("s", storage="memory://")
    with pytest.raises(TooManyFailures, match=r"must return 1 number.*\(1.0, 2.0\)"):
        run(study, lambda trial: (1.0, 2.0), n_trials=3, max_failures=1)


def test_several_objective_values():
    study = make_study("s", storage="memory://", sampler="nsga2", direction=["minimize"] * 2)
    run(study, lambda trial: (square(trial), trial.suggest_float("y", 0, 1)), n_trials=4)
    assert all(len(trial.values) == 2 for trial in study.trials)


def test_timeout_starts_no_further_trial():
    study = make_study("s", storage="memory://")
    run(study, lambda trial: time.sleep(0.05) or square(trial), timeout_seconds=0.12)
    assert 1 <= len(study.trials) <= 4


class Slow(Descent):
    def train(self, params, reporter):
        for step in reporter.steps(self.max_steps):
            time.sleep(0.01)
            reporter.report(1 / (1 + step), step)
        return reporter.best_value


def test_timeout_ends_the_running_trial_of_an_objective_with_what_it_has():
    study = make_study("s", storage="memory://", sampler="random")
    objective = Slow(search_space=LR, direction="minimize", max_steps=10**6)
    run(study, objective, timeout_seconds=0.2)
    (trial,) = study.trials
    assert trial.state == TrialState.COMPLETE
    assert trial.value == min(trial.intermediate_values.values()) < 1


def test_callbacks_get_the_finished_trial():
    seen = []
    study = make_study("s", storage="memory://")
    run(study, square, n_trials=2, callbacks=[lambda study, trial: seen.append(trial.state)])
    assert seen == [TrialState.COMPLETE] * 2


def test_study_stop_in_a_callback_ends_the_run_and_a_later_run_goes_on():
    study = make_study("s", storage="memory://")
    run(study, square, n_trials=9, callbacks=[lambda study, trial: study.stop()])
    assert len(study.trials) == 1
    run(study, square, n_trials=3)
    assert len(study.trials) == 3


def test_run_inside_its_own_objective_is_refused():
    study = make_study("s", storage="memory://")

    def objective(trial):
        run(study, square, n_trials=9)
        return 0.0

    with pytest.raises(TooManyFailures, match="inside an objective"):
        run(study, objective, n_trials=1, max_failures=1)


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_exhausted_sampler_ends_the_study_and_stays_exhausted(sampler, tmp_path):
    space = SearchSpace({"a": [1, 2], "b": [3, 4]})

    class Sum(Objective):
        def train(self, params, reporter):
            return params["a"] + params["b"]

    objective = Sum(search_space=space, direction="minimize", max_steps=1)
    for _ in range(3):
        study = make_study(
            "s", storage=f"sqlite:///{tmp_path}/s.db", sampler=sampler, search_space=space
        )
        run(study, objective, n_trials=20, default_first=False)
        assert sorted((t.params["a"], t.params["b"]) for t in study.trials) == [
            (1, 3),
            (1, 4),
            (2, 3),
            (2, 4),
        ]


def test_grid_tries_the_default_first_and_then_every_point():
    space = SearchSpace({"lr": (0.0, 1.0)}, defaults={"lr": 0.25})
    study = make_study("s", storage="memory://", sampler="grid", search_space=space)
    run(study, descent(search_space=space), n_trials=20)
    values = [trial.params["lr"] for trial in study.trials]
    assert values[0] == 0.25
    assert sorted(values[1:]) == [0.0, 0.5, 1.0]


def test_manual_runs_what_is_enqueued_and_no_more():
    study = make_study("s", storage="memory://", sampler="manual")
    for x in (0.1, -0.5):
        study.enqueue_trial({"x": x})
    run(study, square)
    assert [t.params["x"] for t in study.trials] == [0.1, -0.5]


def test_manual_refuses_more_trials_than_are_enqueued():
    study = make_study("s", storage="memory://", sampler="manual")
    study.enqueue_trial({"x": 0.1})
    with pytest.raises(InvalidArgument, match=r"at most the 1 configurations enqueued.*got 2"):
        run(study, square, n_trials=2)


def test_manual_refuses_a_parameter_that_was_not_enqueued():
    study = make_study("s", storage="memory://", sampler="manual")
    study.enqueue_trial({"y": 0.1})
    with pytest.raises(TooManyFailures, match=r"enqueued without 'x'"):
        run(study, square, max_failures=1)


def test_wider_range_is_recorded_and_changed_scale_is_refused():
    study = make_study("s", storage="memory://")
    run(study, descent(), n_trials=2)
    run(study, descent(search_space=LR.override(lr=(1e-4, 1e-1))), n_trials=3)
    linear = SearchSpace({"lr": FloatDistribution(1e-3, 1e-1)})
    with pytest.raises(RecipeMismatch, match=r"'lr': stored Float.*log=True.*asked for Float"):
        run(study, descent(search_space=linear), n_trials=4)
    assert len(study.trials) == 3


def test_changed_choice_list_is_refused():
    study = make_study("s", storage="memory://")
    run(study, descent(search_space=SearchSpace({"lr": [0.1, 0.2]})), n_trials=1)
    with pytest.raises(RecipeMismatch, match=r"\(0.1, 0.2\).*\(0.1, 0.3\)"):
        run(study, descent(search_space=SearchSpace({"lr": [0.1, 0.3]})), n_trials=2)
    assert len(study.trials) == 1


def test_direction_that_contradicts_the_objective_is_refused_before_a_trial():
    study = make_study("s", storage="memory://", direction="maximize")
    with pytest.raises(InvalidArgument, match=r"`direction`.*'minimize'.*got 'maximize'"):
        run(study, descent(), n_trials=1)
    assert study.trials == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidArgument, "`n_trials` or `timeout_seconds`"),
        ({"n_trials": 0}, InvalidArgument, "`n_trials` must be 1 or above, got 0"),
        ({"n_trials": 2.5}, InvalidType, "`n_trials` must be an int, got float"),
        ({"timeout_seconds": -1}, InvalidArgument, "`timeout_seconds` must be above 0"),
        ({"n_trials": 1, "max_failures": 0}, InvalidArgument, "`max_failures` must be 1"),
    ],
)
def test_bad_argument_is_refused_before_a_trial(arguments, error, message):
    study = make_study("s", storage="memory://")
    with pytest.raises(error, match=message):
        run(study, square, **arguments)
    assert study.trials == []


def test_what_is_no_study_or_no_objective_is_refused():
    with pytest.raises(InvalidType, match=r"`study` must be an optuna.Study, got str"):
        run("study", square, n_trials=1)
    with pytest.raises(InvalidType, match="`objective` must be a callable"):
        run(make_study("s", storage="memory://"), 3, n_trials=1)


WORKER = """
import sys, time
from hpolab import make_study, run, Reporter
url, n_trials, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
hang_in_trial, name = int(sys.argv[4]), sys.argv[5]
def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    reporter = Reporter(trial)
    for epoch in reporter.steps(5):
        time.sleep(seconds)
        if (trial.number, epoch) == (hang_in_trial, 2):
            print("hanging", flush=True)
            time.sleep(600)
        reporter.report(x**2 + 1 / (epoch + 1), epoch)
    return x**2
run(make_study(name, storage=url, sampler="tpe", pruner="median", seed=5), objective,
    n_trials=n_trials)
"""


@pytest.fixture(scope="module")
def worker(python: Any) -> Callable[..., AbstractContextManager[Any]]:
    """Runs the worker's script in a process of its own, gone at the end."""

    @contextmanager
    def worker(
        url: str, n_trials: int, *, seconds: float = 0.0, hang_in_trial: int = -1, name: str = "s"
    ) -> Iterator[Any]:
        arguments = (url, str(n_trials), str(seconds), str(hang_in_trial), name)
        with python.start(WORKER, *arguments) as process:
            try:
                yield process
            finally:
                process.kill()

    return worker


def trials_of(url: str, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    try:
        return load_study(name, storage=url).get_trials(deepcopy=False)
    except StudyNotFound:
        return []


def wait_for_finished(url: str, n: int) -> None:
    deadline = time.monotonic() + 60
    while sum(trial.state.is_finished() for trial in trials_of(url)) < n:
        assert time.monotonic() < deadline, "the worker finished no trial in a minute"
        time.sleep(0.02)


def test_several_processes_spend_one_budget_exactly(tmp_path, worker):
    url = f"sqlite:///{tmp_path}/s.db"
    with ExitStack() as stack:
        for process in [stack.enter_context(worker(url, 24, seconds=0.001)) for _ in range(4)]:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finished = [t.number for t in trials_of(url) if t.state.is_finished()]
    assert finished == list(range(24))


def outcome(url: str, name: str = "s") -> list[object]:
    return [(t.number, t.state, t.params, t.values) for t in trials_of(url, name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, python):
    """What a study of twelve trials comes to that nobody interrupts."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/s.db"
    python.output_of(WORKER, url, "12", "0", "-1", "s")
    return outcome(url)


@pytest.mark.parametrize(
    "storage_url", ["sqlite", "journal", "redis", "postgresql", "grpc"], indirect=True
)
def test_killed_study_ends_as_the_uninterrupted_one(
    storage_url, whole, tmp_path, monkeypatch, worker, python
):
    monkeypatch.chdir(tmp_path)  # where a server's checkpoints go
    name = f"study-{uuid.uuid4()}"
    for number in (2, 4):
        with worker(storage_url, 12, hang_in_trial=number, name=name) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "hanging\n"
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)
        trial = trials_of(storage_url, name)[number]
        assert trial.state == TrialState.RUNNING
        assert list(trial.intermediate_values) == [0, 1]
    # In a fresh interpreter, as after any crash.
    python.output_of(WORKER, storage_url, "12", "0", "-1", name, cold=True)
    assert outcome(storage_url, name) == whole


def test_ctrl_c_puts_the_trial_back_and_says_how_to_go_on(tmp_path, worker):
    url = f"sqlite:///{tmp_path}/s.db"
    with worker(url, 30, seconds=0.05) as process:
        wait_for_finished(url, 2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "of 30 trials" in errors
    assert "start it again to resume" in errors
    states = {trial.state for trial in trials_of(url)}
    assert not states & {TrialState.RUNNING, TrialState.FAIL}


def test_ctrl_c_in_this_process_raises_keyboard_interrupt_and_restores_the_handler():
    def objective(trial):
        if trial.number == 2:
            signal.raise_signal(signal.SIGINT)
        return square(trial)

    study = make_study("s", storage="memory://")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after 2 of 5 trials"):
        run(study, objective, n_trials=5)
    assert signal.getsignal(signal.SIGINT) is before
    assert study.trials[2].state == TrialState.WAITING
    run(study, square, n_trials=5)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 5


def test_ctrl_c_in_the_middle_of_a_read_puts_the_trial_back_beside_other_writers(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, sampler="random")
    other = load_study("s", storage=url)

    def objective(trial):
        # As a read of the storage that the signal cuts short: its cursor lives in this frame.
        connection = study._storage._backend.engine.raw_connection()
        cursor = connection.dbapi_connection.cursor()
        cursor.execute("SELECT 1 FROM studies UNION ALL SELECT 2 UNION ALL SELECT 3").fetchone()
        connection.close()  # back to the pool
        other.set_user_attr("by", "another worker")
        signal.raise_signal(signal.SIGINT)
        return square(trial)

    with pytest.raises(KeyboardInterrupt, match="after 0 of 5 trials"):
        run(study, objective, n_trials=5)
    assert load_study("s", storage=url).trials[0].state == TrialState.WAITING


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_notice_of_preemption_puts_the_trial_back_at_once(signum):
    def objective(trial):
        signal.raise_signal(signum)
        return square(trial)

    study = make_study("s", storage="memory://")
    with pytest.raises(SystemExit) as ended:
        run(study, objective, n_trials=5)
    assert ended.value.code == 128 + signum
    assert [t.state for t in study.trials] == [TrialState.WAITING]
    assert signal.getsignal(signum) is signal.SIG_DFL


def test_ctrl_c_between_trials_ends_after_the_trial_in_hand():
    study = make_study("s", storage="memory://")
    with pytest.raises(KeyboardInterrupt, match="after 1 of 5 trials"):
        run(
            study,
            square,
            n_trials=5,
            callbacks=[lambda study, trial: signal.raise_signal(signal.SIGINT)],
        )


def test_ctrl_c_while_a_trial_is_claimed_does_not_wait_for_its_end():
    class Interrupted(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            if trial.number == 1:
                signal.raise_signal(signal.SIGINT)

    seen = []
    study = make_study("s", storage="memory://", sampler=Interrupted(seed=0))
    with pytest.raises(KeyboardInterrupt):
        run(study, lambda trial: seen.append(trial.number) or square(trial), n_trials=3)
    assert seen == [0]
    assert study.trials[1].state == TrialState.WAITING


def test_run_works_outside_the_main_thread():
    study = make_study("s", storage="memory://")
    thread = threading.Thread(target=run, args=(study, square), kwargs={"n_trials": 2})
    thread.start()
    thread.join(timeout=30)
    assert len(study.trials) == 2


def test_reporter_in_a_plain_function_of_run():
    def objective(trial):
        reporter = Reporter(trial)
        for step in reporter.steps(3):
            reporter.report(square(trial), step)
        return reporter.best_value

    study = make_study("s", storage="memory://")
    run(study, objective, n_trials=2)
    assert all(len(trial.intermediate_values) == 3 for trial in study.trials)
