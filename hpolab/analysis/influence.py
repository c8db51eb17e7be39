"""influence(): what each parameter does to the value, and whether that is significant."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.importance import BaseImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.study import StudyDirection

from hpolab.analysis.effects import Effect
from hpolab.analysis.importances import Draws, Measure, of_the_best, resample
from hpolab.analysis.parameters import (
    MIN_TRIALS,
    Cell,
    Difference,
    Importance,
    Influence,
    Interaction,
    ParameterInfluence,
    ValueGroup,
)
from hpolab.analysis.smooth_effects import (
    Predictor,
    SmoothEffect,
    interact_given_all,
    smooth_effects,
)
from hpolab.analysis.trials import (
    check_single_objective,
    common_ranges,
    count_states,
)
from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.seeding import derive_seed
from hpolab.studies.imported import IMPORT_KEY
from hpolab.studies.trials import is_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["Influence", "influence"]

# From here on three groups of ten trials each.
_MIN_TRIALS_OF_THREE_GROUPS = 30
# Up to this many values are groups by themselves.
_MAX_VALUES = 4
# A forest takes about a second, so many of them would take minutes. With fewer than sixty, the
# upper end would be the largest resample rather than a quantile.
_RESAMPLES, _RESAMPLES_OF_FORESTS = 60, 20
# A cell of fewer trials says too little about how far its values scatter.
_MIN_TRIALS_OF_CELL = 4
# Shares of what the confidence leaves. The rest is for what permutations do not know: a sampler
# that learns chases good luck, so that in pure noise, too, its trials are not exchangeable.
_FOR_PARAMETERS, _FOR_PAIRS = 0.6, 0.2


@dataclass(frozen=True)
class _Column:
    """A parameter over the trials: its range, and the group of each trial that has it."""

    name: str
    distribution: BaseDistribution
    labels: tuple[str, ...]
    group_of: Mapping[int, int]


@checks_keywords()
def influence(
    study: Study,
    *,
    bins: Mapping[str, Sequence[float] | None] | None = None,
    evaluator: BaseImportanceEvaluator | None = None,
    n_resamples: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Influence:
    """Estimate each parameter's effect on the value, and its uncertainty.

    - *Does the value depend on a parameter?* `SmoothEffect`: a smooth effect (a cubic spline on the
      range's own scale, or one mean for each choice) is compared with what any parameter reaches
      when residuals are shuffled among the trials, given the parameters that were found before it.
      Nothing else makes a parameter **significant**.
    - *Which parameters matter most?* Optuna's importance ranks them. It is no test: shares sum to
      one in pure noise as well. Its range comes from resamples of the trials (bootstrap) and says
      how firm a share is for these trials, not which share many more would have.
    - *Which values are better?* Trials are grouped by a parameter's value, and means compared.
      Intervals of single means are not widened for their number; that of a difference is, for all
      pairs of groups (Welch, Bonferroni). They treat the trials of a group as independent draws.
    - *Do two parameters act together?* Means by both are compared with the sum of what either
      does: a Welch-James test over cells of four trials or more, times the number of pairs.

    Anything without an effect is called significant with at most the probability that
    ``confidence`` leaves, over all parameters and pairs together. P-values of parameters must be
    within three fifths of it and those of pairs within a fifth; the rest is for samplers that
    learn. These chase good luck, and their later trials are better, and closer together in every
    parameter. So a parameter without any effect is associated with the value, through those that
    have one. The test allows for that: a significant parameter has an effect given all others that
    may have one, and their products. Means by group do not: a difference includes whatever else was
    different. Where a sampler stayed in one place, there is **too little spread** to tell, and the
    verdict says so.

    If no configuration was run twice, the noise is that among different configurations, which
    includes whatever else varied. Only complete trials that violate no constraint are read. A
    conditional parameter, or one that some runs lack, is judged by the trials that have it. Names
    and values are those of the trials (``one_minus_beta2``).

    Args:
        study: A study with one objective value. It is only read.
        bins: Parameter -> increasing edges between groups; a value at an edge is in the group
            above. A parameter that is left out, or None, is grouped by its values if there are four
            or fewer, otherwise into groups of about the same size: two, or three from 30 trials on.
        evaluator: One of Optuna's importance evaluators, such as
            ``FanovaImportanceEvaluator(seed=0)``. None: PED-ANOVA, Optuna's default, for what
            distinguishes the best tenth of the trials, or the best ten, from all others. With fewer
            than 20 trials there is no importance.
        n_resamples: The number of resamples for the range of an importance. None: 60, or 20 with
            another evaluator, which grows a forest for each, in about a second.
        confidence: The confidence of all intervals, in (0, 1). One minus it is the probability that
            anything is significant by chance.
        seed: Seeds resamples and permutations.

    Raises:
        InvalidArgument: If the study has several objective values, a parameter of ``bins`` is
            unknown or categorical, edges do not increase, or a number is out of its range.
        InvalidType: If ``evaluator`` is not one of Optuna's, or a count is not an int.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     x, _ = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        ...     return (x > 0.5) + trial.number % 7 / 10
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=40)
        >>> found = influence(study, bins={"x": [0.5]})
        >>> found["x"].difference.better, found["x"].is_significant, found["y"].is_significant
        ('< 0.5', True, False)
    """
    n_resamples = _n_resamples(n_resamples, evaluator)
    _check(study, confidence)
    all_trials = study.get_trials(deepcopy=False)
    trials = [trial for trial in all_trials if is_complete(trial)]
    ranges, skipped = common_ranges(trials)
    cases = [_with_ranges(trial, ranges) for trial in trials]
    columns = _columns(cases, ranges, bins or {}, known={*ranges, *skipped})
    values = np.array([trial.value for trial in cases], dtype=np.float64)
    level = 1 - confidence
    draws = Draws(n_resamples, confidence, seed)
    importances = _importances(study, cases, columns, evaluator, draws)
    predictors = [_predictor(column, cases) for column in columns]
    effects = smooth_effects(predictors, values, level=level * _FOR_PARAMETERS, seed=seed)
    maximize = study.direction == StudyDirection.MAXIMIZE
    differences = _differences(columns, values, level, maximize=maximize)
    parameters = [
        ParameterInfluence(
            name=column.name,
            n_trials=len(column.group_of),
            smooth_effect=effects.get(column.name),
            importance=importances.get(column.name),
            groups=_groups(column, values, confidence),
            difference=_told(differences.get(column.name), effects.get(column.name)),
        )
        for column in columns
    ]
    return Influence(
        parameters={each.name: each for each in sorted(parameters, key=_order(list(effects)))},
        interaction=_interaction(columns, predictors, values, level * _FOR_PAIRS),
        skipped=skipped,
        n_trials=len(trials),
        left_out=count_states(trial for trial in all_trials if not is_complete(trial)),
        n_repeated=_n_repeated(trials),
        confidence=confidence,
        imported=IMPORT_KEY in study.user_attrs,
    )


def _n_resamples(n_resamples: int | None, evaluator: Any) -> int:
    if evaluator is not None and not isinstance(evaluator, BaseImportanceEvaluator):
        raise InvalidType(
            "`evaluator` must be one of Optuna's importance evaluators, got "
            f"{type(evaluator).__name__}."
        )
    if n_resamples is None:
        is_cheap = evaluator is None or isinstance(evaluator, PedAnovaImportanceEvaluator)
        return _RESAMPLES if is_cheap else _RESAMPLES_OF_FORESTS
    check_count("n_resamples", n_resamples)
    return n_resamples


def _check(study: Study, confidence: float) -> None:
    check_single_objective(study)
    if not 0 < confidence < 1:
        raise InvalidArgument(f"`confidence` must be in (0, 1), got {confidence}.")


def _n_repeated(trials: Sequence[FrozenTrial]) -> int:
    counts = Counter(tuple(sorted(trial.params.items(), key=str)) for trial in trials)
    return sum(n for n in counts.values() if n > 1)


def _with_ranges(trial: FrozenTrial, ranges: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return a copy that has only the parameters to be judged, under their common ranges."""
    case = copy.copy(trial)
    kept = {name: value for name, value in trial.params.items() if name in ranges}
    case.params = kept
    case.distributions = {name: ranges[name] for name in kept}
    return case


