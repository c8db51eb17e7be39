"""Figures as plotly.js takes them: data and layout. Their data are gathered elsewhere.

Colors are of middle lightness, so that one figure reads on a light and on a dark page; text and
grid lines get theirs from the page.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

from hpolab.analysis.wording import short
from hpolab.errors import needs
from hpolab.studies.trials import sign_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.analysis.confirmation import Configuration, Confirmation
    from hpolab.analysis.parameters import Influence
    from hpolab.report.plots import (
        Axis,
        BestCurves,
        Course,
        Curve,
        Curves,
        History,
        Race,
        Series,
        Slice,
        SliceOfMany,
        View,
    )

__all__ = [
    "PALETTE",
    "Figure",
    "as_text",
    "color_of",
    "draw_best_curves",
    "draw_course",
    "draw_curves",
    "draw_fronts",
    "draw_history",
    "draw_importances",
    "draw_intervals",
    "draw_parallel",
    "draw_race",
    "draw_shrinkage",
    "draw_slice",
    "draw_slice_of_many",
    "draw_test_scores",
    "draw_trials_of_many",
]

Figure = dict[str, Any]

_BLUE, _ORANGE, _GREEN, _RED = "#3f83c8", "#e07b2c", "#2f9e6e", "#d3504c"
_GRAY, _LINE = "#8b949e", "rgba(128,136,144,0.25)"
PALETTE = (_BLUE, _ORANGE, _GREEN, "#8b6fc8", "#c8639d", "#1f9aa8", "#9a8f2f", _RED, "#6c7bd1")
# From far to near, for values and for trials in their order.
_SCALE = ((0.0, "#aab1b9"), (1.0, "#2f78c4"))
_MAX_BARS = 20
# Ticks within a decade: the first of these that gives an axis three.
_LOG_STEPS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))
# `%{` begins a place for a value.
_WRITTEN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "%{": "&#37;{"}
_ROW_HEIGHT = 30
# What the axis of a small figure has room for on a phone.
_MOST_LABEL_CHARS = 36
# What stands above the axes of parallel coordinates without running into each other.
_MOST_TITLE_CHARS = 80


def color_of(place: int) -> str:
    """Return the color of the contender at a place."""
    return PALETTE[place % len(PALETTE)]


def draw_history(
    shown: History, *, direction: str, baseline: str = "default", metric: str = "value"
) -> Figure:
    """Draw values in order of trials, the best so far, and marks for pruned and failed trials.

    Args:
        shown: What is shown.
        direction: "minimize" or "maximize".
        baseline: The baseline's name in the legend.
        metric: What the value is called.
    """
    colors = [_GRAY if infeasible else _BLUE for infeasible in shown.infeasible]
    traces: list[dict[str, Any]] = [
        {
            **_dots(shown.numbers, shown.values, colors),
            "name": "trial",
            "customdata": shown.numbers,
            "hovertemplate": "trial %{customdata}: %{y:.5g}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": shown.best_numbers,
            "y": _rounded(shown.best_values),
            "name": "best so far",
            "line": {"color": _ORANGE, "width": 2.5, "shape": "hv"},
            "hovertemplate": "best so far: %{y:.5g}<extra></extra>",
        },
    ]
    numbers = shown.numbers + shown.pruned + shown.failed
    if shown.baseline is not None:
        ends = [0, max(numbers)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": ends,
                "y": _rounded([shown.baseline, shown.baseline]),
                "name": baseline,
                "line": {"color": _GREEN, "width": 2, "dash": "dash"},
                "hovertemplate": f"{baseline}: %{{y:.5g}}<extra></extra>",
            }
        )
    traces += _rug(shown.pruned, "pruned", _GRAY) + _rug(shown.failed, "failed", _RED)
    layout = _layout(380, x="trial", y=_aimed(metric, direction), view=shown.view)
    layout["xaxis"] |= _whole(numbers)
    layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    return {"data": traces, "layout": layout}


def draw_curves(
    shown: Curves, *, baseline: str = "default", metric: str = "intermediate value"
) -> Figure:
    """Draw reports by step: pruned and complete trials, the baseline and the best one.

    Args:
        shown: What is shown.
        baseline: The baseline's name in the legend.
        metric: What the reports are called.
    """
    styles = {
        "pruned": {"color": _RED, "width": 1},
        "complete": {"color": _BLUE, "width": 1.2},
        "baseline": {"color": _GREEN, "width": 2.5, "dash": "dash"},
        "best": {"color": _ORANGE, "width": 3},
    }
    traces = []
    for kind, line in styles.items():
        of_kind = shown.of_kind(kind)
        if of_kind:
            name = baseline if kind == "baseline" else kind
            strong = kind in ("baseline", "best")
            traces.append(_lines(of_kind, name, line, opacity=1.0 if strong else 0.45))
    pruned = shown.of_kind("pruned")
    if pruned:
        traces.append(
            {
                **_dots(
                    [curve.steps[-1] for curve in pruned],
                    [curve.values[-1] for curve in pruned],
                    _RED,
                ),
                "name": "pruned here",
                "customdata": [curve.number for curve in pruned],
                "hovertemplate": "trial %{customdata} pruned at step %{x}<extra></extra>",
                "marker": {"symbol": "x-thin", "size": 6, "line": {"color": _RED, "width": 1.5}},
            }
        )
    layout = _layout(400, x="step", y=metric, view=shown.view)
    layout["xaxis"] |= _whole([step for curve in shown.curves for step in curve.steps])
    return {"data": traces, "layout": layout}


def draw_best_curves(
    shown: BestCurves, colors: Mapping[str, str], *, metric: str = "intermediate value"
) -> Figure:
    """Draw the reports of each contender's best trial by step."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": _rounded(each.x),
            "y": _rounded(each.y),
            "name": _markup(each.name),
            "line": {"color": colors[each.name], "width": 2},
            "hovertemplate": f"{_markup(each.name)}, step %{{x}}: %{{y:.5g}}<extra></extra>",
        }
        for each in shown.series
    ]
    layout = _layout(420, x="step", y=metric, view=shown.view)
    layout["xaxis"] |= _whole([int(step) for each in shown.series for step in each.x])
    return {"data": traces, "layout": layout}


