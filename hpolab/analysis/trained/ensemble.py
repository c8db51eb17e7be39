"""fold_ensemble(): a configuration trained on folds, their predictions averaged, against one model.

A model of each fold sees less data than one of all rows, and errs in its own way; their average
errs less. Whether that is worth so many trainings is told by pairs: for each seed a single model of
all rows and an ensemble, both scored on the same test data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.analysis.statistics import CONFIDENCE, Estimate, differences, intervals, p_values
from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray
    from optuna import Study

    from hpolab.objectives.folds import Fold

__all__ = ["Ensemble", "average", "fold_ensemble", "load_ensemble"]

_ENSEMBLE_KEY = "hpolab:ensemble"


@dataclass(frozen=True)
class Ensemble:
    """What averaging over folds brings; ``str()`` of it is a table for the terminal.

    Attributes:
        params: The configuration.
        metric: What the scores are called.
        direction: "minimize" or "maximize".
        n_folds: Models of an ensemble.
        n_seeds: Ensembles, and single models.
        single: The mean score of one model of all rows, with its 95 % interval over seeds.
        member: The same of the folds' models by themselves, each seed's mean.
        ensemble: The same of the ensembles.
        lead: By how much the ensembles are better than the single models, seed by seed.
        p_value: Of the lead being zero.
    """

    params: Mapping[str, Any]
    metric: str
    direction: str
    n_folds: int
    n_seeds: int
    single: Estimate
    member: Estimate
    ensemble: Estimate
    lead: Estimate
    p_value: float

    @property
    def is_better(self) -> bool:
        """Whether ensembles are better than single models, beyond chance."""
        return self.p_value <= 1 - CONFIDENCE and self.lead.mean > 0

    @property
    def verdict(self) -> str:
        """What came of it, in words."""
        words = f"{abs(self.lead.mean):.4g} (95 % interval {self._ends}, p = {self.p_value:.2g})"
        of_folds = f"The average of {self.n_folds} folds' models"
        if self.is_better:
            return f"{of_folds} is better than one model of all rows by {words}."
        if self.p_value <= 1 - CONFIDENCE:
            return f"{of_folds} is worse than one model of all rows by {words}."
        by = "ahead" if self.lead.mean > 0 else "behind"
        return f"{of_folds} cannot be told from one model of all rows: it is {by} by {words}."

    @property
    def _ends(self) -> str:
        low, high = self.lead.low, self.lead.high
        low, high = (low, high) if self.lead.mean >= 0 else (-high, -low)
        return f"{low:.4g} to {high:.4g}"

    def __str__(self) -> str:
        rows = {
            "one model of all rows": self.single,
            f"a model of {self.n_folds - 1} in {self.n_folds} folds": self.member,
            f"average of {self.n_folds}": self.ensemble,
        }
        width = max(map(len, rows))
        lines = [
            f"{name:{width}}  {each.mean:.4f}  ({each.low:.4f} to {each.high:.4f})"
            for name, each in rows.items()
        ]
        head = f"{self.metric} on the test data ({self.direction}), {self.n_seeds} seeds"
        return "\n".join([head, *lines, self.verdict])


@checks_keywords()
def fold_ensemble(
    fit: Callable[[Mapping[str, Any], int, NDArray[np.int64]], Any],
    params: Mapping[str, Any],
    *,
    score: Callable[[Any], float],
    direction: str,
    n_rows: int | None = None,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    folds: Any = 5,
    combine: Callable[[Sequence[Any]], Any] | None = None,
    n_seeds: int = 5,
    seed: int = 0,
    metric: str = "score",
    study: Study | None = None,
) -> Ensemble:
    """Train a configuration on folds, average the predictions, and compare with single models.

    For each seed one model is fitted on all rows and one for each fold on the rows outside it.
    The intervals tell of the chance in training and in the folds' draw, not of that in which test
    data there are. What is fitted is asked for again when called again: let ``fit`` keep it, as
    `StagedObjective.artifact` does with a cache, and a call that was killed goes on where it was.

    Args:
        fit: (params, seed, rows) -> predictions for the test data, of a model fitted on these of
            the training rows: whatever ``combine`` and ``score`` take.
        params: The configuration.
        score: Predictions -> number.
        direction: "minimize" or "maximize": where the score gets better.
        n_rows: Training rows; left out where ``labels`` tell it.
        labels: (n_rows,) classes, to be spread evenly over the folds.
        groups: (n_rows,) groups, to be kept whole.
        folds: How many, drawn anew for each seed; a splitter of scikit-learn; or (train, valid)
            pairs of row indices.
        combine: List of predictions -> predictions; by default `average`.
        n_seeds: Seeds, 2 or above.
        seed: What they are derived from.
        metric: What to call the score.
        study: The study that the configuration is from, which remembers the result for its report.

    Raises:
        InvalidArgument: If a number is out of its range, the rows cannot be split so, or a fold is
            fitted on one class.
        InvalidType: If ``fit`` or ``score`` is no function, or predictions cannot be averaged.
        MissingExtra: If scikit-learn is not installed.

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
        ...     fit, {"n": 10}, score=error, direction="minimize", n_rows=80, n_seeds=30
        ... )
        >>> found.is_better
        True
    """
    for argument, function in {"fit": fit, "score": score}.items():
        if not callable(function):
            raise InvalidType(f"`{argument}` must be a function, got {type(function).__name__}.")
    sign = 1.0 if one_of("direction", direction, ("minimize", "maximize")) == "maximize" else -1.0
    check_count("n_seeds", n_seeds)
    if n_seeds < 2:
        raise InvalidArgument(f"`n_seeds` must be 2 or above, for an interval, got {n_seeds}.")
    rows = _Rows.of(n_rows, labels, groups)
    seeds = [derive_seed(seed, "ensemble", index) for index in range(n_seeds)]
    splits = [rows.split(folds, each) for each in seeds]
    scores = np.array(
        [
            _scores(fit, params, score, combine or average, split, each, rows.n)
            for split, each in zip(splits, seeds, strict=True)
        ]
    )
    single, member, ensemble = scores.T
    leads = sign * differences(ensemble, single)
    found = Ensemble(
        params=dict(params),
        metric=metric,
        direction=direction,
        n_folds=len(splits[0]),
        n_seeds=n_seeds,
        single=_estimate(single),
        member=_estimate(member),
        ensemble=_estimate(ensemble),
        lead=_estimate(leads),
        p_value=float(p_values(leads)),
    )
    if study is not None:
        study.set_user_attr(_ENSEMBLE_KEY, asdict(found))
    return found


def load_ensemble(study: Study) -> Ensemble | None:
    """Return what `fold_ensemble` has found for a study that it was given; None if nothing."""
    stored = study.user_attrs.get(_ENSEMBLE_KEY)
    if stored is None:
        return None
    estimates = {name: Estimate(**each) for name, each in stored.items() if _is_estimate(each)}
    return Ensemble(**{**stored, **estimates})


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
    """The training rows, and what a split of them heeds."""

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


def _scores(
    fit: Callable[..., Any],
    params: Mapping[str, Any],
    score: Callable[[Any], float],
    combine: Callable[[Sequence[Any]], Any],
    folds: Sequence[Fold],
    seed: int,
    n_rows: int,
) -> tuple[float, float, float]:
    """Return the scores of the single model, of the folds' models on average, of the ensemble."""
    single = float(score(fit(params, seed, np.arange(n_rows))))
    predictions = [
        fit(params, derive_seed(seed, "fold", place), fold.train)
        for place, fold in enumerate(folds)
    ]
    members = float(np.mean([score(each) for each in predictions]))
    return single, members, float(score(combine(predictions)))


def _estimate(sample: ArrayLike) -> Estimate:
    return Estimate(*map(float, intervals(sample)))


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"mean", "low", "high"}
