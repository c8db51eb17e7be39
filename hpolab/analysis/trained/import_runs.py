"""import_runs(): turns a table of runs made elsewhere into a study that every analysis reads."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import TrialState, create_trial

from hpolab.errors import DataNotFound, InvalidArgument, InvalidType, RecipeMismatch, one_of
from hpolab.frames import is_frame, read_rows
from hpolab.keywords import checks_keywords
from hpolab.search_space.ranges import make_distribution
from hpolab.storage.url import open_storage
from hpolab.studies.imported import IMPORT_KEY, ROW_KEY, RUN_KEY
from hpolab.studies.study import make_study
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.lease import ERROR_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["import_runs"]

_MISSING = frozenset(["", "na", "n/a", "nan", "none", "null", "<na>"])
_INT = re.compile(r"[+-]?\d+")

# Columns that usually name a run, the most usual first.
_ID_COLUMNS = ("run", "run_id", "Run", "ID", "id", "Name", "name")
# The columns of a W&B export that are neither configuration nor metric.
_BOOKKEEPING = frozenset(
    [
        *_ID_COLUMNS,
        *("Agent", "Created", "Description", "End Time", "GPU Count", "GPU Type", "GitHub"),
        *("Group", "Hostname", "Job Type", "Notes", "Runtime", "Start Time", "State", "Sweep"),
        *("Tags", "Updated", "User", "created_at", "notes", "state", "tags"),
    ]
)
_CONFIG = re.compile(r"config[./]")
_UNFINISHED = frozenset(["pending", "queued", "running", "starting"])
_BROKEN = frozenset(["crashed", "failed", "killed", "preempted", "preempting"])
_STATES = _UNFINISHED | _BROKEN | {"finished"}


@dataclass(frozen=True)
class _Run:
    """One run. If it has no value, ``error`` says why."""

    id: str
    label: str
    value: float | None
    error: str
    params: Mapping[str, Any]
    attrs: Mapping[str, Any]
    reports: Mapping[int, float]


@dataclass(frozen=True)
class _Columns:
    """The meaning of the table's columns: ``params`` maps a parameter's name to its column."""

    value: str
    params: Mapping[str, str]
    metrics: Sequence[str]
    run_id: str | None
    steps: str | None
    state: str | None


@checks_keywords()
def import_runs(
    source: Any,
    *,
    study_name: str,
    value: str,
    direction: str,
    params: Sequence[str] | Mapping[str, Any] | None = None,
    storage: str | PathLike[str] | BaseStorage | None = "memory://",
    baseline: str | int | None = None,
    run_id: str | None = None,
    metrics: Sequence[str] = (),
    steps: str | None = None,
) -> Study:
    """Make a study of runs that were made elsewhere, so that every analysis works on it.

    Each run becomes a trial. If a cell is missing (empty, NaN, NA, None, null), the trial lacks
    that parameter. A run without a finite value, or that W&B's column ``State`` calls crashed,
    failed or killed, becomes a FAILED trial with its parameters and the reason. A run that is still
    running is left out; import the table again when it has ended. The study's user attribute
    ``hpolab:import`` counts each kind.

    Ranges are taken from the table and are the same for all trials: whole numbers, numbers, or
    choices for text and flags. They have a log scale if all values are above zero and the highest
    is at least ten times the lowest. They show what was tried, not what may be tried.

    The study is made by `make_study`, without a search space, and new trials may be added to it.
    Importing again adds the runs that are new. Columns that are neither parameter nor value are
    kept as user attributes of the trial.

    Args:
        source: A CSV file's path, a pandas or polars frame, or a list of dicts (nested ones, such
            as W&B's ``config``, are flattened: ``config.lr``).
        study_name: The study's name.
        value: The column of the value.
        direction: "minimize" or "maximize".
        params: The columns of parameters; or name -> range, to replace that of the table: an Optuna
            distribution, a tuple (low, high), a list of choices, or None for the table's.
            ``config.lr`` may be called "lr". By default all columns beginning with ``config.``; if
            there are none, all columns that have no other meaning here or in W&B, so name
            ``metrics`` then.
        storage: As in `make_study`.
        baseline: The id of the run that others are compared with; its row, from 1, if no column
            names the runs.
        run_id: The column that names the runs. By default the first of run, run_id, ID, id, Name
            that names each run once; without such a column, a run is recognized by its cells.
        metrics: Columns that are not parameters. Their numbers become metrics of the trial, shown
            beside its value.
        steps: The column of the step or epoch of a row's value, which becomes an intermediate
            value. A run may then have several rows, and the last one gives its value.

    Returns:
        The study.

    Raises:
        InvalidArgument: If a column is not in the table, a value is not a number, a run's id is
            missing or repeated, or a run has changed or left the ranges since it was imported.
        InvalidType: If ``source`` is none of these.
        DataNotFound: If the file does not exist.
        RecipeMismatch: If the study exists and was not imported. If any of these is raised, nothing
            is written.

    Example:
        >>> study = import_runs(
        ...     [
        ...         {"run": "a", "lr": "1e-4", "optimizer": "adam", "accuracy": "0.91"},
        ...         {"run": "b", "lr": "1e-2", "optimizer": "", "accuracy": "0.94"},
        ...     ],
        ...     study_name="foreign", value="accuracy", direction="maximize", baseline="a",
        ... )
        >>> study.best_params, study.best_trial.distributions
        ({'lr': 0.01}, {'lr': FloatDistribution(high=0.01, log=True, low=0.0001, step=None)})
    """
    rows = _rows(source)
    columns = _columns(rows, value, params, run_id, metrics, steps)
    runs, n_unfinished = _runs(rows, columns)
    specs = params if isinstance(params, dict) else {}
    ranges = {
        each: _range(each, specs.get(each), found, gaps=len(found) < len(runs))
        for each, found in _values_by_param(runs, columns).items()
    }
    opened = open_storage(storage)
    stored = _stored(study_name, opened)
    ranges |= stored.ranges
    trials = {run.id: _trial(run, ranges) for run in runs}
    baseline = _baseline(baseline, trials) if baseline is not None else stored.baseline
    known = [each for each in trials if each in stored.trials]
    new = [trial for each, trial in trials.items() if _is_new(each, trial, stored.trials)]
    study = make_study(study_name, storage=opened, direction=direction)
    counts = Counter(trial.state for trial in (stored.trials | trials).values())
    mark = {
        "source": str(source) if isinstance(source, str | Path) else type(source).__name__,
        "value": value,
        "run_id": columns.run_id,
        "ranges": {each: distribution_to_json(d) for each, d in ranges.items()},
        "baseline": baseline,
        "n_complete": counts[TrialState.COMPLETE],
        "n_failed": counts[TrialState.FAIL],
        "n_left_out": n_unfinished,
        "is_reordered": stored.is_reordered
        or any(_row(trials[each]) != _row(stored.trials[each]) for each in known),
    }
    if study.user_attrs.get(IMPORT_KEY) != mark:
        # Before the trials, so that an import that was killed can be resumed.
        study.set_user_attr(IMPORT_KEY, mark)
    study.add_trials(new)
    return study


def _rows(source: Any) -> list[dict[str, Any]]:
    """Return the table's rows without missing cells: column -> value."""
    if isinstance(source, str | Path):
        rows: Any = _csv_rows(Path(source))
    elif is_frame(source):
        rows = read_rows("source", source)
    else:
        rows = source
    if not isinstance(rows, list | tuple) or not all(isinstance(row, dict) for row in rows):
        raise InvalidType(
            "`source` must be a CSV file's path, a data frame or a list of dicts, got "
            f"{type(source).__name__}."
        )
    if not rows:
        raise InvalidArgument("`source` must have a row at least, got none.")
    parsed = [{key: _cell(cell) for key, cell in _flat(row).items()} for row in rows]
    return [{key: cell for key, cell in row.items() if cell is not None} for row in parsed]


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataNotFound(
            f"`source` must be a CSV file, got {path}, which does not exist."
        ) from None
    except OSError as error:
        raise InvalidArgument(
            f"`source` must be a CSV file, got {path}, which cannot be read: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"`source` must be a CSV file, got {path}, which is no text in UTF-8: save it as CSV."
        ) from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    rows = []
    for row in reader:
        if None in row:
            raise InvalidArgument(
                f"`source` must not have more cells in a row than in its head, got more in line "
                f"{reader.line_num} of {path}."
            )
        rows.append(row)
    return rows


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key, cell in row.items():
        name = f"{above}{key}".strip()
        cells |= _flat(cell, f"{name}.") if isinstance(cell, dict) else {name: cell}
    return cells


