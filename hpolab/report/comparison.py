"""The sections of a comparison's report."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hpolab.report import figures, plots
from hpolab.report.blocks import Details, Document, Plot, Plots, Section, Table, Text
from hpolab.report.confirmation import estimated
from hpolab.report.reading import read
from hpolab.report.references import references_section
from hpolab.report.spelling import spelled
from hpolab.report.study import facts_blocks, recipe_blocks
from hpolab.report.wording import count, percent, short

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        _table(comparison, readings),
        *_references(readings),
        *_race(comparison),
        *_chances(comparison),
        *_curves(comparison, readings, colors),
        *_test_scores(comparison, colors),
        *_slices(comparison, readings, colors),
        *_best_configurations(comparison),
        _made_by(readings),
    ]
    return Document(comparison.name, subtitle, sections)


def _colors(comparison: Comparison) -> dict[str, str]:
    known = [name for name, each in comparison.contenders.items() if _n_known(each)]
    names = known + [name for name in comparison.contenders if name not in known]
    return {name: figures.color_of(place) for place, name in enumerate(names)}


def _n_known(contender: Contender) -> int:
    return int(np.isfinite(contender.values).sum())


def _table(comparison: Comparison, readings: dict[str, Reading]) -> Section:
    ranking = comparison.ranking()
    rows = [_row(comparison, each, readings[each.name]) for each in ranking]
    head = ["", "trials", "default", "best", "better by", "test score", "best parameters"]
    leader = ranking[0]
    words = "No contender has a complete trial yet."
    if leader.best_value is not None:
        words = f"{leader.name} has reached the best value: {short(leader.best_value)}."
        words += " " + _said_of_chance(comparison)
    verdict = [comparison.verdict] if comparison.verdict else []
    blocks: list[Block] = [
        Text([words, *verdict], "finding"),
        Table(head, rows, frozenset([0]), may_be_cut=True),
    ]
    return Section("contenders", "Contenders", blocks, for_terminal=True)


def _row(comparison: Comparison, each: Contender, reading: Reading) -> list[str]:
    gain = None
    if each.best_value is not None and each.default_value is not None:
        sign = 1.0 if comparison.direction == "maximize" else -1.0
        gain = sign * (each.best_value - each.default_value) or 0.0  # no minus before a zero
    best = reading.best
    tuned = {} if best is None else reading.tuned(best)
    return [
        each.name,
        f"{len(each.values):,}",
        short(each.default_value),
        short(each.best_value),
        short(gain),
        _mean_and_error(each.test),
        ", ".join(f"{name} {short(value)}" for name, value in tuned.items()),
    ]


def _mean_and_error(scores: Sequence[float]) -> str:
    if not scores:
        return "-"
    mean = math.fsum(scores) / len(scores)
    if len(scores) < 2:
        return short(mean)
    return f"{short(mean)} ± {np.std(scores, ddof=1) / math.sqrt(len(scores)):.2g}"


def _said_of_chance(comparison: Comparison) -> str:
    """Return how likely the leader would have led again, where that can be told."""
    rivals = _with_values(comparison)
    if len(rivals.contenders) < 2 or _smallest_budget(rivals) < 2:
        return ""
    half = max(1, _smallest_budget(rivals) // 2)
    chances = rivals.winners(half)
    leader = max(chances, key=lambda name: chances[name])
    share = percent(chances[leader])
    return f"With {count(half, 'trial')} each, {leader} would win in {share} of cases."


def _with_values(comparison: Comparison) -> Comparison:
    """Return the comparison of those contenders that have a value: no other can win."""
    known = {name: each for name, each in comparison.contenders.items() if _n_known(each)}
    return replace(comparison, contenders=known)


def _smallest_budget(comparison: Comparison) -> int:
    """Return how many trials each contender has at least."""
    return min(len(each.values) for each in comparison.contenders.values())


def _references(readings: dict[str, Reading]) -> list[Section]:
    best = {name: each.best for name, each in readings.items() if each.best is not None}
    return references_section(next(iter(readings.values())), best)


def _race(comparison: Comparison) -> list[Section]:
    shown = plots.race(comparison)
    if all(len(band.numbers) < 2 for band in shown.bands):
        return []  # of one trial each there is no line
    notes = []
    if shown.without:
        notes.append(f"Without a value: {', '.join(shown.without)}.")
    if shown.view.n_outside:
        notes.append("Where a curve is far worse, it is outside the picture.")
    plot = Plot(
        name="best-so-far",
        title="Bold: as it went. Bands: 90 % of what the same trials would give in another order.",
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
        title="What the best trial of each reported while it trained",
        draw=partial(figures.draw_best_curves, shown, colors),
        note="What is far worse is outside the picture." if shown.view.n_outside else "",
    )
    return [Section("curves", "Training curves", [plot])]


def _chances(comparison: Comparison) -> list[Section]:
    rivals = _with_values(comparison)
    budget = 0 if not rivals.contenders else _smallest_budget(rivals)
    if len(rivals.contenders) < 2 or budget < 2:
        return []  # of one trial each there is nothing to draw
    budgets = sorted({each for each in _BUDGETS if each < budget} | {budget})
    columns = [rivals.winners(each) for each in budgets]
    rows = [
        [each.name, *(percent(column[each.name]) for column in columns)]
        for each in rivals.ranking()
    ]
    head = ["", *(f"after {count(each, 'trial')}" for each in budgets)]
    notes = [
        "How often each would have the best value, if so many of its trials were drawn at random.",
        "A sampler that learns does better late than early, so that this is a guide there.",
    ]
    without = [name for name in comparison.contenders if name not in rivals.contenders]
    if without:
        notes.append(f"Without a value, and so without a chance: {', '.join(without)}.")
    table = Table(head, rows, note=" ".join(notes))
    return [Section("chances", "Chance to win", [table], for_terminal=True)]


def _test_scores(comparison: Comparison, colors: dict[str, str]) -> list[Section]:
    scores = {each.name: each.test for each in comparison.ranking() if each.test}
    if not scores:
        words = "No contender was scored on test data: give compare the argument test."
        return [Section("test", "Test scores", [Text([words], "note")])]
    plot = Plot(
        name="test-scores",
        title="The best of each, trained again on fresh seeds (dots): mean ± standard error",
        draw=partial(figures.draw_test_scores, scores, colors),
    )
    return [Section("test", "Test scores", [plot, *_leads(comparison)])]


def _leads(comparison: Comparison) -> list[Block]:
    leads = comparison.leads()
    rows = [
        [
            each.rival,
            estimated(each.estimate),
            f"{each.p_value:.2g}",
            "beyond chance" if each.is_told else "not told from chance",
        ]
        for each in leads
    ]
    leader = comparison.ranking()[0].name
    note = (
        f"Seed by seed, with 95 % intervals; below zero {leader} is behind. p-values of the lead "
        "being zero, corrected for all rivals (Holm)."
    )
    return [Table(["", f"lead of {leader}", "p", "verdict"], rows, note=note)] if leads else []


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
    note = "Values that are far worse are outside the pictures." if n_outside else ""
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
