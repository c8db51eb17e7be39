"""A worker's request to its trainings: stop behind the next report, with a checkpoint.

It is of the process, as the signal is that asks for it. `Reporter.report` honors it for the trials
that `run` has claimed; whatever does not report is interrupted later.
"""

from __future__ import annotations

__all__ = [
    "StopsBehindReport",
    "ask_to_stop",
    "is_asked_to_stop",
    "is_saved",
    "note_saved",
    "withdraw",
]


class StopsBehindReport(BaseException):
    """Ends a training whose report and checkpoint are stored; its trial is requeued.

    No ``Exception``, so that no trainer takes it for a failure, and no ``KeyboardInterrupt``, which
    some trainers answer by ending the process.
    """


_is_asked = False
_is_saved = False


def ask_to_stop() -> None:
    """Ask the trainings of this process to stop."""
    global _is_asked
    _is_asked = True


def is_asked_to_stop() -> bool:
    """Tell whether the trainings of this process shall stop."""
    return _is_asked


def note_saved() -> None:
    """Note that trainings that report together have saved their checkpoints since they were asked.

    They are stopped by whoever advances them, not by an exception.
    """
    global _is_saved
    _is_saved = True


def is_saved() -> bool:
    """Tell whether `note_saved` was called."""
    return _is_saved


def withdraw() -> None:
    """Let trainings go on: those of the process's next worker, if it has another."""
    global _is_asked, _is_saved
    _is_asked = _is_saved = False
