"""A Python that has imported already: it forks a process for each program that it is sent.

A fresh interpreter takes one to three seconds to import what a worker of a study needs, and many
tests start several. A forked process is a process of its own as well, with its own pid and its own
`kill -9`. Only what comes before its first line is shared, the hash seed of strings among it; so
for each storage one test of recovery goes on in a fresh interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import threading
import traceback
import types

# Imported one by one: part of the tests runs without the extras (`without_extras.py`).
PRELOADED = (
    "import alembic.command, alembic.migration, filelock, numpy, optuna.storages._rdb.models",
    "import psycopg",
    "import redis",
    "import sklearn",
    "import torch._dynamo",
    "from hpolab import Reporter, StagedObjective, compare, confirm, copy_study, make_study, run",
    "from hpolab import LightGBMObjective",
    "from hpolab import RecommenderObjective",
    "from hpolab import SklearnObjective, load_digits",
    "from hpolab import TorchObjective",
)


def next_program(requests: socket.socket) -> dict[str, object] | None:
    """Fork for each request, and return in the new process, with its program; None at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            return None
        if os.fork() == 0:
            *pipes, report = descriptors
            child = os.fork()
            if child == 0:
                requests.close()
                os.close(report)
                return become(json.loads(message), pipes)
            for descriptor in pipes:
                os.close(descriptor)
            wait_for(child, report)
        for descriptor in descriptors:
            os.close(descriptor)
        reap_ended_children()


def wait_for(child: int, report: int) -> None:
    """Write a process's pid and, when it has ended, its exit code; then end."""
    os.write(report, b"%d\n" % child)
    status = os.waitpid(child, 0)[1]
    os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def reap_ended_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def become(program: dict[str, object], pipes: list[int]) -> dict[str, object]:
    """Take over a program's pipes, environment and folder, and random states of its own."""
    for descriptor, pipe in enumerate(pipes):
        os.dup2(pipe, descriptor)
        os.close(pipe)
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    sys.argv[:] = ["-c", *program["arguments"]]
    sys.path[0] = ""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # An interpreter that starts has no states that another one has, too.
    random.seed()
    sys.modules["numpy"].random.seed()
    return program


def run(code: str) -> int:
    """Run a program as ``__main__`` and return its exit code; Ctrl-C ends it as a signal does."""
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        exec(compile(code, "<string>", "exec"), sys.modules["__main__"].__dict__)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - it ends this process, and is shown
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        return 1
    return 0


if __name__ == "__main__":
    # The terminal's Ctrl-C is for the tests; their end is this process's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in PRELOADED:
        with contextlib.suppress(ImportError):
            exec(line, {})
    gc.collect()
    gc.freeze()
    this_module = sys.modules["__main__"]
    program = next_program(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        exit_code = run(program["code"])
        # What an interpreter does at its end, but that it frees each object: with torch that takes
        # longer than most programs.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
