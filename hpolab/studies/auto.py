"""The sampler for whoever does not want to choose one: a good start, then a model of the study.

Trial 0 is the default configuration, the next ones lie spread over the search space, and then a
Gaussian process takes over. It is told what Optuna's GP is not: of trials that were pruned or that
diverged, of losses on any scale, and of parameters that only some branches have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import check_count, check_installed
from hpolab.keywords import checks_keywords
from hpolab.search_space.entries import contains
from hpolab.search_space.places import value_at
from hpolab.search_space.reach import conditions_of
from hpolab.search_space.space import as_space
from hpolab.seeding import check_seed, derive_seed
from hpolab.studies.scores import conditions_seen, scores_of
from hpolab.studies.shown import shown_to
from hpolab.studies.trust import with_learned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from hpolab._optuna_gp import Conditions
    from hpolab.search_space.space import SearchSpace

__all__ = ["GP_PACKAGES", "AutoSampler"]

GP_PACKAGES = ("torch", "greenlet")
"""What Optuna's Gaussian process runs on; without greenlet it draws other trials than with it."""


class AutoSampler(BaseSampler):
    """Starts from the defaults, spreads some trials, then draws from a Gaussian process.

    1. Trial 0 is the search space's default configuration, where the space is known.
    2. The trials below ``n_startup_trials`` are points of a scrambled Sobol sequence; a parameter
       with a prior is drawn from it instead in every third of them.
    3. The trials below ``max_gp_trials`` go where a Gaussian process of Optuna's expects the most.
       It is told of every finished trial that has something to say: a pruned one by its last
       report, carried on as complete trials went on from there; one that diverged or ran out of
       memory as the worst. The worst lies little below the median, so that a loss of 1e7 among
       those around 1 does not hide what differs between these. A parameter of a branch counts
       where its branch is chosen. It keeps away from what other workers are running. The search
       begins near the space's priors and where earlier studies (``make_study(learn_from=...)``)
       were good, as far as these foresee how the trials rank; both count for less with each trial.
    4. Later ones are TPE's, as the model's cost grows with the third power of the trials. So are
       all trials of a study with several objective values.

    All is derived from the study's trials, the trial's number and ``seed``, so that a study killed
    and resumed repeats the uninterrupted one.

    Args:
        search_space: The space, for its defaults, its priors and its branches. What it lacks is
            taken from the trials so far, the first of which draws it at random.
        n_startup_trials: Trials before the model's first one, enqueued ones included.
        max_gp_trials: Trials before TPE's first one.
        seed: Seeds every draw, 0 or above.

    Raises:
        InvalidArgument: If a count or the seed is below 0.
        InvalidType: If an argument is of the wrong type.
        MissingExtra: If PyTorch or greenlet, which the model runs on, is not installed.

    Example:
        >>> import optuna
        >>> from hpolab import SearchSpace
        >>> space = SearchSpace({"lr": (1e-4, 1.0, "log")}, defaults={"lr": 1e-3})
        >>> study = optuna.create_study(sampler=AutoSampler(search_space=space))
        >>> study.optimize(lambda trial: space.suggest(trial)["lr"], n_trials=2)
        >>> study.trials[0].params
        {'lr': 0.001}
    """

    @checks_keywords()
    def __init__(
        self,
        *,
        search_space: SearchSpace | Mapping[str, Any] | None = None,
        n_startup_trials: int = 8,
        max_gp_trials: int = 250,
        seed: int = 0,
    ) -> None:
        check_installed("`AutoSampler`", GP_PACKAGES, "torch")
        self._space = None if search_space is None else as_space("search_space", search_space)
        check_count("n_startup_trials", n_startup_trials, low=0)
        check_count("max_gp_trials", max_gp_trials, low=0)
        self._n_startup_trials, self._max_gp_trials = n_startup_trials, max_gp_trials
        self._seed = check_seed(seed)

    def __repr__(self) -> str:
        counts = f"{self._n_startup_trials}, max_gp_trials={self._max_gp_trials}"
        return f"AutoSampler(n_startup_trials={counts}, seed={self._seed})"

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all parameters, those of every branch included; behind the model, TPE's."""
        if self._is_for_tpe(study, trial):
            tpe = self._tpe(trial)
            return tpe.infer_relative_search_space(shown_to(tpe, study), trial)
        whole = _optuna.without_bracket(study)
        ranges = {} if self._space is None else self._space.distributions()
        ranges = ranges | {k: each for k, each in _newest(whole).items() if k not in ranges}
        return {name: each for name, each in ranges.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the default configuration, a spread draw, the model's, or TPE's."""
        if self._is_for_tpe(study, trial):
            tpe = self._tpe(trial)
            return tpe.sample_relative(shown_to(tpe, study), trial, search_space)
        if not search_space:
            return {}
        study = _optuna.without_bracket(study)  # Hyperband would show the trials of one bracket
        if trial.number == 0 and self._space is not None:
            return self._space.to_trial(self._space.defaults())
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        scores = scores_of(others, study.direction)
        told = {
            other.number: params
            for other in others
            if other.number in scores and (params := _within(search_space, other)) is not None
        }
        # Of equal scores the model would learn nothing, and draw the same ones for ever.
        is_flat = len({scores[number] for number in told}) < 2
        if trial.number < self._n_startup_trials or is_flat:
            return self._spread(search_space, trial.number)
        from hpolab._optuna_gp import draw_by_gp

        running = [_within(search_space, t) for t in others if t.state == _RUNNING]
        return draw_by_gp(
            search_space,
            list(told.values()),
            [scores[number] for number in told],
            running=[params for params in running if params],
            conditions=self._conditions(list(told.values()), search_space),
            priors=with_learned(self._priors(search_space), study, search_space),
            seed=derive_seed(self._seed, trial.number),
        )

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value, or TPE's, of a parameter that the relative draw does not have."""
        if self._is_for_tpe(study, trial):
            tpe = self._tpe(trial, param_name)
            seen = shown_to(tpe, study)
            return tpe.sample_independent(seen, trial, param_name, param_distribution)
        random = RandomSampler(seed=derive_seed(self._seed, trial.number, param_name))
        return random.sample_independent(study, trial, param_name, param_distribution)

    def with_search_space(self, search_space: SearchSpace) -> AutoSampler:
        """Return the sampler for another space, such as one whose ranges have become wider."""
        return AutoSampler(
            search_space=search_space,
            n_startup_trials=self._n_startup_trials,
            max_gp_trials=self._max_gp_trials,
            seed=self._seed,
        )

    def _is_for_tpe(self, study: Study, trial: FrozenTrial) -> bool:
        return trial.number >= self._max_gp_trials or len(study.directions) > 1

    def _tpe(self, trial: FrozenTrial, *path: str) -> TPESampler:
        return TPESampler(seed=derive_seed(self._seed, trial.number, *path))

    def _spread(self, ranges: Mapping[str, BaseDistribution], number: int) -> dict[str, Any]:
        """Return the point of a scrambled Sobol sequence that belongs to a trial."""
        from scipy.stats.qmc import Sobol

        points = Sobol(len(ranges), scramble=True, seed=derive_seed(self._seed, "spread"))
        shares = points.fast_forward(number).random(1)[0]
        priors = self._priors(ranges) if number % 3 == 1 else {}
        return {
            name: _drawn(each, float(share), priors.get(name))
            for (name, each), share in zip(ranges.items(), shares, strict=True)
        }

    def _conditions(
        self, tried: Sequence[Mapping[str, Any]], ranges: Mapping[str, BaseDistribution]
    ) -> Conditions:
        known = {} if self._space is None else conditions_of(self._space)
        return known if ranges.keys() <= known.keys() else conditions_seen(tried, ranges) | known

    def _priors(self, ranges: Mapping[str, BaseDistribution]) -> dict[str, tuple[float, float]]:
        """Return the mean and standard deviation of each prior where its range is 0 to 1."""
        space = self._space
        if space is None:
            return {}
        return {
            name: prior.in_unit_interval(ranges[name], is_one_minus=space.is_one_minus(name))
            for name, prior in space.priors().items()
            if name in ranges
        }


_RUNNING = TrialState.RUNNING


def _newest(study: Study) -> dict[str, BaseDistribution]:
    """Return each parameter's latest range, by the parameters' names."""
    newest: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            newest.update(trial.distributions)
    return dict(sorted(newest.items()))


def _within(ranges: Mapping[str, BaseDistribution], trial: FrozenTrial) -> dict[str, Any] | None:
    """Return a trial's params without those of other spaces; None if one is outside its range."""
    known = {name: value for name, value in trial.params.items() if name in ranges}
    for name, value in known.items():
        # Most trials have the ranges of now: to ask Optuna takes as long as a draw for all of them.
        if trial.distributions[name] != ranges[name] and not contains(ranges[name], value):
            return None
    return known


def _drawn(distribution: BaseDistribution, share: float, prior: tuple[float, float] | None) -> Any:
    """Return the value below which a share of all draws lies, of the range or of a prior."""
    if prior is not None:
        from scipy.stats import truncnorm

        mean, std = prior
        share = float(truncnorm.ppf(share, -mean / std, (1 - mean) / std, mean, std))
    elif isinstance(distribution, IntDistribution) and not distribution.log:
        # Each whole number has its share; rounding would give half of one to both ends.
        n_steps = (distribution.high - distribution.low) // distribution.step
        share = min(int(share * (n_steps + 1)), n_steps) / n_steps
    return value_at(distribution, share)
