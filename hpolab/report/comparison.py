"""The sections of a comparison's report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

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
from hpolab.report.blocks import Details, Document, Plot, Plots, Section, Text
from hpolab.report.reading import read
from hpolab.report.references import references_section
from hpolab.report.spelling import spelled
from hpolab.report.study import facts_blocks, recipe_blocks
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from hpolab.analysis.trained.compare import Comparison, Contender
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["comparison_document"]

_BUDGETS = (10, 20, 40)
_MAX_SLICES = 12


def comparison_document(comparison: Comparison) -> Document:
    """Return the report of a comparison."""
    readings = {name: read(each.study) for name, each in comparison.contenders.items()}
    colors = _colors(comparison)
    n_trials = sum(len(reading.trials) for reading in readings.values())
    subtitle = (
        f"comparison · value {comparison.direction}d · "
        f"{count(len(readings), 'contender')} · {count(n_trials, 'trial')}"
    )
    sections = [
        _contenders(comparison),
        *_references(readings),
        *_race(comparison),
        *_chances(comparison),
        *_curves(comparison, readings, colors),
        *_test_scores(comparison, colors),
        *_slices(comparison, readings, colors),
        *_best_configurations(comparison),
        _made_by(readings),
    ]
    return Document(comparison.study_name, subtitle, sections)


def _colors(comparison: Comparison) -> dict[str, str]:
    known = [name for name, each in comparison.contenders.items() if _n_known(each)]
    names = known + [name for name in comparison.contenders if name not in known]
    return {name: figures.color_of(place) for place, name in enumerate(names)}


def _n_known(contender: Contender) -> int:
    return int(np.isfinite(contender.values).sum())


def _contenders(comparison: Comparison) -> Section:
    leader = comparison.ranking()[0]
    words = "No contender has a complete trial yet."
    if leader.best_value is not None:
        words = f"{leader.name} has reached the best value: {short(leader.best_value)}."
        words += " " + _said_of_chance(comparison)
    found = [comparison.verdict] if comparison.verdict else []
    blocks: list[Block] = [Text([words, *found], "finding"), comparison.table()]
    return Section("contenders", "Contenders", blocks, for_terminal=True)


def _said_of_chance(comparison: Comparison) -> str:
    """Return how likely the leader would have won again; "" if nobody knows."""
    rivals = _with_values(comparison)
    if len(rivals.contenders) < 2 or _smallest_budget(rivals) < 2:
        return ""
    half = max(1, _smallest_budget(rivals) // 2)
    chances = rivals.winners(half)
    leader = max(chances, key=lambda name: chances[name])
    share = percent(chances[leader])
    return f"With {count(half, 'trial')} each, {leader} would win in {share} of cases."


def _with_values(comparison: Comparison) -> Comparison:
    """Return the comparison of the contenders that have a value: no other can win."""
    known = {name: each for name, each in comparison.contenders.items() if _n_known(each)}
    return replace(comparison, contenders=known)


def _smallest_budget(comparison: Comparison) -> int:
    """Return the number of trials that every contender has."""
    return min(len(each.values) for each in comparison.contenders.values())


def _references(readings: dict[str, Reading]) -> list[Section]:
    best = {name: each.best for name, each in readings.items() if each.best is not None}
    return references_section(next(iter(readings.values())), best)


def _race(comparison: Comparison) -> list[Section]:
    shown = plots.race(comparison)
    if all(len(band.numbers) < 2 for band in shown.bands):
        return []  # one trial each makes no line
    notes = []
    if shown.without:
        notes.append(f"Without a value: {', '.join(shown.without)}.")
    if shown.view.n_outside:
        notes.append("Far worse curves are outside the picture.")
    plot = Plot(
        name="best-so-far",
        title="Bold: the trials as they were run. Bands: 90 % of other orders of the same trials.",
        draw=partial(figures.draw_race, shown, direction=comparison.direction),
        note=" ".join(notes),
    )
    return [Section("race", "Best value so far", [plot])]


def _curves(
    comparison: Comparison, readings: dict[str, Reading], colors: dict[str, str]
) -> list[Section]:
    shown = plots.best_curves(comparison, readings)
    if not shown.series:
        return []
    plot = Plot(
        name="best-trials",
        title="Reports of each contender's best trial during its training",
        draw=partial(figures.draw_best_curves, shown, colors),
        note="Far worse reports are outside the picture." if shown.view.n_outside else "",
    )
    return [Section("curves", "Training curves", [plot])]


def _chances(comparison: Comparison) -> list[Section]:
    rivals = _with_values(comparison)
    budget = 0 if not rivals.contenders else _smallest_budget(rivals)
    if len(rivals.contenders) < 2 or budget < 2:
        return []  # from one trial each there is nothing to draw
    budgets = sorted({each for each in _BUDGETS if each < budget} | {budget})
    columns = [rivals.winners(each) for each in budgets]
    rows = [
        [each.name, *(percent(column[each.name]) for column in columns)]
        for each in rivals.ranking()
    ]
    head = ["", *(f"after {count(each, 'trial')}" for each in budgets)]
    notes = [
        "How often each would have the best value if so many of its trials were drawn at random.",
        "A sampler that learns does better late than early, so for it this is only a guide.",
    ]
    without = [name for name in comparison.contenders if name not in rivals.contenders]
    if without:
        notes.append(f"Without a value, and so without a chance: {', '.join(without)}.")
    table = TextTable(head, rows, note=" ".join(notes))
    return [Section("chances", "Chance to win", [table], for_terminal=True)]


def _test_scores(comparison: Comparison, colors: dict[str, str]) -> list[Section]:
    scores = {each.name: each.test_scores for each in comparison.ranking() if each.test_scores}
    if not scores:
        words = "No contender was scored on test data: give it to `compare` as `test`."
        return [Section("test", "Test scores", [Text([words], "note")])]
    plot = Plot(
        name="test-scores",
        title="The best of each, trained again with fresh seeds (dots): mean ± standard error",
        draw=partial(figures.draw_test_scores, scores, colors),
    )
    return [Section("test", "Test scores", [plot, *_improvements(comparison)])]


def _improvements(comparison: Comparison) -> list[Block]:
    found, leader = comparison.improvements(), comparison.ranking()[0].name
    rows = [
        [rival, estimated(effect), p_value(effect.p_value), verdict(effect)]
        for rival, effect in found.items()
    ]
    note = (
        f"Seed by seed, with {INTERVAL}s; below zero, {leader} is worse. p-values of no "
        "difference, corrected for all rivals (Holm)."
    )
    head = ["", f"improvement of {leader} over it", "p", "verdict"]
    return [TextTable(head, rows, note=note)] if found else []


def _slices(
    comparison: Comparison, readings: dict[str, Reading], colors: dict[str, str]
) -> list[Section]:
    readings = {name: reading for name, reading in readings.items() if reading.complete}
    names = plots.tuned_parameters(readings)
    found = [plots.slice_of_many(comparison, readings, name) for name in names]
    shown = [one for one in found if one is not None][:_MAX_SLICES]
    if not shown:
        return []
    drawn = [
        Plot(
            name=f"parameter-{place}",
            title=one.axis.name,
            draw=partial(figures.draw_slice_of_many, one, colors),
        )
        for place, one in enumerate(shown)
    ]
    legend = {name: colors[name] for name in readings}
    n_outside = max(one.view.n_outside for one in shown)
    note = "Far worse values are outside the pictures." if n_outside else ""
    block = Plots(drawn, legend, note)
    return [Section("parameters", "Value against each parameter", [block])]


def _best_configurations(comparison: Comparison) -> list[Section]:
    snippets = [
        spelled(each.name, [f"Reached {short(each.best_value)}."], each.best_params)
        for each in comparison.ranking()
        if each.best_params is not None
    ]
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
