"""What tells trackers of a study: one place for `run`, its workers, and loops of one's own."""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import InvalidArgument, InvalidType, in_brief
from hpolab.logs import get_logger
from hpolab.search_space.space import SearchSpace
from hpolab.storage.redaction import redact_text
from hpolab.studies.digests import best_so_far
from hpolab.studies.history import history_of
from hpolab.studies.recipe import read_recipe, training_seed
from hpolab.studies.trials import METRICS_KEY, REASON_KEY
from hpolab.trial.claim import one_at_a_time
from hpolab.trial.lease import ERROR_KEY, RETRIES_KEY
from hpolab.trial.tracker import StudyEnd, TrackedStudy, TrackedTrial, Tracker, TrialEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from typing import TypeVar

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.trial.tracker import TrialRun

    T = TypeVar("T")

__all__ = [
    "StudyTracking",
    "TrialTracking",
    "as_trackers",
    "end_as_stored",
    "end_finished",
    "end_requeued",
    "end_taken",
    "tracking_of",
]

_logger = get_logger(__name__)

# Where the id of a run stands, in its study's and its trial's user attributes; the tracker's key
# comes behind.
_RUN_PREFIX = "hpolab:tracked:"

_ENDS: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def as_trackers(given: Any, *, known: Collection[str] = ()) -> tuple[Tracker, ...]:
    """Return trackers as a tuple, each checked; refuse what is no list of trackers.

    Args:
        given: What came.
        known: Keys of trackers that have been checked before.

    Raises:
        InvalidType: If it is none.
        InvalidArgument: If two would write to the same runs, or one cannot work.
        MissingExtra: If one's package is missing.
    """
    if given is None:
        return ()
    if isinstance(given, Tracker):
        raise InvalidType(
            f"`trackers` must be a list of trackers, got {type(given).__name__}: "
            "`trackers=[…]` holds one, too."
        )
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise InvalidType(f"`trackers` must be a list of trackers, got {type(given).__name__}.")
    trackers = tuple(given)
    for each in trackers:
        if not isinstance(each, Tracker):
            found = each.__name__ if isinstance(each, type) else type(each).__name__
            called = f": call it, as {found}()" if isinstance(each, type) else ""
            raise InvalidType(
                "`trackers` must be a list of trackers, such as MLflowTracker(), got one with "
                f"{found}{called}."
            )
    keys = [each.key for each in trackers]
    for key in keys:
        if keys.count(key) > 1:
            raise InvalidArgument(
                f"`trackers` must write to different places, got {keys.count(key)} that write to "
                f"{key!r}."
            )
    for each in trackers:
        if each.key not in known:
            each.check()
    return trackers


