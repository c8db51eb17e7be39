"""Trials of one architecture trained as one model."""

from hpolab.fused.rules import RULES, Rule
from hpolab.fused.worker import work_fused

__all__ = ["RULES", "Rule", "work_fused"]
