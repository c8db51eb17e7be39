"""The progress bar of a run: trials done, best so far, pruned, time left."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpolab.studies.digests import best_so_far
from hpolab.studies.history import history_of
from hpolab.tables import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study

__all__ = ["progress_bar", "study_progress"]


@contextmanager
def progress_bar(
    name: str, total: int | None, visible: bool | None
) -> Iterator[Callable[[int, str], None] | None]:
    """Show a progress bar on standard error.

    Args:
        name: What stands before the bar.
        total: Where it ends; None shows the count without an end.
        visible: Whether to show it; None shows it where standard error is a terminal.

    Yields:
        A function that moves the bar to a number and shows some words behind it, or None if there
        is no bar.
    """
    if not (sys.stderr.isatty() if visible is None else visible):
        yield None
        return
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
        task = bar.add_task(printable(name), total=total, words="")
        yield lambda done, words: bar.update(task, completed=done, words=words)


@contextmanager
def study_progress(
    study: Study, n_trials: int | None, visible: bool | None
) -> Iterator[Callable[[], None]]:
    """Show a study's progress, trials of all workers included.

    Args:
        study: The study.
        n_trials: Its budget; None shows the count without an end.
        visible: As in `progress_bar`.

    Yields:
        A function that reads the study and moves the bar; it does nothing if there is no bar.
    """
    with progress_bar(study.study_name, n_trials, visible) as move:

        def update() -> None:
            if move is not None:
                move(*_progress_of(study))

        update()
        yield update


def _progress_of(study: Study) -> tuple[int, str]:
    """Return how many trials are done, and the rest in words."""
    n = history_of(study).tally
    words = []
    if len(study.directions) == 1:
        best = best_so_far(study)
        if best is not None:
            words.append(f"best {best.value:.5g} (trial {best.number})")
    words.append(f"{n.pruned} pruned")
    if n.failed:
        words.append(f"{n.failed} failed")
    return n.finished, " · ".join(words)
