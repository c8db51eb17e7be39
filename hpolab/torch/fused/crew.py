"""The trials that a worker trains as one; new trials replace those that end."""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from hpolab.errors import in_brief
from hpolab.logs import get_logger
from hpolab.objectives.crew import Crew
from hpolab.studies.pruner import let_reports_wait
from hpolab.torch.fused.architecture import TrainsAlone
from hpolab.torch.fused.first_steps import N_STEPS, FirstSteps, open_architecture
from hpolab.torch.fused.group import MemberGroup
from hpolab.torch.fused.grouping import signature
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.outside import Outside
from hpolab.torch.fused.settings import setting_of
from hpolab.torch.fused.speed import Speed, choose, is_too_short
from hpolab.torch.fused.stack import Stack
from hpolab.trial.lease import requeue_mine
from hpolab.trial.reporter import StepReport, is_out_of_memory, report_together
from hpolab.trial.tracking import end_requeued

if TYPE_CHECKING:
    from optuna import Study, Trial

    from hpolab.objectives.crew import Outcome
    from hpolab.torch.fused.architecture import Architecture
    from hpolab.torch.fused.grouping import Signature
    from hpolab.torch.training import TrainsByEpochs

__all__ = ["FusedCrew", "make_crew"]

_logger = get_logger(__name__)

# Trials at once under "auto" if the default configuration cannot be stacked; others may be.
_SIZE_UNMEASURED = 16

# Groups without members whose architecture is kept; it holds a model, and perhaps compiled steps.
_MOST_KEPT = 8


class FusedCrew(Crew):
    """The trials that a worker has in training, grouped by architecture.

    The groups take turns, one epoch each, so that trials of different architectures end in the
    same order as if they trained one by one.

    Args:
        study: The study.
        objective: The objective that its trials train.
        speed: The largest number of trials at once, and whether their stacks are compiled.
        said: Reasons for training alone that have been logged already.
        outside: What lies outside the models of all trials.
        deadline: The moment of ``time.monotonic()`` when trainings end with their best so far.
    """

    def __init__(
        self,
        study: Study,
        objective: TrainsByEpochs,
        speed: Speed,
        said: set[str],
        outside: Outside,
        deadline: float,
    ) -> None:
        self._study = study
        self._objective = objective
        self._size = speed.size
        self._compiled = speed.compiled
        self._said = said
        self._outside = outside
        self._has_collected = False
        self._deadline = deadline
        # Trials that cannot share a stack have None in common.
        self._groups: dict[Signature | None, MemberGroup] = {}

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
        let_reports_wait(trial)
        try:
            member, disturbed = self._started(trial)
            if member.is_done:
                return member.result
            if disturbed is not None:
                self._train_one_by_one(disturbed)
                self._requeue(trial)
                return None
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
        for group in self._groups.values():
            for member in group.lost:
                self._requeue_member(member)
            group.lost.clear()
        self._say_if_nothing_is_stacked()
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
        self._forget_groups()
        return [(member.trial, member.result) for _, member in ended if member.trial is not None]

    def requeue(self) -> None:
        """Requeue all trials, so that other workers can resume them."""
        for member in self._members:
            self._requeue_member(member)

    def _started(self, trial: Trial) -> tuple[Member, str | None]:
        """Return a trial's member, and what building it has changed that others read, if any."""
        if self._size == 1:
            return Member.start(self._objective, trial, self._deadline), None
        self._outside.look()
        member = Member.start(self._objective, trial, self._deadline)
        disturbed = self._outside.changed()
        self._outside.add(member.training.model)
        return member, disturbed if self._members else None

    def _train_one_by_one(self, disturbed: str) -> None:
        """Requeue all trials; from now on each trains to its end before the next is built."""
        _logger.warning(
            f"Trials train one by one: between them {disturbed} has changed that their models, the "
            "loss or a metric read. Give a model what it needs as its own attribute."
        )
        self.requeue()
        self._groups.clear()
        self._size = 1

    def _requeue(self, trial: Trial) -> None:
        requeue_mine(self._study, trial)
        end_requeued(trial)

    def _requeue_member(self, member: Member) -> None:
        assert member.trial is not None
        self._requeue(member.trial)

    def _let_go(self, group: MemberGroup, member: Member) -> None:
        group.remove(member)
        self._requeue_member(member)

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
        key = self._signature_of(member)
        if key not in self._groups:
            size = 1 if key is None else self._size
            self._groups[key] = MemberGroup(size, compiled=self._compiled, say=self._say)
        return self._groups[key]

    def _signature_of(self, member: Member) -> Signature | None:
        try:
            return signature(member.training)
        except TrainsAlone as reason:
            self._say(member, str(reason))
            return None

    def _say(self, member: Member, reason: str) -> None:
        say_why(self._said, member, reason)

    def _forget_groups(self) -> None:
        """Let go of groups without members, but for the last few whose stacks may come again."""
        empty = [key for key, group in self._groups.items() if not group.members]
        kept = [key for key in empty if self._groups[key].has_stacked][-_MOST_KEPT:]
        for key in set(empty) - set(kept):
            del self._groups[key]

    def _say_if_nothing_is_stacked(self) -> None:
        """Say once in what trials differ, if none of a whole crew shares a stack with another."""
        keys = [key for key, group in self._groups.items() if key is not None and group.members]
        if self._said or len(keys) < 2 or any(self._groups[key].stacked for key in keys):
            return
        where = keys[0].difference(keys[1])
        self._said.add(str(where))
        _logger.warning(
            f"{len(self._members)} trials train side by side and none in a stack: their models "
            f"differ in {where!r}, and only models that compute the same share a stack."
        )


