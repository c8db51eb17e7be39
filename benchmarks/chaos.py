"""Kill workers at random moments, over and over, and count what is lost: nothing.

Studies on SQLite, a journal file, Redis and PostgreSQL (servers from wheels, started here), with
one worker and with four; every few hundred milliseconds a worker gets SIGKILL and a new one takes
its place. After each study: exactly n finished trials, none RUNNING, none told twice, every told
value there. With one worker, parameters, states and values are those of the uninterrupted study,
bit for bit.

    python benchmarks/chaos.py --kills 200
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
from _servers import postgres_server, redis_server

from hpolab import HpolabError, load_study

N_TRIALS = 40

# A training of twelve epochs with a checkpoint after each, whose state is what it computed so far.
# Each `tell` is written to a file of its own first: that is what must not be lost or doubled.
WORKER = """
import json, os, sys, time
import numpy as np
import optuna
from hpolab import Reporter, make_study, run

optuna.logging.set_verbosity(optuna.logging.ERROR)
url, folder, n_trials = sys.argv[1], sys.argv[2], int(sys.argv[3])

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-3, 1, log=True)
    with Reporter(trial, patience=9, checkpoint_seconds=0) as reporter:
        state = reporter.restore()
        rng = np.random.default_rng(reporter.seed)
        total = 0.0
        if state is not None:
            saved = json.loads(state)
            total, rng.bit_generator.state = saved["total"], saved["rng"]
        for epoch in reporter.steps(12):
            for _ in range(4):
                time.sleep(0.003)
                total += rng.normal() * y
            dump = lambda: json.dumps({"total": total, "rng": rng.bit_generator.state}).encode()
            reporter.report(x**2 + y / (epoch + 1) + 1e-3 * total, epoch, state=dump)
        return reporter.best_value

def note(study, trial):
    # Called after `tell` has returned: from here on the value must be in the storage for good.
    with open(f"{folder}/told", "a") as file:
        file.write(f"{trial.number} {trial.state.name} {trial.value!r}\\n")

study = make_study("chaos", storage=url, sampler="tpe", pruner="hyperband", seed=1)
run(study, objective, n_trials=n_trials, max_retries=10**6, callbacks=[note])
"""


def start(url: str, folder: Path, n_trials: int) -> subprocess.Popen[bytes]:
    """Start a worker in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", WORKER, url, str(folder), str(n_trials)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment)


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    """Return the study's trials, none before there is a study."""
    try:
        return load_study("chaos", storage=url).trials
    except HpolabError:
        return []


def finish(url: str, folder: Path) -> None:
    """Run a worker to the study's end."""
    assert start(url, folder, N_TRIALS).wait() == 0


def kill_until_done(url: str, folder: Path, n_workers: int, rng: random.Random) -> int:
    """Keep ``n_workers`` alive and kill one after another until the study is done."""
    workers = [start(url, folder, N_TRIALS) for _ in range(n_workers)]
    n_kills = 0
    while workers:
        time.sleep(rng.uniform(0.2, 2.5))
        victim = rng.choice(workers)
        if victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            n_kills += 1
            workers[workers.index(victim)] = start(url, folder, N_TRIALS)
        failed = [worker for worker in workers if worker.poll() not in (None, 0)]
        assert not failed, f"a worker ended with {failed[0].returncode}"
        workers = [worker for worker in workers if worker.poll() is None]
    return n_kills


def check(url: str, folder: Path) -> list[str]:
    """Return what is wrong with a finished study."""
    trials = trials_of(url)
    states = Counter(trial.state.name for trial in trials)
    told = (folder / "told").read_text().splitlines()
    wrong = []
    if len(trials) != N_TRIALS or states.keys() - {"COMPLETE", "PRUNED"}:
        wrong.append(f"trials by state: {dict(states)}")
    if len(told) != len({line.split()[0] for line in told}):
        wrong.append("a trial was told twice")
    stored = {f"{t.number} {t.state.name} {t.value!r}" for t in trials}
    wrong.extend(f"told, not stored: {line}" for line in told if line not in stored)
    return wrong


def outcome(url: str) -> list[object]:
    """Return what must not depend on kills."""
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials_of(url)]


def main() -> None:
    """Run studies until there were enough kills; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = random.Random(args.seed)
    kills: Counter[tuple[str, int]] = Counter()
    n_studies, n_wrong = 0, 0
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpolab-chaos-")))
        root.chmod(0o755)
        for name in ("redis", "postgres", "whole"):
            (root / name).mkdir()
        redis_url = stack.enter_context(redis_server(root / "redis"))
        postgres_url = stack.enter_context(postgres_server(root / "postgres"))
        finish(f"sqlite:///{root}/whole/s.db", root / "whole")
        whole = outcome(f"sqlite:///{root}/whole/s.db")
        while sum(kills.values()) < args.kills:
            for kind in ("sqlite", "journal", "redis", "postgresql"):
                for n_workers in (1, 4):
                    folder = root / f"{kind}-{n_studies}"
                    folder.mkdir()
                    url = {
                        "sqlite": f"sqlite:///{folder}/s.db",
                        "journal": f"journal:///{folder}/s.log",
                        "redis": f"{redis_url}/{n_studies % 16}",
                        "postgresql": f"{postgres_url}/study{n_studies}",
                    }[kind]
                    if kind == "redis":
                        import redis

                        redis.Redis.from_url(url).flushdb()
                    if kind == "postgresql":
                        import psycopg

                        with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as sql:
                            sql.execute(f"CREATE DATABASE study{n_studies}")
                    n_studies += 1
                    n_kills = kill_until_done(url, folder, n_workers, rng)
                    kills[kind, n_workers] += n_kills
                    wrong = check(url, folder)
                    if n_workers == 1 and outcome(url) != whole:
                        wrong.append("it differs from the uninterrupted study")
                    n_wrong += bool(wrong)
                    print(
                        f"{kind:10} {n_workers} worker(s) {n_kills:3} kills  "
                        f"{'; '.join(wrong) or 'nothing lost, nothing doubled'}",
                        flush=True,
                    )
    for (kind, n_workers), n_kills in sorted(kills.items()):
        print(f"{kind:10} {n_workers} worker(s): {n_kills} kills")
    print(f"{sum(kills.values())} kills in {n_studies} studies, {n_wrong} studies with a fault")
    sys.exit(n_wrong > 0)


if __name__ == "__main__":
    main()
