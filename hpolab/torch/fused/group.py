"""Trials of one architecture, which advance together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpolab.torch.fused.stack import Stack
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.torch.fused.architecture import Architecture
    from hpolab.torch.fused.member import Member

__all__ = ["MemberGroup"]


class MemberGroup:
    """Members of one architecture: some in stacks, the others training alone.

    A stack that has lost half of its members is dissolved, so that few slots stay empty. A member
    that is left over trains like any trial that is not fused.

    Attributes:
        is_too_large: Whether a stack did not fit in memory. Its members wait until `shrink`.

    Args:
        architecture: The members' architecture; None if they cannot be stacked.
        size: The number of slots of the largest stack.
        compiled: Whether to compile stacks of that size; smaller ones are never compiled.
    """

    def __init__(self, architecture: Architecture | None, size: int, *, compiled: bool) -> None:
        self._architecture = architecture
        self._size = size if architecture is not None else 1
        self._compiled = compiled
        self._stacks: list[Stack] = []
        self._alone: list[Member] = []
        self.is_too_large = False

    @property
    def members(self) -> list[Member]:
        """All members."""
        stacked = [member for stack in self._stacks for member in stack.members]
        return [member for member in stacked if member is not None] + self._alone

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
        if self._architecture is not None:
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
        waiting, self._alone = self._alone, []
        for stack in self._stacks:
            for slot, member in enumerate(stack.members):
                if member is None and waiting:
                    stack.put(slot, waiting.pop(0))
        while len(waiting) > 1 and self._size > 1:
            chunk, waiting = waiting[: self._size], waiting[self._size :]
            self._open(chunk)
        self._alone += waiting

    def _open(self, members: Sequence[Member]) -> None:
        assert self._architecture is not None
        is_whole = self._compiled and 2 * len(members) > self._size
        size = self._size if is_whole else len(members)
        try:
            stack = Stack(self._architecture, members, size=size, compiled=is_whole)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._alone += members
            self.is_too_large = True
        else:
            self._stacks.append(stack)

    def _dissolve(self, stack: Stack) -> None:
        for slot, member in enumerate(stack.members):
            if member is not None:
                stack.take_out(slot)
                self._alone.append(member)
        self._stacks.remove(stack)

    def _advance(self, stack: Stack) -> list[tuple[Member, float]]:
        """Train a stack for one epoch; if it does not fit in memory, dissolve it untrained."""
        members = [member for member in stack.members if member is not None]
        # A new stack has so far only advanced its members' random states.
        places = {member: member.place() for member in members} if stack.is_new else {}
        try:
            if stack.is_new:
                stack.values()  # fails before training if there is no room
            stack.epoch()
            values = stack.values()
        except Exception as error:  # noqa: BLE001 - stored with each of its trials
            if not places or not is_out_of_memory(error):
                return [(member, _failed(member, error)) for member in members]
            self._stacks.remove(stack)
            for member, place in places.items():
                member.go_back(place)
            self._alone += members
            self.is_too_large = True
            return []
        return [
            (member, value)
            for member, value in zip(stack.members, values, strict=True)
            if member is not None
        ]


def _epoch_alone(member: Member) -> float:
    try:
        return member.epoch()
    except Exception as error:  # noqa: BLE001 - stored with its trial
        return _failed(member, error)


def _failed(member: Member, error: Exception) -> float:
    member.error = error
    return math.nan
