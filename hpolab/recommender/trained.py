"""Recommender: a trained model with the ids of its users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, check_count
from hpolab.keywords import checks_keywords
from hpolab.recommender.saved import read_saved, write_saved
from hpolab.recommender.space import RECOMMENDERS
from hpolab.recommender.trainers import open_trainer
from hpolab.studies.export import in_short

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.trainer import RecommenderTrainer, RecommenderTraining

__all__ = ["Recommender"]


@dataclass(frozen=True, repr=False)
class Recommender(Displayed):
    """A trained recommender.

    Attributes:
        name: Its trainer's name.
        params: What it was trained with.
        n_epochs: Epochs that its weights have seen.
        train: What it was trained on.
        training: The training, at its best epoch.
    """

    name: str
    params: Mapping[str, Any]
    n_epochs: int
    train: Interactions
    training: RecommenderTraining

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of all items for user codes (b,): (b, n_items)."""
        return self.training.scores(users)

    @checks_keywords()
    def recommend(self, user_ids: Any, k: int = 10) -> NDArray[Any]:
        """Return the ids of the best items for some users, the best first, (b, k), or (k,) for one.

        Items that a user has in `train` are left out. A user who is not known, or of whom neither a
        row nor a side feature is there, gets the items that most users have taken.

        Args:
            user_ids: (b,) ids, as they were given; or one id.
            k: How many, 1 to n_items.

        Raises:
            InvalidArgument: If ``k`` is out of its range, or larger than what a user has left, or
                an id is missing.
            InvalidType: If the ids are text where those of `train` are numbers, or the like.
        """
        check_count("k", k)
        if isinstance(user_ids, str | bytes) or not hasattr(user_ids, "__iter__"):
            one: NDArray[Any] = self.recommend([user_ids], k)[0]
            return one
        users = self.train.encode_users(user_ids)
        known = self._has_something_known(users)
        table = np.empty((len(users), self.train.n_items))
        table[~known] = np.bincount(self.train.items, minlength=self.train.n_items)
        if known.any():
            table[known] = self.scores(users[known])
            seen = self.train.matrix()[users[known]].tocoo()
            table[np.flatnonzero(known)[seen.row], seen.col] = -np.inf
        best = np.argsort(-table, axis=1, kind="stable")[:, :k]
        n_left = np.isfinite(table).sum(axis=1)
        if k > n_left.min(initial=self.train.n_items):
            user = self.train.user_ids[users[n_left.argmin()]].item() if len(users) else None
            raise InvalidArgument(
                f"`k` must be at most the number of items that each user has not seen, got {k}, "
                f"where user {user!r} has {n_left.min(initial=self.train.n_items)} left."
            )
        ids: NDArray[Any] = self.train.item_ids[best]
        return ids

    def save(self, path: str | Path) -> None:
        """Write the recommender to a file, with what it was trained on, for `load`.

        Written beside, then moved: an earlier one is there until the new one is whole.

        Args:
            path: The file.

        Raises:
            InvalidType: If ids are objects that are neither numbers, dates nor text.
        """
        facts = {"name": self.name, "params": dict(self.params), "n_epochs": self.n_epochs}
        write_saved(path, facts=facts, state=self.training.to_bytes(), train=self.train)

    @classmethod
    def load(
        cls, path: str | Path, *, trainer: RecommenderTrainer | None = None, device: str = "cpu"
    ) -> Recommender:
        """Read a recommender that `save` wrote; nothing is unpickled.

        Args:
            path: The file.
            trainer: What trained it, where that is a trainer of your own.
            device: Where a model of torch shall live.

        Raises:
            DataNotFound: If there is no such file.
            InvalidArgument: If hpolab did not write it, or it was trained by another trainer.
            MissingExtra: If its trainer needs a package that is not installed.
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
        return cls(name, params, n_epochs, train, training)

    def _has_something_known(self, users: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which users, -1 for an unknown one, there is something to learn from."""
        known = users >= 0
        if self.train.user_features is None:
            known[known] = np.isin(users[known], self.train.users)
        return known

    def _in_one_line(self) -> str:
        params = in_short(self.params, digits=4)
        epochs = "1 epoch" if self.n_epochs == 1 else f"{self.n_epochs} epochs"
        return f"{self.name}, {params}; {epochs} on {self.train._in_one_line()}"
