"""The progress bar of a run: trials done, best so far, pruned, time left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hpolab.studies.trials import best_of, tally

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from optuna import Study

__all__ = ["ProgressBar"]


class ProgressBar:
    """Shows a study's progress on standard error, trials of all workers included.

    Args:
        study: The study.
        n_trials: Its budget; None shows the count without a bar.
        visible: Whether to show anything; None shows it where standard error is a terminal.
    """

    def __init__(self, study: Study, n_trials: int | None, visible: bool | None) -> None:
        self._study = study
        self._n_trials = n_trials
        self._visible = sys.stderr.isatty() if visible is None else visible
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._visible:
            # rich takes 50 ms to import; nobody waits for it who sees no bar.
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._study.study_name, total=self._n_trials, counts="")
            self._bar.start()
            self.update()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self) -> None:
        """Read the study and redraw."""
        if self._bar is None:
            return
        trials = self._study.get_trials(deepcopy=False)
        n = tally(trials)
        parts = []
        if len(self._study.directions) == 1:
            best = best_of(trials, self._study.direction)
            if best is not None:
                parts.append(f"best {best.value:.5g} (trial {best.number})")
        parts.append(f"{n.pruned} pruned")
        if n.failed:
            parts.append(f"{n.failed} failed")
        self._bar.update(self._task, completed=n.finished, counts=" · ".join(parts))
