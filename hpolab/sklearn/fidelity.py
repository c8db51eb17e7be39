"""What a report of a cross-validated trial is: a fold, an epoch, some trees, a part of the rows.

Folds are evaluated in one order by every trial, so that a pruner compares like with like and a
trial that is taken up again goes on where it was. The folds are drawn at random, none is special.
"""

from __future__ import annotations

import abc
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpolab.errors import InvalidArgument
from hpolab.objectives.epochs import train_steps
from hpolab.seeding import derive_seed
from hpolab.sklearn.data import nested_rows
from hpolab.sklearn.estimators import fit_epoch, take_rows
from hpolab.sklearn.training import last_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpolab.sklearn.training import CrossValidation, SklearnTask

__all__ = ["FIDELITIES", "Epochs", "Fidelity", "Folds", "RowParts", "Trees", "grown_argument"]

FIDELITIES = ("epochs", "fold_means", "folds", "rows", "trees")
"""What a report may be."""


@dataclass(frozen=True)
class Fidelity(abc.ABC):
    """How a trial is cut into reports.

    Attributes:
        max_steps: Reports of a full training; for "rows" its last step, what a trial may spend.
    """

    max_steps: int

    @abc.abstractmethod
    def check(self, task: SklearnTask, model: Any) -> None:
        """Refuse an estimator with its default parameters that cannot be trained so.

        Raises:
            InvalidArgument: If it cannot.
        """

    def n_fitted(self, task: SklearnTask) -> int:
        """Return the number of rows of the smallest part that is fitted."""
        return min(len(fold.train) for fold in task.folds)

    @abc.abstractmethod
    def train(self, training: CrossValidation) -> float:
        """Cross-validate, report each step, and return the trial's value."""

    def fit(self, training: CrossValidation) -> Any:
        """Return the model fitted on all rows."""
        model = training.new_model()
        training.fit(model, None, "on all rows")
        return model


@dataclass(frozen=True)
class Folds(Fidelity):
    """Each fold is a report: its own score, or the mean of those so far.

    Attributes:
        mean: Whether the mean is reported.
    """

    mean: bool

    def check(self, task: SklearnTask, model: Any) -> None:
        """Every estimator can."""

    def train(self, training: CrossValidation) -> float:
        scores = training.restore()
        for step in training.reporter.steps(self.max_steps):
            fold, where = training.task.folds[step], f"at step {step}"
            model = training.new_model()
            training.fit(model, fold.train, where)
            scores.append(training.score(model, fold, where))
            reported = _mean(scores) if self.mean else scores[-1]
            training.report(reported, step, state=training.state_of(scores))
        training.record(fold_std=float(np.std(scores)), n_folds=len(scores))
        return _mean(scores)


@dataclass(frozen=True)
class RowParts(Fidelity):
    """Each report is the mean score of models fitted on a larger part of the rows.

    Attributes:
        fractions: The parts, growing, the last 1.
        steps: How many times the smallest part each is: 1, 3, 9 for a ninth, a third, the whole.
    """

    fractions: tuple[float, ...]
    steps: tuple[int, ...]

    def check(self, task: SklearnTask, model: Any) -> None:
        for i in range(len(task.folds)):
            self._parts(task, i)

    def train(self, training: CrossValidation) -> float:
        task, reporter = training.task, training.reporter
        scores = training.restore()
        parts = [self._parts(task, i) for i in range(len(task.folds))]
        for rung, step in list(enumerate(self.steps))[len(scores) :]:
            if reporter.should_stop:
                break
            where = f"at step {step}"
            scores.append([])
            for fold, parts_of_fold in zip(task.folds, parts, strict=True):
                model = training.new_model()
                training.fit(model, parts_of_fold[rung], where)
                fitted = fold._replace(train=parts_of_fold[rung])
                scores[-1].append(training.score(model, fitted, where))
            training.report(_mean(scores[-1]), step, state=training.state_of(scores))
        fraction = self.fractions[len(scores) - 1]
        training.record(fold_std=float(np.std(scores[-1])), fraction=fraction)
        return _mean(scores[-1])

    def n_fitted(self, task: SklearnTask) -> int:
        return max(1, round(self.fractions[0] * super().n_fitted(task)))

    def _parts(self, task: SklearnTask, i: int) -> list[np.ndarray]:
        seed = derive_seed(task.seed, "rows", i)
        return nested_rows(task.folds[i], self.fractions, task.rows.labels, seed)


