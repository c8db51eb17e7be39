"""What RedisJournalBackend promises, on real servers, beside Optuna's own backend."""

from __future__ import annotations

import json
import logging
import pickle
import re
import select
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote, urlsplit

import optuna
import pytest
import redis
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalRedisBackend
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

import hpolab.storage.redis
from hpolab import StorageUnavailable, open_storage
from hpolab.storage.journal import ForkSafeJournalStorage
from hpolab.storage.redis import CHUNK, DEFAULT_KEY, RedisJournalBackend, check_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.storages.journal import BaseJournalBackend

SOON_SECONDS = 10.0


def log(number: int) -> dict[str, Any]:
    return {"op_code": 8, "worker_id": "w", "trial_id": 0, "user_attr": {"number": number}}


def numbers(logs: list[dict[str, Any]]) -> list[int]:
    return [each["user_attr"]["number"] for each in logs]


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def entries(url: str) -> list[bytes]:
    with client(url) as connection:
        return connection.lrange(DEFAULT_KEY, 0, -1)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Do some work beside the test; what it raises is raised at the end."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result(SOON_SECONDS)


class Proxy:
    """Stands between client and server, counts round trips and loses or delays a script's.

    A client of Redis waits for each reply, so one connection is passed on in turns.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._server = (address.hostname, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{address.port}/", f":{port}/")
        self.n_round_trips = 0
        self.next_script: Literal["pass", "lose reply", "delay"] = "pass"
        self._delayed: tuple[socket.socket, bytes] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        far = socket.create_connection(self._server)
        turn = far
        with near:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return far.close()
                    self.n_round_trips += source is near and turn is far
                    turn = source
                    fate = self.next_script if source is near and b"EVAL" in data else "pass"
                    if fate == "pass":
                        (far if source is near else near).sendall(data)
                        continue
                    self.next_script = "pass"
                    if fate == "delay":
                        self._delayed = (far, data)
                        near.recv(1)  # until the client gives up
                        return None
                    far.sendall(data)
                    far.recv(1 << 16)
                    return far.close()

    def deliver_delayed(self) -> bytes:
        """Send the delayed request after all; return the server's reply."""
        far, data = self._delayed
        with far:
            far.sendall(data)
            return far.recv(1 << 16)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy(redis_database: str) -> Iterator[Proxy]:
    with closing(Proxy(redis_database)) as proxy:
        yield proxy


@pytest.fixture
def backend(redis_database: str) -> RedisJournalBackend:
    return RedisJournalBackend(redis_database)


class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, redis_database: str) -> JournalStorage:
        return ForkSafeJournalStorage(RedisJournalBackend(redis_database))


# The journal.


def test_the_journal_is_one_list_of_json_and_nothing_beside(redis_database: str) -> None:
    study = optuna.create_study(storage=open_storage(redis_database))
    # Optuna's backend would have pickled a snapshot by now.
    for _ in range(101):
        study.ask()
    with client(redis_database) as connection:
        assert connection.keys() == [DEFAULT_KEY.encode()]
        assert connection.type(DEFAULT_KEY) == b"list"
    logs = [entry for _, entry in map(json.loads, entries(redis_database))]
    assert len(logs) == 102
    assert list(RedisJournalBackend(redis_database).read_logs(0)) == logs


