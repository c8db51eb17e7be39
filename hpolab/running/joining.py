"""Join a study from anywhere: check that this worker fits it, run its trials, say how it ended."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import get_all_study_names

from hpolab.errors import (
    HpolabError,
    InvalidArgument,
    RecipeMismatch,
    StorageNotFound,
    StorageUnavailable,
    StudyNotFound,
    hint,
)
from hpolab.objectives.base import Objective
from hpolab.running.described import this_worker
from hpolab.running.gpus import VISIBLE, gpu_of_local_rank
from hpolab.running.interrupts import LAST_SECONDS, STOP_SECONDS, SoftSignals
from hpolab.running.loading import load_with_trackers, split_place
from hpolab.running.run import BUDGET_KEY, run
from hpolab.storage.redaction import redact
from hpolab.storage.url import open_storage
from hpolab.studies.recipe import read_recipe
from hpolab.studies.study import load_study, make_study, stored_study
from hpolab.studies.versions import differing_versions, versions_in_use
from hpolab.trial.lease import GRACE_SECONDS, MAX_RETRIES, requeue_held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.running.plan import ObjectiveFunction

__all__ = [
    "BROKEN",
    "DONE",
    "OUT_OF_REACH",
    "WRONG_USAGE",
    "Joining",
    "default_delay",
    "join_study",
    "seconds_left",
]

# What schedulers read. 75 is EX_TEMPFAIL of sysexits.h: trying again may help.
DONE, BROKEN, WRONG_USAGE, OUT_OF_REACH = 0, 1, 2, 75

# Workers that a scheduler starts together open the storage within so many seconds.
_DELAY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a worker is asked for.

    Attributes:
        objective: ``module:name`` or ``path/to/script.py:name``.
        study_name: The study.
        storage: The URL of its storage.
        n_trials: The study's budget in total; None for the one that it was last run with.
        max_seconds: When the worker must have ended, from its start; None for no limit of its own.
        stop_seconds: How long an epoch may go on when the worker is asked to stop.
        max_delay: The worker waits for a random part of these seconds before it opens the storage.
        create: Whether to make the study where there is none.
        direction: "minimize" or "maximize" the values of a plain function, whose study is made.
        any_versions: Whether to go on where versions differ from those that made the study.
        fuse: As in `run`.
        max_failures: As in `run`.
        max_retries: As in `run`.
        grace_seconds: As in `run`.
    """

    objective: str
    study_name: str
    storage: str
    n_trials: int | None = None
    max_seconds: float | None = None
    stop_seconds: float = STOP_SECONDS
    max_delay: float = 0.0
    create: bool = False
    direction: str | None = None
    any_versions: bool = False
    fuse: int | str | None = None
    max_failures: int = 3
    max_retries: int = MAX_RETRIES
    grace_seconds: float = GRACE_SECONDS