@dataclass(frozen=True)
class Epochs(Fidelity):
    """Each report is the mean score of all folds' models after one more epoch of `partial_fit`.

    Attributes:
        batch_size: Rows given to one call of ``partial_fit``; None gives it all of them.
    """

    batch_size: int | None

    def check(self, task: SklearnTask, model: Any) -> None:
        _, learner = last_step(model)
        if not hasattr(learner, "partial_fit"):
            raise InvalidArgument(
                "`fidelity` must not be 'epochs' for an estimator without `partial_fit`, got "
                f"{type(learner).__name__}."
            )
        if task.pairwise:
            raise InvalidArgument(
                "`fidelity` must not be 'epochs' for an estimator whose inputs are a kernel or "
                f"distances, got {type(learner).__name__}."
            )
        taken = inspect.signature(learner.partial_fit).parameters
        if "classes" in taken and np.ndim(task.rows.targets) > 1:
            raise InvalidArgument(
                "`train` targets must be one column for a classifier under fidelity='epochs', got "
                f"shape {np.shape(task.rows.targets)}."
            )
        if task.rows.sample_weight is not None and "sample_weight" not in taken:
            raise InvalidArgument(
                "`sample_weight` must be None for an estimator whose `partial_fit` takes none, "
                f"got one for {type(learner).__name__}."
            )

    def train(self, training: CrossValidation) -> float:
        learners = [
            _Learner(training, fold.train, derive_seed(training.reporter.seed, "order", i))
            for i, fold in enumerate(training.task.folds)
        ]

        def advance(step: int) -> list[Any]:
            for learner in learners:
                learner.advance(self.batch_size, f"at step {step}")
            return [learner.model for learner in learners]

        best = _advance_together(training, self.max_steps, advance)
        training.record(fold_std=best.fold_std, n_epochs=best.step + 1)
        return best.value

    def fit(self, training: CrossValidation) -> Any:
        self.train(training)
        assert training.reporter.best_step is not None
        everything = np.arange(len(training.task.rows))
        learner = _Learner(training, everything, derive_seed(training.reporter.seed, "order"))
        for epoch in range(training.reporter.best_step + 1):
            learner.advance(self.batch_size, f"on all rows in epoch {epoch}")
        return learner.model


@dataclass(frozen=True)
class Trees(Fidelity):
    """Each report is the mean score of all folds' models with some more trees."""

    def check(self, task: SklearnTask, model: Any) -> None:
        _, learner = last_step(model)
        grown = grown_argument(learner)
        if grown is None:
            raise InvalidArgument(
                "`fidelity` must not be 'trees' for an estimator that cannot add trees to those it "
                f"has (`warm_start` and `n_estimators`), got {type(learner).__name__}."
            )
        for argument in ("early_stopping", "n_iter_no_change"):
            if argument == "n_iter_no_change" and hasattr(learner, "early_stopping"):
                continue  # read only where `early_stopping` is on
            value = getattr(learner, argument, None)
            if value not in (None, False, "auto"):
                raise InvalidArgument(
                    f"`estimator` must not stop early itself under fidelity='trees', got "
                    f"{argument}={value!r}: take the objective's `patience`."
                )
        n_trees = getattr(learner, grown)
        if n_trees < self.max_steps:
            raise InvalidArgument(
                f"`max_steps` must be at most the {n_trees} trees of `estimator` under "
                f"fidelity='trees', got {self.max_steps}."
            )

    def train(self, training: CrossValidation) -> float:
        models = [training.new_model() for _ in training.task.folds]
        counts = self._counts(models[0])

        def advance(step: int) -> list[Any]:
            for model, fold in zip(models, training.task.folds, strict=True):
                _set_trees(model, counts[step], warm_start=True)
                training.fit(model, fold.train, f"at step {step}")
            return models

        best = _advance_together(training, self.max_steps, advance)
        training.record(fold_std=best.fold_std, n_trees=counts[best.step])
        return best.value

    def fit(self, training: CrossValidation) -> Any:
        self.train(training)
        assert training.reporter.best_step is not None
        model = training.new_model()
        _set_trees(model, self._counts(model)[training.reporter.best_step])
        training.fit(model, None, "on all rows")
        return model

    def _counts(self, model: Any) -> list[int]:
        _, learner = last_step(model)
        n_trees = getattr(learner, grown_argument(learner) or "")
        return [math.ceil(n_trees * (step + 1) / self.max_steps) for step in range(self.max_steps)]