def _columns(
    cases: Sequence[FrozenTrial],
    ranges: Mapping[str, BaseDistribution],
    bins: Mapping[str, Sequence[float] | None],
    known: set[str],
) -> list[_Column]:
    for name in bins:
        one_of("bins", name, known)
    return [
        _column(name, distribution, cases, bins.get(name)) for name, distribution in ranges.items()
    ]


def _column(
    name: str,
    distribution: BaseDistribution,
    cases: Sequence[FrozenTrial],
    edges: Sequence[float] | None,
) -> _Column:
    values = {row: case.params[name] for row, case in enumerate(cases) if name in case.params}
    if isinstance(distribution, CategoricalDistribution):
        if edges is not None:
            raise InvalidArgument(f"`bins` must be of a numeric parameter, got {name!r}.")
        kinds = [choice for choice in distribution.choices if choice in values.values()]
        return _by_value(name, distribution, values, kinds)
    if edges is None and len(set(values.values())) <= _MAX_VALUES:
        return _by_value(name, distribution, values, sorted(set(values.values())))
    cuts = _quantiles(list(values.values())) if edges is None else _checked_edges(name, edges)
    labels = _labels(cuts)
    groups = np.searchsorted(cuts, list(values.values()), side="right").tolist()
    return _Column(name, distribution, labels, dict(zip(values, groups, strict=True)))


