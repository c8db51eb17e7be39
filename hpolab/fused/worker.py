"""A worker that trains several trials as one; new ones take the place of those that end."""

from __future__ import annotations

import gc
import signal
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from optuna.logging import get_logger

from hpolab import _optuna
from hpolab.fused.architecture import Architecture
from hpolab.fused.group import Group
from hpolab.fused.grouping import is_of, obstacle, signature
from hpolab.fused.member import Member
from hpolab.fused.speed import Speed, choose, is_too_short
from hpolab.reporter import StepReport, is_out_of_memory, report_together
from hpolab.storage.lease import is_spent, put_back_trial, release_lease
from hpolab.tables import tally
from hpolab.worker import Worker, work

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from optuna import Study, Trial

    from hpolab.objectives import TorchObjective
    from hpolab.worker import Interrupts, Plan

__all__ = ["work_fused"]

_logger = get_logger(__name__)

# Trials at once under "auto" where the default configuration cannot be stacked, but others may.
_SIZE_UNMEASURED = 16


class Crew:
    """The trials that a worker has in training, in groups of one architecture each.

    All groups advance by an epoch in turn, so that trials of different architectures end in the
    order in which they would alone.

    Args:
        study: The study.
        objective: What is trained.
        speed: How many trials at most, and how their stacks are trained.
        architectures: What is known already, by signature.
        deadline: When trainings end with what they have.
    """

    def __init__(
        self,
        study: Study,
        objective: TorchObjective,
        speed: Speed,
        architectures: dict[Hashable, Architecture | None],
        deadline: float,
    ) -> None:
        self._study = study
        self._objective = objective
        self._size = speed.size
        self._compiled = speed.compiled
        self._architectures = architectures
        self._has_collected = False
        self._deadline = deadline
        self._groups: dict[Hashable, Group] = {}

    @property
    def members(self) -> list[Member]:
        """All trials in training."""
        return [member for group in self._groups.values() for member in group.members]

    @property
    def has_room(self) -> bool:
        """Whether another trial may begin."""
        return len(self.members) < self._size

    def begin(self, trial: Trial) -> Callable[[Trial], float] | None:
        """Begin a trial, which advances with the others from now on.

        Returns:
            None, or how it has ended already, as an objective of the trial.
        """
        _optuna.buffer_reports(self._study, trial)
        try:
            member = Member.start(self._objective, trial, self._deadline)
            if member.is_done:
                return member.result
            self._group_of(member).add(member)
        except Exception as error:  # noqa: BLE001 - stored with the trial
            if is_out_of_memory(error) and self.members:
                self._size = len(self.members)
                self._put_back(trial)
                return None
            return partial(_raise, self._objective, error)
        return None

    def advance(self) -> list[Member]:
        """Train all for an epoch and report it; return those that have ended, no longer here."""
        advanced = [
            (group, member, value)
            for group in self._groups.values()
            for member, value in group.advance()
        ]
        if any(group.is_too_large for group in self._groups.values()):
            here = self._make_room()
            advanced = [each for each in advanced if each[1] in here]
        else:
            self._has_collected = False
        advanced = self._put_back_starved(advanced)
        alive = [each for each in advanced if each[1].error is None]
        reports = [
            StepReport(
                member.reporter, value, member.reporter.next_step, partial(group.state, member)
            )
            for group, member, value in alive
        ]
        errors = report_together(reports)
        for (group, member, _), error in zip(alive, errors, strict=True):
            member.error = error
            if member.reporter.improved:
                group.keep_best(member)
        ended = [(group, member) for group, member, _ in advanced if member.is_done]
        for group, member in ended:
            group.remove(member)
        return [member for _, member in ended]

    def put_back(self) -> None:
        """Let other workers go on with all trials."""
        for member in self.members:
            assert member.trial is not None
            self._put_back(member.trial)

    def _put_back(self, trial: Trial) -> None:
        put_back_trial(self._study, trial.number)
        release_lease(trial)

    def _let_go(self, group: Group, member: Member) -> None:
        group.remove(member)
        assert member.trial is not None
        self._put_back(member.trial)

    def _put_back_starved(
        self, advanced: list[tuple[Group, Member, float]]
    ) -> list[tuple[Group, Member, float]]:
        """Put back those for which memory has not sufficed beside others; return the rest."""
        starved = [
            (group, member)
            for group, member, _ in advanced
            if member.error is not None and is_out_of_memory(member.error)
        ]
        if not starved or len(self.members) == 1:
            return advanced
        self._size = max(1, len(self.members) // 2)
        for group, member in starved:
            self._let_go(group, member)
        gone = [member for _, member in starved]
        return [each for each in advanced if each[1] not in gone]

    def _make_room(self) -> list[Member]:
        """Go on with half of the trials, the oldest, and return them; the others wait for a slot.

        First with all: optimizers and their schedules hold each other, so that those of trials
        that have ended may still be there.
        """
        if not self._has_collected:
            self._has_collected = True
            for group in self._groups.values():
                group.shrink(self._size)
            gc.collect()
            return self.members
        pairs = [(group, member) for group in self._groups.values() for member in group.members]
        pairs.sort(key=lambda pair: pair[1].trial.number if pair[1].trial else 0)
        self._size = max(1, len(pairs) // 2)
        self._compiled = False
        _logger.warning(
            f"{len(pairs)} trials do not fit in memory at once; the study goes on with "
            f"{self._size}."
        )
        for group, member in pairs[self._size :]:
            self._let_go(group, member)
        for group in self._groups.values():
            group.shrink(self._size)
        return [member for _, member in pairs[: self._size]]

    def _group_of(self, member: Member) -> Group:
        key = signature(member.training)
        if key not in self._architectures:
            self._architectures[key] = architecture_of(member)
        architecture = self._architectures[key]
        if architecture is not None and not is_of(architecture, member):
            _say_why(member, "its model computes otherwise than others of the same modules")
            key, architecture = (key, "alone"), None
        if key not in self._groups:
            self._groups[key] = Group(architecture, self._size, compiled=self._compiled)
        return self._groups[key]


def _raise(objective: TorchObjective, error: Exception, trial: Trial) -> NoReturn:
    with objective.reporter(trial):  # which knows what to do where memory has run out
        raise error


def architecture_of(member: Member) -> Architecture | None:
    """Return what a member shares with others like it, or None, said why, if it trains alone."""
    reason = obstacle(member)
    if reason is None:
        return Architecture(member.training)
    _say_why(member, reason)
    return None


def _say_why(member: Member, reason: str) -> None:
    which = "The default" if member.trial is None else f"Trial {member.trial.number}"
    _logger.warning(f"{which} trains alone: {reason}.")


def work_fused(
    study: Study,
    objective: TorchObjective,
    plan: Plan,
    interrupts: Interrupts,
    after_trial: Callable[[], None],
) -> None:
    """Do what `hpolab.worker.work` does, with several trials at once.

    Args:
        study: The study.
        objective: What is trained.
        plan: The budget, the rules, and how many trials to train as one.
        interrupts: Tells of Ctrl-C and its like, entered by the caller.
        after_trial: Called after each trial, and where others' are waited for.
    """
    assert plan.fuse is not None
    deadline = time.monotonic() + plan.timeout_seconds
    worker = Worker(study, objective, plan)
    n_left = max(0, plan.n_trials - tally(study.get_trials(deepcopy=False)).finished)

    def alone() -> None:
        left = replace(plan, fuse=None, timeout_seconds=deadline - time.monotonic())
        work(study, objective, left, interrupts, after_trial)

    first = Member.outside(objective, objective.search_space.defaults(), 0)
    if plan.fuse == "auto" and is_too_short(objective, first.training.batch_size, n_left):
        _logger.info("Trials train one by one: too few steps to measure what is fastest.")
        alone()
        return
    architecture = architecture_of(first)
    if architecture is None:
        speed = Speed(_SIZE_UNMEASURED if plan.fuse == "auto" else int(plan.fuse), False, 0.0)
    else:
        speed = choose(objective, architecture, plan.fuse, n_left, plan.timeout_seconds)
    if speed.size == 1:
        alone()
        return
    crew = Crew(study, objective, speed, {signature(first.training): architecture}, deadline)
    with _optuna.optimize_loop(study):
        try:
            _work(crew, worker, study, plan, deadline, interrupts, after_trial)
        except KeyboardInterrupt:
            interrupts.pressed = interrupts.pressed or signal.SIGINT
        finally:
            # After Ctrl-C or an error of ours; there are none otherwise.
            crew.put_back()


def _work(
    crew: Crew,
    worker: Worker,
    study: Study,
    plan: Plan,
    deadline: float,
    interrupts: Interrupts,
    after_trial: Callable[[], None],
) -> None:
    while interrupts.pressed is None:
        while crew.has_room and not worker.is_to_stop(interrupts, deadline):
            trial = worker.claim()
            if trial is None:
                break
            ended = crew.begin(trial)
            if ended is not None:
                worker.run_trial(trial, interrupts, ended)
        if crew.members:
            with interrupts.allowed():
                ended_members = crew.advance()
            for member in ended_members:
                assert member.trial is not None
                worker.run_trial(member.trial, interrupts, member.result)
            if ended_members:
                after_trial()
        elif worker.is_to_stop(interrupts, deadline) or is_spent(study, plan.n_trials):
            return
        else:
            interrupts.sleep(worker.seconds_to_wait())
            after_trial()
