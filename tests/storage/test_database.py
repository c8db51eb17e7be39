"""A database server that fails in the middle of a study: it is waited for, and nothing is lost."""

from __future__ import annotations

import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import optuna
import psycopg
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

import hpolab.storage.database
from hpolab import StorageUnavailable, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import PostgresServer


N_WORKERS = 3
N_TRIALS = 12


def run_through(url: str, n_workers: int, disturb: Callable[[], None]) -> tuple[list[int], list]:
    """Run a study in threads, each with a storage of its own, disturbed in the middle.

    Returns:
        The numbers of the trials that were told, as their workers know them; the errors raised.
    """
    told: list[int] = []
    errors: list[BaseException] = []
    under_way = threading.Event()

    def work(study: optuna.Study) -> None:
        try:
            for _ in range(N_TRIALS):
                trial = study.ask()
                trial.suggest_float("x", 0, 1)
                for step in range(3):
                    trial.report(step, step)
                    time.sleep(0.01)
                study.tell(trial, trial.number)
                told.append(trial.number)
                under_way.set()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            errors.append(error)

    studies = [
        optuna.load_study(study_name="a", storage=open_storage(url)) for _ in range(n_workers)
    ]
    threads = [threading.Thread(target=work, args=[study]) for study in studies]
    for thread in threads:
        thread.start()
    under_way.wait()
    disturb()
    for thread in threads:
        thread.join()
    return told, errors


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_study_goes_on_when_postgresql_is_restarted(
    mode: str, postgres_server: PostgresServer
) -> None:
    study = optuna.create_study(study_name="a", storage=open_storage(postgres_server.url))

    def restart() -> None:
        postgres_server.stop(mode)
        time.sleep(0.5)
        postgres_server.start()

    told, errors = run_through(postgres_server.url, N_WORKERS, restart)
    # A worker whose connection broke during COMMIT stops; the others go on.
    assert all(isinstance(error, StorageUnavailable) for error in errors), errors
    assert len(errors) <= 1
    assert len(told) >= (N_WORKERS - len(errors)) * N_TRIALS
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(told) == [trial.number for trial in done]
    for trial in done:
        assert trial.value == trial.number
        assert trial.intermediate_values == {0: 0, 1: 1, 2: 2}
    # A trial of a worker that stopped is left running, for its lease to requeue.
    assert len(trials) - len(done) <= len(errors)


def test_optunas_storage_dies_of_a_restart(postgres_server: PostgresServer) -> None:
    url = postgres_server.url.replace("postgresql:", "postgresql+psycopg:")
    storage = RDBStorage(url)
    study = optuna.create_study(storage=storage)
    study.add_trial(create_trial(value=1.0))
    postgres_server.stop()
    postgres_server.start()
    with pytest.raises(StorageInternalError):
        study.get_trials()
    storage.engine.dispose()


