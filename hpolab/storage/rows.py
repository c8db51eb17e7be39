"""Trials read from a database's rows: what Optuna reads as objects, in a fraction of the time.

Optuna's underscored names here: its tables, and the session that each of its calls is one of.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from optuna.distributions import json_to_distribution
from optuna.storages._rdb import models
from optuna.storages._rdb.models import BaseModel as Base
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import and_, bindparam, case, func, or_, select

from hpolab.storage.glance import CONSTRAINTS, Glance, violates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Hashable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from sqlalchemy import ColumnElement, Connection, Select, Table

__all__ = ["RowMemo", "glance_at", "read_trial", "read_trials"]

# Beyond so many, trials are named by their study instead of one by one: databases limit how many
# values a statement has, and plan each length of a list anew.
_MAX_NAMED = 500

# Tables, not Optuna's classes: from a class to its rows takes longer than the query itself.
_TRIALS, _PARAMS, _VALUES, _REPORTS, _USER_ATTRS, _SYSTEM_ATTRS = (
    Base.metadata.tables[name]
    for name in (
        "trials",
        "trial_params",
        "trial_values",
        "trial_intermediate_values",
        "trial_user_attributes",
        "trial_system_attributes",
    )
)
_HEAD = ("trial_id", "number", "state", "datetime_start", "datetime_complete")
_DETAILS = {
    _PARAMS: ("param_id", "param_name", "param_value", "distribution_json"),
    _VALUES: ("objective", "value", "value_type"),
    _REPORTS: ("step", "intermediate_value", "intermediate_value_type"),
    _USER_ATTRS: ("key", "value_json"),
    _SYSTEM_ATTRS: ("key", "value_json"),
}


class _Rows(NamedTuple):
    """Rows of some trials: those of their table, and table -> trial id -> the other columns."""

    heads: Sequence[Any]
    details: dict[Table, dict[int, list[Any]]]


class RowMemo:
    """The rows that were read last, for as long as nobody has written to the database.

    Args:
        version: Returns what changes whenever anybody has written, None if that is unknown.
    """

    # Between two writes of one worker the same few reads come again and again.
    _N_KEPT = 16

    def __init__(self, version: Callable[[Connection], Hashable | None]) -> None:
        self._version = version
        self._kept: dict[Hashable, tuple[Hashable, _Rows]] = {}

    def rows(self, connection: Connection, read: Hashable, again: Callable[[], _Rows]) -> _Rows:
        """Return the rows of a read, which is made again if they may have changed."""
        version = self._version(connection)
        if version is None:
            return again()
        kept = self._kept.get(read)
        if kept is not None and kept[0] == version:
            return kept[1]
        rows = again()
        # What was written meanwhile may be among them or not.
        if self._version(connection) == version:
            if len(self._kept) >= self._N_KEPT:
                self._kept.clear()
            self._kept[read] = version, rows
        return rows


def read_trial(storage: RDBStorage, trial_id: int, memo: RowMemo | None = None) -> FrozenTrial:
    """Return a trial, as ``RDBStorage.get_trial`` does.

    Raises:
        KeyError: If there is no such trial.
    """
    values = {"trial_ids": [trial_id]}

    def rows() -> _Rows:
        heads = connection.execute(_select(_TRIALS, "named"), values).all()
        return _with_details(connection, heads, "named", values)

    with _create_scoped_session(storage.scoped_session) as session:
        connection = session.connection()
        found = rows() if memo is None else memo.rows(connection, trial_id, rows)
    if not found.heads:
        raise KeyError(models.NOT_FOUND_MSG)
    return _built(found)[0]


def read_trials(
    storage: RDBStorage,
    study_id: int,
    states: Container[TrialState] | None,
    included_trial_ids: Collection[int],
    trial_id_greater_than: int,
    memo: RowMemo | None = None,
) -> list[FrozenTrial]:
    """Return trials of a study by id, as ``RDBStorage._get_trials`` does.

    Args:
        storage: The storage.
        study_id: The study's id.
        states: Those of these states; None for all.
        included_trial_ids: Those with these ids, and
        trial_id_greater_than: those with greater ones.
        memo: The rows that were read last.

    Raises:
        KeyError: If there is no such study.
    """
    included = {each for each in included_trial_ids if each <= trial_id_greater_than}
    # Among many, those that are not wanted are read and left out.
    few = sorted(included) if len(included) <= _MAX_NAMED else []
    after = trial_id_greater_than if len(included) <= _MAX_NAMED else min(included) - 1

    def rows() -> _Rows:
        study = Base.metadata.tables["studies"]
        if not connection.execute(select(study.c.study_id).filter_by(study_id=study_id)).all():
            raise KeyError(models.NOT_FOUND_MSG)
        # The states first: what is read later of a finished trial is all of it.
        values = {"study_id": study_id, "after": after, "trial_ids": few}
        found = connection.execute(_select(_TRIALS, "of study"), values)
        heads = [
            head
            for head in found
            if (head[0] > trial_id_greater_than or head[0] in included)
            and (states is None or head[2] in states)
        ]
        if len(heads) <= _MAX_NAMED:
            named = {"trial_ids": [head[0] for head in heads]}
            return _with_details(connection, heads, "named", named)
        return _with_details(connection, heads, "of study", values)

    with _create_scoped_session(storage.scoped_session) as session:
        connection = session.connection()
        if memo is None or states is not None:
            return _built(rows())
        read = (study_id, frozenset(included), trial_id_greater_than)
        return _built(memo.rows(connection, read, rows))


def glance_at(storage: RDBStorage, study_id: int) -> Glance:
    """Look at a study without reading its finished trials.

    Raises:
        KeyError: If there is no such study.
    """
    directions = storage.get_study_directions(study_id)
    of_study = _TRIALS.c.study_id == study_id
    counting = select(_TRIALS.c.state, func.count()).where(of_study).group_by(_TRIALS.c.state)
    with _create_scoped_session(storage.scoped_session) as session:
        connection = session.connection()
        n_by_state: Counter[TrialState] = Counter()
        for state, n_trials in connection.execute(counting):
            n_by_state[state] = n_trials
        best = _best(connection, study_id, directions[0]) if len(directions) == 1 else None
        are_running = of_study & (_TRIALS.c.state == TrialState.RUNNING)
        ids = connection.execute(select(_TRIALS.c.trial_id).where(are_running)).scalars()
        named = {"trial_ids": list(ids)}
        heads = connection.execute(_select(_TRIALS, "named"), named).all()
        running = _built(_with_details(connection, heads, "named", named))
    # One that has ended in between is no longer one of them.
    return Glance(n_by_state, best, [t for t in running if t.state == TrialState.RUNNING])


def _best(
    connection: Connection, study_id: int, direction: StudyDirection
) -> tuple[int, float] | None:
    """Return (number, value) of the best trial that violates no constraint, the earliest first."""
    kinds = models.TrialValueModel.TrialValueType
    by_rank = [kinds.INF_NEG, kinds.FINITE, kinds.INF_POS]
    value: ColumnElement[Any] = _VALUES.c.value
    if direction == StudyDirection.MAXIMIZE:
        by_rank, value = by_rank[::-1], value.desc()
    first, second, _ = (_VALUES.c.value_type == kind for kind in by_rank)
    rank = case((first, 0), (second, 1), else_=2)
    are_complete = and_(
        _TRIALS.c.study_id == study_id,
        _TRIALS.c.state == TrialState.COMPLETE,
        _VALUES.c.trial_id == _TRIALS.c.trial_id,
        _VALUES.c.objective == 0,
    )
    constrained = select(_SYSTEM_ATTRS.c.trial_id, _SYSTEM_ATTRS.c.key, _SYSTEM_ATTRS.c.value_json)
    attrs: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in connection.execute(
        constrained.where(
            _SYSTEM_ATTRS.c.trial_id == _TRIALS.c.trial_id,
            _TRIALS.c.study_id == study_id,
            _SYSTEM_ATTRS.c.key.startswith(CONSTRAINTS),
        )
    ):
        attrs[trial_id][key] = json.loads(text)
    broken = {trial_id for trial_id, found in attrs.items() if violates(found)}
    ordered = (
        select(_TRIALS.c.trial_id, _TRIALS.c.number, _VALUES.c.value, _VALUES.c.value_type)
        .where(are_complete)
        .order_by(rank, value, _TRIALS.c.number)
        .limit(len(broken) + 1)
    )
    for trial_id, number, stored, kind in connection.execute(ordered):
        if trial_id not in broken:
            return number, models.TrialValueModel.stored_repr_to_value(stored, kind)
    return None


@lru_cache
def _select(table: Table, which: str) -> Select[Any]:
    """Return the query of a table's rows of trials.

    Args:
        table: The table.
        which: "named" for those of :trial_ids, "of study" for those of :study_id with ids above
            :after, and of :trial_ids.
    """
    columns = _HEAD if table is _TRIALS else ("trial_id", *_DETAILS[table])
    are_named = _TRIALS.c.trial_id.in_(bindparam("trial_ids", expanding=True))
    if which == "named":
        wanted: ColumnElement[bool] = table.c.trial_id.in_(bindparam("trial_ids", expanding=True))
    else:
        wanted = and_(
            _TRIALS.c.study_id == bindparam("study_id"),
            or_(_TRIALS.c.trial_id > bindparam("after"), are_named),
        )
        if table is not _TRIALS:
            wanted = table.c.trial_id.in_(select(_TRIALS.c.trial_id).where(wanted))
    query = select(*(table.c[name] for name in columns)).where(wanted)
    return query.order_by(_TRIALS.c.trial_id) if table is _TRIALS else query


def _with_details(
    connection: Connection, heads: Sequence[Any], which: str, values: Mapping[str, Any]
) -> _Rows:
    """Return the rows of trials of which the first columns are read.

    Args:
        connection: To the database.
        heads: Rows of their table.
        which: As in `_select`: what has rows of these trials. It may have others, too.
        values: Those of that query.
    """
    details: dict[Table, dict[int, list[Any]]] = {}
    for table in _DETAILS if heads else ():
        found = details[table] = defaultdict(list)
        for row in connection.execute(_select(table, which), values):
            found[row[0]].append(row[1:])
    return _Rows(heads, details)


def _built(rows: _Rows) -> list[FrozenTrial]:
    """Return trials of their rows."""
    details = rows.details
    to_value = models.TrialValueModel.stored_repr_to_value
    to_report = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    trials = []
    for trial_id, number, state, start, complete in rows.heads:
        params, values_of, reports, user_attrs, system_attrs = (
            details[table].get(trial_id, ()) for table in _DETAILS
        )
        # In the order in which they were suggested.
        drawn = [
            (name, value, _distribution(text))
            for _, name, value, text in sorted(params, key=lambda row: row[0])
        ]
        by_objective = {objective: to_value(value, kind) for objective, value, kind in values_of}
        trials.append(
            FrozenTrial(
                number=number,
                state=state,
                value=None,
                values=[by_objective[each] for each in sorted(by_objective)] or None,
                datetime_start=_local(start),
                datetime_complete=_local(complete),
                params={name: each.to_external_repr(value) for name, value, each in drawn},
                distributions={name: each for name, _, each in drawn},
                user_attrs={key: json.loads(text) for key, text in user_attrs},
                system_attrs={key: json.loads(text) for key, text in system_attrs},
                intermediate_values={step: to_report(value, kind) for step, value, kind in reports},
                trial_id=trial_id,
            )
        )
    return trials


@lru_cache(maxsize=1000)
def _distribution(text: str) -> BaseDistribution:
    """Return a distribution; trials of one search space share it."""
    return json_to_distribution(text)


def _local(stored: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time of this place's, without its zone; stored are those of UTC."""
    if stored is None:
        return None
    return stored.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
