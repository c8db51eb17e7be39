"""The contract of a recommender's trainer: what it trains on, epoch by epoch, and how it scores."""

from __future__ import annotations

import abc
import math
from contextlib import nullcontext
from numbers import Real
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, InvalidType, check_count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["RecommenderTrainer", "RecommenderTraining", "count_param", "number_param", "param"]


class RecommenderTraining(abc.ABC):
    """One training between two epochs.

    What it learns in an epoch depends on nothing but its state, so that `to_bytes` and
    `from_bytes` lose nothing.
    """

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

    @abc.abstractmethod
    def keep_best(self) -> None:
        """Take the model as it is for the best so far."""

    @abc.abstractmethod
    def load_best(self) -> None:
        """Go back to the model that `keep_best` has taken last."""

    @abc.abstractmethod
    def to_bytes(self) -> bytes:
        """Return all that is needed to go on, the best model included."""

    @abc.abstractmethod
    def from_bytes(self, state: bytes) -> None:
        """Go on where `to_bytes` was called."""


class RecommenderTrainer(abc.ABC):
    """Trains one kind of model.

    Attributes:
        name: What messages call it.
        max_epochs: Epochs of its longest training; None leaves them to the user. 1 where the
            model has a closed form.
    """

    name: str
    max_epochs: int | None = None

    @abc.abstractmethod
    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        """Return a training before its first epoch.

        Args:
            params: Name -> value, as `recommender_space` names them.
            train: What to learn from.
            seed: Seeds everything random.
            max_epochs: Epochs of a full training, which a learning-rate schedule is laid over.

        Raises:
            InvalidArgument: If a parameter is missing or out of its range.
        """

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return a context for one training, in which global random state is its own."""
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
