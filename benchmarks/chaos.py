"""Kill workers at random moments, over and over, and count what is lost: nothing.

Studies on SQLite, a journal file, Redis and PostgreSQL (servers from wheels, started here), with
one worker and with four; every few hundred milliseconds a worker gets SIGKILL and a new one takes
its place. After each study: exactly n finished trials, none RUNNING, none told twice, every told
value there. With one worker, parameters, states and values are those of the uninterrupted study,
bit for bit.

Workers are processes that call `run`, those of the command `hpolab worker`, or actors of a local
Ray cluster, whose driver is killed as well.

    python benchmarks/chaos.py --kills 200
    python benchmarks/chaos.py --kills 200 --workers command
    python benchmarks/chaos.py --kills 100 --workers ray
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from _servers import new_database, postgres_server, redis_server

from hpolab import load_study, make_study

if TYPE_CHECKING:
    from collections.abc import Iterator

N_TRIALS = 40
STORAGES = ("sqlite", "journal", "redis", "postgresql")

# A training of twelve epochs with a checkpoint after each, whose state is what it computed so far.
# What it comes to is written to a file of its own: a trial that is trained again must come to it
# again.
OBJECTIVE = """
import json, time
import numpy as np
from hpolab import Reporter

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
    with open("trained", "a") as file:
        file.write(f"{trial.number} {reporter.best_value!r}\\n")
    return reporter.best_value
"""

# Each `tell` is written to a file when it has returned: from here on the value must be in the
# storage for good.
RUN = """
import sys
from pathlib import Path
import optuna
from hpolab import load_study, run
from chaos_objective import objective

optuna.logging.set_verbosity(optuna.logging.ERROR)
url, n_trials, n_workers, address = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
folder = Path.cwd()

def note(study, trial):
    with (folder / "told").open("a") as file:
        file.write(f"{trial.number} {trial.state.name} {trial.value!r}\\n")

options = {}
if address:
    from hpolab import RayExecutor
    options["executor"] = RayExecutor(n_workers=n_workers, address=address)
study = load_study("chaos", storage=url)
run(study, objective, n_trials=n_trials, max_retries=10**6, callbacks=[note], **options)
"""


class Workers:
    """The workers of one study, which are killed and replaced.

    Args:
        kind: "run", "command" or "ray".
        url: The storage.
        folder: Where they run.
        n_workers: How many there are.
        address: Of the Ray cluster; "" for none.
    """

    def __init__(self, kind: str, url: str, folder: Path, n_workers: int, address: str) -> None:
        self._kind, self._url, self._folder = kind, url, folder
        self._n_workers, self._address = n_workers, address
        (folder / "chaos_objective.py").write_text(OBJECTIVE)
        make_study("chaos", storage=url, sampler="tpe", pruner="hyperband", seed=1)

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker, or the driver of all that Ray has, in a process of its own."""
        budget = [str(N_TRIALS), str(self._n_workers), self._address]
        if self._kind == "command":
            options = ["--study", "chaos", "--storage", self._url, "--n-trials", str(N_TRIALS)]
            arguments = ["-m", "hpolab", "worker", "chaos_objective:objective", *options]
            arguments += ["--max-retries", str(10**6)]
        else:
            arguments = ["-c", RUN, self._url, *budget]
        paths = [str(Path(__file__).parent.parent), str(self._folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", *arguments],
                cwd=self._folder,
                env=environment,
                stderr=log,
                stdout=log,
            )

    def finish(self) -> None:
        """Run one to the study's end."""
        assert self.start().wait() == 0, (self._folder / "log").read_text()

    def kill_until_done(self, rng: random.Random) -> int:
        """Keep all alive and kill one after another until the study is done."""
        workers = [self.start() for _ in range(1 if self._address else self._n_workers)]
        n_kills = 0
        while workers:
            time.sleep(rng.uniform(0.2, 2.5))
            at_work = self._at_work()
            if self._address and rng.random() < 0.8:
                n_kills += kill_one_of(at_work, rng)
            else:
                victim = rng.choice(workers)
                # Seldom while it starts: on a busy machine none would ever get beyond that.
                is_due = bool(self._address) or victim.pid in at_work or rng.random() < 0.2
                if is_due and victim.poll() is None:
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                    n_kills += 1
                    workers[workers.index(victim)] = self.start()
            failed = [worker for worker in workers if worker.poll() not in (None, 0)]
            assert not failed, (self._folder / "log").read_text()[-3000:]
            workers = [worker for worker in workers if worker.poll() is None]
        return n_kills

    def _at_work(self) -> list[int]:
        """Return the processes that run trials."""
        leases = [t.user_attrs.get("hpolab:lease") for t in trials_of(self._url) if is_running(t)]
        return [lease["pid"] for lease in leases if lease is not None]


def kill_one_of(pids: list[int], rng: random.Random) -> int:
    """Kill a process; return how many were killed."""
    if not pids:
        return 0
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    """Return the study's trials."""
    return load_study("chaos", storage=url).trials


def is_running(trial: optuna.trial.FrozenTrial) -> bool:
    """Tell whether a worker has a trial."""
    return trial.state == optuna.trial.TrialState.RUNNING


def check(url: str, folder: Path) -> list[str]:
    """Return what is wrong with a finished study."""
    trials = trials_of(url)
    states = Counter(trial.state.name for trial in trials)
    told = lines_of(folder / "told")
    trained = {*lines_of(folder / "trained")}
    wrong = []
    if len(trials) != N_TRIALS or states.keys() - {"COMPLETE", "PRUNED"}:
        wrong.append(f"trials by state: {dict(states)}")
    if len(told) != len({line.split()[0] for line in told}):
        wrong.append("a trial was told twice")
    stored = {f"{t.number} {t.state.name} {t.value!r}" for t in trials}
    wrong.extend(f"told, not stored: {line}" for line in told if line not in stored)
    if len(trained) != len({line.split()[0] for line in trained}):
        wrong.append("a trial that was trained again came to another value")
    values = {f"{t.number} {t.value!r}" for t in trials if t.state.name == "COMPLETE"}
    wrong.extend(f"stored, never trained: {line}" for line in values - trained)
    return wrong


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file; none if there is no such file."""
    return path.read_text().splitlines() if path.exists() else []


def outcome(url: str) -> list[object]:
    """Return what must not depend on kills."""
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials_of(url)]


def differences(found: list[object], whole: list[object]) -> list[str]:
    """Return where a study with one worker differs from the uninterrupted one."""
    pairs = itertools.zip_longest(found, whole)
    first = next(((one, other) for one, other in pairs if one != other), None)
    return [] if first is None else [f"it differs from the uninterrupted study: {first}"]


@contextlib.contextmanager
def ray_cluster() -> Iterator[str]:
    """Start a Ray cluster on this machine that outlives its drivers; yield its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def main() -> None:
    """Run studies until there were enough kills; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=STORAGES)
    parser.add_argument("--workers", choices=("run", "command", "ray"), default="run")
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
        address = stack.enter_context(ray_cluster()) if args.workers == "ray" else ""
        whole_url = f"sqlite:///{root}/whole/s.db"
        Workers("run", whole_url, root / "whole", 1, "").finish()
        whole = outcome(whole_url)
        while sum(kills.values()) < args.kills:
            for kind in args.storages:
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
                        new_database(postgres_url, f"study{n_studies}")
                    n_studies += 1
                    workers = Workers(args.workers, url, folder, n_workers, address)
                    n_kills = workers.kill_until_done(rng)
                    kills[kind, n_workers] += n_kills
                    wrong = check(url, folder)
                    if n_workers == 1:
                        wrong += differences(outcome(url), whole)
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