def draw_course(
    shown: Course, colors: Mapping[str, str], *, direction: str, metric: str = "value"
) -> Figure:
    """Draw a sweep's values stage after stage, and the best so far."""
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": shown.best_counts,
            "y": _rounded(shown.best_values),
            "name": "best so far",
            "line": {"color": _GRAY, "width": 2, "shape": "hv"},
            "hovertemplate": "best so far: %{y:.5g}<extra></extra>",
        }
    ]
    for series, labels in zip(shown.series, shown.labels, strict=True):
        dots = {
            **_dots(series.x, series.y, colors[series.name]),
            "name": _markup(series.name),
            "text": [_markup(label) for label in labels],
            "hovertemplate": f"%{{text}}<br>{_markup(metric)} %{{y:.5g}}<extra></extra>",
        }
        dots["marker"] |= {"size": 9}
        traces.append(dots)
    layout = _layout(420, x="trials", y=_aimed(metric, direction), view=shown.view)
    layout["xaxis"] |= _whole(shown.best_counts)
    return {"data": traces, "layout": layout}


def draw_slice(shown: Slice, *, metric: str = "value") -> Figure:
    """Draw values against one parameter; later trials are bluer."""
    marker = {
        "size": 6,
        "opacity": 0.8,
        "color": shown.numbers,
        "colorscale": [list(stop) for stop in _SCALE],
        "symbol": ["circle-open" if bad else "circle" for bad in shown.infeasible],
    }
    traces: list[dict[str, Any]] = [
        {
            **_dots(shown.x, shown.y, _BLUE),
            "marker": marker,
            "text": [_said(shown.axis, x) for x in shown.x],
            "customdata": shown.numbers,
            "hovertemplate": f"trial %{{customdata}}<br>{_markup(shown.axis.name)} %{{text}}"
            f"<br>{_markup(metric)} %{{y:.5g}}<extra></extra>",
        }
    ]
    for place, color, symbol in (
        (shown.baseline, _GREEN, "diamond"),
        (shown.best, _ORANGE, "star"),
    ):
        if place is not None:
            marked = _dots([shown.x[place]], [shown.y[place]], color)
            marked["marker"] = {"size": 12, "color": color, "symbol": symbol}
            marked["hoverinfo"] = "skip"
            traces.append(marked)
    layout = _small_layout(shown.axis, shown.x, shown.view, metric)
    return {"data": traces, "layout": layout}


