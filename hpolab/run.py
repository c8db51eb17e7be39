"""run(): a budget of trials that any number of workers and restarts spend exactly."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import InvalidArgument, InvalidType, TooManyFailures
from hpolab.objectives import Objective
from hpolab.progress import ProgressBar
from hpolab.pruner import with_max_resource
from hpolab.recipe import check_search_space, read_recipe, write_recipe
from hpolab.reporter import give_up
from hpolab.sampler import ManualSampler
from hpolab.storage.lease import Lease, put_back_dead_trials
from hpolab.tables import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    Callback = Callable[[Study, FrozenTrial], None]
    ObjectiveFunction = Callable[[Trial], float | Sequence[float]]

__all__ = ["BUDGET_KEY", "ERROR_KEY", "run"]

BUDGET_KEY = "hpolab:n_trials"
ERROR_KEY = "hpolab:error"


def run(
    study: Study,
    objective: ObjectiveFunction,
    *,
    n_trials: int | None = None,
    timeout_seconds: float | None = None,
    default_first: bool = True,
    max_failures: int = 3,
    callbacks: Sequence[Callback] = (),
    show_progress_bar: bool | None = None,
) -> None:
    """Bring a study to ``n_trials`` trials in total.

    ``n_trials`` is the study's whole budget, whoever spends it: started again after a crash, or in
    several processes at once, `run` goes on to ``n_trials`` and no further. A trial whose worker
    died on this host is put back under its own number and run again. A trial whose objective
    raises is stored as failed, with its error under the user attribute `hpolab:error`, and the
    study goes on; one that returns NaN or infinity is pruned, marked so that samplers avoid its
    region.

    Ctrl-C puts the running trial back and raises `KeyboardInterrupt` with a message that says how
    to go on.

    Args:
        study: Any ``optuna.Study``.
        objective: An hpolab objective, or any function of a trial.
        n_trials: Trials of all states that the study shall have; failed ones count. None, with
            ``timeout_seconds``, for as many as fit; None for `sampler="manual"`, for those that
            are enqueued.
        timeout_seconds: No trial is started after this time; None for no limit.
        default_first: Whether trial 0 of an hpolab objective tries the default configuration of
            its search space (unless trial 0 was enqueued).
        max_failures: If no trial of the study has succeeded and this many fail in a row, stop.
        callbacks: Called with (study, trial) after each trial, as in ``Study.optimize``.
        show_progress_bar: None shows it where standard error is a terminal.

    Raises:
        InvalidArgument: If an argument is out of its range, or the study's direction contradicts
            the objective's.
        InvalidType: If ``study`` or ``objective`` is of the wrong type.
        RecipeMismatch: If the study has trials of a search space that this one cannot follow.
        TooManyFailures: If the first ``max_failures`` trials failed; from the last one's error.
        KeyboardInterrupt: After Ctrl-C, once the running trial is put back.

    Example:
        >>> from hpolab import make_study, run
        >>> study = make_study("squares", storage="memory://", sampler="random", seed=0)
        >>> run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
        >>> run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
        >>> len(study.trials)
        5
    """
    n_trials = _check_arguments(study, objective, n_trials, timeout_seconds, max_failures)
    first_params = None
    if isinstance(objective, Objective):
        _check_objective(study, objective)
        if default_first:
            first_params = objective.search_space.to_trial(objective.search_space.defaults())
    if study.user_attrs.get(BUDGET_KEY) != n_trials:
        study.set_user_attr(BUDGET_KEY, n_trials)
    put_back_dead_trials(study)
    if _exhausted(study):
        return
    worker = _Worker(study, objective, max_failures)
    deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
    bound = sys.maxsize if n_trials is None else n_trials
    with (
        ProgressBar(study, n_trials, show_progress_bar) as bar,
        _optuna.optimize_loop(study),
        _Interrupts() as interrupts,
    ):
        while not (
            interrupts.pressed or _optuna.stop_requested(study) or time.monotonic() >= deadline
        ):
            trial = _claim(study, bound, first_params)
            if trial is None:
                break
            finished = worker.run_trial(trial, interrupts)
            if finished is None:
                break
            bar.update()
            for callback in callbacks:
                callback(study, finished)
    if interrupts.pressed:
        raise KeyboardInterrupt(_how_to_go_on(study, n_trials))


def _check_arguments(
    study: Study,
    objective: ObjectiveFunction,
    n_trials: int | None,
    timeout_seconds: float | None,
    max_failures: int,
) -> int | None:
    """Refuse bad arguments; return the budget."""
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    if not callable(objective):
        raise InvalidType(
            f"`objective` must be a callable of a trial, got {type(objective).__name__}."
        )
    if timeout_seconds is not None and timeout_seconds <= 0:
        raise InvalidArgument(f"`timeout_seconds` must be above 0, or None, got {timeout_seconds}.")
    if max_failures < 1:
        raise InvalidArgument(f"`max_failures` must be 1 or above, got {max_failures}.")
    manual = isinstance(study.sampler, ManualSampler)
    n_existing = len(study.get_trials(deepcopy=False)) if manual else 0
    if n_trials is None and manual:
        n_trials = n_existing
    if n_trials is None and timeout_seconds is None:
        raise InvalidArgument("`n_trials` or `timeout_seconds` must be given, got None for both.")
    if n_trials is not None and (isinstance(n_trials, bool) or not isinstance(n_trials, int)):
        raise InvalidType(f"`n_trials` must be an int, got {type(n_trials).__name__}.")
    if n_trials is not None and n_trials < 1:
        hint = " Enqueue configurations with `study.enqueue_trial`." if manual else ""
        raise InvalidArgument(f"`n_trials` must be 1 or above, got {n_trials}.{hint}")
    if manual and n_trials is not None and n_trials > n_existing:
        raise InvalidArgument(
            f"`n_trials` must be at most the {n_existing} configurations enqueued, as "
            f"`sampler='manual'` draws none itself, got {n_trials}."
        )
    return n_trials


def _check_objective(study: Study, objective: Objective) -> None:
    """Refuse, before a trial is spent, an objective that does not fit its study or its data."""
    objective.check_direction(study)
    objective.check()
    check_search_space(study, objective.search_space)
    recipe = read_recipe(study)
    if recipe is not None and recipe.pruner.name == "hyperband":
        study.pruner = with_max_resource(objective.max_steps)


def _claim(study: Study, bound: int, first_params: dict[str, Any] | None) -> Trial | None:
    mark = Lease.mine().as_mark()
    trial = _optuna.claim_trial(study, bound, mark=mark, first_params=first_params)
    if trial is None and put_back_dead_trials(study):
        trial = _optuna.claim_trial(study, bound, mark=mark, first_params=first_params)
    return trial


def _exhausted(study: Study) -> bool:
    recipe = read_recipe(study)
    return recipe is not None and recipe.exhausted


class _Worker:
    """Runs trials one after another and stores how each ended."""

    def __init__(self, study: Study, objective: ObjectiveFunction, max_failures: int) -> None:
        self._study = study
        self._objective = objective
        self._max_failures = max_failures
        self._failures_in_a_row = 0

    def run_trial(self, trial: Trial, interrupts: _Interrupts) -> FrozenTrial | None:
        """Run one trial and tell its outcome; put it back and return None after Ctrl-C."""
        try:
            with interrupts.allowed():
                value = _finite(trial, self._objective(trial))
        except optuna.TrialPruned:
            return self._tell(trial, state=TrialState.PRUNED)
        except Exception as error:  # noqa: BLE001 - stored with the trial, and the study goes on
            return self._fail(trial, error)
        except KeyboardInterrupt:
            interrupts.pressed = True
            _optuna.put_back(self._study, trial.number)
            return None
        except BaseException:
            _optuna.put_back(self._study, trial.number)
            raise
        return self._tell(trial, value)

    def _tell(
        self, trial: Trial, value: Any = None, state: TrialState | None = None
    ) -> FrozenTrial:
        stopped_before = _optuna.stop_requested(self._study)
        finished = self._study.tell(trial, value, state=state)
        if _optuna.stop_requested(self._study) and not stopped_before:
            # Grid and brute force call `study.stop` in `tell` once no point is left; without
            # this, a resumed study would try a point of theirs again.
            recipe = read_recipe(self._study)
            if recipe is not None:
                write_recipe(self._study, replace(recipe, exhausted=True))
        return finished

    def _fail(self, trial: Trial, error: Exception) -> FrozenTrial:
        trial.set_user_attr(ERROR_KEY, traceback.format_exception_only(error)[-1].strip())
        finished = self._tell(trial, state=TrialState.FAIL)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._max_failures:
            n = tally(self._study.get_trials(deepcopy=False))
            if n.complete + n.pruned == 0:
                raise TooManyFailures(
                    f"The first {n.failed} trials all failed (`max_failures` is "
                    f"{self._max_failures}); the last one with: {error!r}"
                ) from error
        return finished


def _finite(trial: Trial, value: Any) -> Any:
    """Return the objective's value, or give the trial up if it is NaN or infinite."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(values) != len(trial.study.directions) or None in values:
        raise InvalidType(
            f"The objective must return {len(trial.study.directions)} number(s), got {value!r}."
        )
    for number in values:
        if not math.isfinite(number):
            give_up(trial, f"diverged: the objective returned {number}")
    return value


class _Interrupts:
    """Ctrl-C stops an objective at once, but never a write to the storage half-way."""

    def __init__(self) -> None:
        self.pressed = False
        self._allowed = False
        self._installed = False

    def __enter__(self) -> Self:
        # Only the main thread may set handlers, and a handler of the user's own is left alone.
        self._installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let Ctrl-C raise inside."""
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        second = self.pressed
        self.pressed = True
        if self._allowed or second:
            raise KeyboardInterrupt


def _how_to_go_on(study: Study, n_trials: int | None) -> str:
    n = tally(study.get_trials(deepcopy=False))
    of = "" if n_trials is None else f" of {n_trials}"
    waiting = f", {n.waiting} put back" if n.waiting else ""
    return (
        f"study {study.study_name!r} stopped after {n.finished}{of} trials{waiting}; "
        "start it again to go on"
    )
