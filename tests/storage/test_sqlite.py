"""What SQLiteStorage promises beyond Optuna's storage: many processes, sudden ends, no litter."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

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


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program that waits for a line on its standard input when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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


def test_eight_processes_can_open_one_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    workers = [python(OPEN_AT_THE_SIGNAL, str(path)) for _ in range(8)]
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


def test_a_creator_that_was_killed_leaves_a_file_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    creator = python(DIE_WHILE_CREATING, str(path))
    creator.communicate(timeout=60)
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


def test_what_was_told_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    worker = python(TELL_AND_DIE, str(path))
    worker.communicate(timeout=60)
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