def draw_slice_of_many(
    shown: SliceOfMany, colors: Mapping[str, str], *, metric: str = "value"
) -> Figure:
    """Draw values against one parameter, one color for each contender."""
    traces = []
    for series in shown.series:
        traces.append(
            {
                **_dots(series.x, series.y, colors[series.name]),
                "name": _markup(series.name),
                "text": [_said(shown.axis, x) for x in series.x],
                "hovertemplate": f"{_markup(series.name)}<br>{_markup(shown.axis.name)} %{{text}}"
                f"<br>{_markup(metric)} %{{y:.5g}}<extra></extra>",
            }
        )
    every = [x for series in shown.series for x in series.x]
    return {"data": traces, "layout": _small_layout(shown.axis, every, shown.view, metric)}


def draw_importances(found: Influence, titles: Mapping[str, str]) -> Figure:
    """Draw each parameter's share of the importance, and its range over resamples."""
    known = [each for each in found.parameters.values() if each.importance is not None]
    known = sorted(known, key=_share)[-_MAX_BARS:]
    shares = [each.importance for each in known if each.importance is not None]
    names = [_markup(titles[each.name]) for each in known]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": _rounded([share.share for share in shares]),
        "marker": {"color": [_BLUE if each.is_significant else _GRAY for each in known]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": _rounded([max(0.0, share.high - share.share) for share in shares]),
            "arrayminus": _rounded([max(0.0, share.share - share.low) for share in shares]),
            "color": _GRAY,
            "thickness": 1.5,
            "width": 4,
        },
        "name": "importance",
        "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
    }
    layout = _layout(110 + _ROW_HEIGHT * len(known), x="share of the importance", y="")
    layout["xaxis"]["rangemode"] = "tozero"
    layout["yaxis"] |= {"type": "category", "showgrid": False, "ticksuffix": "  "}
    layout["bargap"] = 0.4
    return {"data": [bars], "layout": layout}


def draw_parallel(
    study: Study, names: Mapping[str, str], *, metrics: Sequence[str] = ("value",)
) -> Figure:
    """Draw trials as lines through their parameters: Optuna's figure, in our colors.

    Args:
        study: The study, or a view of it with few trials.
        names: The parameters, by their name in the trials, and what to call them.
        metrics: What each value is called.
    """
    with needs("A report", "plotly", "report"):
        from optuna.visualization import plot_parallel_coordinate

        drawn = plot_parallel_coordinate(study, params=list(names))
    figure: Figure = json.loads(drawn.to_json())
    reverse = study.directions[0].name == "MINIMIZE"
    # Optuna sorts parameters by their name, and cuts long ones.
    params = [names[name] for name in sorted(names)]
    titles = [_markup(_fitted(title)) for title in (*metrics, *params)]
    lines = [trace for trace in figure["data"] if "customdata" in trace]
    for trace in lines:
        _restyle(trace, titles, reverse=reverse, faint=0.35 if len(lines) < 100 else 0.12)
    layout = {key: figure["layout"][key] for key in ("annotations", "shapes", "xaxis", "yaxis")}
    for annotation in layout["annotations"]:
        annotation |= {"font": {"size": 11}, "text": _markup(annotation["text"])}
    layout["xaxis"] |= {"ticktext": titles, "side": "top", "tickangle": 0, "automargin": True}
    margin = {"l": 48, "r": 60, "t": 44, "b": 16}
    if sum(map(len, titles)) > _MOST_TITLE_CHARS:
        layout["xaxis"] |= {"tickangle": -25}
        margin |= {"t": 90, "r": 90}
    return {
        "data": lines,
        "layout": {**_layout(460, x="", y=""), **layout, "margin": margin},
    }


