"""The sections of a comparison's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.comparison_words import outperformed
from hpolab.analysis.repeats import WORTH_IT
from hpolab.analysis.statistics import CONFIDENCE
from hpolab.analysis.wording import (
    INTERVAL,
    count,
    estimated,
    p_value,
    percent,
    short,
    verdict,
)
from hpolab.report import figures, plots
from hpolab.report.answer import answer_of_comparison
from hpolab.report.blocks import Details, Document, Plot, Plots, Section, Text, file_names
from hpolab.report.known import known_of
from hpolab.report.made_by import facts_blocks, recipe_blocks
from hpolab.report.reading import read
from hpolab.report.references import references_section
from hpolab.report.spelling import spelled
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.analysis.comparison import Comparison
    from hpolab.analysis.contender import Contender
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["comparison_document"]

_MAX_SLICES = 12
_TEST_TITLES = {
    False: "The best of each, trained again with fresh seeds (dots): mean ± standard error over "
    "seeds",
    True: "The best of each tuning, trained again with fresh seeds: its mean (dot), and the mean ± "
    "standard error over tunings",
}


def comparison_document(comparison: Comparison) -> Document:
    """Return the report of a comparison."""
    # Of several tunings of a contender, the one with the best value is shown trial by trial.
    readings = {name: read(comparison.best_tuning(name).study) for name in comparison.contenders}
    tunings = [each for side in comparison.contenders.values() for each in side.tunings]
    colors = _colors(comparison)
    metric = next(iter(readings.values())).metric
    n_trials = sum(len(each.study.get_trials(deepcopy=False)) for each in tunings)
    subtitle = (
        f"comparison · {metric} {comparison.direction}d · "
        f"{count(len(readings), 'contender')} · "
        f"{count(len(tunings), 'tuning') + ' · ' if len(tunings) > len(readings) else ''}"
        f"{count(n_trials, 'trial')}"
    )
    sections = [
        _contenders(comparison, metric),
        *_outperforming(comparison),
        *_references(readings),
        *_race(comparison, metric),
        *_curves(comparison, readings, colors),
        *_test_scores(comparison, colors, metric),
        *_slices(comparison, readings, colors),
        *_best_configurations(comparison, readings),
        _made_by(readings),
    ]
    return Document(comparison.study_name, subtitle, sections)


def _colors(comparison: Comparison) -> dict[str, str]:
    known = [name for name, each in comparison.contenders.items() if _n_known(each)]
    names = known + [name for name in comparison.contenders if name not in known]
    return {name: figures.color_of(place) for place, name in enumerate(names)}


def _n_known(contender: Contender) -> int:
    return int(np.isfinite(contender.values).sum())


def _contenders(comparison: Comparison, metric: str) -> Section:
    words = [comparison.verdict] if comparison.verdict else []
    blocks: list[Block] = [answer_of_comparison(comparison, metric), comparison.table()]
    if words:
        blocks.append(Text(words))
    return Section("contenders", "Result", blocks, for_terminal=True)


def _outperforming(comparison: Comparison) -> list[Section]:
    """Return how probably the leader outperforms each rival, which repeated tunings tell."""
    found, means = comparison.outperforming(), comparison.improvements()
    leader = comparison.ranking()[0].name
    rows = [
        [
            rival,
            f"{each.wins:g} of {each.n}",
            outperformed(each),
            estimated(means.get(rival)),
            p_value(means[rival].p_value) if rival in means else "",
            verdict(means.get(rival)),
        ]
        for rival, each in found.items()
    ]
    if not rows:
        return []
    head = ["", f"{leader} wins", "outperforms it", "improvement over it", "p", "verdict"]
    about = "test scores" if comparison.has_test_scores else "best values of the tunings"
    note = (
        f"By the {about} of {comparison.n_repeats} tunings each, paired, on this data. "
        f"{INTERVAL}s and p-values hold for all pairs of contenders together. The interval of the "
        f"probability is exact; that of the mean improvement assumes that means over tunings are "
        f"nearly normal. A probability of {percent(WORTH_IT)} or more is worth it (Bouthillier et "
        "al. 2021)."
    )
    table = TextTable(head, rows, note=note)
    return [Section("outperforming", "Probability of outperforming", [table], for_terminal=True)]


def _references(readings: dict[str, Reading]) -> list[Section]:
    best = {name: each.best for name, each in readings.items() if each.best is not None}
    return references_section(next(iter(readings.values())), best)


def _race(comparison: Comparison, metric: str) -> list[Section]:
    shown = plots.race(comparison)
    if all(len(band.numbers) < 2 for band in shown.bands):
        return []  # one trial each makes no line
    title, note = _said_of_race(comparison, [band.name for band in shown.bands if band.low])
    notes = [note] if note else []
    if shown.without:
        notes.append(f"Without a value: {', '.join(shown.without)}.")
    if shown.view.n_outside:
        notes.append("Far worse curves are outside the picture.")
    plot = Plot(
        name="best-so-far",
        title=title,
        draw=partial(figures.draw_race, shown, direction=comparison.direction, metric=metric),
        note=" ".join(notes),
    )
    return [Section("race", f"Best {metric} so far", [plot])]


def _said_of_race(comparison: Comparison, with_bands: Sequence[str]) -> tuple[str, str]:
    """Return what the lines and the bands are, and what they tell of another tuning."""
    curves = [comparison.tuning_curve(name) for name in with_bands]
    repeated = [c.confidence for c in curves if c is not None and not c.simultaneous]
    if repeated:
        title = "Lines: medians of the tunings. Bands: intervals of the median"
        sure = percent(min(repeated))
        return title, f"Each interval holds the median of other tunings by itself, in {sure}."
    if not with_bands:
        return "The one tuning of each", "How another tuning would go, it does not tell."
    whose = "" if len(with_bands) == len(comparison.contenders) else f" of {', '.join(with_bands)}"
    return (
        "Lines: the one tuning of each. Bands: the median of random search",
        f"Bands{whose}: where the median best value of so many random trials lies, in "
        f"{percent(CONFIDENCE)} for all numbers of trials at once (Lourie, Cho and He 2024). Where "
        "a band ends with the best value shown, nothing bounds it.",
    )


def _curves(
    comparison: Comparison, readings: dict[str, Reading], colors: dict[str, str]
) -> list[Section]:
    shown = plots.best_curves(comparison, readings)
    metric = next(iter(readings.values())).metric
    if not shown.series:
        return []
    plot = Plot(
        name="best-trials",
        title="What each contender's best trial reported during training",
        draw=partial(figures.draw_best_curves, shown, colors, metric=f"reported {metric}"),
        note="Far worse reports are outside the picture." if shown.view.n_outside else "",
    )
    return [Section("curves", "Training curves", [plot])]


def _test_scores(comparison: Comparison, colors: dict[str, str], metric: str) -> list[Section]:
    scores = {
        each.name: _scores_shown(comparison, each)
        for each in comparison.ranking()
        if any(tuning.test_scores for tuning in each.tunings)
    }
    if not scores:
        words = "No contender was scored on test data: give it to `compare` as `test`."
        return [Section("test", "Test scores", [Text([words], "note")])]
    plot = Plot(
        name="test-scores",
        title=_TEST_TITLES[comparison.n_repeats > 1],
        draw=partial(figures.draw_test_scores, scores, colors, metric=metric),
    )
    return [Section("test", "Test scores", [plot, *_improvements(comparison)])]


def _scores_shown(comparison: Comparison, contender: Contender) -> Sequence[float]:
    """Return the scores whose spread tells: over seeds, or over tunings."""
    if comparison.n_repeats < 2:
        return contender.test_scores
    return comparison.scores()[contender.name]


def _improvements(comparison: Comparison) -> list[Block]:
    if comparison.n_repeats > 1:
        return []  # they are about the contenders, and stand with the verdict
    found, leader = comparison.improvements(), comparison.ranking()[0].name
    rows = [
        [rival, estimated(effect), p_value(effect.p_value), verdict(effect)]
        for rival, effect in found.items()
    ]
    note = (
        f"Seed by seed, with {INTERVAL}s; below zero, that of {leader} is worse. Intervals and "
        "p-values hold for all rivals together."
    )
    head = ["", f"improvement of {leader}'s configuration", "p", "verdict"]
    return [TextTable(head, rows, note=note)] if found else []


def _slices(
    comparison: Comparison, readings: dict[str, Reading], colors: dict[str, str]
) -> list[Section]:
    metric = next(iter(readings.values())).metric
    readings = {name: reading for name, reading in readings.items() if reading.complete}
    names = plots.tuned_parameters(readings)
    found = [plots.slice_of_many(comparison, readings, name) for name in names]
    shown = [one for one in found if one is not None][:_MAX_SLICES]
    if not shown:
        return []
    drawn = [
        Plot(
            name=f"parameter-{file_name}",
            title=one.axis.name,
            draw=partial(figures.draw_slice_of_many, one, colors, metric=metric),
        )
        for file_name, one in zip(file_names([one.axis.name for one in shown]), shown, strict=True)
    ]
    legend = {name: colors[name] for name in readings}
    n_outside = max(one.view.n_outside for one in shown)
    note = "Far worse values are outside the pictures." if n_outside else ""
    block = Plots(drawn, legend, note)
    return [Section("parameters", "By parameter", [block])]


def _best_configurations(comparison: Comparison, readings: dict[str, Reading]) -> list[Section]:
    best = [comparison.best_tuning(each.name) for each in comparison.ranking()]
    snippets = []
    for each in best:
        if each.best_params is not None:
            overtuning = known_of(readings[each.name]).overtuning
            notes = [f"Reached {short(each.best_value)} in tuning, unconfirmed."]
            notes += [] if overtuning is None else [str(overtuning)]
            snippets.append(spelled(each.name, notes, each.best_params))
    return [Section("best", "Best configurations", snippets)] if snippets else []


def _made_by(readings: dict[str, Reading]) -> Section:
    first = next(iter(readings.values()))
    blocks = [*recipe_blocks(first), *facts_blocks(first)]
    blocks = [block for block in blocks if getattr(block, "title", "") != "Search space"]
    blocks += [
        Details(f"Search space of {name}", str(reading.space))
        for name, reading in readings.items()
        if reading.space is not None
    ]
    return Section("recipe", "How it was made", blocks)
