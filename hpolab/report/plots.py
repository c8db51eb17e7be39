"""The data of each figure: pure functions of trials, limited in size. Drawing is elsewhere."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpolab.analysis.wording import listed
from hpolab.report.reading import value_of
from hpolab.studies.trials import is_feasible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

    from hpolab.analysis.comparison import Comparison
    from hpolab.analysis.trained.sweep import Sweep, SweepStage
    from hpolab.analysis.tuning_curves import TuningCurve
    from hpolab.report.reading import Reading

__all__ = [
    "Axis",
    "Band",
    "BestCurves",
    "Course",
    "Curve",
    "Curves",
    "History",
    "Race",
    "Series",
    "Slice",
    "SliceOfMany",
    "View",
    "best_curves",
    "course",
    "curves",
    "evenly",
    "history",
    "parallel_trials",
    "race",
    "slice_of",
    "slice_of_many",
    "slice_of_stage",
    "sliced_names",
    "stored_title",
    "trials_of_many",
    "tuned_parameters",
    "view",
]

_T = TypeVar("_T")

# Points and lines that a phone still draws at once.
_MAX_HISTORY = 2000
_MAX_SLICE = 500
_MAX_CURVES = 200
_MAX_STEPS = 100
_MAX_PARALLEL = 300
_MAX_RACE = 200
# So many quartile ranges beyond the worse quartile, a value only squeezes the others.
_FAR = 4.0


@dataclass(frozen=True)
class View:
    """The range of values that a figure shows, so that a diverged one does not squeeze the rest.

    Attributes:
        low: Lower end; None if all values are shown.
        high: Upper end; None if all values are shown.
        n_outside: The number of values that are too bad to be shown.
    """

    low: float | None = None
    high: float | None = None
    n_outside: int = 0


@dataclass(frozen=True)
class History:
    """Values in order of trials.

    Attributes:
        numbers: Numbers of the complete trials shown.
        values: Their values.
        infeasible: Whether each violates a constraint.
        best_numbers: Where the best value changed, and the last trial.
        best_values: The best value from there on.
        pruned: Numbers of pruned trials.
        failed: Numbers of failed ones.
        baseline: The baseline's value; None without one.
        view: The range of values shown.
        n_complete: The number of all complete trials.
    """

    numbers: list[int]
    values: list[float]
    infeasible: list[bool]
    best_numbers: list[int]
    best_values: list[float]
    pruned: list[int]
    failed: list[int]
    baseline: float | None
    view: View
    n_complete: int


@dataclass(frozen=True)
class Curve:
    """A trial's reports: its number, how it ended, and value by step."""

    number: int
    kind: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Curves:
    """Reports of several trials.

    Attributes:
        curves: By kind "pruned", "complete", "baseline" and "best", drawn in this order.
        view: The range of values shown.
        n_trials: The number of all trials with reports.
    """

    curves: list[Curve]
    view: View
    n_trials: int

    def of_kind(self, kind: str) -> list[Curve]:
        """Return the curves of a kind."""
        return [curve for curve in self.curves if curve.kind == kind]


@dataclass(frozen=True)
class Axis:
    """A parameter's axis.

    Attributes:
        name: What the trainer calls the parameter.
        log: Whether it is on a log scale.
        one_minus: Whether it shows 1 - value, so that it runs backwards.
        labels: Its choices, at positions 0, 1, ...; empty for numbers.
    """

    name: str
    log: bool = False
    one_minus: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """Values against one parameter.

    Attributes:
        axis: The parameter's.
        x: Its values, or the choices' positions.
        y: The trials' values.
        numbers: The trials' numbers.
        infeasible: Whether each violates a constraint.
        best: Place of the best trial among them; None if it has no such parameter.
        baseline: Place of the baseline among them; None if it has no such parameter.
        view: The range of values shown.
        n_complete: Complete trials that have the parameter.
    """

    axis: Axis
    x: list[float]
    y: list[float]
    numbers: list[int]
    infeasible: list[bool]
    best: int | None
    baseline: int | None
    view: View
    n_complete: int


@dataclass(frozen=True)
class Series:
    """One contender's points: its name, x and y."""

    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class SliceOfMany:
    """Values of the contenders that tune a parameter against that parameter."""

    axis: Axis
    series: list[Series]
    view: View


