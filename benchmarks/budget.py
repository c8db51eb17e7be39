"""Spend one budget with three workers at once, study after study, and count the trials: exactly n.

The workers are processes of their own that reach Optuna's gRPC server over a SQLite file, both
started here. They begin each study within some milliseconds of one another, as a scheduler starts
them, with an objective that takes no time, so that they meet at every trial. After each study:
exactly n trials, numbered 0 to n - 1, all finished and all told by one worker; none is left over.

    python benchmarks/budget.py --studies 200
    python benchmarks/budget.py --studies 200 --late      # workers that come while others end
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from hpolab import load_study

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import sys
from optuna.storages import get_storage, run_grpc_proxy_server
from hpolab import open_storage
storage = get_storage(open_storage("sqlite:///study.db"))
run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[1]))
"""

# Runs the studies whose names it reads, each after some seconds; writes who told which trial.
WORKER = """
import sys, time
import optuna
from hpolab import make_study, open_storage, run

optuna.logging.set_verbosity(optuna.logging.ERROR)
storage, n_trials = open_storage(sys.argv[1]), int(sys.argv[2])
for line in sys.stdin:
    name, seconds = line.split()
    time.sleep(float(seconds))
    told = []
    study = make_study(name, storage=storage, sampler="random", pruner="none")
    run(
        study,
        lambda trial: trial.suggest_float("x", 0, 1),
        n_trials=n_trials,
        callbacks=[lambda study, trial: told.append(trial.number)],
    )
    print(*told, flush=True)
"""


@contextlib.contextmanager
def process(*arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this file until the block ends."""
    command = [sys.executable, "-W", "ignore", "-c", *arguments]
    with subprocess.Popen(command, text=True, **options) as program:  # type: ignore[call-overload]
        try:
            yield program
        finally:
            program.kill()


@contextlib.contextmanager
def grpc_server(folder: Path) -> Iterator[str]:
    """Start Optuna's gRPC server over a SQLite file; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with process(SERVER, str(port), cwd=folder, stderr=subprocess.DEVNULL):
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"grpc://127.0.0.1:{port}"


def faults(url: str, name: str, n_trials: int, told: list[int]) -> list[str]:
    """Return what is wrong with a study that has been run, in words."""
    trials = load_study(name, storage=url).get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    found = []
    if [trial.number for trial in trials] != list(range(n_trials)):
        found.append(f"{len(trials)} trials of {n_trials}")
    if states != {"COMPLETE": n_trials}:
        found.append(f"states {dict(states)}")
    twice = [number for number, n in Counter(told).items() if n > 1]
    if twice or sorted(told) != list(range(n_trials)):
        found.append(f"{len(told)} told, {twice} twice")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--late", action="store_true", help="start workers up to seconds apart")
    parser.add_argument("--url", help="a storage that is there, instead of the gRPC server")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dice = random.Random(options.seed)
    n_wrong, began = 0, time.monotonic()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = options.url or stack.enter_context(grpc_server(folder))
        arguments = (WORKER, url, str(options.trials))
        workers = [
            stack.enter_context(process(*arguments, **pipes)) for _ in range(options.workers)
        ]
        for number in range(options.studies):
            name = f"budget-{options.seed}-{number}"
            for worker in workers:
                assert worker.stdin is not None
                seconds = dice.uniform(0, 2.0 if options.late else 0.02)
                worker.stdin.write(f"{name} {seconds}\n")
                worker.stdin.flush()
            told = []
            for worker in workers:
                assert worker.stdout is not None
                line = worker.stdout.readline()
                if not line:
                    print(f"study {number}: a worker has ended by an error", flush=True)
                    return 1
                told += [int(word) for word in line.split()]
            found = faults(url, name, options.trials, told)
            n_wrong += bool(found)
            if found:
                print(f"study {number}: {'; '.join(found)}", flush=True)
    seconds = time.monotonic() - began
    print(f"{options.studies} studies of {options.trials} trials, {seconds:.0f} s: {n_wrong} wrong")
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