def _raise(objective: TrainsByEpochs, error: Exception, trial: Trial) -> NoReturn:
    with objective.reporter(trial):  # it prunes the trial if memory has run out
        raise error


def say_why(said: set[str], member: Member, reason: str) -> None:
    """Log why a member trains alone, each reason once."""
    if reason and reason not in said:
        said.add(reason)
        number = None if member.trial is None else member.trial.number
        which = "The default configuration" if number is None else f"Trial {number}"
        _logger.warning(f"{which} trains alone: {reason.rstrip('.')}.")


def prove(objective: TrainsByEpochs) -> tuple[Architecture, Member]:
    """Train two members of the default configuration as one, for their first steps.

    Returns:
        Their architecture, and one of them.

    Raises:
        TrainsAlone: If they do not train as they do alone.
    """
    params = objective.search_space.defaults()
    members = [Member.outside(objective, params, seed) for seed in (0, 1)]
    differing = signature(members[0].training).difference(signature(members[1].training))
    if differing is not None:
        raise TrainsAlone(f"its {differing!r} differs from seed to seed")
    architecture = open_architecture(members[0].training)
    try:
        stack = Stack(architecture, [(each, FirstSteps(architecture, each)) for each in members])
        stack.epoch(n_batches=N_STEPS)
    except TrainsAlone:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TrainsAlone(in_brief(error)) from error
    for reason in stack.strangers.values():
        raise TrainsAlone(reason)
    return architecture, members[0]


def _loss_keeps_state(objective: TrainsByEpochs) -> bool:
    """Tell whether steps change the user's loss, as one that counts its calls."""
    if objective.task.own_loss is None:
        return False
    member = Member.outside(objective, objective.search_space.defaults(), 0)
    try:
        loss = copy.deepcopy(objective.task.loss)
        before = setting_of("loss", loss)
        member.training.task = replace(objective.task, loss=loss)
        with member.random():
            member.training.epoch(N_STEPS)
        return setting_of("loss", loss) != before
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False  # it cannot be told, and what fails is for the trials to say


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
    if _loss_keeps_state(objective):
        _logger.warning(
            "Trials train one by one: `loss` keeps state that training changes, and all trials "
            "share it. Keep such state in the model."
        )
        return None
    said: set[str] = set()
    try:
        proven = prove(objective)
    except TrainsAlone as reason:
        say_why(said, first, str(reason))
        speed = Speed(_SIZE_UNMEASURED if fuse == "auto" else int(fuse), False, 0.0)
    else:
        speed = choose(objective, *proven, fuse, n_trials, deadline - time.monotonic())
    if speed.size == 1:
        return None
    outside = Outside(first.training)
    return FusedCrew(study, objective, speed, said, outside, deadline)
