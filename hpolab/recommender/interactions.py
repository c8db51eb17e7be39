"""Interactions: who took which item, when, encoded so that rows of matrices are users and items."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.frames import read_columns
from hpolab.keywords import checks_keywords
from hpolab.recommender.columns import (
    feature_columns,
    found_column,
    optional_column,
    usual_column,
)
from hpolab.recommender.features import Features
from hpolab.recommender.ids import encode_ids, open_column
from hpolab.recommender.text_tables import read_text_table
from hpolab.recommender.timestamps import open_timestamps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from numpy.typing import NDArray

    from hpolab.frames import Column

__all__ = ["Interactions"]

_DUPLICATES = ("last", "sum", "keep")


class InteractionsOptions(TypedDict, total=False):
    """Arguments of `Interactions.of` that `Interactions.from_frame` passes on."""

    threshold: float | None
    duplicates: str
    like: Interactions | None


@dataclass(frozen=True, repr=False)
class Interactions(Displayed):
    """Interactions of users with items, one a row, in the order given.

    Attributes:
        users: The user of each row as a code, (n,) of 0 to n_users - 1.
        items: The item of each row as a code, (n,) of 0 to n_items - 1.
        user_ids: The users by their codes, (n_users,).
        item_ids: The items by their codes, (n_items,).
        ratings: What users gave, (n,), to be predicted with the metric "rmse" or "mae"; None where
            an interaction is all that is known.
        weights: How much each row counts, (n,) above 0, such as the number of plays; None for
            rows that all count as one.
        timestamps: (n,) in any unit that grows with time, or None.
        user_features: Side features of the users by their codes, or None.
        item_features: Side features of the items by their codes, or None.
        n_duplicates: Rows that were dropped or summed up, as a later one has the same user and
            item.
        n_below: Rows that were dropped, as their rating is below the threshold.
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
    weights: NDArray[np.float64] | None = None
    n_below: int = 0

    @classmethod
    @checks_keywords()
    def of(
        cls,
        users: Any,
        items: Any,
        *,
        ratings: Any = None,
        weights: Any = None,
        timestamps: Any = None,
        threshold: float | None = None,
        duplicates: str = "last",
        like: Interactions | None = None,
    ) -> Interactions:
        """Encode interactions.

        Ids are labels, of any kind and sign: a negative number is one like any other.

        Args:
            users: (n,) ids of any kind.
            items: (n,) ids of any kind.
            ratings: (n,) finite numbers, or None.
            weights: (n,) finite numbers above 0, or None.
            timestamps: (n,) numbers, dates, or text such as "2026-01-31 12:00"; or None.
            threshold: Keep rows whose rating is at least this: what users liked. The others are
                dropped and counted, and no rating is left, as all that are kept mean the same. Of
                a user who rated an item twice the latest rating decides.
            duplicates: What becomes of rows with the same user and item. "last" keeps the latest,
                by time or, without, by place. "sum" keeps the latest with the sum of all weights,
                which without ``weights`` is the number of rows. "keep" keeps all, as for what is
                taken again and again.
            like: Interactions whose users and items these ones have too; rows with another are
                dropped, and counted. None makes new codes.

        Raises:
            InvalidArgument: If there is no row, or none that ``like`` knows or that reaches the
                threshold; lengths differ; an id, a rating, a weight or a timestamp is missing; a
                weight is not above 0; a timestamp is text of another form; or a threshold is there
                without ratings, or the sum of duplicates with them.
            InvalidType: If the ids of one column are of several types, or not of the type of those
                of ``like``; or the threshold is no number.
        """
        one_of("duplicates", duplicates, _DUPLICATES)
        given = {"ratings": ratings, "weights": weights, "timestamps": timestamps}
        columns = _opened({"users": users, "items": items, **given})
        _check_meaning(columns, threshold, duplicates)
        if like is None:
            user_ids, user_codes = np.unique(columns["users"], return_inverse=True)
            item_ids, item_codes = np.unique(columns["items"], return_inverse=True)
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
        if duplicates == "sum":
            weights = columns.setdefault("weights", np.ones(len(user_codes)))
            weights[known] = _summed(weights[known], pairs)
        rows = known
        if duplicates != "keep":
            rows = known[_latest(pairs, _take(columns.get("timestamps"), known))]
        n_duplicates = len(known) - len(rows)
        if threshold is not None:
            rows = _liked(rows, columns.pop("ratings"), threshold)
        data = cls(
            users=user_codes[rows],
            items=item_codes[rows],
            user_ids=user_ids,
            item_ids=item_ids,
            ratings=_take(columns.get("ratings"), rows),
            weights=_take(columns.get("weights"), rows),
            timestamps=_take(columns.get("timestamps"), rows),
            user_features=None if like is None else like.user_features,
            item_features=None if like is None else like.item_features,
            n_duplicates=n_duplicates,
            n_below=len(known) - n_duplicates - len(rows),
            n_unknown=len(user_codes) - len(known),
        )
        return data if like is not None or threshold is None else data.without_empty()

    @classmethod
    @checks_keywords(InteractionsOptions)
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "auto",
        item: str = "auto",
        rating: str | None = "auto",
        weight: str | None = None,
        timestamp: str | None = "auto",
        user_features: Any = None,
        item_features: Any = None,
        **options: Unpack[InteractionsOptions],
    ) -> Interactions:
        """Encode a data frame.

        What a rating means is for you to say: ``threshold=4`` takes what users liked,
        ``weight="rating"`` trains with it as a weight, ``rating="rating"`` keeps it to be predicted
        (metric "rmse"), and ``rating=None`` takes every row, whatever its rating.

        Args:
            frame: One interaction a row: a frame of pandas, polars or another library, a mapping
                of columns, or a file's path as for `from_file`.
            user: The column of users. "auto" finds it by its usual names: user_id, userId, user
                and the like.
            item: The column of items. "auto" finds it by its usual names: item_id, movieId, asin
                and the like.
            rating: The column of ratings, or None for none. "auto" finds it by its usual names,
                rating, stars and the like, for the ``threshold``; without a threshold it is not
                read, and a warning asks what ratings mean.
            weight: The column of weights, such as a count of plays; None for none.
            timestamp: The column of times, or None for none. "auto" finds it by its usual names,
                timestamp, time, date and the like; where there is none, there are no times.
            user_features: A frame with the column ``user``, whose others are side features of
                users, or a list of columns of ``frame``; None for none. See `Features`.
            item_features: The same for items.
            **options: ``threshold``, ``duplicates`` and ``like`` of `of`.

        Raises:
            InvalidArgument: As `of`, or if a column is missing.
            InvalidType: As `of`, or if ``frame`` is none of these.

        Warns:
            UserWarning: If a column looks like ratings, and it is not said what they mean.

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
        user, item = found_column("user", user, columns), found_column("item", item, columns)
        if rating == "auto" and options.get("threshold") is None:
            read = [weight, *_listed(user_features), *_listed(item_features)]
            _ask_what_ratings_mean(columns, read)
            rating = None
        data = cls.of(
            columns[user].array(),
            columns[item].array(),
            ratings=optional_column("rating", rating, columns),
            weights=optional_column("weight", weight, columns),
            timestamps=optional_column("timestamp", timestamp, columns),
            **options,
        )
        if user_features is not None:
            table = feature_columns("user_features", user_features, user, columns)
            data = replace(data, user_features=Features.of(data.user_ids, table, id_column=user))
        if item_features is not None:
            table = feature_columns("item_features", item_features, item, columns)
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
            **options: ``user``, ``item``, ``rating``, ``weight``, ``timestamp``,
                ``user_features``, ``item_features``, ``threshold``, ``duplicates`` and ``like`` of
                `from_frame`.

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
            weights=_take(self.weights, rows),
            timestamps=_take(self.timestamps, rows),
        )

    def join(self, other: Interactions) -> Interactions:
        """Return the rows of both, which must have the same users and items.

        Ratings and weights are left out where one has none. Rows without a timestamp beside ones
        that have them stand at the last moment.

        Raises:
            InvalidArgument: If their ids differ.
        """
        self.check_same_ids(other, "other")
        return replace(
            self,
            users=np.concatenate([self.users, other.users]),
            items=np.concatenate([self.items, other.items]),
            ratings=_join(self.ratings, other.ratings),
            weights=_join(self.weights, other.weights),
            timestamps=_join(self.timestamps, _moments(other, self.timestamps)),
        )

    def matrix(self) -> Any:
        """Return a ``scipy.sparse`` CSR matrix (n_users, n_items): 1 where there is a row."""
        return self._sparse(np.ones(len(self), np.float32)).sign()

    def weighted_matrix(self) -> Any:
        """Return a ``scipy.sparse`` CSR matrix (n_users, n_items) of the sums of weights.

        Without weights every row weighs 1.
        """
        weights = np.ones(len(self)) if self.weights is None else self.weights
        return self._sparse(weights.astype(np.float32))

    def without_empty(self) -> Interactions:
        """Return the same rows with the users and items alone that occur in them."""
        users, user_codes = np.unique(self.users, return_inverse=True)
        items, item_codes = np.unique(self.items, return_inverse=True)
        if len(users) == self.n_users and len(items) == self.n_items:
            return self
        user_features, item_features = self.user_features, self.item_features
        return replace(
            self,
            users=user_codes,
            items=item_codes,
            user_ids=self.user_ids[users],
            item_ids=self.item_ids[items],
            user_features=None if user_features is None else user_features.rows(users),
            item_features=None if item_features is None else item_features.rows(items),
        )

    def check_same_ids(self, other: Interactions, name: str) -> None:
        """Refuse interactions whose codes stand for other users or items than here.

        Args:
            other: The interactions.
            name: Their name, for the message.

        Raises:
            InvalidArgument: If their ids differ.
        """
        for kind in ("user_ids", "item_ids"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            if mine is theirs or np.array_equal(mine, theirs):
                continue
            whose = kind.removesuffix("_ids")
            raise InvalidArgument(
                f"`{name}` must have the {whose}s of the interactions beside it, {len(mine):,} "
                f"ids, got {len(theirs):,} {'other ' if len(mine) == len(theirs) else ''}ids: "
                "encode all rows together and split them, or encode these by "
                "`Interactions.from_frame(frame, like=train)`."
            )

    def _sparse(self, values: NDArray[np.float32]) -> Any:
        from scipy.sparse import csr_matrix

        return csr_matrix((values, (self.users, self.items)), (self.n_users, self.n_items))

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
        for name, values in (("ratings", self.ratings), ("weights", self.weights)):
            if values is not None and n:
                words.append(f"{name} {values.min():g} to {values.max():g}")
        for whose, features in (("user", self.user_features), ("item", self.item_features)):
            if features is not None:
                words.append(f"{whose} features {', '.join(features.names)}")
        dropped = {
            "dropped as duplicates": self.n_duplicates,
            "dropped as rated below the threshold": self.n_below,
            "dropped as unknown": self.n_unknown,
        }
        words += [f"{count:,} rows {why}" for why, count in dropped.items() if count]
        return "; ".join(words)


def _latest(pairs: NDArray[np.int64], timestamps: NDArray[Any] | None) -> NDArray[np.int64]:
    """Return the rows to keep, in their order: of each pair the latest."""
    place = np.arange(len(pairs))
    order = np.lexsort((place, place if timestamps is None else timestamps, pairs))
    is_last = np.append(pairs[order][1:] != pairs[order][:-1], True)
    return np.sort(order[is_last])


def _opened(given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the columns that are given, as arrays of one length (n,)."""
    columns = {name: open_column(name, v) for name, v in given.items() if v is not None}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["users"]:
        raise InvalidArgument(
            f"`users` must be as long as the other columns and hold a row, got {lengths}."
        )
    for name in ("ratings", "weights"):
        if name in columns:
            columns[name] = _finite(name, columns[name])
    if "weights" in columns and columns["weights"].min() <= 0:
        raise InvalidArgument(
            f"`weights` must be above 0, got {columns['weights'].min():g}: leave out rows that "
            "shall not count."
        )
    if "timestamps" in columns:
        columns["timestamps"] = open_timestamps(columns["timestamps"])
    return columns


