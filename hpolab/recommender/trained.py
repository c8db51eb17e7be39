"""Recommender: a trained model with the ids of its users and items."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, check_count, needs
from hpolab.keywords import checks_keywords
from hpolab.recommender.candidates import finite_copy
from hpolab.recommender.ids import open_column
from hpolab.recommender.saved import read_saved, write_saved
from hpolab.recommender.space import RECOMMENDERS
from hpolab.recommender.top import best_columns
from hpolab.recommender.trainers import open_trainer
from hpolab.studies.export import in_short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.trainer import RecommenderTrainer, RecommenderTraining

    Ints = NDArray[np.int64]

__all__ = ["Recommender", "known_users", "load_recommender"]

# Scores in memory at a time: 8 MB of float32.
_MAX_CELLS = 2_000_000


@dataclass(frozen=True, repr=False)
class Recommender(Displayed):
    """A trained recommender.

    Attributes:
        name: Its trainer's name.
        params: What it was trained with.
        n_epochs: Epochs that its weights have seen.
        train: What it was trained on.
        training: The training, at its best epoch.
        facts: The protocol of its objective: how it was split and judged.
    """

    name: str
    params: Mapping[str, Any]
    n_epochs: int
    train: Interactions
    training: RecommenderTraining
    facts: Mapping[str, Any] = field(default_factory=dict)

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of all items for user codes (b,): (b, n_items)."""
        return self.training.scores(users)

    @overload
    def recommend(
        self, user_ids: Any, k: int = 10, *, with_scores: Literal[False] = False
    ) -> NDArray[Any]: ...

    @overload
    def recommend(
        self, user_ids: Any, k: int = 10, *, with_scores: Literal[True]
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    @checks_keywords()
    def recommend(
        self, user_ids: Any, k: int = 10, *, with_scores: bool = False
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Return the ids of the best items for some users, the best first.

        Items that a user has in `train` are left out. Of items with one score that comes first
        whose id does. A user who is not known, or of whom neither a row nor a side feature that the
        model reads is there, gets the items that most users have taken. Users are scored so many at
        a time that 2,000,000 scores, or those of one user, are in memory.

        Args:
            user_ids: (b,) ids, as they were given; or one id.
            k: How many, 1 to n_items.
            with_scores: Whether to return the items' scores as well.

        Returns:
            (b, k) ids, or (k,) for one user. Where a user has fewer items left, the last ones are
            None, in an array of objects; `recommend_frame` has no rows for them. With scores a
            second array of the same shape: NaN for what is None, and for popular items, which the
            model has not scored.

        Raises:
            InvalidArgument: If ``k`` is out of its range, or an id is missing.
            InvalidType: If the ids are text where those of `train` are numbers, or the like.

        Warns:
            UserWarning: If a user has fewer than ``k`` items left.
        """
        ids, is_one = _as_column("user_ids", user_ids)
        listed = self._for_users(ids, k)
        listed.warn_of_missing(ids, "users have", "items left that they have not taken")
        return self._as_arrays(listed, is_one, with_scores)

    @checks_keywords()
    def recommend_frame(self, user_ids: Any, k: int = 10) -> pd.DataFrame:
        """Return what `recommend` does as a table, a row an item.

        Args:
            user_ids: As in `recommend`.
            k: As in `recommend`; users with fewer items left have fewer rows.

        Returns:
            The columns `user_id`, `item_id`, `rank` (1 for the best) and `score`, users as asked.

        Raises:
            InvalidArgument: As in `recommend`.
            InvalidType: As in `recommend`.
            MissingExtra: If pandas is not installed.
        """
        with needs("`recommend_frame`", "pandas", "frames"):
            import pandas as pd

        ids, _ = _as_column("user_ids", user_ids)
        items, scores = self._for_users(ids, k)
        rows, places = np.nonzero(items >= 0)
        return pd.DataFrame(
            {
                "user_id": ids[rows],
                "item_id": self.train.item_ids[items[rows, places]],
                "rank": places + 1,
                "score": scores[rows, places],
            }
        )

    @overload
    def similar_items(
        self, item_ids: Any, k: int = 10, *, with_scores: Literal[False] = False
    ) -> NDArray[Any]: ...

    @overload
    def similar_items(
        self, item_ids: Any, k: int = 10, *, with_scores: Literal[True]
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    @checks_keywords()
    def similar_items(
        self, item_ids: Any, k: int = 10, *, with_scores: bool = False
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Return the ids of the items that are most similar to some items, the most similar first.

        Similar is what the model takes for it: the cosine of items' factors or embeddings, EASE's
        weights from an item to the others, and of item neighbors their similarities. Items about
        which nothing was learned are similar to none: those without a row in `train`, unless the
        model reads side features of theirs.

        Args:
            item_ids: (b,) ids, as they were given; or one id.
            k: How many, 1 to n_items - 1.
            with_scores: Whether to return the similarities as well.

        Returns:
            As in `recommend`: (b, k) or (k,), None where there are fewer.

        Raises:
            InvalidArgument: If ``k`` is out of its range, an id is missing or not known, or the
                model knows nothing of items, as popularity.
            InvalidType: If the ids are text where those of `train` are numbers, or the like.

        Warns:
            UserWarning: If an item has fewer than ``k`` similar ones.
        """
        ids, is_one = _as_column("item_ids", item_ids)
        items = self.train.encode_items(ids)
        if (items < 0).any():
            raise InvalidArgument(
                f"`item_ids` must be items of `train`, got {ids[items < 0].tolist()[0]!r}."
            )
        _check_k(k, self.train.n_items - 1, "n_items - 1")
        features = self.train.item_features if self.training.reads_features else None
        learned = _occurs(self.train.items, self.train.n_items)
        if features is not None:
            learned |= features.is_known()

        def similarities(part: Ints) -> NDArray[Any]:
            table = np.array(self.training.similarities(part), np.float32)
            table[:, ~learned] = -np.inf
            table[~learned[part]] = -np.inf
            table[np.arange(len(part)), part] = -np.inf
            return table

        listed = _best_of(similarities, items, k, self.train.n_items)
        listed.warn_of_missing(ids, "items have", "similar ones")
        return self._as_arrays(listed, is_one, with_scores)

    @checks_keywords()
    def predict(self, user_ids: Any, item_ids: Any) -> NDArray[np.float64]:
        """Return the ratings that some users would give to some items.

        For a user who has no row in `train` it is the mean rating of the item, for an item without
        one that of the user, and for neither that of all.

        Args:
            user_ids: (n,) ids, as they were given.
            item_ids: (n,) ids, as they were given.

        Returns:
            (n,), within the range of the ratings trained on.

        Raises:
            InvalidArgument: If the model predicts no ratings, lengths differ, or an id is missing.
            InvalidType: If the ids are text where those of `train` are numbers, or the like.
        """
        users, items = self.train.encode_users(user_ids), self.train.encode_items(item_ids)
        if len(users) != len(items):
            raise InvalidArgument(
                f"`item_ids` must be as many as `user_ids`, {len(users)}, got {len(items)}."
            )
        predicted = np.empty(len(users))
        known_users = _is_among(users, self.train.users)
        known_items = _is_among(items, self.train.items)
        both = known_users & known_items
        predicted[both] = self.training.predict(users[both], items[both])
        for known, codes, rows in (
            (known_items & ~known_users, items, self.train.items),
            (known_users & ~known_items, users, self.train.users),
        ):
            counts = np.bincount(rows)
            means = np.bincount(rows, self.train.ratings) / np.maximum(counts, 1)
            predicted[known] = means[codes[known]]
        if self.train.ratings is not None:
            predicted[~known_users & ~known_items] = self.train.ratings.mean()
        return predicted

    def save(self, path: str | Path) -> None:
        """Write the recommender to a file, with what it was trained on, for `load_recommender`.

        Ids, side features and the protocol go with it. It is written beside, then moved: an earlier
        one is there until the new one is whole.

        Args:
            path: The file.

        Raises:
            InvalidType: If ids are objects that are neither numbers, dates nor text.
        """
        facts = {"name": self.name, "params": dict(self.params), "n_epochs": self.n_epochs}
        facts["protocol"] = dict(self.facts)
        write_saved(path, facts=facts, state=self.training.to_bytes(), train=self.train)

    @cached_property
    def _taken(self) -> Any:
        return self.train.matrix()

    def _for_users(self, ids: NDArray[Any], k: int) -> _Listed:
        """Return what is recommended to users (b,), those who are not known included."""
        n_items = self.train.n_items
        _check_k(k, n_items, "n_items")
        users = self.train.encode_users(ids)
        known = np.flatnonzero(self._is_known(users))
        # The same for everybody of whom nothing is known, whoever is asked for beside them.
        popular = best_columns(np.bincount(self.train.items, minlength=n_items)[None] + 0.0, k)
        items = np.repeat(popular, len(users), axis=0)
        scores = np.full((len(users), k), np.nan, np.float32)
        items[known], scores[known] = _best_of(self._scores_of_new, users[known], k, n_items)
        return _Listed(items, scores)

    def _scores_of_new(self, users: Ints) -> NDArray[Any]:
        """Return scores (b, n_items), minus infinity for what a user has taken."""
        table = finite_copy(self.scores(users))
        taken = self._taken[users].tocoo()
        table[taken.row, taken.col] = -np.inf
        return table

    def _is_known(self, users: Ints) -> NDArray[np.bool_]:
        """Return of which users, -1 for an unknown one, there is something to score them by."""
        return known_users(self.training, self.train)[users] & (users >= 0)

    def _as_arrays(
        self, listed: _Listed, is_one: bool, with_scores: bool
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        items, scores = listed
        ids = self.train.item_ids[items]
        if (items < 0).any():
            ids = ids.astype(object)
            ids[items < 0] = None
        if is_one:
            ids, scores = ids[0], scores[0]
        return (ids, scores) if with_scores else ids

    def _in_one_line(self) -> str:
        params = in_short(self.params, digits=4)
        epochs = "1 epoch" if self.n_epochs == 1 else f"{self.n_epochs} epochs"
        return f"{self.name}, {params}; {epochs} on {self.train._in_one_line()}"


@checks_keywords()
def load_recommender(
    path: str | Path, *, trainer: RecommenderTrainer | None = None, device: str = "cpu"
) -> Recommender:
    """Read a recommender that `Recommender.save` wrote; nothing is unpickled.

    Args:
        path: The file.
        trainer: What trained it, where that is a trainer of your own.
        device: Where a model of torch shall live.

    Raises:
        DataNotFound: If there is no such file.
        InvalidArgument: If hpolab did not write it, or it was trained by another trainer.
        MissingExtra: If its trainer needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> from hpolab import RecommenderObjective, leave_last_out, make_taste_clusters
        >>> splits = leave_last_out(make_taste_clusters(n_users=60, n_items=40).interactions)
        >>> model = RecommenderObjective("ease", splits).fit({"l2": 10.0}, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     served = load_recommender(f"{folder}/model")
        >>> bool((served.recommend(3) == model.recommend(3)).all())
        True
    """
    facts, state, train = read_saved(path)
    name, params, n_epochs = facts["name"], facts["params"], facts["n_epochs"]
    if trainer is None and name not in RECOMMENDERS:
        raise InvalidArgument(
            f"`trainer` must be the RecommenderTrainer that trained it, {name!r}, got None."
        )
    opened = open_trainer(name, device) if trainer is None else trainer
    if opened.name != name:
        raise InvalidArgument(f"`trainer` must be of {name!r}, got one of {opened.name!r}.")
    length = params.get("schedule_epochs", max(n_epochs, 1))
    with opened.seeded(0):
        training = opened.start(params, train, seed=0, max_epochs=length)
    training.from_bytes(state)
    return Recommender(name, params, n_epochs, train, training, facts.get("protocol", {}))


def known_users(training: RecommenderTraining, rows: Interactions) -> NDArray[np.bool_]:
    """Return of which users there is something to score them by, (n_users,).

    Args:
        training: The model.
        rows: What it knows of users: what it was trained on, or what it reads as it scores.
    """
    known = _occurs(rows.users, rows.n_users)
    if training.reads_features and rows.user_features is not None:
        known |= rows.user_features.is_known()
    return known


def _is_among(codes: Ints, rows: Ints) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isin(codes, rows)
    return found


class _Listed(NamedTuple):
    """The best items of some users or items.

    Attributes:
        items: Item codes, the best first, (b, k); -1 for none.
        scores: Their scores, (b, k); NaN for none.
    """

    items: Ints
    scores: NDArray[Any]

    def warn_of_missing(self, ids: NDArray[Any], who: str, what: str) -> None:
        """Say who has fewer than k.

        Args:
            ids: Whose items they are, (b,).
            who: What they are, with the verb.
            what: What the items are.
        """
        short = np.flatnonzero((self.items < 0).any(axis=1))
        if len(short):
            warnings.warn(
                f"{len(short):,} of {len(ids):,} {who} fewer than {self.items.shape[1]} {what}, "
                f"the first is {ids[short].tolist()[0]!r}: the last places are None.",
                stacklevel=4,
            )


def _best_of(scores: Callable[[Ints], NDArray[Any]], codes: Ints, k: int, n_items: int) -> _Listed:
    """Return the k items of the largest scores, some codes at a time.

    Args:
        scores: Codes (b,) -> scores (b, n_items), minus infinity for what is not to be listed.
        codes: Of users or items, (n,).
        k: How many.
        n_items: The catalog's size.
    """
    items = np.full((len(codes), k), -1)
    found = np.full((len(codes), k), np.nan, np.float32)
    n = max(1, _MAX_CELLS // n_items)
    for start in range(0, len(codes), n):
        rows = slice(start, start + n)
        table = scores(codes[rows])
        best = best_columns(table, k)
        items[rows] = best
        found[rows] = np.where(best < 0, np.nan, np.take_along_axis(table, best, axis=1))
    return _Listed(items, found)


def _as_column(argument: str, ids: Any) -> tuple[NDArray[Any], bool]:
    """Return ids as an array (b,), and whether there was one id alone."""
    if isinstance(ids, np.ndarray) and ids.ndim == 0:
        ids = ids[()]
    is_one = isinstance(ids, str | bytes) or not hasattr(ids, "__iter__")
    return open_column(argument, [ids] if is_one else ids), is_one


def _check_k(k: int, most: int, said: str) -> None:
    check_count("k", k)
    if k > most:
        raise InvalidArgument(f"`k` must be at most {said}, {most}, got {k}.")


def _occurs(codes: Ints, n: int) -> NDArray[np.bool_]:
    return np.bincount(codes, minlength=n) > 0
