"""One trial's cross-validation: fits and scores, watched for divergence and non-convergence."""

from __future__ import annotations

import json
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from hpolab.sklearn.estimators import (
    are_finite,
    divergence_ends,
    predictions_of,
    take_columns,
    take_rows,
)
from hpolab.trial.packing import BytesState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpolab.objectives.folds import Fold
    from hpolab.sklearn.data import Rows
    from hpolab.sklearn.estimators import Scorer
    from hpolab.trial.reporter import Reporter

__all__ = ["CrossValidation", "SklearnTask", "last_step"]


@dataclass(frozen=True)
class SklearnTask:
    """What all trials of an objective share.

    Attributes:
        rows: The data.
        folds: Its splits.
        scorer: (model, inputs, targets) -> number.
        seed: Seeds what is drawn once for all trials.
        pairwise: Whether the inputs are the rows' kernel or distances, (n, n).
    """

    rows: Rows
    folds: tuple[Fold, ...]
    scorer: Scorer
    seed: int
    pairwise: bool = False

    def inputs(self, rows: np.ndarray, fitted: np.ndarray) -> Any:
        """Return the inputs of some rows, for a model fitted on others."""
        taken = take_rows(self.rows.inputs, rows)
        return take_columns(taken, fitted) if self.pairwise else taken

    def fit(self, model: Any, rows: np.ndarray) -> None:
        """Fit a model on some rows."""
        weights = {}
        if self.rows.sample_weight is not None:
            prefix, _ = last_step(model)
            weights[f"{prefix}sample_weight"] = take_rows(self.rows.sample_weight, rows)
        model.fit(self.inputs(rows, rows), take_rows(self.rows.targets, rows), **weights)

    def score(self, model: Any, fold: Fold) -> float:
        """Score a model that was fitted on one part of a fold on the other."""
        targets = take_rows(self.rows.targets, fold.valid)
        return float(self.scorer(model, self.inputs(fold.valid, fold.train), targets))

    def meets_gaps(self, model: Any, fold: Fold) -> bool:
        """Return whether what is not finite are the inputs, and not the model's predictions."""
        if not self.rows.has_gaps():
            return False
        try:
            predictions = predictions_of(model, self.inputs(fold.valid, fold.train))
        except ValueError:  # the inputs are what it cannot take
            return True
        return are_finite(predictions)


class CrossValidation:
    """A training with one set of parameters.

    Args:
        task: What all trials share.
        model: The estimator with its parameters and seeds; it is copied for every fit.
        reporter: The training's reporter.

    Attributes:
        n_unconverged: Fits that ended with a `ConvergenceWarning`.
    """

    def __init__(self, task: SklearnTask, model: Any, reporter: Reporter) -> None:
        self.task = task
        self.reporter = reporter
        self.n_unconverged = 0
        self._model = model
        self._n_recorded = 0

    def new_model(self) -> Any:
        """Return an unfitted copy of the model."""
        return clone(self._model)

    def fit(self, model: Any, rows: np.ndarray | None, where: str) -> None:
        """Fit ``model`` on some rows, on all for None."""
        with self.watch(where):
            self.task.fit(model, np.arange(len(self.task.rows)) if rows is None else rows)

    def score(self, model: Any, fold: Fold, where: str) -> float:
        """Score ``model``, which was fitted on a fold's one part, on the other."""

        def has_gaps() -> bool:
            return self.task.meets_gaps(model, fold)

        with divergence_ends(self.reporter, where, has_gaps=has_gaps):
            return self.task.score(model, fold)

    def report(self, value: float, step: int, *, state: Callable[[], bytes]) -> None:
        """Report to the trial, and how many fits did not converge."""
        self.record_unconverged()
        self.reporter.report(value, step, state=state)

    def record_unconverged(self) -> None:
        """Store how many fits did not converge, before a report: a pruned trial has no end."""
        if self.n_unconverged > self._n_recorded:
            self._n_recorded = self.n_unconverged
            self.reporter.record(n_unconverged=self.n_unconverged)

    def record(self, **metrics: float) -> None:
        """Store the metrics of a training that was not pruned."""
        if self.n_unconverged:
            metrics["n_unconverged"] = self.n_unconverged
        self.reporter.record(**metrics)

    def restore(self) -> list[Any]:
        """Return the scores of the trial's last checkpoint, none without one."""
        state = self.reporter.restore()
        if state is None:
            return []
        scores, self.n_unconverged = json.loads(state)
        return list(scores)

    def state_of(self, scores: list[Any]) -> Callable[[], bytes]:
        """Return what makes the state for `restore`."""
        # Plain numbers: a checkpoint is read by other processes, which would run a pickle.
        return BytesState(lambda: json.dumps([scores, self.n_unconverged]).encode())

    @contextmanager
    def watch(self, where: str) -> Iterator[None]:
        """End a fit that diverges as such; count one that does not converge, and say nothing."""
        has_gaps = self.task.rows.has_gaps
        with (
            _collector.collecting() as messages,
            divergence_ends(self.reporter, where, has_gaps=has_gaps),
        ):
            yield
        self.n_unconverged += bool(messages)


class _Collector:
    """Takes each thread's convergence warnings, and lets all others through.

    What warns is known by process: threads that each put a hook in place and take it out again
    would leave one behind. So the first in puts it in place, and the last out takes it out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._n_inside = 0

    @contextmanager
    def collecting(self) -> Iterator[list[Any]]:
        """Return the list that this thread's warnings are added to."""
        messages: list[Any] = []
        self._thread.messages = messages
        with self._lock:
            self._n_inside += 1
            if self._n_inside == 1:
                self._install()
        try:
            yield messages
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    self._before.__exit__(None, None, None)

    def _install(self) -> None:
        self._before = warnings.catch_warnings()
        self._before.__enter__()
        self._show = warnings.showwarning
        warnings.simplefilter("always", ConvergenceWarning)
        # Growing forests fear for fits on other rows than the first.
        warnings.filterwarnings("ignore", message="class_weight presets")
        warnings.showwarning = self._take

    def _take(self, message: Any, category: type[Warning], *rest: Any, **options: Any) -> None:
        if issubclass(category, ConvergenceWarning):
            # An estimator's own threads (`n_jobs`) collect nothing.
            getattr(self._thread, "messages", []).append(message)
        else:
            self._show(message, category, *rest, **options)


_collector = _Collector()


def last_step(estimator: Any) -> tuple[str, Any]:
    """Return the prefix of the parameters of what learns in the end, and it: a Pipeline's last."""
    prefix = ""
    while hasattr(estimator, "steps"):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator
