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

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.studies.history import History

__all__ = ["Digest", "digested", "unfinished_in"]


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
_keeping = threading.Lock()


@contextmanager
def digested(
    study: Study, key: Hashable, make: Callable[[], D]
) -> Iterator[tuple[D, Sequence[FrozenTrial]]]:
    """Bring a digest of a study up to date, and keep other threads from it meanwhile.

    Args:
        study: The study, or what a trial may see of it.
        key: Tells one digest of the study from the others.
        make: Makes an empty one.

    Yields:
        The digest, and finished trials that belong to the answer but are not in it. There are some
        only where the study must not depend on timing: trials that run at once see different
        ones, and the digest holds what all of them see.
    """
    history = history_of(study)
    with _keeping:
        kept = _kept.setdefault(history, _Kept())
    with kept.lock:
        window = _optuna.window_of(study)
        trials: Sequence[FrozenTrial] = history.finished
        late: Sequence[FrozenTrial] = ()
        end = len(trials)
        if window is not None:
            # Trial n sees those below n - width + 1. Those that run beside it, or will, see at
            # least the ones below another width.
            trials = history.trials
            end = max(0, window.below - window.width)
            late = trials[end : window.below]
        digest, n_taken = kept.digests.get((key, window is None), (None, 0))
        if digest is None or n_taken > end:
            digest, n_taken = make(), 0
        if n_taken < end:
            digest.add(trials[n_taken:end])
        kept.digests[key, window is None] = (digest, end)
        yield cast("D", digest), late


def unfinished_in(study: Study) -> list[FrozenTrial]:
    """Return the trials that run now or wait, as far as a trial may see them."""
    unfinished, window = history_of(study).unfinished, _optuna.window_of(study)
    if window is None:
        return unfinished
    return [trial for trial in unfinished if trial.number == window.number]
