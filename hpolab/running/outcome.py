"""What a run says: which trials fail, whom it waits for, that nothing is left, what came of it."""

from __future__ import annotations

import logging
import sysconfig
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import error_text, hint
from hpolab.logs import get_logger
from hpolab.studies.digests import best_so_far
from hpolab.studies.history import history_of
from hpolab.studies.recipe import read_recipe
from hpolab.studies.trials import is_feasible, tally
from hpolab.trial.lease import ERROR_KEY, whose
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.studies.trials import Tally

__all__ = [
    "one_line_for_all",
    "say_failure",
    "say_nothing_to_do",
    "say_outcome",
    "say_requeued",
    "say_what_was_ignored",
    "say_whom_it_waits_for",
    "why_without_best",
]

_logger = get_logger(__name__)

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

# Trials that one line names at most.
_MAX_NAMED = 8


@contextmanager
def one_line_for_all() -> Iterator[None]:
    """Leave to the caller of several runs to say what came of them; failed trials are told of."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def say_failure(study: Study, number: int, error: Exception) -> None:
    """Log that a trial has failed, why, and where in the user's code."""
    reason = error_text(error).partition("\n")[0]
    _logger.warning(f"Trial {number} of study {study.study_name!r} failed: {reason}{_place(error)}")


def say_requeued(study: Study, number: int, error: Exception) -> None:
    """Log that a trial has ended by an error after its worker was asked to stop."""
    reason = error_text(error).partition("\n")[0]
    _logger.warning(
        f"Trial {number} of study {study.study_name!r} is requeued: after the worker was asked to "
        f"stop, it ended by {reason}{_place(error)}"
    )


def _place(error: Exception) -> str:
    """Return the last line of the user's own that an error has come through, "" if there is none.

    What is installed is not the user's.
    """
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    own = str(Path(__file__).resolve().parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.startswith(folder) for folder in (*installed, own))
    ]
    if not frames:
        return ""
    file = Path(frames[-1].filename).name
    return f" ({file}:{frames[-1].lineno}, in {frames[-1].name})"


def say_what_was_ignored(study: Study, trial: FrozenTrial) -> None:
    """Log that a trial was enqueued with names that its objective has not asked for.

    A function's names are known when it has run. It is a warning if a value was drawn, which the
    name that is ignored may have been meant for.

    Args:
        study: The study.
        trial: A trial that has ended by itself.
    """
    enqueued = _optuna.enqueued_params(trial) or {}
    ignored = [name for name in enqueued if name not in trial.params]
    if not ignored:
        return
    drawn = [name for name in trial.params if name not in enqueued]
    said = (
        f"Trial {trial.number} of study {study.study_name!r} was enqueued with "
        f"{', '.join(map(repr, ignored))}, which its objective did not ask for"
    )
    if drawn:
        said += f"; the sampler drew {', '.join(map(repr, drawn))}"
    question = hint(ignored[0], drawn) if drawn else ""
    _logger.log(logging.WARNING if drawn else logging.INFO, f"{said}.{question}")


def say_whom_it_waits_for(study: Study, n_trials: int) -> None:
    """Log which running trials keep a run from its end or from its next trial.

    Args:
        study: The study.
        n_trials: The budget.
    """
    running = [trial for trial in history_of(study).running if trial.number < n_trials]
    if running:
        _logger.warning(f"Study {study.study_name!r} waits for {_named(running)}.")


def _named(running: Sequence[FrozenTrial]) -> str:
    named = ", ".join(f"trial {t.number} ({whose(t)})" for t in running[:_MAX_NAMED])
    return f"{named} and {len(running) - _MAX_NAMED} more" if running[_MAX_NAMED:] else named


