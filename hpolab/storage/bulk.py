"""Many trials, or reports of many trials, written to a storage at once.

Optuna's underscored names here: the tables of its databases, which Optuna itself fills by a query
and an insertion for each value of each trial.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["Report", "report_logs", "report_row", "write_reports", "write_trials"]


@dataclass(frozen=True)
class Report:
    """What a trial reports: the storage's id of it, the step and the value there."""

    trial_id: int
    step: int
    value: float


def write_trials(
    storage: BaseStorage | BaseJournalBackend, study_id: int, trials: Sequence[FrozenTrial]
) -> None:
    """Write trials to a study as they are, together where the storage can.

    A database takes them in one transaction, a journal in one append, any other storage one by
    one.

    Args:
        storage: What stands behind Optuna's cache, or behind its journal.
        study_id: The study's id there. Nobody else may write to it.
        trials: The study's next trials, numbered from where its own end.

    Example:
        >>> import optuna
        >>> storage = optuna.storages.InMemoryStorage()
        >>> study_id = storage.create_new_study([StudyDirection.MINIMIZE], "squares")
        >>> write_trials(storage, study_id, [optuna.trial.create_trial(value=2.0)])
        >>> storage.get_all_trials(study_id)[0].value
        2.0
    """
    if isinstance(storage, BaseJournalBackend):
        storage.append_logs(_as_logs(study_id, trials))
    elif isinstance(storage, RDBStorage):
        from hpolab.storage.database import repeated

        repeated(_insert, harmless=False)(storage, study_id, trials)
    else:
        for trial in trials:
            storage.create_new_trial(study_id, trial)


def write_reports(storage: BaseStorage | BaseJournalBackend, reports: Sequence[Report]) -> None:
    """Write reports of several running trials, over those of the same steps.

    A database takes them in one transaction, a journal in one append, any other storage one by
    one. Those of a trial that another worker has ended in the meantime are left out by a database
    and by a journal: its worker finds that out when it tells the trial.

    Args:
        storage: What stands behind Optuna's cache, or behind its journal.
        reports: The reports, one a trial and step.

    Example:
        >>> import optuna
        >>> storage = optuna.storages.InMemoryStorage()
        >>> study_id = storage.create_new_study([StudyDirection.MINIMIZE], "squares")
        >>> trial_id = storage.create_new_trial(study_id)
        >>> write_reports(storage, [Report(trial_id, 0, 0.5)])
        >>> storage.get_trial(trial_id).intermediate_values
        {0: 0.5}
    """
    if isinstance(storage, BaseJournalBackend):
        storage.append_logs(report_logs(reports))
    elif isinstance(storage, RDBStorage):
        from hpolab.storage.database import repeated

        repeated(_replace_reports)(storage, reports)
    else:
        for report in reports:
            storage.set_trial_intermediate_value(report.trial_id, report.step, report.value)


class _Notebook(BaseJournalBackend):
    """A journal in a list."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self.logs[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


def _as_logs(study_id: int, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return what Optuna would append to a journal for these trials, one by one."""
    notebook = _Notebook()
    storage = JournalStorage(notebook)
    own_id = storage.create_new_study([StudyDirection.MINIMIZE], "notes")
    n_before = len(notebook.logs)
    for trial in trials:
        storage.create_new_trial(own_id, trial)
    return [log | {"study_id": study_id} for log in notebook.logs[n_before:]]


def report_logs(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return what Optuna would append to a journal for these reports, one by one.

    As if another worker had: a replay leaves those of a finished trial out, and raises nothing.
    """
    log = _report_log()
    return [
        {
            **log,
            "trial_id": each.trial_id,
            "step": each.step,
            "intermediate_value": each.value,
        }
        for each in reports
    ]


@cache
def _report_log() -> dict[str, Any]:
    notebook = _Notebook()
    storage = JournalStorage(notebook)
    trial_id = storage.create_new_trial(storage.create_new_study([StudyDirection.MINIMIZE], "a"))
    storage.set_trial_intermediate_value(trial_id, 0, 0.0)
    return notebook.logs[-1]


def _replace_reports(storage: RDBStorage, reports: Sequence[Report]) -> None:
    from optuna.storages._rdb import models
    from sqlalchemy import delete, insert, select, text, tuple_
    from sqlalchemy.orm import Session

    table, trials = models.TrialIntermediateValueModel, models.TrialModel
    with Session(storage.engine) as session, session.begin():
        if storage.engine.name == "sqlite":
            # Else a read before the write may find the file changed by then, and fails at once.
            session.execute(text("BEGIN IMMEDIATE"))
        ids = [report.trial_id for report in reports]
        running = select(trials.trial_id).where(
            trials.trial_id.in_(ids), trials.state == TrialState.RUNNING
        )
        found = set(session.scalars(running.with_for_update()))
        kept = [report for report in reports if report.trial_id in found]
        if not kept:
            return
        steps = [(report.trial_id, report.step) for report in kept]
        session.execute(delete(table).where(tuple_(table.trial_id, table.step).in_(steps)))
        rows = [{"trial_id": each.trial_id, **report_row(each.step, each.value)} for each in kept]
        session.execute(insert(table.__table__), rows)


def report_row(step: int, value: float) -> dict[str, Any]:
    """Return what a database holds of a report, but for its trial."""
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}


def _insert(storage: RDBStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    # Imported here, because SQLAlchemy takes long to import.
    from optuna.storages._rdb import models
    from sqlalchemy import insert
    from sqlalchemy.orm import Session

    with Session(storage.engine) as session, session.begin():
        written = [
            models.TrialModel(
                number=trial.number,
                study_id=study_id,
                state=trial.state,
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
            )
            for trial in trials
        ]
        session.add_all(written)
        session.flush()
        for table, rows_of in (
            (models.TrialValueModel, _value_rows),
            (models.TrialParamModel, _param_rows),
            (models.TrialIntermediateValueModel, _report_rows),
            (models.TrialUserAttributeModel, lambda trial: _attr_rows(trial.user_attrs)),
            (models.TrialSystemAttributeModel, lambda trial: _attr_rows(trial.system_attrs)),
        ):
            rows = [
                {"trial_id": model.trial_id, **row}
                for model, trial in zip(written, trials, strict=True)
                for row in rows_of(trial)
            ]
            if rows:
                # By the table, as insertions by the model take three times as long.
                session.execute(insert(table.__table__), rows)


def _value_rows(trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    from optuna.storages._rdb.models import TrialValueModel

    for objective, value in enumerate(trial.values or ()):
        stored, kind = TrialValueModel.value_to_stored_repr(value)
        yield {"objective": objective, "value": stored, "value_type": kind}


def _param_rows(trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        yield {
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }


def _report_rows(trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    for step, value in trial.intermediate_values.items():
        yield report_row(step, value)


def _attr_rows(attrs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in attrs.items():
        yield {"key": key, "value_json": json.dumps(value)}
