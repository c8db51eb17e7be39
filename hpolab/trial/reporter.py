"""Reporter: everything that happens between two epochs of a trial, in one place."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, cast

import optuna

from hpolab import _optuna
from hpolab.errors import (
    Diverged,
    InvalidArgument,
    InvalidType,
    LeaseLost,
    check_seconds,
)
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.storage.bulk import Report, write_reports
from hpolab.studies.digests import best_so_far
from hpolab.studies.history import history_of
from hpolab.studies.quick_pruners import quick
from hpolab.studies.recipe import training_seed
from hpolab.studies.trials import METRICS_KEY, REASON_KEY, ROWS_KEY, as_direction, best_of
from hpolab.trial.checkpoint import Checkpoint, TrialCheckpoints, default_store
from hpolab.trial.lease import is_held_by_run, lease_lost, note_error, take_lease
from hpolab.trial.own_loop import track_alone
from hpolab.trial.packing import (
    State,
    check_state,
    load_into,
    pack,
    refuse_unloadable,
    set_random_states,
    unpack,
)
from hpolab.trial.soft_stop import StopsBehindReport, is_asked_to_stop, note_saved
from hpolab.trial.tracking import tracking_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.trial.checkpoint import ArtifactStore
    from hpolab.trial.tracker import Tracker
    from hpolab.trial.tracking import TrialTracking

__all__ = [
    "REASON_KEY",
    "Reporter",
    "ReporterOptions",
    "ReporterSettings",
    "StepReport",
    "give_up",
    "is_out_of_memory",
    "options_of_reporter",
    "report_together",
    "training_seed",
]

CHECKPOINT_SECONDS = 10.0
"""Seconds between two checkpoints where nobody has asked for more or fewer."""

_DEAD = "hpolab:dead"  # the name of the constraint

_logger = get_logger(__name__)


class ReporterOptions(TypedDict, total=False):
    """The fields of `ReporterSettings` as keywords: every objective and `Reporter` take them."""

    patience: int | None
    min_delta: float
    timeout_seconds: float | None
    checkpoints: ArtifactStore | None
    checkpoint_every: int | None
    checkpoint_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class ReporterSettings:
    """When a training stops early, and how it is checkpointed.

    Objectives and `Reporter` take these as plain keywords and hold them as this one value.

    Attributes:
        patience: Reports without improvement after which a training stops; None never stops.
        min_delta: What a report must gain on the best one to count as an improvement, 0 or above.
        timeout_seconds: Time limit of one training, checked at each report; None for none. The
            training ends with the best that it has.
        checkpoints: Where checkpoints of running trials are kept: any artifact store of
            ``optuna.artifacts``. By default a folder beside the storage's file, or in the working
            folder for a server.
        checkpoint_every: Reports between two checkpoints, 1 or above: ``checkpoint_every=1`` keeps
            each. None: as ``checkpoint_seconds`` says.
        checkpoint_seconds: Seconds between two checkpoints, at least. None: 10, so that what a
            checkpoint costs stays small beside what it saves; 0 where ``checkpoint_every`` is
            given.

    Raises:
        InvalidArgument: If a field is out of its range.
        InvalidType: If a field is no number where it must be one.

    Example:
        >>> ReporterSettings(patience=0)
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `patience` must be 1 or above, or None, got 0.
    """

    patience: int | None = None
    min_delta: float = 0.0
    timeout_seconds: float | None = None
    checkpoints: ArtifactStore | None = None
    checkpoint_every: int | None = None
    checkpoint_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.checkpoint_every is not None:
            _check_number("checkpoint_every", self.checkpoint_every, Integral)
            if self.checkpoint_every < 1:
                raise InvalidArgument(
                    f"`checkpoint_every` must be 1 or above, or None, got {self.checkpoint_every}."
                )
        if self.checkpoint_seconds is not None:
            check_seconds("checkpoint_seconds", self.checkpoint_seconds, low=0)
        if self.patience is not None:
            _check_number("patience", self.patience, Integral)
            if self.patience < 1:
                raise InvalidArgument(
                    f"`patience` must be 1 or above, or None, got {self.patience}."
                )
        _check_number("min_delta", self.min_delta, Real)
        if not self.min_delta >= 0:  # nor NaN
            raise InvalidArgument(f"`min_delta` must be 0 or above, got {self.min_delta}.")
        check_seconds("timeout_seconds", self.timeout_seconds)


def options_of_reporter(options: Mapping[str, Any]) -> ReporterOptions:
    """Return those of an objective's options that are settings of the reporter.

    Example:
        >>> options_of_reporter({"patience": 3, "eval_batch_size": 64})
        {'patience': 3}
    """
    known = ReporterOptions.__optional_keys__
    return cast("ReporterOptions", {key: options[key] for key in options if key in known})


class Reporter:
    """Reports a training's progress to its trial, and says when to stop.

    It prunes, stops early and at the time limit, and turns a training that diverges or runs out
    of memory into a pruned trial with a violated constraint, so that samplers learn to keep away
    from there: a failed trial is invisible to them and its region is proposed again.

    Use it as a context manager: running out of memory then prunes the trial too, and its
    checkpoint is removed when the training ends.

    A training that gives its ``state`` with each report survives its process: the next worker that
    gets the trial loads the last checkpoint by `restore`, and `steps` goes on behind it.

    Args:
        trial: The running trial, of any Optuna study with one objective value. None watches
            without a trial: nothing is stored or pruned, and a divergence raises `Diverged`.
        direction: "minimize" or "maximize"; needed without a trial, whose study says it otherwise.
        seed: The training's seed; by default derived from the study's seed and the trial's number.
        deadline: The moment of ``time.monotonic()`` at which training shall end; None for none.
        replay: Step -> value: the reports of a finished training that is repeated here. It ends
            after the last of them, whatever patience and the time limit say, and a value that
            differs from its own is logged.
        trackers: Where to track the trial beside, in a loop of one's own: ``[MLflowTracker()]``.
            The trial's runs end when it is told. (Under `run`, which takes trackers itself, these
            come in addition.)
        **settings: ``patience``, ``min_delta``, ``timeout_seconds``, ``checkpoints``,
            ``checkpoint_every`` and ``checkpoint_seconds``; see `ReporterSettings`.

    Attributes:
        trial: The trial; None outside any.
        settings: When it stops and how it is checkpointed.
        direction: "minimize" or "maximize".
        seed: Seeds everything random in this training.
        best_value: The last value that improved on those before it by more than ``min_delta``,
            None before the first report.
        best_step: Its step.
        improved: Whether the last report was such a value: the moment to keep the weights.
        should_stop: Whether training shall end now: patience or time has run out, or the deadline
            has come.

    Raises:
        InvalidArgument: If an argument is out of its range.

    Example:
        >>> def objective(trial):
        ...     lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        ...     weight, reporter = 5.0, Reporter(trial, patience=3)
        ...     for epoch in reporter.steps(20):
        ...         weight -= lr * 2 * weight
        ...         reporter.report(weight**2, epoch)
        ...     return reporter.best_value
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=3)
        >>> len(study.trials)
        3

        With `restore` and ``state`` a trial whose process dies goes on behind its last checkpoint:

        >>> import torch
        >>> from hpolab import make_study, run
        >>> inputs = torch.linspace(-1, 1, 64)[:, None]
        >>> def objective(trial):
        ...     lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        ...     with Reporter(trial, patience=3) as reporter:
        ...         torch.manual_seed(reporter.seed)
        ...         model = torch.nn.Linear(1, 1)
        ...         optimizer = torch.optim.Adam(model.parameters(), lr)
        ...         reporter.restore(model=model, optimizer=optimizer)
        ...         for epoch in reporter.steps(20):
        ...             optimizer.zero_grad()
        ...             loss = (model(inputs) - 2 * inputs).square().mean()
        ...             loss.backward()
        ...             optimizer.step()
        ...             state = {"model": model, "optimizer": optimizer}
        ...             reporter.report(loss.item(), epoch, state=state)
        ...         return reporter.best_value
        >>> study = make_study("line", storage="memory://", seed=0)
        >>> run(study, objective, n_trials=3)
        >>> len(study.trials)
        3
    """

    @checks_keywords(ReporterOptions)
    def __init__(
        self,
        trial: Trial | None,
        *,
        direction: str | None = None,
        seed: int | None = None,
        deadline: float | None = None,
        replay: Mapping[int, float] | None = None,
        trackers: Sequence[Tracker] | None = (),
        **settings: Unpack[ReporterOptions],
    ) -> None:
        self.settings = ReporterSettings(**settings)
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.improved = False
        self.should_stop = False
        self.trial = trial
        self._deadline = math.inf if deadline is None else deadline
        self._replay = dict(replay or {})
        self._differs = False
        self._started = time.monotonic()
        self._reports: dict[int, float] = {}
        self._without_improvement = 0
        self._checkpointed = self._started
        self._checkpoints: TrialCheckpoints | None = None
        self._stored: dict[int, float] = {}
        self._tracking: TrialTracking | None = None
        self._state_is_checked = False
        self._random: Mapping[str, Any] | None = None
        if trial is None:
            self.direction = as_direction("direction", direction)
            self.seed = 0 if seed is None else seed
        else:
            if len(trial.study.directions) > 1:
                raise InvalidArgument(
                    "`trial` must belong to a study with one objective value, got one with "
                    f"{len(trial.study.directions)}: Optuna cannot prune those."
                )
            self.direction = trial.study.direction.name.lower()
            self.seed = trial_seed(trial) if seed is None else seed
            self._stored = _optuna.stored_reports(trial)
            store = self.settings.checkpoints or default_store(trial.study)
            if store is not None:
                self._checkpoints = TrialCheckpoints(store, trial.study.study_name, trial.number)
            take_lease(trial)
            self._tracking = track_alone(trial, trackers) if trackers else tracking_of(trial)

    @classmethod
    def repeating(
        cls,
        study: Study,
        trial: int | FrozenTrial | None = None,
        **settings: Unpack[ReporterOptions],
    ) -> Self:
        """Return a reporter with which a loop trains a finished trial again, for its model.

        It has the trial's own seed and stops where the trial has stopped, so that a loop that is
        seeded from ``reporter.seed`` ends with the trial's own model. A training that differs from
        the trial is logged.

        Args:
            study: The study.
            trial: A finished trial of it, or its number; None for the best.
            **settings: As for `Reporter`; they need not be given again.

        Raises:
            InvalidArgument: If there is no such trial, or it is not finished.

        Example:
            >>> def train(lr, reporter):
            ...     weight = 5.0
            ...     for step in reporter.steps(20):
            ...         weight -= lr * 2 * weight
            ...         reporter.report(weight**2, step)
            ...     return weight
            >>> def objective(trial):
            ...     lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
            ...     return train(lr, Reporter(trial)) ** 2
            >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            >>> study.optimize(objective, n_trials=3)
            >>> model = train(study.best_params["lr"], Reporter.repeating(study))
            >>> model**2 == study.best_value
            True
        """
        found = _finished_trial(study, trial)
        return cls(
            None,
            direction=study.direction.name.lower(),
            seed=training_seed(study, found.number),
            replay=found.intermediate_values,
            **settings,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Ctrl-C and a worker's end leave the checkpoint to the next worker.
        if self._checkpoints is not None and (error is None or isinstance(error, Exception)):
            self._checkpoints.remove()
        if self.trial is not None and isinstance(error, Exception):
            note_error(self.trial)
            if is_out_of_memory(error):
                give_up(self.trial, f"out of memory: {error}", error)

    def restore(self, **objects: Any) -> Any:
        """Take up the training where its last checkpoint left it.

        With a dict, the random states of Python, NumPy and torch are those of the checkpoint again,
        so that training goes on exactly as it would have. ``restore()`` without objects loads
        nothing into any: do that with what it returns.

        Args:
            **objects: What to load the ``state`` of the checkpoint into, under the names that it
                has in that dict: models, optimizers, schedules and others with ``load_state_dict``,
                and generators of random numbers.

        Returns:
            The ``state`` of the last checkpoint: bytes, or a dict, in which each object is its
            ``state_dict()`` and tensors are on the CPU. None if there is no checkpoint, or it is
            damaged, or has no such objects, which is logged, and the training starts over.

        Raises:
            InvalidType: If an object cannot be loaded into, such as a ``state_dict()``.
        """
        refuse_unloadable(objects)
        checkpoint = None if self._checkpoints is None else self._checkpoints.load()
        if checkpoint is None or self.trial is None:
            self._say_starts_over()
            return None
        try:
            state, random_states = unpack(checkpoint.form, checkpoint.state)
        except ValueError as error:
            _logger.warning(f"The checkpoint cannot be read: {error}. The trial starts over.")
            return None
        missing = [name for name in objects if random_states is None or name not in state]
        if missing:
            _logger.warning(
                f"The checkpoint has no {', '.join(map(repr, missing))}, as if another program had "
                "written it. The trial starts over."
            )
            return None
        load_into(objects, state)
        self._go_on(checkpoint, self.trial)
        self._random = random_states
        self._set_random_states()
        _logger.info(
            f"Trial {self.trial.number} of study {self.trial.study.study_name!r} resumes from its "
            f"checkpoint, behind step {checkpoint.step}."
        )
        return state

    def _say_starts_over(self) -> None:
        """Say that reports are there but no checkpoint, so that steps are trained again."""
        if self.trial is not None and self._stored:
            _logger.info(
                f"Trial {self.trial.number} of study {self.trial.study.study_name!r} starts over: "
                f"it was trained to step {max(self._stored)}, and has no checkpoint."
            )

    def _go_on(self, checkpoint: Checkpoint, trial: Trial) -> None:
        """Count on where a checkpoint has left off."""
        self._reports = dict(checkpoint.reports)
        self.best_value = checkpoint.progress["best_value"]
        self.best_step = checkpoint.progress["best_step"]
        self.improved = checkpoint.step == self.best_step
        self._without_improvement = checkpoint.progress["without_improvement"]
        self._started -= checkpoint.progress["elapsed_seconds"]
        self._decide_to_stop()
        for step in self._reports.keys() - self._stored.keys():
            trial.report(self._reports[step], step)

    def _set_random_states(self) -> None:
        if self._random is not None:
            set_random_states(self._random)

    @property
    def next_step(self) -> int:
        """The step behind the last one reported."""
        return max(self._reports, default=-1) + 1

    @checks_keywords()
    def steps(self, n_steps: int) -> Iterator[int]:
        """Return the steps to train, up to ``n_steps - 1``, until training shall stop.

        The first is 0, or the one behind the checkpoint that `restore` has found.

        Args:
            n_steps: Steps of a full training, 1 or above.

        Raises:
            InvalidArgument: If ``n_steps`` is below 1.
        """
        if n_steps < 1:
            raise InvalidArgument(f"`n_steps` must be 1 or above, got {n_steps}.")
        return self._steps(n_steps)

    def _steps(self, n_steps: int) -> Iterator[int]:
        # Again: what came since `restore`, such as building a model, has drawn from them.
        self._set_random_states()
        self._random = None
        for step in range(self.next_step, n_steps):
            if self.should_stop:
                return
            yield step

    @checks_keywords()
    def report(self, value: float, step: int, *, state: State | None = None) -> None:
        """Report the training's value at a step, once a step.

        Args:
            value: The metric that steers the trial, in the study's direction.
            step: The epoch, round or batch it belongs to, 0 or above.
            state: All that training needs to go on behind this step exactly as it would have, for
                `restore`: a dict of the model, the optimizer, the schedule and whatever else has
                a ``state_dict``, of state dicts, arrays and plain values; or bytes; or a function
                that returns one of these. It is packed when a checkpoint is due, and once at the
                first report, to see that it can be. With it, steps must be reported in order.

        Raises:
            optuna.TrialPruned: If the pruner gives the trial up, or ``value`` is not finite.
            Diverged: If ``value`` is not finite and there is no trial.
            LeaseLost: Under `run`, if another worker has taken the trial in the meantime.
            StopsBehindReport: In a worker that is asked to stop; its trial is requeued.
            InvalidArgument: If ``step`` is below 0 or was reported before.
            InvalidType: If ``value`` is not a number, ``step`` not an integer, or ``state`` cannot
                be kept.
        """
        self._check_state(state)
        stops = is_asked_to_stop() and self.trial is not None and is_held_by_run(self.trial)
        value, step = self._note(value, step)
        if self.trial is not None:
            self._refuse_if_lost()
            if step in self._stored:
                _optuna.report_again(self.trial, value, step)  # `Trial.report` would ignore it
            else:
                self.trial.report(value, step)
            self._track(value, step)
            self._prune(value, step)
        self._checkpoint(step, state, is_last=stops)
        if stops:
            raise StopsBehindReport(f"stopped behind step {step}")

    def _check_state(self, state: State | None) -> None:
        """Refuse at the first report what could not be kept when a checkpoint is due."""
        if state is not None and not self._state_is_checked and self.trial is not None:
            check_state(state)
            self._state_is_checked = True

    def _note(self, value: float, step: int) -> tuple[float, int]:
        value, step = _as_float(value), _as_step(step)
        if step in self._reports:
            raise InvalidArgument(f"`step` must be reported once, got step {step} again.")
        if not math.isfinite(value):
            self.diverged(value, f"at step {step}")
        self._reports[step] = value
        self._compare(value, step)
        self._watch(value, step)
        return value, step

    def _compare(self, value: float, step: int) -> None:
        """Log, once, that a training does not repeat the one that it shall."""
        expected = self._replay.get(step)
        if expected is None or self._differs:
            return
        # A fused trial, or one on a GPU, is repeated within rounding alone.
        if not math.isclose(value, expected, rel_tol=1e-3, abs_tol=1e-6):
            _logger.warning(
                f"The training differs from the trial that it repeats: {value:.6g} at step {step}, "
                f"where the trial had {expected:.6g}. Versions, device, data or settings are not "
                "those of the trial, or something in it is not seeded."
            )
            self._differs = True

    def _track(self, value: float, step: int) -> None:
        if self.trial is not None and self._tracking is not None:
            self._tracking.step(step, value, params=self.trial.params, reports=self._reports)

    def _refuse_if_lost(self) -> None:
        if self.trial is not None and lease_lost(self.trial):
            raise LeaseLost(f"another worker has taken trial {self.trial.number}")

    def _prune(self, value: float, step: int, seen: Sequence[FrozenTrial] | None = None) -> None:
        # Where the trial's earlier life has gone beyond this step, it was not pruned here.
        if (
            self.trial is not None
            and step >= max(self._stored, default=step)
            and _optuna.should_prune(self.trial, step, seen, pruner=quick(self.trial.study.pruner))
        ):
            raise optuna.TrialPruned(f"pruned at step {step} with value {value}")

    def _checkpoint(self, step: int, state: State | None, *, is_last: bool = False) -> None:
        if state is None or self._checkpoints is None:
            return
        if is_last or self._checkpoint_is_due():
            form, packed = pack(state)
            self._checkpoints.save(
                Checkpoint(
                    step=step,
                    reports=self._reports,
                    progress=self._progress(),
                    state=packed,
                    form=form,
                )
            )
            self._checkpointed = time.monotonic()

    def record(self, **metrics: float) -> None:
        """Store metrics beside the trial's value, under its user attribute `hpolab:metrics`.

        Args:
            **metrics: Metric name -> value.
        """
        if self.trial is not None:
            self.trial.set_user_attr(METRICS_KEY, {key: float(v) for key, v in metrics.items()})

    def record_rows(self, value: float, rows: str) -> None:
        """Store what rows of the data contribute to the trial's value, if it is the best so far.

        A report compares the best trial with others row by row; those of all trials would fill
        the storage.

        Args:
            value: The trial's value.
            rows: The scores by row, packed.
        """
        if self.trial is None:
            return
        best = best_so_far(self.trial.study)
        sign = 1 if self.direction == "maximize" else -1
        if best is None or best.value is None or sign * value > sign * best.value:
            self.trial.set_user_attr(ROWS_KEY, rows)

    def diverged(self, value: float, where: str, *, cause: BaseException | None = None) -> NoReturn:
        """End a training that reached NaN or infinity.

        Args:
            value: What it reached.
            where: When, for the stored reason: "at step 3".
            cause: The exception that told so, if one did.

        Raises:
            optuna.TrialPruned: Always, if there is a trial.
            Diverged: Always, if there is none.
        """
        reason = f"diverged: {value} {where}"
        if self.trial is None:
            raise Diverged(reason) from cause
        give_up(self.trial, reason, cause)

    def _watch(self, value: float, step: int) -> None:
        gain = math.inf
        if self.best_value is not None:
            gain = value - self.best_value
            gain = gain if self.direction == "maximize" else -gain
        self.improved = gain > self.settings.min_delta
        if self.improved:
            self.best_value, self.best_step, self._without_improvement = value, step, 0
        else:
            self._without_improvement += 1
        self._decide_to_stop()

    def _decide_to_stop(self) -> None:
        if self._replay:
            self.should_stop = max(self._replay) in self._reports
            return
        patience, limit = self.settings.patience, self.settings.timeout_seconds
        out_of_patience = patience is not None and self._without_improvement >= patience
        out_of_time = limit is not None and time.monotonic() - self._started >= limit
        too_late = time.monotonic() >= self._deadline
        self.should_stop = out_of_patience or out_of_time or too_late

    def _checkpoint_is_due(self) -> bool:
        every, seconds = self.settings.checkpoint_every, self.settings.checkpoint_seconds
        if seconds is None:
            seconds = CHECKPOINT_SECONDS if every is None else 0.0
        elapsed = time.monotonic() - self._checkpointed
        return len(self._reports) % (every or 1) == 0 and elapsed >= seconds

    def _progress(self) -> dict[str, float | int | None]:
        return {
            "best_value": self.best_value,
            "best_step": self.best_step,
            "without_improvement": self._without_improvement,
            "elapsed_seconds": time.monotonic() - self._started,
        }


@dataclass(frozen=True)
class StepReport:
    """What one of several trainings reports at once; see `Reporter.report`."""

    reporter: Reporter
    value: float
    step: int
    state: State


def report_together(reports: Sequence[StepReport]) -> list[Exception | None]:
    """Report a step of several trials of one study, which the storage gets in one write.

    Each is pruned, stopped and checkpointed as by `Reporter.report`; the pruner sees all of these
    reports when it decides on any.

    Args:
        reports: One a trial.

    Returns:
        For each what `Reporter.report` would have raised, or None.
    """
    ended: list[Exception | None] = [None] * len(reports)

    def each_alive(act: Callable[[StepReport], None]) -> None:
        for place, report in enumerate(reports):
            if ended[place] is None:
                try:
                    act(report)
                except Exception as error:
                    # One whose checkpoint does not fit in memory ends alone, too.
                    its_own = isinstance(error, optuna.TrialPruned | LeaseLost)
                    if not its_own and not is_out_of_memory(error):
                        raise
                    ended[place] = error

    def note(report: StepReport) -> None:
        report.reporter._note(report.value, report.step)
        report.reporter._refuse_if_lost()

    is_last = is_asked_to_stop()
    each_alive(note)
    trials = [r.reporter.trial for r, error in zip(reports, ended, strict=True) if error is None]
    alive = [r for r, error in zip(reports, ended, strict=True) if error is None]
    written = [
        (trial, report.value, report.step)
        for trial, report in zip(trials, alive, strict=True)
        if trial is not None
    ]
    _write(written)
    each_alive(lambda report: report.reporter._track(report.value, report.step))
    if written:
        seen = history_of(written[0][0].study).trials
        each_alive(lambda report: report.reporter._prune(report.value, report.step, seen))
    each_alive(lambda r: r.reporter._checkpoint(r.step, r.state, is_last=is_last))
    if is_last:
        note_saved()
    return ended


def _write(reports: Sequence[tuple[Trial, float, int]]) -> None:
    """Store reports (trial, value, step) of one study's running trials in one write."""
    if not reports:
        return
    study = reports[0][0].study
    rows = [Report(_optuna.note_report(trial, v, step), step, v) for trial, v, step in reports]
    if not _optuna.report_together(study, rows):
        write_reports(_optuna.place(study)[0], rows)


