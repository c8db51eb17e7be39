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

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        self.finished: list[FrozenTrial] = []
        self.unfinished: list[FrozenTrial] = []
        self.held: object = None
        self._n_by_state: Counter[TrialState] = Counter()
        self._lock = threading.RLock()

    @property
    def tally(self) -> Tally:
        """How many there are of each state."""
        with self._lock:
            unfinished = Counter(trial.state for trial in self.unfinished)
            return Tally.of(self._n_by_state + unfinished)

    @property
    def running(self) -> list[FrozenTrial]:
        """Those that run, by number."""
        return [trial for trial in self.unfinished if trial.state == TrialState.RUNNING]

    def refresh(self, storage: BaseStorage, study_id: int) -> bool:
        """Look at trials that are new or were unfinished.

        Args:
            storage: The study's storage, which is not kept: what it holds would keep it alive.
            study_id: The study's id there.

        Returns:
            Whether these are the trials that were looked at before, or more of them: False if the
            study was deleted and another one has its place.
        """
        with self._lock:
            now = _optuna.held_trials(storage, study_id)
            if self.held is None:
                self.held = now.held
            if now.held is not self.held or now.n_trials < len(self.trials):
                return False
            again = [now.get(trial.number) for trial in self.unfinished]
            new = list(_known(now, len(self.trials)))
            # A thread that looks on must not take for finished what it does not find here, so
            # this list comes before the trials that are new.
            self.unfinished = [trial for trial in again + new if not trial.state.is_finished()]
            for trial in again:
                self.trials[trial.number] = trial
            self.trials += new
            ended = [trial for trial in again + new if trial.state.is_finished()]
            self.finished += ended
            self._n_by_state.update(trial.state for trial in ended)
        return True


def _known(now: _optuna.HeldTrials, first: int) -> Iterator[FrozenTrial]:
    """Return the trials from a number on, as far as there is none missing."""
    try:
        for number in range(first, now.n_trials):
            yield now.get(number)
    except KeyError:  # one that another worker has created just before this process's last
        return


_histories: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()
_looking_up = threading.Lock()


def history_of(study: Study) -> History:
    """Return a study's trials as they are now, also those that a trial of it may not see.

    Raises:
        KeyError: If the study was deleted.
    """
    storage, study_id = _optuna.storage_of(study), study._study_id
    while True:
        with _looking_up:
            kept = _histories.setdefault(storage, {})
            history = kept.setdefault(study_id, History())
        if history.refresh(storage, study_id):
            return history
        with _looking_up:
            if kept.get(study_id) is history:
                del kept[study_id]


def _forget_in_child() -> None:
    """Begin anew in a forked process: a thread of its parent's may have held a lock."""
    global _histories, _looking_up
    _histories, _looking_up = WeakKeyDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
