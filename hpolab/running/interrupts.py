"""Ctrl-C and its like, which stop a training but never a write to the storage half-way."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpolab.trial.soft_stop import ask_to_stop, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["LAST_SECONDS", "STOP_SECONDS", "Interrupts", "SoftSignals"]

# What a worker that is asked to stop leaves its trial for the epoch that it is in: a minute, less
# the time to write a checkpoint and to requeue the trial.
STOP_SECONDS = 45.0

# Behind these, seconds until a trial is requeued whose training does not answer to an interrupt.
LAST_SECONDS = 10.0

_AT_ONCE = ("SIGINT", "SIGTERM", "SIGHUP")
_SOFT = ("SIGTERM", "SIGUSR1")

_soft_signals: SoftSignals | None = None

# Who handles signals now, in this process.
_handled: list[Interrupts | SoftSignals] = []


class Interrupts:
    """Ctrl-C and its like stop an objective at once, but never a write to the storage half-way.

    A scheduler's notice before preemption is a SIGTERM; a closed terminal sends SIGHUP. Only the
    main thread may set handlers, and those of the user's own are left alone. Inside `SoftSignals`
    a notice stops softly instead: the training ends behind its next report.

    Attributes:
        pressed: The signal that came, None before.
        is_soft: Whether the training may go on to its next report.
    """

    def __init__(self) -> None:
        self.pressed: signal.Signals | None = None
        self.is_soft = False
        self._allowed = False
        self._sleeps = False
        self._replaced: dict[signal.Signals, Any] = {}
        self._soft: SoftSignals | None = None
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            ours = [signal.SIG_DFL, signal.default_int_handler]
            names: tuple[str, ...] = _AT_ONCE
            if _soft_signals is not None:
                ours.append(_soft_signals.handle)
                names = (*_AT_ONCE, *_SOFT)
            for number in _numbers(names):
                handler = signal.getsignal(number)
                if handler in ours:
                    self._replaced[number] = handler
                    signal.signal(number, self._handle)
            _handled.append(self)
            if _soft_signals is not None:
                self._soft = _soft_signals
                self._soft.attach(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if self in _handled:
            _handled.remove(self)
        if self._soft is not None:
            self._soft.attach(None)
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal raise `KeyboardInterrupt` inside, also one that has come just before."""
        self._allowed = True
        try:
            if self.pressed is not None and not self.is_soft:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake for a signal."""
        try:
            with self.allowed():
                self._sleeps = True
                if self.pressed is None:
                    time.sleep(seconds)
        except KeyboardInterrupt:
            self.pressed = self.pressed or signal.SIGINT
        finally:
            self._sleeps = False

    def stop_softly(self, notice: signal.Signals, reason: str, seconds: float) -> None:
        """Let the training end behind its next report; interrupt it if that takes too long.

        Args:
            notice: The signal that it counts as.
            reason: Why.
            seconds: How long it may take.
        """
        assert self._soft is not None
        if self.pressed is not None:
            return
        self.pressed, self.is_soft = notice, True
        self._soft.reason = reason
        ask_to_stop()
        self._start_timer(seconds, lambda: _raise_in_main_thread(notice))
        self._start_timer(seconds + LAST_SECONDS, self._requeue_at_last)

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _requeue_at_last(self) -> None:
        # Not where a trial's end is being stored: the storage's own patience ends that.
        if self._allowed and self._soft is not None and self._soft.at_last is not None:
            self._soft.at_last()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        number = signal.Signals(signum)
        if self._soft is not None and self.pressed is None and number.name in _SOFT:
            self.stop_softly(number, number.name, self._soft.stop_seconds)
            if self._sleeps:
                raise KeyboardInterrupt
            return
        again = self.pressed is not None and not self.is_soft
        self.pressed, self.is_soft = number, False
        if self._soft is not None and self._soft.reason is None:
            self._soft.reason = number.name
        if self._allowed or again:
            raise KeyboardInterrupt


class SoftSignals:
    """How a process that is a worker, and nothing else, takes a scheduler's notice.

    SIGTERM and SIGUSR1 let the training end behind its next report, which is followed by a
    checkpoint; the trial is requeued. A training without a report in ``stop_seconds`` is
    interrupted, as is any at a second signal. While no trial runs, either ends the program by a
    `KeyboardInterrupt`.

    Args:
        stop_seconds: How long a training may go on.
        at_last: Requeues the trials of a training that does not answer to an interrupt either, and
            ends the process.

    Attributes:
        reason: The signal that came, or what else has ended the worker; None before.
    """

    def __init__(self, stop_seconds: float, at_last: Callable[[], None] | None = None) -> None:
        self.stop_seconds = stop_seconds
        self.at_last = at_last
        self.reason: str | None = None
        self._replaced: dict[signal.Signals, Any] = {}
        self._running: Interrupts | None = None
        self._limit: threading.Timer | None = None

    def __enter__(self) -> Self:
        global _soft_signals
        for number in _numbers((*_AT_ONCE, *_SOFT)):
            self._replaced[number] = signal.getsignal(number)
            signal.signal(number, self.handle)
        _handled.append(self)
        _soft_signals = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _soft_signals
        _soft_signals = None
        _handled.remove(self)
        if self._limit is not None:
            self._limit.cancel()
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        withdraw()

    def stop_after(self, seconds: float, reason: str, stop_seconds: float) -> None:
        """Stop after a time as a signal would.

        Args:
            seconds: The time.
            reason: Why, for the messages.
            stop_seconds: How long a training may go on behind that.
        """

        def come() -> None:
            if self._running is not None:
                self._running.stop_softly(signal.SIGTERM, reason, stop_seconds)
            elif self.reason is None:
                self.reason = reason
                _raise_in_main_thread(signal.SIGTERM)

        # What a timer can wait for at most is 292 years; SLURM's "no limit" is more.
        self._limit = threading.Timer(min(max(0.0, seconds), threading.TIMEOUT_MAX), come)
        self._limit.daemon = True
        self._limit.start()

    def attach(self, running: Interrupts | None) -> None:
        """Let signals go to what runs trials now; None when it has ended."""
        self._running = running

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """End the program; no trial runs now."""
        self.reason = self.reason or signal.Signals(signum).name
        raise KeyboardInterrupt


def _numbers(names: tuple[str, ...]) -> list[signal.Signals]:
    """Return the signals of these names that the system has: Windows lacks SIGHUP and SIGUSR1."""
    found = (getattr(signal, name, None) for name in dict.fromkeys(names))
    return [number for number in found if number is not None]


class _Mask(threading.local):
    """The signals that a thread which forks has blocked before."""

    before: set[signal.Signals] | None = None


_mask = _Mask()


def _hold_back() -> None:
    """Hold signals back while a process is forked: Python drops those that the child gets then."""
    if _handled:
        numbers = _numbers((*_AT_ONCE, *_SOFT))
        _mask.before = set(map(signal.Signals, signal.pthread_sigmask(signal.SIG_BLOCK, numbers)))


def _let_through() -> None:
    if _mask.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)
        _mask.before = None


def _be_a_child() -> None:
    """Handle signals as a process does that a training has forked, such as by `multiprocessing`.

    SIGTERM is how its parent ends it. A notice that a scheduler gives to all processes of a job is
    for the parent to heed, who needs its children until the epoch is over.
    """
    global _soft_signals
    if _handled:
        _handled.clear()
        _soft_signals = None
        ours: dict[str, Any] = {"SIGINT": signal.default_int_handler, "SIGUSR1": signal.SIG_IGN}
        for number in _numbers((*_AT_ONCE, *_SOFT)):
            handler = signal.getsignal(number)
            if getattr(handler, "__module__", None) == __name__:
                signal.signal(number, ours.get(number.name, signal.SIG_DFL))
    _let_through()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_be_a_child)


def _raise_in_main_thread(number: signal.Signals) -> None:
    """Send this process a signal that wakes its main thread."""
    if hasattr(signal, "pthread_kill"):
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(number)
