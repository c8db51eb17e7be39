"""Splits of interactions: into what trains, what steers a trial, and what is kept for the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, check_count
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.recommender.filters import k_core as core_of
from hpolab.seeding import check_seed
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["Splits", "leave_last_out", "split_by_time", "split_users_by_ratio"]

_logger = get_logger(__name__)


@dataclass(frozen=True, repr=False)
class Splits(Displayed):
    """Interactions in parts that share their users and items, each with its own purpose.

    Attributes:
        train: The model learns from it.
        valid: Steers a trial: pruning and early stopping read it.
        test: Used only by the final confirmation.
        score: Ranks trials. If it is None, `valid` does.
        min_history: Rows in `train` that a user needs to be scored. Users with fewer are left out
            of a trial's metrics and reported apart, as a model that has learned nothing about them
            can only be judged by luck. 0 scores everybody.
        facts: What a reader of results must know about the split: its name, settings and counts.
            The splits below have `n_users`, `n_items`, `n_train`, `n_valid`, `n_test`,
            `n_duplicates` and `n_below` (rows dropped as interactions were encoded), `k_core`,
            `n_items_only_held_out` (items without a row in `train`: candidates all the same, mostly
            never found).

    Raises:
        InvalidArgument: If the parts differ in their users or items, as where each was encoded by
            itself, or ``min_history`` is below 0.

    Example:
        Parts that come as files of their own share the codes of one:

        >>> from hpolab import Interactions
        >>> train = Interactions.of(["ann", "bob", "bob"], ["x", "y", "z"])
        >>> valid = Interactions.of(["ann"], ["z"], like=train)
        >>> test = Interactions.of(["bob", "eve"], ["x", "x"], like=train)
        >>> Splits(train, valid, test)
        <Splits: train 3, valid 1, test 1 interactions of 2 users x 3 items>
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    score: Interactions | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    min_history: int = 1

    def __post_init__(self) -> None:
        check_count("min_history", self.min_history, low=0)
        for name, part in self._named():
            self.train.check_same_ids(part, name)
        unseen = self._unseen()
        if unseen:
            _logger.info(f"{unseen}.")

    @property
    def n_cold_users(self) -> dict[str, int]:
        """Part -> its users with fewer than `min_history` interactions in `train`."""
        return {
            name: len(np.setdiff1d(part.users, self.warm_users()))
            for name, part in self._named()
            if name != "train"
        }

    def warm_users(self, trained_on: Interactions | None = None) -> NDArray[np.int64]:
        """Return the codes of users with `min_history` rows, sorted.

        Args:
            trained_on: What the model has learned from; None for `train`.
        """
        rows = self.train if trained_on is None else trained_on
        counts = np.bincount(rows.users, minlength=rows.n_users)
        return np.flatnonzero(counts >= self.min_history)

    def _unseen(self) -> str:
        """Return who is left out for want of a history, in words; "" for nobody."""
        cold = self.n_cold_users
        said = [
            f"{cold[name]:,} of {_n_known(part)[0]:,} users in `{name}`"
            for name, part in self._named()
            if cold.get(name)
        ]
        if not said:
            return ""
        needed = "no" if self.min_history == 1 else f"fewer than {self.min_history}"
        return (
            f"{' and '.join(said)} have {needed} interactions in `train`: they are left out of the "
            "metrics and reported apart"
        )

    def _in_one_line(self) -> str:
        sizes = ", ".join(f"{name} {len(part):,}" for name, part in self._named())
        unseen = self._unseen()
        return (
            f"{sizes} interactions of {self.train.n_users:,} users x {self.train.n_items:,} items"
            f"{f'; {unseen}' if unseen else ''}"
        )

    def _parts(self) -> list[str | TextTable]:
        rows = [
            [name, *(f"{n:,}" for n in (len(part), *_n_known(part)))]
            for name, part in self._named()
        ]
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        table = TextTable(["split", "interactions", "users", "items"], rows, note=facts)
        unseen = self._unseen()
        return [table, f"{unseen}."] if unseen else [table]

    def _named(self) -> list[tuple[str, Interactions]]:
        parts = {"train": self.train, "valid": self.valid, "score": self.score, "test": self.test}
        return [(name, part) for name, part in parts.items() if part is not None]


