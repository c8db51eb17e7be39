"""When trackers are called, and that none of them costs a trial."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from hpolab import (
    InvalidArgument,
    InvalidType,
    Reporter,
    TorchObjective,
    Tracker,
    TrialRun,
    load_digits,
    make_study,
    run,
)
from hpolab.running.loading import load_with_trackers


class ListedRun(TrialRun):
    def __init__(self, tracker, trial):
        self.id = f"run-{trial.number}"
        self._note = tracker.note
        self._number = trial.number

    def set_params(self, params, *, is_complete):
        self._note("set_params", self._number)

    def resume(self, step, reports):
        self._note("resume", self._number, step)

    def step(self, step, value):
        self._note("step", self._number, step)

    def end(self, end):
        self._note("end", self._number, end.state)


@dataclass(frozen=True, eq=False)
class Listed(Tracker):
    """Lists its calls; fails in one of them."""

    fails_in: str = ""
    calls: list = field(default_factory=list)

    def note(self, *call):
        self.calls.append(call)
        if call[0] == self.fails_in:
            raise OSError("no space left: https://ada:secret@host/api")

    def start_study(self, study):
        self.note("start_study", study.run_id)
        return "parent"

    def start_trial(self, trial):
        self.note("start_trial", trial.number)
        return ListedRun(self, trial)

    def end_study(self, study, end):
        self.note("end_study", end.state)


def train(trial):
    x = trial.suggest_float("x", 0, 1)
    reporter = Reporter(trial)
    for step in range(2):
        reporter.report(x, step)
    return x


def new_study():
    return make_study("listed", storage="memory://", sampler="random", pruner="none", seed=0)


def test_calls_come_in_the_order_of_the_contract():
    tracker = Listed()
    run(new_study(), train, n_trials=1, trackers=[tracker])
    assert tracker.calls == [
        ("start_study", None),
        ("start_study", "parent"),  # the worker, here in the same process
        ("start_trial", 0),
        ("set_params", 0),
        ("step", 0, 0),
        ("step", 0, 1),
        ("set_params", 0),
        ("end", 0, "complete"),
        ("end_study", "finished"),
    ]


@pytest.mark.parametrize(
    "moment", ["start_study", "start_trial", "set_params", "step", "end", "end_study"]
)
def test_tracker_that_fails_costs_no_trial_and_is_logged_without_secrets(moment, caplog):
    tracker, other = Listed(moment), Listed()
    object.__setattr__(other, "calls", [])
    study = new_study()
    with caplog.at_level(logging.WARNING):
        run(study, train, n_trials=3, trackers=[tracker, _named(other)])
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    lines = [line for line in caplog.messages if "Listed failed" in line]
    assert lines
    assert all("no space left: https://ada:***@host/api" in line for line in lines)
    assert [call for call in other.calls if call[0] == "end"] == [
        ("end", number, "complete") for number in range(3)
    ]


def _named(tracker):
    class Other(Listed):
        key = "another"

    return Other(calls=tracker.calls)


@pytest.mark.parametrize(
    ("trackers", "error", "words"),
    [
        (Listed(), InvalidType, "must be a list of trackers"),
        ("mlflow", InvalidType, "must be a list of trackers, got str"),
        (["mlflow"], InvalidType, "got one with str"),
        ([Listed], InvalidType, "call it, as Listed"),
        ([Listed(), Listed()], InvalidArgument, "must write to different places"),
    ],
)
def test_what_is_no_list_of_trackers_is_refused_before_a_trial_is_spent(trackers, error, words):
    study = new_study()
    with pytest.raises(error, match=words):
        run(study, train, n_trials=1, trackers=trackers)
    assert study.trials == []


def test_trials_trained_as_one_have_a_run_each():
    import torch

    images, labels = load_digits()
    tracker = Listed()
    objective = TorchObjective(
        lambda params: torch.nn.Linear(64, 10),
        train=(images.reshape(len(images), -1)[:200], labels[:200]),
        valid=(images.reshape(len(images), -1)[200:300], labels[200:300]),
        search_space={"optimizer": "sgd", "lr": (1e-3, 1e-1, "log")},
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=3,
        batch_size=32,
    )
    study = make_study(
        "fused", storage="memory://", objective=objective, sampler="random", pruner="none"
    )
    run(study, objective, n_trials=3, fuse=3, trackers=[tracker])
    for number in range(3):
        steps = [call[2] for call in tracker.calls if call[:2] == ("step", number)]
        assert steps == [0, 1, 2]
        assert ("end", number, "complete") in tracker.calls


def test_modules_trackers_are_those_of_its_objectives_workers(tmp_path, monkeypatch):
    (tmp_path / "tuned_here.py").write_text(
        "from hpolab import TensorBoardTracker\n"
        "trackers = [TensorBoardTracker('logs')]\n"
        "def objective(trial): return 0.0\n"
    )
    (tmp_path / "others_here.py").write_text(
        "trackers = ['udp://tracker.example']\ndef objective(trial): return 0.0\n"
    )
    monkeypatch.chdir(tmp_path)
    _, trackers = load_with_trackers("tuned_here.py:objective")
    assert [type(each).__name__ for each in trackers] == ["TensorBoardTracker"]
    assert load_with_trackers("others_here.py:objective")[1] == ()
