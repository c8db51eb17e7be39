"""The process that calls `run` as its only worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.running.capacity import CoresWatch, n_threads_here
from hpolab.running.executors.base import Executor
from hpolab.running.worker import work

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from hpolab.running.interrupts import Interrupts
    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["ThisProcess"]


@dataclass(frozen=True)
class ThisProcess(Executor):
    """Trains in the process that calls `run`, one trial after another."""

    @property
    def n_workers(self) -> int:
        """See `Executor`."""
        return 1

    @property
    def is_this_process(self) -> bool:
        """See `Executor`."""
        return True

    def check(self, study: Study) -> None:
        """See `Executor`; everything that works at all works here."""

    def execute(
        self,
        study: Study,
        objective: ObjectiveFunction,
        plan: Plan,
        interrupts: Interrupts,
        after_trial: Callable[[], None],
    ) -> None:
        """See `Executor`."""
        cores = CoresWatch(n_threads_here(objective))

        def after() -> None:
            cores.look()
            after_trial()

        work(study, objective, plan, interrupts, after)
