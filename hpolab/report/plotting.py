"""plot_*: the figures of a report one by one, as Plotly figures for a notebook.

A name that Optuna has means what it means there. Any other figure of ``optuna.visualization`` takes
hpolab's studies as well; what these add are the trainer's names, the metric's name, and results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna import Study

from hpolab import _optuna
from hpolab.analysis.comparison import Comparison
from hpolab.analysis.confirmation import Confirmation
from hpolab.analysis.influence import influence
from hpolab.analysis.parameters import Influence
from hpolab.analysis.trained.sweep import Sweep
from hpolab.errors import InvalidArgument, InvalidType, needs, one_of
from hpolab.keywords import checks_keywords
from hpolab.report import figures, plots
from hpolab.report.grid import side_by_side
from hpolab.report.reading import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from hpolab.report.figures import Figure
    from hpolab.report.reading import Reading

__all__ = [
    "plot_confirmation",
    "plot_intermediate_values",
    "plot_optimization_history",
    "plot_parallel_coordinate",
    "plot_param_importances",
    "plot_pareto_front",
    "plot_slice",
    "plot_test_scores",
    "plot_tuning_curves",
]

# Parameters that one figure has room for.
_MOST_SLICES, _MOST_LINES = 12, 10
_TITLE_HEIGHT = 40
_RESAMPLES = 100


@checks_keywords()
def plot_optimization_history(source: Study | Comparison | Sweep) -> go.Figure:
    """Plot the value of each trial in order, and the best so far.

    Args:
        source: A study with one objective value; of a `Comparison` each contender has its color,
            and a band where an interval is known; a `Sweep` goes stage after stage.

    Raises:
        InvalidType: If ``source`` is none of them.
        InvalidArgument: If no trial is complete, or there are several objective values.
        MissingExtra: If plotly is not installed.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        >>> figure = plot_optimization_history(study)
        >>> figure.layout.yaxis.title.text
        'value (minimized)'
    """
    if isinstance(source, Comparison):
        return _race(source, "History", with_trials=True)
    if isinstance(source, Sweep):
        metric = read(source.stages[0].studies[0]).metric
        colors = _colors([stage.name for stage in source.stages])
        course = plots.course(source)
        drawn = figures.draw_course(course, colors, direction=source.direction, metric=metric)
        return _shown(drawn, f"{source.study_name}: stage after stage")
    reading = _read(source, "a study, a Comparison or a Sweep")
    drawn = figures.draw_history(
        plots.history(reading),
        direction=reading.directions[0],
        baseline=_legend_name(reading),
        metric=reading.metric,
    )
    return _shown(drawn, f"{reading.name}: history")


@checks_keywords()
def plot_intermediate_values(source: Study | Comparison) -> go.Figure:
    """Plot what trials have reported, step by step.

    Args:
        source: A study: its best trial, the default and the pruned ones stand out. Of a
            `Comparison`, each contender's best trial is shown.

    Raises:
        InvalidType: If ``source`` is none of them.
        InvalidArgument: If no trial has reported anything.
        MissingExtra: If plotly is not installed.
    """
    if isinstance(source, Comparison):
        readings = _readings(source)
        curves = plots.best_curves(source, readings)
        if not curves.series:
            raise InvalidArgument(
                "`source` must have a trial with two reports or more, got comparison "
                f"{source.study_name!r} with none."
            )
        metric = f"reported {_metric(readings)}"
        drawn = figures.draw_best_curves(curves, _colors_of(source), metric=metric)
        return _shown(drawn, f"{source.study_name}: each contender's best trial")
    reading = _read(source, "a study or a Comparison", complete=False)
    shown = plots.curves(reading)
    if not shown.curves:
        raise InvalidArgument(
            f"`source` must have a trial with reports, got study {reading.name!r} with none."
        )
    metric = f"reported {reading.metric}"
    drawn = figures.draw_curves(shown, baseline=_legend_name(reading), metric=metric)
    return _shown(drawn, f"{reading.name}: reports during training")


@checks_keywords()
def plot_slice(source: Study | Comparison, params: Sequence[str] | None = None) -> go.Figure:
    """Plot the values of trials against each parameter, side by side.

    Args:
        source: A study with one objective value: later trials are bluer, the best one is a star
            and the default a diamond. Of a `Comparison`, each contender has its color.
        params: The parameters, by the trainer's names; None for those that were varied, at most
            12, in the order in which trials have them.

    Raises:
        InvalidType: If ``source`` is none of them.
        InvalidArgument: If no trial is complete, nothing was varied, or a parameter is unknown.
        MissingExtra: If plotly is not installed.
    """
    if isinstance(source, Comparison):
        return _slices_of_many(source, params)
    reading = _read(source, "a study or a Comparison")
    names = _chosen(reading, params, _MOST_SLICES)
    drawn = [
        figures.draw_slice(plots.slice_of(reading, name), metric=reading.metric) for name in names
    ]
    return _shown(side_by_side(drawn), f"{reading.name}: by parameter")


@checks_keywords()
def plot_param_importances(source: Study | Influence) -> go.Figure:
    """Plot each parameter's share of the importance, with its range over resamples of the trials.

    Blue bars are of parameters on which the value depends, by a test; gray ones are not
    significant, however long.

    Args:
        source: A study, or its `influence`, which need not be computed again.

    Raises:
        InvalidType: If ``source`` is none of them.
        InvalidArgument: If there are too few trials.
        MissingExtra: If plotly is not installed.
    """
    if isinstance(source, Influence):
        found, titles, name = source, {each: _plain_name(each) for each in source.parameters}, ""
    else:
        reading = _read(source, "a study or an Influence")
        found = influence(reading.study, n_resamples=_RESAMPLES)
        titles = {each: reading.trainer_name(each) for each in found.parameters}
        name = f"{reading.name}: "
    if not any(each.importance for each in found.parameters.values()):
        raise InvalidArgument(
            "`source` must have enough trials to tell which parameters matter, got "
            f"{found.n_trials} complete ones."
        )
    return _shown(figures.draw_importances(found, titles), f"{name}importance")


@checks_keywords()
def plot_parallel_coordinate(source: Study, params: Sequence[str] | None = None) -> go.Figure:
    """Plot each trial as a line through its parameters; good ones are thick and blue.

    Args:
        source: A study.
        params: As in `plot_slice`, two or more; at most 10 by default.

    Raises:
        InvalidType: If ``source`` is no study.
        InvalidArgument: If fewer than two trials are complete, fewer than two parameters were
            varied, or one is unknown.
        MissingExtra: If plotly is not installed.
    """
    reading = _read(source, "a study", single=False)
    names = _chosen(reading, params, _MOST_LINES)
    trials = plots.parallel_trials(reading, names)
    if len(names) < 2 or len(trials) < 2:
        raise InvalidArgument(
            "`source` must have two complete trials and two parameters that were varied, got "
            f"{len(trials)} and {len(names)} in study {reading.name!r}."
        )
    titles = {name: plots.stored_title(reading, name) for name in names}
    few = _optuna.with_trials(reading.study, trials)
    drawn = figures.draw_parallel(few, titles, metrics=reading.metric_names)
    return _shown(drawn, f"{reading.name}: parameters of the trials")


@checks_keywords()
def plot_pareto_front(source: Study) -> go.Figure:
    """Plot two objective values against each other, with the trials that no other beats.

    Args:
        source: A study with two objective values.

    Raises:
        InvalidType: If ``source`` is no study.
        InvalidArgument: If it has not two objective values, or no trial is complete.
        MissingExtra: If plotly is not installed.
    """
    reading = _read(source, "a study", single=False)
    if len(reading.directions) != 2:
        raise InvalidArgument(
            f"`source` must have two objective values, got {len(reading.directions)} in study "
            f"{reading.name!r}."
        )
    front = reading.study.best_trials
    drawn = figures.draw_fronts(reading.complete, front, metrics=reading.metric_names)
    return _shown(drawn, f"{reading.name}: Pareto front")


@checks_keywords()
def plot_tuning_curves(source: Comparison) -> go.Figure:
    """Plot the best value that each contender has after 1, 2, ... trials, with its interval.

    With several tunings of each, lines are their medians and bands the intervals of these. With
    one, bands are those of random search, where that is what drew the trials.

    Args:
        source: A `Comparison`.

    Raises:
        InvalidType: If ``source`` is none.
        InvalidArgument: If no contender has a complete trial.
        MissingExtra: If plotly is not installed.
    """
    return _race(_comparison(source), "tuning curves", with_trials=False)


@checks_keywords()
def plot_test_scores(source: Comparison) -> go.Figure:
    """Plot the scores of each contender's best configuration on the test data.

    Dots are seeds, or tunings where there are several; the mean has its standard error.

    Args:
        source: A `Comparison` that was given data as ``test``.

    Raises:
        InvalidType: If ``source`` is none.
        InvalidArgument: If nothing was scored on test data.
        MissingExtra: If plotly is not installed.
    """
    comparison = _comparison(source)
    if not comparison.has_test_scores:
        raise InvalidArgument(
            "`source` must have scores on test data, got comparison "
            f"{comparison.study_name!r} without: give `compare` data as `test`."
        )
    several = comparison.scores() if comparison.n_repeats > 1 else {}
    scores = {
        each.name: several.get(each.name, each.test_scores)
        for each in comparison.ranking()
        if any(tuning.test_scores for tuning in each.tunings)
    }
    metric = _metric(_readings(comparison))
    drawn = figures.draw_test_scores(scores, _colors_of(comparison), metric=metric)
    return _shown(drawn, f"{comparison.study_name}: on the test data")


@checks_keywords()
def plot_confirmation(source: Confirmation) -> go.Figure:
    """Plot each configuration's improvement over the baseline with its interval, seed by seed.

    Green is better, red worse, blue not known yet.

    Args:
        source: A `Confirmation`.

    Raises:
        InvalidType: If ``source`` is none.
        InvalidArgument: If no configuration can be compared with the baseline.
        MissingExtra: If plotly is not installed.
    """
    if not isinstance(source, Confirmation):
        raise _wrong_type(source, "a Confirmation")
    if not any(each.improvement is not None for each in source.configurations):
        raise InvalidArgument(
            "`source` must have a configuration that can be compared with the baseline, got none: "
            "trainings have diverged or failed."
        )
    return _shown(figures.draw_intervals(source), f"{source.study_name}: on the test data")


def _race(comparison: Comparison, title: str, *, with_trials: bool) -> go.Figure:
    shown = plots.race(comparison)
    if not shown.bands:
        raise InvalidArgument(
            "`source` must have a complete trial, got comparison "
            f"{comparison.study_name!r} with none."
        )
    readings = _readings(comparison)
    metric = _metric(readings)
    drawn = figures.draw_race(shown, direction=comparison.direction, metric=metric)
    if with_trials:
        dots = plots.trials_of_many(readings)
        drawn["data"] = figures.draw_trials_of_many(dots, _colors_of(comparison)) + drawn["data"]
        axis = drawn["layout"]["yaxis"]
        axis["title"]["text"] = f"{metric} ({comparison.direction}d)"
        every = [value for each in dots for value in each.y]
        every += [value for band in shown.bands for value in band.best]
        view = plots.view(every, maximize=comparison.direction == "maximize")
        axis.pop("range", None)
        if view.low is not None:
            axis["range"] = [view.low, view.high]
    return _shown(drawn, f"{comparison.study_name}: {title.lower()}")


def _slices_of_many(comparison: Comparison, params: Sequence[str] | None) -> go.Figure:
    readings = {name: each for name, each in _readings(comparison).items() if each.complete}
    known = plots.tuned_parameters(readings)
    if not known:
        raise InvalidArgument(
            f"`source` must have trials that vary a parameter, got comparison "
            f"{comparison.study_name!r} with none."
        )
    names = known if params is None else [one_of("params", name, known) for name in params]
    found = [plots.slice_of_many(comparison, readings, name) for name in names]
    colors, metric = _colors_of(comparison), _metric(readings)
    drawn = [
        figures.draw_slice_of_many(each, colors, metric=metric)
        for each in found
        if each is not None
    ]
    grid = side_by_side(drawn[:_MOST_SLICES], legend=colors)
    return _shown(grid, f"{comparison.study_name}: by parameter")


def _read(source: Any, taken: str, *, single: bool = True, complete: bool = True) -> Reading:
    """Read a study that can be drawn."""
    if not isinstance(source, Study):
        raise _wrong_type(source, taken)
    reading = read(source)
    if single and not reading.is_single:
        raise InvalidArgument(
            f"`source` must have one objective value, got {len(reading.directions)} in study "
            f"{reading.name!r}: `plot_pareto_front` shows two."
        )
    if complete and not reading.complete:
        raise InvalidArgument(
            f"`source` must have a complete trial, got study {reading.name!r} with none."
        )
    return reading


def _comparison(source: Any) -> Comparison:
    if not isinstance(source, Comparison):
        raise _wrong_type(source, "a Comparison")
    return source


def _wrong_type(source: Any, taken: str) -> InvalidType:
    return InvalidType(f"`source` must be {taken}, got {type(source).__name__}.")


def _chosen(reading: Reading, params: Sequence[str] | None, limit: int) -> list[str]:
    """Return what trials call the parameters to draw, which are given by the trainer's names."""
    varied = plots.sliced_names(reading)
    if params is None:
        if not varied:
            raise InvalidArgument(
                "`source` must have trials that vary a parameter, got study "
                f"{reading.name!r} with none."
            )
        return varied[:limit]
    if isinstance(params, str):
        raise InvalidType(f"`params` must be a list of names, got {params!r}.")
    addresses = {reading.spelling.address(name): name for name in varied}
    by_name = {reading.trainer_name(name): name for name in varied} | addresses
    return [by_name[one_of("params", name, by_name)] for name in params]