@dataclass(frozen=True)
class Band:
    """A contender's best value so far, and the interval of another tuning's median.

    Attributes:
        name: The contender.
        numbers: Numbers of trials.
        best: The best value after so many: of its one tuning, or the median of several.
        band_numbers: Numbers of trials at which the interval is known.
        low: Its lower ends; those that nothing bounds are at the edge of the picture.
        high: Its upper ends.
    """

    name: str
    numbers: list[int]
    best: list[float]
    band_numbers: list[int]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Race:
    """Best values so far of all contenders, and the names of those without a value."""

    bands: list[Band]
    without: list[str]
    view: View


@dataclass(frozen=True)
class BestCurves:
    """Reports of each contender's best trial: value by step."""

    series: list[Series]
    view: View


@dataclass(frozen=True)
class Course:
    """A sweep's values, stage after stage.

    Attributes:
        series: Each stage's values by the count of trials so far.
        labels: What each of these trials has set, stage by stage.
        best_counts: Where the best value changed, and the last trial.
        best_values: The best value from there on.
        view: The range of values shown.
    """

    series: list[Series]
    labels: list[list[str]]
    best_counts: list[int]
    best_values: list[float]
    view: View


def view(values: Sequence[float], *, maximize: bool) -> View:
    """Return the range of values to show: all, or all but those that are far worse.

    Example:
        >>> view([1.0, 1.1, 1.2, 1.3, 900.0], maximize=False).n_outside
        1
        >>> view([1.0, 2.0, 3.0], maximize=False)
        View(low=None, high=None, n_outside=0)
    """
    known = np.array([value for value in values if math.isfinite(value)])
    if len(known) < 4:
        return View()
    loss = -known if maximize else known
    lower, upper = np.quantile(loss, [0.25, 0.75])
    fence = upper + _FAR * (upper - lower)
    inside = loss[loss <= fence]
    if upper == lower or len(inside) == len(loss):
        return View()
    best, worst = float(inside.min()), float(inside.max())
    margin = 0.06 * (worst - best)
    ends = (best - margin, worst + margin)
    low, high = (-ends[1], -ends[0]) if maximize else ends
    return View(low, high, len(loss) - len(inside))


def history(reading: Reading) -> History:
    """Gather the history of a study with one value."""
    shown = _spread_out(reading.complete, reading, _MAX_HISTORY)
    best_numbers, best_values = _improvements(reading)
    return History(
        numbers=[trial.number for trial in shown],
        values=[value_of(trial) for trial in shown],
        infeasible=[not is_feasible(trial) for trial in shown],
        best_numbers=best_numbers,
        best_values=best_values,
        pruned=_numbers(reading, TrialState.PRUNED),
        failed=_numbers(reading, TrialState.FAIL),
        baseline=_baseline_value(reading),
        view=view([value_of(trial) for trial in shown], maximize=reading.maximize),
        n_complete=len(reading.complete),
    )


def curves(reading: Reading) -> Curves:
    """Gather the reports of the best trials, and of the others at even intervals."""
    reported = [trial for trial in reading.trials if trial.intermediate_values]
    shown = _best_and_evenly(reported, reading, _MAX_CURVES)
    found = [_curve(trial, reading) for trial in shown]
    order = ("pruned", "complete", "baseline", "best")
    found.sort(key=lambda curve: order.index(curve.kind))
    values = [value for curve in found for value in curve.values]
    return Curves(found, view(values, maximize=reading.maximize), len(reported))


def sliced_names(reading: Reading, important: Sequence[str] = ()) -> list[str]:
    """Return the parameters to slice by, in the trials' names, the most important first.

    Those that were never varied are left out.
    """
    seen: dict[str, set[str]] = {}
    for trial in reading.complete:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(repr(value))
    varied = [name for name, values in seen.items() if len(values) > 1]
    first = [name for name in important if name in varied]
    return first + [name for name in varied if name not in first]


def slice_of(reading: Reading, name: str) -> Slice:
    """Gather the values of complete trials against one parameter, by its name in the trials."""
    having = _of_one_kind(reading, name)
    shown = _best_and_evenly(having, reading, _MAX_SLICE)
    axis = _axis(reading, name, shown)
    numbers = [trial.number for trial in shown]
    return Slice(
        axis=axis,
        x=[_position(axis, trial.params[name], trial.number) for trial in shown],
        y=[value_of(trial) for trial in shown],
        numbers=numbers,
        infeasible=[not is_feasible(trial) for trial in shown],
        best=_place(reading.best, numbers),
        baseline=_place(reading.baseline, numbers),
        view=view([value_of(trial) for trial in shown], maximize=reading.maximize),
        n_complete=len(having),
    )


