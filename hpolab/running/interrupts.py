"""Ctrl-C and its like, which stop a training but never a write to the storage half-way."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Interrupts"]


class Interrupts:
    """Ctrl-C and its like stop an objective at once, but never a write to the storage half-way.

    A scheduler's notice before preemption is a SIGTERM; a closed terminal sends SIGHUP. Only the
    main thread may set handlers, and those of the user's own are left alone.

    Attributes:
        pressed: The signal that came, None before.
    """

    def __init__(self) -> None:
        self.pressed: signal.Signals | None = None
        self._allowed = False
        self._replaced: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is None:
                    continue
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._replaced[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal raise `KeyboardInterrupt` inside, also one that has come just before."""
        self._allowed = True
        try:
            if self.pressed is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake for a signal."""
        try:
            with self.allowed():
                time.sleep(seconds)
        except KeyboardInterrupt:
            self.pressed = self.pressed or signal.SIGINT

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again = self.pressed is not None
        self.pressed = signal.Signals(signum)
        if self._allowed or again:
            raise KeyboardInterrupt
