"""A worker: claims trials one after another, runs them, and stores how each ended."""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import (
    InvalidArgument,
    InvalidType,
    LeaseLost,
    StorageUnavailable,
    TooManyFailures,
    error_text,
)
from hpolab.objectives.base import Objective
from hpolab.objectives.crew import OneByOne
from hpolab.running.described import device_of, job_id, name_of
from hpolab.running.outcome import (
    say_failure,
    say_requeued,
    say_what_was_ignored,
    say_whom_it_waits_for,
)
from hpolab.running.tracked import start_tracking
from hpolab.running.trial_lines import TrialLines
from hpolab.studies.history import history_of
from hpolab.studies.learning import was_of_no_use
from hpolab.studies.pruner import let_reports_wait
from hpolab.studies.recipe import read_recipe, write_recipe
from hpolab.studies.sampler import ManualSampler
from hpolab.studies.trust import LEARNED_KEY
from hpolab.trial.lease import (
    ERROR_KEY,
    Lease,
    awaited,
    claiming,
    hold_lease,
    is_spent,
    is_still_mine,
    release_lease,
    requeue_dead_trials,
    requeue_mine,
)
from hpolab.trial.reporter import give_up
from hpolab.trial.soft_stop import StopsBehindReport, is_saved
from hpolab.trial.tracking import end_as_stored, end_finished, end_requeued, end_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.objectives.crew import Crew, Outcome
    from hpolab.running.interrupts import Interrupts
    from hpolab.running.plan import ObjectiveFunction, Plan
    from hpolab.studies.history import History
    from hpolab.trial.tracking import StudyTracking

__all__ = ["Worker", "work"]

# How often a worker without a trial looks for a slot, or a requeued trial: at first, and when
# it has waited for long.
_POLL_SECONDS = 0.05
_MAX_POLL_SECONDS = 1.0

# How often it looks for dead workers at most: where hundreds work, that would be most of the time
# of a short trial.
_LOOK_SECONDS = 0.25

# How long it waits for the worker of the last trial to open the next slot: a few writes' time.
_PATIENCE_SECONDS = 1.0

# How long it waits for others before it says for whom.
SILENT_SECONDS = 10.0

# Samplers that call `study.stop` once no point is left, as recipes name them.
_WITH_AN_END = frozenset(["grid", "brute_force", "GridSampler", "BruteForceSampler"])


def work(
    study: Study,
    objective: ObjectiveFunction,
    plan: Plan,
    interrupts: Interrupts,
    after_trial: Callable[[], None],
) -> None:
    """Run trials until the budget is spent, also by others, or something ends the study.

    Args:
        study: The study.
        objective: A function of a trial.
        plan: The budget and the rules.
        interrupts: Tells of Ctrl-C and its like, entered by the caller.
        after_trial: Called after each trial.
    """
    deadline = time.monotonic() + plan.timeout_seconds
    plan = replace(plan, objective=name_of(objective), device=device_of(objective))
    crew: Crew | None = None
    with _optuna.optimize_loop(study):
        try:
            # A crew may measure what is fastest first, and nobody wants to wait for that.
            with interrupts.allowed():
                tracking = start_tracking(study, objective, plan)
                crew = _crew(study, objective, plan, deadline)
            _work(crew, Worker(study, plan, tracking), deadline, interrupts, after_trial)
        except KeyboardInterrupt:
            interrupts.pressed = interrupts.pressed or signal.SIGINT
        finally:
            # After Ctrl-C or an error; otherwise it has no trials.
            if crew is not None:
                crew.requeue()


def _crew(study: Study, objective: ObjectiveFunction, plan: Plan, deadline: float) -> Crew:
    if not isinstance(objective, Objective):
        return OneByOne(objective)
    crew = None
    if plan.fuse is not None:
        n_left = max(0, plan.n_trials - history_of(study).tally.finished)
        crew = objective.crew(study, fuse=plan.fuse, n_trials=n_left, deadline=deadline)
    return crew or OneByOne(partial(objective, deadline=deadline))