def _check_meaning(
    columns: Mapping[str, NDArray[Any]], threshold: float | None, duplicates: str
) -> None:
    """Refuse a threshold that is no number, or of nothing, and sums of ratings."""
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, Real)):
        raise InvalidType(f"`threshold` must be a number, got {threshold!r}.")
    if threshold is not None and "ratings" not in columns:
        raise InvalidArgument(
            f"`threshold` must be of ratings, got {threshold} and no ratings: name their column, "
            "`Interactions.from_frame(frame, rating=..., threshold=...)`."
        )
    if duplicates == "sum" and "ratings" in columns:
        raise InvalidArgument(
            "`duplicates` must be 'last' or 'keep' where there are ratings, of which a sum means "
            "nothing, got 'sum': it is for weights, such as counts of plays."
        )


def _summed(weights: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row the sum of the weights of all rows with its user and item."""
    _, pair_of_row = np.unique(pairs, return_inverse=True)
    sums = np.bincount(pair_of_row, weights).astype(np.float64)
    return sums[pair_of_row]


def _liked(
    rows: NDArray[np.int64], ratings: NDArray[np.float64], threshold: float
) -> NDArray[np.int64]:
    """Return the rows whose rating reaches the threshold."""
    liked = rows[ratings[rows] >= threshold]
    if not len(liked):
        raise InvalidArgument(
            f"`threshold` must be reached by a rating at least, got {threshold}, where ratings are "
            f"{ratings[rows].min():g} to {ratings[rows].max():g}."
        )
    return liked


def _listed(features: Any) -> list[str]:
    """Return the columns of the interactions that are side features."""
    return features if isinstance(features, list) else []


def _ask_what_ratings_mean(columns: Mapping[str, Column], read: Sequence[str | None]) -> None:
    """Warn of a column that looks like ratings and is not read."""
    found = usual_column("rating", columns)
    if found is None or found in read:
        return
    warnings.warn(
        f"Column {found!r} is not read: every row counts as an interaction, whatever its rating. "
        f"Say what ratings mean: `threshold=4` takes rows rated 4 and above, `weight={found!r}` "
        f"trains with them as weights, `rating={found!r}` keeps them to be predicted with "
        "metric='rmse', `rating=None` takes every row.",
        stacklevel=4,
    )


def _finite(name: str, numbers: NDArray[Any]) -> NDArray[np.float64]:
    if numbers.dtype.kind not in "fiub" or not np.isfinite(numbers).all():
        raise InvalidArgument(f"`{name}` must be finite numbers, got an array of {numbers.dtype}.")
    return numbers.astype(np.float64)


def _moments(rows: Interactions, before: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return the timestamps of rows; where they have none, the last of those before them."""
    if rows.timestamps is not None or before is None or not len(before):
        return rows.timestamps
    return np.full(len(rows), before.max(), before.dtype)


def _join(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if one is None or other is None else np.concatenate([one, other])


def _take(values: NDArray[Any] | None, rows: NDArray[Any]) -> NDArray[Any] | None:
    return None if values is None else values[rows]


def _said(time: Any) -> str:
    """Return a time for a reader: of a date the day alone."""
    return str(time.astype("datetime64[D]")) if time.dtype.kind == "M" else f"{time}"
