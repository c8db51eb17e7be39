"""Many trials written to a storage at once.

Optuna's underscored names here: the tables of its databases, which Optuna itself fills by a query
and an insertion for each value of each trial.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["write_trials"]


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
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    for step, value in trial.intermediate_values.items():
        stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        yield {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}


def _attr_rows(attrs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in attrs.items():
        yield {"key": key, "value_json": json.dumps(value)}