@checks_keywords()
def leave_last_out(
    interactions: Interactions, *, k_core: int | None = None, min_history: int = 1, seed: int = 0
) -> Splits:
    """Hold out each user's last interaction for test, and the one before it to validate on.

    A user with fewer than three interactions has all of them in `train`. Rows of one user with the
    same timestamp are in an order drawn at random, the same for the same seed.

    Args:
        interactions: If they have no timestamps, the order of the rows counts as time.
        k_core: Leave out users and items with fewer interactions before the split, as the function
            `k_core` does; None for none.
        min_history: Rows in `train` that a user needs to be scored; see `Splits`.
        seed: Seeds the order of ties.

    Returns:
        The splits; their own facts are `n_users_held_out`, `n_users_too_short` and
        `n_users_with_ties`: users whose last timestamp is that of several rows, so that chance
        decides which of them is the last.

    Raises:
        InvalidArgument: If no user has three interactions.

    Example:
        >>> from hpolab import Interactions
        >>> data = Interactions.of(["a"] * 4, [1, 2, 3, 4], timestamps=[30, 10, 40, 20])
        >>> splits = leave_last_out(data)
        >>> data.item_ids[splits.test.items], data.item_ids[splits.valid.items]
        (array([3]), array([1]))
    """
    interactions = _core(interactions, k_core)
    times = _times(interactions)
    # Last by user, then by time, then at random.
    order = np.lexsort((_draw(len(interactions), seed), times, interactions.users))
    places = _places_from_the_end(interactions.users[order])
    counts = np.bincount(interactions.users, minlength=interactions.n_users)
    long_enough = counts[interactions.users[order]] >= 3
    if not long_enough.any():
        raise InvalidArgument(
            "`interactions` must hold three rows of a user at least, one for each part, got at "
            f"most {counts.max()}."
        )
    part = np.empty(len(order), np.int64)
    part[order] = np.where(long_enough & (places < 2), 2 - places, 0)
    tied = long_enough & (places == 1) & _tied_with_next(interactions.users[order], times[order])
    return _in_parts(
        interactions,
        part,
        min_history,
        split="leave last out",
        k_core=k_core,
        seed=seed,
        n_users_held_out=int((part == 2).sum()),
        n_users_too_short=int(((counts > 0) & (counts < 3)).sum()),
        n_users_with_ties=int(tied.sum()),
    )


@checks_keywords()
def split_by_time(
    interactions: Interactions,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    k_core: int | None = None,
    min_history: int = 1,
) -> Splits:
    """Split at two moments for all users: what comes last is for test, as in production.

    All rows at the exact moment of a cut go to the earlier part.

    Args:
        interactions: With timestamps.
        valid: The part of the rows to validate on.
        test: The part of the rows to test on.
        k_core: Leave out users and items with fewer interactions before the split, as the function
            `k_core` does; None for none.
        min_history: Rows in `train` that a user needs to be scored; see `Splits`.

    Raises:
        InvalidArgument: If there are no timestamps, or a part is out of its range or empty.
    """
    if interactions.timestamps is None:
        raise InvalidArgument(
            "`interactions` must have timestamps to be split by, got none: name their column, "
            "`Interactions.from_frame(frame, timestamp=...)`."
        )
    _check_parts(valid, test)
    interactions = _core(interactions, k_core)
    moments = _times(interactions)
    times = np.sort(moments)
    first_cut = times[int(len(times) * (1 - valid - test)) - 1]
    second_cut = times[int(len(times) * (1 - test)) - 1]
    part = np.searchsorted(np.array([first_cut, second_cut]), moments, side="left")
    return _in_parts(
        interactions, part, min_history, split="by time", valid=valid, test=test, k_core=k_core
    )


