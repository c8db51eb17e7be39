"""Pruners by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)

from hpolab import _optuna
from hpolab.errors import one_of
from hpolab.keywords import checks_keywords
from hpolab.studies.halving import HalvingPruner
from hpolab.studies.quick_pruners import (
    QuickHalvingPruner,
    QuickHyperbandPruner,
    QuickMedianPruner,
    QuickPercentilePruner,
    QuickWilcoxonPruner,
    quick,
)
from hpolab.studies.racing import RacingPruner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Trial

__all__ = [
    "PRUNERS",
    "let_reports_wait",
    "make_pruner",
    "needs_running_reports",
    "with_max_resource",
]

# Reports without improvement that `patient` waits for before it asks the median.
_PATIENCE = 3

PRUNERS: Mapping[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": QuickMedianPruner,
    "hyperband": QuickHyperbandPruner,
    # Optuna guesses the first rung from the trials finished so far, and so guesses otherwise after
    # a restart; the rung of one step is what it guesses for up to 200 steps.
    "asha": lambda: QuickHalvingPruner(min_resource=1),
    "halving": HalvingPruner,
    "patient": lambda: PatientPruner(QuickMedianPruner(), patience=_PATIENCE),
    "wilcoxon": QuickWilcoxonPruner,
    "race": RacingPruner,
}
"""Pruners by name, each with Optuna's defaults unless said beside it."""


@checks_keywords()
def make_pruner(pruner: str | BasePruner) -> BasePruner:
    """Make a pruner from its name, one of `PRUNERS`.

    Args:
        pruner: A name, or a pruner object. In place of an object of Optuna's own classes comes one
            that decides the same and shares its state, but takes in each finished trial once; any
            other is returned as it is.

    Raises:
        InvalidArgument: If the name is unknown.

    Example:
        >>> from optuna.pruners import MedianPruner
        >>> isinstance(make_pruner("median"), MedianPruner)
        True
    """
    if isinstance(pruner, BasePruner):
        return quick(pruner)
    return PRUNERS[one_of("pruner", pruner, PRUNERS)]()


def with_max_resource(max_steps: int) -> HyperbandPruner:
    """Return `hyperband` for trials of ``max_steps`` reports.

    Left alone, Optuna takes the longest trial finished so far for the longest possible, and so
    takes another one after a restart.
    """
    return QuickHyperbandPruner(max_resource=max_steps)


# Of running trials these read at most what is stored beside the reports, as Hyperband and ASHA do.
_READ_FINISHED = (
    NopPruner,
    ThresholdPruner,
    RacingPruner,
    HalvingPruner,
    *(MedianPruner, QuickMedianPruner, PercentilePruner, QuickPercentilePruner),
    *(SuccessiveHalvingPruner, QuickHalvingPruner, HyperbandPruner, QuickHyperbandPruner),
    *(WilcoxonPruner, QuickWilcoxonPruner),
)


def let_reports_wait(trial: Trial) -> None:
    """Let the storage write a trial's reports together, unless its study's pruner may need them."""
    if not needs_running_reports(trial.study.pruner):
        _optuna.buffer_reports(trial)


def needs_running_reports(pruner: BasePruner) -> bool:
    """Tell whether a pruner may read the reports of other trials while they run.

    None of Optuna's and ours does. One of the user's own might.
    """
    if type(pruner) is PatientPruner:
        wrapped = pruner._wrapped_pruner
        return wrapped is not None and needs_running_reports(wrapped)
    return type(pruner) not in _READ_FINISHED