def _readings(comparison: Comparison) -> dict[str, Reading]:
    """Return each contender's study, of several tunings the best one."""
    return {name: read(comparison.best_tuning(name).study) for name in comparison.contenders}


def _metric(readings: dict[str, Reading]) -> str:
    return next(iter(readings.values())).metric


def _colors_of(comparison: Comparison) -> dict[str, str]:
    shown = plots.race(comparison)
    return _colors([*(band.name for band in shown.bands), *shown.without])


def _colors(names: Sequence[str]) -> dict[str, str]:
    return {name: figures.color_of(place) for place, name in enumerate(names)}


def _legend_name(reading: Reading) -> str:
    return reading.baseline_name.removeprefix("the ")


def _plain_name(name: str) -> str:
    """Return the trainer's name of a parameter whose study is not at hand."""
    return name.replace("one_minus_", "", 1) if "one_minus_" in name else name


def _shown(drawn: Figure, title: str) -> go.Figure:
    """Return a figure with its title above the legend."""
    with needs("`plot_*`", "plotly", "report"):
        import plotly.graph_objects as go
    layout = dict(drawn["layout"])
    margin = dict(layout["margin"])
    layout |= {
        "title": {
            "text": figures.as_text(title),
            "font": {"size": 15},
            "x": 0.01,
            "xanchor": "left",
        },
        "margin": {**margin, "t": margin["t"] + _TITLE_HEIGHT},
        "height": layout["height"] + _TITLE_HEIGHT,
    }
    return go.Figure(data=drawn["data"], layout=layout)