def draw_fronts(
    trials: Sequence[FrozenTrial],
    best: Sequence[FrozenTrial],
    *,
    metrics: Sequence[str] = ("value 0", "value 1"),
) -> Figure:
    """Draw two objective values against each other, the Pareto front marked."""
    front = {trial.number for trial in best}
    traces = []
    for name, color, wanted in (("other", _BLUE, False), ("Pareto front", _ORANGE, True)):
        of_name = [trial for trial in trials if (trial.number in front) == wanted]
        traces.append(
            {
                **_dots([t.values[0] for t in of_name], [t.values[1] for t in of_name], color),
                "name": name,
                "customdata": [trial.number for trial in of_name],
                "hovertemplate": "trial %{customdata}: %{x:.5g}, %{y:.5g}<extra></extra>",
            }
        )
    return {"data": traces, "layout": _layout(420, x=metrics[0], y=metrics[1])}


def draw_race(shown: Race, *, direction: str, metric: str = "value") -> Figure:
    """Draw each contender's best value so far, and the band of another tuning's median."""
    traces: list[dict[str, Any]] = []
    for place, band in enumerate(shown.bands):
        if not band.band_numbers:
            continue
        color = color_of(place)
        edge: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
        }
        edge |= {"x": band.band_numbers, "legendgroup": str(place), "showlegend": False}
        traces.append({**edge, "y": _rounded(band.low)})
        traces.append(
            {**edge, "y": _rounded(band.high), "fill": "tonexty", "fillcolor": _faint(color)}
        )
    for place, band in enumerate(shown.bands):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": band.numbers,
                "y": _rounded(band.best),
                "name": _markup(band.name),
                "legendgroup": str(place),
                "line": {"color": color_of(place), "width": 2.5, "shape": "hv"},
                "hovertemplate": f"{_markup(band.name)}, %{{x}} trials: %{{y:.5g}}<extra></extra>",
            }
        )
    layout = _layout(420, x="trials", y=f"best {_aimed(metric, direction)}", view=shown.view)
    layout["xaxis"] |= _whole([number for band in shown.bands for number in band.numbers])
    return {"data": traces, "layout": layout}


def draw_trials_of_many(shown: Sequence[Series], colors: Mapping[str, str]) -> list[dict[str, Any]]:
    """Draw each contender's trials as dots, by number of trials so far."""
    traces = []
    for each in shown:
        dots = {
            **_dots(each.x, each.y, colors[each.name]),
            "name": _markup(each.name),
            "showlegend": False,
            "hovertemplate": f"{_markup(each.name)}, trial %{{x}}: %{{y:.5g}}<extra></extra>",
        }
        dots["marker"] |= {"size": 5, "opacity": 0.45}
        traces.append(dots)
    return traces


def draw_test_scores(
    scores: Mapping[str, Sequence[float]], colors: Mapping[str, str], *, metric: str = "score"
) -> Figure:
    """Draw each contender's scores on the test data, and their mean with its standard error."""
    names = list(scores)[::-1]
    dots = {
        **_dots(
            [score for name in names for score in scores[name]],
            [_markup(name) for name in names for _ in scores[name]],
            [colors[name] for name in names for _ in scores[name]],
        ),
        "showlegend": False,
        "hovertemplate": "%{y}: %{x:.5g}<extra></extra>",
    }
    means = [math.fsum(scores[name]) / len(scores[name]) for name in names]
    errors = [_standard_error(scores[name]) for name in names]
    middle = _whiskers(means, names, errors, errors, [colors[name] for name in names])
    layout = _layout(100 + _ROW_HEIGHT * len(names), x=f"{metric} on the test data", y="")
    layout["yaxis"] |= {"type": "category", "showgrid": False, "ticksuffix": "  "}
    return {"data": [dots, *middle.pop("traces")], "layout": layout}


