"""Reports that wait in memory to be written together."""

from __future__ import annotations

import copy
import os
import threading
import time
import weakref
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.storages import BaseStorage

from hpolab.storage.bulk import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from optuna.trial import FrozenTrial

__all__ = ["BuffersReports", "WaitingReports"]

# How long a report waits at most if others follow it; twice as long if none does.
MAX_WAIT_SECONDS = 1.0


@dataclass
class _OfTrial:
    """A trial's reports that are not written yet, step -> value."""

    reports: dict[int, float] = field(default_factory=dict)
    written_at: float = field(default_factory=time.monotonic)


class WaitingReports:
    """Reports of running trials that wait in memory until something needs them written.

    Args:
        write: A method that writes reports, trial id -> step -> value, as one step. It returns the
            trials that take none any more, each with the error that says so. Any error that it
            raises leaves the reports waiting. Its object owns this one.

    Attributes:
        lock: Held by whoever changes what waits. Taken before any lock of the storage by those who
            take both.
    """

    def __init__(
        self, write: Callable[[Mapping[int, Mapping[int, float]]], Mapping[int, Exception]]
    ) -> None:
        # A method of the storage that owns this: held fast, it would keep the storage's file open
        # until the garbage collector comes.
        self._write = weakref.WeakMethod(write)
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self.lock = threading.RLock()
        self._of: dict[int, _OfTrial] = {}
        self._is_watched = False

    def begin(self, trial_id: int) -> None:
        """Let a trial's reports wait from now on."""
        with self.lock:
            self._of.setdefault(trial_id, _OfTrial())

    def end(self, trial_id: int) -> None:
        """Let a trial's reports wait no more; those that do have been written."""
        with self.lock:
            self._of.pop(trial_id, None)

    def add(self, reports: Sequence[Report]) -> list[Report]:
        """Let reports wait, and write all that do if one has waited long enough.

        Returns:
            The reports of trials whose reports do not wait.

        Raises:
            Exception: What says that one of these trials takes no report any more.
        """
        with self.lock:
            others = [each for each in reports if each.trial_id not in self._of]
            kept = [each for each in reports if each.trial_id in self._of]
            for each in kept:
                self._of[each.trial_id].reports[each.step] = each.value
            now = time.monotonic()
            ids = {each.trial_id for each in kept}
            if any(now - self._of[trial_id].written_at > MAX_WAIT_SECONDS for trial_id in ids):
                self.flush(raise_for=ids)
            if kept and not self._is_watched:
                self._is_watched = True
                threading.Thread(
                    target=_watch, args=(weakref.ref(self),), name="hpolab-reports", daemon=True
                ).start()
            return others

    def _write_late(self) -> bool:
        """Write what has waited too long, as no report follows; return whether to look again."""
        with self.lock:
            late = time.monotonic() - MAX_WAIT_SECONDS
            ids = [i for i, each in self._of.items() if each.reports and each.written_at <= late]
            for trial_id in ids:
                # The worker's own next write meets the same trouble, and says so.
                with suppress(Exception):
                    self.flush(trial_id)
            self._is_watched = bool(self._of)
            return self._is_watched

    def of(self, trial_id: int) -> dict[int, float]:
        """Return the reports of a trial that wait."""
        each = self._of.get(trial_id)
        return {} if each is None else each.reports

    def note_written(self, trial_id: int) -> None:
        """Note that the reports of a trial that waited have been written."""
        if trial_id in self._of:
            self._of[trial_id] = _OfTrial()

    def flush(
        self, trial_id: int | None = None, *, raise_for: Collection[int] | None = None
    ) -> None:
        """Write the reports that wait.

        Args:
            trial_id: Whose reports; None for every trial's.
            raise_for: Raise only for these trials; None for all that are written.

        Raises:
            Exception: What says that a trial takes no report any more, once those of the others are
                written.
        """
        with self.lock:
            ids = list(self._of) if trial_id is None else [trial_id]
            waiting = {each: self.of(each) for each in ids if self.of(each)}
            if not waiting:
                return
            write = self._write()
            if write is None:  # the storage is gone, and with it who told these reports
                return
            refused = write(waiting)
            # Only now, so that a reader who comes meanwhile still finds them here.
            for each in waiting:
                self.note_written(each)
            for each, error in refused.items():
                del self._of[each]
                if raise_for is None or each in raise_for:
                    raise error

    def shown_in_all(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return trials, in the order of their ids, as `shown_in` does."""
        for trial_id, each in list(self._of.items()):
            place = bisect_left(trials, trial_id, key=_id_of) if each.reports else len(trials)
            if place < len(trials) and _id_of(trials[place]) == trial_id:
                trials[place] = self.shown_in(trials[place])
        return trials

    def shown_in(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial as a reader shall see it, with its reports that wait."""
        reports = self.of(trial._trial_id)
        if not reports or trial.state.is_finished():
            return trial
        shown = copy.copy(trial)
        shown.intermediate_values = {**trial.intermediate_values, **reports}
        return shown


class BuffersReports(BaseStorage):
    """A storage that can write a trial's reports together; in front of the storage that it extends.

    Such a storage keeps its `WaitingReports` as ``_waiting``, and shows what waits in each read of
    trials.
    """

    _waiting: WaitingReports

    def buffer_reports(self, trial_id: int) -> None:
        """Write a trial's reports together, until it changes its state.

        For a trial whose reports no other process needs at once. Reports then wait in memory, and
        are written in one step

        - before any other write about the trial, or with it, so that what is stored of a trial is
          always what was said of it first;
        - with the first report that comes more than a second after the last writing, and by a
          thread within two seconds if none comes;
        - by `flush_reports`, and before the object is pickled.

        Every read of trials through this object shows those that wait. A killed process loses the
        reports that wait, and nothing else. A checkpoint that resumes behind them has to be
        preceded by `flush_reports`.

        Args:
            trial_id: The storage's id of the trial, which is not its number.
        """
        self._waiting.begin(trial_id)

    def flush_reports(self, trial_id: int | None = None) -> None:
        """Write the reports that wait in memory.

        Args:
            trial_id: Whose reports; None for every trial's.

        Raises:
            UpdateFinishedTrialError: If another worker has finished the trial, as an unbuffered
                report would have found. (A journal leaves such reports out when it is replayed.)
            StorageUnavailable: If they cannot be written; they go on waiting.
        """
        self._waiting.flush(trial_id)

    def report_together(self, reports: Sequence[Report]) -> None:
        """Take reports of several trials; those that are written are written together.

        Raises:
            UpdateFinishedTrialError: As `flush_reports`, of one of these trials.
            StorageUnavailable: As `flush_reports`.
        """
        for each in self._waiting.add(reports):
            # mypy sees the abstract one; the storage that is extended comes before it.
            super().set_trial_intermediate_value(  # type: ignore[safe-super]
                each.trial_id, each.step, each.value
            )

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self.report_together([Report(trial_id, step, intermediate_value)])


def _watch(waiting: weakref.ref[WaitingReports]) -> None:
    while True:
        time.sleep(MAX_WAIT_SECONDS)
        found = waiting()
        if found is None or not found._write_late():
            return
        del found  # so that the storage may go while this sleeps


def _id_of(trial: FrozenTrial) -> int:
    return trial._trial_id


_all: weakref.WeakSet[WaitingReports] = weakref.WeakSet()


def _forget_in_child() -> None:
    """Leave the reports to the process that was forked, one of whose threads may hold the lock."""
    for each in list(_all):
        each._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
