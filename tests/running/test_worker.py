"""The worker loop: one trial after another, or a crew of several, whatever ends it."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from hpolab import Objective, SearchSpace, StorageUnavailable, TooManyFailures, make_study, run
from hpolab.objectives.crew import Crew
from hpolab.trial.lease import Lease, requeue_mine

if TYPE_CHECKING:
    import optuna

SPACE = SearchSpace({"x": (-1.0, 1.0)})


class Pairs(Crew):
    """Trains up to ``size`` trials at once; all that are in training end with the same step."""

    def __init__(self, objective: Together, study: optuna.Study) -> None:
        self._objective = objective
        self._study = study
        self._trials: list[optuna.Trial] = []

    @property
    def trials(self):
        return self._trials

    @property
    def has_room(self):
        return len(self._trials) < self._objective.size

    def begin(self, trial):
        self._objective.events.append(f"begin {trial.number}")
        self._objective.on_begin(trial)
        self._trials.append(trial)

    def advance(self):
        self._objective.events.append(f"advance {[trial.number for trial in self._trials]}")
        self._objective.on_advance()
        ended, self._trials = self._trials, []
        return [(trial, self._objective.outcome) for trial in ended]

    def requeue(self):
        for trial in self._trials:
            requeue_mine(self._study, trial)


class Together(Objective):
    """Trains ``size`` trials at once where `run` is asked to fuse."""

    def __init__(self, size=2):
        super().__init__(search_space=SPACE, direction="minimize", max_steps=1)
        self.size = size
        self.events = []
        self.on_begin = self.on_advance = self.on_crew = lambda *_: None
        self.outcome = lambda trial: trial.suggest_float("x", -1, 1) ** 2

    def train(self, params, reporter):
        return params["x"] ** 2

    def check_fuse(self, fuse):
        pass

    def crew(self, study, *, fuse, n_trials, deadline):
        self.on_crew()
        return Pairs(self, study)


@pytest.fixture
def study():
    return make_study("s", storage="memory://", sampler="random")


def states(study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def leases(study) -> list[Lease | None]:
    return [Lease.of(trial) for trial in study.trials]


def interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def go_on(study, objective, n_trials):
    """Run what is left, in this very process, which holds no trial any more."""
    objective.on_begin = objective.on_advance = objective.on_crew = lambda *_: None
    objective.outcome = lambda trial: trial.suggest_float("x", -1, 1) ** 2
    run(study, objective, n_trials=n_trials, fuse=2)
    assert states(study) == ["COMPLETE"] * n_trials


def test_a_crew_is_filled_before_it_advances(study):
    objective = Together()
    run(study, objective, n_trials=3, fuse=2)
    assert objective.events == ["begin 0", "begin 1", "advance [0, 1]", "begin 2", "advance [2]"]
    assert states(study) == ["COMPLETE"] * 3


def test_an_objective_without_a_crew_trains_one_by_one(study):
    objective = Together()
    objective.crew = lambda study, **_: None
    run(study, objective, n_trials=3, fuse=2)
    assert objective.events == []
    assert states(study) == ["COMPLETE"] * 3


def test_a_stop_in_a_callback_lets_what_is_in_training_end(study):
    objective = Together()
    run(study, objective, n_trials=9, fuse=2, callbacks=[lambda study, trial: study.stop()])
    assert states(study) == ["COMPLETE"] * 2
    go_on(study, objective, 9)


def test_ctrl_c_while_a_crew_is_made_ends_at_once_and_starts_no_trial(study):
    objective = Together()
    objective.on_crew = interrupt
    with pytest.raises(KeyboardInterrupt, match="after 0 of 4 trials"):
        run(study, objective, n_trials=4, fuse=2)
    assert (objective.events, states(study)) == ([], [])
    go_on(study, objective, 4)


def test_ctrl_c_while_a_crew_advances_requeues_all_its_trials(study):
    objective = Together()
    objective.on_advance = interrupt
    with pytest.raises(KeyboardInterrupt, match="after 0 of 4 trials"):
        run(study, objective, n_trials=4, fuse=2)
    assert states(study) == ["WAITING"] * 2
    assert leases(study) == [None, None]
    go_on(study, objective, 4)


def test_ctrl_c_while_a_trial_begins_requeues_it_with_the_others(study):
    objective = Together()
    objective.on_begin = interrupt
    with pytest.raises(KeyboardInterrupt, match="after 0 of 4 trials"):
        run(study, objective, n_trials=4, fuse=2)
    assert states(study) == ["WAITING"]
    go_on(study, objective, 4)


def test_ctrl_c_in_one_of_several_outcomes_requeues_the_rest(study):
    objective = Together(size=3)

    def second_is_interrupted(trial):
        if trial.number == 1:
            interrupt()
        return 0.0

    objective.outcome = second_is_interrupted
    with pytest.raises(KeyboardInterrupt, match="after 1 of 4 trials"):
        run(study, objective, n_trials=4, fuse=2)
    assert states(study) == ["COMPLETE", "WAITING", "WAITING"]
    go_on(study, objective, 4)


def test_an_error_of_a_callback_leaves_no_trial_running(study):
    objective = Together(size=3)

    def broken(study, trial):
        raise LookupError("the user's own")

    with pytest.raises(LookupError) as kept:
        run(study, objective, n_trials=4, fuse=2, callbacks=[broken])
    assert states(study) == ["COMPLETE", "WAITING", "WAITING"]
    # The traceback keeps the trials alive, as a notebook's last error does.
    go_on(study, objective, 4)
    assert kept.tb is not None


def test_too_many_failures_leave_no_trial_running(study):
    objective = Together(size=3)

    def fails(trial):
        raise ValueError("no such layer")

    objective.outcome = fails
    with pytest.raises(TooManyFailures):
        run(study, objective, n_trials=6, fuse=2, max_failures=2)
    assert states(study) == ["FAIL", "FAIL", "WAITING"]


def test_an_error_of_a_crew_requeues_its_trials_and_the_one_that_begins(study):
    objective = Together()

    def fails(trial):
        if trial.number == 1:
            raise RuntimeError("a mistake of the crew's")

    objective.on_begin = fails
    with pytest.raises(RuntimeError, match="a mistake of the crew's"):
        run(study, objective, n_trials=4, fuse=2)
    assert states(study) == ["WAITING", "WAITING"]
    go_on(study, objective, 4)


def test_a_storage_that_fails_leaves_the_rest_of_a_crew_to_others(study):
    objective = Together()

    def gone(trial):
        raise StorageUnavailable("the disk is gone")

    objective.outcome = gone
    with pytest.raises(StorageUnavailable):
        run(study, objective, n_trials=4, fuse=2)
    assert states(study) == ["RUNNING", "WAITING"]
    gc.collect()
    go_on(study, objective, 4)


def test_what_another_worker_has_taken_is_not_requeued_by_ctrl_c(study):
    """As after a pause of the machine that was longer than the lease."""
    other = Lease(host="elsewhere", pid=1, started=0.0)

    def objective(trial):
        trial.set_user_attr(*other.as_mark())
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(study, objective, n_trials=2)
    assert states(study) == ["RUNNING"]
    assert leases(study) == [other]


def test_a_run_inside_an_objective_is_refused_before_its_crew_measures_anything(study):
    def inside(trial):
        other = Together()
        try:
            run(study, other, n_trials=3, fuse=2)
        finally:
            trial.set_user_attr("events", other.events)

    with pytest.raises(TooManyFailures, match="inside an objective of the same study"):
        run(study, inside, n_trials=3, max_failures=1)
    assert study.trials[0].user_attrs["events"] == []
    assert study.trials[0].state == TrialState.FAIL


def test_a_requeued_trial_that_trains_anew_may_report_its_steps_again(study):
    n_started = 0

    def objective(trial):
        nonlocal n_started
        n_started += 1
        for step in range(3):
            trial.report(1 / (step + 1), step)
            if (n_started, step) == (1, 1):
                interrupt()
        return trial.suggest_float("x", -1, 1)

    with pytest.raises(KeyboardInterrupt):
        run(study, objective, n_trials=1)
    run(study, objective, n_trials=1)  # a warning would be an error
    assert states(study) == ["COMPLETE"]
    assert study.trials[0].intermediate_values == {0: 1.0, 1: 1 / 2, 2: 1 / 3}