def grown_argument(learner: Any) -> str | None:
    """Return the argument that holds the number of trees, if more can be added to a fit."""
    arguments = learner.get_params(deep=False)
    if "warm_start" not in arguments:
        return None
    if "n_estimators" in arguments:
        return "n_estimators"
    # Elsewhere `max_iter` counts the steps of a solver, which starts over.
    return "max_iter" if type(learner).__name__.startswith("HistGradientBoosting") else None


def _set_trees(model: Any, n_trees: int, *, warm_start: bool | None = None) -> None:
    _, learner = last_step(model)
    arguments: dict[str, Any] = {grown_argument(learner) or "": n_trees}
    if warm_start is not None:
        arguments["warm_start"] = warm_start
    if getattr(learner, "early_stopping", None) == "auto":
        arguments["early_stopping"] = False  # patience stops the folds together
    learner.set_params(**arguments)


class _Learner:
    """A model trained by epochs; the transformers of a Pipeline are fitted once, before them."""

    def __init__(self, training: CrossValidation, rows: np.ndarray, seed: int) -> None:
        self.model = training.new_model()
        self._training = training
        self._order = np.random.default_rng(seed)
        data = training.task.rows
        self._data, self._rows = (data.inputs, data.targets), rows
        self._weights = data.sample_weight
        if hasattr(self.model, "steps"):
            inputs, targets = data.take(rows)
            with training.watch("before its first epoch"):
                inputs = _fit_transformers(self.model, inputs, targets)
            self._data, self._rows = (inputs, targets), np.arange(len(rows))
            if self._weights is not None:
                self._weights = take_rows(self._weights, rows)
        _, self._learner = last_step(self.model)
        self._options: dict[str, Any] = {}
        if "classes" in inspect.signature(self._learner.partial_fit).parameters:
            self._options["classes"] = np.unique(np.asarray(data.targets))

    def advance(self, batch_size: int | None, where: str) -> None:
        """Go through the rows once, in a new order."""
        with self._training.watch(where):
            fit_epoch(
                self._learner,
                self._data,
                self._order.permutation(self._rows),
                batch_size=batch_size,
                options=self._options,
                sample_weight=self._weights,
            )


def _fit_transformers(pipeline: Any, inputs: Any, targets: Any) -> Any:
    """Fit all but what learns in the end, and return what that gets."""
    while hasattr(pipeline, "steps"):
        head = pipeline[:-1]
        if len(head):
            inputs = head.fit_transform(inputs, targets)
            pipeline.steps[:-1] = head.steps  # with a `memory` the head has fitted copies
        pipeline = pipeline.steps[-1][1]
    return inputs


class _Best(NamedTuple):
    value: float
    fold_std: float
    step: int


def _advance_together(
    training: CrossValidation, n_steps: int, advance: Callable[[int], list[Any]]
) -> _Best:
    """Advance all folds' models step by step, and return the best step."""
    scores: list[float] = []

    def score(step: int) -> float:
        folds = zip(advance(step), training.task.folds, strict=True)
        scores[:] = [training.score(model, fold, f"at step {step}") for model, fold in folds]
        training.record_unconverged()
        return _mean(scores)

    def keep(step: int) -> _Best:
        return _Best(_mean(scores), float(np.std(scores)), step)

    best = train_steps(training.reporter, n_steps, score, keep)
    assert best is not None
    return best


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores))
