"""Trainings on fresh seeds, scored on test data: trials of a study of their own, run by `run`.

Everything that is trained again after a tuning goes through here: it resumes after a crash, uses
leases and workers, and a training that fails or diverges is stored with its reason.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.trial import TrialState, create_trial

from hpolab import _optuna
from hpolab.analysis.confirmation import CONFIRMED
from hpolab.analysis.trained.row_scores import rows_of_test
from hpolab.errors import (
    Diverged,
    InvalidArgument,
    RecipeMismatch,
    check_count,
    check_seconds,
    one_of,
)
from hpolab.logs import get_logger
from hpolab.objectives.packed_rows import RowScores
from hpolab.running.outcome import one_line_for_all, say_outcome
from hpolab.running.run import run
from hpolab.studies.study import make_study, without_post_studies
from hpolab.studies.trials import METRICS_KEY, ROWS_KEY, is_begun, tally
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import REASON_KEY, Reporter, give_up

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from typing import Unpack

    from numpy.typing import NDArray
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from hpolab.objectives.base import Objective
    from hpolab.running.run import RunOptions

    Key = int | str
    Place = tuple[Key, int]

__all__ = [
    "ENSEMBLE",
    "MARK_KEYS",
    "FitAndEvaluate",
    "Outcome",
    "QueuedParams",
    "Trained",
    "TrainingQueue",
    "as_part_of",
    "check_is_free_for",
    "check_min_difference",
    "check_n_seeds",
    "marks_in",
    "metric_of",
    "outcomes_of",
    "tuning_studies",
]

ENSEMBLE = "-ensemble"
"""The suffix of the study that holds the trainings of another study's ensemble."""

MARK_KEYS = {"comparison": "hpolab:contender", "sweep": "hpolab:sweep"}
"""What a study remembers of the whole that it is a part of, by the kind of whole."""

_PLACE_KEY = "hpolab:place"
_METRIC_KEY = "hpolab:metric"
_SEED_KEY = "hpolab:seed"
_TWIN_KEY = "hpolab:twin"

_logger = get_logger(__name__)


