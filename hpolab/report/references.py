"""Simple solutions in one table with the trials that should beat them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.analysis.wording import short
from hpolab.objectives.packed_rows import RowScores
from hpolab.report.blocks import Section, Text
from hpolab.studies.recipe import FACTS_KEY, REFERENCE_ROWS_PREFIX, REFERENCES_KEY
from hpolab.studies.trials import METRICS_KEY, ROWS_KEY
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

    from hpolab.report.blocks import Block
    from hpolab.report.reading import Reading

__all__ = ["references_section"]

_ERROR = " (error)"


@dataclass(frozen=True)
class _ReferenceRow:
    """A trial or a simple solution.

    Attributes:
        name: What it is called.
        metrics: Name -> value.
        is_tuned: Whether it is a trial.
        rows: Its scores by row, packed; None if not known.
    """

    name: str
    metrics: Mapping[str, Any]
    is_tuned: bool
    rows: str | None = None


def references_section(reading: Reading, trials: Mapping[str, FrozenTrial]) -> list[Section]:
    """Return the references of a study beside some trials; nothing if it has none.

    Args:
        reading: The study, or one of several that have the same references.
        trials: Name of a trial -> the trial.
    """
    references = reading.user_attrs.get(REFERENCES_KEY, {})
    known = {name: found for name, found in references.items() if isinstance(found, dict)}
    if not known:
        return []
    first = next(iter(known.values()))
    # Studies from before objectives named their metric have it first.
    metric = reading.user_attrs.get(FACTS_KEY, {}).get("metric")
    metric = metric if metric in first else next(iter(first))
    rows = [
        _ReferenceRow(name, found, False, reading.user_attrs.get(f"{REFERENCE_ROWS_PREFIX}{name}"))
        for name, found in known.items()
    ]
    for name, trial in trials.items():
        found = {metric: trial.value} | _recorded(trial)
        rows.append(_ReferenceRow(name, found, True, trial.user_attrs.get(ROWS_KEY)))
    rows.sort(key=lambda row: row.metrics[metric], reverse=reading.maximize)
    columns = [name for name in first if not name.endswith(_ERROR)]
    cells = [[row.name, *(_cell(row, column) for column in columns)] for row in rows]
    best = next(row for row in rows if row.is_tuned)
    differences = [_difference(best, row) for row in rows]
    if any(differences):
        columns = [*columns, f"{best.name} minus it, {metric}"]
        cells = [[*each, said or "-"] for each, said in zip(cells, differences, strict=True)]
    strong = frozenset(place for place, row in enumerate(rows) if row.is_tuned)
    blocks: list[Block] = [
        Text([_words(rows, metric)], "finding"),
        TextTable(["", *columns], cells, strong, _note(rows, references, any(differences))),
    ]
    return [Section("references", "Beside simple solutions", blocks, for_terminal=True)]


def _recorded(trial: FrozenTrial) -> dict[str, Any]:
    stored = trial.user_attrs.get(METRICS_KEY)
    return stored if isinstance(stored, dict) else {}


def _cell(row: _ReferenceRow, column: str) -> str:
    error = row.metrics.get(f"{column}{_ERROR}")
    if column not in row.metrics:
        return "-"
    return short(row.metrics[column]) + ("" if error is None else f" ± {error:.2g}")


def _difference(best: _ReferenceRow, row: _ReferenceRow) -> str:
    """Return by how much the best trial is above a row on the same users; "" if not known."""
    if row is best or not best.rows or not row.rows:
        return ""
    mine, other = RowScores.of_text(best.rows), RowScores.of_text(row.rows)
    if mine.n != other.n or len(mine.values) < 2:
        return ""
    gains = mine.values - other.values
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    mean = gains.mean()
    return f"{'+' if mean > 0 else ''}{short(mean)} ± {error:.2g}"


def _words(rows: Sequence[_ReferenceRow], metric: str) -> str:
    """Return which row is first, and which is the first of the other kind."""
    first = rows[0]
    words = f"{first.name} is first with {metric} {_cell(first, metric)}"
    other = next((row for row in rows if row.is_tuned != first.is_tuned), None)
    if other is None:
        return f"{words}."
    kind = "simple solutions" if first.is_tuned else "tuned"
    return f"{words}; of the {kind} {other.name} comes first with {_cell(other, metric)}."


def _note(
    rows: Sequence[_ReferenceRow], references: Mapping[str, Any], has_differences: bool
) -> str:
    notes = [
        "Emphasized: the best trial, an overestimate if there were many. Simple solutions are at "
        "their defaults."
    ]
    if any(row.metrics.get(f"{name}{_ERROR}") is not None for row in rows for name in row.metrics):
        notes.append(
            "Errors are those of one row alone, and of differences those of the pairs: users who "
            "are hard for one are mostly hard for the other."
            if has_differences
            else "Errors are those of one row alone; two rows on the same users differ by less "
            "chance: `Ranking.difference`."
        )
    notes += [f"{name}: {why}." for name, why in references.items() if isinstance(why, str)]
    return " ".join(notes)
