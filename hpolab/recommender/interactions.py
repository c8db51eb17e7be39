"""Interactions: who took which item, when, encoded so that rows of matrices are users and items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.recommender.features import Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Interactions"]


@dataclass(frozen=True)
class Interactions:
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
            timestamps: (n,) numbers or dates, or None.
            like: Interactions whose users and items these ones have too; rows with another are
                dropped, and counted. None makes new codes.

        Raises:
            InvalidArgument: If there is no row, lengths differ, or an id, a rating or a timestamp
                is missing.
            InvalidType: If the ids of one column are of several types.
        """
        columns = {"users": users, "items": items, "ratings": ratings, "timestamps": timestamps}
        opened = {name: _column(name, v) for name, v in columns.items() if v is not None}
        lengths = {name: len(column) for name, column in opened.items()}
        if len(set(lengths.values())) > 1 or not lengths["users"]:
            raise InvalidArgument(
                f"`users` must be as long as the other columns and hold a row, got {lengths}."
            )
        if ratings is not None:
            opened["ratings"] = _finite(opened["ratings"])
        if like is None:
            user_ids, user_codes = np.unique(opened["users"], return_inverse=True)
            item_ids, item_codes = np.unique(opened["items"], return_inverse=True)
        else:
            user_ids, user_codes = like.user_ids, like.encode_users(opened["users"])
            item_ids, item_codes = like.item_ids, like.encode_items(opened["items"])
        known = np.flatnonzero((user_codes >= 0) & (item_codes >= 0))
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
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        rating: str | None = None,
        timestamp: str | None = None,
        user_features: Any = None,
        item_features: Any = None,
        like: Interactions | None = None,
    ) -> Interactions:
        """Encode a data frame of pandas or polars.

        Args:
            frame: One interaction a row.
            user: The column of users.
            item: The column of items.
            rating: The column of ratings, or None.
            timestamp: The column of times, or None.
            user_features: A frame with the column ``user``, whose others are side features of
                users, or a list of columns of ``frame``; None for none. See `Features`.
            item_features: The same for items.
            like: As `of`.

        Raises:
            InvalidArgument: As `of`, or if a column is missing.
            InvalidType: As `of`.
        """
        columns = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
        for argument, name in columns.items():
            if name is not None and name not in frame.columns:
                raise InvalidArgument(
                    f"`{argument}` must be one of the columns {list(frame.columns)}, got {name!r}."
                )
        data = cls.of(
            frame[user],
            frame[item],
            ratings=None if rating is None else frame[rating],
            timestamps=None if timestamp is None else frame[timestamp],
            like=like,
        )
        return replace(
            data,
            user_features=data.user_features
            if user_features is None
            else Features.of(data.user_ids, _columns(frame, user_features, user), id_column=user),
            item_features=data.item_features
            if item_features is None
            else Features.of(data.item_ids, _columns(frame, item_features, item), id_column=item),
        )

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
        """Return the codes of users; -1 for one that is not known."""
        return _codes(self.user_ids, np.asarray(ids))

    def encode_items(self, ids: Any) -> NDArray[np.int64]:
        """Return the codes of items; -1 for one that is not known."""
        return _codes(self.item_ids, np.asarray(ids))


def _columns(frame: Any, features: Any, id_column: str) -> Any:
    """Return the frame of features: the one given, or some columns of the interactions'."""
    return frame[[id_column, *features]] if isinstance(features, list) else features


def _latest(pairs: NDArray[np.int64], timestamps: NDArray[Any] | None) -> NDArray[np.int64]:
    """Return the rows to keep, in their order: of each pair the latest."""
    place = np.arange(len(pairs))
    order = np.lexsort((place, place if timestamps is None else timestamps, pairs))
    is_last = np.append(pairs[order][1:] != pairs[order][:-1], True)
    return np.sort(order[is_last])


def _codes(ids: NDArray[Any], asked: NDArray[Any]) -> NDArray[np.int64]:
    places = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
    return np.where(ids[places] == asked, places, -1)


def _column(name: str, values: Any) -> NDArray[Any]:
    # Of a list NumPy would make strings of numbers, were there one string among them.
    column = np.asarray(values, dtype=object if isinstance(values, (list, tuple)) else None)
    if column.ndim != 1:
        raise InvalidArgument(f"`{name}` must be of shape (rows,), got {column.shape}.")
    if column.dtype == object:
        column = _of_one_type(name, column)
    missing = np.flatnonzero(column != column)  # NaN and NaT
    if len(missing):
        raise _missing(name, missing)
    return column


def _of_one_type(name: str, column: NDArray[Any]) -> NDArray[Any]:
    values = column.tolist()
    missing = [i for i, value in enumerate(values) if value is None or value != value]
    if missing:
        raise _missing(name, missing)
    kinds = {type(value) for value in values}
    if len(kinds) > 1 and not kinds <= {int, float}:
        raise InvalidType(
            f"`{name}` must be of one type, got {', '.join(sorted(k.__name__ for k in kinds))}."
        )
    return np.array(values)


def _missing(name: str, rows: Any) -> InvalidArgument:
    return InvalidArgument(
        f"`{name}` must all be there, got {len(rows)} missing, the first in row {rows[0]}."
    )


def _finite(ratings: NDArray[Any]) -> NDArray[np.float64]:
    if ratings.dtype.kind not in "fiub" or not np.isfinite(ratings).all():
        raise InvalidArgument(f"`ratings` must be finite numbers, got an array of {ratings.dtype}.")
    return ratings.astype(np.float64)


def _join(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if one is None or other is None else np.concatenate([one, other])


def _take(values: NDArray[Any] | None, rows: NDArray[Any]) -> NDArray[Any] | None:
    return None if values is None else values[rows]
