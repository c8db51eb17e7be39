"""Interactions: who took which item, when, encoded so that rows of matrices are users and items."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, one_of
from hpolab.frames import read_columns
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.recommender.features import Features
from hpolab.recommender.ids import encode_ids, open_column
from hpolab.recommender.text_tables import read_text_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.frames import Column

__all__ = ["Interactions"]

_logger = get_logger(__name__)

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
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, repr=False)
class Interactions(Displayed):
    """Interactions of users with items, one a row, in the order given.

    Attributes:
        users: The user of each row as a code, (n,) of 0 to n_users - 1.
        items: The item of each row as a code, (n,) of 0 to n_items - 1.
        user_ids: The users by their codes, (n_users,).
        item_ids: The items by their codes, (n_items,).
        ratings: (n,), or None where an interaction is all that is known.
        timestamps: (n,) in any unit that grows with time, or None.
        user_features: Side features of the users by their codes, or None.
        item_features: Side features of the items by their codes, or None.
        n_duplicates: Rows that were dropped, as a later one has the same user and item.
        n_unknown: Rows that were dropped, as their user or item is unknown.

    Example:
        >>> data = Interactions.of(["ann", "bob", "ann"], [7, 7, 9], timestamps=[1, 2, 3])
        >>> data.users, data.items
        (array([0, 1, 0]), array([0, 0, 1]))
        >>> data.n_users, data.n_items, len(data)
        (2, 2, 3)
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    user_ids: NDArray[Any]
    item_ids: NDArray[Any]
    ratings: NDArray[np.float64] | None = None
    timestamps: NDArray[Any] | None = None
    user_features: Features | None = None
    item_features: Features | None = None
    n_duplicates: int = 0
    n_unknown: int = 0

    @classmethod
    def of(
        cls,
        users: Any,
        items: Any,
        *,
        ratings: Any = None,
        timestamps: Any = None,
        like: Interactions | None = None,
    ) -> Interactions:
        """Encode interactions.

        Of rows with the same user and item the latest is kept, by time or, without, by place. Ids
        are labels, of any kind and sign: a negative number is one like any other.

        Args:
            users: (n,) ids of any kind.
            items: (n,) ids of any kind.
            ratings: (n,) finite numbers, or None.
            timestamps: (n,) numbers, dates, or text such as "2026-01-31 12:00"; or None.
            like: Interactions whose users and items these ones have too; rows with another are
                dropped, and counted. None makes new codes.

        Raises:
            InvalidArgument: If there is no row, or none that ``like`` knows; lengths differ; an id,
                a rating or a timestamp is missing; or a timestamp is text of another form.
            InvalidType: If the ids of one column are of several types, or not of the type of those
                of ``like``.
        """
        columns = {"users": users, "items": items, "ratings": ratings, "timestamps": timestamps}
        opened = {name: open_column(name, v) for name, v in columns.items() if v is not None}
        lengths = {name: len(column) for name, column in opened.items()}
        if len(set(lengths.values())) > 1 or not lengths["users"]:
            raise InvalidArgument(
                f"`users` must be as long as the other columns and hold a row, got {lengths}."
            )
        if ratings is not None:
            opened["ratings"] = _finite(opened["ratings"])
        if timestamps is not None:
            opened["timestamps"] = _times(opened["timestamps"])
        if like is None:
            user_ids, user_codes = np.unique(opened["users"], return_inverse=True)
            item_ids, item_codes = np.unique(opened["items"], return_inverse=True)
        else:
            user_ids, user_codes = like.user_ids, encode_ids("users", like.user_ids, users)
            item_ids, item_codes = like.item_ids, encode_ids("items", like.item_ids, items)
        known = np.flatnonzero((user_codes >= 0) & (item_codes >= 0))
        if not len(known):
            raise InvalidArgument(
                "`like` must know the user and the item of one row at least, got none of "
                f"{len(user_codes)} rows."
            )
        pairs = user_codes[known] * len(item_ids) + item_codes[known]
        rows = known[_latest(pairs, _take(opened.get("timestamps"), known))]
        return cls(
            users=user_codes[rows],
            items=item_codes[rows],
            user_ids=user_ids,
            item_ids=item_ids,
            ratings=_take(opened.get("ratings"), rows),
            timestamps=_take(opened.get("timestamps"), rows),
            user_features=None if like is None else like.user_features,
            item_features=None if like is None else like.item_features,
            n_duplicates=len(known) - len(rows),
            n_unknown=len(user_codes) - len(known),
        )

    @classmethod
    @checks_keywords()
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "auto",
        item: str = "auto",
        rating: str | None = None,
        timestamp: str | None = "auto",
        user_features: Any = None,
        item_features: Any = None,
        like: Interactions | None = None,
    ) -> Interactions:
        """Encode a data frame.

        Args:
            frame: One interaction a row: a frame of pandas, polars or another library, a mapping
                of columns, or a file's path as for `from_file`.
            user: The column of users. "auto" finds it by its usual names: user_id, userId, user
                and the like.
            item: The column of items. "auto" finds it by its usual names: item_id, movieId, asin
                and the like.
            rating: The column of ratings, or None for none: recommenders here learn from what
                users took, whatever the rating. "auto" as for ``timestamp``. The log says so if a
                column with a usual name is not read.
            timestamp: The column of times, or None for none. "auto" finds it by its usual names,
                timestamp, time, date and the like; where there is none, there are no times.
            user_features: A frame with the column ``user``, whose others are side features of
                users, or a list of columns of ``frame``; None for none. See `Features`.
            item_features: The same for items.
            like: As `of`.

        Raises:
            InvalidArgument: As `of`, or if a column is missing.
            InvalidType: As `of`, or if ``frame`` is none of these.

        Example:
            >>> data = Interactions.from_frame(
            ...     {"userId": [7, 7, 8], "movieId": [1, 2, 1], "timestamp": [20, 10, 30]}
            ... )
            >>> data.user_ids, data.timestamps
            (array([7, 8]), array([20, 10, 30]))
        """
        if isinstance(frame, str | Path):
            frame = read_text_table(frame)
        columns = read_columns("frame", frame)
        user, item = _found("user", user, columns), _found("item", item, columns)
        left = _usual("rating", columns) if rating is None else None
        if left is not None and left not in (user, item, timestamp):
            _logger.info(
                f"Column {left!r} is not read: `rating={left!r}` reads it as the ratings of the "
                "interactions."
            )
        data = cls.of(
            columns[user].array(),
            columns[item].array(),
            ratings=_optional("rating", rating, columns),
            timestamps=_optional("timestamp", timestamp, columns),
            like=like,
        )
        if user_features is not None:
            table = _features("user_features", user_features, user, columns)
            data = replace(data, user_features=Features.of(data.user_ids, table, id_column=user))
        if item_features is not None:
            table = _features("item_features", item_features, item, columns)
            data = replace(data, item_features=Features.of(data.item_ids, table, id_column=item))
        return data

    @classmethod
    @checks_keywords()
    def from_file(
        cls,
        path: str | Path,
        *,
        columns: Sequence[str] | None = None,
        separator: str | None = None,
        **options: Any,
    ) -> Interactions:
        """Encode a text file of a row a line: CSV, tab-separated, MovieLens's ``u.data``.

        Args:
            path: The file; one that ends in .gz, .bz2 or .xz is unpacked. Types in the header of
                RecBole's files, such as ``user_id:token``, are left out.
            columns: The names of the columns of a file without a header. By default a file whose
                first line holds a number has none, and its columns are user_id, item_id, rating
                and timestamp, as far as there are.
            separator: What stands between two cells. None looks for the most frequent one in the
                first line: "::", a tab, ",", ";", "|" or a space.
            **options: ``user``, ``item``, ``rating``, ``timestamp``, ``user_features``,
                ``item_features`` and ``like`` of `from_frame`.

        Raises:
            DataNotFound: If there is no such file.
            InvalidArgument: As `from_frame`, or if the file is no text table.
            MissingExtra: If pandas is not installed.
        """
        return cls.from_frame(read_text_table(path, columns, separator), **options)

    @property
    def n_users(self) -> int:
        """The number of users, those without a row here included."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """The number of items, those without a row here included."""
        return len(self.item_ids)

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, rows: NDArray[Any]) -> Interactions:
        """Return some of the rows, with the users and items of all."""
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            ratings=_take(self.ratings, rows),
            timestamps=_take(self.timestamps, rows),
        )

    def join(self, other: Interactions) -> Interactions:
        """Return the rows of both, which must have the same users and items."""
        return replace(
            self,
            users=np.concatenate([self.users, other.users]),
            items=np.concatenate([self.items, other.items]),
            ratings=_join(self.ratings, other.ratings),
            timestamps=_join(self.timestamps, other.timestamps),
        )

    def matrix(self) -> Any:
        """Return a ``scipy.sparse`` CSR matrix (n_users, n_items): 1 where there is a row."""
        from scipy.sparse import csr_matrix

        ones = np.ones(len(self), np.float32)
        return csr_matrix((ones, (self.users, self.items)), (self.n_users, self.n_items))

    def encode_users(self, ids: Any) -> NDArray[np.int64]:
        """Return the codes of users (n,); -1 for one that is not known.

        Raises:
            InvalidArgument: If an id is missing.
            InvalidType: If the ids are text where the known ones are numbers, or the like.
        """
        return encode_ids("user_ids", self.user_ids, ids)

    def encode_items(self, ids: Any) -> NDArray[np.int64]:
        """Return the codes of items (n,); -1 for one that is not known.

        Raises:
            InvalidArgument: If an id is missing.
            InvalidType: If the ids are text where the known ones are numbers, or the like.
        """
        return encode_ids("item_ids", self.item_ids, ids)

    def _in_one_line(self) -> str:
        n, pairs = len(self), self.n_users * self.n_items
        words = [
            f"{self.n_users:,} users x {self.n_items:,} items, {n:,} interactions "
            f"({100 * n / pairs:.3g} % of all pairs)"
        ]
        if self.timestamps is not None and n:
            unit = "" if self.timestamps.dtype.kind == "M" else "timestamps "
            words.append(f"{unit}{_said(self.timestamps.min())} to {_said(self.timestamps.max())}")
        if self.ratings is not None and n:
            words.append(f"ratings {self.ratings.min():g} to {self.ratings.max():g}")
        for whose, features in (("user", self.user_features), ("item", self.item_features)):
            if features is not None:
                words.append(f"{whose} features {', '.join(features.names)}")
        dropped = {"duplicates": self.n_duplicates, "unknown": self.n_unknown}
        words += [f"{count:,} rows dropped as {why}" for why, count in dropped.items() if count]
        return "; ".join(words)


def _found(argument: str, name: str, columns: Mapping[str, Column]) -> str:
    """Return a column's name, found by what it is usually called if it is "auto"."""
    if name != "auto":
        return one_of(argument, str(name), columns)
    usual = _usual(argument, columns)
    if usual is None:
        raise InvalidArgument(
            f"`{argument}` must name the column of {argument}s, as no column has a usual name, got "
            f"the columns {list(columns)}: give `{argument}=`."
        )
    return usual