class _Ended(Exception):
    """The end of a worker.

    Args:
        code: Its exit code.
        words: What to say.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


def join_study(asked: Joining, say: Callable[[str], None]) -> int:
    """Be a worker of a study until its budget is spent, or something ends the worker.

    Args:
        asked: What the worker is asked for.
        say: Takes one line for people, about this worker.

    Returns:
        The exit code: 0 if the budget is spent, or the trial in training was requeued; 75 if the
        storage is out of reach; 1 if the objective does not work, or not with this study; 2 if the
        study or an argument is wrong; 130 after Ctrl-C.
    """
    started = time.monotonic()
    signals = SoftSignals(asked.stop_seconds)
    signals.at_last = lambda: _leave(say, signals.reason)
    try:
        with signals:
            _set_limit(signals, asked, started, say)
            _join(asked, say)
    except _Ended as end:
        say(end.words)
        return end.code
    except (KeyboardInterrupt, SystemExit) as stopped:
        if signals.reason is None:
            say(f"the objective has ended the program ({stopped!r})")
            return BROKEN
        if signals.reason in ("SIGINT", "SIGHUP"):
            say(f"ended by {signals.reason}; what was running is requeued")
            return 128 + signal.Signals[signals.reason]
        say(f"stopped by {signals.reason}; what was running is requeued")
    return DONE


def _leave(say: Callable[[str], None], reason: str | None) -> None:
    """Requeue the trial of a training that no interrupt reaches, and end the process."""
    requeue_held()
    say(f"stopped by {reason} in a training that did not answer; its trial is requeued")
    sys.stderr.flush()
    os._exit(DONE)


def _join(asked: Joining, say: Callable[[str], None]) -> None:
    _check_place(asked)
    time.sleep(random.SystemRandom().uniform(0, asked.max_delay))
    gpu = gpu_of_local_rank()
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    storage = _opened(asked)
    objective, trackers = _loaded(asked)
    study = _study(asked, storage, objective)
    n_trials = _budget(asked, study)
    try:
        directions = ", ".join(direction.name.lower() for direction in study.directions)
        say(
            f"joins study {asked.study_name!r} ({directions}) in {redact(asked.storage)}, up to "
            f"{n_trials} trials"
        )
        run(
            study,
            objective,
            n_trials=n_trials,
            fuse=asked.fuse,
            trackers=trackers,
            max_failures=asked.max_failures,
            max_retries=asked.max_retries,
            grace_seconds=asked.grace_seconds,
        )
    except Exception as error:
        raise _end_by(error) from error
    raise _Ended(DONE, f"is done: no trial of study {asked.study_name!r} is left to run")


def _check_place(asked: Joining) -> None:
    try:
        split_place(asked.objective)
    except InvalidArgument as error:
        raise _Ended(WRONG_USAGE, str(error)) from None


def _end_by(error: Exception) -> _Ended:
    """Return the end that an error means for a worker whose study and objective are there."""
    if isinstance(error, StorageUnavailable | optuna.exceptions.StorageInternalError):
        return _Ended(OUT_OF_REACH, f"the storage is out of reach: {error}")
    if isinstance(error, HpolabError):
        return _Ended(BROKEN, str(error))
    shown = "".join(traceback.format_exception(error)).rstrip()
    return _Ended(BROKEN, f"ended by an error\n{shown}")


def _opened(asked: Joining) -> BaseStorage:
    try:
        return open_storage(asked.storage, create=asked.create)
    except StorageNotFound as error:
        raise _Ended(WRONG_USAGE, f"{error} `--create` makes both.") from None
    except StorageUnavailable as error:
        raise _Ended(OUT_OF_REACH, f"the storage is out of reach: {error}") from None
    except HpolabError as error:
        raise _Ended(WRONG_USAGE, str(error)) from None


def _loaded(asked: Joining) -> tuple[ObjectiveFunction, Any]:
    try:
        return load_with_trackers(asked.objective)
    except HpolabError as error:
        raise _Ended(BROKEN, str(error)) from None


def _study(asked: Joining, storage: BaseStorage, objective: ObjectiveFunction) -> Study:
    """Return the study to join, whose versions fit this worker's."""
    name = asked.study_name
    try:
        names = get_all_study_names(storage)
        if name not in names:
            if not asked.create:
                raise StudyNotFound(
                    f"No study {name!r} in {redact(asked.storage)}.{hint(name, names)} Make it "
                    "with `make_study` first, or let the worker make it: `--create`."
                )
            return _made(asked, storage, objective)
        if not asked.any_versions:
            check_versions(stored_study(name, storage))
        study = load_study(name, storage=storage)
        _check_direction(asked, study)
        return study
    except _Ended:
        raise
    except RecipeMismatch as error:
        raise _Ended(BROKEN, str(error)) from None
    except StudyNotFound as error:
        raise _Ended(WRONG_USAGE, str(error)) from None
    except Exception as error:
        raise _end_by(error) from error


def _check_direction(asked: Joining, study: Study) -> None:
    stored = ", ".join(each.name.lower() for each in study.directions)
    if asked.direction not in (None, stored):
        raise RecipeMismatch(
            f"`--direction` must be that of study {study.study_name!r}, {stored}, got "
            f"{asked.direction}."
        )


