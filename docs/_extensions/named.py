"""Samplers and pruners by name, from the tables that `make_sampler` and `make_pruner` read."""

from __future__ import annotations

__all__ = ["pruners", "samplers"]


def samplers() -> str:
    """Return a table of the samplers' names."""
    return ""


def pruners() -> str:
    """Return a table of the pruners' names."""
    return ""