def _by_value(
    name: str, distribution: BaseDistribution, values: Mapping[int, Any], kinds: Sequence[Any]
) -> _Column:
    labels = tuple(f"{kind:.6g}" if isinstance(kind, float) else str(kind) for kind in kinds)
    group_of = {row: kinds.index(value) for row, value in values.items()}
    return _Column(name, distribution, labels, group_of)


def _checked_edges(name: str, edges: Any) -> list[float]:
    try:
        cuts = [float(edge) for edge in edges]
    except (TypeError, ValueError):
        raise InvalidType(f"`bins` must be lists of numbers, got {edges!r} for {name!r}.") from None
    rises = all(low < high for low, high in itertools.pairwise(cuts))
    if not cuts or not rises or not all(map(math.isfinite, cuts)):
        raise InvalidArgument(f"`bins` must be increasing numbers, got {edges!r} for {name!r}.")
    return cuts


def _quantiles(values: Sequence[float]) -> list[float]:
    n_groups = 3 if len(values) >= _MIN_TRIALS_OF_THREE_GROUPS else 2
    cuts = np.quantile(values, np.arange(1, n_groups) / n_groups)
    # Rounded, so that the label says what the group is.
    return sorted({float(f"{cut:.3g}") for cut in cuts})


def _labels(cuts: Sequence[float]) -> tuple[str, ...]:
    words = [f"{cut:g}" for cut in cuts]
    middle = [f"{low} to {high}" for low, high in itertools.pairwise(words)]
    return (f"< {words[0]}", *middle, f">= {words[-1]}")


def _groups(
    column: _Column, values: NDArray[np.float64], confidence: float
) -> tuple[ValueGroup, ...]:
    return tuple(
        ValueGroup(label, len(found), float(found.mean()), *_mean_interval(found, confidence))
        for label, found in _values_by_group(column, values).items()
    )


