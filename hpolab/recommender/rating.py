"""Rating metrics: how far predicted ratings are from those that users gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import Diverged, InvalidArgument, one_of
from hpolab.keywords import checks_keywords
from hpolab.recommender.ranking import RankingEstimate
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Predict = Callable[[Ints, Ints], NDArray[Any]]

__all__ = ["RATING_METRICS", "RatingErrors", "RatingTask"]

RATING_METRICS: tuple[str, ...] = ("rmse", "mae")
"""Root mean squared error and mean absolute error over all held-out ratings, in their unit."""


class RatingTask(Displayed):
    """Predict held-out ratings.

    Args:
        held_out: The interactions to predict, with ratings.
        users: Codes of the users whose ratings are predicted; None for all.

    Attributes:
        n_users: Users with a rating to predict.
        facts: What a reader of the metrics must know: counts.

    Raises:
        InvalidArgument: If there are no ratings, or none of these users.

    Example:
        >>> from hpolab import Interactions
        >>> given = Interactions.of(["ann", "ann", "bob"], ["x", "y", "y"], ratings=[5, 3, 1])
        >>> task = RatingTask(held_out=given)
        >>> errors = task.errors(lambda users, items: np.full(len(users), 3.0))
        >>> round(errors.estimate("mae").mean, 2)
        1.33
    """

    @checks_keywords()
    def __init__(self, *, held_out: Interactions, users: NDArray[Any] | None = None) -> None:
        if held_out.ratings is None:
            raise InvalidArgument(
                "`held_out` must have ratings to be predicted, got none: name their column, "
                "`Interactions.from_frame(frame, rating=...)`, without a threshold."
            )
        wanted = slice(None) if users is None else np.flatnonzero(np.isin(held_out.users, users))
        order = np.argsort(held_out.users[wanted], kind="stable")
        self._users: Ints = held_out.users[wanted][order]
        self._items: Ints = held_out.items[wanted][order]
        self._ratings: Floats = held_out.ratings[wanted][order]
        if not len(self._users):
            raise InvalidArgument("`held_out` must hold a rating of these users, got none.")
        self.n_users = len(np.unique(self._users))
        self.facts: dict[str, Any] = {
            "n_users_rated": self.n_users,
            "n_ratings": len(self._ratings),
        }

    def check_metric(self, name: str) -> str:
        """Return a metric's name if it is one of `RATING_METRICS`.

        Raises:
            InvalidArgument: If it is not.
        """
        return one_of("metric", name, RATING_METRICS)

    def errors(self, predict: Predict) -> RatingErrors:
        """Return how far predictions are from the ratings.

        Args:
            predict: User codes (n,) and item codes (n,) -> predicted ratings (n,).

        Raises:
            Diverged: If a prediction is not finite.
            InvalidArgument: If predictions are of another shape.
        """
        predicted = np.asarray(predict(self._users, self._items), np.float64)
        if predicted.shape != self._ratings.shape:
            raise InvalidArgument(
                f"`predict` must return an array of shape {self._ratings.shape}, got "
                f"{predicted.shape}."
            )
        if not np.isfinite(predicted).all():
            raise Diverged("`predict` must return finite ratings, got NaN or infinity.")
        return RatingErrors(self._users, predicted - self._ratings)

    def estimate(self, predict: Predict, metrics: Sequence[str]) -> dict[str, RankingEstimate]:
        """Return metrics of some predictions: name -> value and standard error; see `errors`."""
        errors = self.errors(predict)
        return {name: errors.estimate(name) for name in metrics}

    def _in_one_line(self) -> str:
        return f"{len(self._ratings):,} held-out ratings of {self.n_users:,} users"


@dataclass(frozen=True, repr=False)
class RatingErrors(Displayed):
    """The errors of p predicted ratings of u users.

    Attributes:
        users: The user of each rating, (p,), sorted.
        errors: The prediction less the rating, (p,).
    """

    users: Ints
    errors: Floats

    def estimate(self, name: str) -> RankingEstimate:
        """Return a metric over all ratings, and its standard error by jackknife over users.

        Ratings of one user go together, so that users are the units, as in rankings.

        Args:
            name: One of `RATING_METRICS`.

        Raises:
            InvalidArgument: If there is no such metric.
        """
        return RankingEstimate.of(self.by_user(name))

    def by_user(self, name: str) -> Floats:
        """Return what each user contributes to a metric, (u,), in the order of users.

        Their mean is the metric: they are its jackknife over users (Efron, "The Jackknife, the
        Bootstrap and Other Resampling Plans", 1982), as users have ratings in different numbers.
        """
        losses = _LOSSES[one_of("metric", name, RATING_METRICS)](self.errors)
        _, user_of_rating = np.unique(self.users, return_inverse=True)
        sums, counts = np.bincount(user_of_rating, losses), np.bincount(user_of_rating)
        n = len(counts)
        if n == 1:
            return np.array([self._value(name)])
        without = _END[name]((losses.sum() - sums) / (len(losses) - counts))
        by_user: Floats = self._value(name) + (n - 1) * (without.mean() - without)
        return by_user

    def difference(self, other: RatingErrors, name: str) -> RankingEstimate:
        """Return by how much a metric is above another model's on the same ratings; see `Ranking`.

        Raises:
            InvalidArgument: If the two are not of the same ratings, or as in `estimate`.
        """
        if not np.array_equal(self.users, other.users):
            raise InvalidArgument("`other` must predict the same ratings, got one of another task.")
        return RankingEstimate.of(self.by_user(name) - other.by_user(name))

    def _value(self, name: str) -> float:
        return float(_END[name](_LOSSES[name](self.errors).mean()))

    def _parts(self) -> list[str | TextTable]:
        rows = [
            [name, f"{(found := self.estimate(name)).mean:.4g}", f"{found.standard_error:.2g}"]
            for name in RATING_METRICS
        ]
        said = (
            f"{len(self.errors):,} ratings of {len(np.unique(self.users)):,} users are predicted."
        )
        return [said, TextTable(["metric", "over all ratings", "standard error"], rows)]

    def _in_one_line(self) -> str:
        n_users = len(np.unique(self.users))
        return f"{len(self.errors):,} ratings of {n_users:,} users, rmse {self.estimate('rmse')}"


_LOSSES: Mapping[str, Callable[[Floats], Floats]] = {"rmse": np.square, "mae": np.abs}
_END: Mapping[str, Callable[[Any], Any]] = {"rmse": np.sqrt, "mae": lambda mean: mean}
