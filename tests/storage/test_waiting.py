"""Reports that wait in memory, on each storage that lets them."""

from __future__ import annotations

import math
import os
import pickle
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

import hpolab.storage.waiting
from hpolab.storage.bulk import Report
from hpolab.storage.journal import ForkSafeJournalStorage, JournalFile
from hpolab.storage.sqlite import SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS: dict[str, Callable[[Path], Any]] = {
    "journal": lambda path: ForkSafeJournalStorage(JournalFile(path)),
    "sqlite": SQLiteStorage,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Open the same file once more, as another process would."""
    storages: list[Any] = []

    def open_again() -> Any:
        storages.append(KINDS[kind](tmp_path / "study"))
        return storages[-1]

    yield open_again
    for storage in storages:
        if hasattr(storage, "engine"):
            storage.engine.dispose()


@pytest.fixture
def storage(opened: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    # A busy machine may take more than a second to get from one report to the next.
    monkeypatch.setattr(hpolab.storage.waiting, "MAX_WAIT_SECONDS", 60.0)
    return opened()


@pytest.fixture
def study(storage: Any) -> optuna.Study:
    return optuna.create_study(study_name="a", storage=storage)


@pytest.fixture
def trial(storage: Any, study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    storage.buffer_reports(trial._trial_id)
    return trial


def reports(storage: Any, number: int = 0) -> dict[int, float]:
    found = optuna.load_study(study_name="a", storage=storage).trials[number].intermediate_values
    return dict(found)


def test_others_see_the_reports_with_the_end_of_the_trial_and_not_before(
    opened: Callable[[], Any], study: optuna.Study, trial: optuna.Trial
) -> None:
    values = {0: 0.5, 1: math.inf, 2: -math.inf, 3: math.nan, 7: 1e-300}
    other = opened()
    for step, value in values.items():
        trial.report(value, step)
    assert reports(other) == {}
    study.tell(trial, 1.0)
    assert str(reports(other)) == str(values) == str(study.trials[0].intermediate_values)


@pytest.mark.parametrize(
    "write",
    [
        lambda trial, storage: trial.set_user_attr("a", 1),
        lambda trial, storage: storage.set_trial_system_attr(trial._trial_id, "a", 1),
        lambda trial, storage: trial.suggest_float("x", 0, 1),
        lambda trial, storage: storage.set_trial_state_values(trial._trial_id, TrialState.WAITING),
        lambda trial, storage: storage.flush_reports(),
        lambda trial, storage: pickle.dumps(storage),
    ],
    ids=["user_attr", "system_attr", "param", "requeue", "flush", "pickle"],
)
def test_what_is_written_of_a_trial_has_its_reports_before_it(
    write: Any, opened: Callable[[], Any], storage: Any, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    write(trial, storage)
    assert reports(opened()) == {0: 0.5}


@pytest.mark.parametrize("states", [None, (TrialState.RUNNING,)])
def test_every_read_through_the_storage_shows_what_waits(
    states: Any, storage: Any, study: optuna.Study, trial: optuna.Trial
) -> None:
    study.add_trial(optuna.trial.create_trial(value=0.0))
    neighbor = study.ask()
    storage.buffer_reports(neighbor._trial_id)
    for step in range(3):
        trial.report(step, step)
        neighbor.report(-step, step)
        for each, sign in ((trial, 1), (neighbor, -1)):
            expected = {seen: sign * seen for seen in range(step + 1)}
            assert storage.get_trial(each._trial_id).intermediate_values == expected
            listed = {t.number: t for t in study.get_trials(states=states)}
            assert listed[each.number].intermediate_values == expected


def test_a_read_shows_what_others_have_written_since(
    opened: Callable[[], Any], storage: Any, study: optuna.Study, trial: optuna.Trial
) -> None:
    other = optuna.load_study(study_name="a", storage=opened())
    for count in range(1, 4):
        trial.report(count, count)
        other.add_trial(optuna.trial.create_trial(value=0.0))
        other.set_user_attr("count", count)
        assert len(study.trials) == 1 + count
        assert study.user_attrs["count"] == count
        storage.set_trial_user_attr(trial._trial_id, "count", count)
        assert other.trials[0].user_attrs["count"] == count
        assert storage.get_trial(trial._trial_id).user_attrs["count"] == count


def test_what_a_reader_does_to_a_trial_changes_no_other_reading(
    storage: Any, study: optuna.Study, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    for read in (lambda: storage.get_trial(trial._trial_id), lambda: study.get_trials()[0]):
        seen = read()
        seen.intermediate_values[1] = 7.0
        seen.user_attrs["a"] = 7.0
        assert read().intermediate_values == {0: 0.5}


def test_a_report_that_has_waited_long_enough_is_written_with_those_of_its_step(
    opened: Callable[[], Any],
    storage: Any,
    study: optuna.Study,
    trial: optuna.Trial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    neighbor = study.ask()
    storage.buffer_reports(neighbor._trial_id)
    monkeypatch.setattr(hpolab.storage.waiting, "MAX_WAIT_SECONDS", 0.0)
    storage.report_together([Report(each._trial_id, 0, 0.5) for each in (trial, neighbor)])
    assert [reports(opened(), number) for number in (0, 1)] == [{0: 0.5}, {0: 0.5}]


def test_a_report_that_no_other_follows_is_written_all_the_same(
    opened: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpolab.storage.waiting, "MAX_WAIT_SECONDS", 0.05)
    storage = opened()
    trial = optuna.create_study(study_name="a", storage=storage).ask()
    for step in range(2):  # again after the thread has found nothing to do
        storage.buffer_reports(trial._trial_id)
        trial.report(0.5, step)
        deadline = time.monotonic() + 20
        while step not in reports(opened()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_trial_that_another_worker_finished_takes_no_report(
    opened: Callable[[], Any], storage: Any, study: optuna.Study, trial: optuna.Trial
) -> None:
    neighbor = study.ask()
    storage.buffer_reports(neighbor._trial_id)
    for each in (trial, neighbor):
        each.report(0.5, 0)
    opened().set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with suppress(UpdateFinishedTrialError):  # a journal has no answer to a report
        storage.flush_reports()
    assert study.trials[0].intermediate_values == {} == reports(opened(), 0)
    assert reports(opened(), 1) == {0: 0.5}
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])
    study.tell(neighbor, 1.0)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_refused_tell_takes_the_reports_that_waited_with_it(
    opened: Callable[[], Any], storage: Any, study: optuna.Study, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    opened().set_trial_state_values(trial._trial_id, TrialState.FAIL)
    for _ in range(2):
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])
        # Of nobody else's business, so it goes through.
        study.set_user_attr("a", 1)
    assert study.trials[0].intermediate_values == {} == reports(opened(), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_leaves_the_reports_to_its_parent(
    opened: Callable[[], Any], storage: Any, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    child = os.fork()
    if child == 0:
        try:
            storage.flush_reports()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert reports(opened()) == {}
    storage.flush_reports()
    assert reports(opened()) == {0: 0.5}


DIE_WHILE_REPORTS_WAIT = """
import os, signal, sys
from pathlib import Path
import optuna
import hpolab.storage.waiting
from hpolab.storage.journal import ForkSafeJournalStorage, JournalFile
from hpolab.storage.sqlite import SQLiteStorage
hpolab.storage.waiting.MAX_WAIT_SECONDS = 60.0
path = Path(sys.argv[1])
is_sqlite = sys.argv[2] == "sqlite"
storage = SQLiteStorage(path) if is_sqlite else ForkSafeJournalStorage(JournalFile(path))
study = optuna.create_study(study_name="a", storage=storage)
for _ in range(2):
    trial = study.ask()
    storage.buffer_reports(trial._trial_id)
    for step in range(5):
        trial.report(step, step)
    if trial.number == 0:
        study.tell(trial, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_only_the_reports_that_waited(
    kind: str, opened: Callable[[], Any], tmp_path: Path, python: Any
) -> None:
    worker = python.run(DIE_WHILE_REPORTS_WAIT, str(tmp_path / "study"), kind)
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    told, running = optuna.load_study(study_name="a", storage=opened()).trials
    assert told.state == TrialState.COMPLETE
    assert told.intermediate_values == {step: step for step in range(5)}
    assert running.state == TrialState.RUNNING
    assert running.intermediate_values == {}
