"""Databases on a server, which may be restarted while a study runs."""

from __future__ import annotations

import random
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage

from hpolab.errors import StorageUnavailable
from hpolab.storage.numbered import refuse_other, without_number
from hpolab.storage.redaction import reason_of
from hpolab.storage.rows import glance_at, read_trial, read_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna.storages._rdb.models import TrialModel
    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.orm import Session

__all__ = ["DatabaseStorage", "FinishesAgain", "Interrupted", "OutcomeUnknown", "repeated"]

# How long a server that was there is waited for, while it is being started again.
RESTART_TIMEOUT_SECONDS = 60.0


class Interrupted(Exception):
    """The server ended a transaction; whether it was committed first may be unknown."""

    def __init__(self, reason: str, *, may_be_committed: bool) -> None:
        super().__init__(reason)
        self.may_be_committed = may_be_committed


# What PostgreSQL answers when it has rolled a transaction back for the sake of another one:
# serialization_failure and deadlock_detected.
_ROLLED_BACK = frozenset(["40001", "40P01"])


def _raise_interrupted(context: ExceptionContext) -> None:
    """Stand in for an error of the engine if the transaction is worth another attempt."""
    error = context.sqlalchemy_exception
    # Without one it is KeyboardInterrupt or the like. A connection that does not answer the pool's
    # ping is replaced by the pool.
    if error is None or context.is_pre_ping:
        return
    url = context.engine.url.render_as_string(hide_password=False) if context.engine else ""
    reason = reason_of(error, url)
    if getattr(error.orig, "sqlstate", None) in _ROLLED_BACK:
        raise Interrupted(reason, may_be_committed=False)
    if context.is_disconnect or context.connection is None:
        # BEGIN goes out with the first statement, so that what has none is COMMIT (or ROLLBACK).
        at_the_end = context.connection is not None and context.statement is None
        raise Interrupted(reason, may_be_committed=at_the_end)


class OutcomeUnknown(StorageUnavailable):
    """The server was asked to commit a transaction and has not answered."""


def repeated(method: Callable[..., Any], *, harmless: bool = True) -> Any:
    """Run a method of a storage, which is one transaction, again if the server interrupts it.

    Args:
        method: The method.
        harmless: Whether it may run again although its first run may have been committed, as a
            reading or a writing of the same value may. If it may not, that rare case raises
            StorageUnavailable: the trial that was perhaps created or started carries the lease of
            this process and is requeued once that has ended, so that none is lost or doubled.
    """

    @wraps(method)
    def repeat(*args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + RESTART_TIMEOUT_SECONDS
        while True:
            try:
                return method(*args, **kwargs)
            except Interrupted as error:
                reason, is_unknown = str(error), error.may_be_committed and not harmless
            # Raised out here, so that the driver's error is not kept as the context of ours.
            if is_unknown:
                raise OutcomeUnknown(
                    f"The connection broke while the server was committing: {reason}. What was "
                    "told before is safe, this may be stored or not; start again to resume."
                )
            if time.monotonic() > deadline:
                raise StorageUnavailable(
                    f"The server was not there for {RESTART_TIMEOUT_SECONDS:g} seconds: {reason}. "
                    "What was told before is safe; start again to resume."
                )
            # Uneven, so that two that were in each other's way do not meet again; by the system's
            # own dice, because a study may depend on the state of Python's.
            time.sleep(random.SystemRandom().uniform(0.05, 0.5))

    return repeat


class FinishesAgain:
    """A storage that finishes a trial again where it is unknown whether the first time counted.

    A subclass has ``_set_trial_state_values``, which raises `OutcomeUnknown`.
    """

    _set_trial_state_values: Any
    get_trial: Any

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        try:
            changed: bool = self._set_trial_state_values(trial_id, state, values)
            return changed
        except OutcomeUnknown:
            # A trial that was started or requeued twice may have run twice.
            if not state.is_finished():
                raise
            return self._finish_again(trial_id, state, values)

    def _finish_again(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None
    ) -> bool:
        """Finish a trial that may have been finished by a commit that was not answered."""
        try:
            return self.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            if (trial.state, trial.values) != (state, None if values is None else list(values)):
                raise
            return True


@final
class DatabaseStorage(FinishesAgain, RDBStorage):
    """An ``optuna.storages.RDBStorage`` whose server may be restarted while a study runs.

    A transaction that the server has ended before COMMIT was sent has left nothing behind and
    runs again, for `RESTART_TIMEOUT_SECONDS`. Where the connection broke during COMMIT nobody can
    tell whether it took effect; what then may run again is said in the table below. (PostgreSQL's
    ``pg_xact_status`` does not tell either: after a crash it may speak of another transaction that
    was given the same number.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except Exception:
            if "engine" in vars(self):
                self.engine.dispose()
            raise
        self._listen()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._listen()

    def _listen(self) -> None:
        from sqlalchemy import event

        event.listen(self.engine, "handle_error", _raise_interrupted)

    create_new_study = repeated(RDBStorage.create_new_study, harmless=False)
    delete_study = repeated(RDBStorage.delete_study, harmless=False)
    _create_new_trial = repeated(RDBStorage._create_new_trial, harmless=False)
    _set_trial_state_values = repeated(RDBStorage.set_trial_state_values, harmless=False)

    creates_by_number = True

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> TrialModel:
        # In the transaction that has locked the study's row.
        template, only = without_number(template_trial)
        trial = super()._get_prepared_new_trial(study_id, template, session)
        refuse_other(int(trial.number), only)
        return trial

    # A second writing of the same value changes nothing, nor does a second one of the same
    # parameter, which the table's unique constraint refuses and Optuna ignores.
    _set_trial_param = repeated(RDBStorage._set_trial_param)
    set_study_system_attr = repeated(RDBStorage.set_study_system_attr)
    set_study_user_attr = repeated(RDBStorage.set_study_user_attr)
    set_trial_intermediate_value = repeated(RDBStorage.set_trial_intermediate_value)
    set_trial_system_attr = repeated(RDBStorage.set_trial_system_attr)
    set_trial_user_attr = repeated(RDBStorage.set_trial_user_attr)

    glance = repeated(glance_at)
    _get_best_trial_id = repeated(RDBStorage._get_best_trial_id)
    _get_trials = repeated(read_trials)
    get_all_studies = repeated(RDBStorage.get_all_studies)
    get_study_directions = repeated(RDBStorage.get_study_directions)
    get_study_id_from_name = repeated(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = repeated(RDBStorage.get_study_name_from_id)
    get_study_system_attrs = repeated(RDBStorage.get_study_system_attrs)
    get_study_user_attrs = repeated(RDBStorage.get_study_user_attrs)
    get_trial = repeated(read_trial)
    get_trial_id_from_study_id_trial_number = repeated(
        RDBStorage.get_trial_id_from_study_id_trial_number
    )
    get_trial_param = repeated(RDBStorage.get_trial_param)
    get_trial_system_attrs = repeated(RDBStorage.get_trial_system_attrs)
    get_trial_user_attrs = repeated(RDBStorage.get_trial_user_attrs)
