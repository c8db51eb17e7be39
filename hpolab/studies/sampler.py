"""Samplers by name, and the wrapper that makes a resumed study repeat the uninterrupted one."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.samplers import BaseSampler

from hpolab import _optuna
from hpolab.errors import InvalidArgument, check_installed, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.space import as_space
from hpolab.seeding import check_seed, derive_seed
from hpolab.studies.auto import GP_PACKAGES, AutoSampler
from hpolab.studies.shown import first_shown, shown_to
from hpolab.studies.stepwise import LIGHTGBM_ORDER, StepwiseSampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "EARLIER_SAMPLERS",
    "SAMPLERS",
    "ManualSampler",
    "SamplerFactory",
    "TrialSeededSampler",
    "make_sampler",
]

# Extra and packages. They are imported only after some trials, each of which would then fail.
_EXTRAS = {
    optuna.samplers.CmaEsSampler: ("cmaes", ["cmaes"]),
    optuna.samplers.GPSampler: ("torch", GP_PACKAGES),
}

# Points per numeric range that `sampler="grid"` lays.
_GRID_POINTS = 3


class SamplerFactory(Protocol):
    """Makes a sampler from a seed: a sampler class, or ``functools.partial`` of one."""

    def __call__(self, *, seed: int) -> BaseSampler:
        """Return a new sampler seeded with ``seed``."""
        ...


# They draw nothing before a trial and after it, so that one of them does for all trials.
_DRAW_NOTHING_BESIDE = frozenset(
    [
        optuna.samplers.TPESampler,
        optuna.samplers.RandomSampler,
        optuna.samplers.CmaEsSampler,
        optuna.samplers.GPSampler,
        optuna.samplers.NSGAIISampler,
        StepwiseSampler,
    ]
)


class TrialSeededSampler(BaseSampler):
    """Samples each trial with a fresh inner sampler seeded from (study seed, trial number).

    A sampler's random state is lost with its process, so an ordinary sampler draws other
    parameters after a restart than it would have drawn without. Here nothing is carried from one
    trial to the next but what the storage holds, so a study that stops anywhere and goes on draws
    what the uninterrupted one draws. Parameters sampled one by one are seeded by their names too,
    so a trial that was requeued half-way through its suggestions draws the rest as before.

    TPE, the GP, CMA-ES and `StepwiseSampler` see a bounded set of the trials of a long study, so
    that its ten-thousandth trial costs what its thousandth did. Up to 1,000 finished trials they
    see all; beyond, TPE and `StepwiseSampler` see the best 25 and the latest 975, and CMA-ES the
    latest 1,000. The GP, whose cost grows with the third power, sees up to 500: the best 200, and
    300 that are spread over the study. Other samplers see all.

    Args:
        factory: Makes the inner sampler from a seed, e.g. ``TPESampler`` or
            ``functools.partial(TPESampler, multivariate=True)``.
        seed: The study's seed, 0 or above.
        bounded: Whether the inner sampler sees a bounded set of the trials of a long study. With
            False it sees all of them, and each trial takes longer than the one before.

    Example:
        >>> from optuna.samplers import TPESampler
        >>> sampler = TrialSeededSampler(TPESampler, seed=0)
        >>> str(sampler)
        'TrialSeededSampler(TPESampler, seed=0)'
    """

    @checks_keywords()
    def __init__(self, factory: SamplerFactory, seed: int, *, bounded: bool = True) -> None:
        self.seed = check_seed(seed)
        self.bounded = bounded
        self._factory = factory
        self._idle = factory(seed=seed)
        self._name = type(self._idle).__name__
        _require_package(self._idle, f"`{self._name}`")
        self._current = _Current()

    def __str__(self) -> str:
        return f"TrialSeededSampler({self._name}, seed={self.seed})"

    def __repr__(self) -> str:
        return str(self)

    def fresh(self, number: int, *path: int | str) -> BaseSampler:
        """Return a new inner sampler for one trial, or for one part of it."""
        return self._factory(seed=derive_seed(self.seed, number, *path))

    def _beside(self, trial: FrozenTrial, when: str) -> BaseSampler:
        """Return a sampler for what happens before a trial or after it."""
        if type(self._idle) in _DRAW_NOTHING_BESIDE:
            return self._idle
        return self.fresh(trial.number, when)

    def _seen(self, sampler: BaseSampler, study: Study) -> Study:
        return shown_to(sampler, study, bounded=self.bounded)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """See Optuna's ``BaseSampler``."""
        self._beside(trial, "before").before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """See Optuna's ``BaseSampler``."""
        # Some samplers (TPE with groups) remember between this call and `sample_relative`.
        sampler = self.fresh(trial.number)
        self._current.sampler, self._current.seen = sampler, self._seen(sampler, study)
        return sampler.infer_relative_search_space(self._current.seen, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna's ``BaseSampler``."""
        sampler, seen = self._current.sampler, self._current.seen
        self._current.sampler = self._current.seen = None
        if sampler is None or seen is None:
            sampler = self.fresh(trial.number)
            seen = self._seen(sampler, study)
        if isinstance(sampler, optuna.samplers.GPSampler):
            drawn = _optuna.gp_params_drawn(trial)
            if drawn:
                return drawn
        return sampler.sample_relative(seen, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """See Optuna's ``BaseSampler``."""
        sampler = self.fresh(trial.number, param_name)
        seen = self._seen(sampler, study)
        return sampler.sample_independent(seen, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See Optuna's ``BaseSampler``."""
        self._beside(trial, "after").after_trial(study, trial, state, values)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_current", "_idle")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _current=_Current(), _idle=state["_factory"](seed=state["seed"]))


class _Current(threading.local):
    """The inner sampler between the two calls of a trial's relative draw, and what it sees."""

    sampler: BaseSampler | None = None
    seen: Study | None = None


class ManualSampler(BaseSampler):
    """Draws nothing: every trial must be enqueued with all its parameters."""

    def __repr__(self) -> str:
        return "ManualSampler()"

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: there is nothing to draw."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing: there is nothing to draw."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse.

        Raises:
            InvalidArgument: Always: the parameter was not enqueued.
        """
        raise InvalidArgument(
            f"`sampler='manual'` draws nothing, and trial {trial.number} was enqueued without "
            f"{param_name!r}: give every parameter to `study.enqueue_trial`."
        )


class _Grid:
    """Makes the same grid for every trial: its shuffle must not change from trial to trial."""

    def __init__(self, points: Mapping[str, Sequence[Any]], seed: int) -> None:
        self._points = points
        self._seed = seed

    def __call__(self, *, seed: int) -> BaseSampler:
        return _GridSampler(self._points, seed=self._seed)


class _GridSampler(optuna.samplers.GridSampler):
    """Optuna's grid, which fails on an enqueued trial once one point is left to visit."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        # An enqueued trial stands on no point of the grid and cannot exhaust it.
        if "grid_id" in trial.system_attrs:
            super().after_trial(study, trial, state, values)


class _QMCSampler(_optuna.NumberedQMCSampler):
    """Takes its search space from the first trial, without reading them all for each new one."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(first_shown(study), trial)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        seen = first_shown(study)
        return super().sample_independent(seen, trial, param_name, param_distribution)


def _stepwise_for_lightgbm(*, seed: int) -> BaseSampler:
    return StepwiseSampler(order=LIGHTGBM_ORDER, lower_first=True, seed=seed)


SAMPLERS: Mapping[str, SamplerFactory] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "brute_force": optuna.samplers.BruteForceSampler,
    "stepwise": StepwiseSampler,
    "lightgbm": _stepwise_for_lightgbm,
}
"""The samplers that `TrialSeededSampler` wraps, by name."""

EARLIER_SAMPLERS: Mapping[str, SamplerFactory] = {
    "lightgbm": partial(
        StepwiseSampler,
        order=(
            ("feature_fraction", "num_leaves"),
            "feature_fraction",
            "learning_rate",
            "num_leaves",
            "lambda_l2",
            "min_data_in_leaf",
            "bagging_fraction",
            "lambda_l1",
        ),
    )
}
"""What a name stood for in hpolab 0.1.0: a study made with it goes on with it."""


@checks_keywords()
def make_sampler(
    sampler: str | BaseSampler | SamplerFactory,
    *,
    seed: int,
    search_space: SearchSpace | Mapping[str, Any] | None = None,
) -> BaseSampler:
    """Make a sampler whose study repeats itself when resumed.

    Args:
        sampler: A name (`auto`, `tpe`, `random`, `cmaes`, `gp`, `nsga2`, `brute_force`, `stepwise`,
            `qmc`, `grid`, `manual`), a factory called as ``factory(seed=...)`` (a sampler class or
            a ``functools.partial`` of one), or a sampler object, which is used as it is and keeps
            its own random state, so that a resumed study goes on but does not repeat. By name or
            factory, TPE and the GP see a bounded set of a long study's trials; see
            `TrialSeededSampler`, whose ``bounded=False`` shows them all.
        seed: The study's seed, 0 or above.
        search_space: What `grid` lays its points on, and what `auto` takes defaults, priors and
            branches from; unused otherwise.

    Returns:
        The sampler. `qmc` and `grid` keep the study's seed for all trials: a trial's number is
        its place in the sequence or the grid.

    Raises:
        InvalidArgument: If the name is unknown, or `grid` comes without a search space.
        MissingExtra: If the sampler's package is not installed.

    Example:
        >>> str(make_sampler("random", seed=1))
        'TrialSeededSampler(RandomSampler, seed=1)'
    """
    if isinstance(sampler, BaseSampler):
        _require_package(sampler, f"`{type(sampler).__name__}`")
        return sampler
    seed = check_seed(seed)
    if not isinstance(sampler, str):
        return TrialSeededSampler(sampler, seed)
    one_of("sampler", sampler, [*SAMPLERS, "auto", "qmc", "grid", "manual"])
    if sampler == "auto":
        return AutoSampler(search_space=search_space, seed=seed)
    if sampler == "manual":
        return ManualSampler()
    if sampler == "qmc":
        return _QMCSampler(
            seed=seed,
            scramble=True,
            independent_sampler=TrialSeededSampler(optuna.samplers.RandomSampler, seed),
        )
    if sampler == "grid":
        if search_space is None:
            raise InvalidArgument("`sampler='grid'` needs `search_space`, got None.")
        space = as_space("search_space", search_space)
        return TrialSeededSampler(_Grid(space.grid(_GRID_POINTS), seed), seed)
    _require_package(SAMPLERS[sampler](seed=seed), f"`sampler={sampler!r}`")
    return TrialSeededSampler(SAMPLERS[sampler], seed)


def _require_package(sampler: BaseSampler, what: str) -> None:
    for kind, (extra, packages) in _EXTRAS.items():
        if isinstance(sampler, kind):
            check_installed(what, packages, extra)
