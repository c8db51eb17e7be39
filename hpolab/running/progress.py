"""The progress bar of a run: trials done, best so far, pruned, time left."""

from __future__ import annotations

import html
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, final

from hpolab.studies.digests import best_so_far
from hpolab.studies.history import history_of
from hpolab.studies.metric_names import UNNAMED, metric_names
from hpolab.tables import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study

__all__ = ["is_bar_shown", "progress_bar", "study_progress"]

# How often a notebook's bar moves at most: each move is a message to the browser.
_SECONDS_BETWEEN_MOVES = 0.25


def is_bar_shown(visible: bool | None) -> bool:
    """Tell whether there is a bar: None has one in a terminal and in a notebook, and nowhere else.

    Args:
        visible: What the caller was asked for.
    """
    return (sys.stderr.isatty() or _in_notebook()) if visible is None else visible


@contextmanager
def progress_bar(
    name: str, total: int | None, visible: bool | None
) -> Iterator[Callable[[int, str], None] | None]:
    """Show a progress bar, on standard error or as the output of a notebook's cell.

    Args:
        name: What stands before the bar.
        total: Where it ends; None shows the count without an end.
        visible: As in `is_bar_shown`.

    Yields:
        A function that moves the bar to a number and shows some words behind it, or None if there
        is no bar.
    """
    if not is_bar_shown(visible):
        yield None
    elif _in_notebook():
        bar = _NotebookBar(printable(name), total)
        try:
            yield bar.move
        finally:
            bar.show()
    else:
        with _terminal_bar(printable(name), total) as move:
            yield move


@contextmanager
def _terminal_bar(name: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    # rich takes 50 ms to import; nobody waits for it who sees no bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        # The study's name is the user's, whatever it is made of.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, emoji=False),
    ) as bar:
        task = bar.add_task(name, total=total, words="")
        yield lambda done, words: bar.update(task, completed=done, words=words)


def _in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook, whose cells show HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@final
class _NotebookBar:
    """One output of a cell that is replaced as the run goes on; its last state stays.

    Args:
        name: What stands before the bar.
        total: Where it ends; None for a count without an end.
    """

    def __init__(self, name: str, total: int | None) -> None:
        import IPython.display

        display: Any = IPython.display.display
        self._name = name
        self._total = total
        self._done = 0
        self._words = ""
        self._started = time.monotonic()
        self._first: int | None = None
        self._handle = display(self, display_id=True)
        self._shown_at = self._started

    def move(self, done: int, words: str) -> None:
        """Move the bar, and show that unless it has been moved a moment ago."""
        is_first = self._first is None  # what a study that goes on has done before
        if self._first is None:
            self._first = done
        self._done, self._words = done, words
        if is_first or time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_MOVES:
            self.show()

    def show(self) -> None:
        """Show the bar as it is."""
        self._shown_at = time.monotonic()
        self._handle.update(self)

    def __repr__(self) -> str:
        """Show it as text, for a front end without HTML."""
        return f"{self._name}: {self._said()}"

    def _repr_html_(self) -> str:
        bar = ""
        if self._total is not None:
            bar = f'<progress value="{self._done}" max="{self._total}"></progress> '
        return f"<div>{html.escape(self._name)} {bar}{html.escape(self._said())}</div>"

    def _said(self) -> str:
        count = f"{self._done}/{'?' if self._total is None else self._total}"
        return " · ".join(part for part in (count, self._words, self._time()) if part)

    def _time(self) -> str:
        elapsed = time.monotonic() - self._started
        n_done = self._done - (self._done if self._first is None else self._first)
        left = 0 if self._total is None else self._total - self._done
        said = _as_clock(elapsed)
        if not n_done or not left:
            return said
        return f"{said} (about {_as_clock(elapsed / n_done * left)} left)"


def _as_clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def study_progress(
    study: Study, n_trials: int | None, visible: bool | None
) -> Iterator[Callable[[], None]]:
    """Show a study's progress, trials of all workers included.

    Args:
        study: The study.
        n_trials: Its budget; None shows the count without an end.
        visible: As in `is_bar_shown`.

    Yields:
        A function that reads the study and moves the bar; it does nothing if there is no bar.
    """
    with progress_bar(study.study_name, n_trials, visible) as move:

        def update() -> None:
            if move is not None:
                move(*_progress_of(study, name))

        name = "" if move is None else metric_names(study)[0]
        update()
        yield update


def _progress_of(study: Study, metric: str) -> tuple[int, str]:
    """Return how many trials are done, and the rest in words."""
    n = history_of(study).tally
    words = []
    if len(study.directions) == 1:
        best = best_so_far(study)
        if best is not None:
            of = "" if metric == UNNAMED else f"{metric} "
            words.append(f"best {of}{best.value:.5g} (trial {best.number})")
    words.append(f"{n.pruned} pruned")
    if n.failed:
        words.append(f"{n.failed} failed")
    return n.finished, " · ".join(words)