def draw_intervals(shown: Confirmation) -> Figure:
    """Draw each configuration's improvement over the baseline with its interval, and each seed's.

    Args:
        shown: The confirmation.
    """
    sign = sign_of(shown.direction)
    rows = [(label, each) for label, each in shown.named()[:0:-1] if each.improvement is not None]
    seeds_x, seeds_y = [], []
    for label, each in rows:
        for seed in each.scores.keys() & shown.baseline.scores.keys():
            seeds_x.append(sign * (each.scores[seed] - shown.baseline.scores[seed]))
            seeds_y.append(_markup(label))
    dots = {**_dots(seeds_x, seeds_y, _GRAY), "showlegend": False}
    dots |= {"hovertemplate": "%{x:.5g}<extra></extra>"}
    dots["marker"] = {"size": 6, "color": _GRAY, "opacity": 0.45}
    effects = [each.improvement for _, each in rows if each.improvement is not None]
    whiskers = _whiskers(
        [effect.estimate for effect in effects],
        [label for label, _ in rows],
        [effect.high - effect.estimate for effect in effects],
        [effect.estimate - effect.low for effect in effects],
        [_verdict_color(each) for _, each in rows],
    )
    layout = _layout(
        120 + 36 * len(rows), x=f"{shown.metric}: better than {shown.baseline_name} by", y=""
    )
    layout["yaxis"] |= {"type": "category", "showgrid": False, "ticksuffix": "  "}
    layout["shapes"] = [_zero_line()]
    return {"data": [dots, *whiskers["traces"]], "layout": layout}


def draw_shrinkage(shown: Confirmation) -> Figure:
    """Draw each configuration's improvement in tuning and on the test data."""
    traces = []
    for place, (name, each) in enumerate(shown.named()[1:]):
        if each.tuning_improvement is not None and each.improvement is not None:
            label = _markup(name)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": ["in tuning", "on the test data"],
                    "y": _rounded([each.tuning_improvement, each.improvement.estimate]),
                    "name": label,
                    "line": {"color": color_of(place), "width": 2},
                    "marker": {"size": 8},
                    "hovertemplate": f"{label}, %{{x}}: %{{y:.5g}}<extra></extra>",
                }
            )
    layout = _layout(320, x="", y=f"{shown.metric}: improvement")
    layout["xaxis"] |= {"type": "category", "range": [-0.25, 1.25]}
    layout["yaxis"] |= {"zeroline": True, "zerolinecolor": _GRAY, "zerolinewidth": 1.5}
    return {"data": traces, "layout": layout}


def _dots(x: Sequence[Any], y: Sequence[Any], color: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": _rounded(x),
        "y": _rounded(y),
        "marker": {"size": 7, "color": color, "opacity": 0.7},
    }


def _rug(numbers: Sequence[int], name: str, color: str) -> list[dict[str, Any]]:
    """Return ticks at the bottom of the history; no trace where there are none."""
    if not numbers:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": list(numbers),
            "y": [0.02] * len(numbers),
            "yaxis": "y2",
            "name": name,
            "marker": {"symbol": "line-ns", "size": 9, "line": {"color": color, "width": 1.5}},
            "hovertemplate": f"trial %{{x}} {name}<extra></extra>",
        }
    ]


