"""The baseline of predicted ratings: a mean, and by how much a user and an item are off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument
from hpolab.recommender.classical import ClosedForm
from hpolab.recommender.trainer import RecommenderTrainer, RecommenderTraining, number_param

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["RatingBias"]


class RatingBias(RecommenderTrainer):
    """Predicts μ + b_i + b_u, what a model of tastes must beat.

    b_i is the mean of an item's ratings less μ, b_u that of a user's less μ and b_i, each drawn
    towards zero where ratings are few (Koren 2010, "Factor in the neighbors: Scalable and accurate
    collaborative filtering", ACM TKDD, section 2.1).

    Parameters of a trial: `item_damping` and `user_damping`, 0 or above: as many ratings at zero
    are added to an item's and a user's own.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of(["a", "a", "b"], ["x", "y", "y"], ratings=[5.0, 3.0, 1.0])
        >>> params = {"item_damping": 1.0, "user_damping": 1.0}
        >>> training = RatingBias().start(params, train, seed=0, max_epochs=1)
        >>> training.epoch()
        >>> training.predict(np.array([0, 1]), np.array([1, 0])).round(2)
        array([2.89, 3.33])
    """

    name = "rating_bias"
    max_epochs = 1
    reads_ratings = True

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        return _RatingBiasTraining(
            train,
            item_damping=number_param(params, "item_damping", at_least=0.0),
            user_damping=number_param(params, "user_damping", at_least=0.0),
        )


class _RatingBiasTraining(ClosedForm):
    def __init__(self, train: Interactions, *, item_damping: float, user_damping: float) -> None:
        if train.ratings is None:
            raise InvalidArgument(
                "`train` must have ratings for the trainer 'rating_bias', got none: name their "
                "column, `Interactions.from_frame(frame, rating=...)`."
            )
        super().__init__()
        self._train = train
        self._ratings = train.ratings
        self._item_damping, self._user_damping = item_damping, user_damping

    def _solve(self) -> dict[str, NDArray[Any]]:
        train, mean = self._train, self._ratings.mean()
        rest = self._ratings - mean
        items = _damped_means(train.items, rest, train.n_items, self._item_damping)
        users = _damped_means(
            train.users, rest - items[train.items], train.n_users, self._user_damping
        )
        return {"mean": mean, "items": items, "users": users}

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        found = self._solution
        scores: NDArray[Any] = found["mean"] + found["users"][users][:, None] + found["items"]
        return scores

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        found = self._solution
        predicted = found["mean"] + found["users"][users] + found["items"][items]
        low, high = self._ratings.min(), self._ratings.max()
        clipped: NDArray[Any] = np.clip(predicted, low, high)
        return clipped


def _damped_means(
    codes: NDArray[np.int64], values: NDArray[np.float64], n: int, damping: float
) -> NDArray[np.float64]:
    """Return the mean of the values of each code, (n,), with ``damping`` values of 0 beside."""
    counts = np.bincount(codes, minlength=n) + damping
    means: NDArray[np.float64] = np.bincount(codes, values, n) / np.where(counts == 0, 1, counts)
    return means