def say_nothing_to_do(study: Study, n_trials: int) -> None:
    """Log that a run ends before it begins, and what to give it for more trials."""
    if _quiet.get():
        return
    trials = study.get_trials(deepcopy=False)
    start = f"Study {study.study_name!r}: nothing to run. It has {_counts(tally(trials))}"
    recipe = read_recipe(study)
    if recipe is not None and recipe.exhausted and len(trials) < n_trials:
        _logger.warning(
            f"{start}, and its sampler ({recipe.sampler.name}) has no other point. Enqueue trials, "
            "or give `make_study` another `sampler` with `allow_change=['sampler']`."
        )
    elif len(trials) > n_trials:
        _logger.warning(f"{start}, and n_trials={n_trials} is the total, not what is added.")
    elif not any(trial.state == TrialState.COMPLETE for trial in trials):
        _logger.warning(
            f"{start}: {why_without_best(study)}. n_trials={n_trials} is the total, so a larger "
            f"one adds trials; `delete_study({study.study_name!r}, …)` lets it begin anew."
        )
    else:
        _logger.info(f"{start}; n_trials={n_trials} is the total, so a larger one adds trials.")


def say_outcome(study: Study, n_trials: int | None, *, n_failed: int, ended_by: str = "") -> None:
    """Log what came of a run: a warning if trials have failed in it, or none is complete.

    Args:
        study: The study.
        n_trials: Its budget; None for none.
        n_failed: Its failed trials before the run.
        ended_by: What has ended the run before its budget was spent, in words.
    """
    if _quiet.get():
        return
    known = history_of(study)
    trials, n = known.trials, known.tally
    of_budget = "" if n_trials is None or n_trials == len(trials) else f" of n_trials={n_trials}"
    parts = [f"Study {study.study_name!r} has {_counts(n)}{of_budget}"]
    if ended_by:
        parts.append(f"It ended early: {ended_by}")
    best = best_so_far(study) if len(study.directions) == 1 else None
    if best is not None:
        parts.append(f"The best value is {best.value:.6g}, of trial {best.number}")
    elif len(study.directions) == 1 or not n.complete:
        parts.append(f"There is no best trial: {why_without_best(study)}")
    if n.failed > n_failed and n.complete and (error := _last(trials, ERROR_KEY)):
        parts.append(f"The last error was {error}")
        if n_trials is not None:
            parts.append("Failed trials are part of n_trials, so a larger one tries as many more")
    # `run` has waited for all others.
    left = [] if ended_by else [t for t in known.running if n_trials is None or t.number < n_trials]
    if left:
        parts.append(f"Nobody has told {_named(left)}")
    is_bad = n.failed > n_failed or (n.complete == 0 and n.finished > 0) or left
    level = logging.WARNING if is_bad else logging.INFO
    _logger.log(level, " ".join(f"{part.rstrip('.')}." for part in parts))


def why_without_best(study: Study) -> str:
    """Return why a study has no best trial, in words."""
    trials = study.get_trials(deepcopy=False)
    n = tally(trials)
    if len(study.directions) > 1:
        front = ", ".join(str(trial.number) for trial in study.best_trials[:_MAX_NAMED]) or "none"
        return (
            f"it has {len(study.directions)} objective values, and no trial is best in all. Those "
            f"that no other beats (`study.best_trials`): {front}"
        )
    if n.complete:
        broken = [trial for trial in trials if not is_feasible(trial)]
        named = sorted({name for t in broken for name, found in t.constraints.items() if found > 0})
        which = f" ({', '.join(named)})" if named else ""
        return f"all {n.complete} complete trials violate a constraint{which}"
    if not n.finished:
        return "none is complete yet"
    reason = _last(trials, REASON_KEY) or _last(trials, ERROR_KEY)
    last = "" if reason is None else f"; the last one: {reason}"
    return f"none of {n.finished} is complete ({n.pruned} pruned, {n.failed} failed{last})"


def _counts(n: Tally) -> str:
    states = {"complete": n.complete, "pruned": n.pruned, "failed": n.failed}
    left = {"running": n.running, "waiting": n.waiting}
    named = [f"{count} {state}" for state, count in states.items()]
    named += [f"{count} {state}" for state, count in left.items() if count]
    finished = "1 finished trial" if n.finished == 1 else f"{n.finished} finished trials"
    return f"{finished} ({', '.join(named)})"


def _last(trials: Sequence[FrozenTrial], key: str) -> str | None:
    """Return the first line of what the last trial has that has it."""
    found = (trial.user_attrs[key] for trial in reversed(trials) if key in trial.user_attrs)
    reason: str | None = next(found, None)
    return None if reason is None else reason.partition("\n")[0]