def _optional(
    argument: str, name: str | None, columns: Mapping[str, Column]
) -> NDArray[Any] | None:
    """Return a column that need not be there."""
    if name is None or (name == "auto" and _usual(argument, columns) is None):
        return None
    return columns[_found(argument, name, columns)].array()


def _usual(argument: str, columns: Mapping[str, Column]) -> str | None:
    plain = {re.sub(r"[\s_-]", "", name).lower(): name for name in reversed(list(columns))}
    return next((plain[name] for name in _USUAL_NAMES[argument] if name in plain), None)


def _features(argument: str, features: Any, id_column: str, columns: Mapping[str, Column]) -> Any:
    """Return the frame of features: the one given, or some columns of the interactions'."""
    if not isinstance(features, list):
        return features
    names = [id_column, *(one_of(argument, name, columns) for name in features)]
    return {name: columns[name].values() for name in names}


def _latest(pairs: NDArray[np.int64], timestamps: NDArray[Any] | None) -> NDArray[np.int64]:
    """Return the rows to keep, in their order: of each pair the latest."""
    place = np.arange(len(pairs))
    order = np.lexsort((place, place if timestamps is None else timestamps, pairs))
    is_last = np.append(pairs[order][1:] != pairs[order][:-1], True)
    return np.sort(order[is_last])


