"""Which parameters the values depend on: smooth effects, tested by permutations.

The later trials of a sampler that learns are better, and closer together in every parameter. So a
parameter without any effect is associated with the value, through those that have one. Here each
parameter is tested given those that were found before it, which takes this association away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import CategoricalDistribution

from hpolab.analysis.wording import p_words, percent
from hpolab.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

__all__ = ["Predictor", "SmoothEffect", "interact_given_all", "smooth_effects"]

# At most 40 MB of shuffled values.
N_PERMUTATIONS, _FEWEST_PERMUTATIONS = 999, 199
_MAX_SHUFFLED = 5_000_000
_MIN_TRIALS = 8
# Fewer trials than this have room for a line and a bend only.
_MIN_TRIALS_OF_SPLINE = 20
_N_KNOTS = 4
_MIN_RESIDUAL_FREEDOM = 4
# Values beyond so many interquartile ranges from the quartiles are outliers (Tukey 1977,
# "Exploratory data analysis"). One quartile may be so many times as far from the median as the
# other.
_FENCE, _MAX_SKEWNESS = 1.5, 3.0
# An unadjusted p-value up to this makes a parameter one that may matter.
_MAY_MATTER = 0.2
_MAX_SHARE_OF_MODEL = 2 / 3
# What is left of a column of length one, if it depends on others but for rounding.
_DEPENDENT = 1e-3
# Below this, evenly spread trials would say little; so would a fourth of the study's own.
_FEW_TRIALS, _FEW_OF_ALL = 20, 1 / 4


@dataclass(frozen=True)
class SmoothEffect:
    """A parameter's smooth effect on the value, given the parameters found before it.

    Attributes:
        explained: The share of the variance that it explains of what the parameters found before it
            leave, 0 to 1. Outliers are pulled in.
        p_value: How probable it is that any parameter explains as much by chance, if none that is
            tested with it has an effect.
        level: It is significant if its p-value is at most this.
        n_trials: The number of trials that have the parameter.
        n_evenly_spread: How many trials that are spread evenly over the range would say as much
            about it.
    """

    explained: float
    p_value: float
    level: float
    n_trials: int
    n_evenly_spread: float

    @property
    def is_significant(self) -> bool:
        """Whether the test finds an effect."""
        return self.p_value <= self.level

    @property
    def has_too_little_spread(self) -> bool:
        """Whether nothing was found and trials are too close together in it to expect that."""
        few = min(_FEW_TRIALS, _FEW_OF_ALL * self.n_trials)
        return not self.is_significant and self.n_evenly_spread < few

    def __str__(self) -> str:
        if self.has_too_little_spread:
            return (
                f"too little spread to tell ({p_words(self.p_value)}), {self.n_trials} trials say "
                f"as much as {max(1, round(self.n_evenly_spread))} spread evenly over its range"
            )
        words = "significant effect" if self.is_significant else "no significant effect"
        return f"{words} ({p_words(self.p_value)}, {percent(self.explained)} of the variance)"


@dataclass(frozen=True)
class Predictor:
    """A parameter as columns of a linear model.

    Attributes:
        name: The parameter.
        rows: The trials that have it, shape ``(n,)``, increasing.
        basis: A spline or the choices, shape ``(n, columns)``.
        place: The place within the range or the choices, shape ``(n, columns)``.
        even_variance: The variance of ``place`` if trials are spread evenly, over all columns.
    """

    name: str
    rows: NDArray[np.intp]
    basis: NDArray[np.float64]
    place: NDArray[np.float64]
    even_variance: float

    @classmethod
    def of(
        cls, name: str, distribution: BaseDistribution, value_of: Mapping[int, Any]
    ) -> Predictor:
        """Return a parameter by its range and its value in each trial that has it."""
        rows = np.array(sorted(value_of), dtype=np.intp)
        values = [value_of[row] for row in rows.tolist()]
        if isinstance(distribution, CategoricalDistribution):
            places = np.array([distribution.to_internal_repr(value) for value in values])
            choices = _indicators(places)
            n_choices = len(distribution.choices)
            return cls(name, rows, choices[:, 1:], choices, 1 - 1 / n_choices)
        scale = _unit_scale(distribution, values)
        return cls(name, rows, _spline(scale), scale[:, None], _even_variance(distribution))


def _unit_scale(distribution: Any, values: Sequence[float]) -> NDArray[np.float64]:
    """Return values within the range as 0 to 1, on the range's own scale."""
    ends = np.array([distribution.low, distribution.high], dtype=np.float64)
    found = np.array(values, dtype=np.float64)
    if distribution.log:
        ends, found = np.log(ends), np.log(found)
    places: NDArray[np.float64] = (found - ends[0]) / (ends[1] - ends[0])
    return places


