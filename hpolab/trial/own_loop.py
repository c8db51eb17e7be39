"""Trackers in a loop of one's own: `run` is not there to say when a trial has ended.

A trial is told by whoever has asked for it, after its `Reporter` is gone. So its runs end once
nobody holds the `Trial` any more and the storage says how it ended, or when the program ends.
"""

from __future__ import annotations

import atexit
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize

from hpolab.errors import in_brief
from hpolab.logs import get_logger
from hpolab.trial.tracking import StudyTracking, as_trackers, tracking_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study, Trial

    from hpolab.trial.tracker import Tracker
    from hpolab.trial.tracking import TrialTracking

__all__ = ["track_alone"]

_logger = get_logger(__name__)


class _OpenRuns:
    """The trials of this process's own loops whose runs are open, and a thread that ends them.

    Whatever frees a trial may do so anywhere, in the middle of a write to its storage too: so the
    thread asks the storage, and not the finalizer.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._studies: WeakKeyDictionary[Study, StudyTracking] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._open: list[TrialTracking] = []
        # None: look at all.
        self._freed: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def track(self, trial: Trial, trackers: Sequence[Tracker]) -> TrialTracking:
        """See `track_alone`."""
        tracked = tracking_of(trial)
        with self._lock:
            study = tracked.study if tracked is not None else self._studies.get(trial.study)
            known = () if study is None else study.keys
            checked = as_trackers(trackers, known=known)
            if study is None:
                study = self._studies[trial.study] = StudyTracking(trial.study, ())
            study.add(checked)
        tracking = study.start_trial(trial)
        if tracked is None:
            self._watch(trial, tracking)
        return tracking

    def _watch(self, trial: Trial, tracking: TrialTracking) -> None:
        with self._lock:
            self._open.append(tracking)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._end_freed, name="hpolab-trackers", daemon=True
                )
                self._thread.start()
        finalize(trial, self._freed.put, False).atexit = False
        # Again each time, to come first at the end: a tracker's library that was set up meanwhile
        # closes its own connection there.
        atexit.unregister(self.close)
        atexit.register(self.close)

    def _end_freed(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._freed.get()
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            waiting = list(self._open)
        for tracking in waiting:
            try:
                has_ended = tracking.settle()
            except Exception as error:  # noqa: BLE001 - a deleted study, or a storage out of reach
                _logger.warning(
                    f"How trial {tracking.number} ended is not known to its trackers: "
                    f"{in_brief(error)}"
                )
                has_ended = True
            if has_ended:
                with self._lock:
                    self._open.remove(tracking)

    def close(self) -> None:
        """End what has ended by now, and leave the rest to be resumed; at the program's end."""
        if self._pid != os.getpid() or self._thread is None:
            return
        self._freed.put(True)
        self._thread.join()
        self._thread = None
        for tracking in self._open:
            tracking.leave("requeued")
        for study in self._studies.values():
            study.end(interrupted=bool(self._open))
        self._open.clear()
        self._studies.clear()


_runs = _OpenRuns()


def track_alone(trial: Trial, trackers: Sequence[Tracker]) -> TrialTracking:
    """Track a trial that `run` does not track, or not with all of these trackers.

    Args:
        trial: The running trial.
        trackers: Where.

    Raises:
        InvalidType: If ``trackers`` is no list of trackers.
        InvalidArgument: If one cannot work.
        MissingExtra: If one's package is missing.
    """
    return _runs.track(trial, trackers)


def _forget_in_child() -> None:
    """Leave a parent's runs to the parent."""
    global _runs
    atexit.unregister(_runs.close)
    _runs = _OpenRuns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