def trial_seed(trial: Trial) -> int:
    """Return the seed of a trial's training, from its study's seed and its number."""
    return training_seed(trial.study, trial.number)


def _finished_trial(study: Study, trial: int | FrozenTrial | None) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if trial is None:
        best = best_of(trials, study.direction.name.lower())
        if best is None:
            raise InvalidArgument(
                f"`study` must have a complete trial, got {study.study_name!r} without one."
            )
        return best
    number = getattr(trial, "number", trial)
    found = [each for each in trials if each.number == number and each.state.is_finished()]
    if not found:
        raise InvalidArgument(
            f"`trial` must be a finished trial of study {study.study_name!r}, got {number!r}."
        )
    return found[0]


def give_up(trial: Trial, reason: str, cause: BaseException | None = None) -> NoReturn:
    """Prune a trial that can have no value, marked so that samplers avoid its region.

    Args:
        trial: The running trial.
        reason: Why; stored as its user attribute `hpolab:reason`.
        cause: The exception behind it.

    Raises:
        optuna.TrialPruned: Always.
    """
    trial.set_user_attr(REASON_KEY, reason)
    if _DEAD not in trial.constraints:
        # Optuna's samplers rank trials with a constraint above zero behind all others.
        trial.set_constraint(_DEAD, 1.0)
    raise optuna.TrialPruned(reason) from cause


