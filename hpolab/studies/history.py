"""A study's trials, of which the finished ones are looked at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hpolab import _optuna

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        self.trials: Sequence[FrozenTrial] = ()
        self.finished: list[FrozenTrial] = []
        self.unfinished: list[FrozenTrial] = []
        self._n_seen = 0
        self._lock = threading.Lock()

    def take_in(self, trials: Sequence[FrozenTrial]) -> None:
        """Look at trials that are new or were unfinished, among all there are now."""
        with self._lock:
            again = [trials[trial.number] for trial in self.unfinished]
            left: list[FrozenTrial] = []
            for trial in (*again, *trials[self._n_seen :]):
                (self.finished if trial.state.is_finished() else left).append(trial)
            self.trials, self.unfinished, self._n_seen = trials, left, len(trials)


_histories: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()


def history_of(study: Study) -> History:
    """Return a study's trials as they are now, also those that a trial of it may not see."""
    storage = _optuna.storage_of(study)
    history = _histories.setdefault(storage, {}).setdefault(study._study_id, History())
    history.take_in(storage.get_all_trials(study._study_id, deepcopy=False))
    return history
