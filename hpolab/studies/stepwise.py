"""A sampler that moves a few parameters at a time around the best trial, then all of them.

Where a budget holds a handful of trials, a joint search spends it on configurations that differ
from a good one in everything at once. One parameter at a time, each trial costs and scores about
what the best one did, and what is gained is kept.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.entries import contains
from hpolab.search_space.places import position, value_at
from hpolab.seeding import check_seed, derive_seed
from hpolab.studies.trials import best_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["LIGHTGBM_ORDER", "StepwiseSampler"]

LIGHTGBM_ORDER: tuple[str | tuple[str, ...], ...] = (
    "num_leaves",
    ("feature_fraction", "learning_rate"),
    "num_leaves",
    "learning_rate",
    "min_data_in_leaf",
    "lambda_l2",
    "bagging_fraction",
    "lambda_l1",
)
"""What to move first where few trials fit, for `StepwiseSampler(order=...)`.

The number of leaves decides most, and which way it must go differs from table to table. Fewer
columns a tree and a smaller learning rate go together: what they gain together is more than the
chance in one trial's value. Then the leaves again, as such trees may be larger, and the learning
rate alone.
"""

_METHODS = ("bisect", "grid", "tpe")

# How much wider the gap above must be than the one below to be filled first, with `lower_first`.
_WIDER = 1.4

# Trials of a TPE stage that are drawn at random first, at most: TPE's own number.
_RANDOM_TRIALS = 10

# Where in a gap a bisecting value lies: about its middle, at another place for each seed.
_SHARE = FloatDistribution(0.4, 0.6)


@dataclass(frozen=True)
class Stage:
    """Some trials that move the same parameters.

    Attributes:
        names: The parameters that move.
        n_trials: For so many trials.
        method: How their values are drawn: one of ``_METHODS``.
    """

    names: tuple[str, ...]
    n_trials: int
    method: str


@dataclass(frozen=True)
class _Place:
    """Where a trial stands: its stage, and the trials of that stage before it."""

    stage: Stage
    index: int


@dataclass(frozen=True)
class _Move:
    """What one trial does.

    Attributes:
        place: Its stage.
        start: The best trial, which it starts from.
        steps: Trial 0, and the trials that moved one parameter alone: what else they changed does
            not blur what they tell of it.
        search_space: The start's parameters.
        distributions: Those of them that it moves.
    """

    place: _Place
    start: FrozenTrial
    steps: Sequence[FrozenTrial]
    search_space: Mapping[str, BaseDistribution]
    distributions: Mapping[str, BaseDistribution]

    def tried(self, name: str) -> list[Any]:
        """Return the values that other trials have of a parameter, inside its range."""
        values = [trial.params[name] for trial in self.steps if name in trial.params]
        return [value for value in values if contains(self.distributions[name], value)]


class StepwiseSampler(BaseSampler):
    """Tunes parameters step by step around the best trial so far, then all of them together.

    Trial 0 is the start: under `hpolab.run` the space's defaults, otherwise a random draw. Each
    trial of a stage holds the best trial so far but for the stage's own parameters. When the
    stages are over, TPE draws whole configurations from all that was learned.

    Without ``stages``, each parameter of the study is a stage of one trial, in the order of
    ``order``, the rest following as the trials suggest them. Its value is about the middle of the
    widest gap between the ends of the range and what trials that moved it alone have tried; the
    gaps beside the best trial's value count twice. So long moves come first, and one unlucky trial
    does not close a part of the range for good. Behind the last stage, every other trial goes on
    with these moves, in the same order, and those between are TPE's.

    Everything is derived from the study's trials, the trial's number and ``seed``, so that a
    study killed and resumed repeats the uninterrupted one. Trials that other workers are running
    count as tried; pruned, failed and infeasible ones too, but never as the best.

    Args:
        stages: What moves, for how many trials: (name or names, trials) or (name, trials,
            method). The method is ``"tpe"`` (the default: a TPE over these parameters, the first
            half of the trials drawn at random, as far as ten), ``"grid"`` (evenly spaced over the
            range, both ends included, but for the value that the best trial has already) or
            ``"bisect"`` (as above). A stage of which the best trial has no parameter draws all.
        order: Without ``stages``: the parameters that move first, each as often as it is named,
            those in a tuple together. A name that the study does not have is passed over.
        lower_first: Whether bisection fills the lower one of gaps that are about as wide (up to
            1.4 times): for parameters whose lower values train faster or do less harm.
        seed: Seeds every draw, 0 or above.

    Raises:
        InvalidArgument: If both ``stages`` and ``order`` are given, a stage is empty, its method
            is unknown, a grid has several parameters, or ``seed`` is below 0.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     x = trial.suggest_float("x", -1, 1)
        ...     y = trial.suggest_float("y", -1, 1)
        ...     return x**2 + y**2
        >>> sampler = StepwiseSampler(stages=[("x", 3, "grid"), ("y", 2, "bisect")])
        >>> study = optuna.create_study(sampler=sampler)
        >>> study.enqueue_trial({"x": 0.5, "y": 0.5})
        >>> study.optimize(objective, n_trials=6)
        >>> [trial.params["x"] for trial in study.trials]
        [0.5, -1.0, 0.0, 1.0, 0.0, 0.0]
    """

    @checks_keywords()
    def __init__(
        self,
        *,
        stages: Sequence[tuple[Any, ...]] | None = None,
        order: Sequence[str | tuple[str, ...]] = (),
        lower_first: bool = False,
        seed: int = 0,
    ) -> None:
        if stages is not None and order:
            raise InvalidArgument(
                f"`order` must not be given beside `stages`, which has its own, got {order!r}"
            )
        for argument, value in (("stages", stages), ("order", order)):
            if value is not None and not isinstance(value, list | tuple):
                raise InvalidType(f"`{argument}` must be a list, got {value!r}")
        self._stages = None if stages is None else tuple(map(_stage_of, stages))
        self._order = tuple(_stage(names, 1, "bisect") for names in order)
        if not isinstance(lower_first, bool):
            raise InvalidType(f"`lower_first` must be a bool, got {type(lower_first).__name__}.")
        self._lower_first = lower_first
        self._seed = check_seed(seed)
        # As text, so that the study's recipe holds it: another order on resume is another sampler.
        self._steps = f"{stages=}, {order=}"

    def __repr__(self) -> str:
        how = f"{self._steps}, lower_first={self._lower_first}"
        return f"StepwiseSampler({how}, seed={self._seed})"

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the best trial's parameters in a stage, and TPE's search space behind the last."""
        move = self._move(study, trial)
        if move is None:
            return self._tpe(trial).infer_relative_search_space(study, trial)
        return dict(move.search_space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the best trial's values but for what the stage moves, or TPE's draw."""
        move = self._move(study, trial)
        if move is None:
            return self._tpe(trial).sample_relative(study, trial, search_space)
        held = {
            name: move.start.params[name]
            for name, distribution in search_space.items()
            if name in move.start.params and contains(distribution, move.start.params[name])
        }
        drawn = held | self._draw(study, trial, move)
        # A trial that has ended since the search space was inferred may have made another move.
        return {name: value for name, value in drawn.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the value of the best trial that has the parameter, or TPE's draw.

        Trial 0 comes here, a parameter whose range has changed, and one of a branch that the best
        trial does not have.
        """
        move = self._move(study, trial)
        if move is not None and param_name not in move.distributions:
            having = [
                other
                for other in _others(study, trial)
                if param_name in other.params
                and contains(param_distribution, other.params[param_name])
            ]
            best = best_of(having, study.direction)
            if best is not None:
                return best.params[param_name]
        tpe = self._tpe(trial, param_name)
        return tpe.sample_independent(study, trial, param_name, param_distribution)

    def _move(self, study: Study, trial: FrozenTrial) -> _Move | None:
        """Return what a trial moves, or None where it is not a step from the best trial."""
        if len(study.directions) > 1:
            raise InvalidArgument(
                "`StepwiseSampler` needs a study with one objective value, got one with "
                f"{len(study.directions)}: it steps from the best trial"
            )
        others = _others(study, trial)
        start = best_of(others, study.direction) or _first_running(others)
        if start is None:
            return None
        ranges = _newest_distributions(others)
        plan = self._plan(ranges)
        place = self._place(plan, trial.number)
        if place is None:
            return None
        search_space = {name: ranges[name] for name in start.params}
        moved = {
            name: search_space[name]
            for name in place.stage.names
            if name in search_space and not search_space[name].single()
        }
        # Without any, the trial would be the best one over again.
        if not moved:
            return None
        alone = [
            other
            for other in others
            if other.number == 0 or len(self._names_moved(plan, other.number)) == 1
        ]
        return _Move(place, start, alone, search_space, moved)

    def _place(self, plan: Sequence[Stage], number: int) -> _Place | None:
        place = _place(plan, number)
        return _further_place(plan, number) if place is None and self._stages is None else place

    def _names_moved(self, plan: Sequence[Stage], number: int) -> tuple[str, ...]:
        """Return what a trial has moved alone or together; nothing of a joint draw."""
        place = self._place(plan, number)
        return () if place is None else place.stage.names

    def _plan(self, ranges: Mapping[str, BaseDistribution]) -> tuple[Stage, ...]:
        if self._stages is not None:
            _warn_of_unknown(_names(self._stages) - ranges.keys())
            return self._stages
        movable = [name for name, distribution in ranges.items() if not distribution.single()]
        first = tuple(stage for stage in self._order if not set(movable).isdisjoint(stage.names))
        rest = [name for name in movable if name not in _names(first)]
        return first + tuple(Stage((name,), 1, "bisect") for name in rest)

    def _draw(self, study: Study, trial: FrozenTrial, move: _Move) -> dict[str, Any]:
        stage, index = move.place.stage, move.place.index
        if stage.method == "tpe" and index >= min(stage.n_trials // 2, _RANDOM_TRIALS):
            return self._tpe(trial).sample_relative(study, trial, dict(move.distributions))
        return {
            name: self._value(study, trial, move, name, distribution)
            for name, distribution in move.distributions.items()
        }

    def _value(
        self,
        study: Study,
        trial: FrozenTrial,
        move: _Move,
        name: str,
        distribution: BaseDistribution,
    ) -> Any:
        """Return one parameter's value in a stage, but for what its TPE draws."""
        stage, held = move.place.stage, move.start.params[name]
        random = RandomSampler(seed=derive_seed(self._seed, trial.number, name))
        value = None
        if stage.method == "grid":
            value = _grid_value(distribution, move.place.index, stage.n_trials)
        if stage.method != "tpe" and value in (None, held):
            share = random.sample_independent(study, trial, "share", _SHARE)
            wider = _WIDER if self._lower_first else 1.0
            value = _bisected(distribution, held, move.tried(name), share, wider)
        if value is None:
            value = random.sample_independent(study, trial, name, distribution)
        return value

    def _tpe(self, trial: FrozenTrial, *path: str) -> TPESampler:
        return TPESampler(n_startup_trials=0, seed=derive_seed(self._seed, trial.number, *path))


def _stage_of(spec: Any) -> Stage:
    """Return what a user's tuple stands for."""
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise InvalidType(
            "a stage must be (name or names, trials) or (name or names, trials, method), "
            f"got {spec!r}"
        )
    return _stage(*spec)


def _stage(names: Any, n_trials: Any, method: Any = "tpe") -> Stage:
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidType(f"a stage must move a name or a tuple of names, got {names!r}")
    if not names:
        raise InvalidArgument("a stage must name a parameter, got ()")
    check_count("n_trials", n_trials)
    one_of("method", method, _METHODS)
    if method == "grid" and len(names) > 1:
        raise InvalidArgument(f"a stage of method 'grid' must move one parameter, got {names!r}")
    return Stage(names, n_trials, method)


def _place(plan: Iterable[Stage], number: int) -> _Place | None:
    """Return the stage of trial ``number``, None behind the last; trial 0 is in none."""
    index = number - 1
    for stage in plan:
        if 0 <= index < stage.n_trials:
            return _Place(stage, index)
        index -= stage.n_trials
    return None


def _further_place(plan: Sequence[Stage], number: int) -> _Place | None:
    """Return every other trial's stage behind the last one: the stages of one trial over again."""
    turn, is_joint = divmod(number - 1 - len(plan), 2)
    return None if is_joint or not plan else _Place(plan[turn % len(plan)], 0)


def _others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]


def _first_running(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Return what another worker has begun with, so that the first trials step from it already."""
    running = (t for t in trials if t.state == TrialState.RUNNING and t.params)
    return next(running, None)


def _newest_distributions(trials: Iterable[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Return each parameter's latest range, in the order in which the trials suggested them."""
    newest: dict[str, BaseDistribution] = {}
    for trial in trials:
        newest.update(trial.distributions)
    return newest


def _names(stages: Iterable[Stage]) -> set[str]:
    return {name for stage in stages for name in stage.names}


def _warn_of_unknown(names: Iterable[str]) -> None:
    if names:
        warnings.warn(
            f"`stages` of `StepwiseSampler` has {', '.join(map(repr, sorted(names)))}, which no "
            "trial of the study has had yet: a stage without any other draws all parameters",
            stacklevel=2,
        )


def _grid_value(distribution: BaseDistribution, index: int, n_values: int) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[index % len(distribution.choices)]
    return value_at(distribution, index / max(1, n_values - 1))


def _bisected(
    distribution: BaseDistribution, held: Any, tried: Iterable[Any], share: float, wider: float
) -> Any:
    """Return a value in the widest gap between those tried, or None if there is no new one.

    The two gaps beside ``held`` count twice their width: more is to be found there.

    Args:
        distribution: The parameter's range.
        held: The best trial's value.
        tried: The values tried so far.
        share: How far into the gap the new value lies, 0 to 1.
        wider: The lowest gap is taken of those that the widest is not wider than, so many times.
    """
    if isinstance(distribution, CategoricalDistribution):
        new = [choice for choice in distribution.choices if choice not in tried]
        return new[0] if new else None
    here = position(distribution, held)
    positions = sorted({0.0, 1.0, here, *(position(distribution, value) for value in tried)})
    widths = {
        gap: (gap[1] - gap[0]) * (2 if here in gap else 1) for gap in itertools.pairwise(positions)
    }
    low, high = next(gap for gap, width in widths.items() if wider * width >= max(widths.values()))
    value = value_at(distribution, low + share * (high - low))
    return None if value in tried else value
