"""compare(): the same budget for each contender, each in a study of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from hpolab.analysis.effects import Effect, improvements
from hpolab.analysis.results import Result
from hpolab.analysis.trained.trainings import (
    MARK_KEYS,
    FitAndEvaluate,
    QueuedParams,
    TrainingQueue,
    as_part_of,
    check_is_free_for,
    marks_in,
)
from hpolab.analysis.wording import compared, mean_and_error, short
from hpolab.errors import (
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    StudyNotFound,
    check_count,
    one_of,
)
from hpolab.fingerprint import data_fingerprint
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.objectives.base import Objective
from hpolab.running.run import RunOptions, run
from hpolab.search_space.near import meant_name
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.seeding import derive_seed
from hpolab.storage.url import open_storage
from hpolab.studies.export import in_short
from hpolab.studies.recipe import check_search_space, read_recipe
from hpolab.studies.study import make_study, stored_study
from hpolab.studies.trials import best_trial, is_begun, sign_of
from hpolab.tables import TextTable
from hpolab.torch.optimizers import OPTIMIZERS, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from hpolab.analysis.trained.trainings import Key, Outcome

__all__ = [
    "Comparison",
    "Contender",
    "compare",
    "comparisons_in",
    "load_comparison",
    "studies_of_comparison",
]

_logger = get_logger(__name__)

_CONTENDER_KEY = MARK_KEYS["comparison"]
_TEST_KEY = "hpolab:test"
_TEST_DATA_KEY = "hpolab:test_data"
# What the study of the trainings on fresh seeds is called behind the comparison's name.
_TRAININGS = "-test-seeds"


@dataclass(frozen=True)
class Contender:
    """One side of a comparison and what its study has found.

    Attributes:
        name: Its name, such as "adamw".
        study: Its study.
        values: The trials' values in order of number, (n,), NaN where a trial has none.
        default_value: The value of the default configuration, trial 0; None if it has none.
        best_value: The best value; None if no trial is complete.
        best_params: The best configuration, in the trainer's units; None if no trial is complete.
        test_scores: Scores of the best configuration on the test data, one for each fresh seed; NaN
            where the training diverged or failed.
    """

    name: str
    study: Study = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    default_value: float | None
    best_value: float | None
    best_params: Mapping[str, Any] | None
    test_scores: tuple[float, ...] = ()

    def values_by(self, parameter: str) -> tuple[list[Any], NDArray[np.float64]]:
        """Return a parameter's values, in the trainer's units, and the values of the trials.

        Complete trials without the parameter are left out.
        """
        space = _space_of(self.study)
        rows = [
            (space.from_trial(trial.params).get(parameter), trial.value)
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]
        rows = [row for row in rows if row[0] is not None]
        return [row[0] for row in rows], np.array([row[1] for row in rows])


@dataclass(frozen=True)
class Comparison(Result):
    """What a comparison has found.

    Attributes:
        study_name: Its name.
        direction: "minimize" or "maximize".
        contenders: By name, in the order in which they were given.
    """

    study_name: str
    direction: str
    contenders: Mapping[str, Contender]

    @classmethod
    def of(cls, study_name: str, studies: Mapping[str, Study]) -> Comparison:
        """Return a comparison of studies that exist already.

        Nobody checks that they had the same budget, data and metric, as `compare` does.

        Args:
            study_name: The comparison's name.
            studies: Contender -> its study, run with a search space of hpolab's.

        Raises:
            InvalidArgument: If there is no study, one has no search space stored, or directions
                differ.

        Example:
            >>> from hpolab import FunctionObjective, make_study, run
            >>> studies = {}
            >>> for x in (0.1, 0.2):
            ...     objective = FunctionObjective(
            ...         lambda params, reporter: params["x"] ** 2,
            ...         search_space=SearchSpace({"x": (x, 1.0)}),
            ...         direction="minimize", max_steps=1,
            ...     )
            ...     studies[f"from {x}"] = make_study(
            ...         f"from-{x}", storage="memory://", objective=objective
            ...     )
            ...     run(studies[f"from {x}"], objective, n_trials=20)
            >>> Comparison.of("ends", studies).ranking()[0].name
            'from 0.1'
        """
        directions = {tuple(study.directions) for study in studies.values()}
        if len(directions) != 1:
            raise InvalidArgument(
                f"`studies` must be several of one direction, got {len(studies)} with "
                f"{len(directions)} directions."
            )
        for study in studies.values():
            _space_of(study)  # refuses one without
        contenders = {key: _contender(key, study) for key, study in studies.items()}
        direction = next(iter(studies.values())).direction
        return cls(study_name, direction=direction.name.lower(), contenders=contenders)

    def ranking(self) -> list[Contender]:
        """Return the contenders, the best value first; those without a value are last."""
        return sorted(self.contenders.values(), key=lambda each: self._loss(each.best_value))

    def improvements(self) -> dict[str, Effect]:
        """Return by how much the first of the ranking is better than each rival on the test data.

        The ranking is by the trials' values, not by the test scores, so nobody is first for these
        scores. Paired seed by seed, corrected for the number of rivals (Holm); rivals that were not
        scored on the same seeds are left out.
        """
        leader = self.ranking()[0].name
        scores = {name: each.test_scores for name, each in self.contenders.items()}
        return improvements(scores, leader, maximize=self.direction == "maximize")

    @property
    def verdict(self) -> str:
        """Whether the leader is better than its rivals on the test data; "" without test scores."""
        found, leader = self.improvements(), self.ranking()[0]
        n_lost, n = sum(map(math.isnan, leader.test_scores)), len(leader.test_scores)
        if n_lost:
            return (
                f"{leader.name} has no score on {n_lost} of {n} seeds, so it cannot be compared on "
                "the test data."
            )
        if not found:
            return ""
        words = "; it ".join(
            compared(effect, rival, n_compared=len(found)) for rival, effect in found.items()
        )
        return f"On the test data ({n} seeds), {leader.name} {words}."

    def table(self) -> TextTable:
        """Return one row for each contender, the best first."""
        head = ["", "trials", "default", "best", "better by", "test score", "best parameters"]
        rows = [
            [
                each.name,
                f"{len(each.values):,}",
                short(each.default_value),
                short(each.best_value),
                short(self._gain(each)),
                mean_and_error(each.test_scores),
                _brief(each),
            ]
            for each in self.ranking()
        ]
        return TextTable(head, rows, frozenset([0]), may_be_cut=True)

    def best_so_far(self, name: str) -> NDArray[np.float64]:
        """Return the best value after 1, 2, ... trials of a contender; NaN before the first."""
        values = self._contender(name).values
        best = np.fmax if self.direction == "maximize" else np.fmin
        return best.accumulate(values) if len(values) else values

    def best_of_budget(
        self, name: str, budget: int, quantiles: Sequence[float] = (0.05, 0.5, 0.95)
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the expected best value of so many trials, and its quantiles.

        It is exact, over all subsets of the trials that were run: of n sorted values, the i-th is
        the best of b with probability C(i - 1, b - 1) / C(n, b). For random search this is what
        another study of b trials would give (Dodge et al. 2019, "Show Your Work", EMNLP, who draw
        with replacement). A sampler that learns does better late than early, so for it this is
        only a guide.

        Args:
            name: The contender.
            budget: The number of trials, from 1 to those that the contender has.
            quantiles: Quantiles to return, in [0, 1].

        Raises:
            InvalidArgument: If the name is unknown, or the contender has fewer trials or no value.
        """
        values, chances = self._best_of(self._contender(name), budget)
        reached = np.cumsum(chances)
        places = np.searchsorted(reached, np.asarray(quantiles) - 1e-12)
        return float(values @ chances), values[np.minimum(places, len(values) - 1)]

    def winners(self, budget: int) -> dict[str, float]:
        """Return each contender's chance to win with so many trials: name -> probability.

        Trials are drawn as in `best_of_budget`, for each contender independently; ties are shared.

        Args:
            budget: The number of trials of each contender.
        """
        drawn = {each.name: self._best_of(each, budget) for each in self.contenders.values()}
        sign = sign_of(self.direction)
        rng = np.random.default_rng(0)
        draws = np.array(
            [
                sign * rng.choice(values, size=_N_DRAWS, p=chances)
                for values, chances in drawn.values()
            ]
        )
        first = draws == draws.max(axis=0)
        shares = (first / first.sum(axis=0)).mean(axis=1)
        return dict(zip(drawn, shares.tolist(), strict=True))

    def _parts(self) -> list[str | TextTable]:
        return [self.table(), *([self.verdict] if self.verdict else [])]

    def _records(self) -> Iterator[dict[str, Any]]:
        found = self.improvements()
        for each in self.ranking():
            n = len(each.test_scores)
            yield {
                "contender": each.name,
                "n_trials": len(each.values),
                "default_value": each.default_value,
                "best_value": each.best_value,
                "n_test_seeds": n,
                "test_score": math.fsum(each.test_scores) / n if n else None,
                "leader_is_better_by": found[each.name].estimate if each.name in found else None,
                "p_value": found[each.name].p_value if each.name in found else None,
                **{f"params_{name}": value for name, value in (each.best_params or {}).items()},
            }

    def _gain(self, contender: Contender) -> float | None:
        """Return by how much a contender's best value is better than its default's."""
        if contender.best_value is None or contender.default_value is None:
            return None
        gain = sign_of(self.direction) * (contender.best_value - contender.default_value)
        return gain or 0.0  # no minus before a zero

    def _contender(self, name: str) -> Contender:
        return self.contenders[one_of("name", name, self.contenders)]

    def _loss(self, value: float | None) -> float:
        return np.inf if value is None else -sign_of(self.direction) * value

    def _best_of(
        self, contender: Contender, budget: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values that can be the best of a budget, and how likely each is."""
        check_count("budget", budget)
        n = len(contender.values)
        known = contender.values[~np.isnan(contender.values)]
        if budget > n or not len(known):
            raise InvalidArgument(
                f"`budget` must be at most the {n} trials of {contender.name!r}, of which "
                f"{len(known)} have a value, got {budget}."
            )
        # Trials without a value, pruned or failed, count as worse than all others.
        ordered = np.sort(known if self.direction == "maximize" else -known)
        chances = _chances_of_best(n, budget)[n - len(known) :]
        values = ordered if self.direction == "maximize" else -ordered
        return values[chances > 0], chances[chances > 0] / chances.sum()


# Draws behind a contender's chance to win: a standard error of at most 0.0035.
_N_DRAWS = 20_000


@checks_keywords(RunOptions)
def compare(
    objective: Objective | None,
    contenders: Sequence[str] | Mapping[str, SearchSpace | Mapping[str, Any] | Objective],
    *,
    study_name: str,
    n_trials: int,
    storage: str | BaseStorage | None = None,
    test: Any = None,
    n_test_seeds: int = 3,
    sampler: Any = None,
    pruner: Any = None,
    seed: int = 0,
    **run_options: Unpack[RunOptions],
) -> Comparison:
    """Tune each contender in a study of its own, all with the same number of trials.

    Each contender has its own search space, and its default configuration as trial 0. Data, epochs
    and everything else of the objective are the same for all. Called again, a comparison resumes
    where it was, study by study.

    Args:
        objective: The objective that is tuned; None if the contenders are objectives. If they are
            names of optimizers, its search space has an optimizer, which each of them replaces,
            with its own space.
        contenders: Names of optimizers (`OPTIMIZERS`), or name -> search space, or name ->
            objective. A dict of ranges, such as ``{"lr": (1e-4, 1e-2)}``, is the objective's search
            space with these tuned and everything else at its default.
        study_name: The comparison's name. A contender's study is called ``study_name-contender``.
        n_trials: The number of trials of each contender, 1 or above.
        storage: As in `make_study`.
        test: Data that no trial has read, as the objective's `evaluate` takes it: each contender's
            best configuration is trained again on fresh seeds and scored on it. None: no test.
        n_test_seeds: The number of fresh seeds, which are the same for all contenders.
        sampler: As in `make_study`, or contender -> sampler to compare ways of searching.
        pruner: As in `make_study`.
        seed: Seeds all studies, so that contenders train with the same seeds.
        **run_options: As in `run`, such as ``n_workers``, ``fuse`` or ``callbacks``.
            ``timeout_seconds`` is that of each contender's study, and of the trainings on fresh
            seeds.

    Raises:
        InvalidArgument: If a name is unknown, a space has no optimizer to replace, or the
            directions of objectives differ.
        InvalidType: If an argument is of the wrong type.
        RecipeMismatch: If a comparison of this name was begun with another search space, sampler,
            pruner, seed, or other data.

    Example:
        >>> from hpolab import FunctionObjective
        >>> def descend(params, reporter):
        ...     return (params["x"] - 0.3) ** 2
        >>> space = SearchSpace({"x": (0.0, 1.0)})
        >>> objective = FunctionObjective(
        ...     descend, search_space=space, direction="minimize", max_steps=1
        ... )
        >>> comparison = compare(
        ...     objective,
        ...     {"whole": space, "half": space.override(x=(0.5, 1.0))},
        ...     study_name="parts", n_trials=20, storage="memory://",
        ... )
        >>> [each.name for each in comparison.ranking()]
        ['whole', 'half']
    """
    check_count("n_test_seeds", n_test_seeds)
    objectives = _objectives(objective, contenders)
    for each in objectives.values():
        each.check()
    opened = open_storage(storage)
    test_data = None if test is None else data_fingerprint(test)
    studies = {}
    # All are compared with what is stored before a trial of any is spent.
    for contender, each in objectives.items():
        with as_part_of("comparison", study_name, f"contender {contender!r}"):
            studies[contender] = study = make_study(
                f"{study_name}-{contender}",
                storage=opened,
                objective=each,
                sampler=sampler.get(contender) if isinstance(sampler, dict) else sampler,
                pruner=pruner,
                seed=seed,
            )
            check_is_free_for("comparison", study_name, study)
            check_search_space(study, each.search_space)
            each.check_facts(study)
            _check_test_data(study, test_data)
    _mark_contenders(study_name, studies, opened)
    for contender, each in objectives.items():
        with as_part_of("comparison", study_name, f"contender {contender!r}"):
            run(studies[contender], each, n_trials=n_trials, **run_options)
    if test is not None:
        tests = _TestScores(study_name, objectives, studies, test, n_test_seeds, seed)
        tests.run(opened, run_options)
    return Comparison.of(study_name, studies)


def _mark_contenders(study_name: str, studies: Mapping[str, Study], storage: BaseStorage) -> None:
    """Store with each study whose contender it is; what a mistaken call has left is removed."""
    for name, mark in marks_in(storage, "comparison").items():
        mine = mark["comparison"] == study_name and mark["contender"] not in studies
        if mine and not any(map(is_begun, stored_study(name, storage).get_trials(deepcopy=False))):
            optuna.delete_study(study_name=name, storage=storage)
    for place, (contender, study) in enumerate(studies.items()):
        mark = {"comparison": study_name, "contender": contender, "place": place}
        if study.user_attrs.get(_CONTENDER_KEY) != mark:
            study.set_user_attr(_CONTENDER_KEY, mark)


def comparisons_in(storage: BaseStorage) -> list[str]:
    """Return the names of a storage's comparisons, sorted."""
    return sorted({mark["comparison"] for mark in marks_in(storage, "comparison").values()})


def studies_of_comparison(study_name: str, storage: BaseStorage) -> list[str]:
    """Return the names of a comparison's studies: of its contenders, and of the trainings on tests.

    Args:
        study_name: The comparison's name.
        storage: An open storage.
    """
    marks = marks_in(storage, "comparison")
    found = [name for name, mark in marks.items() if mark["comparison"] == study_name]
    trainings = f"{study_name}{_TRAININGS}"
    is_there = bool(found) and trainings in optuna.get_all_study_names(storage)
    return [*found, *([trainings] if is_there else [])]


def _check_test_data(study: Study, test_data: str | None) -> None:
    """Refuse scores on other test data than a contender has.

    Raises:
        RecipeMismatch: If it has some.
    """
    stored = study.user_attrs.get(_TEST_DATA_KEY)
    if test_data is None or stored == test_data:
        return
    if stored is not None and study.user_attrs.get(_TEST_KEY):
        raise RecipeMismatch(
            f"Study {study.study_name!r} has scores on other test data; nothing was changed.\n  "
            f"`test`: stored {stored!r}, asked for {test_data!r}"
        )
    study.set_user_attr(_TEST_DATA_KEY, test_data)


@checks_keywords()
def load_comparison(study_name: str, *, storage: str | BaseStorage | None = None) -> Comparison:
    """Return a comparison as it stands in a storage, without running anything.

    Args:
        study_name: The comparison's name.
        storage: As in `make_study`.

    Raises:
        StudyNotFound: If the storage has no study of such a comparison.
    """
    opened = open_storage(storage, create=False)
    found = {
        (mark["place"], mark["contender"]): name
        for name, mark in marks_in(opened, "comparison").items()
        if mark["comparison"] == study_name
    }
    if not found:
        raise StudyNotFound(f"No comparison {study_name!r} in the storage.")
    studies = {key: stored_study(found[place, key], opened) for place, key in sorted(found)}
    return Comparison.of(study_name, studies)


def _chances_of_best(n: int, budget: int) -> NDArray[np.float64]:
    """Return how likely each of n values, in rising order, is the best of a subset."""
    from scipy.special import gammaln

    places = np.arange(1, n + 1, dtype=np.float64)
    # C(i - 1, b - 1) / C(n, b) by logarithms; below b values there is no such subset.
    log = gammaln(places) - gammaln(np.maximum(places - budget + 1, 1)) - gammaln(budget)
    total = gammaln(n + 1) - gammaln(n - budget + 1) - gammaln(budget + 1)
    return np.where(places >= budget, np.exp(log - total), 0.0)


def _brief(contender: Contender) -> str:
    """Return the best configuration's tuned parameters on one line."""
    if contender.best_params is None:
        return "no trial is complete"
    params = contender.best_params
    names = _space_of(contender.study).names().values()
    shown = {name: params[name] for name in names if name in params}
    return in_short(shown, digits=3)


def _contender(name: str, study: Study) -> Contender:
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    values = [trial.value if trial.state == TrialState.COMPLETE else None for trial in finished]
    best = best_trial(study)
    scores = {} if best is None else _stored_scores(study, best)
    return Contender(
        name=name,
        study=study,
        values=np.array(values, dtype=np.float64),
        default_value=values[0] if values else None,
        best_value=None if best is None else best.value,
        best_params=None if best is None else _space_of(study).from_trial(best.params),
        test_scores=tuple(math.nan if score is None else score for score in scores.values()),
    )


def _stored_scores(study: Study, best: FrozenTrial) -> dict[int, float | None]:
    """Return a trial's scores on the test data by the index of the seed; None for one lost."""
    stored = study.user_attrs.get(_TEST_KEY, {}).get(str(best.number), {})
    return {int(index): score for index, score in stored.items()}


@dataclass(frozen=True)
class _TestScores:
    """Scores of the contenders' best configurations on the test data, on the same fresh seeds."""

    study_name: str
    objectives: Mapping[str, Objective]
    studies: Mapping[str, Study]
    test: Any
    n_seeds: int
    seed: int

    def run(self, storage: BaseStorage, run_options: RunOptions) -> None:
        """Train what is not scored yet, and store the scores with the contenders' studies."""
        best = {name: best_trial(study) for name, study in self.studies.items()}
        # More trials may bring another best one, which is trained beside the earlier.
        keys: dict[Key, tuple[str, FrozenTrial]] = {
            f"{name}/{trial.number}": (name, trial) for name, trial in best.items() if trial
        }
        if all(self._n_scored(*of_key) >= self.n_seeds for of_key in keys.values()):
            return
        queue = TrainingQueue(
            study=TrainingQueue.make_study(
                f"{self.study_name}{_TRAININGS}",
                storage=storage,
                direction=next(iter(self.objectives.values())).direction,
                seed=self.seed,
            ),
            queued={
                key: QueuedParams(trial.params, trial.distributions)
                for key, (_, trial) in keys.items()
            },
            train=FitAndEvaluate(
                {key: self.objectives[name] for key, (name, _) in keys.items()},
                {
                    key: self.objectives[name].search_space.from_trial(trial.params)
                    for key, (name, trial) in keys.items()
                },
                self.test,
            ),
            seed_of=partial(_test_seed, self.seed),
        )
        queue.run(partial(self._due, keys), **run_options)
        outcomes = queue.outcomes()
        for key, (name, trial) in keys.items():
            self._store(name, trial, outcomes[key])

    def _n_scored(self, name: str, trial: FrozenTrial) -> int:
        stored = _stored_scores(self.studies[name], trial)
        return sum(score is not None for score in stored.values())

    def _due(
        self, keys: Mapping[Key, tuple[str, FrozenTrial]], outcomes: Mapping[Key, Outcome]
    ) -> list[tuple[Key, int]]:
        # Scores of an earlier version are stored with the contender's study alone.
        stored = {key: _stored_scores(self.studies[name], t) for key, (name, t) in keys.items()}
        return [
            (key, index)
            for key in keys
            for index in range(self.n_seeds)
            if stored[key].get(index) is None and not outcomes[key].is_known(index)
        ]

    def _store(self, name: str, trial: FrozenTrial, outcome: Outcome) -> None:
        study = self.studies[name]
        found = {**dict.fromkeys(outcome.lost), **outcome.scores}
        scores = {**_stored_scores(study, trial), **found}
        asked = {str(index): scores[index] for index in sorted(scores)}
        stored = study.user_attrs.get(_TEST_KEY, {})
        if stored.get(str(trial.number)) != asked:
            study.set_user_attr(_TEST_KEY, {**stored, str(trial.number): asked})


def _test_seed(seed: int, index: int) -> int:
    return derive_seed(seed, index, "test")


def _objectives(objective: Any, contenders: Any) -> dict[str, Objective]:
    """Return an objective for each contender."""
    if isinstance(contenders, str) or not len(contenders):
        raise InvalidArgument(f"`contenders` must be several, got {contenders!r}.")
    if objective is not None and not isinstance(objective, Objective):
        raise InvalidType(f"`objective` must be an Objective, got {type(objective).__name__}.")
    if not isinstance(contenders, dict):
        contenders = {name: _optimizer_of(objective, name) for name in contenders}
    made = {}
    for name, each in contenders.items():
        if isinstance(each, Mapping) and objective is not None:
            each = _tuning_only(objective, name, each)
        if isinstance(each, SearchSpace) and objective is not None:
            each = objective.with_search_space(each)
        if not isinstance(each, Objective):
            raise InvalidType(
                "`contenders` must be names of optimizers, search spaces with an `objective`, or "
                f"objectives, got {type(each).__name__} for {name!r}."
            )
        made[str(name)] = each
    directions = {each.direction for each in made.values()}
    if len(directions) > 1:
        raise InvalidArgument("`contenders` must have one direction, got both.")
    return made


def _tuning_only(objective: Objective, name: str, ranges: Mapping[str, Any]) -> SearchSpace:
    """Return a space in which ``ranges`` are tuned and all else stays at its default."""
    space = objective.search_space
    if space.conditional:  # no name says which branch is meant
        return as_space("contenders", ranges)
    defaults = space.defaults()
    changes = defaults | {each: spec for each, spec in ranges.items() if each in defaults}
    added = {each: spec for each, spec in ranges.items() if each not in defaults}
    known = [*defaults, *objective._known_names()]
    for each in added.keys() - set(known):
        meant = meant_name(each, known)
        if meant is not None:
            raise InvalidArgument(
                f"`contenders` must name parameters of the objective, got {each!r} for {name!r}. "
                f"Did you mean {meant!r}? A parameter that is meant to be new is given in a "
                "SearchSpace."
            )
        _logger.warning(
            f"Contender {name!r} tunes {each!r}, which the objective's search space has not: its "
            "trainer must read it."
        )
    return space.override(**changes) | added


def _optimizer_of(objective: Any, name: str) -> SearchSpace:
    """Return the objective's space with another optimizer in the place of its own."""
    one_of("contenders", name, OPTIMIZERS)
    space = objective.search_space
    present = space.defaults().get("optimizer")
    if present is None:
        raise InvalidArgument(
            "`objective` must have a search space with an 'optimizer' where contenders are "
            f"optimizers, got the parameters {sorted(space.defaults())}."
        )
    if "optimizer" in space.distributions():  # a choice, each with its branch
        settled: SearchSpace = space.override(optimizer=name)
        return settled
    rest: SearchSpace = space.without(optimizer_space(present).defaults())
    return rest | optimizer_space(name)


def _space_of(study: Study) -> SearchSpace:
    recipe = read_recipe(study)
    if recipe is None or recipe.search_space is None:
        raise InvalidArgument(
            f"`studies` must have been run with a search space of hpolab's, got "
            f"{study.study_name!r} without one."
        )
    return SearchSpace.from_dict(recipe.search_space)
