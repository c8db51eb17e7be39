"""A request to stop softly: honored behind a report, for the trials of `run` alone."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from hpolab import Reporter, make_study, run
from hpolab.trial.checkpoint import TrialCheckpoints, default_store
from hpolab.trial.reporter import StepReport, report_together
from hpolab.trial.soft_stop import (
    StopsBehindReport,
    ask_to_stop,
    is_asked_to_stop,
    is_saved,
    withdraw,
)


@pytest.fixture(autouse=True)
def request_withdrawn():
    yield
    withdraw()


@pytest.fixture
def study(tmp_path):
    return make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random")


def asked_in_step(n, *, state=lambda: b"s"):
    """Return an objective that is asked to stop in a step, and the steps that it begins."""
    begun = []

    def objective(trial):
        with Reporter(trial, checkpoint_seconds=3600) as reporter:
            reporter.restore()
            for step in reporter.steps(4):
                begun.append(step)
                if len(begun) == n:
                    ask_to_stop()
                reporter.report(1.0 - step / 10, step, state=state)
        return reporter.best_value

    return objective, begun


def test_training_stops_behind_its_report_with_a_checkpoint_that_was_not_due(study):
    objective, begun = asked_in_step(2)
    caught = []

    def watched(trial):
        try:
            return objective(trial)
        except StopsBehindReport as stopped:
            caught.append(str(stopped))
            withdraw()  # so that this run goes on with the trial
            raise

    run(study, watched, n_trials=1)
    assert caught == ["stopped behind step 1"]
    assert begun == [0, 1, 2, 3]
    assert study.trials[0].state == TrialState.COMPLETE
    assert study.trials[0].intermediate_values == pytest.approx({0: 1.0, 1: 0.9, 2: 0.8, 3: 0.7})


def test_training_without_checkpoints_begins_anew(study):
    objective, begun = asked_in_step(2, state=None)

    def watched(trial):
        try:
            return objective(trial)
        finally:
            withdraw()

    run(study, watched, n_trials=1)
    assert begun == [0, 1, 0, 1, 2, 3]
    assert study.trials[0].state == TrialState.COMPLETE


def test_pruned_report_prunes_as_ever(tmp_path):
    pruner = optuna.pruners.ThresholdPruner(upper=0.95)
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler="random", pruner=pruner)
    objective, _ = asked_in_step(1)
    run(study, objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED


def test_trials_that_run_has_not_claimed_go_on(study):
    ask_to_stop()
    objective, begun = asked_in_step(99)
    study.optimize(objective, n_trials=1)
    assert begun == [0, 1, 2, 3]
    reporter = Reporter(None, direction="minimize")
    reporter.report(1.0, 0)
    assert is_asked_to_stop()


def test_trials_that_report_together_save_their_checkpoints_and_stop_together(study):
    trials = [study.ask(), study.ask()]
    reporters = [Reporter(trial, checkpoint_seconds=3600) for trial in trials]

    def report(step):
        each = [StepReport(reporter, 1.0, step, lambda: b"state") for reporter in reporters]
        return report_together(each)

    assert report(0) == [None, None]
    assert not is_saved()
    ask_to_stop()
    assert report(1) == [None, None]
    assert is_saved()
    for trial in trials:
        checkpoint = TrialCheckpoints(default_store(study), "s", trial.number).load()
        assert checkpoint.step == 1


def test_request_that_comes_behind_the_last_checkpoint_waits_for_the_next(study):
    """A crew stops when what it has trained is saved, not before."""
    [trial] = [study.ask()]
    reporter = Reporter(trial, checkpoint_seconds=3600)

    def ask_late():
        ask_to_stop()
        return b"state"

    report_together([StepReport(Reporter(study.ask(), checkpoint_seconds=0), 1.0, 0, ask_late)])
    assert not is_saved()
    report_together([StepReport(reporter, 1.0, 0, lambda: b"state")])
    assert is_saved()
