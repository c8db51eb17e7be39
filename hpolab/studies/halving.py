"""Successive halving that counts reports, from the first one on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner

from hpolab.errors import check_count
from hpolab.keywords import checks_keywords
from hpolab.studies.quick_pruners import halve
from hpolab.studies.trials import sign_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["HalvingPruner"]


@dataclass(frozen=True)
class _Rungs:
    """Reports 1, ``first``, and from there on each twice as far as the one before."""

    first: int

    def place(self, rung: int) -> int:
        return 1 if rung == 0 else self.first * 2 ** (rung - 1)

    def n_kept(self, rung: int, n: int) -> int:
        # Rounded up, an early trial that is second best, say, gets its chance in a short study.
        return math.ceil(n / self.first) if rung == 0 else max(n // 2, 1)


class HalvingPruner(BasePruner):
    """Stops seven of eight trials after their first report, and later every other one.

    For trials that report as they train, epoch by epoch. A trial goes on after its first report if
    that is within the best eighth of all first reports so far, and after its 8th, 16th, 32nd, ...
    if its best report by then is within the better half of what others had reached there, or the
    best. Trials that run at the same time count, and none waits for another. How many reports a
    training has and how they are numbered makes no difference.

    It is asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) with most of the
    decisions moved to the first report: after it, the best trials of an ordinary study are mostly
    among those that are ahead (Egele et al. 2024, arXiv:2404.04111). Compared with "one epoch for
    each trial, then the best ones in full" it needs no number of trials beforehand, and at its 8th
    report it drops a trial whose lead did not last. Optuna's ``SuccessiveHalvingPruner`` cannot
    decide at a first report of step 0, and judges a trial by its last report; a trial's value is
    that of its best.

    A training of one report has ended when this pruner stops it, and its value is lost: take it for
    trainings of ten reports or more. In a study of 30 trials about four are complete. With as many
    trials the median pruner finds better ones, for twice the epochs; with as many epochs this one
    does.

    Args:
        first: One in so many trials goes on after the first report, rounded up; every other one
            stops at this report, at twice as many, and so on. 2 or above.

    Raises:
        InvalidArgument: If ``first`` is below 2.
        InvalidType: If ``first`` is no int.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     x = trial.suggest_float("x", 0, 1)
        ...     for epoch in range(20):
        ...         trial.report(x + 1 / (1 + epoch), epoch)
        ...         if trial.should_prune():
        ...             raise optuna.TrialPruned
        ...     return x
        >>> study = optuna.create_study(pruner=HalvingPruner())
        >>> for x in (0.5, 0.6, 0.4, 0.9):
        ...     study.enqueue_trial({"x": x})
        >>> study.optimize(objective, n_trials=4)
        >>> [len(trial.intermediate_values) for trial in study.trials]
        [20, 1, 20, 1]
    """

    @checks_keywords()
    def __init__(self, first: int = 8) -> None:
        check_count("first", first, low=2)
        self._first = first

    def __repr__(self) -> str:
        return f"HalvingPruner(first={self._first})"

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial has reached a rung and is not among the best there."""
        sign = sign_of(study.direction)
        reports = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
        return halve(
            study,
            trial,
            _Rungs(self._first),
            at=len(trial.intermediate_values),
            value=max(reports, key=lambda value: sign * value, default=math.nan),
        )
