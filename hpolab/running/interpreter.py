"""The fresh interpreter of a worker: how it starts, what it is sent, and whose end it notices.

A worker is to find what the process that started it finds, and nothing else. So it gets that one's
module search path by hand, before it imports anything: in PYTHONPATH the programs that an objective
starts would get it too, and ``python -m`` puts the working folder first, where a file of the user's
may have the name of a module that Python itself needs.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hpolab.errors import HpolabError, InvalidArgument, InvalidType, in_brief

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from optuna import Study

    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["command_of", "pack", "take_pipe", "unpack", "wait_for_parents_end"]

# Entries that mean another folder after `os.chdir` come last while the worker itself is imported.
_BOOTSTRAP = """
import json, os, sys
path = json.loads(sys.argv.pop(1))
sys.path[:] = sorted(path, key=lambda entry: not os.path.isabs(entry))
from pathlib import Path
from hpolab.running.executors.processes import _main
from hpolab.running.interpreter import take_pipe
take_pipe()
sys.path[:] = path
_main(Path(sys.argv[1]))
"""

# How deep a part that cannot be pickled is looked for, and named.
_DEPTH = 5

_pipe = 0


def command_of(payload: Path) -> list[str]:
    """Return the command that starts a worker."""
    # As `multiprocessing` asks for them; there is no other name for it.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = json.dumps([os.fspath(entry) for entry in sys.path])
    return [sys.executable, *flags, "-P", "-c", _BOOTSTRAP, path, str(payload)]


def take_pipe() -> None:
    """Keep the pipe to the parent for this worker alone.

    A program that the objective starts has this process's standard input, and would wait for what
    the parent never writes.
    """
    global _pipe
    _pipe = os.dup(0)  # no child inherits it
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def wait_for_parents_end() -> None:
    """Return when the process that started this one is gone."""
    # Not by `sys.stdin`: the interpreter cannot end while a thread holds its buffer.
    while os.read(_pipe, 1024):
        pass


def pack(
    study: Study,
    objective: ObjectiveFunction,
    plan: Plan,
    aside: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> bytes:
    """Return what a worker is sent.

    Args:
        study: The study.
        objective: The objective.
        plan: The budget and the rules.
        aside: Takes the memory of each array, and returns False if it has put it aside to be sent
            by other means; None sends all of it here.

    Raises:
        InvalidType: If something of it cannot be pickled.
    """
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps((study, objective, plan), buffer_callback=aside)
    except HpolabError:
        raise  # a storage that cannot write what waits in memory
    except Exception as error:
        sent = {"objective": objective, "callbacks": plan.callbacks, "study": study}
        for argument, value in sent.items():
            trail = _trail_to_unpicklable(value)
            if trail is not None:
                raise _refused(argument, value, trail, error) from error
        raise
    return packed


def unpack(packed: bytes, buffers: Iterable[Any] = ()) -> tuple[Study, ObjectiveFunction, Plan]:
    """Return what a worker was sent.

    Args:
        packed: From `pack`.
        buffers: What was put aside, in that order.

    Raises:
        InvalidArgument: If it cannot be loaded in this process.
    """
    import cloudpickle

    try:
        study, objective, plan = cloudpickle.loads(packed, buffers=buffers)
    except HpolabError:
        raise
    except Exception as error:
        raise InvalidArgument(
            "`objective`, `callbacks` and `study` must be such that a worker process can load "
            f"them, got {in_brief(error)}. A module that they need must be found by `sys.path` in "
            "the working folder of the run, on each machine; a run in this process (`n_workers=1`) "
            "needs no worker."
        ) from error
    return study, objective, plan


def _refused(argument: str, value: Any, trail: list[str], error: Exception) -> InvalidType:
    what = getattr(value, "__qualname__", type(value).__name__)
    whose = f", whose {'.'.join(trail)!r} cannot be" if trail else ", which cannot be"
    reason = str(error).strip().partition("\n")[0]
    return InvalidType(
        f"`{argument}` must be one that `cloudpickle` can send to worker processes, got {what}"
        f"{whose}: {reason}. Make it where it is used, inside the objective, or run it in "
        "this process (`n_workers=1`)."
    )


def _trail_to_unpicklable(value: Any, depth: int = _DEPTH) -> list[str] | None:
    """Return the names that lead to what cannot be pickled; None if all can be."""
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - what is raised is told by the caller
        for name, part in _parts(value).items() if depth else ():
            trail = _trail_to_unpicklable(part, depth - 1)
            if trail is not None:
                return [str(name), *trail]
        return []
    return None


def _parts(value: Any) -> Mapping[Any, Any]:
    """Return what a value is made of, by name, as far as pickle would follow it."""
    if isinstance(value, partial):
        return {"func": value.func, **dict(enumerate(value.args)), **value.keywords}
    if inspect.ismethod(value):
        return {"self": value.__self__}
    if inspect.isfunction(value):
        found = inspect.getclosurevars(value)
        return {**found.globals, **found.nonlocals}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return dict(getattr(value, "__dict__", {}))
