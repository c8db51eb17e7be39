"""compare(): the same budget for each contender, in a study of its own, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from hpolab.analysis.leads import Lead, leads_of
from hpolab.errors import (
    Diverged,
    InvalidArgument,
    InvalidType,
    StudyNotFound,
    check_count,
    one_of,
)
from hpolab.objectives.base import Objective
from hpolab.running.run import run
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.seeding import derive_seed
from hpolab.storage.url import open_storage
from hpolab.studies.export import as_overrides
from hpolab.studies.recipe import read_recipe
from hpolab.studies.study import make_study, stored_study
from hpolab.studies.trials import best_of, best_trial
from hpolab.torch.optimizers import OPTIMIZERS, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.storages import BaseStorage

__all__ = ["Comparison", "Contender", "compare", "load_comparison"]

_CONTENDER_KEY = "hpolab:contender"
_TEST_KEY = "hpolab:test"


@dataclass(frozen=True)
class Contender:
    """One side of a comparison and what its study has come to.

    Attributes:
        name: Its name, such as "adamw".
        study: Its study.
        values: The trials' values in order of number, (n,), NaN where a trial has none.
        default_value: The value of the default configuration, trial 0; None if it has none.
        best_value: The best value; None if no trial is complete.
        best_params: Its configuration, in the trainer's units; None likewise.
        test: Scores on the test data of the best configuration, one for each fresh seed; NaN where
            the training diverged.
    """

    name: str
    study: Study = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    default_value: float | None
    best_value: float | None
    best_params: Mapping[str, Any] | None
    test: tuple[float, ...] = ()

    def values_by(self, parameter: str) -> tuple[list[Any], NDArray[np.float64]]:
        """Return a parameter of all complete trials that have it, in the trainer's units, and the
        trials' values."""
        space = _space_of(self.study)
        rows = [
            (space.from_trial(trial.params).get(parameter), trial.value)
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]
        rows = [row for row in rows if row[0] is not None]
        return [row[0] for row in rows], np.array([row[1] for row in rows])


@dataclass(frozen=True)
class Comparison:
    """What a comparison has found; ``str()`` of it is a table for the terminal.

    Attributes:
        name: Its name.
        direction: "minimize" or "maximize".
        contenders: By name, in the order they were given.
    """

    name: str
    direction: str
    contenders: Mapping[str, Contender]

    @classmethod
    def of(cls, name: str, studies: Mapping[str, Study]) -> Comparison:
        """Return a comparison of studies that are there, whatever made them so.

        Whether they had the same budget, data and metric is up to the caller; `compare` sees to it.

        Args:
            name: What to call it.
            studies: Contender -> its study, run with a search space of hpolab's.

        Raises:
            InvalidArgument: If there is no study, one has no search space stored, or directions
                differ.

        Example:
            >>> from hpolab import make_study, run
            >>> from hpolab import FunctionObjective
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
        return cls(name=name, direction=direction.name.lower(), contenders=contenders)

    def ranking(self) -> list[Contender]:
        """Return the contenders, the best value first; those without a value are last."""
        return sorted(self.contenders.values(), key=lambda each: self._loss(each.best_value))

    def leads(self) -> tuple[Lead, ...]:
        """Return by how much the first of the ranking is better than each other on the test data.

        The ranking goes by the trials' values, not by the test scores, so that no lead is chosen
        for its size. Paired seed by seed; without those that were not scored on the same seeds.
        """
        leader = self.ranking()[0].name
        scores = {name: each.test for name, each in self.contenders.items()}
        return leads_of(scores, leader, maximize=self.direction == "maximize")

    @property
    def verdict(self) -> str:
        """Whether the leader is better than the others on the test data; "" without test scores."""
        leads, leader = self.leads(), self.ranking()[0]
        n_lost, n = sum(map(math.isnan, leader.test)), len(leader.test)
        if n_lost:
            return f"{leader.name} diverged on {n_lost} of {n} seeds: it has no lead."
        if not leads:
            return ""
        words = "; it ".join(map(str, leads))
        after = f", p after Holm's correction for {len(leads)}" if len(leads) > 1 else ""
        return f"On the test data {leader.name} {words} ({n} seeds{after})."

    def best_so_far(self, name: str) -> NDArray[np.float64]:
        """Return the best value after 1, 2, ... trials of a contender; NaN before the first."""
        values = self._contender(name).values
        best = np.fmax if self.direction == "maximize" else np.fmin
        return best.accumulate(values) if len(values) else values

    def best_of_budget(
        self, name: str, budget: int, quantiles: Sequence[float] = (0.05, 0.5, 0.95)
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the expected best value of so many trials, and quantiles of it.

        Over all subsets of the trials that have run, each as likely, without replacement and
        exactly: of n values in order, the i-th is the best of b with probability
        C(i - 1, b - 1) / C(n, b). For random search it is what another study of b trials would
        give (Dodge et al. 2019, "Show Your Work", EMNLP, with replacement there); a sampler that
        learns does better late than early, so that it is only a guide there.

        Args:
            name: The contender.
            budget: Trials, 1 to those that have a value or none by themselves.
            quantiles: Which ones, in [0, 1].

        Raises:
            InvalidArgument: If the name is unknown, or the contender has fewer trials, or no value.
        """
        values, chances = self._best_of(self._contender(name), budget)
        reached = np.cumsum(chances)
        places = np.searchsorted(reached, np.asarray(quantiles) - 1e-12)
        return float(values @ chances), values[np.minimum(places, len(values) - 1)]

    def winners(self, budget: int) -> dict[str, float]:
        """Return how likely each contender would have won with so many trials: name -> chance.

        As `best_of_budget`, each contender's trials drawn by themselves; equal values share.

        Args:
            budget: Trials of each.
        """
        drawn = {each.name: self._best_of(each, budget) for each in self.contenders.values()}
        sign = 1.0 if self.direction == "maximize" else -1.0
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

    def __str__(self) -> str:
        head = f"{'':16}{'trials':>7}{'default':>12}{'best':>12}{'test':>22}  best parameters"
        rows = [
            f"{each.name:16}{len(each.values):7}{_number(each.default_value):>12}"
            f"{_number(each.best_value):>12}{_mean_and_error(each.test):>22}  "
            f"{_brief(each)}"
            for each in self.ranking()
        ]
        said = ["", self.verdict] if self.verdict else []
        return "\n".join([head, *rows, *said])

    def _contender(self, name: str) -> Contender:
        return self.contenders[one_of("name", name, self.contenders)]

    def _loss(self, value: float | None) -> float:
        if value is None:
            return np.inf
        return -value if self.direction == "maximize" else value

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