def parallel_trials(reading: Reading, names: Sequence[str]) -> list[FrozenTrial]:
    """Return the complete trials to draw as lines through ``names``, without far worse ones."""
    having = [trial for trial in reading.complete if any(name in trial.params for name in names)]
    if not reading.is_single:
        return having[-_MAX_PARALLEL:]
    shown = _best_and_evenly(having, reading, _MAX_PARALLEL)
    of_all = view([value_of(trial) for trial in shown], maximize=reading.maximize)
    low = -math.inf if of_all.low is None else of_all.low
    high = math.inf if of_all.high is None else of_all.high
    return [trial for trial in shown if low <= value_of(trial) <= high]


def race(comparison: Comparison) -> Race:
    """Gather each contender's best value so far, and what is known of another tuning."""
    known = [
        name
        for name, each in comparison.contenders.items()
        if any(np.isfinite(tuning.values).any() for tuning in each.tunings)
    ]
    found = {name: comparison.tuning_curve(name) for name in known}
    lines = {name: _best_line(comparison, name, found[name]) for name in known}
    every = [value for _, line in lines.values() for value in line]
    every += [
        float(value)
        for curve in found.values()
        if curve is not None
        for value in (*curve.low, *curve.high)
        if math.isfinite(value)
    ]
    edges = (min(every, default=0.0), max(every, default=0.0))
    bands = []
    for name in known:
        (numbers, best), (places, low, high) = lines[name], _band_edges(found[name], edges)
        bands.append(Band(name, numbers, best, places, low, high))
    return Race(
        bands=bands,
        without=[name for name in comparison.contenders if name not in known],
        view=view(every, maximize=comparison.direction == "maximize"),
    )


def best_curves(comparison: Comparison, readings: dict[str, Reading]) -> BestCurves:
    """Gather the reports of each contender's best trial, if it has two reports or more."""
    series = []
    for name, reading in readings.items():
        reports = {} if reading.best is None else reading.best.intermediate_values
        steps = evenly(sorted(reports), _MAX_STEPS)
        if len(steps) > 1:
            series.append(Series(name, [float(s) for s in steps], [reports[s] for s in steps]))
    values = [value for each in series for value in each.y]
    return BestCurves(series, view(values, maximize=comparison.direction == "maximize"))


def trials_of_many(readings: dict[str, Reading]) -> list[Series]:
    """Gather each contender's values by number of trials so far."""
    found = []
    for name, reading in readings.items():
        shown = _spread_out(reading.complete, reading, _MAX_SLICE)
        numbers = [float(trial.number + 1) for trial in shown]
        found.append(Series(name, numbers, [value_of(trial) for trial in shown]))
    return found


def slice_of_many(
    comparison: Comparison, readings: dict[str, Reading], name: str
) -> SliceOfMany | None:
    """Gather each contender's values against a parameter, by its name for the trainer.

    Returns:
        None if it is a number for some and a choice for others.
    """
    axes, points = [], {}
    for contender, reading in readings.items():
        trial_name = _trial_name(reading, name)
        if trial_name is not None:
            axes.append(_axis(reading, trial_name, _of_one_kind(reading, trial_name)))
            points[contender] = _points(reading, trial_name)
    if len({bool(axis.labels) for axis in axes}) != 1:
        return None
    axis = Axis(
        name=name,
        log=any(axis.log for axis in axes),
        one_minus=any(axis.one_minus for axis in axes),
        labels=tuple(dict.fromkeys(label for axis in axes for label in axis.labels)),
    )
    series = [
        Series(
            contender,
            [_trainer_position(axis, value, place) for place, (value, _) in enumerate(of)],
            [y for _, y in of],
        )
        for contender, of in points.items()
    ]
    every = [y for each in series for y in each.y]
    return SliceOfMany(axis, series, view(every, maximize=comparison.direction == "maximize"))


def _baseline_value(reading: Reading) -> float | None:
    baseline = reading.baseline
    complete = baseline is not None and baseline.state == TrialState.COMPLETE
    return value_of(baseline) if baseline is not None and complete else None


def _numbers(reading: Reading, state: TrialState) -> list[int]:
    numbers = [trial.number for trial in reading.trials if trial.state == state]
    return evenly(numbers, _MAX_HISTORY)


