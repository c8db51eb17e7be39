"""Objectives: callables that take a trial, made of a search space and a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.objectives.base import Objective

if TYPE_CHECKING:
    from hpolab.objectives.torch import TorchObjective

__all__ = ["Objective", "TorchObjective"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and users of the other trainers may not have it.
    if name == "TorchObjective":
        from hpolab.objectives.torch import TorchObjective

        return TorchObjective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
