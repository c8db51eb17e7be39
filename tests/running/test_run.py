"""run(): the budget, restarts, failures, Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
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
    open_storage,
    run,
)
from hpolab.running.run import budget_of
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


@pytest.mark.parametrize("notes", [[], ["in layer fc2"], ["in layer fc2", "at step 3"]])
def test_the_stored_error_says_what_the_exception_says_and_its_notes_behind(notes):
    def objective(trial):
        error = ValueError("the shapes do not fit")
        for note in notes:
            error.add_note(note)
        raise error

    study = make_study("s", storage="memory://")
    run(study, objective, n_trials=1)
    stored = study.trials[0].user_attrs["hpolab:error"]
    assert stored.startswith("ValueError: the shapes do not fit")
    assert all(note in stored for note in notes)


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


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
@pytest.mark.parametrize("n_enqueued", [1, 2])
def test_what_is_enqueued_after_the_sampler_is_exhausted_is_run(sampler, n_enqueued, tmp_path):
    def objective(trial):
        return float(len(trial.suggest_categorical("x", ["a", "bb"])))

    space = SearchSpace({"x": ["a", "bb"]})
    study = make_study(
        "s", storage=f"sqlite:///{tmp_path}/s.db", sampler=sampler, search_space=space
    )
    run(study, objective, n_trials=10)
    assert len(study.trials) == 2
    for _ in range(n_enqueued):
        study.enqueue_trial({"x": "bb"})
    run(study, objective, n_trials=10)
    assert [t.params["x"] for t in study.trials][2:] == ["bb"] * n_enqueued
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    run(study, objective, n_trials=10)
    assert len(study.trials) == 2 + n_enqueued


@pytest.mark.parametrize("exhausted", ["grid", "brute_force"])
def test_another_sampler_goes_on_where_one_was_exhausted(exhausted, tmp_path):
    def objective(trial):
        return float(trial.suggest_int("n", 0, 2))

    url, space = f"sqlite:///{tmp_path}/s.db", SearchSpace({"n": (0, 2)})
    run(make_study("s", storage=url, sampler=exhausted, search_space=space), objective, n_trials=9)
    study = make_study("s", storage=url, sampler="random", allow_change=["sampler"])
    assert len(study.trials) == 3
    run(study, objective, n_trials=9)
    assert len(study.trials) == 9


def test_another_grid_has_other_points(tmp_path):
    def objective(trial):
        return float(len(trial.suggest_categorical("x", ["a", "bb", "ccc"])))

    url, found = f"sqlite:///{tmp_path}/s.db", []
    for choices in (["a", "bb"], ["bb", "ccc"]):
        space = SearchSpace({"x": choices})
        study = make_study("s", storage=url, sampler="grid", search_space=space)
        run(study, objective, n_trials=9)
        found.append({trial.params["x"] for trial in study.trials})
    assert found == [{"a", "bb"}, {"a", "bb", "ccc"}]


def test_a_stop_of_the_user_does_not_hide_that_the_sampler_is_exhausted():
    space = SearchSpace({"x": [0.1, 0.2]})

    def objective(trial):
        if trial.number == 1:
            trial.study.stop()
        return trial.suggest_categorical("x", [0.1, 0.2])

    study = make_study("s", storage="memory://", sampler="grid", search_space=space)
    for _ in range(2):
        run(study, objective, n_trials=9)
    assert len(study.trials) == 2


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


def test_changed_fixed_value_is_refused_and_one_that_becomes_a_range_is_not():
    def of(space):
        return descent(search_space=SearchSpace({"lr": (1e-3, 1e-1, "log"), **space}))

    study = make_study("s", storage="memory://")
    run(study, of({"optimizer": "adam"}), n_trials=2)
    with pytest.raises(RecipeMismatch, match="'optimizer': stored 'adam', asked for 'sgd'"):
        run(study, of({"optimizer": "sgd"}), n_trials=3)
    assert len(study.trials) == 2
    run(study, of({"optimizer": ["adam", "sgd"]}), n_trials=3)
    run(study, of({"optimizer": ["adam", "sgd"], "size": 3}), n_trials=4)
    assert len(study.trials) == 4


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
        ({"n_trials": 1, "max_retries": -1}, InvalidArgument, "`max_retries` must be 0"),
        ({"n_trials": 1, "max_retries": "1"}, InvalidType, "`max_retries` must be an int, got str"),
        ({"timeout_seconds": math.nan}, InvalidArgument, "`timeout_seconds` must be .* got nan"),
        ({"timeout_seconds": "60"}, InvalidType, "`timeout_seconds` must be a number, got str"),
        ({"timeout_seconds": True}, InvalidType, "`timeout_seconds` must be a number, got bool"),
        ({"n_trials": 1, "grace_seconds": math.nan}, InvalidArgument, "`grace_seconds` .* 1 or"),
        ({"n_trials": 1, "grace_seconds": "x"}, InvalidType, "`grace_seconds` must be a number"),
        ({"n_trials": 1, "callbacks": print}, InvalidType, "`callbacks` must be a list of func"),
        ({"n_trials": 1, "callbacks": "ab"}, InvalidType, "`callbacks` .* got one with 'a'"),
        ({"n_trials": 1, "callbacks": 3}, InvalidType, "`callbacks` must be a list .* got int"),
    ],
)
def test_bad_argument_is_refused_before_a_trial(arguments, error, message):
    study = make_study("s", storage="memory://")
    with pytest.raises(error, match=message):
        run(study, square, **arguments)
    assert study.trials == []


def test_callbacks_may_be_none_or_any_iterable():
    seen = []
    note = lambda study, trial: seen.append(trial.number)  # noqa: E731
    for n_trials, callbacks in enumerate([None, (note,), iter([note]), {note}], 1):
        study = make_study("s", storage="memory://")
        run(study, square, n_trials=n_trials, callbacks=callbacks)
    assert seen == [0, 1, 0, 1, 2, 0, 1, 2, 3]


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
        # What was reported in the last seconds may have waited in the killed process.
        assert list(trial.intermediate_values) in ([], [0, 1])
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


@pytest.mark.parametrize("has_block", [True, False])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_run_ends_though_an_error_has_left_a_trial_that_was_asked_for_here(
    has_block, n_workers, tmp_path, request
):
    if n_workers > 1:
        request.getfixturevalue("warm_workers")
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random")
    trial = study.ask()
    reporter = Reporter(trial)
    with suppress(RuntimeError):
        if has_block:
            with reporter:
                raise RuntimeError("a typo")
        raise RuntimeError("a typo")
    run(study, square, n_trials=4, n_workers=n_workers)
    # Without the block nobody can tell whether its user is still at it.
    first = TrialState.COMPLETE if has_block else TrialState.RUNNING
    assert [t.state for t in study.trials] == [first] + [TrialState.COMPLETE] * 3


def test_an_error_in_a_reporter_s_block_leaves_the_trial_to_its_user(tmp_path):
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db")
    trial = study.ask()
    with pytest.raises(RuntimeError), Reporter(trial):
        raise RuntimeError("a typo")
    other = study.ask()
    with Reporter(other):  # looks for trials of the dead
        pass
    study.tell(trial, state=TrialState.FAIL)
    study.tell(other, 1.0)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize("has_reporter", [True, False])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_reproducible_run_refuses_to_wait_for_a_trial_that_nobody_runs(
    has_reporter, n_workers, tmp_path, request
):
    if n_workers > 1:
        request.getfixturevalue("warm_workers")
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random")
    options = {"n_workers": n_workers, "reproducible": True, "grace_seconds": 1}
    run(study, square, n_trials=2, **options)
    trial = study.ask()
    reporter = Reporter(trial) if has_reporter else None
    with pytest.raises(InvalidArgument, match=r"`reproducible`.*got trial 2 of study 's'"):
        run(study, square, n_trials=6, **options)
    study.tell(2, state=TrialState.FAIL)
    del trial, reporter
    run(study, square, n_trials=6, **options)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 5


def test_a_reproducible_run_ends_beside_a_trial_of_nobody_s_that_nothing_waits_for():
    study = make_study("s", storage="memory://", sampler="random")
    run(study, square, n_trials=1, reproducible=True)
    study.ask()
    run(study, square, n_trials=2, reproducible=True)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]


@pytest.mark.parametrize("scheme", ["sqlite", "journal", "memory"])
@pytest.mark.parametrize("place", ["before", "objective", "callback"])
def test_a_study_that_is_deleted_while_it_runs_is_told_of(scheme, place, tmp_path):
    urls = {"sqlite": f"sqlite:///{tmp_path}/s", "journal": f"journal:///{tmp_path}/s"}
    storage = open_storage(urls.get(scheme, "memory://"))
    study = make_study("s", storage=storage)

    def delete(*_):
        optuna.delete_study(study_name="s", storage=storage)
        return 0.0

    if place == "before":
        delete()
    objective = delete if place == "objective" else square
    callbacks = [delete] if place == "callback" else []
    with pytest.raises(StudyNotFound, match="Study 's' was deleted from its storage"):
        run(study, objective, n_trials=3, callbacks=callbacks)


def test_an_error_of_the_user_s_own_is_not_taken_for_a_deletion():
    study = make_study("s", storage="memory://")
    with pytest.raises(KeyError, match="mine"):
        run(study, square, n_trials=3, callbacks=[lambda study, trial: {}["mine"]])


@pytest.mark.parametrize(("n_trials", "noted"), [(2, 4), (4, 4), (6, 6)])
def test_the_noted_budget_is_never_below_what_is_there(n_trials, noted):
    study = make_study("s", storage="memory://")
    for each in (4, n_trials):
        run(study, square, n_trials=each)
    assert budget_of(study.user_attrs, len(study.trials)) == noted


def test_trials_of_study_optimize_are_beyond_any_budget():
    study = make_study("s", storage="memory://")
    run(study, square, n_trials=2)
    study.optimize(square, n_trials=2)
    assert budget_of(study.user_attrs, 4) is None