def _work(
    crew: Crew,
    worker: Worker,
    deadline: float,
    interrupts: Interrupts,
    after_trial: Callable[[], None],
) -> None:
    while interrupts.pressed is None or _is_to_save(crew, interrupts):
        while crew.has_room and not worker.is_to_stop(interrupts, deadline):
            trial = worker.claim()
            if trial is None:
                break
            with worker.requeuing([trial]):
                worker.track(trial, interrupts)
                outcome = crew.begin(trial)
            if outcome is not None:
                worker.run_trial(trial, outcome, interrupts)
                after_trial()
        if crew.trials:
            with interrupts.allowed():
                ended = crew.advance()
            if ended:
                worker.run_trials(ended, interrupts)
                after_trial()
        elif worker.is_to_stop(interrupts, deadline) or worker.is_done():
            return
        else:
            # Others run what is left; a worker of theirs may die yet.
            worker.wait(interrupts)
            after_trial()


def _is_to_save(crew: Crew, interrupts: Interrupts) -> bool:
    """Tell whether a crew that is asked to stop has to train to its next checkpoint before."""
    return interrupts.is_soft and bool(crew.trials) and not is_saved()


@contextmanager
def _reports_allowed_again(trial: Trial) -> Iterator[None]:
    """Let a requeued trial report steps anew, as a pruning callback without checkpoints does.

    Optuna keeps the first report of a step and warns of each other; where warnings are errors, the
    trial would fail.
    """
    if not _optuna.stored_reports(trial):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The reported value is ignored because this `step=")
        yield


# The trial is another's, or its storage cannot be reached: its lease lets it go on later.
_NOT_THE_TRIALS_FAULT = (
    LeaseLost,
    StorageUnavailable,
    optuna.exceptions.StorageInternalError,
    optuna.exceptions.UpdateFinishedTrialError,
)


class Worker:
    """Claims a study's trials for this process, and stores how they end.

    Args:
        study: The study.
        plan: The budget and the rules.
        tracking: Tells trackers of the trials; None without any.
    """

    def __init__(self, study: Study, plan: Plan, tracking: StudyTracking | None = None) -> None:
        self._study = study
        self._plan = plan
        self._tracking = tracking
        self._failures_in_a_row = 0
        self._idle_since: float | None = None
        self._has_said_so = plan.shared  # the process that started them sees them all
        self._only_enqueued = plan.only_enqueued
        recipe = read_recipe(study)
        self._has_an_end = recipe is not None and recipe.sampler.name in _WITH_AN_END
        self._blocked_by: tuple[int | None, float] = (None, 0.0)
        self._looked_at = -math.inf
        self._lines = TrialLines(study) if plan.trial_lines else None

    def is_to_stop(self, interrupts: Interrupts, deadline: float) -> bool:
        """Tell whether this worker must not begin another trial."""
        return interrupts.pressed is not None or self._is_stopped() or time.monotonic() >= deadline

    def _is_stopped(self) -> bool:
        """Tell whether ``study.stop`` was called, here or in another worker of the same `run`."""
        file = self._plan.stop_file
        if _optuna.stop_requested(self._study):
            if file is not None:
                file.touch()
            return True
        return file is not None and file.exists()

    def is_done(self) -> bool:
        """Tell whether the budget is spent, and nobody runs or waits for a trial of it."""
        return is_spent(
            self._study,
            self._plan.n_trials,
            asked=self._plan.asked,
            only_enqueued=self._only_enqueued,
        )

    def claim(self) -> Trial | None:
        """Start the next trial, a dead worker's before a new one; None if there is none now."""
        lease = Lease.mine(
            self._plan.grace_seconds,
            objective=self._plan.objective,
            device=self._plan.device,
            job=job_id(),
        )
        self._look_for_the_end()
        with claiming:
            known = history_of(self._study)
            if self._is_to_look_for_dead(known):
                self._looked_at = time.monotonic()
                if requeue_dead_trials(self._study, self._plan.max_retries, known):
                    known = history_of(self._study)
            trial = _optuna.claim_trial(
                self._study,
                known.trials,
                known.unfinished,
                self._plan.n_trials,
                mark=lease.as_mark(),
                is_mine=_is_mine,
                first_params=self._plan.first_params,
                window=self._plan.window,
                shared=self._plan.shared,
                may_open=self._idle_seconds() >= _PATIENCE_SECONDS,
                only_enqueued=self._only_enqueued,
                is_given_up=partial(self._is_given_up, known),
            )
            if trial is not None:
                hold_lease(trial, lease)
        if trial is None:
            self._refuse_to_wait_for_nobody(known)
        self._idle_since = None if trial is not None else self._idle_since or time.monotonic()
        return trial

    def _is_given_up(self, known: History, slot: FrozenTrial) -> bool:
        """Tell whether a trial is one of a portfolio that proved to be of no use."""
        if LEARNED_KEY not in slot.user_attrs or self._only_enqueued:
            return False
        if isinstance(self._study.sampler, ManualSampler):
            return False  # it has no others
        window = self._plan.window
        seen = slot.number if window is None else max(0, slot.number - window + 1)
        return was_of_no_use(known.trials[:seen], self._study.direction)

    def _is_to_look_for_dead(self, known: History) -> bool:
        """Tell whether to look whose workers are dead; each takes a look at its process."""
        return bool(known.running) and time.monotonic() - self._looked_at >= _LOOK_SECONDS

    def _look_for_the_end(self) -> None:
        """Notice that another worker's trial was the last one that the sampler has."""
        if self._has_an_end and not self._only_enqueued:
            recipe = read_recipe(self._study)
            self._only_enqueued = recipe is not None and recipe.exhausted

    def _refuse_to_wait_for_nobody(self, known: History) -> None:
        """Refuse to wait, where the study must not depend on timing, for what nobody runs.

        Raises:
            InvalidArgument: If the trial that the next one waits for has been nobody's for as long
                as a worker may be silent.
        """
        blocking = self._blocking(known)
        number, since = self._blocked_by
        if blocking is None or blocking.number != number:
            self._blocked_by = (None if blocking is None else blocking.number, time.monotonic())
        elif time.monotonic() - since >= self._plan.grace_seconds:
            raise InvalidArgument(
                "`study` must have no trial that was asked for and is left running where "
                "`reproducible` is True, as those after it wait for its end, got trial "
                f"{number} of study {self._study.study_name!r}. If nobody works on it, end it: "
                f"`study.tell({number}, state=optuna.trial.TrialState.FAIL)`."
            )

    def _blocking(self, known: History) -> FrozenTrial | None:
        """Return the trial that keeps the next one from its start, if no worker runs it."""
        window = self._plan.window
        first = next(iter(known.unfinished), None)
        if window is None or first is None or first.state != TrialState.RUNNING:
            return None
        waiting = (t.number for t in known.unfinished if t.state == TrialState.WAITING)
        following = next(waiting, len(known.trials))
        is_due = following < self._plan.n_trials and following - window >= first.number
        return first if is_due and not awaited([first], self._plan.asked) else None

    def track(self, trial: Trial, interrupts: Interrupts) -> None:
        """Start the trial's runs in the trackers, if there are any."""
        if self._tracking is not None:
            with interrupts.allowed():
                self._tracking.start_trial(trial)

    def wait(self, interrupts: Interrupts) -> None:
        """Wait for others: shortly at first, longer and longer; say for whom, once."""
        idle = self._idle_seconds()
        if idle >= SILENT_SECONDS and not self._has_said_so:
            say_whom_it_waits_for(self._study, self._plan.n_trials)
            self._has_said_so = True
        interrupts.sleep(min(max(_POLL_SECONDS, idle / 4), _MAX_POLL_SECONDS))

    def _idle_seconds(self) -> float:
        return 0.0 if self._idle_since is None else time.monotonic() - self._idle_since

    def run_trial(self, trial: Trial, outcome: Outcome, interrupts: Interrupts) -> None:
        """Run one trial, tell its outcome, unless another has taken it, and call the callbacks.

        Args:
            trial: The trial.
            outcome: Returns its value or raises what ended it, such as an objective.
            interrupts: Tells of Ctrl-C and its like, which requeue the trial.
        """
        try:
            finished = self._run_trial(trial, outcome, interrupts)
        except (LeaseLost, optuna.exceptions.UpdateFinishedTrialError):
            end_taken(trial)
            return
        except BaseException:
            end_as_stored(trial)
            raise
        finally:
            release_lease(trial)
        if finished is None:
            end_requeued(trial)
        else:
            end_finished(trial, finished)
            if self._lines is not None:
                self._lines.say(finished)
            for callback in self._plan.callbacks:
                callback(self._study, finished)

    def run_trials(self, ended: Sequence[tuple[Trial, Outcome]], interrupts: Interrupts) -> None:
        """Do what `run_trial` does for each trial; an error requeues those that are left."""
        left = [trial for trial, _ in ended]
        with self.requeuing(left):
            for trial, outcome in ended:
                left.remove(trial)
                self.run_trial(trial, outcome, interrupts)

    @contextmanager
    def requeuing(self, trials: Sequence[Trial]) -> Iterator[None]:
        """Requeue what is in ``trials`` by then if an error or Ctrl-C ends the block.

        The error may be kept, and with it these trials: they would count as running for as long.
        """
        try:
            yield
        except BaseException:
            for trial in trials:
                requeue_mine(self._study, trial)
                end_requeued(trial)
            raise

    def _run_trial(
        self, trial: Trial, outcome: Outcome, interrupts: Interrupts
    ) -> FrozenTrial | None:
        let_reports_wait(trial)
        try:
            with interrupts.allowed(), _reports_allowed_again(trial):
                value = _finite(trial, outcome(trial))
        except optuna.TrialPruned:
            return self._tell(trial, state=TrialState.PRUNED)
        except _NOT_THE_TRIALS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - stored with the trial, and the study goes on
            if not interrupts.is_soft:
                return self._fail(trial, error)
            # A notice reaches all processes of a job: those that the training has started are gone.
            say_requeued(self._study, trial.number, error)
        except KeyboardInterrupt:
            interrupts.pressed = interrupts.pressed or signal.SIGINT
        except StopsBehindReport:
            pass  # requeued below; what was asked for has ended the loop
        except BaseException:
            requeue_mine(self._study, trial)
            raise
        else:
            return self._tell(trial, value)
        # Not in the handler, where the traceback keeps alive what was interrupted: SQLite refuses a
        # write while a read of the same connection is still open that others have written behind.
        requeue_mine(self._study, trial)
        return None

    def _tell(
        self, trial: Trial, value: Any = None, state: TrialState | None = None
    ) -> FrozenTrial:
        if not is_still_mine(self._study, trial):
            raise LeaseLost(f"another worker has taken trial {trial.number}")
        # What calls `study.stop` in `tell` is a sampler without another point.
        is_stopped = _optuna.stop_requested(self._study)
        _optuna.request_stop(self._study, False)
        try:
            finished = self._study.tell(trial, value, state=state)
            if _optuna.stop_requested(self._study):
                self._note_the_end()
        finally:
            _optuna.request_stop(self._study, is_stopped)
        if finished.state != TrialState.FAIL:
            say_what_was_ignored(self._study, finished)
        return finished

    def _note_the_end(self) -> None:
        """Go on with enqueued trials alone; without a note, a resumed study would try a point."""
        self._only_enqueued = True
        recipe = read_recipe(self._study)
        if recipe is not None and not recipe.exhausted:
            write_recipe(self._study, replace(recipe, exhausted=True))

    def _fail(self, trial: Trial, error: Exception) -> FrozenTrial:
        trial.set_user_attr(ERROR_KEY, error_text(error))
        finished = self._tell(trial, state=TrialState.FAIL)
        say_failure(self._study, trial.number, error)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._plan.max_failures:
            n = history_of(self._study).tally
            if n.complete + n.pruned == 0:
                raise TooManyFailures(
                    f"The first {n.failed} trials all failed (`max_failures` is "
                    f"{self._plan.max_failures}); the last one with: {error_text(error)}"
                ) from error
        return finished


def _is_mine(trial: FrozenTrial) -> bool:
    lease = Lease.of(trial)
    return lease is None or lease.is_mine


def _finite(trial: Trial, value: Any) -> Any:
    """Return the objective's value, or give the trial up if it is NaN or infinite."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(values) != len(trial.study.directions) or any(number is None for number in values):
        raise InvalidType(
            f"The objective must return {len(trial.study.directions)} number(s), got {value!r}."
        )
    for number in values:
        if not math.isfinite(number):
            give_up(trial, f"diverged: the objective returned {number}")
    return value
