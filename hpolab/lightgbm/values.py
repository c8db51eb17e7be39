"""The values of LightGBM's parameters, read as LightGBM reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType

__all__ = ["read_name", "read_value"]

# Of these LightGBM makes lower case (`GetBoostingType` and its like in src/io/config.cpp).
_OF_NAMES = frozenset(
    {"boosting", "data_sample_strategy", "device_type", "metric", "objective", "tree_learner"}
)
_SYNONYMS = {"boosting": {"gbrt": "gbdt", "random_forest": "rf"}}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "false": False}


def read_value(argument: str, name: str, value: Any) -> Any:
    """Return the value of a parameter as a plain one: numbers given as text as numbers, say.

    Args:
        argument: Where it was given, for messages.
        name: The parameter's main name.
        value: What came.

    Raises:
        InvalidArgument: If text has a space or "=", where LightGBM would stop reading.
        InvalidType: If LightGBM takes no such value.

    Example:
        >>> read_value("params", "learning_rate", "0.1"), read_value("params", "boosting", "RF")
        (0.1, 'rf')
    """
    if callable(value) and name in ("objective", "metric"):
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim <= 1):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return [_item(argument, name, each) for each in value]
    if isinstance(value, Path):
        value = str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(argument, name, value)
    hint = " Give one value for each column." if hasattr(value, "keys") else ""
    raise InvalidType(
        f"`{argument}` must give LightGBM a number, text or a list for {name!r}, got "
        f"{type(value).__name__}.{hint}"
    )


def read_name(argument: str, value: str) -> str:
    """Return the name of an objective or a metric as LightGBM spells it.

    Raises:
        InvalidArgument: If there are several names, or none.

    Example:
        >>> read_name("objective", "Binary")
        'binary'
    """
    name = value.strip().lower()
    if not name or re.search(r"[\s,=]", name):
        raise InvalidArgument(f"`{argument}` must be one name, got {value!r}.")
    return name


def _item(argument: str, name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):  # interaction constraints
        return [_item(argument, name, each) for each in value]
    return read_value(argument, name, value)


def _text(argument: str, name: str, value: str) -> Any:
    text = value.strip()
    if re.search(r"[\s=]", text):
        raise InvalidArgument(
            f"`{argument}` must give {name!r} as text without spaces and '=', after which LightGBM "
            f"does not read on, got {value!r}."
        )
    if name in _OF_NAMES:
        text = text.lower()
        return _SYNONYMS.get(name, {}).get(text, text)
    if name.endswith("_filename"):
        return text
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    return _BOOLEANS.get(text.lower(), text)