class StudyTracking:
    """A study's trackers in this process.

    Args:
        study: The study.
        trackers: From `as_trackers`.
        metric: The name of the objective value, where the study has not named it itself.
        search_space: What the trials' parameters are drawn from; None for the study's own, if it
            has one.
    """

    def __init__(
        self,
        study: Study,
        trackers: Iterable[Tracker],
        *,
        metric: str = "value",
        search_space: SearchSpace | None = None,
    ) -> None:
        self.study = study
        self._metrics = _metrics_of(study, metric)
        self._space = search_space
        self._recipe = read_recipe(study)
        self._trackers: dict[str, Tracker] = {}
        self._left_out: set[str] = set()
        self._studies: dict[str, TrackedStudy] = {}
        self.add(trackers)

    @property
    def keys(self) -> set[str]:
        """The keys of all trackers, those that were left out as well."""
        return {*self._trackers, *self._left_out}

    def add(self, trackers: Iterable[Tracker]) -> None:
        """Open the study's run in each tracker that is new; the first of all workers makes it."""
        for tracker in trackers:
            key = tracker.key
            if key in self.keys:
                continue
            self._trackers[key] = tracker
            run_id = self._stored_run(key)
            if run_id is not None:
                self._start(key, tracker, run_id)
                continue
            with one_at_a_time(self.study):
                run_id = self._stored_run(key)
                made = self._start(key, tracker, run_id)
                if made is not None and made != run_id:
                    self.study.set_user_attr(_RUN_PREFIX + key, made)

    def _stored_run(self, key: str) -> str | None:
        found = self.study.user_attrs.get(_RUN_PREFIX + key)
        return found if isinstance(found, str) else None

    def _start(self, key: str, tracker: Tracker, run_id: str | None) -> str | None:
        described = self._described(run_id)
        made = self.guarded(key, lambda: tracker.start_study(described))
        if made is not None:
            self._studies[key] = self._described(made)
        return made

    def _described(self, run_id: str | None) -> TrackedStudy:
        return TrackedStudy(
            name=self.study.study_name,
            directions=tuple(each.name.lower() for each in self.study.directions),
            metrics=self._metrics,
            seed=None if self._recipe is None else self._recipe.seed,
            run_id=run_id,
        )

    def guarded(self, key: str, call: Callable[[], T]) -> T | None:
        """Return what a call of a tracker returns, or None; one that fails is not called again.

        Args:
            key: The tracker's.
            call: Calls it.
        """
        if key not in self._trackers:
            return None
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - it is logged, and costs no trial
            tracker = self._trackers.pop(key, None)
            self._left_out.add(key)
            self._studies.pop(key, None)
            _logger.warning(
                f"{type(tracker).__name__} failed and is left out from now on; study "
                f"{self.study.study_name!r} goes on without it: {redact_text(in_brief(error))}"
            )
            return None

    def start_trial(self, trial: Trial) -> TrialTracking:
        """Start the run of a trial in each tracker, or go on in that of its earlier life."""
        tracking = _tracked.get(trial)
        if tracking is None:
            tracking = _tracked[trial] = TrialTracking(self, trial)
        for key, study in list(self._studies.items()):
            tracking.start(self._trackers[key], study, trial)
        return tracking

    def end(self, *, interrupted: bool = False) -> None:
        """Tell each tracker how the study stands."""
        if not self._studies:
            return
        known = history_of(self.study)
        if known.running:
            state: Literal["finished", "running", "interrupted"] = "running"
        else:
            state = "interrupted" if interrupted else "finished"
        best = self._best_trial()
        counts = known.tally
        end = StudyEnd(
            state=state,
            counts={
                "complete": counts.complete,
                "pruned": counts.pruned,
                "failed": counts.failed,
            },
            best=_best(best),
            best_params={} if best is None else self.params_of(best.params)[0],
        )
        for key, study in list(self._studies.items()):
            end_study = partial(self._trackers[key].end_study, study, end)
            self.guarded(key, end_study)

    def _best_trial(self) -> FrozenTrial | None:
        return best_so_far(self.study) if len(self.study.directions) == 1 else None

    def end_of(self, trial: FrozenTrial) -> TrialEnd:
        """Return how a finished trial has ended."""
        reason = trial.user_attrs.get(REASON_KEY) or trial.user_attrs.get(ERROR_KEY) or ""
        values = trial.values if trial.state == TrialState.COMPLETE else None
        return TrialEnd(
            state=_ENDS[trial.state],
            reason=str(reason),
            params=self.params_of(trial.params)[0],
            values=dict(zip(self._metrics, values or (), strict=False)),
            metrics=_metrics_in(trial.user_attrs),
            best=_best(self._best_trial()),
            n_finished=history_of(self.study).tally.finished,
        )

    def params_of(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return parameters in trainer units, fixed values included, and whether that is all."""
        if self._space is None and self._recipe is not None and self._recipe.search_space:
            self._space = SearchSpace.from_dict(self._recipe.search_space)
        if self._space is None:
            return dict(params), False
        others = params.keys() - self._space.distributions().keys()
        try:
            known = self._space.from_trial(params)
        except InvalidArgument:
            return dict(params), False  # a function of one's own has not drawn all yet
        return known | {name: params[name] for name in others}, not others


class TrialTracking:
    """The runs of one trial in this process; it does not keep the `Trial` alive.

    Args:
        study: Its study's trackers.
        trial: The running trial.
    """

    def __init__(self, study: StudyTracking, trial: Trial) -> None:
        self.study = study
        self.number = trial.number
        self._runs: dict[str, TrialRun] = {}
        self._to_resume: set[str] = set()
        self._n_steps = 0
        self._was_begun = RETRIES_KEY in trial.user_attrs or bool(_optuna.stored_reports(trial))

    def start(self, tracker: Tracker, study: TrackedStudy, trial: Trial) -> None:
        """Start the trial's run in a tracker, or go on in that of an earlier life, once."""
        if tracker.key in self._runs:
            return
        stored = trial.user_attrs.get(_RUN_PREFIX + tracker.key)
        described = TrackedTrial(
            study=study,
            number=trial.number,
            seed=training_seed(trial.study, trial.number),
            run_id=stored if isinstance(stored, str) else None,
            is_resumed=isinstance(stored, str) or self._was_begun,
        )
        run = self.study.guarded(tracker.key, lambda: tracker.start_trial(described))
        if run is None:
            return
        self._runs[tracker.key] = run
        if described.is_resumed:
            self._to_resume.add(tracker.key)
        if run.id != described.run_id:
            trial.set_user_attr(_RUN_PREFIX + tracker.key, run.id)

    def step(
        self, step: int, value: float, *, params: Mapping[str, Any], reports: Mapping[int, float]
    ) -> None:
        """Log a report of the trial.

        Args:
            step: Its step.
            value: Its value.
            params: The trial's parameters by now.
            reports: All of its reports, earlier lives included: step -> value.
        """
        if not self._runs:
            return
        self._n_steps += 1
        if self._n_steps == 1:
            known, is_complete = self.study.params_of(params)
            before = {each: reports[each] for each in sorted(reports) if each < step}
            self._call_each(lambda run: run.set_params(known, is_complete=is_complete))
            keys = list(self._runs) if before else list(self._to_resume)
            self._call_each(lambda run: run.resume(step, before), keys)
        self._call_each(lambda run: run.step(step, value))

    def end(self, trial: FrozenTrial) -> None:
        """Log the end of a finished trial."""
        if not self._runs:
            return
        end = self.study.end_of(trial)
        if not self._n_steps:
            self._log_reports(trial)
        self._call_each(lambda run: run.set_params(end.params, is_complete=True))
        self._call_each(lambda run: run.end(end))
        self._runs.clear()

    def _log_reports(self, trial: FrozenTrial) -> None:
        """Log the reports of a function that has no `Reporter`, or of a life that has ended."""
        reports = {
            step: value
            for step, value in sorted(trial.intermediate_values.items())
            if math.isfinite(value)
        }
        if reports:
            self._call_each(lambda run: run.resume(max(reports) + 1, reports))

    def leave(self, state: Literal["requeued", "taken"]) -> None:
        """Let go of a trial that has not ended, or not here."""
        self._call_each(lambda run: run.end(TrialEnd(state=state)))
        self._runs.clear()

    def settle(self) -> bool:
        """End the runs if the trial has finished by now; tell whether nothing is left open."""
        trial = _optuna.reread(self.study.study, self.number)
        if trial.state.is_finished():
            self.end(trial)
        return not self._runs

    def _call_each(
        self, call: Callable[[TrialRun], None], keys: Iterable[str] | None = None
    ) -> None:
        for key in list(self._runs) if keys is None else keys:
            run = self._runs[key]
            if not self.study.guarded(key, partial(_done, call, run)):
                del self._runs[key]


def _done(call: Callable[[TrialRun], None], run: TrialRun) -> bool:
    call(run)
    return True


# The trials that are tracked in this process, while they run.
_tracked: WeakKeyDictionary[Trial, TrialTracking] = WeakKeyDictionary()


def tracking_of(trial: Trial) -> TrialTracking | None:
    """Return what tells trackers of a running trial, if any are to be told."""
    return _tracked.get(trial)


def end_requeued(trial: Trial) -> None:
    """Log that a tracked trial was interrupted and will resume."""
    tracking = _tracked.pop(trial, None)
    if tracking is not None:
        tracking.leave("requeued")


def end_finished(trial: Trial, finished: FrozenTrial) -> None:
    """Log the end of a tracked trial."""
    tracking = _tracked.pop(trial, None)
    if tracking is not None:
        tracking.end(finished)


def end_taken(trial: Trial) -> None:
    """Let go of a tracked trial that another worker has taken, and tells of."""
    tracking = _tracked.pop(trial, None)
    if tracking is not None:
        tracking.leave("taken")


def end_as_stored(trial: Trial) -> None:
    """Log how the storage says that a tracked trial has ended; if it has not, it will resume."""
    tracking = _tracked.pop(trial, None)
    if tracking is not None and not tracking.settle():
        tracking.leave("requeued")


def _metrics_of(study: Study, metric: str) -> tuple[str, ...]:
    """Return the names of a study's objective values."""
    named = study.metric_names
    if named:
        return tuple(named)
    n = len(study.directions)
    return (metric,) if n == 1 else tuple(f"{metric}_{place}" for place in range(n))


def _metrics_in(user_attrs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a trial has stored beside its value."""
    own = {key: value for key, value in user_attrs.items() if not key.startswith("hpolab:")}
    return {
        key: float(value)
        for key, value in {**own, **user_attrs.get(METRICS_KEY, {})}.items()
        if isinstance(value, Real) and not isinstance(value, bool)
    }


def _best(trial: FrozenTrial | None) -> tuple[float, int] | None:
    return None if trial is None or trial.value is None else (trial.value, trial.number)