@pytest.mark.parametrize("n_logs", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK])
def test_logs_come_back_in_order(backend: RedisJournalBackend, n_logs: int) -> None:
    backend.append_logs([log(i) for i in range(n_logs)])
    assert numbers(list(backend.read_logs(0))) == list(range(n_logs))
    assert numbers(list(backend.read_logs(n_logs // 2))) == list(range(n_logs // 2, n_logs))
    assert list(backend.read_logs(n_logs)) == []


def test_a_read_sees_what_others_have_appended_since(redis_database: str) -> None:
    one, other = RedisJournalBackend(redis_database), RedisJournalBackend(redis_database)
    one.append_logs([log(0)])
    other.append_logs([log(1), log(2)])
    one.append_logs([log(3)])
    assert numbers(list(one.read_logs(1))) == [1, 2, 3]
    assert numbers(list(other.read_logs(3))) == [3]


def test_equal_logs_are_all_kept(backend: RedisJournalBackend) -> None:
    for _ in range(2):
        backend.append_logs([log(7), log(7)])
    assert numbers(list(backend.read_logs(0))) == [7] * 4


def test_two_journals_share_a_database_under_keys_of_their_own(redis_database: str) -> None:
    one = RedisJournalBackend(redis_database, key="hpolab:one")
    one.append_logs([log(0)])
    assert list(RedisJournalBackend(redis_database, key="hpolab:other").read_logs(0)) == []


def test_options_in_the_url_do_not_change_what_is_read(redis_database: str) -> None:
    optuna.create_study(study_name="ü", storage=open_storage(redis_database))
    url = f"{redis_database}?decode_responses=True&socket_timeout=9&health_check_interval=1"
    assert optuna.get_all_study_names(open_storage(url)) == ["ü"]


# Optuna's own backend, and ours.


def ours(url: str) -> BaseJournalBackend:
    return RedisJournalBackend(url)


def optunas(url: str) -> BaseJournalBackend:
    return JournalRedisBackend(url, prefix="optuna")


@pytest.mark.parametrize(("make", "n_round_trips"), [(ours, 1), (optunas, 101)])
def test_a_hundred_logs_are_appended_in_one_round_trip(
    make: Callable[[str], BaseJournalBackend], n_round_trips: int, proxy: Proxy
) -> None:
    backend = make(proxy.url)
    backend.append_logs([log(0)])
    before = proxy.n_round_trips
    backend.append_logs([log(i) for i in range(100)])
    assert proxy.n_round_trips - before == n_round_trips


@pytest.mark.parametrize(("make", "n_round_trips"), [(ours, 1), (optunas, 501)])
def test_five_hundred_logs_are_read_in_one_round_trip(
    make: Callable[[str], BaseJournalBackend],
    n_round_trips: int,
    proxy: Proxy,
    redis_database: str,
) -> None:
    make(redis_database).append_logs([log(i) for i in range(500)])
    backend = make(proxy.url)
    list(backend.read_logs(500))
    before = proxy.n_round_trips
    assert len(list(backend.read_logs(0))) == 500
    assert proxy.n_round_trips - before == n_round_trips


@pytest.mark.parametrize(("make", "n_round_trips"), [(ours, 2), (optunas, 4)])
def test_a_write_of_the_storage_takes_two_round_trips(
    make: Callable[[str], BaseJournalBackend], n_round_trips: int, proxy: Proxy
) -> None:
    study = optuna.create_study(storage=JournalStorage(make(proxy.url)))
    before = proxy.n_round_trips
    study.set_user_attr("a", 1)
    assert proxy.n_round_trips - before == n_round_trips


def test_an_append_whose_reply_is_lost_is_stored_once(proxy: Proxy) -> None:
    backend = ours(proxy.url)
    backend.append_logs([log(0)])
    proxy.next_script = "lose reply"
    backend.append_logs([log(1)])
    backend.append_logs([log(2)])
    assert numbers(list(backend.read_logs(0))) == [0, 1, 2]


def test_optunas_append_whose_reply_is_lost_fails_and_stores_another_if_repeated(
    proxy: Proxy,
) -> None:
    backend = optunas(proxy.url)
    backend.append_logs([log(0)])
    proxy.next_script = "lose reply"
    with pytest.raises(redis.ConnectionError):
        backend.append_logs([log(1)])
    backend.append_logs([log(1)])
    assert numbers(list(backend.read_logs(0))) == [0, 1, 1]


@pytest.mark.parametrize("n_interrupts", [1, 2])
def test_a_reply_that_ctrl_c_has_left_unread_is_no_answer_to_the_next_request(
    n_interrupts: int, backend: RedisJournalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    backend.append_logs([log(0)])
    for _ in range(n_interrupts):
        with monkeypatch.context() as patch:
            patch.setattr(redis.Connection, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                list(backend.read_logs(0))
    backend.append_logs([log(1)])
    assert numbers(list(backend.read_logs(1))) == [1]
    assert numbers(list(backend.read_logs(0))) == [0, 1]
    backend.append_logs([log(2)])
    assert numbers(list(backend.read_logs(2))) == [2]


def test_a_batch_whose_reply_is_lost_is_stored_once_among_others(
    proxy: Proxy, redis_database: str
) -> None:
    backend, other = RedisJournalBackend(proxy.url), RedisJournalBackend(redis_database)
    for number in range(0, 300, 30):
        other.append_logs([log(-1)] * 7)
        proxy.next_script = "lose reply"
        backend.append_logs([log(i) for i in range(number, number + 30)])
        other.append_logs([log(-1)] * 7)
    stored = numbers(list(backend.read_logs(0)))
    assert [number for number in stored if number >= 0] == list(range(300))
    assert len(stored) == 300 + 140


def test_a_batch_of_equal_logs_whose_reply_is_lost_is_counted_right(proxy: Proxy) -> None:
    backend = RedisJournalBackend(proxy.url)
    backend.append_logs([log(7)])
    proxy.next_script = "lose reply"
    backend.append_logs([log(7)] * 3)
    backend.append_logs([log(8)])
    assert numbers(list(backend.read_logs(0))) == [7, 7, 7, 7, 8]


def test_a_request_that_arrives_after_its_repetition_is_ignored(
    proxy: Proxy, redis_database: str
) -> None:
    backend = RedisJournalBackend(f"{proxy.url}?socket_timeout=0.2")
    backend.append_logs([log(0)])
    proxy.next_script = "delay"
    backend.append_logs([log(1)])
    backend.append_logs([log(2)])
    # The number of the entry that the repetition has made: the second.
    assert proxy.deliver_delayed() == b":2\r\n"
    assert numbers(list(RedisJournalBackend(redis_database).read_logs(0))) == [0, 1, 2]


def test_a_missing_entry_hangs_optunas_load_for_ever(redis_database: str) -> None:
    backend = optunas(redis_database)
    backend.append_logs([log(i) for i in range(3)])
    with client(redis_database) as connection:
        missing = connection.getdel("optuna:log:1")
        with in_thread(lambda: list(backend.read_logs(0))):
            time.sleep(0.5)
            # Nothing but the entry's return ends it.
            connection.set("optuna:log:1", missing)


# Lost, damaged or foreign: refused, and left alone.


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda connection: connection.flushdb(), "all its 3 entries are gone"),
        (lambda connection: connection.delete(DEFAULT_KEY), "all its 3 entries are gone"),
        (lambda connection: connection.ltrim(DEFAULT_KEY, 0, 0), "1 of its 3 entries are left"),
        (lambda connection: connection.ltrim(DEFAULT_KEY, 1, -1), "2 of its 3 entries are left"),
    ],
)
def test_a_journal_that_has_shrunk_is_refused(
    loss: Callable[[redis.Redis], object], message: str, redis_database: str
) -> None:
    study = optuna.create_study(study_name="a", storage=open_storage(redis_database))
    study.set_user_attr("a", 1)
    study.set_user_attr("a", 2)
    with client(redis_database) as connection:
        loss(connection)
    left = entries(redis_database)
    for use in (lambda: study.trials, study.ask, lambda: study.set_user_attr("a", 3)):
        with pytest.raises(StorageUnavailable, match=message):
            use()
    assert entries(redis_database) == left


def test_another_journal_in_the_place_of_ours_is_refused(redis_database: str) -> None:
    study = optuna.create_study(study_name="a", storage=open_storage(redis_database))
    with client(redis_database) as connection:
        connection.flushdb()
    optuna.create_study(study_name="a", storage=open_storage(redis_database)).ask()
    left = entries(redis_database)
    for use in (lambda: study.trials, study.ask):
        with pytest.raises(StorageUnavailable, match="no longer what this process has read"):
            use()
    assert entries(redis_database) == left
    assert len(optuna.load_study(study_name="a", storage=open_storage(redis_database)).trials) == 1


def test_a_failover_that_drops_the_last_write_is_noticed(redis_database: str) -> None:
    one = optuna.create_study(study_name="a", storage=open_storage(redis_database))
    other = optuna.load_study(study_name="a", storage=open_storage(redis_database))
    one.ask()
    with client(redis_database) as connection:
        connection.rpop(DEFAULT_KEY)
    # It has not read what was dropped, so for it nothing is lost.
    other.ask()
    with pytest.raises(StorageUnavailable, match="no longer what this process has read"):
        one.ask()


def test_a_server_that_comes_back_empty_is_noticed(redis_server: Any) -> None:
    study = optuna.create_study(storage=open_storage(redis_server.url))
    redis_server.kill()
    redis_server.start(appendonly="no")
    with pytest.raises(StorageUnavailable, match="all its 1 entries are gone"):
        study.ask()


@pytest.mark.parametrize(
    "write",
    [
        lambda connection: connection.set(DEFAULT_KEY, "text"),
        lambda connection: connection.hset(DEFAULT_KEY, "a", "b"),
        lambda connection: connection.sadd(DEFAULT_KEY, "a"),
        lambda connection: connection.xadd(DEFAULT_KEY, {"a": "b"}),
    ],
)
def test_a_key_of_another_type_is_refused_and_left_alone(
    write: Callable[[redis.Redis], object], redis_database: str, backend: RedisJournalBackend
) -> None:
    with client(redis_database) as connection:
        write(connection)
        before = connection.dump(DEFAULT_KEY)
        with pytest.raises(StorageUnavailable, match=f"The key '{DEFAULT_KEY}' of Redis at"):
            open_storage(redis_database)
        with pytest.raises(StorageUnavailable, match="other than a journal"):
            backend.append_logs([log(0)])
        assert connection.dump(DEFAULT_KEY) == before


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"{}",
        b'{"op_code":0}',
        b"1",
        b'"ab"',
        b"null",
        b"[]",
        b'["a"]',
        b'["a",[]]',
        b'["a",null]',
        b"[1,{}]",
        b'["a",{},{}]',
        b'["a",{',
        b'["a",{}],["b",{}]',
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_an_entry_that_is_none_is_refused_and_left_alone(
    garbage: bytes, redis_database: str
) -> None:
    study = optuna.create_study(storage=open_storage(redis_database))
    study.ask()
    with client(redis_database) as connection:
        connection.rpush(DEFAULT_KEY, garbage)
    study_of_another = RedisJournalBackend(redis_database)
    study_of_another.append_logs([log(0)])
    before = entries(redis_database)
    message = f"Entry 2 of the list '{DEFAULT_KEY}' of Redis at"
    with pytest.raises(StorageUnavailable, match=message) as refusal:
        open_storage(redis_database)
    assert len(str(refusal.value)) < 500
    with pytest.raises(StorageUnavailable, match=message):
        study.trials  # noqa: B018
    assert entries(redis_database) == before


@pytest.mark.parametrize("entry", [{}, {"op_code": 99, "worker_id": "w"}])
def test_an_entry_that_optuna_does_not_know_is_refused(
    entry: dict[str, Any], redis_database: str, backend: RedisJournalBackend
) -> None:
    backend.append_logs([entry])
    with pytest.raises(StorageUnavailable, match="Check that the journal is intact"):
        open_storage(redis_database)


# Servers that go away and come back.


def test_nothing_is_lost_or_doubled_when_the_server_is_killed_under_a_study(
    redis_server: Any,
) -> None:
    n_trials, n_reports = 40, 10
    # TPE would write more than what is counted below.
    study = optuna.create_study(
        study_name="a",
        storage=open_storage(redis_server.url),
        sampler=optuna.samplers.RandomSampler(),
    )
    finished = threading.Event()

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(n_reports):
            trial.report(step * x, step)
        return x

    def kill_and_start() -> int:
        n_kills = 0
        while not finished.wait(0.1):
            redis_server.kill()
            redis_server.start()
            n_kills += 1
        return n_kills

    with ThreadPoolExecutor(1) as pool:
        killer = pool.submit(kill_and_start)
        study.optimize(objective, n_trials=n_trials)
        finished.set()
        assert killer.result(SOON_SECONDS) >= 2
    trials = optuna.load_study(study_name="a", storage=open_storage(redis_server.url)).trials
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert all(
        trial.intermediate_values == {step: step * trial.params["x"] for step in range(n_reports)}
        for trial in trials
    )
    # One for the study; for each trial its creation, parameter, reports and end.
    assert len(entries(redis_server.url)) == 1 + n_trials * (1 + 1 + n_reports + 1)


def test_a_server_that_has_forgotten_the_scripts_is_sent_them_again(
    redis_database: str, backend: RedisJournalBackend
) -> None:
    for number in range(2):
        with client(redis_database) as connection:
            connection.script_flush()
        backend.append_logs([log(number)])
    assert numbers(list(backend.read_logs(0))) == [0, 1]


def test_waiting_is_said_once_and_ends(redis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    backend = RedisJournalBackend(redis_server.url, patience_seconds=0.5)
    study = optuna.create_study(storage=JournalStorage(backend))
    redis_server.kill()
    for use in (lambda: study.trials, study.ask):
        caplog.clear()
        start = time.monotonic()
        with pytest.raises(StorageUnavailable, match=r"not answered for 0\.5 seconds") as refusal:
            use()
        assert 0.3 < time.monotonic() - start < 2
        waiting = [r.getMessage() for r in caplog.records if "waiting for Redis" in r.getMessage()]
        assert len(waiting) == 1
        assert f"waiting for Redis at redis://127.0.0.1:{redis_server.port}/0" in waiting[0]
        assert refusal.value.__context__ is None
        assert_no_password(caplog.text + "".join(traceback.format_exception(refusal.value)))
    redis_server.start()
    assert study.trials == []


def test_a_restart_between_two_calls_is_no_reason_to_wait(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    study = optuna.create_study(storage=open_storage(redis_server.url))
    redis_server.kill()
    redis_server.start()
    study.ask()
    assert "waiting" not in caplog.text


def test_a_server_that_is_read_only_for_a_while_is_waited_for(
    redis_server: Any, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    backend = RedisJournalBackend(redis_server.url)
    backend.append_logs([log(0)])

    def promote() -> None:
        time.sleep(0.3)
        with client(redis_server.url) as connection:
            connection.replicaof("NO", "ONE")

    with client(redis_server.url) as connection:
        connection.replicaof("127.0.0.1", str(closed_port))
    with in_thread(promote):
        backend.append_logs([log(1)])
    assert "read only replica" in caplog.text
    assert numbers(list(backend.read_logs(0))) == [0, 1]


def test_a_server_that_runs_a_long_script_is_waited_for(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    backend = RedisJournalBackend(redis_server.url)
    backend.append_logs([log(0)])

    def run_long_script() -> None:
        with client(redis_server.url) as connection, pytest.raises(redis.ResponseError):
            connection.eval("while true do end", 0)

    with client(redis_server.url) as connection:
        connection.config_set("lua-time-limit", "50")

        def stop_script() -> None:
            time.sleep(0.5)
            connection.script_kill()

        with in_thread(run_long_script), in_thread(stop_script):
            time.sleep(0.2)
            backend.append_logs([log(1)])
    assert "BUSY" in caplog.text
    assert numbers(list(backend.read_logs(0))) == [0, 1]


def test_a_server_that_is_loading_is_waited_for_also_at_opening(redis_server: Any) -> None:
    optuna.create_study(study_name="a", storage=open_storage(redis_server.url))
    with client(redis_server.url) as connection:
        connection.eval("for i = 1, 20000 do redis.call('SET', i, i) end", 0)
    redis_server.kill()
    # Microseconds a command, in effect 60: it loads for a second, and answers every 1,000 commands.
    redis_server.start(**{"key-load-delay": "1"})
    with client(redis_server.url) as connection:
        assert connection.info("persistence")["loading"] == 1
    assert optuna.get_all_study_names(open_storage(redis_server.url)) == ["a"]


def test_a_refusal_for_good_is_not_waited_for(redis_server: Any) -> None:
    backend = RedisJournalBackend(redis_server.url)
    with client(redis_server.url) as connection:
        connection.config_set("maxmemory", "1")
        with pytest.raises(StorageUnavailable, match=r"refuses: .*maxmemory"):
            backend.append_logs([log(0)])
        connection.config_set("maxmemory", "0")
        connection.config_set("requirepass", "another")
    stranger = RedisJournalBackend(redis_server.url)
    with pytest.raises(StorageUnavailable, match="refuses: ") as refusal:
        list(stranger.read_logs(0))
    assert_no_password("".join(traceback.format_exception(refusal.value)))


# What the server keeps.


def warnings_of(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    open_storage(url)
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_server_that_keeps_nothing_is_warned_of_once(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(redis_server.url, caplog) == []
    with client(redis_server.url) as connection:
        connection.config_set("appendonly", "no")
        (warning,) = warnings_of(redis_server.url, caplog)
        assert "keeps nothing on disk" in warning
        assert "`appendonly yes`" in warning
        assert_no_password(warning)
        connection.config_set("save", "3600 1")
        assert warnings_of(redis_server.url, caplog) == []


def test_a_server_that_evicts_is_warned_of(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client(redis_server.url) as connection:
        connection.config_set("maxmemory-policy", "allkeys-lru")
        assert warnings_of(redis_server.url, caplog) == []
        connection.config_set("maxmemory", "100mb")
    (warning,) = warnings_of(redis_server.url, caplog)
    assert "`maxmemory-policy noeviction`" in warning


@pytest.mark.parametrize("forbidden", ["config", "info"])
def test_a_server_that_cannot_be_asked_is_used_without_a_warning(
    forbidden: str, redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client(redis_server.url) as connection:
        connection.config_set("appendonly", "no")
        connection.execute_command(
            "ACL", "SETUSER", "ada", "on", ">secret", "~*", "+@all", f"-{forbidden}"
        )
    url = f"redis://ada:secret@127.0.0.1:{redis_server.port}/0"
    assert warnings_of(url, caplog) == []


def test_a_server_that_is_too_old_is_refused(
    redis_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpolab.storage.redis, "_OLDEST_SERVER", (99, 0, 0))
    with pytest.raises(StorageUnavailable, match="too old: it must be"):
        open_storage(redis_database)
    with client(redis_database) as connection:
        connection.ping()
        with pytest.raises(StorageUnavailable, match=r"at redis://127\.0\.0\.1:\d+/\d+ is too"):
            check_server(connection)


# Many at once; elsewhere.


APPEND_AT_THE_SIGNAL = """
import sys
from hpolab.storage.redis import RedisJournalBackend
backend = RedisJournalBackend(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for i in range(100):
    backend.append_logs([{"writer": sys.argv[2], "number": 3 * i + k} for k in range(3)])
"""


def test_processes_that_append_at_once_lose_and_tear_nothing(
    redis_database: str, python: Any
) -> None:
    workers = [python.start(APPEND_AT_THE_SIGNAL, redis_database, str(i)) for i in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=SOON_SECONDS)
        assert worker.returncode == 0
    logs = list(RedisJournalBackend(redis_database).read_logs(0))
    for writer in ("0", "1"):
        mine = [entry["number"] for entry in logs if entry["writer"] == writer]
        assert mine == list(range(300))
    batches = [logs[i : i + 3] for i in range(0, 600, 3)]
    assert all(len({entry["writer"] for entry in batch}) == 1 for batch in batches)


def test_threads_share_a_storage(redis_database: str) -> None:
    storage = open_storage(redis_database)
    study = optuna.create_study(study_name="a", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=40, n_jobs=8)
    loaded = optuna.load_study(study_name="a", storage=open_storage(redis_database))
    assert [trial.number for trial in loaded.trials] == list(range(40))
    assert all(trial.state == TrialState.COMPLETE for trial in loaded.trials)


ASK_IN_FORKS = """
import os, sys, warnings
import optuna
from hpolab import open_storage
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(study_name="a", storage=open_storage(sys.argv[1]))
ours, theirs = os.pipe()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        for _ in range(100):
            os.write(theirs, f"{study.ask().number} ".encode())
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
asked = sorted(map(int, os.read(ours, 1 << 16).split()))
assert asked == list(range(200)), asked
assert study.ask().number == 200
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_forked_children_and_their_parent_run_no_trial_twice(
    redis_database: str, python: Any
) -> None:
    done = python.run(ASK_IN_FORKS, redis_database, timeout=SOON_SECONDS)
    assert done.returncode == 0, done.stderr


def test_a_pickle_connects_anew_and_knows_the_journal(
    redis_database: str, backend: RedisJournalBackend
) -> None:
    backend.append_logs([log(0)])
    copy = pickle.loads(pickle.dumps(backend))
    copy.append_logs([log(1)])
    assert numbers(list(backend.read_logs(0))) == [0, 1]
    pickled = pickle.dumps(backend)
    with client(redis_database) as connection:
        connection.flushdb()
    with pytest.raises(StorageUnavailable, match="all its 2 entries are gone"):
        list(pickle.loads(pickled).read_logs(0))


def test_a_pickled_study_goes_on(redis_database: str) -> None:
    study = optuna.create_study(study_name="a", storage=open_storage(redis_database))
    copy = pickle.loads(pickle.dumps(study))
    copy.ask()
    assert [study.ask().number, copy.ask().number] == [1, 2]


# The password.


def assert_no_password(text: str) -> None:
    # conftest's, and as it stands in the URL
    password = "s3cr3t/@:%ü ?#"
    for secret in (password, quote(password, safe=""), "s3cr3t"):
        assert secret not in text


def test_no_repr_has_the_password(redis_database: str) -> None:
    assert unquote(urlsplit(redis_database).password) == "s3cr3t/@:%ü ?#"
    backend = RedisJournalBackend(redis_database)
    storage = ForkSafeJournalStorage(backend)
    assert_no_password(repr(backend) + repr(storage) + repr(vars(backend)["_client"]))
    assert re.fullmatch(
        rf"RedisJournalBackend\('redis://127\.0\.0\.1:\d+/\d+', key='{DEFAULT_KEY}'\)",
        repr(backend),
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss://ada:secret@host:1/2", "rediss://host:1/2"),
        ("redis://host?password=secret&db=3", "redis://host:6379/3"),
        ("unix:///redis.sock?db=4&password=secret", "unix:///redis.sock?db=4"),
    ],
)
def test_a_repr_shows_where_the_server_is(url: str, shown: str) -> None:
    assert repr(RedisJournalBackend(url)) == f"RedisJournalBackend({shown!r}, key='{DEFAULT_KEY}')"