@dataclass(frozen=True)
class QueuedParams:
    """A configuration as a trial stores it: params and their distributions."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


@dataclass
class Outcome:
    """The results of one configuration's trainings, by the index of the seed.

    Attributes:
        scores: The scores of those that are finished.
        metrics: All their metrics.
        rows: Their scores by row, where these are known, as they are stored.
        lost: Why there is no score: the training diverged or failed.
        pending: Those that wait or run.
    """

    scores: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, Mapping[str, float]] = field(default_factory=dict)
    rows: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)

    @property
    def n(self) -> int:
        """Seeds that have a score, without a gap before them."""
        return next(i for i in range(len(self.scores) + 1) if i not in self.scores)

    def first(self, n: int) -> list[float]:
        """Return the scores of the first n seeds."""
        return [self.scores[index] for index in range(n)]

    def first_rows(self, n: int) -> NDArray[np.float64] | None:
        """Return the scores by row of the first n seeds, (n, rows); None if one has none."""
        if not n or not self.rows.keys() >= set(range(n)):
            return None
        found = [RowScores.of_text(self.rows[index]).values for index in range(n)]
        return np.array(found) if len({len(each) for each in found}) == 1 else None

    def further_metrics(self, score: str) -> dict[str, dict[int, float]]:
        """Return metrics other than the score, without standard errors: name -> index -> value."""
        found: dict[str, dict[int, float]] = {}
        for index in sorted(self.metrics):
            for name, value in self.metrics[index].items():
                if name != score and not name.endswith(" (error)"):
                    found.setdefault(name, {})[index] = value
        return found

    @property
    def n_rows(self) -> int | None:
        """The number of rows that are scored one by one; None if there are none."""
        return RowScores.of_text(self.rows[0]).n if 0 in self.rows else None

    def is_known(self, index: int) -> bool:
        """Tell whether a seed has an outcome, or a training that waits or runs."""
        return index in self.scores or index in self.lost or index in self.pending


@dataclass(frozen=True)
class Trained:
    """What a training on one seed came to.

    Attributes:
        metrics: Its metrics, the score first.
        rows: What each row contributes to the score; None if that is not known.
    """

    metrics: Mapping[str, float]
    rows: RowScores | None = None


@dataclass(frozen=True)
class FitAndEvaluate:
    """Trains a configuration by its objective's `fit` and scores it.

    Attributes:
        objectives: The objective of each configuration.
        params: Its params, as `fit` takes them.
        test: The test data, as `evaluate` takes them.
        metric: The metric that is the score; None for the objective's own.
        groups: The group of each test row, (n,); None if rows are independent.
    """

    objectives: Mapping[Key, Objective]
    params: Mapping[Key, Mapping[str, Any]]
    test: Any
    metric: str | None = None
    groups: NDArray[Any] | None = None

    def __call__(self, key: Key, seed: int) -> Trained:
        objective = self.objectives[key]
        model = objective.fit(dict(self.params[key]), seed)
        metrics = objective.evaluate(model, self.test)
        own = objective.metric_in(metrics) if self.metric is None else None
        score = own or one_of("metric", str(self.metric), metrics)
        rows = None
        # What rows contribute is known of the objective's own metric alone.
        if score in (own, objective.metric):
            value = float(metrics[score])
            rows = rows_of_test(objective, model, self.test, value, self.groups)
        return Trained({score: metrics[score], **metrics}, rows)


@dataclass(frozen=True)
class TrainingQueue:
    """Trainings of some configurations on the same fresh seeds.

    Attributes:
        study: The study that holds them.
        queued: Configuration -> its params as trials store them.
        train: (configuration, seed) -> what the training came to.
        seed_of: Index of a seed -> the seed.
    """

    study: Study
    queued: Mapping[Key, QueuedParams]
    train: Callable[[Key, int], Trained]
    seed_of: Callable[[int], int]

    @staticmethod
    def make_study(study_name: str, *, storage: BaseStorage, direction: str, seed: int) -> Study:
        """Create the study that holds a queue's trainings, or open the one that exists."""
        return make_study(
            study_name,
            storage=storage,
            direction=direction,
            sampler="manual",
            pruner="none",
            seed=seed,
        )

    def run(
        self,
        due: Callable[[Mapping[Key, Outcome]], Iterable[Place]],
        **run_options: Unpack[RunOptions],
    ) -> None:
        """Train until nothing is due, or until the time is up.

        What has failed before is tried once more: its cause may be mended by now.

        Args:
            due: Outcomes so far -> what to train next: (configuration, index of the seed).
            **run_options: As in `run`. Without ``max_failures``, the first failure ends it all:
                what the first training cannot do, the next ones cannot do either.
        """
        timeout = run_options.get("timeout_seconds")
        check_seconds("timeout_seconds", timeout)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        options = self._options(run_options)
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        forgiven = {trial.number for trial in failed}
        training = _SeedTraining(self.train, self.seed_of)
        n_before, has_run, ended_by = -1, False, ""
        # Rounds end where nothing is due, or one comes to nothing: what is left is nobody's.
        while not ended_by and self._enqueue(due, forgiven) and self._n_finished() > n_before:
            n_before = self._n_finished()
            left = deadline - time.monotonic()
            if left <= 0:
                ended_by = "`timeout_seconds` is up"
                break
            if timeout is not None:
                options["timeout_seconds"] = left
            with one_line_for_all():
                run(self.study, training, **options)
            has_run = True
            if _optuna.stop_requested(self.study):
                ended_by = "`study.stop` was called"
        if has_run:
            say_outcome(self.study, None, n_failed=len(forgiven), ended_by=ended_by)

    def _n_finished(self) -> int:
        return tally(self.study.get_trials(deepcopy=False)).finished

    def outcomes(self) -> Mapping[Key, Outcome]:
        """Return the results of the trainings so far, by configuration."""
        return outcomes_of(self.study.get_trials(deepcopy=False))

    def _options(self, run_options: RunOptions) -> RunOptions:
        options: RunOptions = {"max_failures": 1, **run_options}
        options.pop("reproducible", None)  # each training has its own seed: they always are
        if options.pop("fuse", None) is not None:
            _logger.info(
                f"Study {self.study.study_name!r}: `fuse` does not apply to its trainings. Each is "
                "one call of `fit`, and they run one by one."
            )
        return options

    def _enqueue(
        self,
        due: Callable[[Mapping[Key, Outcome]], Iterable[Place]],
        forgiven: Collection[int],
    ) -> bool:
        """Enqueue the trainings that are due; tell whether there is any to run."""
        trials = self.study.get_trials(deepcopy=False)
        outcomes = outcomes_of(trials, forgiven)
        places = list(due(outcomes))
        known = {name: d for trial in trials for name, d in trial.distributions.items()}
        for key, index in places:
            queued = self.queued[key]
            names = _names_in_storage(key, queued.distributions, known)
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params={names[name]: value for name, value in queued.params.items()},
                    distributions={names[name]: d for name, d in queued.distributions.items()},
                    user_attrs={_PLACE_KEY: [key, index], _SEED_KEY: self.seed_of(index)},
                )
            )
        return bool(places) or any(outcome.pending for outcome in outcomes.values())


