"""``hpolab worker``: join a study from anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import optuna
import typer

from hpolab.commands.shared import StorageOption, err
from hpolab.errors import InvalidArgument
from hpolab.running.described import this_worker
from hpolab.running.gpus import VISIBLE, check_gpus, visible_gpus
from hpolab.running.interpreter import take_pipe, wait_for_parents_end
from hpolab.running.interrupts import STOP_SECONDS
from hpolab.running.joining import BROKEN, DONE, OUT_OF_REACH, Joining, default_delay, join_study
from hpolab.storage.url import DEFAULT_URL
from hpolab.trial.lease import GRACE_SECONDS, MAX_RETRIES

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["end_with_parent", "worker"]

# It finds the modules that this process finds, and ends with it.
_BOOTSTRAP = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from hpolab.commands.worker import end_with_parent
end_with_parent()
from hpolab.cli import app
app(prog_name="hpolab")
"""


class Direction(StrEnum):
    """Which values are better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


def worker(
    objective: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:OBJECTIVE",
            help="An hpolab objective, or a function of a trial: package.module:name, found from "
            "this folder too, or path/to/script.py:name.",
        ),
    ],
    study_name: Annotated[
        str, typer.Option("--study", metavar="NAME", help="The study to join.", show_default=False)
    ],
    storage: StorageOption = DEFAULT_URL,
    n_trials: Annotated[
        int | None,
        typer.Option(
            "--n-trials",
            "-n",
            min=1,
            help="The study's trials in total, whoever runs them; left out, as it was last run.",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            "--max-seconds",
            min=1,
            help="End before so many seconds are over. It begins to stop a minute before, at most "
            "a quarter of the time. SLURM's own end time is heeded by itself.",
        ),
    ] = None,
    per_gpu: Annotated[
        bool, typer.Option("--per-gpu", help="Start a worker for each GPU of this machine.")
    ] = False,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help="Make the study if there is none, with the defaults of `make_study`.",
        ),
    ] = False,
    direction: Annotated[
        Direction | None,
        typer.Option(
            "--direction",
            help="With `--create`: which values are better, where the objective is a plain "
            "function. hpolab's objectives know it.",
            show_default=False,
        ),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option("--fuse", metavar="K|auto", help="Trials to train as one model (PyTorch)."),
    ] = None,
    stop_seconds: Annotated[
        float,
        typer.Option(
            "--stop-seconds",
            min=0,
            help="How long an epoch may still take after SIGTERM or SIGUSR1.",
        ),
    ] = STOP_SECONDS,
    grace_seconds: Annotated[
        float,
        typer.Option(
            "--grace-seconds",
            min=1,
            help="How long it may be silent before others take over its trial.",
        ),
    ] = GRACE_SECONDS,
    max_retries: Annotated[
        int,
        typer.Option(
            "--max-retries", min=0, help="A trial that kills its worker more often than this fails."
        ),
    ] = MAX_RETRIES,
    max_failures: Annotated[
        int,
        typer.Option(
            "--max-failures", min=1, help="Give up if the first so many trials of the study fail."
        ),
    ] = 3,
    max_delay: Annotated[
        float | None,
        typer.Option(
            "--max-delay",
            min=0,
            help="Wait for a random part of so many seconds first, so that a thousand workers do "
            "not open the storage in one instant. 5 in a SLURM or Kubernetes array, else 0.",
        ),
    ] = None,
    any_versions: Annotated[
        bool,
        typer.Option(
            "--any-versions",
            help="Work although Python, PyTorch, Optuna or hpolab are not those of the study.",
        ),
    ] = False,
) -> None:
    """Join a study from anywhere, and run its trials until its budget is spent.

    Start as many as you like, wherever a command can be started and the storage be reached. The
    study lives in the storage, so workers may come, go, and die: exactly `--n-trials` trials come
    of it. A worker without a trial waits, and takes over what a dead one leaves. If the objective's
    module has a list `trackers`, its trials are tracked there (`run` says more of them).

    SIGTERM and SIGUSR1 let the epoch end, save a checkpoint, requeue the trial and exit, within a
    minute; a second signal stops at once. **Exit codes:** 0 done, or requeued; 75 the storage is
    out of reach, try again; 1 the objective does not work, or not with this study; 2 wrong usage.

    **SLURM:** `sbatch --array=1-50 --requeue --signal=B:USR1@90 job.sh`, where job.sh ends with
    `exec hpolab worker train:objective --study mnist -s postgresql://user@host/db -n 2000`

    **ssh:** `ssh node7 "cd project && hpolab worker train:objective --study mnist -s redis://…"`

    **Kubernetes:** an Indexed Job with the command `hpolab worker train:objective --study mnist`,
    HPOLAB_STORAGE from a secret, and `terminationGracePeriodSeconds: 90`
    """
    if per_gpu:
        raise typer.Exit(_one_for_each_gpu())
    # What each trial came to: a worker's output is its log.
    optuna.logging.set_verbosity(optuna.logging.INFO)
    asked = Joining(
        objective=objective,
        study_name=study_name,
        storage=storage,
        n_trials=n_trials,
        max_seconds=max_seconds,
        stop_seconds=stop_seconds,
        max_delay=default_delay() if max_delay is None else max_delay,
        create=create,
        direction=None if direction is None else direction.value,
        any_versions=any_versions,
        fuse=_fuse_of(fuse),
        max_failures=max_failures,
        max_retries=max_retries,
        grace_seconds=grace_seconds,
    )
    raise typer.Exit(join_study(asked, _say))


def _say(words: str) -> None:
    err.say(f"Worker {this_worker()}:", words, style="bold")


def _fuse_of(value: str | None) -> int | str | None:
    if value is None or value == "auto":
        return value
    try:
        return int(value)
    except ValueError:
        raise typer.BadParameter(
            f"must be a number or 'auto', got {value!r}.", param_hint="--fuse"
        ) from None


def _one_for_each_gpu() -> int:
    """Start this command once for each GPU, pass signals on, and wait for all; return its code."""
    gpus = visible_gpus()
    try:
        check_gpus(gpus)
    except InvalidArgument as error:
        _say(str(error))
        return BROKEN
    _say(f"starts {len(gpus)} workers, one for each of the GPUs {', '.join(gpus)}")
    arguments = [word for word in sys.argv[1:] if word != "--per-gpu"]
    path = json.dumps([os.path.abspath(entry) for entry in sys.path])
    command = [sys.executable, "-P", "-c", _BOOTSTRAP, path, *arguments]
    started: list[subprocess.Popen[bytes]] = []
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in started:
            each.send_signal(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), pass_on)
    for gpu in gpus:
        if not came:
            started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | {VISIBLE: gpu},
                    # The worker reads this pipe to its end, which comes when this process is gone.
                    stdin=subprocess.PIPE,
                    # The terminal's Ctrl-C comes once: from here.
                    start_new_session=True,
                )
            )
    # One that was asked to stop before it could hear has requeued nothing, and lost nothing.
    codes = [DONE if -code in came else code for code in (each.wait() for each in started)]
    for gpu, code in zip(gpus, codes, strict=False):
        if code < 0:
            _say(f"the worker on GPU {gpu} was ended by {signal.Signals(-code).name}")
    return _worst(codes)


def end_with_parent() -> None:
    """Stop this process softly when the one that started it is gone."""
    take_pipe()

    def wait() -> None:
        wait_for_parents_end()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _worst(codes: list[int]) -> int:
    """Return the code that tells a scheduler most: what cannot mend itself before what may."""
    found: Any = [OUT_OF_REACH if code < 0 else code for code in codes]
    for code in (BROKEN, *sorted(set(found) - {DONE, BROKEN, OUT_OF_REACH}), OUT_OF_REACH):
        if code in found:
            return int(code)
    return DONE