def _made(asked: Joining, storage: BaseStorage, objective: ObjectiveFunction) -> Study:
    """Make the study; nobody but the user knows which values of a plain function are better."""
    if isinstance(objective, Objective):
        if asked.direction not in (None, objective.direction):
            raise _Ended(
                WRONG_USAGE,
                f"`--direction` must be left out, or be that of {asked.objective}, "
                f"{objective.direction}, got {asked.direction}.",
            )
        return make_study(asked.study_name, storage=storage, objective=objective)
    if asked.direction is None:
        raise _Ended(
            WRONG_USAGE,
            f"`--direction minimize` or `--direction maximize` must be given with `--create`: "
            f"{asked.objective} is a plain function, so it does not say which values are better.",
        )
    return make_study(asked.study_name, storage=storage, direction=asked.direction)


def check_versions(study: Study) -> None:
    """Refuse to work for a study that was made with other versions.

    Raises:
        RecipeMismatch: If Python, PyTorch, Optuna or hpolab differ in their major or minor version.
    """
    recipe = read_recipe(study)
    if recipe is None:
        return
    differing = differing_versions(recipe.versions, versions_in_use())
    if differing:
        shown = ", ".join(
            f"{package} {stored} made it and {here} is here"
            for package, (stored, here) in differing.items()
        )
        raise RecipeMismatch(
            f"Study {study.study_name!r} was made with other versions than those of "
            f"{this_worker()}: {shown}.",
            " Install the same here, or go on all the same with `--any-versions`: trials of this "
            "worker may then differ from those of the others.",
        )


def _budget(asked: Joining, study: Study) -> int:
    if asked.n_trials is not None:
        return asked.n_trials
    stored = study.user_attrs.get(BUDGET_KEY)
    if not isinstance(stored, int):
        raise _Ended(
            WRONG_USAGE,
            f"`--n-trials` must be given: study {study.study_name!r} was never run with a budget. "
            "It is the study's total, whoever spends it.",
        )
    return stored


def _set_limit(
    signals: SoftSignals, asked: Joining, started: float, say: Callable[[str], None]
) -> None:
    """Stop the worker in time before its limit, its own or the scheduler's."""
    limits = []
    if asked.max_seconds is not None:
        limits.append((asked.max_seconds - (time.monotonic() - started), "--max-seconds"))
    slurm = seconds_left(os.environ)
    if slurm is not None and slurm <= 0:
        say("SLURM_JOB_END_TIME is over already, so it is not heeded")
    elif slurm is not None:
        limits.append((slurm, "the job's end (SLURM_JOB_END_TIME)"))
    if limits:
        seconds, reason = min(limits)
        margin = min(asked.stop_seconds + LAST_SECONDS + 5, seconds / 4)
        stop_seconds = min(asked.stop_seconds, 0.75 * margin)
        signals.stop_after(seconds - margin, reason, stop_seconds)


def seconds_left(environ: Mapping[str, str]) -> float | None:
    """Return the seconds until SLURM ends this job, by its own account; None if it does not say.

    Example:
        >>> seconds_left({}) is None
        True
    """
    try:
        return float(environ["SLURM_JOB_END_TIME"]) - time.time()
    except (KeyError, ValueError):
        return None


def default_delay(environ: Mapping[str, str] = os.environ) -> float:
    """Return how long a worker waits at most before it opens the storage.

    Some seconds where a scheduler starts many at once: SLURM's arrays and steps of several tasks,
    Kubernetes's indexed jobs.

    Example:
        >>> default_delay({"SLURM_ARRAY_TASK_ID": "4"}), default_delay({})
        (5.0, 0.0)
    """
    many = "SLURM_ARRAY_TASK_ID" in environ or "JOB_COMPLETION_INDEX" in environ
    many = many or environ.get("SLURM_NTASKS", "1") != "1"
    return _DELAY_SECONDS if many else 0.0
