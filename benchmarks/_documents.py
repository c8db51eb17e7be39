"""Regions of README.md and docs/benchmarks.md that are made from the table.

A region stands between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is a section of the
table, `summary`, or `readme`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from _compare import write
from _table import MEASURED, cells_of, summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from _table import Row, Section, Table

PAGES = ("README.md", "docs/benchmarks.md")
REGION = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.S)

# Sections that ask the same of several peers.
WIDE = ("recovery", "lightgbm", "search")

# What a user asks first: section, key, peer.
README_ROWS = (
    ("mnist", "study", ""),
    ("lightgbm", "rank", "plain Optuna"),
    ("recommenders", "bpr-recbole", "RecBole"),
    ("fused", "mlp", ""),
    ("storage", "sqlite", ""),
    ("storage", "journal", ""),
    ("storage", "redis-study", ""),
    ("recovery", "kept", "Optuna"),
    ("overhead", "growth-tpe-100000", ""),
    ("overhead", "import", ""),
)


def write_documents(table: Table, root: Path) -> None:
    """Write the regions of every page again."""
    for page in PAGES:
        path = root / page
        write(path, with_regions(path.read_text(), table))


def with_regions(text: str, table: Table) -> str:
    """Return a page whose regions hold what the table has."""
    return REGION.sub(lambda found: found[1] + region(found[2], table) + found[3], text)


def region(name: str, table: Table) -> str:
    """Return the Markdown of one region."""
    if name == "readme":
        return markdown(readme_rows(table))
    if name == "summary":
        return "\n".join(wrapped_summary(table)) + "\n"
    section = table.sections.get(name)
    if section is None:
        return "Not measured yet.\n"
    return (wide if name in WIDE else markdown)(section.rows) + told(section)


def readme_rows(table: Table) -> list[Row]:
    found = (table.row(section, key, peer or None) for section, key, peer in README_ROWS)
    return [row for row in found if row is not None and row.status == MEASURED]


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a table; those that a peer wins are bold."""
    lines = ["| | hpolab | peer | its figure | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [cell.replace("|", "/") for cell in cells_of(row)[:5]]
        if row.is_lost:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def wide(rows: Sequence[Row]) -> str:
    """Return rows of the same questions as a table with a column for each peer.

    A figure of a peer that is ahead is bold.
    """
    peers = list(dict.fromkeys(f"{row.peer} {row.peer_version}".strip() for row in rows))
    lines = [f"| | hpolab | {' | '.join(peers)} |", "|---" * (len(peers) + 2) + "|"]
    asked: dict[str, dict[str, str]] = {}
    for row in rows:
        question, ours, peer, theirs, *_ = (cell.replace("|", "/") for cell in cells_of(row))
        if row.status == MEASURED:
            cells = asked.setdefault(question, {"hpolab": ours})
            cells[peer] = f"**{theirs}**" if row.is_lost else theirs
    for question, cells in asked.items():
        shown = [question, *(cells.get(peer, "") for peer in ("hpolab", *peers))]
        lines.append(f"| {' | '.join(shown)} |")
    lines += [f"\n{row.peer}: {row.status}: {row.note}." for row in rows if row.status != MEASURED]
    return "\n".join(lines) + "\n"


def told(section: Section) -> str:
    """Return what was measured, and the commands that measure it."""
    notes = dict.fromkeys(row.note for row in section.rows if row.note and row.status == MEASURED)
    commands = dict.fromkeys(row.command for row in section.rows)
    lines = ["", *(f"{note}." for note in notes)] if notes else []
    return "\n".join([*lines, "", "```sh", *commands, "```", ""])


def wrapped_summary(table: Table) -> list[str]:
    lines = [summary(table.rows), ""]
    for section in table.sections.values():
        versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
        line = f"{section.machine}; {versions}."
        if line not in lines:
            lines.append(line)
    return lines
