"""The sections of a sweep's report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hpolab.analysis.overtuning import Overtuning
from hpolab.analysis.wording import count, listed, short
from hpolab.report import figures, plots
from hpolab.report.blocks import Answer, Document, Plot, Plots, Section, Text, file_names
from hpolab.report.made_by import facts_blocks, recipe_blocks
from hpolab.report.reading import read
from hpolab.report.spelling import spelled
from hpolab.studies.trials import sign_of
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.analysis.trained.sweep import Sweep, SweepStage, SweepTrial
    from hpolab.report.blocks import Block

__all__ = ["sweep_document"]

_MOST_ROWS = 20


def sweep_document(sweep: Sweep) -> Document:
    """Return the report of a sweep."""
    n_trials = sum(len(stage.trials) for stage in sweep.stages)
    metric = read(sweep.stages[0].studies[0]).metric
    subtitle = (
        f"sweep · {metric} {sweep.direction}d · {count(len(sweep.stages), 'stage')} · "
        f"{count(n_trials, 'trial')}"
    )
    colors = {stage.name: figures.color_of(place) for place, stage in enumerate(sweep.stages)}
    sections = [
        _stages(sweep, metric),
        _best(sweep),
        _course(sweep, colors, metric),
        *_slices(sweep, colors, metric),
        *(_stage(place, stage, metric) for place, stage in enumerate(sweep.stages)),
        _made_by(sweep),
    ]
    return Document(sweep.study_name, subtitle, sections)


def _stages(sweep: Sweep, metric: str) -> Section:
    table = sweep.table()
    answer = Answer(
        f"Best {metric} {short(sweep.best.value)}, in stage {_stage_of(sweep.best, sweep)!r}: "
        "the gain is not confirmed.",
        [
            "Each configuration was trained once, so the best of a stage is partly luck. What two "
            "parameters only do together shows only if one stage has both."
        ],
    )
    risk = str(Overtuning(None, "the start", "each configuration was trained once"))
    note = f"{table.note} Emphasized: stages with a gain." if table.strong else table.note
    head = [metric if name == "value" else name for name in table.head]
    blocks: list[Block] = [answer, replace(table, head=head, note=note), Text([risk], "note")]
    return Section("stages", "Result", blocks, for_terminal=True)


def _stage_of(trial: SweepTrial, sweep: Sweep) -> str:
    return next(stage.name for stage in sweep.stages if trial in stage.trials)


def _best(sweep: Sweep) -> Section:
    best = sweep.best
    notes = [f"Reached {short(best.value)} in trial {best.number} of {best.study_name}."]
    if best.settings:
        notes.append(f"Trained with {listed(best.settings)}.")
    snippets = spelled("best", notes, best.params)
    return Section("best", "Best configuration", [snippets], for_terminal=True)


def _course(sweep: Sweep, colors: Mapping[str, str], metric: str) -> Section:
    shown = plots.course(sweep)
    note = "Far worse values are outside the picture." if shown.view.n_outside else ""
    plot = Plot(
        name="stages",
        title=f"Each trial's {metric}, stage after stage, and the best so far",
        draw=partial(figures.draw_course, shown, colors, direction=sweep.direction, metric=metric),
        note=note,
    )
    return Section("course", "Stage after stage", [plot])


def _slices(sweep: Sweep, colors: Mapping[str, str], metric: str) -> list[Section]:
    drawn, n_outside = [], 0
    files = file_names([stage.name for stage in sweep.stages])
    for file_name, stage in zip(files, sweep.stages, strict=True):
        shown = plots.slice_of_stage(stage, maximize=sweep.direction == "maximize")
        if shown is not None:
            draw = partial(figures.draw_slice_of_many, shown, colors, metric=metric)
            title = f"{shown.axis.name} ({stage.name})"
            drawn.append(Plot(name=f"stage-{file_name}", title=title, draw=draw))
            n_outside += shown.view.n_outside
    if not drawn:
        return []
    note = "Far worse values are outside the pictures." if n_outside else ""
    block = Plots(drawn, note=f"Stages that vary one thing. {note}".rstrip())
    return [Section("values", "By what a stage varies", [block])]


def _stage(place: int, stage: SweepStage, metric: str) -> Section:
    shown = _fewer(stage)
    names = list(dict.fromkeys(name for trial in shown for name in trial.changed))
    rows = [
        [str(trial.number), *(short(trial.changed.get(name)) for name in names), short(trial.value)]
        for trial in shown
    ]
    strong = frozenset(row for row, trial in enumerate(shown) if trial is stage.best)
    n_all = len(stage.trials)
    note = "" if len(shown) == n_all else f"The best {len(shown)} of {n_all}."
    studies = ", ".join(study.study_name for study in stage.studies)
    blocks: list[Block] = [
        Text([f"From {studies}."], "note"),
        TextTable(["trial", *names, metric], rows, strong, note),
    ]
    return Section(f"stage-{place}", f"Stage {place + 1}: {stage.name}", blocks)


def _fewer(stage: SweepStage) -> list[SweepTrial]:
    """Return a stage's trials in order, or only the best if they are many."""
    if len(stage.trials) <= _MOST_ROWS:
        return list(stage.trials)
    sign = sign_of(stage.studies[0].direction)
    known = [trial for trial in stage.trials if trial.value is not None]
    return sorted(known, key=lambda trial: -sign * (trial.value or 0.0))[:_MOST_ROWS]


def _made_by(sweep: Sweep) -> Section:
    first = read(sweep.stages[0].studies[0])
    blocks = [*recipe_blocks(first), *facts_blocks(first)]
    # Each stage has a space of its own: what it tries, with everything else fixed.
    blocks = [block for block in blocks if getattr(block, "title", "") != "Search space"]
    return Section("recipe", "How it was made", blocks)
