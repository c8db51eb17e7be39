"""The trackers of a run: opened where `run` is called, and in each of its workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpolab.objectives.base import Objective
from hpolab.trial.tracking import StudyTracking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study

    from hpolab.running.interrupts import Interrupts
    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["start_tracking", "tracking_study"]


def start_tracking(study: Study, objective: ObjectiveFunction, plan: Plan) -> StudyTracking | None:
    """Open a study's run in each tracker of the plan; return None without any."""
    if not plan.trackers:
        return None
    if isinstance(objective, Objective):
        return StudyTracking(
            study,
            plan.trackers,
            metric=objective.metric,
            search_space=objective.search_space,
        )
    return StudyTracking(study, plan.trackers)


@contextmanager
def tracking_study(
    study: Study, objective: ObjectiveFunction, plan: Plan, interrupts: Interrupts
) -> Iterator[None]:
    """Open a study's runs before the workers start, and say at the end how the study stands.

    Workers that started in one instant would find none there, and each wait for the others.
    """
    with interrupts.allowed():
        tracking = start_tracking(study, objective, plan)
    if tracking is None:
        yield
        return
    try:
        yield
    except BaseException:
        tracking.end(interrupted=True)
        raise
    tracking.end(interrupted=interrupts.pressed is not None)
