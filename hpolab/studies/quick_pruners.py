"""Optuna's pruners as they are, but for the trials that they read to decide.

Optuna's read all trials at each report. These decide the same, to the last bit, from digests of
the finished trials that take in each of them once, and from the trials that run now.
"""

from __future__ import annotations

import copy
import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.studies.digests import Digest, Past
from hpolab.studies.trials import is_feasible, sign_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "Ladder",
    "QuickHalvingPruner",
    "QuickHyperbandPruner",
    "QuickMedianPruner",
    "QuickPercentilePruner",
    "QuickWilcoxonPruner",
    "halve",
    "quick",
]


class _StepValues(Digest):
    """What complete trials have reported at each step.

    Attributes:
        n_trials: How many are complete.
    """

    def __init__(self) -> None:
        self.n_trials = 0
        self._values: dict[int, array[float]] = defaultdict(_doubles)
        self._n_reports: Counter[int] = Counter()

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        new: dict[int, list[float]] = defaultdict(list)
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                self.n_trials += 1
                for step, value in trial.intermediate_values.items():
                    new[step].append(value)
        for step, values in new.items():
            self._n_reports[step] += len(values)
            self._values[step] = _merged(self._values[step], values)

    def at(self, step: int, late: Iterable[FrozenTrial]) -> tuple[Sequence[float], int]:
        """Return the values at a step in order, without NaN; and how many reports there are."""
        values, n_reports = self._values[step], self._n_reports[step]
        more = [trial.intermediate_values[step] for trial in late if _has(trial, step)]
        if more:
            values = _merged(array("d", values), more)
        return values, n_reports + len(more)


def _doubles() -> array[float]:
    return array("d")


def _has(trial: FrozenTrial, step: int) -> bool:
    return trial.state == TrialState.COMPLETE and step in trial.intermediate_values


def _merged(ordered: array[float], values: Sequence[float]) -> array[float]:
    """Put values, but for NaN, where they belong."""
    numbers = [value for value in values if not math.isnan(value)]
    # One insertion moves half of what is there.
    if len(numbers) > 100:
        return array("d", np.sort(np.concatenate([np.asarray(ordered), numbers])))
    for number in numbers:
        insort(ordered, number)
    return ordered


class QuickPercentilePruner(PercentilePruner):
    """Optuna's ``PercentilePruner``, which does not read all trials at each report."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See Optuna's ``PercentilePruner``."""
        step = trial.last_step
        if step is None or step < self._n_warmup_steps or not self._is_due(trial, step):
            return False
        with Past(study).digested(_StepValues, _StepValues) as (found, late):
            n_trials = found.n_trials + sum(t.state == TrialState.COMPLETE for t in late)
            ordered, n_reports = found.at(step, late)
            if n_trials == 0 or n_trials < self._n_startup_trials:
                return False
            reports = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
            if not reports:
                return True
            if n_reports < self._n_min_trials or not ordered:
                return False
            is_max = study.direction == StudyDirection.MAXIMIZE
            bound = percentile(ordered, 100 - self._percentile if is_max else self._percentile)
        return max(reports) < bound if is_max else min(reports) > bound

    def _is_due(self, trial: FrozenTrial, step: int) -> bool:
        """Tell whether no report came since the last multiple of the interval."""
        n_warmup, interval = self._n_warmup_steps, self._interval_steps
        since = (step - n_warmup) // interval * interval + n_warmup
        return all(other < since for other in trial.intermediate_values if other != step)


class QuickMedianPruner(QuickPercentilePruner, MedianPruner):
    """Optuna's ``MedianPruner``, which does not read all trials at each report."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return what ``numpy.percentile`` does of values in order, to the last bit.

    Example:
        >>> percentile([1.0, 2.0, 4.0], 75)
        3.0
    """
    place = (len(ordered) - 1) * (percent / 100)
    below = math.floor(place)
    pair = [ordered[below], ordered[min(below + 1, len(ordered) - 1)]]
    return float(np.quantile(pair, place - below))


class _Rungs(Digest):
    """The values with which finished trials have completed each rung, by bracket."""

    def __init__(self, bracket_of: Callable[[FrozenTrial], int]) -> None:
        self._bracket_of = bracket_of
        self.values: dict[tuple[int, str], array[float]] = defaultdict(_doubles)

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        new: dict[tuple[int, str], list[float]] = defaultdict(list)
        for trial in trials:
            for key, value in trial.system_attrs.items():
                if key.startswith(_RUNG):
                    new[self._bracket_of(trial), key].append(value)
        for place, values in new.items():
            self.values[place] = _merged(self.values[place], values)


_RUNG = "completed_rung_"


class Ladder(Protocol):
    """The rungs of successive halving; 0 is the first."""

    def place(self, rung: int) -> int:
        """Return what a trial has spent when it reaches a rung."""

    def n_kept(self, rung: int, n: int) -> int:
        """Return how many of the ``n`` that have reached a rung go on."""


