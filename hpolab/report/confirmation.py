"""The sections of a confirmation's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hpolab.report import figures
from hpolab.report.blocks import Document, Plot, Section, Table, Text
from hpolab.report.spelling import spelled
from hpolab.report.wording import count, short

if TYPE_CHECKING:
    from hpolab.analysis.confirmation import Configuration, Confirmation
    from hpolab.analysis.statistics import Estimate
    from hpolab.report.blocks import Block

__all__ = ["confirmation_blocks", "confirmation_document", "estimated"]


def confirmation_document(confirmation: Confirmation) -> Document:
    """Return the report of a confirmation."""
    subtitle = (
        f"confirmation · {confirmation.metric} on test data, {confirmation.direction}d · "
        f"{count(len(confirmation.configurations), 'configuration')} against "
        f"{confirmation.baseline_name} · {count(confirmation.n_seeds, 'seed')}"
    )
    sections = [
        Section("verdict", "Verdict", confirmation_blocks(confirmation), for_terminal=True),
        Section("configurations", "Configurations", _snippets(confirmation)),
    ]
    return Document(confirmation.study_name, subtitle, sections)


def confirmation_blocks(confirmation: Confirmation) -> list[Block]:
    """Return verdict, interval plot, table and shrinkage."""
    labels = _labels(confirmation)
    blocks: list[Block] = [
        Text([confirmation.verdict], "finding" if confirmation.winner is None else "good")
    ]
    if any(each.lead is not None for each in confirmation.configurations):
        blocks.append(
            Plot(
                name="confirmation",
                title=f"Lead over {confirmation.baseline_name} on the same fresh seeds, with "
                "95 % intervals; dots are seeds, green is better beyond chance, red worse",
                draw=partial(figures.draw_intervals, confirmation, labels),
            )
        )
    blocks.append(_table(confirmation, labels))
    shrinkage = confirmation.shrinkage
    if shrinkage is not None:
        blocks.append(Text([str(shrinkage)]))
        blocks.append(
            Plot(
                name="shrinkage",
                title="What became of each lead that tuning showed",
                draw=partial(figures.draw_shrinkage, confirmation, labels),
            )
        )
    return blocks


def _labels(confirmation: Confirmation) -> dict[int, str]:
    """Return what to call each configuration, by its place; all are different."""
    return {
        place: f"trial {each.trial}" if each.trial is not None else f"configuration {place + 1}"
        for place, each in enumerate(confirmation.configurations)
    }


def _table(confirmation: Confirmation, labels: dict[int, str]) -> Table:
    over = f"lead over {confirmation.baseline_name}"
    head = ["", "in tuning", f"test {confirmation.metric}", over, "p", "verdict"]
    rows = [_row(confirmation.baseline_name, confirmation.baseline)]
    rows += [_row(labels[place], each) for place, each in enumerate(confirmation.configurations)]
    winner = confirmation.winner
    strong = frozenset(
        place + 1
        for place, each in enumerate(confirmation.configurations)
        if winner is not None and each is winner
    )
    note = (
        f"Means over {count(confirmation.n_seeds, 'seed')}, the same for all, with 95 % "
        "intervals. p-values of the lead being zero, corrected for all configurations (Holm)."
    )
    return Table(head, rows, strong, note)


def _row(label: str, each: Configuration) -> list[str]:
    return [
        label,
        short(each.tuning_value),
        "-" if each.mean is None else estimated(each.mean),
        "" if each.lead is None else estimated(each.lead),
        "" if each.p_value is None else f"{each.p_value:.2g}",
        _judged(each),
    ]


def estimated(estimate: Estimate) -> str:
    """Return a mean with its interval in brackets."""
    ends = f"{estimate.low:.4g} to {estimate.high:.4g}"
    return f"{estimate.mean:.4g} ({ends})"


def _judged(each: Configuration) -> str:
    if each.lost:
        seed, why = next(iter(each.lost.items()))
        return f"lost {count(len(each.lost), 'seed')}: {short(why)} (seed {seed})"
    if each.lead is None:
        return ""
    if not each.differs:
        return "not told from chance"
    return "better" if each.is_better else "worse"


def _snippets(confirmation: Confirmation) -> list[Block]:
    labels = _labels(confirmation)
    named = [(confirmation.baseline_name, confirmation.baseline)]
    named += [(labels[place], each) for place, each in enumerate(confirmation.configurations)]
    return [
        spelled(
            label,
            [] if each.mean is None else [f"Mean {confirmation.metric} {short(each.mean.mean)}."],
            each.params,
        )
        for label, each in named
    ]
