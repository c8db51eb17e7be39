"""The contract of what trains the trials of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from hpolab.running.interrupts import Interrupts
    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["Executor"]


class Executor(ABC):
    """Where the trials of a `run` are trained, and by how many workers.

    Whatever it is, the study lives in its storage: an executor starts workers that claim trials
    there, and keeps as many of them alive as it was asked for. It owns no trial.
    """

    @property
    @abstractmethod
    def n_workers(self) -> int:
        """How many workers train at once."""

    @property
    def is_this_process(self) -> bool:
        """Whether the trials run in the process that calls `run`."""
        return False

    @abstractmethod
    def check(self, study: Study) -> None:
        """Refuse, before a trial is spent, what cannot work.

        Raises:
            InvalidArgument: If the study's storage cannot be shared with the workers, or there is
                no room for them.
        """

    @abstractmethod
    def execute(
        self,
        study: Study,
        objective: ObjectiveFunction,
        plan: Plan,
        interrupts: Interrupts,
        after_trial: Callable[[], None],
    ) -> None:
        """Do what `work` does with all workers, and replace those that die.

        It returns when the budget is spent or something has ended the run before: ``study.stop``,
        which it notes in ``study``, the time limit, or a signal. No worker is left then, and
        no trial is running.

        Args:
            study: The study.
            objective: A function of a trial.
            plan: The budget and the rules.
            interrupts: Tells of Ctrl-C and its like, which requeue what is in training. It is
                entered by the caller.
            after_trial: Called in this process when trials have ended.

        Raises:
            InvalidType: If study, objective or callbacks cannot be sent to the workers.
            WorkersDied: If workers die over and over without finishing a trial.
            Exception: What a worker raised, e.g. `TooManyFailures`, as it was raised there.
        """