def _cell(cell: Any) -> Any:
    """Return a cell as a bool, an int, a float or a text; None if it is missing."""
    if hasattr(cell, "item") and getattr(cell, "ndim", 1) == 0:
        cell = cell.item()  # a NumPy scalar
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, float):
        return None if math.isnan(cell) else cell
    text = str(cell).strip()
    if text.lower() in _MISSING or text == "NaT":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _number(text)


def _number(text: str) -> int | float | str:
    if _INT.fullmatch(text):
        return int(text)
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _columns(
    rows: Sequence[Mapping[str, Any]],
    value: str,
    params: Sequence[str] | Mapping[str, Any] | None,
    run_id: str | None,
    metrics: Sequence[str],
    steps: str | None,
) -> _Columns:
    present = list(dict.fromkeys(column for row in rows for column in row))
    for argument, column in [("value", value), ("run_id", run_id), ("steps", steps)]:
        if column is not None:
            _check_column(argument, column, present)
    if isinstance(metrics, str) or isinstance(params, str):
        raise InvalidType("`params` and `metrics` must be lists of columns, got a str.")
    for column in metrics:
        _check_column("metrics", column, present)
    taken = {value, *metrics} | {column for column in (run_id, steps) if column is not None}
    if params is None:
        found = _default_params(present, taken)
    else:
        found = {name: _param_column(name, present) for name in params}
    if not found:
        raise InvalidArgument(f"`params` must name a column at least; the table has {present}.")
    free = [column for column in present if column not in taken and column not in found.values()]
    return _Columns(
        value=value,
        params=found,
        metrics=tuple(metrics),
        run_id=_id_column(rows, free, several=steps is not None) if run_id is None else run_id,
        steps=steps,
        state=next((c for c in ("State", "state") if c in free and _is_state(rows, c)), None),
    )