def _lines(
    curves: Sequence[Curve], name: str, line: Mapping[str, Any], *, opacity: float
) -> dict[str, Any]:
    """Return all curves as one trace, a gap between two: hundreds of traces are slow to draw."""
    x: list[Any] = []
    y: list[Any] = []
    numbers: list[Any] = []
    for curve in curves:
        x += [*curve.steps, None]
        y += [*curve.values, None]
        numbers += [curve.number] * len(curve.steps) + [None]
    # A curve of one report is no line.
    short_ones = any(len(curve.steps) < 3 for curve in curves)
    return {
        "type": "scatter",
        "mode": "lines+markers" if short_ones else "lines",
        "marker": {"size": 4},
        "x": x,
        "y": _rounded(y),
        "customdata": numbers,
        "name": name,
        "line": dict(line),
        "opacity": opacity,
        "connectgaps": False,
        "hovertemplate": "trial %{customdata}, step %{x}: %{y:.5g}<extra></extra>",
    }


def _whiskers(
    x: Sequence[float],
    labels: Sequence[str],
    above: Sequence[float],
    below: Sequence[float],
    colors: Sequence[str],
) -> dict[str, Any]:
    """Return a mean with whiskers for each row: a trace for each, as whiskers have one color."""
    return {
        "traces": [
            {
                **_dots([x[i]], [_markup(labels[i])], colors[i]),
                "marker": {"size": 11, "color": colors[i], "symbol": "square"},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": _rounded([above[i]]),
                    "arrayminus": _rounded([below[i]]),
                    "color": colors[i],
                    "thickness": 2.5,
                    "width": 7,
                },
                "showlegend": False,
                "hovertemplate": f"{_markup(labels[i])}: %{{x:.5g}}<extra></extra>",
            }
            for i in range(len(x))
        ]
    }


def _layout(height: int, *, x: str, y: str, view: View | None = None) -> dict[str, Any]:
    axis = {
        "gridcolor": _LINE,
        "linecolor": _LINE,
        "zeroline": False,
        "automargin": True,
        "exponentformat": "power",
        "minexponent": 5,
    }
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 40, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#7a828c"},
        "hoverlabel": {
            "bgcolor": "#20262d",
            "bordercolor": "#20262d",
            "font": {"color": "#ffffff"},
        },
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _GRAY, "activecolor": _BLUE},
        # Above the data, not over them.
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": _markup(x), "standoff": 8}},
        "yaxis": {**axis, "title": {"text": _markup(y), "standoff": 8}},
    }
    if view is not None and view.low is not None:
        layout["yaxis"]["range"] = [view.low, view.high]
    return layout


def _whole(numbers: Sequence[int]) -> dict[str, Any]:
    """Return what keeps an axis of few whole numbers from halves, and lines from its ends."""
    low, high = min(numbers), max(numbers)
    margin = 0.02 * (high - low) or 0.5
    found: dict[str, Any] = {"range": [low - margin, high + margin]}
    return found | {"dtick": 1} if high - low <= 10 else found


def _small_layout(axis: Axis, x: Sequence[float], view: View, metric: str) -> dict[str, Any]:
    layout = _layout(250, x=_fitted(axis.name, 40), y=_fitted(metric, 26), view=view)
    layout["margin"] = {"l": 8, "r": 8, "t": 12, "b": 8}
    layout["showlegend"] = False
    # Names that would run into each other stand at a slant.
    is_crowded = sum(len(_fitted(label)) for label in axis.labels) > _MOST_LABEL_CHARS
    layout["xaxis"] |= {"tickangle": -40 if is_crowded else 0, **_ticks(axis, x)}
    layout["yaxis"]["nticks"] = 6
    return layout


def _ticks(axis: Axis, x: Sequence[float]) -> dict[str, Any]:
    """Return the parts of a plotly axis that a parameter's axis asks for."""
    if axis.labels:
        return {
            "tickvals": list(range(len(axis.labels))),
            "ticktext": [_markup(_fitted(label)) for label in axis.labels],
            "range": [-0.5, len(axis.labels) - 0.5],
            "showgrid": False,
        }
    parts: dict[str, Any] = {"nticks": 6}
    if axis.log:
        parts = {"type": "log", **_log_ticks(axis, x)}
    elif axis.one_minus:
        ends = (min(x), max(x))
        places = [ends[0] + (ends[1] - ends[0]) * i / 4 for i in range(5)]
        parts = {"tickvals": places, "ticktext": [_said(axis, place) for place in places]}
    if axis.one_minus:
        parts["autorange"] = "reversed"
    return parts


