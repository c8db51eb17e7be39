"""What SQLiteStorage promises beyond Optuna's storage: many processes, sudden ends, no litter."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import shutil
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState, create_trial
from sqlalchemy import event, text

import hpolab.storage.sqlite
import hpolab.storage.waiting
from hpolab import StorageUnavailable, open_storage
from hpolab.storage.sqlite import BUSY_TIMEOUT_SECONDS, SQLiteStorage, is_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    storage = SQLiteStorage(tmp_path / "study.db")
    yield storage
    storage.engine.dispose()


def pragma(storage: SQLiteStorage, name: str) -> object:
    with storage.engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


OPEN_AT_THE_SIGNAL = """
import sys
import optuna, optuna.storages._rdb.models, alembic.command
from hpolab.storage.sqlite import SQLiteStorage
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
storage = SQLiteStorage(Path(sys.argv[1]))
study = optuna.create_study(study_name="a", storage=storage, load_if_exists=True)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
"""


def test_eight_processes_can_open_one_new_file_at_once(tmp_path: Path, python: Any) -> None:
    path = tmp_path / "study.db"
    workers = [python.start(OPEN_AT_THE_SIGNAL, str(path)) for _ in range(8)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, "".join(errors)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(DISTINCT number) FROM trials").fetchone() == (16,)
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]


DIE_WHILE_CREATING = """
import os, signal, sys
from pathlib import Path
from optuna.storages._rdb.storage import _VersionManager
from hpolab.storage.sqlite import SQLiteStorage
_VersionManager._set_alembic_revision = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
SQLiteStorage(Path(sys.argv[1]))
"""


def test_a_creator_that_was_killed_leaves_a_file_that_opens(tmp_path: Path, python: Any) -> None:
    path = tmp_path / "study.db"
    creator = python.run(DIE_WHILE_CREATING, str(path))
    assert creator.returncode == -signal.SIGKILL
    assert (tmp_path / "study.db.opening").exists()
    SQLiteStorage(path).engine.dispose()
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]


TELL_AND_DIE = """
import os, signal, sys
from pathlib import Path
import optuna
from hpolab.storage.sqlite import SQLiteStorage
study = optuna.create_study(study_name="a", storage=SQLiteStorage(Path(sys.argv[1])))
trial = study.ask()
trial.report(0.5, step=0)
study.tell(trial, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_told_survives_kill_9(tmp_path: Path, python: Any) -> None:
    path = tmp_path / "study.db"
    worker = python.run(TELL_AND_DIE, str(path))
    assert worker.returncode == -signal.SIGKILL
    storage = SQLiteStorage(path)
    (trial,) = optuna.load_study(study_name="a", storage=storage).trials
    storage.engine.dispose()
    assert (trial.value, trial.intermediate_values) == (1.0, {0: 0.5})


def test_no_two_workers_start_the_same_waiting_trial(storage: SQLiteStorage) -> None:
    study = optuna.create_study(study_name="a", storage=storage)
    for _ in range(16):
        study.add_trial(create_trial(state=TrialState.WAITING))

    def ask_twice(_: int) -> list[int]:
        mine = optuna.load_study(study_name="a", storage=storage)
        return [mine.ask().number for _ in range(2)]

    with ThreadPoolExecutor(8) as pool:
        asked = sorted(number for numbers in pool.map(ask_twice, range(8)) for number in numbers)
    assert asked == list(range(16))


def test_every_connection_keeps_the_wal_and_syncs_each_commit(storage: SQLiteStorage) -> None:
    connections = [storage.engine.connect() for _ in range(3)]
    for connection in connections:
        settings = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
        assert settings == ["wal", 2, BUSY_TIMEOUT_SECONDS * 1000]
    for connection in connections:
        connection.close()


def test_a_pickled_storage_keeps_its_settings(
    storage: SQLiteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(study_name="a", storage=storage)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copy = pickle.loads(pickle.dumps(storage))
    assert isinstance(copy, SQLiteStorage)
    assert (pragma(copy, "journal_mode"), pragma(copy, "synchronous")) == ("wal", 2)
    optuna.load_study(study_name="a", storage=copy).add_trial(create_trial(value=1.0))
    assert len(study.trials) == 1
    copy.engine.dispose()


def test_a_file_made_by_optuna_is_taken_over(tmp_path: Path) -> None:
    plain = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(study_name="a", storage=plain).add_trial(create_trial(value=1.0))
    storage = SQLiteStorage(tmp_path / "study.db")
    assert optuna.load_study(study_name="a", storage=storage).best_value == 1.0
    assert pragma(storage, "journal_mode") == "wal"
    optuna.load_study(study_name="a", storage=plain).add_trial(create_trial(value=2.0))
    assert len(optuna.load_study(study_name="a", storage=storage).trials) == 2
    for each in (plain, storage):
        each.engine.dispose()


LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM trials").fetchone()[0], end=" ")
print(connection.execute("PRAGMA integrity_check").fetchone()[0])
connection.close()
"""


def test_opened_again_the_file_keeps_its_log_when_another_program_closes_it(
    tmp_path: Path, python: Any
) -> None:
    # A second `make_study` in one script, and somebody who looks at the file meanwhile.
    path = tmp_path / "study.db"
    first, second = (open_storage(f"sqlite:///{path}") for _ in range(2))
    study = optuna.create_study(study_name="a", storage=first)
    seen = []
    for _ in range(3):
        study.add_trial(create_trial(value=1.0))
        seen.append(python.output_of(LOOK, str(path)))
        assert path.with_name("study.db-wal").exists()
    assert seen == ["1 ok\n", "2 ok\n", "3 ok\n"]
    assert len(optuna.load_study(study_name="a", storage=second).trials) == 3


def test_an_empty_file_counts_as_new(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.touch()
    assert is_sqlite(path)
    storage = SQLiteStorage(path)
    assert storage.get_all_studies() == []
    storage.engine.dispose()


def test_an_open_database_leaves_nothing_behind_when_closed(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "study.db")
    optuna.create_study(storage=storage).add_trial(create_trial(value=1.0))
    assert sorted(os.listdir(tmp_path)) == ["study.db", "study.db-shm", "study.db-wal"]
    storage.engine.dispose()
    assert os.listdir(tmp_path) == ["study.db"]


class EveryTrialBuffered(SQLiteStorage):
    """Buffers the reports of every trial that it creates running."""

    def _create_new_trial(self, *arguments: Any, **options: Any) -> optuna.trial.FrozenTrial:
        trial = super()._create_new_trial(*arguments, **options)
        if trial.state == TrialState.RUNNING:
            self.buffer_reports(trial._trial_id)
        return trial


class TestOptunasContract(StorageTestCase):
    pass  # with the fixture `storage` above


class TestOptunasContractWithBufferedReports(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        storage = EveryTrialBuffered(tmp_path / "study.db")
        yield get_storage(storage)  # behind Optuna's cache, as studies have it
        storage.engine.dispose()


# Reports that are written together.


@pytest.fixture
def study(storage: SQLiteStorage) -> optuna.Study:
    return optuna.create_study(study_name="a", storage=storage)


@pytest.fixture
def trial(storage: SQLiteStorage, study: optuna.Study) -> optuna.Trial:
    """A running trial whose reports are buffered."""
    trial = study.ask()
    storage.buffer_reports(trial._trial_id)
    return trial


def on_disk(storage: SQLiteStorage) -> dict[int, float | None]:
    """The reports that another process sees."""
    with closing(sqlite3.connect(storage.engine.url.database)) as connection:
        rows = connection.execute("SELECT step, intermediate_value FROM trial_intermediate_values")
        return dict(rows.fetchall())


def all_but_reports(storage: SQLiteStorage) -> list[tuple[Any, ...]]:
    """What else another process sees of trials."""
    tables = ("trials", "trial_params", "trial_user_attributes", "trial_system_attributes")
    with closing(sqlite3.connect(storage.engine.url.database)) as connection:
        return [row for each in tables for row in connection.execute(f"SELECT * FROM {each}")]


def test_buffered_reports_wait_and_are_written_with_the_end_of_the_trial(
    storage: SQLiteStorage, study: optuna.Study, trial: optuna.Trial
) -> None:
    values = {0: 0.5, 1: math.inf, 2: -math.inf, 3: math.nan, 7: 1e-300}
    for step, value in values.items():
        trial.report(value, step)
    assert on_disk(storage) == {}
    study.tell(trial, 1.0)
    assert on_disk(storage) == {0: 0.5, 1: None, 2: None, 3: None, 7: 1e-300}
    assert str(study.trials[0].intermediate_values) == str(values)


def test_a_report_over_a_stored_one_replaces_it(
    storage: SQLiteStorage, trial: optuna.Trial
) -> None:
    for value in (1.0, 2.0):
        storage.set_trial_intermediate_value(trial._trial_id, 0, value)
        storage.flush_reports()
    assert on_disk(storage) == {0: 2.0}


@pytest.mark.parametrize(
    "write",
    [
        lambda trial: trial.set_user_attr("a", 1),
        lambda trial: trial.storage.set_trial_system_attr(trial._trial_id, "a", 1),
        lambda trial: trial.suggest_float("x", 0, 1),
        lambda trial: trial.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING),
    ],
    ids=["user_attr", "system_attr", "param", "requeue"],
)
def test_what_is_on_the_disk_of_a_trial_is_what_was_said_first(
    write: Any, storage: SQLiteStorage, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    before = all_but_reports(storage)
    written = []

    @event.listens_for(storage.engine, "commit")
    def look(_: object) -> None:
        written.append((on_disk(storage), all_but_reports(storage)))

    write(trial)
    look(None)
    assert ({}, before) in written
    assert {} not in [reports for reports, others in written if others != before]
    assert written[-1][0] == {0: 0.5}
    assert written[-1][1] != before


def test_buffering_ends_with_the_next_change_of_state(
    storage: SQLiteStorage, trial: optuna.Trial
) -> None:
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    storage.set_trial_intermediate_value(trial._trial_id, 0, 0.5)
    assert on_disk(storage) == {0: 0.5}


@pytest.mark.parametrize("is_cached", [True, False])
def test_every_read_through_the_storage_shows_what_waits(
    is_cached: bool, storage: SQLiteStorage, study: optuna.Study, trial: optuna.Trial
) -> None:
    reader = get_storage(storage) if is_cached else storage
    trial.report(0.5, 0)
    assert reader.get_trial(trial._trial_id).intermediate_values == {0: 0.5}
    trial.report(0.6, 1)
    (seen,) = reader.get_all_trials(study._study_id)
    assert seen.intermediate_values == {0: 0.5, 1: 0.6}
    assert on_disk(storage) == {}, "to look on is no reason to write"


def test_a_report_after_a_second_is_written_at_once(
    storage: SQLiteStorage, trial: optuna.Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.report(0.5, 0)
    monkeypatch.setattr(hpolab.storage.waiting, "MAX_WAIT_SECONDS", 0.0)
    trial.report(0.6, 1)
    assert on_disk(storage) == {0: 0.5, 1: 0.6}


def test_pickling_writes_what_waits(storage: SQLiteStorage, trial: optuna.Trial) -> None:
    trial.report(0.5, 0)
    copy = pickle.loads(pickle.dumps(storage))
    assert on_disk(storage) == {0: 0.5}
    copy.set_trial_intermediate_value(trial._trial_id, 1, 0.6)
    assert on_disk(storage) == {0: 0.5, 1: 0.6}
    copy.engine.dispose()


def test_a_trial_that_another_worker_finished_takes_no_report(
    storage: SQLiteStorage,
    study: optuna.Study,
    trial: optuna.Trial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A busy machine may take more than a second to get from one report to the next.
    monkeypatch.setattr(hpolab.storage.waiting, "MAX_WAIT_SECONDS", 60.0)
    neighbor = study.ask()
    storage.buffer_reports(neighbor._trial_id)
    neighbor.report(0.5, 0)
    trial.report(0.5, 0)
    other = SQLiteStorage(storage._path)
    other.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_user_attr(trial._trial_id, "a", 1)
    neighbor.report(0.6, 1)
    assert study.trials[0].intermediate_values == {}
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.6)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])
    storage.flush_reports()
    assert on_disk(storage) == {0: 0.5, 1: 0.6}
    other.engine.dispose()


def test_reports_that_cannot_be_written_go_on_waiting(
    storage: SQLiteStorage, study: optuna.Study, trial: optuna.Trial
) -> None:
    trial.report(0.5, 0)
    with closing(sqlite3.connect(storage._path)) as other:
        with no_patience(storage):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="database is locked"):
                storage.flush_reports()
            with pytest.raises(StorageUnavailable, match="database is locked"):
                study.tell(trial, 1.0)
        other.rollback()
    study.tell(trial, 1.0)
    assert study.trials[0].intermediate_values == {0: 0.5}


@contextmanager
def no_patience(storage: SQLiteStorage) -> Iterator[None]:
    """Let every connection give a lock up at once."""
    storage.engine.dispose()

    def impatient(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA busy_timeout = 1")

    event.listen(storage.engine, "connect", impatient)
    yield
    event.remove(storage.engine, "connect", impatient)
    storage.engine.dispose()


def test_threads_report_read_and_finish_at_once_and_lose_nothing(
    storage: SQLiteStorage, study: optuna.Study
) -> None:
    def run_trials(_: int) -> None:
        for _ in range(4):
            trial = study.ask()
            storage.buffer_reports(trial._trial_id)
            for step in range(10):
                trial.report(step, step)
            assert len(study.get_trials()) > 0
            study.tell(trial, 1.0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run_trials, range(4)))
    assert [trial.intermediate_values for trial in study.trials] == [
        {step: step for step in range(10)}
    ] * 16


# A file that fails in the middle of a study.


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a study "a" of 50 trials with large attributes."""
    path = tmp_path_factory.mktemp("sqlite") / "study.db"
    storage = SQLiteStorage(path)
    study = optuna.create_study(study_name="a", storage=storage)
    study.add_trials(create_trial(value=1.0, user_attrs={"x": "x" * 2000}) for _ in range(50))
    storage.engine.dispose()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """A copy of the template."""
    return shutil.copy(template, tmp_path / "study.db")


@contextmanager
def opened(path: Path, pragma: str = "user_version") -> Iterator[optuna.Study]:
    """The study, each of its connections with a setting of its own."""
    storage = SQLiteStorage(path)

    def set_pragma(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    storage.engine.dispose()
    event.listen(storage.engine, "connect", set_pragma)
    yield optuna.load_study(study_name="a", storage=storage)
    storage.engine.dispose()


def ask_and_tell(study: optuna.Study) -> None:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, 0)
    trial.set_user_attr("x", "x" * 20_000)
    study.tell(trial, 1.0)


@pytest.mark.parametrize(
    ("pragma", "message"),
    [
        ("max_page_count = 1", "database or disk is full. What was told before is safe; make room"),
        ("query_only = 1", "attempt to write a readonly database. Make the file and its folder"),
    ],
)
def test_a_sqlite_file_that_takes_no_more_says_why(pragma: str, message: str, path: Path) -> None:
    with opened(path, pragma) as study, pytest.raises(StorageUnavailable, match=message):
        study.add_trials([create_trial(value=1.0, user_attrs={"x": "x" * 90_000})] * 10)
    with opened(path) as study:
        assert len(study.get_trials(states=[TrialState.COMPLETE])) >= 50
        ask_and_tell(study)


def test_optuna_blames_the_data_when_the_disk_is_full(path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{path}")
    study = optuna.load_study(study_name="a", storage=storage)
    storage.engine.dispose()

    @event.listens_for(storage.engine, "connect")
    def fill(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    with pytest.raises(StorageInternalError, match="invalid data in the commit"):
        study.set_user_attr("x", "x" * 90_000)
    storage.engine.dispose()


FILL_UP = """
import os, resource, sys
from pathlib import Path
import optuna
from hpolab import open_storage
from hpolab.errors import StorageUnavailable
study = optuna.load_study(study_name="a", storage=open_storage(f"sqlite:///{sys.argv[1]}"))
# The log, a file of its own, may grow to 300 kB.
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000,) * 2)
try:
    for _ in range(1000):
        trial = study.ask()
        trial.set_user_attr("x", "x" * 5000)
        study.tell(trial, 1.0)
        os.write(1, f"{trial.number} ".encode())
except StorageUnavailable as error:
    print(error, file=sys.stderr)
"""


def test_a_full_disk_stops_a_sqlite_study_with_nothing_lost(path: Path, python: Any) -> None:
    done = python.run(FILL_UP, str(path))
    assert done.returncode == 0, done.stderr
    assert "Cannot use" in done.stderr.splitlines()[-1]
    assert "What was told before is safe" in done.stderr
    with opened(path) as study:
        told = [t.number for t in study.trials[50:] if t.state == TrialState.COMPLETE]
        assert told == [int(number) for number in done.stdout.split()]
        ask_and_tell(study)


def test_a_sqlite_file_held_by_another_program_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path, "busy_timeout = 1") as study, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match=r"locked\. Another program has held it"):
            ask_and_tell(study)
        other.rollback()
        ask_and_tell(study)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(hpolab.storage.sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
        with pytest.raises(StorageUnavailable, match=r"locked\. Another program has held it"):
            open_storage(f"sqlite:///{path}")


def test_a_sqlite_file_that_another_process_is_opening_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpolab.storage.sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    with (
        hpolab.storage.sqlite._one_process_at_a_time(path),
        pytest.raises(StorageUnavailable, match="database is locked"),
    ):
        open_storage(f"sqlite:///{path}")


@pytest.mark.parametrize("first_byte", [4096, 40_960])
def test_a_damaged_page_is_an_error_and_left_as_it_is(first_byte: int, path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(first_byte)
        file.write(b"\xa5" * (path.stat().st_size - first_byte))
    before = digest(path)
    with pytest.raises(StorageUnavailable, match=r"disk image is malformed.*recover"):  # noqa: SIM117
        with opened(path) as study:
            ask_and_tell(study)
    assert digest(path) == before


def test_an_unpickled_storage_has_the_same_border(path: Path) -> None:
    copy = pickle.loads(pickle.dumps(SQLiteStorage(path)))
    copy.engine.dispose()

    @event.listens_for(copy.engine, "connect")
    def forbid(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only = 1")

    with pytest.raises(StorageUnavailable, match="readonly"):
        optuna.load_study(study_name="a", storage=copy).ask()
    copy.engine.dispose()


def test_a_mistake_in_a_statement_is_not_blamed_on_the_file(path: Path) -> None:
    with opened(path) as study:
        storage = study._storage
        with pytest.raises(KeyError):
            storage.get_trial(10_000)
        with pytest.raises(optuna.exceptions.DuplicatedStudyError):
            optuna.create_study(study_name="a", storage=storage)
