"""A gRPC server that fails in the middle of a study: it is waited for, and its errors are ours."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import optuna
import pytest
from optuna.storages import InMemoryStorage, get_storage
from optuna.storages._grpc.server import make_server
from optuna.trial import TrialState, create_trial

import hpolab.storage.database
from hpolab import HpolabError, StorageUnavailable, make_study, open_storage, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.storages import BaseStorage


class Server:
    """Optuna's gRPC server in this process, on a port that it keeps when it is restarted."""

    def __init__(self, storage: BaseStorage) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.storage = storage
        self.url = f"grpc://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        self._server = make_server(self.storage, "127.0.0.1", self._port)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(get_storage(open_storage(f"sqlite:///{tmp_path}/study.db")))
    yield server
    server.stop()


def test_a_restarted_server_is_waited_for(server: Server) -> None:
    study = make_study("s", storage=server.url, sampler="random")

    def restart() -> None:
        server.stop()
        time.sleep(1.5)
        server.start()

    restarting = threading.Thread(target=restart)

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            restarting.start()
            time.sleep(0.3)
        return trial.suggest_float("x", 0, 1)

    run(study, objective, n_trials=4)
    restarting.join()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4


def test_a_server_that_stays_away_ends_in_our_own_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("s", storage=server.url, sampler="random")
    server.stop()
    with monkeypatch.context() as patience:
        patience.setattr(hpolab.storage.database, "RESTART_TIMEOUT_SECONDS", 0.5)
        with pytest.raises(StorageUnavailable, match="was not there for") as raised:
            run(study, lambda trial: 1.0, n_trials=2)
    assert raised.value.__context__ is None
    server.start()
    run(study, lambda trial: 1.0, n_trials=2)
    assert len(study.trials) == 2


def test_a_pickled_storage_waits_as_well(server: Server) -> None:
    make_study("s", storage=server.url)
    storage = pickle.loads(pickle.dumps(open_storage(server.url)))
    server.stop()
    back = threading.Timer(0.5, server.start)
    back.start()
    assert [study.study_name for study in storage.get_all_studies()] == ["s"]
    back.join()


class Refuses(InMemoryStorage):
    """A storage behind a server whose disk has filled up."""

    def create_new_trial(self, *args: Any, **kwargs: Any) -> int:
        raise OSError("no space left on device")


def test_an_error_behind_the_server_is_told_in_one_line() -> None:
    server = Server(Refuses())
    study = make_study("s", storage=server.url)
    with pytest.raises(StorageUnavailable, match=r"cannot do it .*no space left") as raised:
        run(study, lambda trial: 1.0, n_trials=2)
    assert "\n" not in str(raised.value)
    server.stop()


def test_a_server_of_another_kind_is_refused() -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with pytest.raises(HpolabError, match="UNIMPLEMENTED"):
        make_study("s", storage=f"grpc://127.0.0.1:{port}")
    other.stop(None).wait()


# An answer that is lost when the request has been carried out.


class LosesAnswers(grpc.UnaryUnaryClientInterceptor):
    """Carries requests of a kind out, and then behaves as if the connection had broken."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.n_lost = 0

    def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
        answer = call(details, request)
        if details.method.endswith(self.method) and not self.n_lost:
            answer.result()
            self.n_lost += 1
            raise Broken
        return answer


class Broken(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Socket closed"


def losing(storage: Any, method: str) -> LosesAnswers:
    loses = LosesAnswers(method)
    channel = grpc.intercept_channel(storage._channel, loses)
    storage._stub = type(storage._stub)(channel)
    return loses


def test_a_trial_that_was_told_is_told_once(server: Server) -> None:
    storage = open_storage(server.url)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    loses = losing(storage, "SetTrialStateValues")
    study.tell(trial, 1.0)
    assert loses.n_lost == 1
    assert [trial.values for trial in study.trials] == [[1.0]]


@pytest.mark.parametrize("method", ["CreateNewTrial", "SetTrialStateValues"])
def test_a_trial_that_may_have_been_started_is_not_started_twice(
    server: Server, method: str
) -> None:
    storage = open_storage(server.url)
    study = optuna.create_study(storage=storage)
    study.add_trial(create_trial(state=TrialState.WAITING))
    loses = losing(storage, method)
    ask = study.ask if method == "SetTrialStateValues" else study.add_trial
    arguments = [] if method == "SetTrialStateValues" else [create_trial(value=1.0)]
    with pytest.raises(StorageUnavailable, match="this may be stored or not"):
        ask(*arguments)
    assert loses.n_lost == 1
    assert len(study.trials) == (1 if method == "SetTrialStateValues" else 2)


def test_a_report_is_sent_again(server: Server) -> None:
    storage = open_storage(server.url)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    loses = losing(storage, "SetTrialIntermediateValue")
    trial.report(0.5, 0)
    assert loses.n_lost == 1
    assert study.trials[0].intermediate_values == {0: 0.5}
