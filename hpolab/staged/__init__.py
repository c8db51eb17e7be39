"""Staged objectives: parameters tuned on what a training made, without training again."""
