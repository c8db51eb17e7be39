"""Trials of one architecture, which advance together."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING

from optuna.logging import get_logger

from hpolab.fused.stack import Stack
from hpolab.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.fused.architecture import Architecture
    from hpolab.fused.member import Member

__all__ = ["Group"]

_logger = get_logger(__name__)


class Group:
    """Members of one architecture: stacks of them, and those that train alone.

    A stack that has lost half of its members and more is dissolved, so that few slots are empty;
    one member alone trains as every lone trial. Where a stack does not fit in memory, the group
    goes on in smaller ones.

    Args:
        architecture: What the members share; None if they cannot be stacked.
        size: The largest stack.
        compiled: Whether stacks of that size are compiled; smaller ones never are.
    """

    def __init__(self, architecture: Architecture | None, size: int, *, compiled: bool) -> None:
        self._architecture = architecture
        self._size = size if architecture is not None else 1
        self._compiled = compiled
        self._stacks: list[Stack] = []
        self._alone: list[Member] = []
        self._has_fitted = 0

    @property
    def members(self) -> list[Member]:
        """All members."""
        stacked = [member for stack in self._stacks for member in stack.members]
        return [member for member in stacked if member is not None] + self._alone

    def add(self, member: Member) -> None:
        """Let a member advance with the group from its next epoch on."""
        self._alone.append(member)

    def remove(self, member: Member) -> None:
        """Let a member go, its model being that of its best epoch."""
        for stack in self._stacks:
            if member in stack.members:
                slot = stack.members.index(member)
                if member.error is None:
                    stack.take_best_out(slot)
                stack.remove(slot)
                return
        self._alone.remove(member)

    def advance(self) -> list[tuple[Member, float]]:
        """Train all members for an epoch; return each with its metric.

        Those that an error has ended keep it, and are returned with NaN.
        """
        self._arrange()
        advanced: list[tuple[Member, float]] = []
        for stack in list(self._stacks):
            advanced += self._advance(stack)
        # What did not fit in memory is among them by now.
        return advanced + [(member, _epoch_alone(member)) for member in self._alone]

    def keep_best(self) -> None:
        """Keep the models of members whose last report was their best."""
        for stack in self._stacks:
            stack.keep_best(
                [
                    slot
                    for slot, member in enumerate(stack.members)
                    if member is not None and member.reporter.improved
                ]
            )
        for member in self._alone:
            if member.reporter.improved:
                member.training.keep_best()

    def state(self, member: Member) -> bytes:
        """Return a member's checkpoint."""
        for stack in self._stacks:
            if member in stack.members:
                stack.take_out(stack.members.index(member))
        return member.state()

    def _arrange(self) -> None:
        """Fill free slots, make stacks of those that are left, and dissolve half-empty ones."""
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
            self._stacks.append(Stack(self._architecture, members, size=size, compiled=is_whole))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._alone += members
            self._shrink(size)

    def _dissolve(self, stack: Stack) -> None:
        for slot, member in enumerate(stack.members):
            if member is not None:
                stack.take_out(slot)
                self._alone.append(member)
        self._stacks.remove(stack)

    def _advance(self, stack: Stack) -> list[tuple[Member, float]]:
        """Train a stack for an epoch; nothing, its members being alone, if it does not fit."""
        before = self._states(stack) if stack.size > self._has_fitted else {}
        try:
            stack.epoch()
            values = stack.values()
        except Exception as error:  # noqa: BLE001 - stored with each of its trials
            members = [member for member in stack.members if member is not None]
            if not before or not is_out_of_memory(error):
                return [(member, _failed(member, error)) for member in members]
            self._stacks.remove(stack)
            for member, state in before.items():
                member.go_back(state)
                self._alone.append(member)
            self._shrink(stack.size)
            return []
        self._has_fitted = max(self._has_fitted, stack.size)
        return [
            (member, value)
            for member, value in zip(stack.members, values, strict=True)
            if member is not None
        ]

    def _states(self, stack: Stack) -> dict[Member, bytes]:
        """Return what members were before an epoch that may be more than memory holds."""
        return {member: self.state(member) for member in stack.members if member is not None}

    def _shrink(self, size: int) -> None:
        self._size = max(1, size // 2)
        self._compiled = False
        gc.collect()
        _logger.warning(
            f"{size} trials do not fit in memory as one; the study goes on with {self._size} at "
            "once."
        )


def _epoch_alone(member: Member) -> float:
    try:
        return member.epoch()
    except Exception as error:  # noqa: BLE001 - stored with its trial
        return _failed(member, error)


def _failed(member: Member, error: Exception) -> float:
    member.error = error
    return math.nan