def compare(
    objective: Objective | None,
    contenders: Sequence[str] | Mapping[str, SearchSpace | Mapping[str, Any] | Objective],
    *,
    n_trials: int,
    storage: str | BaseStorage | None = None,
    name: str = "comparison",
    test: Any = None,
    n_test_seeds: int = 3,
    sampler: Any = None,
    pruner: Any = None,
    seed: int = 0,
    n_workers: int = 1,
    show_progress_bar: bool | None = None,
) -> Comparison:
    """Give each contender a study of its own, and all the same number of trials.

    Each has its own search space and its default configuration as trial 0; splits, epochs and all
    else of the objective are the same. Started again it goes on where it was, study by study.

    Args:
        objective: What is trained. With names of optimizers its search space holds an optimizer,
            in whose place each of them is put, with its own space; None where the contenders are
            objectives.
        contenders: Names of `OPTIMIZERS`, or name -> search space, or name -> objective. A dict of
            ranges, such as ``{"lr": (1e-4, 1e-2)}``, is the objective's search space with these
            tuned and all else at its default.
        n_trials: Trials of each contender, 1 or above.
        storage: As in `make_study`.
        name: The comparison's name: its studies are called ``name-contender``.
        test: Data that no trial has read, as the objective's `evaluate` takes it: each contender's
            best configuration is trained again and scored on it. None leaves that out.
        n_test_seeds: Fresh seeds of that, the same for all contenders.
        sampler: As in `make_study`, or contender -> sampler, where ways to search are compared.
        pruner: As in `make_study`.
        seed: Seeds all studies: contenders meet the same trainings' seeds.
        n_workers: Processes to run trials in.
        show_progress_bar: As in `run`.

    Raises:
        InvalidArgument: If a name is unknown, a space holds no optimizer to be replaced, or the
            directions of objectives differ.
        InvalidType: If an argument is of the wrong type.

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
        ...     n_trials=20, storage="memory://", show_progress_bar=False,
        ... )
        >>> [each.name for each in comparison.ranking()]
        ['whole', 'half']
    """
    check_count("n_test_seeds", n_test_seeds)
    objectives = _objectives(objective, contenders)
    opened = open_storage(storage)
    studies = {}
    for place, (contender, each) in enumerate(objectives.items()):
        studies[contender] = study = make_study(
            f"{name}-{contender}",
            storage=opened,
            objective=each,
            sampler=sampler.get(contender) if isinstance(sampler, dict) else sampler,
            pruner=pruner,
            seed=seed,
        )
        mark = {"comparison": name, "contender": contender, "place": place}
        if study.user_attrs.get(_CONTENDER_KEY) != mark:
            study.set_user_attr(_CONTENDER_KEY, mark)
        run(
            study,
            each,
            n_trials=n_trials,
            n_workers=n_workers,
            show_progress_bar=show_progress_bar,
        )
    if test is not None:
        for contender, each in objectives.items():
            _score_best(studies[contender], each, test, n_test_seeds, seed)
    return Comparison.of(name, studies)


