"""fold_ensemble(): the average of models trained on folds, against one model of all rows.

A model of each fold sees less data than one of all rows and makes its own errors; their average
makes smaller ones. Whether that is worth so many trainings is tested in pairs: for each seed, a
single model of all rows and an ensemble are scored on the same test data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab import _optuna
from hpolab.analysis.effects import Effect
from hpolab.analysis.results import Result
from hpolab.analysis.statistics import Estimate, depends_on_seed, differences, intervals, p_values
from hpolab.analysis.trained.trainings import (
    ENSEMBLE,
    QueuedParams,
    Trained,
    TrainingQueue,
    check_n_seeds,
)
from hpolab.analysis.wording import compared, estimated, untested
from hpolab.errors import InvalidArgument, InvalidType, TooManyFailures, check_count
from hpolab.identity import captured_data
from hpolab.keywords import checks_keywords
from hpolab.running.run import RunOptions
from hpolab.seeding import derive_seed
from hpolab.storage.url import open_storage
from hpolab.studies.trials import as_direction, sign_of
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike, NDArray
    from optuna import Study

    from hpolab.analysis.trained.trainings import Key, Outcome
    from hpolab.objectives.folds import Fold

__all__ = ["Ensemble", "average", "fold_ensemble", "load_ensemble"]

_DATA_KEY = "hpolab:ensemble_data"
_ENSEMBLE_KEY = "hpolab:ensemble"
_RIVAL = "one model of all rows"


@dataclass(frozen=True, repr=False)
class Ensemble(Result):
    """What averaging over folds brings.

    Attributes:
        params: The configuration.
        metric: The name of the score.
        direction: "minimize" or "maximize".
        n_folds: The number of models in an ensemble.
        n_seeds: The number of ensembles, and of single models.
        single: The mean score of one model of all rows, with its 95 % interval over seeds.
        member: The mean score of the folds' models by themselves.
        ensemble: The mean score of the ensembles.
        improvement: By how much the ensembles are better than the single models, seed by seed.
    """

    params: Mapping[str, Any]
    metric: str
    direction: str
    n_folds: int
    n_seeds: int
    single: Estimate
    member: Estimate
    ensemble: Estimate
    improvement: Effect

    @property
    def is_better(self) -> bool:
        """Whether ensembles are significantly better than single models."""
        return self.improvement.is_better

    @property
    def verdict(self) -> str:
        """What was found, in words."""
        which = f"the average of {self.n_folds} folds' models"
        if self.improvement.p_value is None:
            return (
                "These trainings do not depend on their seed, so there is nothing to test. On "
                f"these test rows, {which} is {untested(self.improvement, _RIVAL)}."
            )
        words = compared(self.improvement, _RIVAL)
        return f"On these test rows, {which} {words}."

    def table(self) -> TextTable:
        """Return one row for each way to train."""
        rows = [
            [name, estimated(each), estimated(self.improvement) if each is self.ensemble else ""]
            for name, each in self._ways().items()
        ]
        head = ["", f"test {self.metric}", "improvement over one model"]
        return TextTable(head, rows, frozenset([2]))

    def _in_one_line(self) -> str:
        return self.verdict

    def _parts(self) -> list[str | TextTable]:
        head = f"{self.metric} on the test data ({self.direction}), {self.n_seeds} seeds"
        return [head, self.table(), self.verdict]

    def _records(self) -> Iterator[dict[str, Any]]:
        for name, each in self._ways().items():
            yield {"model": name, "mean": each.mean, "low": each.low, "high": each.high}

    def _ways(self) -> dict[str, Estimate]:
        return {
            "one model of all rows": self.single,
            f"a model of {self.n_folds - 1} in {self.n_folds} folds": self.member,
            f"average of {self.n_folds} folds": self.ensemble,
        }


@checks_keywords(RunOptions)
def fold_ensemble(
    fit: Callable[[Mapping[str, Any], int, NDArray[np.int64]], Any],
    params: Mapping[str, Any],
    *,
    metric: Callable[[Any], float],
    direction: str,
    n_rows: int | None = None,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    folds: Any = 5,
    combine: Callable[[Sequence[Any]], Any] | None = None,
    n_seeds: int = 5,
    study: Study | None = None,
    seed: int = 0,
    **run_options: Unpack[RunOptions],
) -> Ensemble:
    """Train a configuration on folds, average the predictions, and compare with single models.

    For each seed, one model is fitted on all rows and one for each fold on the rows outside it.
    The intervals show the chance in training and in the draw of the folds, not the chance in which
    test data there are.

    With a ``study``, finished seeds are kept in a study of their own beside it: called again after
    a crash, or with more seeds, only the others are trained. They are recognized by the code of
    the functions, params, folds and seed, and by the arrays, frames and tensors that the functions
    read; what the functions call is not looked at, so other data there need another ``seed``.

    Args:
        fit: (params, seed, rows) -> predictions for the test data of a model that was fitted on
            these training rows, in a form that ``combine`` and ``metric`` take.
        params: The configuration.
        metric: Predictions -> score. The score is called by the function's name.
        direction: "minimize" or "maximize": where the score gets better.
        n_rows: The number of training rows; not needed with ``labels``.
        labels: (n_rows,) classes, to be spread evenly over the folds.
        groups: (n_rows,) groups, each to be kept in one fold.
        folds: How many, drawn anew for each seed; a splitter of scikit-learn; or (train, valid)
            pairs of row indices.
        combine: List of predictions -> predictions; by default `average`.
        n_seeds: The number of seeds, 2 or above.
        study: The study that the configuration is from; its report shows the result.
        seed: All seeds are derived from it.
        **run_options: As in `run`. Several workers need a ``study`` that is not in memory.

    Raises:
        InvalidArgument: If a number is out of its range, the rows cannot be split so, a fold is
            fitted on one class, or the time was not enough.
        InvalidType: If ``fit`` or ``metric`` is not a function, or predictions cannot be averaged.
        MissingExtra: If scikit-learn is not installed.
        TooManyFailures: If a training failed; from its error.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> inputs, truth = rng.normal(size=(80, 1)), np.linspace(-1, 1, 50)
        >>> targets = inputs[:, 0] + rng.normal(size=80)
        >>> def fit(params, seed, rows):
        ...     drawn = np.random.default_rng(seed).choice(rows, params["n"])
        ...     slope = np.polyfit(inputs[drawn, 0], targets[drawn], 1)
        ...     return np.polyval(slope, truth)
        >>> def error(predictions):
        ...     return float(((predictions - truth) ** 2).mean())
        >>> found = fold_ensemble(
        ...     fit, {"n": 10}, metric=error, direction="minimize", n_rows=80, n_seeds=30
        ... )
        >>> found.is_better
        True
    """
    for argument, function in {"fit": fit, "metric": metric}.items():
        if not callable(function):
            raise InvalidType(f"`{argument}` must be a function, got {type(function).__name__}.")
    direction = as_direction("direction", direction)
    check_n_seeds(n_seeds)
    rows = _Rows.of(n_rows, labels, groups)
    seeds = [derive_seed(seed, "ensemble", index) for index in range(n_seeds)]
    splits = [rows.split(folds, each) for each in seeds]
    trainings = _FoldTrainings(fit, dict(params), metric, combine or average, rows, folds)
    queue_study = _queue_study(study)
    key = _key_of_data(queue_study, trainings, seeds[0])
    queue = TrainingQueue(
        study=queue_study,
        queued={key: QueuedParams({}, {})},
        train=trainings,
        seed_of=partial(derive_seed, seed, "ensemble"),
    )
    queue.run(partial(_due, key, n_seeds), **run_options)
    single, member, ensemble = _scores(queue.outcomes()[key], n_seeds)
    improvement = sign_of(direction) * differences(ensemble, single)
    found = Ensemble(
        params=dict(params),
        metric=getattr(metric, "__name__", "score").replace("<lambda>", "score"),
        direction=direction,
        n_folds=len(splits[0]),
        n_seeds=n_seeds,
        single=_estimate(single),
        member=_estimate(member),
        ensemble=_estimate(ensemble),
        improvement=Effect.tested(
            intervals(improvement),
            float(p_values(improvement)) if depends_on_seed(single, ensemble) else None,
        ),
    )
    if study is not None:
        study.set_user_attr(_ENSEMBLE_KEY, asdict(found))
    return found


@checks_keywords()
def load_ensemble(study: Study) -> Ensemble | None:
    """Return what `fold_ensemble` has found for a study that it was given; None if nothing."""
    stored = study.user_attrs.get(_ENSEMBLE_KEY)
    if stored is None:
        return None
    stored = dict(stored)
    if "lead" in stored:  # as version 0.1 has stored it
        lead, p = stored.pop("lead"), stored.pop("p_value")
        improvement = Effect.tested([lead["mean"], lead["low"], lead["high"]], p)
    else:
        improvement = Effect(**stored.pop("improvement"))
    for name in ("single", "member", "ensemble"):
        stored[name] = Estimate(**stored[name])
    return Ensemble(**stored, improvement=improvement)


@checks_keywords()
def average(predictions: Sequence[Any]) -> Any:
    """Return the mean of predictions of one form: arrays, or dicts and lists of arrays.

    Raises:
        InvalidType: If they are anything else.
        InvalidArgument: If their shapes, or their names, differ.

    Example:
        >>> average([{"test": np.array([0.0, 1.0])}, {"test": np.array([1.0, 1.0])}])
        {'test': array([0.5, 1. ])}
    """
    first = predictions[0]
    if isinstance(first, Mapping):
        if any(each.keys() != first.keys() for each in predictions):
            raise InvalidArgument("Predictions must have the same names to be averaged.")
        return {name: average([each[name] for each in predictions]) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(map(average, zip(*predictions, strict=True)))
    if not hasattr(first, "shape"):
        raise InvalidType(
            "Predictions must be arrays, or dicts or lists of these, to be averaged, got "
            f"{type(first).__name__}: give `combine`."
        )
    if any(each.shape != first.shape for each in predictions):
        raise InvalidArgument(
            "Predictions must have one shape to be averaged, got "
            f"{', '.join(str(tuple(each.shape)) for each in predictions)}."
        )
    return sum(predictions[1:], first) / len(predictions)


@dataclass(frozen=True)
class _Rows:
    """The training rows, and what a split of them respects."""

    n: int
    labels: NDArray[Any] | None
    groups: NDArray[Any] | None

    @classmethod
    def of(cls, n_rows: int | None, labels: ArrayLike | None, groups: ArrayLike | None) -> _Rows:
        if n_rows is None and labels is None:
            raise InvalidArgument("`n_rows` or `labels` must be given, got None for both.")
        known = None if labels is None else np.asarray(labels)
        if n_rows is None:
            assert known is not None
            n_rows = len(known)
        check_count("n_rows", n_rows)
        for argument, each in {"labels": labels, "groups": groups}.items():
            if each is not None and np.shape(each) != (n_rows,):
                raise InvalidArgument(
                    f"`{argument}` must have the shape ({n_rows},), got {np.shape(each)}."
                )
        return cls(n_rows, known, None if groups is None else np.asarray(groups))

    def split(self, folds: Any, seed: int) -> tuple[Fold, ...]:
        from hpolab.objectives.folds import make_folds  # it needs scikit-learn

        targets = np.zeros(self.n) if self.labels is None else self.labels
        made = make_folds(folds, targets, labels=self.labels, groups=self.groups, seed=seed)
        for place, fold in enumerate(made):
            classes = [] if self.labels is None else np.unique(self.labels[fold.train]).tolist()
            if len(classes) == 1:
                raise InvalidArgument(
                    "`folds` must be fitted on two classes or more, got fold "
                    f"{place} with {classes[0]!r} alone."
                )
        if len(made) < 2:
            raise InvalidArgument(f"`folds` must be two or more, to be averaged, got {len(made)}.")
        return made


@dataclass(frozen=True)
class _FoldTrainings:
    """Trains and scores, for one seed, a single model and the ensemble of the folds' models."""

    fit: Callable[..., Any]
    params: Mapping[str, Any]
    metric: Callable[[Any], float]
    combine: Callable[[Sequence[Any]], Any]
    rows: _Rows
    folds: Any

    def __call__(self, key: Key, seed: int) -> Trained:
        single = float(self.metric(self.fit(self.params, seed, np.arange(self.rows.n))))
        predictions = [
            self.fit(self.params, derive_seed(seed, "fold", place), fold.train)
            for place, fold in enumerate(self.rows.split(self.folds, seed))
        ]
        members = float(np.mean([self.metric(each) for each in predictions]))
        ensemble = float(self.metric(self.combine(predictions)))
        return Trained({"ensemble": ensemble, "single": single, "member": members})

    def key(self, seed: int) -> str:
        """Return what distinguishes these trainings from those of another ensemble."""
        folds = [np.asarray(fold.train).tolist() for fold in self.rows.split(self.folds, seed)]
        code = [_code_of(function) for function in (self.fit, self.metric, self.combine)]
        known = json.dumps([self.params, seed, folds, code], sort_keys=True, default=repr)
        return hashlib.sha256(known.encode()).hexdigest()[:16]


