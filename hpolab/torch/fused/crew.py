"""The trials that a worker trains as one; new trials replace those that end."""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from optuna.logging import get_logger

from hpolab import _optuna
from hpolab.objectives.crew import Crew
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.group import MemberGroup
from hpolab.torch.fused.grouping import is_of, obstacle, signature
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.speed import Speed, choose, is_too_short
from hpolab.trial.lease import requeue_mine
from hpolab.trial.reporter import StepReport, is_out_of_memory, report_together

if TYPE_CHECKING:
    from collections.abc import Hashable

    from optuna import Study, Trial

    from hpolab.objectives.crew import Outcome
    from hpolab.torch.training import TrainsByEpochs

__all__ = ["FusedCrew", "make_crew"]

_logger = get_logger(__name__)

# Trials at once under "auto" if the default configuration cannot be stacked; others may be.
_SIZE_UNMEASURED = 16


class FusedCrew(Crew):
    """The trials that a worker has in training, grouped by architecture.

    The groups take turns, one epoch each, so that trials of different architectures end in the
    same order as if they trained one by one.

    Args:
        study: The study.
        objective: The objective that its trials train.
        speed: The largest number of trials at once, and whether their stacks are compiled.
        architectures: Architectures that are known already, by signature; None if their trials
            train alone.
        deadline: The moment of ``time.monotonic()`` when trainings end with their best so far.
    """

    def __init__(
        self,
        study: Study,
        objective: TrainsByEpochs,
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
        self._groups: dict[Hashable, MemberGroup] = {}

    @property
    def trials(self) -> list[Trial]:
        """All trials in training."""
        return [member.trial for member in self._members if member.trial is not None]

    @property
    def _members(self) -> list[Member]:
        return [member for group in self._groups.values() for member in group.members]

    @property
    def has_room(self) -> bool:
        """Whether another trial may begin."""
        return len(self._members) < self._size

    def begin(self, trial: Trial) -> Outcome | None:
        """Begin a trial; return its outcome if its checkpoint is its last or if it cannot start."""
        _optuna.buffer_reports(self._study, trial)
        try:
            member = Member.start(self._objective, trial, self._deadline)
            if member.is_done:
                return member.result
            self._group_of(member).add(member)
        except Exception as error:  # noqa: BLE001 - stored with the trial
            if is_out_of_memory(error) and self._members:
                self._size = len(self._members)
                self._requeue(trial)
                return None
            return partial(_raise, self._objective, error)
        return None

    def advance(self) -> list[tuple[Trial, Outcome]]:
        """Train all trials for one epoch and report it; return those that have ended."""
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
        advanced = self._requeue_starved(advanced)
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
        return [(member.trial, member.result) for _, member in ended if member.trial is not None]

    def requeue(self) -> None:
        """Requeue all trials, so that other workers can resume them."""
        for member in self._members:
            assert member.trial is not None
            self._requeue(member.trial)

    def _requeue(self, trial: Trial) -> None:
        requeue_mine(self._study, trial)

    def _let_go(self, group: MemberGroup, member: Member) -> None:
        group.remove(member)
        assert member.trial is not None
        self._requeue(member.trial)

    def _requeue_starved(
        self, advanced: list[tuple[MemberGroup, Member, float]]
    ) -> list[tuple[MemberGroup, Member, float]]:
        """Requeue the members that ran out of memory next to others; return the rest."""
        starved = [
            (group, member)
            for group, member, _ in advanced
            if member.error is not None and is_out_of_memory(member.error)
        ]
        if not starved or len(self._members) == 1:
            return advanced
        self._size = max(1, len(self._members) // 2)
        for group, member in starved:
            self._let_go(group, member)
        gone = [member for _, member in starved]
        return [each for each in advanced if each[1] not in gone]

    def _make_room(self) -> list[Member]:
        """Keep the older half of the trials, requeue the others, and return those kept.

        The first call only collects garbage and keeps all: an optimizer and its schedule refer to
        each other, so those of ended trials may still take up memory.
        """
        if not self._has_collected:
            self._has_collected = True
            for group in self._groups.values():
                group.shrink(self._size)
            gc.collect()
            return self._members
        pairs = [(group, member) for group in self._groups.values() for member in group.members]
        pairs.sort(key=lambda pair: pair[1].trial.number if pair[1].trial else 0)
        self._size = max(1, len(pairs) // 2)
        self._compiled = False
        _logger.warning(
            f"{len(pairs)} trials do not fit in memory at once; the study continues with "
            f"{self._size} at once."
        )
        for group, member in pairs[self._size :]:
            self._let_go(group, member)
        for group in self._groups.values():
            group.shrink(self._size)
        return [member for _, member in pairs[: self._size]]

    def _group_of(self, member: Member) -> MemberGroup:
        key = signature(member.training)
        if key not in self._architectures:
            self._architectures[key] = architecture_of(member)
        architecture = self._architectures[key]
        if architecture is not None and not is_of(architecture, member):
            _say_why(
                member, "its model computes something else than other models of the same modules"
            )
            key, architecture = (key, "alone"), None
        if key not in self._groups:
            self._groups[key] = MemberGroup(architecture, self._size, compiled=self._compiled)
        return self._groups[key]


def _raise(objective: TrainsByEpochs, error: Exception, trial: Trial) -> NoReturn:
    with objective.reporter(trial):  # it prunes the trial if memory has run out
        raise error


def architecture_of(member: Member) -> Architecture | None:
    """Return a member's architecture; log why and return None if the member must train alone."""
    reason = obstacle(member)
    if reason is None:
        return Architecture(member.training)
    _say_why(member, reason)
    return None


def _say_why(member: Member, reason: str) -> None:
    which = "The default configuration" if member.trial is None else f"Trial {member.trial.number}"
    _logger.warning(f"{which} trains alone: {reason}.")


def make_crew(
    objective: TrainsByEpochs,
    study: Study,
    *,
    fuse: int | str,
    n_trials: int,
    deadline: float,
) -> FusedCrew | None:
    """Return a crew of the size that ``fuse`` asks for, or None if one by one is fastest.

    Args:
        objective: The objective to train.
        study: Its study.
        fuse: The number of trials to train as one, or "auto" for the fastest of 1, 4, 16 and 64.
        n_trials: The number of trials that are left.
        deadline: The moment of ``time.monotonic()`` when trainings end with their best so far.
    """
    first = Member.outside(objective, objective.search_space.defaults(), 0)
    if fuse == "auto" and is_too_short(objective, first.training.batch_size, n_trials):
        _logger.info(
            "Trials train one by one: the study has too few steps to measure what is fastest."
        )
        return None
    architecture = architecture_of(first)
    if architecture is None:
        speed = Speed(_SIZE_UNMEASURED if fuse == "auto" else int(fuse), False, 0.0)
    else:
        seconds_left = deadline - time.monotonic()
        speed = choose(objective, architecture, fuse, n_trials, seconds_left)
    if speed.size == 1:
        return None
    return FusedCrew(study, objective, speed, {signature(first.training): architecture}, deadline)