@checks_keywords()
def split_users_by_ratio(
    interactions: Interactions,
    *,
    valid: float = 0.1,
    test: float = 0.2,
    k_core: int | None = None,
    min_history: int = 1,
    seed: int = 0,
) -> Splits:
    """Draw a part of each user's interactions at random, without regard to time.

    Of a user with n interactions ``round(test * n)`` are for test and ``round(valid * n)`` to
    validate on, as long as one is left to train on.

    Args:
        interactions: The interactions.
        valid: The part of a user's rows to validate on.
        test: The part of a user's rows to test on.
        k_core: Leave out users and items with fewer interactions before the split, as the function
            `k_core` does; None for none.
        min_history: Rows in `train` that a user needs to be scored; see `Splits`.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If a part is out of its range or empty.
    """
    _check_parts(valid, test)
    interactions = _core(interactions, k_core)
    order = np.lexsort((_draw(len(interactions), seed), interactions.users))
    users = interactions.users[order]
    places = _places_from_the_end(users)
    counts = np.bincount(interactions.users, minlength=interactions.n_users)[users]
    n_test = np.minimum(np.round(test * counts), counts - 1)
    n_valid = np.minimum(np.round(valid * counts), counts - 1 - n_test)
    part = np.empty(len(order), np.int64)
    part[order] = np.where(places < n_test, 2, np.where(places < n_test + n_valid, 1, 0))
    facts = {"valid": valid, "test": test, "k_core": k_core, "seed": seed}
    return _in_parts(interactions, part, min_history, split="users by ratio", **facts)


def _core(interactions: Interactions, k: int | None) -> Interactions:
    return interactions if k is None else core_of(interactions, k)


def _in_parts(
    interactions: Interactions, part: NDArray[Any], min_history: int, **facts: Any
) -> Splits:
    train, valid, test = (interactions.rows(np.flatnonzero(part == i)) for i in range(3))
    for name, rows in (("train", train), ("valid", valid), ("test", test)):
        if not len(rows):
            raise InvalidArgument(
                f"`{name}` must be left at least one interaction, got none of {len(interactions)}."
            )
        facts[f"n_{name}"] = len(rows)
    if interactions.n_below:
        facts["n_below"] = interactions.n_below
    facts |= {
        "n_users": interactions.n_users,
        "n_items": interactions.n_items,
        "n_duplicates": interactions.n_duplicates,
        "n_items_only_held_out": len(np.setdiff1d(interactions.items, train.items)),
    }
    return Splits(train, valid, test, facts=facts, min_history=min_history)


def _check_parts(valid: float, test: float) -> None:
    for name, value in (("valid", valid), ("test", test)):
        if not 0 < value < 1:
            raise InvalidArgument(f"`{name}` must be above 0 and below 1, got {value}.")
    if valid + test >= 1:
        raise InvalidArgument(
            f"`valid` and `test` must leave rows to train on, got {valid} and {test}."
        )


def _times(interactions: Interactions) -> NDArray[Any]:
    if interactions.timestamps is None:
        return np.arange(len(interactions))
    return interactions.timestamps


def _draw(n: int, seed: int) -> NDArray[np.int64]:
    check_seed(seed)
    return np.random.default_rng(seed).permutation(n)


def _places_from_the_end(sorted_users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 for each user's last row, 1 for the one before it, and so on."""
    ends = np.flatnonzero(np.append(sorted_users[1:] != sorted_users[:-1], True))
    end_of_row = ends[np.searchsorted(ends, np.arange(len(sorted_users)))]
    return end_of_row - np.arange(len(sorted_users))


def _tied_with_next(users: NDArray[np.int64], times: NDArray[Any]) -> NDArray[np.bool_]:
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return np.append(same, False)


def _n_known(part: Interactions) -> tuple[int, int]:
    """Return how many users and items occur in a part."""
    return len(np.unique(part.users)), len(np.unique(part.items))
