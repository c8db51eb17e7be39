"""What a look at a study finds, on any storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter

    from optuna.trial import FrozenTrial, TrialState

__all__ = ["Glance"]


@dataclass(frozen=True)
class Glance:
    """What a look at a study finds.

    Attributes:
        n_by_state: How many trials it has of each state.
        best: (number, value) of the best trial that violates no constraint, the earliest among
            equals; None without one, and for a study with several objective values.
        running: Its RUNNING trials, with their attributes.
    """

    n_by_state: Counter[TrialState]
    best: tuple[int, float] | None
    running: list[FrozenTrial]