def _finite(ratings: NDArray[Any]) -> NDArray[np.float64]:
    if ratings.dtype.kind not in "fiub" or not np.isfinite(ratings).all():
        raise InvalidArgument(f"`ratings` must be finite numbers, got an array of {ratings.dtype}.")
    return ratings.astype(np.float64)


def _times(times: NDArray[Any]) -> NDArray[Any]:
    """Return times that can be put in order: numbers or dates."""
    if times.dtype.kind in "fiubmM":
        return times
    return np.array([_moment(time) for time in times.tolist()], "datetime64[us]")


def _moment(time: Any) -> datetime | date:
    if isinstance(time, str) and _ISO_DATE.match(time):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            raise _no_time(time) from None
    if not isinstance(time, date):
        raise _no_time(time)
    if isinstance(time, datetime) and time.tzinfo is not None:
        return time.astimezone(UTC).replace(tzinfo=None)
    return time


def _no_time(time: Any) -> InvalidArgument:
    return InvalidArgument(
        "`timestamps` must be numbers, dates, or text such as '2026-01-31 12:00', got "
        f"{time!r}: convert them, as by `pandas.to_datetime`."
    )


def _join(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if one is None or other is None else np.concatenate([one, other])


def _take(values: NDArray[Any] | None, rows: NDArray[Any]) -> NDArray[Any] | None:
    return None if values is None else values[rows]


def _said(time: Any) -> str:
    """Return a time for a reader: of a date the day alone."""
    return str(time.astype("datetime64[D]")) if time.dtype.kind == "M" else f"{time}"
