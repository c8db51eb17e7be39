"""What a staged study adds to its report: the ensemble and the post-processing parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpolab.analysis.trained.ensemble import load_ensemble
from hpolab.analysis.wording import INTERVAL, count, listed
from hpolab.report.blocks import Section, Text
from hpolab.report.spelling import spelled
from hpolab.studies.export import POST_KEY

if TYPE_CHECKING:
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["ensemble_section", "post_section"]


def ensemble_section(reading: Reading) -> list[Section]:
    """Return what averaging over folds brings; nothing if nobody asked."""
    found = load_ensemble(reading.study)
    if found is None:
        return []
    seeds = count(found.n_seeds, "seed")
    note = f"Means over {seeds} with {INTERVAL}s, trained with {listed(found.params)}."
    blocks: list[Block] = [
        Text([found.verdict], "good" if found.is_better else "finding"),
        replace(found.table(), note=note),
    ]
    return [Section("ensemble", "Ensemble of folds", blocks, for_terminal=True)]


def post_section(reading: Reading) -> list[Section]:
    """Return the post-processing parameters of the best trial, to copy."""
    best = reading.best
    tuned = {} if best is None else best.user_attrs.get(POST_KEY, {})
    snippets = [
        spelled(f"scored on part {part!r}", ["Tuned on the other parts of the data."], params)
        for part, params in tuned.items()
    ]
    if best is None or not snippets:
        return []
    title = f"Post-processing parameters of trial {best.number}"
    return [Section("post", title, snippets, for_terminal=True)]