def _names_in_storage(
    key: Key, distributions: Mapping[str, BaseDistribution], known: dict[str, BaseDistribution]
) -> dict[str, str]:
    """Return under which names a study stores a configuration's params.

    A study of Optuna's has one kind of distribution a name. Contenders may have two, such as a
    learning rate on a linear and on a log scale, so the second has the contender's name added.

    Args:
        key: The configuration.
        distributions: Its distributions by name.
        known: Those that the study has by name; new ones are added.
    """
    names = {}
    for name, distribution in distributions.items():
        try:
            check_distribution_compatibility(known.setdefault(name, distribution), distribution)
        except ValueError:
            names[name] = f"{name} of {key}"
        else:
            names[name] = name
    return names


@dataclass(frozen=True)
class _SeedTraining:
    """Trains and scores one configuration with one seed: the function that a queue's study runs.

    It is no `Objective`: nothing is suggested, and the trial's value is a score on test data.
    """

    train: Callable[[Key, int], Trained]
    seed_of: Callable[[int], int]

    def __call__(self, trial: Trial) -> float:
        key, index = trial.user_attrs[_PLACE_KEY]
        if _has_twin(trial):
            trial.set_user_attr(_TWIN_KEY, True)
            raise optuna.TrialPruned("another trial trains the same configuration and seed")
        with Reporter(trial) as reporter:
            try:
                trained = self.train(key, self.seed_of(index))
            except Diverged as error:
                give_up(trial, str(error), error)
            reporter.record(**trained.metrics)
        metric = next(iter(trained.metrics))
        trial.set_user_attr(_METRIC_KEY, metric)
        if trained.rows is not None:
            trial.set_user_attr(ROWS_KEY, trained.rows.as_text())
        return float(trained.metrics[metric])


def _has_twin(trial: Trial) -> bool:
    """Tell whether another process has enqueued the same training before."""
    place = trial.user_attrs[_PLACE_KEY]
    return any(
        other.number < trial.number
        and other.user_attrs.get(_PLACE_KEY) == place
        and other.state != TrialState.FAIL
        and _TWIN_KEY not in other.user_attrs
        for other in trial.study.get_trials(deepcopy=False)
    )


