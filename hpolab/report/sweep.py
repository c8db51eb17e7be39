"""The sections of a sweep's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from hpolab.report import figures, plots
from hpolab.report.blocks import Document, Plot, Plots, Section, Table, Text
from hpolab.report.reading import read
from hpolab.report.spelling import spelled
from hpolab.report.study import facts_blocks, recipe_blocks
from hpolab.report.wording import count, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.analysis.trained.sweep import Stage, Sweep, Tried
    from hpolab.report.blocks import Block

__all__ = ["sweep_document"]

_MOST_ROWS = 20


def sweep_document(sweep: Sweep) -> Document:
    """Return the report of a sweep."""
    n_tried = sum(len(stage.tried) for stage in sweep.stages)
    subtitle = (
        f"sweep · value {sweep.direction}d · {count(len(sweep.stages), 'stage')} · "
        f"{count(n_tried, 'trial')}"
    )
    colors = {stage.name: figures.color_of(place) for place, stage in enumerate(sweep.stages)}
    sections = [
        _stages(sweep),
        _best(sweep),
        _course(sweep, colors),
        *_slices(sweep, colors),
        *(_stage(place, stage) for place, stage in enumerate(sweep.stages)),
        _made_by(sweep),
    ]
    return Document(sweep.name, subtitle, sections)


def _stages(sweep: Sweep) -> Section:
    gains = _gains(sweep)
    rows = [_row(stage, gain) for stage, gain in zip(sweep.stages, gains, strict=True)]
    strong = frozenset(place for place, gain in enumerate(gains) if gain)
    words = [
        f"The best value is {short(sweep.best.value)}, in stage {_stage_of(sweep.best, sweep)!r}.",
        "Each configuration was trained once, so that the best of a stage is an overestimate; and "
        "what two parameters only do together is seen where one stage has both.",
    ]
    head = ["stage", "tried", "best of it", "its value", "gain on the stages before"]
    note = "Emphasized: what has brought something." if strong else ""
    blocks: list[Block] = [Text(words, "finding"), Table(head, rows, strong, note)]
    return Section("stages", "Stages", blocks, for_terminal=True)


def _gains(sweep: Sweep) -> list[float | None]:
    """Return what each stage has gained on the best before it, 0 or above; None for the first."""
    gains: list[float | None] = []
    sign = 1.0 if sweep.direction == "maximize" else -1.0
    so_far: float | None = None
    for stage in sweep.stages:
        value = None if stage.best is None else stage.best.value
        gain = None if so_far is None else 0.0
        if so_far is not None and value is not None:
            gain = max(0.0, sign * (value - so_far))
        if value is not None and (so_far is None or gain):
            so_far = value
        gains.append(gain)
    return gains


def _row(stage: Stage, gain: float | None) -> list[str]:
    n_lost = sum(tried.value is None for tried in stage.tried)
    lost = f" ({n_lost} without a value)" if n_lost else ""
    best = stage.best
    return [
        stage.name,
        f"{len(stage.tried)}{lost}",
        "-" if best is None else plots.changed_words(best.changed),
        "-" if best is None else short(best.value),
        short(gain) if gain or gain is None else "none",
    ]


def _stage_of(tried: Tried, sweep: Sweep) -> str:
    return next(stage.name for stage in sweep.stages if tried in stage.tried)


def _best(sweep: Sweep) -> Section:
    best = sweep.best
    notes = [f"Reached {short(best.value)} in trial {best.number} of {best.study_name}."]
    if best.settings:
        notes.append(f"Trained with {plots.changed_words(best.settings)}.")
    snippets = spelled("best", notes, best.params)
    return Section("best", "Best configuration", [snippets], for_terminal=True)


def _course(sweep: Sweep, colors: Mapping[str, str]) -> Section:
    shown = plots.course(sweep)
    note = "Values that are far worse are outside the picture." if shown.view.n_outside else ""
    plot = Plot(
        name="stages",
        title="Value of each trial, stage after stage, and the best so far",
        draw=partial(figures.draw_course, shown, colors, direction=sweep.direction),
        note=note,
    )
    return Section("course", "Stage after stage", [plot])


def _slices(sweep: Sweep, colors: Mapping[str, str]) -> list[Section]:
    drawn, n_outside = [], 0
    for place, stage in enumerate(sweep.stages):
        shown = plots.slice_of_stage(stage, maximize=sweep.direction == "maximize")
        if shown is not None:
            draw = partial(figures.draw_slice_of_many, shown, colors)
            title = f"{shown.axis.name} ({stage.name})"
            drawn.append(Plot(name=f"stage-{place}", title=title, draw=draw))
            n_outside += shown.view.n_outside
    if not drawn:
        return []
    note = "Values that are far worse are outside the pictures." if n_outside else ""
    block = Plots(drawn, note=f"Stages that vary one thing. {note}".rstrip())
    return [Section("values", "Value against what a stage varies", [block])]


def _stage(place: int, stage: Stage) -> Section:
    shown = _fewer(stage)
    names = list(dict.fromkeys(name for tried in shown for name in tried.changed))
    rows = [
        [str(tried.number), *(short(tried.changed.get(name)) for name in names), short(tried.value)]
        for tried in shown
    ]
    strong = frozenset(row for row, tried in enumerate(shown) if tried is stage.best)
    note = "" if len(shown) == len(stage.tried) else f"The best {len(shown)} of {len(stage.tried)}."
    studies = ", ".join(study.study_name for study in stage.studies)
    blocks: list[Block] = [
        Text([f"Of {studies}."], "note"),
        Table(["trial", *names, "value"], rows, strong, note),
    ]
    return Section(f"stage-{place}", f"Stage {place + 1}: {stage.name}", blocks)


def _fewer(stage: Stage) -> list[Tried]:
    """Return what a stage has tried, in order, or the best of it where that is much."""
    if len(stage.tried) <= _MOST_ROWS:
        return list(stage.tried)
    maximize = stage.studies[0].direction == StudyDirection.MAXIMIZE
    known = [tried for tried in stage.tried if tried.value is not None]
    return sorted(known, key=lambda tried: tried.value or 0.0, reverse=maximize)[:_MOST_ROWS]


def _made_by(sweep: Sweep) -> Section:
    first = read(sweep.stages[0].studies[0])
    blocks = [*recipe_blocks(first), *facts_blocks(first)]
    # Each stage has a space of its own: what it tries, and all else fixed.
    blocks = [block for block in blocks if getattr(block, "title", "") != "Search space"]
    return Section("recipe", "How it was made", blocks)
