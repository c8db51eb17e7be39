"""Trials of one architecture, which advance together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpolab.errors import in_brief
from hpolab.torch.fused.architecture import TrainsAlone
from hpolab.torch.fused.first_steps import FirstSteps, open_architecture
from hpolab.torch.fused.stack import Stack
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from hpolab.torch.fused.architecture import Architecture
    from hpolab.torch.fused.member import Member

__all__ = ["MemberGroup"]


class MemberGroup:
    """Members of one architecture: some in stacks, the others training alone.

    A stack that has lost half of its members is dissolved, so that few slots stay empty. A member
    that is left over trains like any trial that is not fused, and so does one whose first steps in
    a stack are not those that it makes alone.

    Attributes:
        is_too_large: Whether a stack did not fit in memory. Its members wait until `shrink`.
        lost: Members whose stack has failed in training: what it holds is no longer theirs. They
            must begin again where they were last stored.

    Args:
        size: The number of slots of the largest stack; 1 if the members cannot be stacked.
        compiled: Whether to compile stacks of that size; smaller ones are never compiled.
        say: Called with a member that must train alone, and the reason.
    """

    def __init__(self, size: int, *, compiled: bool, say: Callable[[Member, str], None]) -> None:
        self._architecture: Architecture | None = None
        self._size = size
        self._compiled = compiled
        self._say = say
        self._stacks: list[Stack] = []
        self._alone: list[Member] = []
        self.is_too_large = False
        self.lost: list[Member] = []

    @property
    def members(self) -> list[Member]:
        """All members."""
        return [*self.stacked, *self._alone]

    @property
    def stacked(self) -> list[Member]:
        """The members that are in stacks."""
        members = [member for stack in self._stacks for member in stack.members]
        return [member for member in members if member is not None]

    @property
    def has_stacked(self) -> bool:
        """Whether its members have been in a stack, which another may follow."""
        return self._architecture is not None

    def add(self, member: Member) -> None:
        """Add a member, which advances with the group from its next epoch on."""
        self._alone.append(member)

    def remove(self, member: Member) -> None:
        """Remove a member; if it has finished, its model becomes that of its best epoch."""
        stack = self._stack_of(member)
        if stack is None:
            self._alone.remove(member)
            return
        slot = stack.members.index(member)
        if member.is_done and member.error is None:
            stack.take_best_out(slot)
        stack.remove(slot)
        if stack.n_members == 0:
            self._stacks.remove(stack)

    def advance(self) -> list[tuple[Member, float]]:
        """Train all members for one epoch; return each with its metric.

        A member that fails keeps its error and is returned with NaN. If a stack does not fit in
        memory, its members are not trained and `is_too_large` becomes true.
        """
        self._arrange()
        if self.is_too_large:
            return []
        advanced = [(member, _epoch_alone(member)) for member in self._alone]
        for stack in list(self._stacks):
            advanced += self._advance(stack)
        return advanced

    def shrink(self, size: int) -> None:
        """Use stacks of at most ``size`` slots; smaller ones than before are not compiled."""
        self.is_too_large = False
        if self._size > 1:
            self._compiled = self._compiled and size == self._size
            self._size = size

    def keep_best(self, member: Member) -> None:
        """Keep a member's present model as its best."""
        stack = self._stack_of(member)
        if stack is None:
            member.training.keep_best()
        else:
            stack.keep_best(stack.members.index(member))

    def state(self, member: Member) -> bytes:
        """Return a member's checkpoint."""
        stack = self._stack_of(member)
        if stack is not None:
            stack.take_out(stack.members.index(member))
        return member.state()

    def _stack_of(self, member: Member) -> Stack | None:
        """Return a member's stack, or None if the member trains alone."""
        return next((stack for stack in self._stacks if member in stack.members), None)

    def _arrange(self) -> None:
        """Dissolve half-empty stacks, fill free slots, and stack the members that are left."""
        for stack in list(self._stacks):
            if 2 * stack.n_members <= stack.size:
                self._dissolve(stack)
        if self._size == 1:
            return
        waiting = [member for member in self._alone if not member.is_refused]
        for stack in self._stacks:
            for slot, member in enumerate(stack.members):
                if member is None and waiting:
                    self._join(stack, slot, waiting)
        while len(waiting) > 1:
            self._open(waiting)

    def _join(self, stack: Stack, slot: int, waiting: list[Member]) -> None:
        """Put the next member that may be stacked into a slot, if there is one."""
        for member, steps in self._next(waiting, 1):
            stack.put(slot, member, steps)
            self._alone.remove(member)

    def _open(self, waiting: list[Member]) -> None:
        """Open a stack of the next members that may be stacked, if there are several."""
        found = self._next(waiting, self._size)
        if len(found) < 2:
            return
        assert self._architecture is not None
        is_whole = self._compiled and 2 * len(found) > self._size
        size = self._size if is_whole else len(found)
        try:
            stack = Stack(self._architecture, found, size=size, compiled=is_whole)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.is_too_large = True
            waiting.clear()
        else:
            self._stacks.append(stack)
            for member, _ in found:
                self._alone.remove(member)

    def _next(self, waiting: list[Member], count: int) -> list[tuple[Member, FirstSteps | None]]:
        """Take members from those that wait, and return up to ``count`` that may be stacked."""
        found: list[tuple[Member, FirstSteps | None]] = []
        while waiting and len(found) < count:
            member = waiting.pop(0)
            try:
                found.append((member, self._first_steps(member)))
            except TrainsAlone as reason:
                self._refuse(member, str(reason))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.is_too_large = True
                waiting.clear()
                return []
        return found

    def _first_steps(self, member: Member) -> FirstSteps | None:
        """Return what a member's stack must repeat, None if it has been in one."""
        if self._architecture is None:
            self._architecture = open_architecture(member.training)
        return None if member.is_proven else FirstSteps(self._architecture, member)

    def _refuse(self, member: Member, reason: str) -> None:
        """Let a member train alone from now on, and say why unless its training says so."""
        member.is_refused = True
        if reason:
            self._say(member, reason)

    def _dissolve(self, stack: Stack) -> None:
        for slot, member in enumerate(stack.members):
            if member is not None:
                stack.take_out(slot)
                self._alone.append(member)
        self._stacks.remove(stack)

    def _advance(self, stack: Stack) -> list[tuple[Member, float]]:
        """Train a stack for one epoch; return the members that have trained, in it or alone."""
        # What is new in a stack is as it was before, but for its random states.
        members = {slot: member for slot, member in enumerate(stack.members) if member is not None}
        places = {
            slot: member.place()
            for slot, member in members.items()
            if stack.is_new or not member.is_proven
        }
        try:
            if stack.is_new:
                stack.values()  # fails before training if there is no room
            stack.epoch()
            values = stack.values()
        except Exception as error:  # noqa: BLE001 - said, or stored with each of its trials
            return self._break(stack, members, places, error)
        for slot, reason in stack.strangers.items():
            stack.remove(slot)
            members[slot].go_back(places[slot])
            self._refuse(members[slot], reason)
            self._alone.append(members[slot])
        return [
            (
                member,
                _epoch_alone(member)
                if slot in stack.strangers
                else self._read(stack, slot, member, values[slot]),
            )
            for slot, member in members.items()
        ]

    def _read(self, stack: Stack, slot: int, member: Member, value: float | Exception) -> float:
        """Return a member's value; what fails in a stack alone is not the member's failure."""
        if not isinstance(value, Exception):
            return value
        if is_out_of_memory(value):
            return _failed(member, value)
        stack.take_out(slot)
        stack.remove(slot)
        self._alone.append(member)
        if stack.n_members == 0:
            self._stacks.remove(stack)
        try:
            with member.random():
                found = member.training.end_epoch(member.reporter)
        except Exception as error:  # noqa: BLE001 - stored with its trial
            return _failed(member, error)
        self._refuse(member, f"in a stack its metric fails ({in_brief(value).rstrip('.')})")
        return found

    def _break(
        self,
        stack: Stack,
        members: Mapping[int, Member],
        places: Mapping[int, list[Tensor]],
        error: Exception,
    ) -> list[tuple[Member, float]]:
        """Let the members of a stack that has failed go on without it."""
        no_room = is_out_of_memory(error)
        if no_room and not stack.is_new:
            return [(member, _failed(member, error)) for member in members.values()]
        self._stacks.remove(stack)
        if not no_room:
            self._size = 1
            reason = str(error) if isinstance(error, TrainsAlone) else in_brief(error)
            self._say(next(iter(members.values())), reason)
        if not stack.is_new:
            self.lost += members.values()
            return []
        for slot, member in members.items():
            member.go_back(places[slot])
            self._alone.append(member)
        self.is_too_large = no_room
        return [] if no_room else [(each, _epoch_alone(each)) for each in members.values()]


def _epoch_alone(member: Member) -> float:
    try:
        return member.epoch()
    except Exception as error:  # noqa: BLE001 - stored with its trial
        return _failed(member, error)


def _failed(member: Member, error: Exception) -> float:
    member.error = error
    return math.nan
