"""The sections of a confirmation's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hpolab.analysis.overtuning import of_confirmation
from hpolab.analysis.wording import INTERVAL, count, estimated
from hpolab.report import figures
from hpolab.report.answer import answer_of_confirmation
from hpolab.report.blocks import Document, Plot, Section, Text
from hpolab.report.spelling import spelled

if TYPE_CHECKING:
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.report.blocks import Block

__all__ = ["confirmation_blocks", "confirmation_document"]


def confirmation_document(confirmation: Confirmation) -> Document:
    """Return the report of a confirmation."""
    subtitle = (
        f"confirmation · {confirmation.metric} on test data, {confirmation.direction}d · "
        f"{count(len(confirmation.configurations), 'configuration')} against "
        f"{confirmation.baseline_name} · {count(confirmation.n_seeds, 'seed')}"
    )
    sections = [
        Section(
            "verdict",
            "Result",
            [
                answer_of_confirmation(confirmation),
                *confirmation_blocks(confirmation),
                Text([str(of_confirmation(confirmation))], "note"),
            ],
            for_terminal=True,
        ),
        Section("configurations", "Configurations", _snippets(confirmation)),
    ]
    return Document(confirmation.study_name, subtitle, sections)


def confirmation_blocks(confirmation: Confirmation) -> list[Block]:
    """Return verdict, interval plot, table, notes and shrinkage."""
    blocks: list[Block] = [Text([confirmation.verdict])]
    if any(each.improvement is not None for each in confirmation.configurations):
        blocks.append(
            Plot(
                name="confirmation",
                title=f"Improvement over {confirmation.baseline_name} with the same fresh seeds "
                f"(dots) and {INTERVAL}s {confirmation.where}; green: better, red: worse",
                draw=partial(figures.draw_intervals, confirmation),
            )
        )
    blocks.append(confirmation.table())
    if confirmation.notes:
        blocks.append(Text(list(confirmation.notes)))
    if confirmation.shrinkage is not None:
        blocks.append(
            Plot(
                name="shrinkage",
                title="What is left of the improvements in tuning",
                draw=partial(figures.draw_shrinkage, confirmation),
            )
        )
    return blocks


def _snippets(confirmation: Confirmation) -> list[Block]:
    return [
        spelled(
            label,
            [] if each.mean is None else [f"Mean {confirmation.metric} {estimated(each.mean)}."],
            each.params,
        )
        for label, each in confirmation.named()
    ]