def _even_variance(distribution: Any) -> float:
    """Return the variance of a uniform variable on 0 to 1, or on as many points as it has."""
    if distribution.step is None or distribution.log:
        return 1 / 12
    n_points: int = round((distribution.high - distribution.low) / distribution.step) + 1
    return (n_points + 1) / (12 * (n_points - 1))


def _indicators(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return one column for each different value, shape ``(n, values)``."""
    columns: NDArray[np.float64] = (values[:, None] == np.unique(values)).astype(np.float64)
    return columns


def _spline(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a natural cubic spline without its constant, shape ``(n, 3)`` or less.

    Knots stand at quantiles, and beyond the outer ones it is a line (Harrell 2015, "Regression
    modeling strategies", 2.4.6): trials far away from all others bend nothing.
    """
    if len(np.unique(x)) <= _N_KNOTS:
        return _indicators(x)[:, 1:]
    z: NDArray[np.float64] = (x - x.mean()) / x.std()
    knots = np.unique(np.quantile(z, np.linspace(0.05, 0.95, _N_KNOTS)))
    if len(x) < _MIN_TRIALS_OF_SPLINE or len(knots) < 3:
        return np.stack([z, z**2], axis=1)

    def cubic(knot: float) -> NDArray[np.float64]:
        beyond = np.clip(z - knot, 0, None) ** 3 - np.clip(z - knots[-1], 0, None) ** 3
        column: NDArray[np.float64] = beyond / (knots[-1] - knot)
        return column

    last = cubic(knots[-2])
    columns: NDArray[np.float64] = np.stack([z, *(cubic(k) - last for k in knots[:-2])], axis=1)
    return columns


def smooth_effects(
    predictors: Sequence[Predictor],
    values: NDArray[np.float64],
    *,
    level: float,
    seed: int,
) -> dict[str, SmoothEffect]:
    """Test which parameters the values depend on, over all parameters together.

    Values beyond one and a half interquartile ranges from the quartiles are pulled in to there, so
    that no failed trial outweighs the others. Then, step by step:

    - The parameter whose smooth effect is the clearest is compared with the clearest effect that
      any parameter has after the residuals are shuffled among the trials. If it is significant, it
      joins the model, and the others are tested given it (step-down max test: Westfall & Young
      1993, "Resampling-based multiple testing"; residuals of the reduced model: Freedman & Lane
      1983, "A nonstochastic interpretation of reported significance levels"; Winkler et al. 2014,
      "Permutation inference for the general linear model").
    - A parameter so found must also have an effect given each other parameter that may have
      one, significant or not, and their products: what these do is no effect of its own.

    Args:
        predictors: The parameters.
        values: The value of each trial, shape ``(n_trials,)``.
        level: The probability of finding any parameter that has no effect.
        seed: Seeds the permutations.

    Returns:
        Parameter -> effect, in the order of the steps; parameters with too few trials are left out.
    """
    tested = {each.name: each for each in predictors if len(each.rows) >= _MIN_TRIALS}
    if not tested:
        return {}
    values = _pulled_in(values)
    rng = np.random.default_rng(derive_seed(seed, "smooth effects"))
    shuffles = _Shuffles(rng, _n_permutations(len(values), level))
    found: dict[str, SmoothEffect] = {}
    model: list[Predictor] = []
    p_before = 0.0
    while tested:
        steps = _step(list(tested.values()), model, values, shuffles)
        clearest = min(steps, key=lambda name: (steps[name].p_value, -steps[name].clarity))
        # A later step's p-value is never below an earlier one's.
        p_before = max(p_before, steps[clearest].p_value)
        if p_before > level:
            found |= {
                name: _effect(each, max(p_before, each.p_value), level)
                for name, each in steps.items()
            }
            break
        others = [each for each in predictors if each.name != clearest]
        alone = _p_given_all(tested[clearest], others, values)
        found[clearest] = _effect(steps[clearest], max(p_before, alone), level)
        model.append(tested.pop(clearest))
    return found


@dataclass(frozen=True)
class _Step:
    """A parameter's test at one step."""

    explained: float
    p_value: float
    clarity: float
    n_trials: int
    n_evenly_spread: float


def _effect(step: _Step, p_value: float, level: float) -> SmoothEffect:
    return SmoothEffect(step.explained, p_value, level, step.n_trials, step.n_evenly_spread)


def _pulled_in(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with outliers at the fences, in units of their standard deviation."""
    from scipy.stats import rankdata

    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    below, above = middle - low, high - middle
    if below + above > 0:
        # More than a quarter of failed trials would stretch one side.
        longest = _MAX_SKEWNESS * min(below, above) or max(below, above)
        below, above = min(below, longest), min(above, longest)
        reach = _FENCE * (below + above)
        pulled = np.clip(values, middle - below - reach, middle + above + reach)
    else:
        # Half of the values are the same, and any other would be an outlier.
        pulled = rankdata(values)
    centered: NDArray[np.float64] = pulled - pulled.mean()
    return centered / (centered.std() or 1.0)


def _n_permutations(n_trials: int, level: float) -> int:
    """Return a number that lets a p-value reach half of the level, as far as memory allows."""
    wanted = max(N_PERMUTATIONS, math.ceil(2 / level))
    return max(_FEWEST_PERMUTATIONS, min(wanted, _MAX_SHUFFLED // n_trials))


class _Shuffles:
    """The same permutations for all parameters that the same trials have."""

    def __init__(self, rng: np.random.Generator, n_permutations: int) -> None:
        self._rng, self._n = rng, n_permutations
        self._known: dict[bytes, NDArray[np.intp]] = {}

    def of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return permutations of the rows, shape ``(n_permutations, n)``."""
        key = rows.tobytes()
        if key not in self._known:
            drawn = self._rng.random((self._n, len(rows)))
            self._known[key] = np.argsort(drawn, axis=1)
        return self._known[key]


def _step(
    candidates: Sequence[Predictor],
    model: Sequence[Predictor],
    values: NDArray[np.float64],
    shuffles: _Shuffles,
) -> dict[str, _Step]:
    """Test each candidate given the model, against the clearest of all of them by chance."""
    by_rows: dict[bytes, list[Predictor]] = {}
    for each in candidates:
        by_rows.setdefault(each.rows.tobytes(), []).append(each)
    tested: list[Predictor] = []
    shares, clarity, even = [], [], []
    for group in by_rows.values():
        rows = group[0].rows
        known = _given(model, rows)
        residuals = _rest(values[rows], known)
        shuffled = np.vstack([residuals, residuals[shuffles.of(rows)]])
        shuffled -= (shuffled @ known) @ known.T
        for each in group:
            columns = _beyond(each.basis, known)
            is_tested = _freedom(columns, known) >= _MIN_RESIDUAL_FREEDOM
            explained = _explained(shuffled, columns) if is_tested else np.zeros(len(shuffled))
            tested.append(each)
            shares.append(explained[0])
            clarity.append(-_log_p(explained, columns, known) if is_tested else explained)
            even.append(_n_evenly_spread(each, known))
    by_draw = np.array(clarity)
    largest = by_draw.max(axis=0)
    return {
        each.name: _Step(
            explained=float(shares[i]),
            p_value=float(np.mean(largest >= by_draw[i, 0])),
            clarity=float(by_draw[i, 0]),
            n_trials=len(each.rows),
            n_evenly_spread=even[i],
        )
        for i, each in enumerate(tested)
    }


def _p_given_all(
    predictor: Predictor, others: Sequence[Predictor], values: NDArray[np.float64]
) -> float:
    """Return the p-value given all others that may have an effect.

    Two that may have one may also interact, so their products may join the model as well.
    """
    rows = predictor.rows
    known = _joined_by_others(_given([], rows), others, values, rows)
    return _p_value(values[rows], _beyond(predictor.basis, known), known)


def _joined_by_others(
    known: NDArray[np.float64],
    others: Sequence[Predictor],
    values: NDArray[np.float64],
    rows: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return known columns and those of other parameters that may have an effect beyond them."""
    left: dict[tuple[str, ...], NDArray[np.float64]] = {
        (each.name,): _given([each], rows) for each in others
    }
    joined: list[Predictor] = []
    while left and known.shape[1] < len(rows) * _MAX_SHARE_OF_MODEL:
        p_values = {
            key: _p_value(values[rows], _beyond(columns, known), known)
            for key, columns in left.items()
        }
        nearest = min(p_values, key=lambda key: p_values[key])
        if p_values[nearest] > _MAY_MATTER:
            break
        known = np.hstack([known, _beyond(left.pop(nearest), known)])
        if len(nearest) == 1:
            new = next(each for each in others if each.name == nearest[0])
            left |= {(new.name, each.name): _products(new, each, rows) for each in joined}
            joined.append(new)
    return known


def interact_given_all(
    pair: tuple[str, str], predictors: Sequence[Predictor], values: NDArray[np.float64]
) -> float:
    """Return the p-value of the product of two parameters, given all that may have an effect.

    Means of a few groups may look like an interaction where a smooth effect varies within groups.
    """
    first, second = (next(e for e in predictors if e.name == name) for name in pair)
    rows = np.intersect1d(first.rows, second.rows)
    values = _pulled_in(values)
    others = [each for each in predictors if each.name not in pair]
    known = _given([first, second], rows)
    known = _joined_by_others(known, others, values, rows)
    return _p_value(values[rows], _beyond(_products(first, second, rows), known), known)


def _products(a: Predictor, b: Predictor, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return products of two parameters, zero where a trial lacks one, shape ``(n, columns)``."""
    columns: NDArray[np.float64] = _bent(a, rows)[:, :, None] * _bent(b, rows)[:, None, :]
    return columns.reshape(len(rows), -1)


def _bent(predictor: Predictor, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the choices, or the place and its square, in some trials."""
    place = predictor.place - predictor.place.mean(axis=0)
    if place.shape[1] == 1:
        place = np.hstack([place, place**2])
    return _in_trials(predictor, place, rows)


def _in_trials(
    predictor: Predictor, columns: NDArray[np.float64], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return centered columns of a parameter in some trials; zero where a trial lacks it.

    So a conditional parameter takes nothing from the one that it depends on.
    """
    found = np.zeros((len(rows), columns.shape[1]))
    has = np.isin(rows, predictor.rows)
    found[has] = (columns - columns.mean(axis=0))[np.isin(predictor.rows, rows)]
    return found


def _p_value(
    values: NDArray[np.float64], columns: NDArray[np.float64], known: NDArray[np.float64]
) -> float:
    if _freedom(columns, known) < _MIN_RESIDUAL_FREEDOM:
        return 1.0
    explained = _explained(_rest(values, known)[None], columns)
    return float(np.exp(_log_p(explained, columns, known)[0]))


def _given(model: Sequence[Predictor], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return orthonormal columns of what is known in some trials, shape ``(n, columns)``."""
    columns = [np.empty((len(rows), 0)), *(_in_trials(each, each.basis, rows) for each in model)]
    known = np.full((len(rows), 1), len(rows) ** -0.5)
    return np.hstack([known, _beyond(np.hstack(columns), known)])


def _beyond(columns: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of what columns add to known ones, shape ``(n, columns)``."""
    centered = columns - columns.mean(axis=0)
    sizes = np.linalg.norm(centered, axis=0)
    scaled = centered / np.where(sizes > 0, sizes, 1.0)
    for _ in range(2):
        scaled = scaled - known @ (known.T @ scaled)
    basis, weights, _ = np.linalg.svd(scaled, full_matrices=False)
    found: NDArray[np.float64] = basis[:, weights > _DEPENDENT]
    return found


def _rest(values: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    residuals: NDArray[np.float64] = values - known @ (known.T @ values)
    return residuals


def _freedom(columns: NDArray[np.float64], known: NDArray[np.float64]) -> int:
    """Return the residual degrees of freedom; 0 if the columns add nothing."""
    return len(known) - known.shape[1] - columns.shape[1] if columns.shape[1] else 0


def _explained(residuals: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of their squares that columns explain, residuals (draws, n) -> (draws,)."""
    total = (residuals**2).sum(axis=1)
    shares: NDArray[np.float64] = ((residuals @ columns) ** 2).sum(axis=1) / np.where(
        total > 0, total, 1.0
    )
    return np.clip(shares, 0.0, 1 - 1e-12)


def _log_p(
    explained: NDArray[np.float64], columns: NDArray[np.float64], known: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the logarithm of the F test's p-value: one scale for few columns and many."""
    from scipy.special import betainc

    k, freedom = columns.shape[1], _freedom(columns, known)
    # 1 - F's distribution function, as the incomplete beta function.
    p_values = betainc(freedom / 2, k / 2, 1 - explained)
    logs: NDArray[np.float64] = np.log(np.maximum(p_values, np.finfo(float).tiny))
    return logs


def _n_evenly_spread(predictor: Predictor, known: NDArray[np.float64]) -> float:
    rest = predictor.place - known @ (known.T @ predictor.place)
    return float(min(len(rest), (rest**2).sum() / predictor.even_variance))
