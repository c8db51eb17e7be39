"""A study's trials, of which each finished one is read from its storage once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.studies.trials import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["History", "history_of"]


class History:
    """The trials of one study, as they were when it was asked for last.

    Attributes:
        trials: All of them, by number.
        finished: Those that have finished, in the order in which that was seen.
        unfinished: Those that run or wait, by number.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self.trials: list[FrozenTrial] = []
        self.finished: list[FrozenTrial] = []
        self.unfinished: list[FrozenTrial] = []
        self.held: object = None
        self._place = (storage, study_id)
        self._n_by_state: Counter[TrialState] = Counter()
        self._lock = threading.RLock()

    @property
    def tally(self) -> Tally:
        """How many there are of each state."""
        n = self._n_by_state + Counter(trial.state for trial in self.unfinished)
        return Tally(
            complete=n[TrialState.COMPLETE],
            pruned=n[TrialState.PRUNED],
            failed=n[TrialState.FAIL],
            running=n[TrialState.RUNNING],
            waiting=n[TrialState.WAITING],
        )

    @property
    def running(self) -> list[FrozenTrial]:
        """Those that run, by number."""
        return [trial for trial in self.unfinished if trial.state == TrialState.RUNNING]

    def refresh(self) -> bool:
        """Look at trials that are new or were unfinished.

        Returns:
            Whether these are the trials that were looked at before, or more of them: False if the
            study was deleted and another one has its place.
        """
        with self._lock:
            now = _optuna.held_trials(*self._place)
            if self.held is None:
                self.held = now.held
            if now.held is not self.held or now.n_trials < len(self.trials):
                return False
            again = [now.get(trial.number) for trial in self.unfinished]
            new = list(_known(now, len(self.trials)))
            left: list[FrozenTrial] = []
            for trial in again:
                self.trials[trial.number] = trial
            self.trials += new
            for trial in (*again, *new):
                if trial.state.is_finished():
                    self.finished.append(trial)
                    self._n_by_state[trial.state] += 1
                else:
                    left.append(trial)
            self.unfinished = left
        return True


def _known(now: _optuna.HeldTrials, first: int) -> Iterator[FrozenTrial]:
    """Return the trials from a number on, as far as there is none missing."""
    try:
        for number in range(first, now.n_trials):
            yield now.get(number)
    except KeyError:  # one that another worker has created just before this process's last
        return


_Histories = dict[tuple[int, int], History]
_histories: WeakKeyDictionary[BaseStorage, _Histories] = WeakKeyDictionary()
_looking_up = threading.Lock()


def history_of(study: Study) -> History:
    """Return a study's trials as they are now, also those that a trial of it may not see.

    Raises:
        KeyError: If the study was deleted.
    """
    storage, study_id = _optuna.storage_of(study), study._study_id
    # By process, as a forked one must not find a lock that a thread of its parent holds.
    key = os.getpid(), study_id
    while True:
        with _looking_up:
            kept = _histories.setdefault(storage, {})
            history = kept.get(key) or kept.setdefault(key, History(storage, study_id))
        if history.refresh():
            return history
        with _looking_up:
            if kept.get(key) is history:
                del kept[key]
