"""A journal read for a look: its studies, and of its trials the states, values and who runs them.

Most of a journal is params and reports, and most of the time that it takes to replay it goes into
trials that nobody looks at. Optuna's underscored names here: what its replay of a journal keeps.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, final

from optuna.storages import JournalStorage
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpolab.storage.glance import Glance, violates
from hpolab.storage.journal import ForkSafeJournalStorage

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from optuna.storages.journal import BaseJournalBackend

__all__ = ["SkimmedJournal"]


@dataclass
class _Unfinished:
    """A trial that waits or runs."""

    study_id: int
    number: int
    state: TrialState
    values: list[float] | None = None
    start: str | None = None
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)


class _Skimming(JournalStorageReplayResult):
    """Optuna's replay of the studies, and ours of their trials: to the same states."""

    def __init__(self) -> None:
        # No entry is this process's own, which a replay would refuse where it is out of place.
        super().__init__("skimming-")
        self._n_trials = 0
        self._unfinished: dict[int, _Unfinished] = {}
        self._n_finished: defaultdict[int, Counter[TrialState]] = defaultdict(Counter)
        self._n_of_study: Counter[int] = Counter()
        self._best: dict[int, tuple[float, int, float]] = {}

    def take_in(self, logs: Iterator[tuple[int, dict[str, Any] | None]]) -> None:
        for n_read, log in logs:
            if log is not None:
                self._take_in(log)
            self.log_number_read = n_read

    def _take_in(self, log: dict[str, Any]) -> None:
        op = log["op_code"]
        if op == JournalOperation.CREATE_TRIAL:
            self._create(log)
        elif op == JournalOperation.SET_TRIAL_STATE_VALUES:
            self._set_state(log)
        elif op == JournalOperation.SET_TRIAL_USER_ATTR:
            trial = self._unfinished.get(log["trial_id"])
            if trial is not None:
                trial.user_attrs.update(log["user_attr"])
        elif op == JournalOperation.SET_TRIAL_SYSTEM_ATTR:
            trial = self._unfinished.get(log["trial_id"])
            if trial is not None:
                trial.system_attrs.update(log["system_attr"])
        elif op not in _SKIPPED:
            self.apply_logs([log])

    def _create(self, log: dict[str, Any]) -> None:
        study_id = log["study_id"]
        if study_id not in self._studies:
            return
        value = log.get("value")
        trial = _Unfinished(
            study_id,
            self._n_of_study[study_id],
            TrialState(log.get("state", TrialState.RUNNING.value)),
            [value] if value is not None else log.get("values"),
            log["datetime_start"],
            log.get("user_attrs", {}),
            log.get("system_attrs", {}),
        )
        self._n_of_study[study_id] += 1
        if trial.state.is_finished():
            self._finish(trial)
        else:
            self._unfinished[self._n_trials] = trial
        self._n_trials += 1

    def _set_state(self, log: dict[str, Any]) -> None:
        trial = self._unfinished.get(log["trial_id"])
        state = TrialState(log["state"])
        # Of two workers that pop a trial, the second is refused.
        if trial is None or trial.state == state == TrialState.RUNNING:
            return
        trial.state = state
        if log["values"] is not None:
            trial.values = log["values"]
        if state == TrialState.RUNNING:
            trial.start = log["datetime_start"]
        if state.is_finished():
            del self._unfinished[log["trial_id"]]
            self._finish(trial)

    def _finish(self, trial: _Unfinished) -> None:
        self._n_finished[trial.study_id][trial.state] += 1
        study = self._studies.get(trial.study_id)  # None of one that was deleted
        if study is None or len(study.directions) != 1 or trial.state != TrialState.COMPLETE:
            return
        if violates(trial.system_attrs):
            return
        (value,) = trial.values or (0.0,)
        loss = -value if study.directions[0] == StudyDirection.MAXIMIZE else value
        found = (loss, trial.number, value)
        self._best[trial.study_id] = min(self._best.get(trial.study_id, found), found)

    def glance(self, study_id: int) -> Glance:
        self.get_study(study_id)  # raises KeyError
        unfinished = [each for each in self._unfinished.values() if each.study_id == study_id]
        best = self._best.get(study_id)
        return Glance(
            self._n_finished[study_id] + Counter(trial.state for trial in unfinished),
            None if best is None else best[1:],
            [_frozen(trial) for trial in unfinished if trial.state == TrialState.RUNNING],
        )


_SKIPPED = (JournalOperation.SET_TRIAL_PARAM, JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE)


def _frozen(trial: _Unfinished) -> FrozenTrial:
    frozen = create_trial(
        state=trial.state, user_attrs=trial.user_attrs, system_attrs=trial.system_attrs
    )
    frozen.number = trial.number
    frozen.datetime_start = None
    if trial.start is not None:
        frozen.datetime_start = (
            datetime.fromisoformat(trial.start).astimezone().replace(tzinfo=None)
        )
    return frozen


@final
class SkimmedJournal(JournalStorage):
    """A journal's storage to look at: studies are read at once, trials when somebody asks for them.

    Args:
        backend: Where the journal is kept: one of hpolab's, which can leave params and reports out.
    """

    _replay_result: _Skimming

    def __init__(self, backend: BaseJournalBackend) -> None:
        self._worker_id_prefix = "skimming-"
        self._backend = backend
        self._thread_lock = threading.Lock()
        self._replay_result = _Skimming()
        self._whole: ForkSafeJournalStorage | None = None
        with self._thread_lock:
            self._sync_with_backend()

    def glance(self, study_id: int) -> Glance:
        """Look at a study.

        Raises:
            KeyError: If there is no such study.
        """
        with self._thread_lock:
            self._sync_with_backend()
            return self._replay_result.glance(study_id)

    def _sync_with_backend(self) -> None:
        skimmed: Any = self._backend
        try:
            self._replay_result.take_in(skimmed.skim_logs(self._replay_result.log_number_read))
        except BaseException:
            self._replay_result = _Skimming()  # of which nobody knows how far it came
            raise

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Replay the whole journal for it."""
        return self._replayed().get_trial(trial_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Replay the whole journal for them."""
        return self._replayed().get_all_trials(study_id, deepcopy, states)

    def _replayed(self) -> ForkSafeJournalStorage:
        if self._whole is None:
            self._whole = ForkSafeJournalStorage(self._backend)
        return self._whole