def _values_by_group(
    column: _Column, values: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the values of each group that has a trial, by its label."""
    found = {
        label: values[[row for row, group in column.group_of.items() if group == place]]
        for place, label in enumerate(column.labels)
    }
    return {label: of_group for label, of_group in found.items() if len(of_group)}


def _mean_interval(
    values: NDArray[np.float64], confidence: float
) -> tuple[float | None, float | None]:
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return None, None
    half = float(t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return float(values.mean()) - half, float(values.mean()) + half


def _differences(
    columns: Sequence[_Column], values: NDArray[np.float64], level: float, *, maximize: bool
) -> dict[str, Difference]:
    """Return for each parameter the two groups that differ most clearly."""
    pairs = {
        column.name: [
            (a, b)
            for a, b in itertools.combinations(_values_by_group(column, values).items(), 2)
            if min(len(a[1]), len(b[1])) > 1 and a[1].std() + b[1].std() > 0
        ]
        for column in columns
    }
    n_pairs = sum(map(len, pairs.values()))
    found = {
        name: [_difference(a, b, level / n_pairs, maximize=maximize) for a, b in of_name]
        for name, of_name in pairs.items()
    }
    return {name: max(each, key=_clarity) for name, each in found.items() if each}


def _told(difference: Difference | None, smooth: SmoothEffect | None) -> Difference | None:
    """Return a difference that is significant only if the parameter has an effect of its own."""
    if difference is None or not difference.is_significant:
        return difference
    is_significant = smooth is not None and smooth.is_significant
    return replace(difference, effect=replace(difference.effect, is_significant=is_significant))


def _predictor(column: _Column, cases: Sequence[FrozenTrial]) -> Predictor:
    values = {row: cases[row].params[column.name] for row in column.group_of}
    return Predictor.of(column.name, column.distribution, values)


def _clarity(difference: Difference) -> float:
    effect = difference.effect
    return effect.estimate / (effect.high - effect.low)


def _difference(
    a: tuple[str, NDArray[np.float64]],
    b: tuple[str, NDArray[np.float64]],
    level: float,
    *,
    maximize: bool,
) -> Difference:
    from scipy.stats import t

    better, worse = sorted((a, b), key=lambda group: group[1].mean(), reverse=maximize)
    errors = [float(each[1].var(ddof=1)) / len(each[1]) for each in (better, worse)]
    # Welch (1947): the groups need not vary alike.
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(each[1]) - 1) for error, each in zip(errors, (better, worse), strict=True)
    )
    amount = abs(float(better[1].mean() - worse[1].mean()))
    half = float(t.ppf(1 - level / 2, freedom)) * math.sqrt(sum(errors))
    low, high = amount - half, amount + half
    effect = Effect(amount, low, high, p_value=None, is_significant=low > 0)
    return Difference(better[0], worse[0], effect)


def _importances(
    study: Study,
    cases: Sequence[FrozenTrial],
    columns: Sequence[_Column],
    evaluator: BaseImportanceEvaluator | None,
    draws: Draws,
) -> dict[str, Importance]:
    """Return the importances of all parameters that enough trials have.

    Parameters that the same trials have are judged together, with all others of these trials.
    """
    alike: dict[frozenset[int], list[str]] = defaultdict(list)
    for column in columns:
        if len(column.group_of) >= MIN_TRIALS:
            alike[frozenset(column.group_of)].append(column.name)
    rng = np.random.default_rng(derive_seed(draws.seed, "influence"))
    found: dict[str, Importance] = {}
    for rows, names in alike.items():
        having = [cases[row] for row in sorted(rows)]
        shared = [c.name for c in columns if rows <= c.group_of.keys() and _varies(c.name, having)]
        if len({case.value for case in having}) > 1:
            measure = Measure(study, evaluator or of_the_best(len(having)), tuple(shared))
            resampled = resample(measure, having, draws, rng)
            found |= {name: resampled[name] for name in names}
    return found


def _varies(name: str, cases: Sequence[FrozenTrial]) -> bool:
    return len({case.params[name] for case in cases}) > 1


def _interaction(
    columns: Sequence[_Column],
    predictors: Sequence[Predictor],
    values: NDArray[np.float64],
    level: float,
) -> Interaction | None:
    """Return the interaction of the pair with the smallest p-value."""
    tested = [
        (p_value, share, pair)
        for pair in itertools.combinations(columns, 2)
        for share, p_value in [_beyond_sum(*pair, values)]
        if not math.isnan(p_value)
    ]
    if not tested:
        return None
    p_value, share, pair = min(tested, key=lambda test: (test[0], -test[1]))
    p_value = min(1.0, p_value * len(tested))
    names = pair[0].name, pair[1].name
    if p_value <= level:
        p_value = max(p_value, interact_given_all(names, predictors, values))
    return Interaction(
        parameters=names,
        share=share,
        p_value=p_value,
        is_significant=p_value <= level,
        cells=_cells(*pair, values),
    )


def _beyond_sum(a: _Column, b: _Column, values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of the variance that cells explain beyond the sum, and its p-value.

    Cells may scatter differently, as those of a bad learning rate do, and an ordinary F test would
    take that for an interaction. (Johansen 1980, "The Welch-James approximation to the distribution
    of the residual sum of squares in a weighted linear regression".) NaN where cells are too few.
    """
    from scipy.stats import f

    cells = {
        place: values[rows]
        for place, rows in _rows_by_cell(a, b).items()
        if len(rows) >= _MIN_TRIALS_OF_CELL and values[rows].std() > 0
    }
    contrasts = _contrasts(list(cells))
    freedom = len(contrasts)
    if not freedom:
        return math.nan, math.nan
    means = np.array([cell.mean() for cell in cells.values()])
    counts = np.array([len(cell) for cell in cells.values()])
    errors = np.array([cell.var(ddof=1) for cell in cells.values()]) / counts
    inverse = np.linalg.inv((contrasts * errors) @ contrasts.T)
    wald = float((contrasts @ means) @ inverse @ (contrasts @ means))
    leverage = errors * np.einsum("ij,ik,kj->j", contrasts, inverse, contrasts)
    excess = float((leverage**2 / (counts - 1)).sum())
    scale = freedom + 2 * excess - 6 * excess / (freedom + 2)
    p_value = float(f.sf(wald / scale, freedom, freedom * (freedom + 2) / (3 * excess)))
    return _share_beyond_sum(list(cells), list(cells.values())), p_value


def _rows_by_cell(a: _Column, b: _Column) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in a.group_of:
        if row in b.group_of:
            found[a.group_of[row], b.group_of[row]].append(row)
    return dict(sorted(found.items()))


def _sums(cells: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return the design matrix of additive effects, (cells, groups of both)."""
    groups = np.array(cells).reshape(len(cells), 2).T
    columns = [each[:, None] == np.unique(each) for each in groups]
    return np.hstack(columns).astype(np.float64)


def _contrasts(cells: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return contrasts of cell means that additive effects leave out, (freedom, cells)."""
    from scipy.linalg import null_space

    if len(cells) < 4:
        return np.empty((0, len(cells)))
    found: NDArray[np.float64] = null_space(_sums(cells).T).T
    return found


def _share_beyond_sum(
    cells: Sequence[tuple[int, int]], values: Sequence[NDArray[np.float64]]
) -> float:
    y = np.concatenate(values)
    sums = np.repeat(_sums(cells), [len(each) for each in values], axis=0)
    fit = sums @ np.linalg.lstsq(sums, y, rcond=None)[0]
    means = np.repeat([each.mean() for each in values], [len(each) for each in values])
    return float(((means - fit) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _cells(a: _Column, b: _Column, values: NDArray[np.float64]) -> tuple[Cell, ...]:
    return tuple(
        Cell((a.labels[i], b.labels[j]), float(values[rows].mean()), len(rows))
        for (i, j), rows in _rows_by_cell(a, b).items()
    )


def _order(found: Sequence[str]) -> Callable[[ParameterInfluence], tuple[float, float, float]]:
    """Sort by the order in which effects were found, then by importance and difference."""

    def place(parameter: ParameterInfluence) -> tuple[float, float, float]:
        importance, difference = parameter.importance, parameter.difference
        return (
            found.index(parameter.name) if parameter.is_significant else len(found),
            -importance.share if importance else 1.0,
            -_clarity(difference) if difference else 1.0,
        )

    return place
