"""Columns of a frame of interactions, found by what data sets usually call them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.frames import Column

__all__ = ["feature_columns", "found_column", "optional_column", "usual_column"]

# What data sets call these columns, without case, spaces and underscores, the usual names first.
_USUAL_NAMES = {
    "user": ("userid", "user", "uid", "userindex", "customerid", "reviewerid", "visitorid"),
    "item": (
        *("itemid", "item", "iid", "itemindex", "movieid", "movie", "productid", "parentasin"),
        *("asin", "bookid", "trackid", "songid", "artistid", "gameid", "businessid", "articleid"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "datetime", "date", "unixreviewtime", "unixtime", "ts"),
}


def found_column(argument: str, name: str, columns: Mapping[str, Column]) -> str:
    """Return a column's name, found by what it is usually called if it is "auto"."""
    if name != "auto":
        return one_of(argument, str(name), columns)
    usual = usual_column(argument, columns)
    if usual is None:
        raise InvalidArgument(
            f"`{argument}` must name the column of {argument}s, as no column has a usual name, got "
            f"the columns {list(columns)}: give `{argument}=`."
        )
    return usual


def optional_column(
    argument: str, name: str | None, columns: Mapping[str, Column]
) -> NDArray[Any] | None:
    """Return a column that need not be there."""
    if name is None or (name == "auto" and usual_column(argument, columns) is None):
        return None
    return columns[found_column(argument, name, columns)].array()


def usual_column(argument: str, columns: Mapping[str, Column]) -> str | None:
    plain = {re.sub(r"[\s_-]", "", name).lower(): name for name in reversed(list(columns))}
    return next((plain[name] for name in _USUAL_NAMES[argument] if name in plain), None)


def feature_columns(
    argument: str, features: Any, id_column: str, columns: Mapping[str, Column]
) -> Any:
    """Return the frame of features: the one given, or some columns of the interactions'."""
    if not isinstance(features, list):
        return features
    names = [id_column, *(one_of(argument, name, columns) for name in features)]
    return {name: columns[name].values() for name in names}
