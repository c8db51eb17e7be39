"""One row a question, hpolab beside a peer, and the table of them: as JSON and as text."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = 1
MEASURED, NOT_INSTALLED, CRASHED, TOO_LONG = "measured", "not installed", "crashed", "too long"
FAILURES = (CRASHED, TOO_LONG)


class TableError(ValueError):
    """A table that cannot be read."""


@dataclass(frozen=True)
class Figure:
    """What was measured several times: the median (or what stands for all), lowest and highest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return short(self.middle)
        return f"{short(self.middle)} [{short(self.low)}..{short(self.high)}]"


@dataclass(frozen=True)
class Row:
    """One question, answered for hpolab and for one peer.

    Attributes:
        key: The row's name within its section: short, and the same in every run.
        question: What is measured, in plain words.
        peer: The peer's name.
        peer_version: Its version.
        unit: The unit of both figures.
        ours: hpolab's figure; None if there is none.
        theirs: The peer's figure; None if there is none.
        ratio: hpolab's by the peer's, pair by pair; None where it says nothing, as of zeros.
        n_repeats: How many pairs were measured.
        better: "lower" or "higher".
        command: What measures this row alone.
        status: "measured", or why there are no figures.
        note: The size of what was measured, or the reason.
        section: The part of the table; `run.py` sets it.
    """

    key: str
    question: str
    peer: str
    peer_version: str = ""
    unit: str = ""
    ours: Figure | None = None
    theirs: Figure | None = None
    ratio: Figure | None = None
    n_repeats: int = 0
    better: str = "lower"
    command: str = ""
    status: str = MEASURED
    note: str = ""
    section: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher"):
            raise ValueError(f"`better` must be 'lower' or 'higher', got {self.better!r}")

    @classmethod
    def of_pairs(
        cls, key: str, question: str, pairs: Sequence[tuple[float, float]], **others: Any
    ) -> Row:
        """Make a row of what hpolab and the peer took, in turn."""
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        return cls(
            key,
            question,
            ours=Figure.of(ours for ours, _ in pairs),
            theirs=Figure.of(theirs for _, theirs in pairs),
            ratio=Figure.of(ratios) if len(ratios) == len(pairs) else None,
            n_repeats=len(pairs),
            **others,
        )

    @property
    def winner(self) -> str:
        """The side whose figure is better: "hpolab", the peer's name, or "" for neither."""
        if self.ours is None or self.theirs is None:
            return ""
        # Of pairs the ratio is what was measured; medians of both sides can be of different pairs.
        ours, theirs = self.ours.middle, self.theirs.middle
        if self.ratio is not None:
            ours, theirs = self.ratio.middle, 1.0
        if ours == theirs:
            return ""
        return "hpolab" if (ours < theirs) == (self.better == "lower") else self.peer

    @property
    def is_lost(self) -> bool:
        """Whether the peer is ahead: such a row is bold."""
        return self.winner == self.peer

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "winner": self.winner}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Row:
        given = {each.name: kept[each.name] for each in fields(cls)}
        for name in ("ours", "theirs", "ratio"):
            given[name] = given[name] and Figure(**given[name])
        return cls(**given)


@dataclass(frozen=True)
class Section:
    """The rows of one part, and how they came about."""

    rows: tuple[Row, ...]
    seconds: float
    is_quick: bool
    measured: str
    machine: str
    versions: Mapping[str, str]


@dataclass
class Table:
    """All sections, by name."""

    sections: dict[str, Section] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections.values() for row in section.rows]

    def row(self, section: str, key: str, peer: str | None = None) -> Row | None:
        """Return a row by its key, or None."""
        found = self.sections.get(section)
        rows = found.rows if found else ()
        return next((r for r in rows if r.key == key and peer in (None, r.peer)), None)

    def to_json(self) -> str:
        sections = {
            name: {**asdict(section), "rows": [row.to_json() for row in section.rows]}
            for name, section in self.sections.items()
        }
        return json.dumps({"schema": SCHEMA, "sections": sections}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "the table") -> Table:
        kept = json.loads(text)
        schema = kept.get("schema") if isinstance(kept, dict) else None
        if schema != SCHEMA:
            raise TableError(
                f"{name} has schema {schema}, and this version reads {SCHEMA}: "
                "measure again with `python benchmarks/run.py`"
            )
        return cls(
            {
                section: Section(**{**each, "rows": tuple(map(Row.from_json, each["rows"]))})
                for section, each in kept["sections"].items()
            }
        )

    @classmethod
    def read(cls, path: Path) -> Table:
        return cls.from_json(path.read_text(), str(path))

    def to_text(self) -> str:
        """Return the table for a terminal or a file; a row that a peer wins stands in asterisks."""
        lines = [summary(self.rows)]
        for name, section in self.sections.items():
            size = ", quick: sizes too small to quote" if section.is_quick else ""
            lines += ["", f"{name} ({section.seconds:.0f} s, {section.measured[:10]}{size})"]
            lines += [f"  {line}" for line in section_lines(section.rows)]
        lines += ["", *self._machines()]
        return "\n".join(lines) + "\n"

    def _machines(self) -> list[str]:
        lines: list[str] = []
        for section in self.sections.values():
            versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
            for line in (f"machine: {section.machine}", f"versions: {versions}"):
                if line not in lines:
                    lines.append(line)
        return lines


def summary(rows: Sequence[Row]) -> str:
    """Return the first line: how many rows, and who is ahead."""
    counts = {
        "hpolab ahead": sum(row.winner == "hpolab" for row in rows),
        "a peer ahead (bold)": sum(row.is_lost for row in rows),
        "equal": sum(row.status == MEASURED and not row.winner for row in rows),
        "not installed": sum(row.status == NOT_INSTALLED for row in rows),
        "failed": sum(row.status in FAILURES for row in rows),
    }
    parts = [f"{name} {count}" for name, count in counts.items() if count]
    return f"{len(rows)} rows: {', '.join(parts)}. A ratio is hpolab's figure by the peer's."


def section_lines(rows: Sequence[Row]) -> list[str]:
    """Return a section's rows as aligned columns."""
    header = ("", "hpolab", "peer", "", "ratio", "ahead")
    cells = [header, *(text_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def text_cells(row: Row) -> tuple[str, ...]:
    question, *figures = cells_of(row)
    return (f"**{question}**" if row.is_lost else question, *figures)


def cells_of(row: Row) -> tuple[str, ...]:
    """Return question, our figure, the peer, its figure, ratio, who is ahead."""
    question = f"{row.question}, {row.unit}" if row.unit else row.question
    peer = f"{row.peer} {row.peer_version}".strip()
    if row.status != MEASURED:
        return (question, "-", peer, f"{row.status}: {row.note}", "-", "-")
    ratio = "-" if row.ratio is None else str(row.ratio)
    return (question, str(row.ours), peer, str(row.theirs), ratio, row.winner or "neither")


def short(value: float) -> str:
    """Return a number with three digits that count."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = f"{value:#.3g}"
    return digits.rstrip(".") if "e" not in digits else f"{value:.2g}"


def version_of(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def section_of(rows: Iterable[Row], name: str, *, seconds: float, is_quick: bool) -> Section:
    """Return a section of rows that were measured just now, on this machine."""
    packages = ("hpolab", "optuna", "numpy", "torch", "lightgbm", "scikit-learn")
    return Section(
        rows=tuple(replace(row, section=name) for row in rows),
        seconds=round(seconds, 1),
        is_quick=is_quick,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        versions={"Python": platform.python_version()}
        | {package: version_of(package) for package in packages if version_of(package)},
    )


def machine() -> str:
    """Return processor, cores and memory."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