def _check_column(argument: str, column: str, present: Sequence[str]) -> None:
    one_of(argument, column, present)


def _param_column(name: str, present: Sequence[str]) -> str:
    """Return the column of a parameter; W&B's ``config.`` before its name may be left out."""
    below_config = [column for column in present if _CONFIG.sub("", column, count=1) == name]
    if name not in present and below_config:
        return below_config[0]
    return one_of("params", name, present)


def _default_params(present: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    free = [column for column in present if column not in set(taken)]
    config = [column for column in free if _CONFIG.match(column)]
    if config:
        return {
            _CONFIG.sub("", column, count=1): column
            for column in config
            if not column[len("config.") :].startswith("_")
        }
    return {c: c for c in free if c not in _BOOKKEEPING and not c.startswith("_")}


def _id_column(
    rows: Sequence[Mapping[str, Any]], free: Sequence[str], *, several: bool
) -> str | None:
    """Return the first column that names each row's run; ``several`` rows may have one run."""
    for column in _ID_COLUMNS:
        ids = [_id_text(row.get(column)) for row in rows if column in free]
        if ids and None not in ids and (several or len(set(ids)) == len(ids)):
            return column
    return None


def _id_text(cell: Any) -> str | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # pandas makes a column of whole numbers with a gap one of floats
    return None if cell is None else str(cell)


def _is_state(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return all(str(row.get(column, "finished")).lower() in _STATES for row in rows)


def _runs(rows: Sequence[Mapping[str, Any]], columns: _Columns) -> tuple[list[_Run], int]:
    """Return the runs that have ended, and how many have not."""
    grouped = _rows_by_run(rows, columns)
    states = {
        each: str(of_run[-1].get(columns.state or "", "")).lower() for each, of_run in grouped
    }
    ended = [
        _run(each, of_run, columns, states[each], place + 1)
        for place, (each, of_run) in enumerate(grouped)
        if states[each] not in _UNFINISHED
    ]
    if not ended:
        raise InvalidArgument("`source` must have a run that has ended, got none.")
    return ended, len(grouped) - len(ended)


def _rows_by_run(
    rows: Sequence[Mapping[str, Any]], columns: _Columns
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    n_alike: Counter[str] = Counter()
    for place, row in enumerate(rows):
        if columns.run_id is None:
            # Two equal rows are two runs.
            digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:12]
            grouped[f"{digest}-{n_alike[digest]}"].append(row)
            n_alike[digest] += 1
            continue
        found = _id_text(row.get(columns.run_id))
        if found is None:
            raise InvalidArgument(
                f"`run_id` must name each run, got none in {columns.run_id!r} of row {place + 1}."
            )
        grouped[found].append(row)
        if len(grouped[found]) > 1 and columns.steps is None:
            raise InvalidArgument(
                f"`run_id` must name each run once, got {found!r} twice in {columns.run_id!r}; "
                "where a row is one step of a run, name the column of the step: `steps`."
            )
    return list(grouped.items())


def _run(
    found: str, rows: Sequence[Mapping[str, Any]], columns: _Columns, state: str, row_number: int
) -> _Run:
    """Return a run; ``row_number`` is its place in the table if no column names the runs."""
    steps = columns.steps
    label = f"run {found!r}" if columns.run_id is not None else f"row {row_number}"
    if steps is not None:
        rows = sorted(rows, key=lambda row: _step(label, row.get(steps, 0)))
    cells: dict[str, Any] = {}
    for row in rows:
        for param, column in columns.params.items():
            if cells.get(column, row.get(column)) != row.get(column, cells.get(column)):
                raise InvalidArgument(
                    f"`params` must be the same in all rows of a run, got {cells[column]!r} and "
                    f"{row[column]!r} for {param!r} of {label}."
                )
        cells |= row
    value = _value(label, rows[-1].get(columns.value), columns.value)
    error = f"the run {state}" if state in _BROKEN else ""
    if value is None:
        error = error or f"the table has no finite {columns.value!r} of the run"
    kept = {*columns.params.values(), columns.value}
    measured = {name: cells[name] for name in columns.metrics if _is_finite(cells.get(name))}
    recorded: dict[str, Any] = {METRICS_KEY: measured} if measured else {}
    if columns.run_id is None:
        recorded[ROW_KEY] = row_number
    return _Run(
        id=found,
        label=label,
        value=None if error else value,
        error=error,
        params={p: cells[column] for p, column in columns.params.items() if column in cells},
        attrs={key: cell for key, cell in cells.items() if key not in kept} | recorded,
        reports=_reports(label, rows, columns),
    )


def _reports(label: str, rows: Sequence[Mapping[str, Any]], columns: _Columns) -> dict[int, float]:
    reports = {}
    for row in rows:
        value = _value(label, row.get(columns.value), columns.value)
        if columns.steps is not None and columns.steps in row and value is not None:
            reports[_step(label, row[columns.steps])] = value
    return reports


def _step(label: str, cell: Any) -> int:
    if isinstance(cell, bool | str) or not math.isfinite(cell) or cell != int(cell) or cell < 0:
        raise InvalidArgument(
            f"`steps` must hold whole numbers of 0 or above, got {cell!r} in {label}."
        )
    return int(cell)


def _value(label: str, cell: Any, column: str) -> float | None:
    """Return a run's value; None if it is missing or not finite."""
    if isinstance(cell, bool | str):
        raise InvalidArgument(
            f"`value` must be a column of numbers, got {cell!r} in {column!r} of {label}."
        )
    return float(cell) if cell is not None and math.isfinite(cell) else None


def _range(name: str, spec: Any, values: Sequence[Any], *, gaps: bool) -> BaseDistribution:
    """Return the given range, or else one that includes the values."""
    if spec is not None:
        return make_distribution(name, spec)
    if not values:
        raise InvalidArgument(
            f"`params` must have values in the runs that have ended, got none of {name!r}."
        )
    if not all(_is_number(value) for value in values):
        return CategoricalDistribution(list(dict.fromkeys(_choices(values))))
    if not all(math.isfinite(value) for value in values):
        raise InvalidArgument(f"`params` must be finite, got {values} for {name!r}.")
    low, high = min(values), max(values)
    # Two ends written as 1e-5 and 1e-4 may lie a rounding below ten times.
    log = low > 0 and high >= low * (10 - 1e-9)
    if _is_whole(values, gaps=gaps):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _values_by_param(runs: Sequence[_Run], columns: _Columns) -> dict[str, list[Any]]:
    return {name: [r.params[name] for r in runs if name in r.params] for name in columns.params}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_whole(values: Sequence[Any], *, gaps: bool) -> bool:
    """Recognize whole numbers, although pandas turns a column with gaps into floats."""
    return all(value == int(value) for value in values) and (
        gaps or any(isinstance(value, int) for value in values)
    )


def _choices(values: Sequence[Any]) -> list[Any]:
    """Return the values as choices: as they are, or as text if their types differ.

    1, 1.0 and True are one choice to Optuna.
    """
    return list(values) if len({type(value) for value in values}) == 1 else list(map(str, values))


@dataclass(frozen=True)
class _Stored:
    """What the study holds already: trials by run, ranges by parameter."""

    trials: dict[str, FrozenTrial]
    ranges: dict[str, BaseDistribution]
    baseline: str | None
    is_reordered: bool = False


def _stored(name: str, storage: BaseStorage) -> _Stored:
    import optuna

    if name not in optuna.study.get_all_study_names(storage):
        return _Stored({}, {}, None)
    study = optuna.load_study(study_name=name, storage=storage)
    trials = study.get_trials(deepcopy=False)
    mark = study.user_attrs.get(IMPORT_KEY)
    if mark is None and trials:
        raise RecipeMismatch(
            f"Study {name!r} exists with {len(trials)} trials and was not imported; nothing was "
            "changed.",
            " Take another `study_name`.",
        )
    runs = {t.user_attrs[RUN_KEY]: t for t in trials if RUN_KEY in t.user_attrs}
    if mark is None:
        return _Stored(runs, {}, None)
    ranges = {each: json_to_distribution(text) for each, text in mark["ranges"].items()}
    return _Stored(runs, ranges, mark["baseline"], mark.get("is_reordered", False))


def _trial(run: _Run, ranges: Mapping[str, BaseDistribution]) -> FrozenTrial:
    reason = {ERROR_KEY: run.error} if run.error else {}
    try:
        return create_trial(
            state=TrialState.FAIL if run.error else TrialState.COMPLETE,
            value=run.value,
            params={name: _as_kind(ranges[name], value) for name, value in run.params.items()},
            distributions={name: ranges[name] for name in run.params},
            user_attrs={**run.attrs, **reason, RUN_KEY: run.id},
            intermediate_values=dict(run.reports),
        )
    except ValueError as error:
        raise InvalidArgument(
            f"`params` must lie in the ranges of the study, those of an earlier import included; "
            f"{run.label} does not: {error} Import the whole table under another "
            "`study_name`, or give wider ranges: `params={name: (low, high)}`."
        ) from None


def _as_kind(distribution: BaseDistribution, value: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return value if value in distribution.choices else str(value)
    if not _is_finite(value):
        raise ValueError(f"{value!r} is no finite number.")
    if isinstance(distribution, IntDistribution):
        if value != int(value):
            raise ValueError(f"{value!r} is no whole number.")
        return int(value)
    return float(value)


def _is_new(found: str, trial: FrozenTrial, stored: Mapping[str, FrozenTrial]) -> bool:
    known = stored.get(found)
    if known is None:
        return True
    if (known.params, known.value) != (trial.params, trial.value):
        raise InvalidArgument(
            f"`source` must have the runs of the earlier import unchanged, got run {found!r} with "
            f"{trial.params} and value {trial.value}, which was {known.params} and {known.value}. "
            "Import the table under another `study_name`."
        )
    return False


def _row(trial: FrozenTrial) -> int | None:
    return trial.user_attrs.get(ROW_KEY)


def _baseline(baseline: str | int, trials: Mapping[str, FrozenTrial]) -> str:
    by_row = {str(_row(trial)): found for found, trial in trials.items() if _row(trial)}
    given = str(baseline)
    found = (
        by_row[one_of("baseline", given, by_row)] if by_row else one_of("baseline", given, trials)
    )
    if trials[found].value is None:
        raise InvalidArgument(f"`baseline` must be a run with a value, got {found!r}, without one.")
    return found
