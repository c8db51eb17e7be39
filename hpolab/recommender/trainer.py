"""The contract of a recommender's trainer: what it trains on, epoch by epoch, and how it scores."""

from __future__ import annotations

import abc
import math
from contextlib import nullcontext
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType, check_count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["RecommenderTrainer", "RecommenderTraining", "count_param", "number_param", "param"]


class RecommenderTraining(abc.ABC):
    """A training that runs epoch by epoch.

    What an epoch learns depends on this state alone, so that a training restored by `from_bytes`
    continues exactly.

    Attributes:
        reads_features: Whether side features stand in for the rows of users or items that have
            none. `Recommender` gives popular items to those about whom nothing is known.
    """

    reads_features: bool = False

    @abc.abstractmethod
    def epoch(self) -> None:
        """Go once through the interactions; of a closed form: solve it."""

    @abc.abstractmethod
    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of all items for some users, larger for better.

        Args:
            users: User codes, int64 (b,).

        Returns:
            Float32 or float64 (b, n_items), which the caller may change.
        """

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        """Return the ratings that some users would give to some items.

        A trainer that learns from ratings overrides it.

        Args:
            users: User codes, int64 (n,).
            items: Item codes, int64 (n,).

        Returns:
            (n,), within the range of the ratings trained on.

        Raises:
            InvalidArgument: If it predicts none.
        """
        raise InvalidArgument(
            "`predict` needs a model that was trained on ratings, as with `metric='rmse'`: "
            f"{type(self).__name__} predicts no ratings."
        )

    def item_vectors(self) -> NDArray[Any] | None:
        """Return vectors by whose cosine items are compared, (n_items, d).

        None, as here, for a model that has none.
        """
        return None

    def similarities(self, items: NDArray[Any]) -> NDArray[Any]:
        """Return how similar all items are to some items.

        By default the cosines of `item_vectors`. A model that learns similarities overrides it.

        Args:
            items: Item codes, int64 (b,).

        Returns:
            (b, n_items), minus infinity for items that are not similar at all.

        Raises:
            InvalidArgument: If the model has no vectors of items.
        """
        vectors = self.item_vectors()
        if vectors is None:
            raise InvalidArgument(
                "`similar_items` must be asked of a model that knows items by vectors or by "
                f"weights between them, got one of {type(self).__name__}."
            )
        norms = np.linalg.norm(vectors, axis=1)
        vectors = vectors / np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
        similarities: NDArray[Any] = vectors[items] @ vectors.T
        similarities[:, norms == 0] = -np.inf
        return similarities

    def with_history(self, rows: Interactions) -> RecommenderTraining:
        """Return the same model, which scores users by what they took in ``rows``.

        An objective calls it with all that was seen before the rows that are ranked: a model of
        `train` ranks `test` by the rows of `valid`, too, although nothing was learned from them, as
        in production, where users go on between two trainings. It is for a model that reads a
        user's rows as it scores. This default returns the training itself, for a model that has
        learned something of each user instead.

        Args:
            rows: What users took, in the codes of the training rows.

        Returns:
            A training for its `scores` alone.
        """
        return self

    @abc.abstractmethod
    def keep_best(self) -> None:
        """Keep the current model as the best so far."""

    @abc.abstractmethod
    def load_best(self) -> None:
        """Restore the model that `keep_best` kept last."""

    @abc.abstractmethod
    def to_bytes(self) -> bytes:
        """Return the whole state, the best model included."""

    @abc.abstractmethod
    def from_bytes(self, state: bytes) -> None:
        """Restore a state that `to_bytes` returned."""


class RecommenderTrainer(abc.ABC):
    """Trains one kind of model.

    Attributes:
        name: Its name in messages.
        max_epochs: The most epochs that a training can use; None if the user decides. It is 1 for
            a model with a closed form.
        reads_ratings: Whether every training learns from `Interactions.ratings`. Trainers of torch
            do with the loss "mse" alone.
        reads_weights: Whether it learns from `Interactions.weights`.
    """

    name: str
    max_epochs: int | None = None
    reads_ratings: bool = False
    reads_weights: bool = False

    @abc.abstractmethod
    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        """Return a training before its first epoch.

        Args:
            params: Name -> value, as `recommender_space` names them.
            train: What to learn from.
            seed: Seeds everything random.
            max_epochs: Epochs of a full training, over which a learning-rate schedule stretches.

        Raises:
            InvalidArgument: If a parameter is missing or out of its range.
        """

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return a context that seeds global random state and restores it afterwards."""
        return nullcontext()


def count_param(params: Mapping[str, Any], name: str) -> int:
    """Return a parameter that is a count.

    Raises:
        InvalidArgument: If it is missing or below 1.
        InvalidType: If it is no int.
    """
    value = param(params, name)
    check_count(name, value)
    return int(value)


def number_param(
    params: Mapping[str, Any],
    name: str,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
) -> float:
    """Return a parameter that is a finite number.

    Raises:
        InvalidArgument: If it is missing, not finite, or out of its range.
        InvalidType: If it is no number.

    Example:
        >>> number_param({"l2": 0}, "l2", above=0)
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `l2` must be above 0, got 0.
    """
    value = param(params, name)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"`{name}` must be a number, got {type(value).__name__}.")
    if not math.isfinite(value):
        raise InvalidArgument(f"`{name}` must be finite, got {value}.")
    if value <= above:
        raise InvalidArgument(f"`{name}` must be above {above:g}, got {value}.")
    if value < at_least:
        raise InvalidArgument(f"`{name}` must be {at_least:g} or above, got {value}.")
    return float(value)


def param(params: Mapping[str, Any], name: str) -> Any:
    """Return a parameter.

    Raises:
        InvalidArgument: If it is missing.
    """
    if name not in params:
        given = ", ".join(repr(known) for known in sorted(params)) or "none"
        raise InvalidArgument(f"`{name}` must be among the parameters, got {given}.")
    return params[name]
