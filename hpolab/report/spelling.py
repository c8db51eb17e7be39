"""A configuration in the notations that a reader may copy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.report.blocks import Snippets
from hpolab.studies.export import as_overrides, as_python, as_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["spelled"]

_DIGITS = 5


def spelled(
    title: str,
    notes: Sequence[str],
    params: Mapping[str, Any],
    prefixes: Mapping[str, str | None] | None = None,
) -> Snippets:
    """Return a configuration to copy: exact as YAML and Python, rounded for a command line."""
    params = {name: _plain(value) for name, value in params.items()}
    known = {name: prefix for name, prefix in (prefixes or {}).items() if name in params}
    try:
        overrides = shlex.join(as_overrides(params, prefixes=known, digits=_DIGITS))
    except (InvalidArgument, InvalidType) as error:
        overrides = f"(none: {error})"
    texts = {
        "YAML": as_yaml(params),
        f"Overrides, {_DIGITS} digits": overrides,
        "Python": as_python(params),
    }
    return Snippets(title, notes, texts, overrides)


def _plain(value: Any) -> Any:
    """Return a value that every notation knows: trials may hold NumPy numbers or any object."""
    if isinstance(value, np.generic):
        value = value.item()
    known = isinstance(value, str | bool | int | float | list | dict)
    return value if known or value is None else str(value)
