"""What a look at a study finds, on any storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import create_trial

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial, TrialState

__all__ = ["CONSTRAINTS", "Glance", "violates"]

CONSTRAINTS = "constraints"
"""How the names of the system attributes begin in which Optuna keeps constraints."""


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


def violates(system_attrs: Mapping[str, Any]) -> bool:
    """Tell whether a trial with these system attributes violates a constraint.

    Example:
        >>> violates({"constraints:latency": 2.0}), violates({"constraints": [0.0, -1.0]})
        (True, False)
    """
    kept = {key: value for key, value in system_attrs.items() if key.startswith(CONSTRAINTS)}
    if not kept:
        return False
    constraints = create_trial(value=0.0, system_attrs=kept).constraints
    return not all(violation <= 0 for violation in constraints.values())
