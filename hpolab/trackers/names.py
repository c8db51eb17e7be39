"""What trackers call things in their stores, the same in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpolab.errors import InvalidType

__all__ = ["as_tags", "best_name", "check_name", "curve_name", "trial_name"]


def curve_name(metric: str) -> str:
    """Return what the curve of a trial's reports is called; the value has the metric's own name.

    The two may be of different data: reports steer a trial, its value ranks it.

    Example:
        >>> curve_name("accuracy")
        'accuracy_by_step'
    """
    return f"{metric}_by_step"


def best_name(metric: str) -> str:
    """Return what the study's best value by now is called."""
    return f"best_{metric}"


def trial_name(number: int) -> str:
    """Return what people call a trial's run."""
    return f"trial {number}"


def as_tags(tags: Any) -> dict[str, str]:
    """Return tags as a dict of texts.

    Raises:
        InvalidType: If ``tags`` is no dict.
    """
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidType(f"`tags` must be a dict of names and texts, got {type(tags).__name__}.")
    return {str(name): str(value) for name, value in tags.items()}


def check_name(argument: str, value: Any) -> None:
    """Refuse what is neither a text nor None.

    Raises:
        InvalidType: If it is not.
    """
    if value is not None and not isinstance(value, str):
        raise InvalidType(f"`{argument}` must be a str, or None, got {type(value).__name__}.")