def _key_of_data(study: Study, trainings: _FoldTrainings, seed: int) -> str:
    """Return the key of trainings on the data that their functions read now.

    Trainings that an older version has stored are taken to be of these data.
    """
    functions = (trainings.fit, trainings.metric, trainings.combine)
    data = " ".join(map(captured_data, functions))
    key = trainings.key(seed)
    known = study.user_attrs.get(_DATA_KEY, {})
    if key not in known:
        study.set_user_attr(_DATA_KEY, {**known, key: data})
        return key
    if known[key] == data:
        return key
    return hashlib.sha256(f"{key} {data}".encode()).hexdigest()[:16]


def _code_of(function: Any) -> str:
    """Return a function's own code as text; the name of anything else that can be called."""
    code = getattr(function, "__code__", None)
    return type(function).__qualname__ if code is None else _text_of(code)


def _text_of(constant: Any) -> str:
    if isinstance(constant, CodeType):
        parts = [constant.co_code.hex(), *constant.co_names, *map(_text_of, constant.co_consts)]
        return " ".join(parts)
    if isinstance(constant, frozenset):  # in another order in each process
        return " ".join(sorted(map(repr, constant)))
    return repr(constant)


def _queue_study(study: Study | None) -> Study:
    """Return the study that holds the trainings: beside the given one, or in memory."""
    if study is None:
        name, storage = f"folds{ENSEMBLE}", open_storage("memory://")
    else:
        name, storage = f"{study.study_name}{ENSEMBLE}", _optuna.storage_of(study)
    # It may hold ensembles of several metrics and seeds, so it has no direction and seed to speak
    # of.
    return TrainingQueue.make_study(name, storage=storage, direction="minimize", seed=0)


def _due(key: Key, n_seeds: int, outcomes: Mapping[Key, Outcome]) -> list[tuple[Key, int]]:
    return [(key, index) for index in range(n_seeds) if not outcomes[key].is_known(index)]


def _scores(outcome: Outcome, n_seeds: int) -> list[list[float]]:
    """Return the scores of single models, of the folds' models and of ensembles, seed by seed."""
    lost = {index: reason for index, reason in outcome.lost.items() if index < n_seeds}
    if lost:
        raise TooManyFailures(
            f"Trainings of {len(lost)} of {n_seeds} seeds failed: {next(iter(lost.values()))}. "
            "Call `fold_ensemble` again to try them once more."
        )
    if outcome.n < n_seeds:
        raise InvalidArgument(
            f"`timeout_seconds` must be enough for {n_seeds} seeds, {outcome.n} were trained: call "
            "`fold_ensemble` again to resume it."
        )
    return [
        [outcome.metrics[index][name] for index in range(n_seeds)]
        for name in ("single", "member", "ensemble")
    ]


def _estimate(sample: ArrayLike) -> Estimate:
    return Estimate(*map(float, intervals(sample)))
