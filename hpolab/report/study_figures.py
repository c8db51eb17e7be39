"""The sections of a study's report that are figures, and what they leave out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hpolab import _optuna
from hpolab.analysis.influence import influence
from hpolab.analysis.wording import count, percent
from hpolab.errors import InvalidArgument
from hpolab.report import figures, plots
from hpolab.report.blocks import Details, Plot, Plots, Section, Text, file_names
from hpolab.report.sparkline import sparkline
from hpolab.studies.trials import is_feasible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.analysis.parameters import Influence
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["figure_sections", "history_plot", "parallel_section"]

_MAX_SLICES = 12
_MAX_LINES = 10
# Resampling must stay within seconds: hence so many trials, and so many resamples for few
# parameters and for many. With fewer than sixty, the upper end would be the largest resample
# rather than a quantile.
_MAX_JUDGED = 500
_RESAMPLES, _RESAMPLES_OF_MANY, _MANY = 100, 60, 8


def figure_sections(reading: Reading) -> list[Section]:
    """Return the training curves, the importance, and the values by parameter."""
    found = _influence(reading)
    important = [] if found is None else list(found.parameters)
    return [
        *_reports(reading),
        _importances(reading, found),
        *_slices(reading, important),
        *parallel_section(reading, important),
    ]


def history_plot(reading: Reading) -> Plot:
    """Return the values of the trials in their order, and the best so far."""
    shown = plots.history(reading)
    notes = [_outside_words(shown.view)]
    if len(shown.numbers) < shown.n_complete:
        notes.append(_shown_words(len(shown.numbers), shown.n_complete, "complete trials"))
    return Plot(
        name="history",
        title=f"Each trial's {reading.metric}, in order",
        draw=partial(
            figures.draw_history,
            shown,
            direction=reading.directions[0],
            baseline=_legend_name(reading),
            metric=reading.metric,
        ),
        note=_joined(notes),
        text=sparkline(list(filter(is_feasible, reading.complete)), maximize=reading.maximize),
    )


def _legend_name(reading: Reading) -> str:
    """Return the baseline's name in legends: one that an import has named is not a default."""
    return reading.baseline_name.removeprefix("the ")


def _reports(reading: Reading) -> list[Section]:
    shown = plots.curves(reading)
    if not shown.curves:
        return []
    notes = [_outside_words(shown.view)]
    if len(shown.curves) < shown.n_trials:
        notes.append(_shown_words(len(shown.curves), shown.n_trials, "trials with reports"))
    plot = Plot(
        name="intermediate-values",
        title="What trials reported during training; crosses mark where one was pruned",
        draw=partial(
            figures.draw_curves,
            shown,
            baseline=_legend_name(reading),
            metric=f"reported {reading.metric}",
        ),
        note=_joined(notes),
    )
    return [Section("intermediate", "Training curves", [plot])]


def _influence(reading: Reading) -> Influence | None:
    trials = [trial for trial in reading.complete if is_feasible(trial)]
    if not trials:
        return None
    study = reading.study
    if len(trials) > _MAX_JUDGED:
        study = _optuna.with_trials(study, plots.evenly(trials, _MAX_JUDGED))
    many = len(plots.sliced_names(reading)) > _MANY
    try:
        return influence(study, n_resamples=_RESAMPLES_OF_MANY if many else _RESAMPLES)
    except InvalidArgument:
        return None


def _importances(reading: Reading, found: Influence | None) -> Section:
    n = len(reading.complete)
    known = found is not None and any(each.importance for each in found.parameters.values())
    if found is None or not known:
        words = f"Too few trials to show which parameters matter: {count(n, 'complete trial')}."
        blocks: list[Block] = [Text([words], "note")]
        if found is not None and found.parameters:
            blocks.append(Details("What can be said", "\n".join(found.verdict)))
        return Section("importance", "Importance", blocks)
    judged = "" if n <= _MAX_JUDGED else f"Judged by {found.n_trials} of {n:,}, taken evenly."
    titles = {name: reading.trainer_name(name) for name in found.parameters}
    plot = Plot(
        name="importance",
        title="Share of the importance, with its range over resamples of the trials",
        draw=partial(figures.draw_importances, found, titles),
        note=_joined([_importance_words(found), judged]),
    )
    details = Details("What each parameter does, and whether it is significant", str(found))
    lines = [*found.spread_words, found.verdict[-1]]
    return Section("importance", "Importance", [plot, Text(lines), details])


def _importance_words(found: Influence) -> str:
    return (
        "Blue: the value depends on this parameter, by a test given the other parameters. Gray: "
        "not significant, however long the bar: the share ranks parameters, and tests nothing. "
        f"A whisker holds the share in {percent(found.confidence)} of resamples of these trials: "
        "it says how firm a share is here, not where that of other trials would be."
    )


def _slices(reading: Reading, important: Sequence[str]) -> list[Section]:
    names = plots.sliced_names(reading, important)
    if not names:
        return []
    shown = [plots.slice_of(reading, name) for name in names[:_MAX_SLICES]]
    drawn = [
        Plot(
            name=f"parameter-{file_name}",
            title=one.axis.name,
            draw=partial(figures.draw_slice, one, metric=reading.metric),
        )
        for file_name, one in zip(file_names([one.axis.name for one in shown]), shown, strict=True)
    ]
    marks = {"best": figures.PALETTE[1]}
    if reading.baseline is not None:
        marks = {_legend_name(reading): figures.PALETTE[2], **marks}
    notes = ["Later trials are bluer."]
    if len(names) > _MAX_SLICES:
        notes.append(f"{_MAX_SLICES} of {len(names)} parameters, the most important first.")
    largest = max(shown, key=lambda one: one.n_complete)
    if len(largest.x) < largest.n_complete:
        notes.append(_shown_words(len(largest.x), largest.n_complete, "complete trials"))
    notes.append(_outside_words(shown[0].view))
    block = Plots(drawn, marks, _joined(notes))
    return [Section("slice", "By parameter", [block])]


def parallel_section(reading: Reading, important: Sequence[str]) -> list[Section]:
    names = plots.sliced_names(reading, important)
    trials = plots.parallel_trials(reading, names[:_MAX_LINES])
    if len(names) < 2 or len(trials) < 2:
        return []
    shown = {name: plots.stored_title(reading, name) for name in names[:_MAX_LINES]}
    by = "" if reading.is_single else f" by {reading.metric}"
    notes = []
    if len(trials) < len(reading.complete):
        n = len(reading.complete)
        notes.append(f"Shows {len(trials):,} of {n:,} complete trials, without far worse ones.")
    if len(names) > _MAX_LINES:
        notes.append(f"{_MAX_LINES} of {len(names)} parameters, the most important.")
    plot = Plot(
        name="parallel-coordinates",
        title=f"Each line is a trial; thick blue ones are good{by}",
        draw=partial(
            figures.draw_parallel,
            _optuna.with_trials(reading.study, trials),
            shown,
            metrics=reading.metric_names,
        ),
        note=_joined(notes),
        wide=True,
    )
    return [Section("parallel", "Parallel coordinates", [plot])]


def _shown_words(shown: int, of: int, what: str) -> str:
    return f"Shows {shown:,} of {of:,} {what}: the best, and an even selection of the others."


def _outside_words(view: plots.View) -> str:
    if not view.n_outside:
        return ""
    return f"{count(view.n_outside, 'value')} outside the picture: far worse than the others."


def _joined(notes: Sequence[str]) -> str:
    return " ".join(note for note in notes if note)
