"""Columns of strings: which of them are categories, and which are ids, numbers or dates as text."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidType
from hpolab.frames import is_missing
from hpolab.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["categories_of_texts"]

_logger = get_logger(__name__)

# So many different strings are categories whatever their share of the rows is.
_FEW = 20
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")


def categories_of_texts(argument: str, name: str, values: Sequence[Any]) -> tuple[str, ...] | None:
    """Return the categories of a column of strings that nobody has called categorical.

    Args:
        argument: Whose column it is, for messages.
        name: The column.
        values: Its values.

    Returns:
        None if not all of them are strings.

    Raises:
        InvalidType: If they are more likely ids, numbers or dates than categories.

    Example:
        >>> categories_of_texts("train", "city", ["Oslo", None, "Bergen", "Oslo"])
        ('Bergen', 'Oslo')
    """
    present = [value for value in values if not is_missing(value)]
    if not present or not all(isinstance(value, str) for value in present):
        return None
    found = sorted(map(str, set(present)))
    n = len(found)
    if n > _FEW:
        what = _what_else(found, len(present))
        if what is not None:
            raise InvalidType(
                f"`{argument}` must hold numbers or categories, got column {name!r} with {n:,} "
                f"different strings in {len(present):,} rows: {what}; or name it in `categorical` "
                "if these are categories."
            )
    _logger.info(f"Column {name!r} holds {n} different strings, which are taken as categories.")
    return tuple(found)


def _what_else(found: Collection[str], n_rows: int) -> str | None:
    """Return what is to be done with strings that are no categories, None if they are some."""
    n_numbers = sum(_is_number(value) for value in found)
    if n_numbers > 0.8 * len(found):
        strange = [value for value in found if not _is_number(value)]
        besides = f", {strange[0]!r} among them," if strange else ""
        return f"they look like numbers{besides} so convert it, as by `pandas.to_numeric`"
    if sum(_DATE.match(value) is not None for value in found) > 0.8 * len(found):
        return "they look like dates, so make numbers of them, such as year, month and weekday"
    if 2 * len(found) > n_rows:
        return "they look like ids or free text, so leave it out"
    return None


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