def _check_number(name: str, value: Any, kind: type) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        what = "an int" if kind is Integral else "a number"
        raise InvalidType(f"`{name}` must be {what}, got {type(value).__name__}.")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidType(f"`value` must be a number, got {type(value).__name__}.") from None


def _as_step(step: int) -> int:
    if isinstance(step, bool) or not hasattr(step, "__index__"):
        raise InvalidType(f"`step` must be an int, got {type(step).__name__}.")
    if step < 0:
        raise InvalidArgument(f"`step` must be 0 or above, got {step}.")
    return int(step)


# What libraries say of it in errors without a type of their own: torch's CPU allocator on Linux and
# on Windows; cuBLAS, cuDNN, cuFFT, cuSOLVER and cuSPARSE; MPS, HIP, XPU and NCCL; C++'s allocator,
# which LightGBM and XGBoost pass on; JAX and TensorFlow.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|_ALLOC_FAILED|_INSUFFICIENT_RESOURCES"
    r"|bad_alloc|bad allocation|failed to allocate|RESOURCE_EXHAUSTED",
    re.IGNORECASE,
)
_OF_LIBRARIES = ("LightGBMError", "XGBoostError", "CatBoostError")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory has run out, the device's or the machine's.

    An error that was raised from such a one says so, too.
    """
    found: BaseException | None = error
    while found is not None:
        if _says_out_of_memory(found):
            return True
        found = found.__cause__
    return False


def _says_out_of_memory(error: BaseException) -> bool:
    names = {each.__name__ for each in type(error).__mro__}
    if isinstance(error, MemoryError) or names & {"OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    of_library = isinstance(error, RuntimeError) or not names.isdisjoint(_OF_LIBRARIES)
    return of_library and _OUT_OF_MEMORY.search(str(error)) is not None