def _improvements(reading: Reading) -> tuple[list[int], list[float]]:
    """Return the numbers of the trials that were the best so far, and their values."""
    found = [(trial.number, value_of(trial)) for trial in filter(is_feasible, reading.complete)]
    best = _best_so_far(found, maximize=reading.maximize)
    if best and reading.trials[-1].number > best[-1][0]:
        best.append((reading.trials[-1].number, best[-1][1]))
    return [number for number, _ in best], [value for _, value in best]


def _best_and_evenly(
    trials: Sequence[FrozenTrial], reading: Reading, limit: int
) -> list[FrozenTrial]:
    """Return up to ``limit`` trials in order: the best, and as many of the others, evenly."""
    if len(trials) <= limit:
        return list(trials)
    rank = {trial.number: place for place, trial in enumerate(reading.ranked)}
    ordered = sorted(trials, key=lambda trial: rank.get(trial.number, len(rank)))
    best, rest = ordered[: limit // 2], ordered[limit // 2 :]
    rest = evenly(sorted(rest, key=_number), limit - len(best))
    kept = {trial.number: trial for trial in best + rest}
    baseline = reading.baseline
    if baseline is not None and any(trial.number == baseline.number for trial in trials):
        kept[baseline.number] = baseline
    return sorted(kept.values(), key=_number)


def _spread_out(trials: Sequence[FrozenTrial], reading: Reading, limit: int) -> list[FrozenTrial]:
    """Return up to ``limit`` trials: a quarter are the best, the others evenly over time."""
    if len(trials) <= limit:
        return list(trials)
    kept = {trial.number: trial for trial in reading.ranked[: limit // 4]}
    rest = [trial for trial in trials if trial.number not in kept]
    kept |= {trial.number: trial for trial in evenly(rest, limit - len(kept))}
    return sorted(kept.values(), key=_number)


def evenly(items: Sequence[_T], limit: int) -> list[_T]:
    """Return up to ``limit`` of the items, evenly spaced, with the first and the last."""
    if len(items) <= limit:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, limit)]


def _number(trial: FrozenTrial) -> int:
    return trial.number


def _curve(trial: FrozenTrial, reading: Reading) -> Curve:
    steps = evenly(sorted(trial.intermediate_values), _MAX_STEPS)
    kind = "complete" if trial.state == TrialState.COMPLETE else "pruned"
    if reading.best is not None and trial.number == reading.best.number:
        kind = "best"
    elif reading.baseline is not None and trial.number == reading.baseline.number:
        kind = "baseline"
    return Curve(trial.number, kind, steps, [trial.intermediate_values[step] for step in steps])


def stored_title(reading: Reading, name: str) -> str:
    """Return the title of an axis with the trials' own values, 1 - value for some."""
    title = reading.spelling.address(name)
    return f"1 - {title}" if reading.spelling.is_one_minus(name) else title


def _of_one_kind(reading: Reading, name: str) -> list[FrozenTrial]:
    """Return complete trials that have a parameter of the same kind as the last one."""
    having = [trial for trial in reading.complete if name in trial.params]
    kind = type(having[-1].distributions[name])
    return [trial for trial in having if isinstance(trial.distributions[name], kind)]


def _axis(reading: Reading, name: str, trials: Sequence[FrozenTrial]) -> Axis:
    distribution = trials[-1].distributions[name]
    title = reading.spelling.address(name)
    if isinstance(distribution, CategoricalDistribution):
        choices = [*distribution.choices, *(trial.params[name] for trial in trials)]
        return Axis(title, labels=tuple(dict.fromkeys(str(choice) for choice in choices)))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    log = distribution.log and all(trial.params[name] > 0 for trial in trials)
    return Axis(title, log=log, one_minus=reading.spelling.is_one_minus(name))


def _position(axis: Axis, value: Any, number: int) -> float:
    """Return a parameter's place on its axis; equal choices are spread a little."""
    if not axis.labels:
        return float(value)
    # Multiples of the golden ratio fill an interval evenly, whatever their number.
    return axis.labels.index(str(value)) + 0.5 * ((number * 0.618034) % 1 - 0.5)


def _trainer_position(axis: Axis, value: Any, number: int) -> float:
    return 1 - value if axis.one_minus else _position(axis, value, number)


def _place(trial: FrozenTrial | None, numbers: Sequence[int]) -> int | None:
    return numbers.index(trial.number) if trial is not None and trial.number in numbers else None


def _trial_name(reading: Reading, name: str) -> str | None:
    """Return what trials call a trainer's parameter; None if it is not tuned."""
    for trial in reversed(reading.complete):
        for each in trial.params:
            if reading.trainer_name(each) == name:
                return each
    return None


def _points(reading: Reading, trial_name: str) -> list[tuple[Any, float]]:
    shown = _best_and_evenly(_of_one_kind(reading, trial_name), reading, _MAX_SLICE)
    return [
        (reading.spelling.trainer_value(trial_name, trial.params[trial_name]), value_of(trial))
        for trial in shown
    ]


def _best_line(
    comparison: Comparison, name: str, curve: TuningCurve | None
) -> tuple[list[int], list[float]]:
    """Return a contender's best value so far by number of trials: the median of its tunings."""
    repeated = curve is not None and len(comparison.contenders[name].tunings) > 1
    best = curve.median if repeated and curve is not None else comparison.best_so_far(name)
    numbers = evenly([i + 1 for i, value in enumerate(best) if math.isfinite(value)], _MAX_RACE)
    return numbers, [float(best[number - 1]) for number in numbers]


def _band_edges(
    curve: TuningCurve | None, edges: tuple[float, float]
) -> tuple[list[int], list[float], list[float]]:
    if curve is None:
        return [], [], []
    numbers = evenly(list(range(1, len(curve.median) + 1)), _MAX_RACE)
    places = [number - 1 for number in numbers]
    low, high = (np.clip(end[places], *edges).tolist() for end in (curve.low, curve.high))
    return numbers, low, high


def course(sweep: Sweep) -> Course:
    """Gather the values of a sweep's trials in order, and the best so far."""
    numbered = list(enumerate((each for stage in sweep.stages for each in stage.trials), start=1))
    places = iter(numbered)
    series, labels = [], []
    for stage in sweep.stages:
        of_stage = list(itertools.islice(places, len(stage.trials)))
        known = [(n, trial, trial.value) for n, trial in of_stage if trial.value is not None]
        series.append(Series(stage.name, [float(n) for n, _, _ in known], [v for *_, v in known]))
        labels.append([listed(trial.changed) for _, trial, _ in known])
    found = [(int(n), y) for each in series for n, y in zip(each.x, each.y, strict=True)]
    best = _best_so_far(found, maximize=sweep.direction == "maximize")
    best.append((len(numbered), best[-1][1]))
    shown = view([value for _, value in found], maximize=sweep.direction == "maximize")
    return Course(series, labels, [n for n, _ in best], [value for _, value in best], shown)


def _best_so_far(found: Sequence[tuple[int, float]], *, maximize: bool) -> list[tuple[int, float]]:
    """Return those that are better than all before them."""
    sign = 1.0 if maximize else -1.0
    best: list[tuple[int, float]] = []
    for number, value in found:
        if not best or sign * value > sign * best[-1][1]:
            best.append((number, value))
    return best


def slice_of_stage(stage: SweepStage, *, maximize: bool) -> SliceOfMany | None:
    """Gather a stage's values against what it varies; None if that is not one parameter."""
    known = [trial for trial in stage.trials if trial.value is not None]
    names = {name for trial in known for name in trial.changed}
    if len(names) != 1 or len(known) < 2:
        return None
    name = names.pop()
    tried = [each.changed[name] for each in known]
    values = [each.value for each in known if each.value is not None]
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in tried):
        low, high = min(tried), max(tried)
        axis = Axis(name, log=low > 0 and high >= 10 * low)
    else:
        axis = Axis(name, labels=tuple(dict.fromkeys(map(str, tried))))
    x = [float(axis.labels.index(str(each))) if axis.labels else float(each) for each in tried]
    return SliceOfMany(axis, [Series(stage.name, x, values)], view(values, maximize=maximize))


def tuned_parameters(readings: dict[str, Reading]) -> list[str]:
    """Return what the contenders tune, in the trainer's names, the most frequent first."""
    counts = Counter(name for reading in readings.values() for name in _tuned_names(reading))
    return [name for name, _ in counts.most_common()]


def _tuned_names(reading: Reading) -> list[str]:
    return list(dict.fromkeys(map(reading.trainer_name, sliced_names(reading))))