def load_comparison(name: str, *, storage: str | BaseStorage | None = None) -> Comparison:
    """Return a comparison as it stands in a storage, to be read.

    Args:
        name: Its name.
        storage: As in `make_study`.

    Raises:
        StudyNotFound: If the storage has no study of such a comparison.
    """
    import optuna

    opened = open_storage(storage)
    found = {}
    for summary in optuna.get_all_study_summaries(opened, include_best_trial=False):
        mark = summary.user_attrs.get(_CONTENDER_KEY)
        if mark is not None and mark["comparison"] == name:
            found[mark["place"], mark["contender"]] = summary.study_name
    if not found:
        raise StudyNotFound(f"No comparison {name!r} in the storage.")
    studies = {key: stored_study(found[place, key], opened) for place, key in sorted(found)}
    return Comparison.of(name, studies)


def _chances_of_best(n: int, budget: int) -> NDArray[np.float64]:
    """Return how likely each of n values, in rising order, is the best of a subset."""
    from scipy.special import gammaln

    places = np.arange(1, n + 1, dtype=np.float64)
    # C(i - 1, b - 1) / C(n, b) by logarithms; below b values there is no such subset.
    log = gammaln(places) - gammaln(np.maximum(places - budget + 1, 1)) - gammaln(budget)
    total = gammaln(n + 1) - gammaln(n - budget + 1) - gammaln(budget + 1)
    return np.where(places >= budget, np.exp(log - total), 0.0)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _mean_and_error(scores: Sequence[float]) -> str:
    if len(scores) < 2:
        return _number(scores[0]) if scores else "-"
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    return f"{np.mean(scores):.5g} ± {error:.2g}"


def _brief(contender: Contender) -> str:
    """Return the best configuration's tuned parameters on one line."""
    if contender.best_params is None:
        return "no trial is complete"
    params = contender.best_params
    names = _space_of(contender.study).names().values()
    shown = {name: params[name] for name in names if name in params}
    return ", ".join(as_overrides(shown, digits=3))


def _contender(name: str, study: Study) -> Contender:
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.is_finished()]
    values = [trial.value if trial.state == TrialState.COMPLETE else None for trial in finished]
    best = best_of(trials, study.direction)
    stored = study.user_attrs.get(_TEST_KEY, {})
    of_best = stored.get(str(best.number), {}) if best is not None else {}
    return Contender(
        name=name,
        study=study,
        values=np.array(values, dtype=np.float64),
        default_value=values[0] if values else None,
        best_value=None if best is None else best.value,
        best_params=None if best is None else _space_of(study).from_trial(best.params),
        test=tuple(math.nan if score is None else score for score in of_best.values()),
    )


def _score_best(study: Study, objective: Objective, test: Any, n_seeds: int, seed: int) -> None:
    """Train the best configuration on fresh seeds and store its scores, each as it comes."""
    best = best_trial(study)
    if best is None:
        return
    params = objective.search_space.from_trial(best.params)
    stored = study.user_attrs.get(_TEST_KEY, {})
    scores = dict(stored.get(str(best.number), {}))
    for place in range(n_seeds):
        if str(place) not in scores:
            scores[str(place)] = _score(objective, params, test, derive_seed(seed, place, "test"))
            study.set_user_attr(_TEST_KEY, {**stored, str(best.number): scores})


def _score(objective: Objective, params: Mapping[str, Any], test: Any, seed: int) -> float | None:
    """Return the first metric on the test data; None if the training diverges."""
    try:
        model = objective.fit(params, seed)
    except Diverged:
        return None
    return next(iter(objective.evaluate(model, test).values()))


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
            each = _tuning_only(objective.search_space, each)
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


def _tuning_only(space: SearchSpace, ranges: Mapping[str, Any]) -> SearchSpace:
    """Return a space in which ``ranges`` are tuned and all else stays at its default."""
    if space.conditional:  # no name says which branch is meant
        return as_space("contenders", ranges)
    defaults = space.defaults()
    changes = defaults | {name: spec for name, spec in ranges.items() if name in defaults}
    added = {name: spec for name, spec in ranges.items() if name not in defaults}
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
