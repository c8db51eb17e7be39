"""The contract of a tracker: where people watch their studies beside the study's own storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StudyEnd", "TrackedStudy", "TrackedTrial", "Tracker", "TrialEnd", "TrialRun"]


@dataclass(frozen=True, kw_only=True)
class TrackedStudy:
    """A study as a tracker sees it.

    Attributes:
        name: The study's name.
        directions: "minimize" or "maximize", one for each objective value.
        metrics: The names of the objective values; one for each direction.
        seed: The study's seed; None for a study that hpolab did not make.
        run_id: What `Tracker.start_study` has returned for it in any process; None before the
            first time.
    """

    name: str
    directions: tuple[str, ...]
    metrics: tuple[str, ...]
    seed: int | None = None
    run_id: str | None = None

    @property
    def metric(self) -> str:
        """The name of the first objective value."""
        return self.metrics[0]


@dataclass(frozen=True, kw_only=True)
class TrackedTrial:
    """A trial as a tracker sees it when the trial starts, or resumes.

    Attributes:
        study: Its study, which has a ``run_id``.
        number: Its number.
        seed: The seed of its training.
        run_id: The `TrialRun.id` of its earlier life; None if that is not known.
        is_resumed: Whether it was begun before, by a worker that was killed or interrupted. (One
            that was killed within an instant may have left a run without its ``run_id``.)
    """

    study: TrackedStudy
    number: int
    seed: int
    run_id: str | None = None
    is_resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """How a trial has ended.

    Attributes:
        state: "complete", "pruned" or "failed". "requeued" if it was interrupted and will resume;
            "taken" if another worker has taken it, and tells of its end.
        reason: Why, where the trial says it: the error, or that it diverged; "" if it does not.
        params: Its parameters in trainer units, fixed values included.
        values: Metric's name -> objective value; empty unless the trial is complete.
        metrics: Other numbers that the trial has stored: name -> number.
        best: The best objective value of the study by now, and its trial's number; None if there
            is none, or several objective values.
        n_finished: Trials of the study that have ended by now, this one included.
    """

    state: Literal["complete", "pruned", "failed", "requeued", "taken"]
    reason: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    n_finished: int = 0


@dataclass(frozen=True, kw_only=True)
class StudyEnd:
    """How a study stands when a process leaves it.

    Attributes:
        state: "finished"; "running" if other workers go on with it; "interrupted" if trials are
            left that nobody runs now.
        counts: State -> number of trials: "complete", "pruned", "failed".
        best: As in `TrialEnd`.
        best_params: The parameters of the best trial in trainer units; empty without one.
    """

    state: Literal["finished", "running", "interrupted"]
    counts: Mapping[str, int] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)


class TrialRun(ABC):
    """A trial's run in a tracker's store, open in the process that trains the trial.

    Attributes:
        id: What finds the run again from another process; it is stored with the trial.
    """

    id: str

    @abstractmethod
    def set_params(self, params: Mapping[str, Any], *, is_complete: bool) -> None:
        """Log parameters, with the first step and again at the end.

        Args:
            params: Name -> value, in trainer units.
            is_complete: Whether these are all; a function may draw others later.
        """

    @abstractmethod
    def resume(self, step: int, reports: Mapping[int, float]) -> None:
        """Prepare the curve of a resumed trial, once before its first step in this process.

        A killed trial goes on behind its last checkpoint, so that the steps behind that were
        tracked before and come again.

        Args:
            step: The step that comes next.
            reports: Step -> value, for the steps before it, as far as they are known. What a
                store has lost with the killed process is logged again from here.
        """

    @abstractmethod
    def step(self, step: int, value: float) -> None:
        """Log the value that the trial has reported at a step."""

    @abstractmethod
    def end(self, end: TrialEnd) -> None:
        """Log the trial's end, and close what is open here."""


class Tracker(ABC):
    """Shows studies where a team looks at its runs: the study is a run, each trial one below it.

    `run` takes trackers, and so does `Reporter` in a loop of one's own. A tracker is a description:
    it travels to worker processes by pickle, so it holds settings and no connection (a frozen
    dataclass, say). The calls come in this order::

        check -> start_study -> start_trial -> [resume] -> step ... -> end -> end_study

    Each worker calls `start_study` for itself; only the first of a study gets one without a
    ``run_id``, and no other worker starts meanwhile. An exception from anything but `check` is
    logged, and the study goes on without this tracker.

    Example:
        >>> from dataclasses import dataclass
        >>> import hpolab
        >>> class PrintedRun(hpolab.TrialRun):
        ...     def __init__(self, trial):
        ...         self.id = f"trial {trial.number}"
        ...     def set_params(self, params, is_complete): ...
        ...     def resume(self, step, reports): ...
        ...     def step(self, step, value):
        ...         print(f"{self.id}, step {step}: {value:.2f}")
        ...     def end(self, end):
        ...         print(f"{self.id} is {end.state}")
        >>> @dataclass(frozen=True)
        ... class Printed(hpolab.Tracker):
        ...     def start_study(self, study):
        ...         return study.name
        ...     def start_trial(self, trial):
        ...         return PrintedRun(trial)
        ...     def end_study(self, study, end): ...
        >>> def objective(trial):
        ...     x = trial.suggest_float("x", 0, 1)
        ...     hpolab.Reporter(trial).report(x, 0)
        ...     return x
        >>> study = hpolab.make_study("printed", storage="memory://", sampler="random", seed=1)
        >>> hpolab.run(study, objective, n_trials=1, trackers=[Printed()])
        trial 0, step 0: 0.20
        trial 0 is complete
    """

    @property
    def key(self) -> str:
        """Tells this tracker's runs from those of other trackers; the class's name by default.

        Two trackers of one class that write to different places need different keys. It is stored
        with the study, so nothing secret belongs in it.
        """
        return type(self).__name__

    def check(self) -> None:  # noqa: B027 - a tracker without needs has nothing to check
        """Refuse, before a trial is spent, a tracker that cannot work: a missing package, say.

        What may pass by itself, such as a server that does not answer, is no reason.

        Raises:
            MissingExtra: If a package is missing.
            InvalidArgument: If a setting cannot work.
        """

    @abstractmethod
    def start_study(self, study: TrackedStudy) -> str:
        """Open the study's run, or make it where ``study.run_id`` is None.

        Returns:
            What finds the run again from another process, ``study.run_id`` in later calls.
        """

    @abstractmethod
    def start_trial(self, trial: TrackedTrial) -> TrialRun:
        """Start the trial's run below its study's, or go on in the one with its ``run_id``."""

    @abstractmethod
    def end_study(self, study: TrackedStudy, end: StudyEnd) -> None:
        """Log how the study stands; called where `run` returns, not in its worker processes."""
