"""run(): a budget of trials that any number of workers and restarts spend exactly."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import optuna

from hpolab import _optuna
from hpolab.errors import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    StudyNotFound,
    check_count,
    check_seconds,
)
from hpolab.identity import is_ours
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.running.capacity import suitable_n_workers
from hpolab.running.described import name_of
from hpolab.running.executors.base import Executor
from hpolab.running.executors.this_process import ThisProcess
from hpolab.running.fits import fit_objective
from hpolab.running.interrupts import Interrupts
from hpolab.running.others import refuse_other_objective
from hpolab.running.outcome import say_nothing_to_do, say_outcome
from hpolab.running.plan import Plan
from hpolab.running.progress import is_bar_shown, study_progress
from hpolab.running.references import note_references
from hpolab.running.tracked import tracking_study
from hpolab.running.trial_lines import are_lines_shown
from hpolab.studies.facts import note_facts
from hpolab.studies.history import history_of
from hpolab.studies.recipe import read_recipe
from hpolab.studies.sampler import ManualSampler
from hpolab.studies.trials import is_begun
from hpolab.surroundings import facts_of_function
from hpolab.trial.lease import (
    asked_here,
    is_spent,
    release_ended,
    requeue_dead_trials,
)
from hpolab.trial.tracking import as_trackers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Unpack

    from optuna import Study

    from hpolab.running.plan import Callback, ObjectiveFunction
    from hpolab.trial.tracker import Tracker

__all__ = ["BUDGET_KEY", "RunOptions", "Tolerance", "budget_of", "run"]

BUDGET_KEY = "hpolab:n_trials"
_WINDOW_KEY = "hpolab:window"


class Tolerance(TypedDict, total=False):
    """What a run bears of failed trials, dead workers and silent ones; `Plan` has the defaults."""

    max_failures: int
    max_retries: int
    grace_seconds: float


class RunOptions(Tolerance, total=False):
    """What `run` takes beside the study, the objective and the budget.

    `compare`, `sweep` and `confirm` take the same keywords and pass them on.
    """

    n_workers: int | str | None
    executor: Executor | None
    reproducible: bool
    fuse: int | str | None
    timeout_seconds: float | None
    callbacks: Sequence[Callback] | None
    trackers: Sequence[Tracker] | None
    show_progress_bar: bool | None


@checks_keywords(Tolerance)
def run(
    study: Study,
    objective: ObjectiveFunction,
    *,
    n_trials: int | None = None,
    n_workers: int | str | None = None,
    executor: Executor | None = None,
    reproducible: bool = False,
    fuse: int | str | None = None,
    timeout_seconds: float | None = None,
    default_first: bool = True,
    callbacks: Sequence[Callback] | None = (),
    trackers: Sequence[Tracker] | None = (),
    show_progress_bar: bool | None = None,
    **tolerance: Unpack[Tolerance],
) -> None:
    """Bring a study to ``n_trials`` finished trials in total.

    ``n_trials`` is the study's whole budget, whoever spends it. Started again after a crash, or in
    several processes and on several machines at once, `run` stops at ``n_trials``. It returns when
    all are finished, and what simple solutions reach is stored beside them: see
    `Objective.references`.

    A trial whose worker died is resumed under its own number, with its parameters, its reports and
    its checkpoint: on the same host at once, on another when its lease has stood still for the
    grace period. A trial whose objective raises is stored as failed, with its error under the user
    attribute `hpolab:error`, and the study continues; one that returns NaN or infinity is pruned,
    marked so that samplers avoid its region.

    A terminal and a notebook show a progress bar of the whole study. Elsewhere, as in the log of a
    batch job, each trial that ends has a line at level INFO, as in ``Study.optimize``, those of
    worker processes too (workers on Ray keep theirs to themselves). At WARNING, each failed trial
    is logged with its reason as it happens. One line says at the end what came of the run: INFO, or
    WARNING if trials failed or none is complete. ``optuna.logging.set_verbosity`` silences each
    level: WARNING leaves the warnings, ERROR nothing.

    ``study.stop()``, in the objective or in a callback, ends the run once the trials in training
    have ended, those of all its workers.

    Ctrl-C, SIGTERM (a scheduler's notice before preemption) and SIGHUP requeue the running trial at
    once. Ctrl-C then raises `KeyboardInterrupt` with a message that says how to resume, the others
    `SystemExit`. (`hpolab worker`, which a scheduler starts, lets the epoch end first.)

    Args:
        study: Any ``optuna.Study``.
        objective: An hpolab objective, or any function of a trial.
        n_trials: Total number of trials, failed ones included. None runs trials until
            ``timeout_seconds`` is up; with `sampler="manual"`, None runs those that are enqueued.
        n_workers: Number of processes that run trials, each with its share of the cores; one that
            dies is replaced. "auto" takes what this machine has room for: a process for each core,
            fewer where the objective asks for several threads, memory is short or few trials are
            left, and one for a study in memory or a training on a GPU, as far as `objective.task`
            or CUDA_VISIBLE_DEVICES tells. With None or 1, trials run in this process.
        executor: Where trials run if not in processes of this machine, such as
            ``RayExecutor(n_workers=8)``, which takes the place of ``n_workers``.
        reproducible: Whether the result must depend on ``n_workers`` and the study's seed, but
            not on timing: trial n starts when all trials numbered below n - n_workers + 1 are
            finished, and its sampler and pruner see these alone. The price is waiting: for the
            slowest of each n_workers trials in flight. A trial of ``study.ask`` that nobody tells
            for ``grace_seconds`` is refused.
        fuse: How many trials of a `TorchObjective` this process trains as one model, each with its
            own numbers, seed and data order, and with the result that it would have alone. "auto"
            measures 1, 4, 16 and 64 first, as far as a quarter of the trials that are left, and
            takes the fastest. Steps are compiled where the study is long enough to gain by it.
            Trials whose models differ in shape, or in batch size, are trained in groups; those
            that cannot be stacked one by one, with a line that says why. One that ends makes room
            for a new one, of which the sampler knows no more than what has ended by then;
            ``partial(TPESampler, constant_liar=True)`` keeps away from those in training.
        timeout_seconds: No trial is started after this time, and those of an hpolab objective end
            at their next report, with the best value that they have; None for no limit.
        default_first: Whether trial 0 of an hpolab objective tries the default configuration of
            its search space (unless trial 0 was enqueued).
        callbacks: Called with (study, trial) after each trial, as in ``Study.optimize``, in the
            process that ran it.
        trackers: Where the study is shown beside its storage: ``[MLflowTracker()]``,
            ``[WandbTracker("project")]``, ``[TensorBoardTracker("logs")]``, or your own `Tracker`.
            A resumed trial goes on in its run. One that fails is logged and left out.
        show_progress_bar: None shows it in a terminal and in a notebook. Where there is no bar, as
            with False, the log has a line for each trial.
        **tolerance: What the run bears. ``max_failures=3``: if no trial of the study has succeeded
            and this many fail in a row, stop. ``max_retries=2``: a trial that kills its worker more
            often than this fails. ``grace_seconds=60``: how long a worker may be silent before
            workers on other hosts take over its trial, 1 or above; a thread renews the lease, so a
            long epoch is no silence.

    Raises:
        InvalidArgument: If an argument is out of its range, the study's direction contradicts the
            objective's, or the workers cannot share the study, as one in memory.
        InvalidType: If ``study`` or ``objective`` is of the wrong type, or cannot be sent to worker
            processes. Also if a trial is enqueued with a name that the search space lacks, or a
            value outside its range.
        RecipeMismatch: If the study has trials of a search space that this one cannot follow, was
            begun with another ``n_workers`` under ``reproducible``, or was written by a newer
            hpolab. Also if another worker trains one of its trials with an objective of another
            name.
        StudyNotFound: If the study is deleted while it runs.
        TooManyFailures: If the first ``max_failures`` trials failed; from the last one's error.
        WorkersDied: If worker processes die over and over without finishing a trial.
        WorkerError: If a callback raises, in a worker, what cannot travel to this process.
        KeyboardInterrupt: After Ctrl-C, once the running trial is requeued.

    Example:
        >>> from hpolab import make_study, run
        >>> study = make_study("squares", storage="memory://", sampler="random", seed=0)
        >>> run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
        >>> run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
        >>> len(study.trials)
        5
    """
    started = time.monotonic()
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    with _told_of_deletion(study):
        n_trials = _check_arguments(study, objective, n_trials, timeout_seconds)
        auto = partial(_auto_n_workers, study, objective, n_trials, reproducible)
        executor = _chosen(n_workers, executor, auto)
        executor.check(study)
        plan = Plan(
            n_trials=sys.maxsize if n_trials is None else n_trials,
            timeout_seconds=math.inf if timeout_seconds is None else timeout_seconds,
            window=executor.n_workers if reproducible else None,
            shared=not executor.is_this_process,
            fuse=fuse,
            callbacks=_as_callbacks(callbacks),
            trackers=as_trackers(trackers),
            trial_lines=not is_bar_shown(show_progress_bar) and are_lines_shown(),
            **tolerance,
        )
        plan = _prepared(study, objective, plan, default_first)
        if is_spent(study, plan.n_trials, asked=plan.asked, only_enqueued=plan.only_enqueued):
            say_nothing_to_do(study, plan.n_trials)
            _note_references(study, objective)
            return
        _optuna.request_stop(study, False)
        n_failed = history_of(study).tally.failed
        # What the checks have taken, such as binning a large table, is part of the user's time.
        left = max(0.0, plan.timeout_seconds - (time.monotonic() - started))
        plan = replace(plan, timeout_seconds=left)
        interrupts = _spend(study, objective, plan, executor, show_progress_bar)
        if interrupts.pressed is None:
            say_outcome(study, n_trials, n_failed=n_failed, ended_by=_end_of(study, plan))
            _note_references(study, objective)
    if interrupts.pressed == signal.SIGINT:
        raise KeyboardInterrupt(_how_to_resume(study, n_trials))
    if interrupts.pressed is not None:
        raise SystemExit(128 + interrupts.pressed)


@contextmanager
def _told_of_deletion(study: Study) -> Iterator[None]:
    """Say that a study is gone where its storage fails for that reason."""
    try:
        yield
    except HpolabError:
        raise
    except Exception as error:
        if not _optuna.is_deleted(study):
            raise
        raise StudyNotFound(
            f"Study {study.study_name!r} was deleted from its storage while `run` used it. "
            "`make_study` begins it anew."
        ) from error


def _prepared(study: Study, objective: ObjectiveFunction, plan: Plan, default_first: bool) -> Plan:
    """Check the objective against the study, note what the run is about, and complete the plan."""
    if plan.fuse is not None:
        _check_fuse(objective, plan.fuse, plan.window is not None)
    if isinstance(objective, Objective):
        fit_objective(study, objective)
        if default_first:
            first_params = objective.search_space.to_trial(objective.search_space.defaults())
            plan = replace(plan, first_params=first_params)
    elif not is_ours(objective):
        note_facts(study, facts_of_function("objective", objective))
    refuse_other_objective(study, name_of(objective))
    _note_window(study, plan.window)
    _note_budget(study, plan.n_trials)
    release_ended(study)
    if plan.shared:
        # Of trials asked for in this process, its workers could not tell that they are nobody's.
        requeue_dead_trials(study, plan.max_retries)
    recipe = read_recipe(study)
    exhausted = recipe is not None and recipe.exhausted
    return replace(plan, asked=asked_here(study), only_enqueued=exhausted)


def _spend(
    study: Study,
    objective: ObjectiveFunction,
    plan: Plan,
    executor: Executor,
    show_progress_bar: bool | None,
) -> Interrupts:
    """Run the trials that are left; return what has interrupted that."""
    total = None if plan.n_trials == sys.maxsize else plan.n_trials
    with (
        study_progress(study, total, show_progress_bar) as update,
        Interrupts() as interrupts,
        tracking_study(study, objective, plan, interrupts),
    ):
        executor.execute(study, objective, plan, interrupts, after_trial=update)
    return interrupts


def _auto_n_workers(
    study: Study, objective: ObjectiveFunction, n_trials: int | None, reproducible: bool
) -> int:
    """Return the number of workers that "auto" stands for on this machine."""
    if reproducible:
        raise InvalidArgument(
            "`n_workers` must be a number under `reproducible`, whose result depends on it, got "
            "'auto', which another machine may take for another number."
        )
    n_left = sys.maxsize if n_trials is None else n_trials - history_of(study).tally.finished
    return suitable_n_workers(study, objective, n_left)


def _chosen(
    n_workers: int | str | None, executor: Executor | None, auto: Callable[[], int]
) -> Executor:
    """Return where the trials of a run are trained."""
    if isinstance(n_workers, str) and n_workers != "auto":
        raise InvalidArgument(f"`n_workers` must be a number or 'auto', got {n_workers!r}.")
    if n_workers is not None and n_workers != "auto":
        check_count("n_workers", n_workers)
    if executor is None:
        count = auto() if isinstance(n_workers, str) else n_workers
        if count is None or count == 1:
            return ThisProcess()
        from hpolab.running.executors.processes import LocalProcesses

        return LocalProcesses(count)
    if not isinstance(executor, Executor):
        raise InvalidType(
            "`executor` must be a RayExecutor, LocalProcesses or another Executor, got "
            f"{type(executor).__name__}."
        )
    if n_workers is not None:
        raise InvalidArgument(
            f"`n_workers` must be None where `executor` is given, got {n_workers!r}: "
            f"`{type(executor).__name__}(n_workers=…)` says how many."
        )
    return executor


def _end_of(study: Study, plan: Plan) -> str:
    """Return what has ended a run before its budget was spent, in words."""
    if is_spent(study, plan.n_trials, asked=plan.asked):
        return ""
    if _optuna.stop_requested(study):
        return "`study.stop` was called"
    recipe = read_recipe(study)
    exhausted = recipe is not None and recipe.exhausted
    if exhausted or math.isinf(plan.timeout_seconds):
        return "the sampler has no other point"
    # Without a budget that is what ends it, and not early.
    return "" if plan.n_trials == sys.maxsize else "`timeout_seconds` is up"


def _as_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return callbacks as a tuple; refuse what is no list of functions."""
    if callbacks is None:
        return ()
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise InvalidType(
            "`callbacks` must be a list of functions of (study, trial), got "
            f"{type(callbacks).__name__}: `callbacks=[…]` holds one, too."
        )
    given = tuple(callbacks)
    for each in given:
        if not callable(each):
            raise InvalidType(
                f"`callbacks` must be a list of functions of (study, trial), got one with {each!r}."
            )
    return given


def _check_arguments(
    study: Study,
    objective: ObjectiveFunction,
    n_trials: int | None,
    timeout_seconds: float | None,
) -> int | None:
    """Refuse bad arguments; return the budget."""
    read_recipe(study)  # refuses what a newer hpolab has written, before anything is changed
    if not callable(objective):
        raise InvalidType(
            f"`objective` must be a callable of a trial, got {type(objective).__name__}."
        )
    check_seconds("timeout_seconds", timeout_seconds)
    manual = isinstance(study.sampler, ManualSampler)
    n_existing = len(history_of(study).trials) if manual else 0
    if n_trials is None and manual:
        n_trials = n_existing
    if n_trials is None and timeout_seconds is None:
        raise InvalidArgument("`n_trials` or `timeout_seconds` must be given, got None for both.")
    if manual and n_existing == 0:
        raise InvalidArgument(
            "`study` must have configurations enqueued, as `sampler='manual'` draws none itself, "
            "got none: give them to `study.enqueue_trial`."
        )
    if n_trials is not None:
        check_count("n_trials", n_trials)
    if manual and n_trials is not None and n_trials > n_existing:
        raise InvalidArgument(
            f"`n_trials` must be at most the {n_existing} configurations enqueued, as "
            f"`sampler='manual'` draws none itself, got {n_trials}."
        )
    return n_trials


def _check_fuse(objective: ObjectiveFunction, fuse: int | str, reproducible: bool) -> None:
    if not isinstance(objective, Objective):
        raise InvalidType(
            "`fuse` needs a TorchObjective, whose trials can be one model, got "
            f"{type(objective).__name__}."
        )
    objective.check_fuse(fuse)
    if reproducible:
        raise InvalidArgument(
            "`fuse` must be None where `reproducible` is True: which trials have ended when one "
            f"begins depends on how long each trains, got {fuse!r}."
        )


def _note_references(study: Study, objective: ObjectiveFunction) -> None:
    """Store what simple solutions reach, behind the trials, which nobody shall wait for."""
    if isinstance(objective, Objective) and history_of(study).tally.complete:
        note_references(study, objective)


def _note_window(study: Study, window: int | None) -> None:
    """Store what a reproducible study must be resumed with."""
    if study.user_attrs.get(_WINDOW_KEY) != window:
        if any(map(is_begun, history_of(study).trials)):
            raise RecipeMismatch(
                f"Study {study.study_name!r} must resume as it began, as its trials depend on it: "
                f"stored {_describe(study.user_attrs.get(_WINDOW_KEY))}, asked for "
                f"{_describe(window)}."
            )
        study.set_user_attr(_WINDOW_KEY, window)


def _note_budget(study: Study, n_trials: int) -> None:
    """Store the budget that `hpolab status` shows, unless the study is beyond it."""
    budget = None if n_trials == sys.maxsize else n_trials
    n_existing = len(history_of(study).trials)
    if study.user_attrs.get(BUDGET_KEY) != budget and (budget is None or budget >= n_existing):
        study.set_user_attr(BUDGET_KEY, budget)


def budget_of(user_attrs: Mapping[str, Any], n_finished: int) -> int | None:
    """Return the budget that a study was last run with; None for none, and if it is beyond that.

    ``study.optimize`` and smaller budgets know nothing of it.

    Args:
        user_attrs: The study's.
        n_finished: Its finished trials.
    """
    budget = user_attrs.get(BUDGET_KEY)
    return budget if isinstance(budget, int) and budget >= n_finished else None


def _describe(window: int | None) -> str:
    return "reproducible=False" if window is None else f"reproducible=True, n_workers={window}"


def _how_to_resume(study: Study, n_trials: int | None) -> str:
    n = history_of(study).tally
    of = "" if n_trials is None else f" of {n_trials}"
    return (
        f"study {study.study_name!r} stopped after {n.finished}{of} trials, and what was running "
        "is requeued; start it again to resume"
    )
