"""What a staged study adds to its report: the ensemble of folds, and the cheap parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.analysis.trained.ensemble import load_ensemble
from hpolab.report.blocks import Section, Table, Text
from hpolab.report.confirmation import estimated
from hpolab.report.spelling import spelled
from hpolab.report.wording import count, short
from hpolab.studies.export import POST_KEY

if TYPE_CHECKING:
    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["ensemble_section", "post_section"]


def ensemble_section(reading: Reading) -> list[Section]:
    """Return what averaging folds brings; nothing where it was not asked."""
    found = load_ensemble(reading.study)
    if found is None:
        return []
    rows = [
        ["one model of all rows", estimated(found.single), ""],
        ["a fold's model", estimated(found.member), ""],
        [f"average of {found.n_folds} folds", estimated(found.ensemble), estimated(found.lead)],
    ]
    params = ", ".join(f"{name} {short(value)}" for name, value in found.params.items())
    note = f"Means over {count(found.n_seeds, 'seed')} with 95 % intervals, of {params}."
    blocks: list[Block] = [
        Text([found.verdict], "good" if found.is_better else "finding"),
        Table(["", f"test {found.metric}", "lead over one model"], rows, frozenset([2]), note),
    ]
    return [Section("ensemble", "Ensemble of folds", blocks, for_terminal=True)]


def post_section(reading: Reading) -> list[Section]:
    """Return the cheap parameters that were tuned on the best trial's artifact, to copy."""
    best = reading.best
    tuned = {} if best is None else best.user_attrs.get(POST_KEY, {})
    snippets = [
        spelled(f"scored on part {part!r}", ["Tuned on the other parts of the data."], params)
        for part, params in tuned.items()
    ]
    if best is None or not snippets:
        return []
    title = f"Cheap parameters of trial {best.number}"
    return [Section("post", title, snippets, for_terminal=True)]