def outcomes_of(
    trials: Iterable[FrozenTrial], forgiven: Collection[int] = ()
) -> Mapping[Key, Outcome]:
    """Return the outcomes of a queue's trials by configuration, an empty one for any other.

    Args:
        trials: The trials of the queue's study.
        forgiven: Numbers of failed trials that count as never run.
    """
    outcomes: dict[Key, Outcome] = defaultdict(Outcome)
    for trial in trials:
        if _PLACE_KEY not in trial.user_attrs or trial.number in forgiven:
            continue
        key, index = trial.user_attrs[_PLACE_KEY]
        outcome, attrs = outcomes[key], trial.user_attrs
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            outcome.scores[index] = trial.value
            outcome.metrics[index] = attrs.get(METRICS_KEY, {})
            if ROWS_KEY in attrs:
                outcome.rows[index] = attrs[ROWS_KEY]
        elif not trial.state.is_finished():
            outcome.pending.add(index)
        elif _TWIN_KEY not in attrs:
            outcome.lost[index] = attrs.get(REASON_KEY) or attrs.get(ERROR_KEY) or "failed"
    for outcome in outcomes.values():
        for index in outcome.scores.keys() | outcome.pending:
            outcome.lost.pop(index, None)
        outcome.pending -= outcome.scores.keys()
    return outcomes


def metric_of(trials: Iterable[FrozenTrial]) -> str:
    """Return the name of the score that a queue's trials have; "" if none is finished."""
    return next((t.user_attrs[_METRIC_KEY] for t in trials if _METRIC_KEY in t.user_attrs), "")


def tuning_studies(study_names: Collection[str]) -> list[str]:
    """Return the names without those of studies that belong to another: its trainings, its trials.

    Example:
        >>> tuning_studies(["detector", "detector-confirm", "detector-trial7-post", "other"])
        ['detector', 'other']
    """
    belonging = {f"{name}{suffix}" for name in study_names for suffix in (CONFIRMED, ENSEMBLE)}
    return [name for name in without_post_studies(study_names) if name not in belonging]


def marks_in(storage: BaseStorage, whole: str) -> dict[str, dict[str, Any]]:
    """Return which part of which comparison or sweep a study is, by the studies' names.

    Args:
        storage: An open storage.
        whole: "comparison" or "sweep".
    """
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    marks = {each.study_name: each.user_attrs.get(MARK_KEYS[whole]) for each in summaries}
    return {name: mark for name, mark in marks.items() if mark is not None}


def check_is_free_for(whole: str, study_name: str, study: Study) -> None:
    """Refuse a study with trials of another comparison or sweep, whose name ends in this one's.

    The study of contender "b-c" in "a" is called as that of contender "c" in "a-b".

    Raises:
        RecipeMismatch: If it belongs to another.
    """
    for each, key in MARK_KEYS.items():
        mark = study.user_attrs.get(key)
        if mark is None or (each, mark[each]) == (whole, study_name):
            continue
        if any(map(is_begun, study.get_trials(deepcopy=False))):
            raise RecipeMismatch(
                f"Study {study.study_name!r} belongs to the {each} {mark[each]!r}; nothing was "
                "changed."
            )


@contextmanager
def as_part_of(whole: str, study_name: str, part: str) -> Iterator[None]:
    """Explain which part of a comparison or a sweep was refused, and what to do next.

    Args:
        whole: "comparison" or "sweep".
        study_name: The whole's name.
        part: Which of its parts, in words.
    """
    function = {"comparison": "compare", "sweep": "sweep"}[whole]
    try:
        yield
    except RecipeMismatch as error:
        raise RecipeMismatch(
            f"{whole.capitalize()} {study_name!r} exists, and {part} cannot be resumed as asked "
            f"for. {error.found}\nResume it with its own settings and data, or give the new "
            f"{whole} a name of its own, such as `{function}(…, study_name={study_name + '-2'!r})`."
        ) from error


def check_min_difference(min_difference: float | None) -> None:
    """Refuse a smallest difference that matters of which no difference can be larger or smaller."""
    if min_difference is not None and not 0 < min_difference < math.inf:
        raise InvalidArgument(
            f"`min_difference` must be above 0, or None, and finite, got {min_difference}."
        )


def check_n_seeds(n_seeds: int) -> None:
    """Refuse a number of seeds below two, which gives no interval."""
    check_count("n_seeds", n_seeds)
    if n_seeds < 2:
        raise InvalidArgument(f"`n_seeds` must be 2 or above, for an interval, got {n_seeds}.")