def _log_ticks(axis: Axis, x: Sequence[float]) -> dict[str, Any]:
    """Return ticks at powers of ten, and between them where these are few."""
    low, high = (math.log10(end) for end in (min(x), max(x)))
    places: list[float] = []
    for steps in _LOG_STEPS:
        places = [
            # Rounded: 2 * 10.0 ** -3 has 17 digits.
            float(f"{step * 10.0**power:.3g}")
            for power in range(math.floor(low) - 1, math.ceil(high) + 1)
            for step in steps
        ]
        places = [p for p in places if low - 0.05 <= math.log10(p) <= high + 0.05]
        if len(places) >= 3:
            break
    places = _apart(places, 0.14 * (high - low))
    return {"tickvals": places, "ticktext": [_said(axis, place) for place in places]}


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Return those places, in order, whose labels do not touch: so far apart in decades."""
    kept: list[float] = []
    for place in places:
        if not kept or math.log10(place / kept[-1]) >= least:
            kept.append(place)
    return kept


def _said(axis: Axis, place: float) -> str:
    """Return what a place on an axis stands for, as text."""
    if axis.labels:
        return _markup(axis.labels[round(place)])
    return short(float(f"{1 - place:.12g}") if axis.one_minus else place).replace("e-0", "e-")


def _restyle(line: dict[str, Any], titles: Sequence[str], *, reverse: bool, faint: float) -> None:
    """Give a line of Optuna's figure a color by its value, which reads on any ground."""
    place = 1 - line["y"][0] if reverse else line["y"][0]
    line["line"] |= {"color": _shade(place), "width": 1 + 1.5 * place**4}
    line["opacity"] = faint + (0.85 - faint) * place**4
    said = [_markup(str(said)) for _, said in line["customdata"]]
    line["customdata"] = [list(pair) for pair in zip(titles, said, strict=True)]


def _shade(place: float) -> str:
    """Return the color of a place in [0, 1] on the scale."""
    for (low, first), (high, second) in itertools.pairwise(_SCALE):
        if place <= high:
            share = (place - low) / (high - low)
            pairs = zip(_channels(first), _channels(second), strict=True)
            return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
    return _SCALE[-1][1]


def _channels(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def _zero_line() -> dict[str, Any]:
    line = {"color": _GRAY, "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _verdict_color(configuration: Configuration) -> str:
    if configuration.is_better:
        return _GREEN
    return _RED if configuration.is_worse else _BLUE


def _standard_error(scores: Sequence[float]) -> float:
    n = len(scores)
    mean = math.fsum(scores) / n
    squares = math.fsum((score - mean) ** 2 for score in scores)
    return math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0


def _share(parameter: Any) -> float:
    return float(parameter.importance.share)


def _fitted(text: str, length: int = 18) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _aimed(metric: str, direction: str) -> str:
    """Return the title of an axis of values: what they are, and where they get better."""
    return f"{_fitted(metric, 30)} ({direction}d)"


def as_text(text: str) -> str:
    """Return text that plotly.js draws as it is: it reads some HTML in all of its texts."""
    for char, written in _WRITTEN.items():
        text = text.replace(char, written)
    return text


# Every text of a figure goes through it.
_markup = as_text


def _rounded(values: Sequence[Any]) -> list[Any]:
    """Return values for JSON: floats with eight digits, which are enough for a screen; no NaN."""
    return [
        (float(f"{value:.8g}") if math.isfinite(value) else None)
        if isinstance(value, float)
        else value
        for value in values
    ]


def _faint(color: str) -> str:
    """Return a color ``#rrggbb`` that lets others through; older Plotly has no hex for that."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
