"""What samplers and pruners need of a study's finished trials, kept up to date trial by trial.

Optuna's read all trials each time they are asked, so that a study's ten-thousandth trial costs a
hundred times what its hundredth did. A digest takes in each finished trial once. It does not
depend on the order in which they come, so that a study that was killed and resumed, which reads
them in the order of their numbers, decides as the uninterrupted one.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

from hpolab import _optuna
from hpolab.studies.history import history_of
from hpolab.studies.trials import best_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.studies.history import History

__all__ = ["Digest", "Past", "best_so_far"]


class Digest(ABC):
    """What one question needs of a study's finished trials."""

    @abstractmethod
    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in finished trials, each once, in any order."""


D = TypeVar("D", bound=Digest)


class _Kept:
    """The digests of one study: each, and how many trials it has taken in."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.digests: dict[Hashable, tuple[Digest, int]] = {}


_kept: WeakKeyDictionary[History, _Kept] = WeakKeyDictionary()


class Past:
    """What a trial may see of its study at one moment, without reading all of it again.

    Args:
        study: The study, or what the trial may see of it.
    """

    def __init__(self, study: Study) -> None:
        self._history = history_of(study)
        self._window = _optuna.window_of(study)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        if self._window is None:
            return list(self._history.trials)
        return [*self._history.trials[: self._window.below], *self.unfinished]

    @property
    def unfinished(self) -> list[FrozenTrial]:
        """Those that run now or wait, by number."""
        if self._window is None:
            return list(self._history.unfinished)
        return [t for t in self._history.unfinished if t.number == self._window.number]

    @contextmanager
    def digested(
        self, key: Hashable, make: Callable[[], D]
    ) -> Iterator[tuple[D, Sequence[FrozenTrial]]]:
        """Bring a digest up to date, and keep other threads from it meanwhile.

        Args:
            key: Tells one digest of the study from the others: its class, for one that is alone.
            make: Makes an empty one.

        Yields:
            The digest, and finished trials that belong to the answer but are not in it. There are
            some only where the study must not depend on timing: trials that run at once see
            different ones, and the digest holds what all of them see.
        """
        # One step of a dict's, so that no lock is needed which a forked process might find held.
        kept = _kept.setdefault(self._history, _Kept())
        with kept.lock:
            trials: Sequence[FrozenTrial] = self._history.finished
            late: Sequence[FrozenTrial] = ()
            end = len(trials)
            if self._window is not None:
                # Trial n sees those below n - width + 1. Those that run beside it, or will, see at
                # least the ones below another width.
                trials = self._history.trials
                end = max(0, self._window.below - self._window.width)
                late = trials[end : self._window.below]
            digest, n_taken = kept.digests.get((key, self._window is None), (None, 0))
            if digest is None or n_taken > end:
                digest, n_taken = make(), 0
            if n_taken < end:
                digest.add(trials[n_taken:end])
            kept.digests[key, self._window is None] = (digest, end)
            yield cast("D", digest), late


class _Best(Digest):
    def __init__(self, study: Study) -> None:
        self.trial: FrozenTrial | None = None
        self._direction = study.direction

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        before = [] if self.trial is None else [self.trial]
        by_number = sorted([*before, *trials], key=lambda trial: trial.number)
        self.trial = best_of(by_number, self._direction)


def best_so_far(study: Study) -> FrozenTrial | None:
    """Return the `best_of` a study's trials, without reading all of them again.

    Args:
        study: A study with one objective value.
    """
    with Past(study).digested(_Best, lambda: _Best(study)) as (found, _):
        return found.trial
