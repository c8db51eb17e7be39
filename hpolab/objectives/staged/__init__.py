"""Staged objectives: a training that is done once, and cheap parameters tuned on what it made."""

from __future__ import annotations

from hpolab.objectives.staged.objective import Staged, StagedObjective
from hpolab.objectives.staged.post import Tuned

__all__ = ["Staged", "StagedObjective", "Tuned"]