@dataclass(frozen=True)
class _LadderOf:
    """The rungs of Optuna's pruner, whose first one must be known."""

    pruner: SuccessiveHalvingPruner

    def place(self, rung: int) -> int:
        pruner = self.pruner
        assert pruner._min_resource is not None
        exponent = pruner._min_early_stopping_rate + rung
        return int(pruner._min_resource * pruner._reduction_factor**exponent)

    def n_kept(self, rung: int, n: int) -> int:
        pruner = self.pruner
        return 0 if n <= pruner._bootstrap_count else max(n // pruner._reduction_factor, 1)


def halve(
    study: Study,
    trial: FrozenTrial,
    ladder: Ladder,
    *,
    at: int,
    value: float,
    key: Any = None,
    bracket_of: Callable[[FrozenTrial], int] = lambda _: 0,
) -> bool:
    """Decide as ``SuccessiveHalvingPruner`` does, and note the rungs that a trial completes.

    Args:
        study: The study.
        trial: The trial.
        ladder: The rungs.
        at: What the trial has spent.
        value: What it is judged by.
        key: Tells ladders with other brackets apart.
        bracket_of: Returns a trial's bracket; those of another one don't count.
    """
    rung = 0
    while f"{_RUNG}{rung}" in trial.system_attrs:
        rung += 1
    bracket, past = bracket_of(trial), Past(study)
    while at >= ladder.place(rung):
        if math.isnan(value):
            return True
        name = f"{_RUNG}{rung}"
        study._storage.set_trial_system_attr(trial._trial_id, name, value)
        with past.digested((_Rungs, key), lambda: _Rungs(bracket_of)) as (found, late):
            others = [
                other.system_attrs[name]
                for other in (*late, *past.unfinished)
                if name in other.system_attrs
                and bracket_of(other) == bracket
                and other.number != trial.number
            ]
            values = found.values[bracket, name]
            n_values = len(values) + len(others) + 1
            if study.direction == StudyDirection.MAXIMIZE:
                n_better = len(values) - bisect_right(values, value)
                n_better += sum(other > value for other in others)
            else:
                n_better = bisect_left(values, value) + sum(other < value for other in others)
        if n_better >= ladder.n_kept(rung, n_values):
            return True
        rung += 1
    return False


class QuickHalvingPruner(SuccessiveHalvingPruner):
    """Optuna's ``SuccessiveHalvingPruner``, which does not read all trials at each rung."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See Optuna's ``SuccessiveHalvingPruner``."""
        if self._min_resource is None:  # it is guessed from the first complete trial
            return super().prune(study, trial)
        step = trial.last_step
        if step is None:
            return False
        value = trial.intermediate_values[step]
        return halve(study, trial, _LadderOf(self), at=step, value=value)


class QuickHyperbandPruner(HyperbandPruner):
    """Optuna's ``HyperbandPruner``, which does not read all trials at each rung."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See Optuna's ``HyperbandPruner``."""
        if not self._pruners:
            self._try_initialization(study)
        step = trial.last_step
        if not self._pruners or step is None:
            return False

        # A digest keeps it, and must not keep the study and its storage.
        named: Any = SimpleNamespace(study_name=study.study_name)

        def bracket_of(other: FrozenTrial) -> int:
            return self._get_bracket_id(named, other)

        return halve(
            study,
            trial,
            _LadderOf(self._pruners[bracket_of(trial)]),
            at=step,
            value=trial.intermediate_values[step],
            key=tuple(self._trial_allocation_budgets),
            bracket_of=bracket_of,
        )


class _BestTrials(Digest):
    """The best complete trial, and the best one that violates no constraint."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self.of_all: FrozenTrial | None = None
        self.feasible: FrozenTrial | None = None

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                self.of_all = self._better(self.of_all, trial)
                if is_feasible(trial):
                    self.feasible = self._better(self.feasible, trial)

    def _better(self, best: FrozenTrial | None, trial: FrozenTrial) -> FrozenTrial:
        return trial if best is None or self._rank(trial) < self._rank(best) else best

    def _rank(self, trial: FrozenTrial) -> tuple[float, int]:
        return -self._sign * (trial.value or 0.0), trial.number


class QuickWilcoxonPruner(WilcoxonPruner):
    """Optuna's ``WilcoxonPruner``, which does not read all trials at each report."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See Optuna's ``WilcoxonPruner``."""
        sign = sign_of(study.direction)
        with Past(study).digested(_BestTrials, lambda: _BestTrials(sign)) as (found, late):
            best = copy.copy(found)
            best.add(late)
        shown = {t.number: t for t in (best.of_all, best.feasible) if t is not None}
        return super().prune(_optuna.with_best(study, list(shown.values())), trial)


_QUICK: dict[type[BasePruner], type[BasePruner]] = {
    MedianPruner: QuickMedianPruner,
    PercentilePruner: QuickPercentilePruner,
    SuccessiveHalvingPruner: QuickHalvingPruner,
    HyperbandPruner: QuickHyperbandPruner,
    WilcoxonPruner: QuickWilcoxonPruner,
}


def quick(pruner: BasePruner) -> BasePruner:
    """Return what decides as a pruner does, without reading all trials where it is Optuna's own.

    Both share their state: what the one has found out, the other knows.
    """
    if type(pruner) is PatientPruner and pruner._wrapped_pruner is not None:
        patient = copy.copy(pruner)
        patient._wrapped_pruner = quick(pruner._wrapped_pruner)
        return patient
    kind = _QUICK.get(type(pruner))
    if kind is None:
        return pruner
    twin = object.__new__(kind)
    twin.__dict__ = vars(pruner)
    return twin
