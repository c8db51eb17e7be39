"""What each storage promises, as `check_storage` says it."""

from __future__ import annotations

__all__ = ["promises"]


def promises() -> str:
    """Return a table of promises."""
    return ""