def test_a_server_that_stays_away_is_given_up(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(storage=open_storage(postgres_server.url))
    monkeypatch.setattr(hpolab.storage.database, "RESTART_TIMEOUT_SECONDS", 0.5)
    postgres_server.stop()
    try:
        with pytest.raises(
            StorageUnavailable, match=r"not there for 0.5 seconds: .*refused"
        ) as refusal:
            study.ask()
        assert refusal.value.__context__ is None
    finally:
        postgres_server.start()
    study.tell(study.ask(), 1.0)
    assert [trial.number for trial in study.trials] == [0]


class Broken:
    """Breaks the connection of a storage at the next COMMIT, after or before it takes effect."""

    def __init__(self, storage: RDBStorage, *, is_committed: bool) -> None:
        self._dialect: Any = storage.engine.dialect
        self._commit = self._dialect.do_commit
        self._is_committed = is_committed
        self._dialect.do_commit = self

    def __call__(self, connection: Any) -> None:
        self._dialect.do_commit = self._commit
        if self._is_committed:
            self._commit(connection)
        connection.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.fixture
def storage(postgres_server: PostgresServer) -> Any:
    return open_storage(postgres_server.url)


@pytest.fixture
def study(storage: Any) -> optuna.Study:
    return optuna.create_study(study_name="a", storage=storage)


@pytest.mark.parametrize("is_committed", [True, False])
class TestAConnectionThatBreaksDuringCommit:
    def test_a_trial_is_finished_once(
        self, is_committed: bool, storage: Any, study: optuna.Study
    ) -> None:
        trial = study.ask()
        Broken(storage, is_committed=is_committed)
        assert storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.1])
        assert study.trials[0].value == 0.1

    def test_reports_params_and_attributes_are_written_once(
        self, is_committed: bool, storage: Any, study: optuna.Study
    ) -> None:
        trial = study.ask()
        Broken(storage, is_committed=is_committed)
        trial.report(0.5, 0)
        Broken(storage, is_committed=is_committed)
        x = trial.suggest_float("x", 0, 1)
        Broken(storage, is_committed=is_committed)
        trial.set_user_attr("a", 1)
        stored = study.trials[0]
        assert (stored.params, stored.intermediate_values) == ({"x": x}, {0: 0.5})
        assert stored.user_attrs == {"a": 1}

    def test_a_trial_is_not_created_twice(
        self, is_committed: bool, storage: Any, study: optuna.Study
    ) -> None:
        Broken(storage, is_committed=is_committed)
        with pytest.raises(StorageUnavailable, match="may be stored or not"):
            storage.create_new_trial(study._study_id)
        assert len(study.trials) == is_committed

    def test_a_trial_is_not_started_twice(
        self, is_committed: bool, storage: Any, study: optuna.Study
    ) -> None:
        study.add_trial(create_trial(state=TrialState.WAITING))
        (trial,) = study.trials
        Broken(storage, is_committed=is_committed)
        with pytest.raises(StorageUnavailable, match="may be stored or not"):
            storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        (trial,) = study.trials
        assert trial.state == (TrialState.RUNNING if is_committed else TrialState.WAITING)


def test_a_trial_that_another_worker_finished_is_still_refused(
    storage: Any, study: optuna.Study
) -> None:
    trial = study.ask()
    other = pickle.loads(pickle.dumps(storage))
    other.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.2])
    other.engine.dispose()
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.2])
    assert study.trials[0].value == 0.2


def test_a_connection_that_breaks_inside_a_transaction_is_made_good(
    storage: Any, study: optuna.Study, postgres_server: PostgresServer
) -> None:
    ended = []

    @event.listens_for(storage.engine, "before_cursor_execute")
    def end(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO trials") and len(ended) < 2:
            ended.append(statement)
            pid = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(postgres_server.url, autocommit=True) as administrator:
                administrator.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    study.tell(study.ask(), 1.0)
    assert len(ended) == 2
    assert [trial.value for trial in study.trials] == [1.0]


def test_a_deadlock_is_made_good(storage: Any, study: optuna.Study) -> None:
    study.set_user_attr("a", 0)
    study.set_user_attr("b", 0)
    update = "UPDATE study_user_attributes SET value_json = '1' WHERE key = %s"
    url = storage.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url) as other:
        attempts: list[str] = []

        @event.listens_for(storage.engine, "before_cursor_execute")
        def lock_a_first(connection: Any, cursor: Any, statement: str, *_: object) -> None:
            if not statement.startswith("UPDATE study_user_attributes"):
                return
            attempts.append(statement)
            if len(attempts) == 1:
                # Ours holds a and waits for b, the other holds b and waits for a.
                cursor.execute("SET LOCAL deadlock_timeout = '100ms'")
                cursor.execute(update, ["a"])
                other.execute("SET LOCAL deadlock_timeout = '1h'")
                other.execute(update, ["b"])
                threading.Thread(target=lambda: other.execute(update, ["a"])).start()
                time.sleep(0.2)

        thread = threading.Timer(1.0, other.rollback)
        thread.start()
        study.set_user_attr("b", 2)
        thread.join()
    assert len(attempts) == 2
    assert study.user_attrs == {"a": 0, "b": 2}


def test_a_process_takes_two_connections_at_most_and_keeps_one(postgres_database: str) -> None:
    storage = open_storage(postgres_database)
    study = optuna.create_study(storage=storage)
    pool = storage.engine.pool  # type: ignore[attr-defined]
    most = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal most
        trial.report(1.0, 0)
        trial.set_user_attr("mark", bool(trial.should_prune()))
        most = max(most, pool.checkedin() + pool.checkedout())
        return trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=24, n_jobs=8)

    assert most <= 2
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 24
