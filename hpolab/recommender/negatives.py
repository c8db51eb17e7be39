"""Negatives: items that a user has not taken, drawn uniformly and without rejection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument
from hpolab.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["NegativeDraw", "NegativeSampler", "TensorNegativeSampler", "rows_with_negatives"]

_logger = get_logger(__name__)

# Bits of the filter for each interaction, from 16 to below 32: at most one of 16 items that a user
# has not taken is looked up for nothing.
_FILTER_BITS = 16
# Knuth's multiplier: 2**64 over the golden ratio, as a signed number.
_MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
# Random numbers below this, modulo the number of untaken items: the bias is below 1e-12.
_N_RANDOM = 2**62


@dataclass(frozen=True)
class _Untaken:
    """Numbers the items that each user has not taken; of NumPy arrays, or of torch tensors.

    Of a user's taken items s_0 < s_1 < ..., s_j - j untaken ones lie below s_j. The r-th untaken
    item, from 0, is therefore r + #{j: s_j - j <= r}. With a stretch of n_items + 1 numbers for
    each user, all users' s_j - j are one sorted array, and one binary search answers for all.

    Attributes:
        gaps: user * (n_items + 1) + s_j - j of all users, rising, (n_taken,).
        starts: Where each user begins in `gaps`, (n_users,).
        counts: How many items each user has not taken, (n_users,).
        n_items: The number of items.
        searchsorted: NumPy's or torch's.
    """

    gaps: Any
    starts: Any
    counts: Any
    n_items: int
    searchsorted: Callable[..., Any]

    def pick(self, users: Any, numbers: Any) -> Any:
        """Return the untaken items that random numbers stand for.

        Args:
            users: (n,) codes of users who have untaken items.
            numbers: (n, m) of 0 to _N_RANDOM - 1.
        """
        ranks = numbers % self.counts[users][:, None]
        keys = users[:, None] * (self.n_items + 1) + ranks
        n_below = self.searchsorted(self.gaps, keys, side="right") - self.starts[users][:, None]
        return ranks + n_below


class NegativeSampler:
    """Draws items that users have not taken, each with the same probability.

    Args:
        taken: What users have taken; a row may occur more than once.

    Attributes:
        n_users: The number of users, those without a row included.

    Example:
        >>> from hpolab import Interactions
        >>> taken = Interactions.of([0, 0, 1, 1, 1], [0, 2, 0, 1, 3])
        >>> sampler = NegativeSampler(taken)
        >>> sampler.draw(np.array([0, 1]), 5, np.random.default_rng(0))
        array([[3, 1, 1, 3, 1],
               [2, 2, 2, 2, 2]])
    """

    def __init__(self, taken: Interactions) -> None:
        n_users, n_items = taken.n_users, taken.n_items
        users, items = np.divmod(np.unique(taken.users * n_items + taken.items), n_items)
        self._pairs = users * n_items + items
        n_taken = np.bincount(users, minlength=n_users)
        starts = np.cumsum(n_taken) - n_taken
        gaps = users * (n_items + 1) + items - (np.arange(len(users)) - starts[users])
        self.n_users = n_users
        self._untaken = _Untaken(gaps, starts, n_items - n_taken, n_items, np.searchsorted)

    def can_draw(self, users: NDArray[Any]) -> NDArray[np.bool_]:
        """Return of which users (n,) there is an item that they have not taken, (n,)."""
        has_some: NDArray[np.bool_] = self._untaken.counts[users] > 0
        return has_some

    def check(self, users: NDArray[Any]) -> None:
        """Refuse users who have taken every item.

        Raises:
            InvalidArgument: If there is one.
        """
        full = users[self._untaken.counts[users] == 0]
        if len(full):
            raise InvalidArgument(
                "`users` must have items that they have not taken, to draw negatives from, got "
                f"the user of code {full[0]}, who has taken all {self._untaken.n_items}."
            )

    def draw(self, users: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return n items for each user, (len(users), n), none of which the user has taken.

        The same item may come more than once.

        Args:
            users: User codes, (k,).
            n: How many for each.
            rng: Draws them.

        Raises:
            InvalidArgument: If a user has taken every item.
        """
        self.check(users)
        numbers = rng.integers(_N_RANDOM, size=(len(users), n))
        picked: NDArray[np.int64] = self._untaken.pick(users, numbers)
        return picked

    def to(self, device: torch.device) -> TensorNegativeSampler:
        """Return the same sampler for tensors on a device."""
        import torch

        untaken = self._untaken
        gaps, starts, counts = (
            torch.as_tensor(part).to(device)
            for part in (untaken.gaps, untaken.starts, untaken.counts)
        )
        return TensorNegativeSampler(
            _Untaken(gaps, starts, counts, untaken.n_items, torch.searchsorted),
            # Elsewhere the device would have to wait for what is found.
            _Taken(self._pairs, untaken.n_items) if device.type == "cpu" else None,
        )


class TensorNegativeSampler:
    """Draws as `NegativeSampler` does, on tensors; made by its `to`."""

    def __init__(self, untaken: _Untaken, taken: _Taken | None) -> None:
        self._untaken = untaken
        self._taken = taken

    def draw(self, users: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return n items for each user, (len(users), n), none of which the user has taken.

        Users are not checked, which would make the device wait: see `NegativeSampler.check`.

        Args:
            users: User codes, int64 (k,), on the device.
            n: How many for each.
            generator: Draws them; one of the device.
        """
        import torch

        def numbers(n_users: int, n: int, below: int) -> torch.Tensor:
            return torch.randint(below, (n_users, n), generator=generator, device=users.device)

        if self._taken is None:
            picked: torch.Tensor = self._untaken.pick(users, numbers(len(users), n, _N_RANDOM))
            return picked
        # Any item is drawn, and in place of one that is taken, one of those that are not: each of
        # these comes with the same probability still. Few have to be searched for.
        items = numbers(len(users), n, self._untaken.n_items)
        rows, columns = self._taken.places(users, items)
        if len(rows):
            items[rows, columns] = self._untaken.pick(
                users[rows], numbers(len(rows), 1, _N_RANDOM)
            ).squeeze(1)
        return items


class _Taken:
    """Finds items that their users have taken, on a CPU.

    A bit for each pair's hash says of most pairs that they are not among the taken ones; only for
    the others all pairs are searched.

    Args:
        pairs: user * n_items + item of all taken ones, rising.
        n_items: The number of items.
    """

    def __init__(self, pairs: NDArray[Any], n_items: int) -> None:
        import torch

        self._pairs, self._n_items = torch.from_numpy(pairs), n_items
        self._n_bits = max(10, (len(pairs) * _FILTER_BITS - 1).bit_length())
        bits = np.zeros(2**self._n_bits, bool)
        bits[self._hash(self._pairs).numpy()] = True
        self._bytes = torch.from_numpy(np.packbits(bits, bitorder="little"))

    def places(self, users: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows and columns of the items (k, m) that users (k,) have taken."""
        import torch

        pairs = users.unsqueeze(1) * self._n_items + items
        hashes = self._hash(pairs).flatten()
        found = self._bytes.index_select(0, hashes >> 3).view(pairs.shape)
        suspects = ((found >> (hashes & 7).view(pairs.shape).to(torch.uint8)) & 1).nonzero()
        rows, columns = suspects.unbind(1)
        suspected = pairs[rows, columns]
        places = torch.searchsorted(self._pairs, suspected).clamp_(max=len(self._pairs) - 1)
        is_taken = self._pairs[places] == suspected
        return rows[is_taken], columns[is_taken]

    def _hash(self, pairs: torch.Tensor) -> torch.Tensor:
        hashes: torch.Tensor = (pairs * _MULTIPLIER >> (64 - self._n_bits)) & (2**self._n_bits - 1)
        return hashes


@dataclass(frozen=True)
class NegativeDraw:
    """Draws as many negatives for each of some users in every step of a training.

    Attributes:
        n: How many for each.
        sampler: Draws them.
        generator: What it draws with.
    """

    n: int
    sampler: TensorNegativeSampler
    generator: torch.Generator

    def __call__(self, users: torch.Tensor) -> torch.Tensor:
        """Return n items for each user, (len(users), n)."""
        return self.sampler.draw(users, self.n, self.generator)


def rows_with_negatives(
    sampler: NegativeSampler, users: NDArray[Any], said: set[str]
) -> NDArray[np.bool_]:
    """Return of which rows (n,) the user has items that are not taken; log how many have none.

    Args:
        sampler: Knows what users have taken.
        users: The user of each row, (n,).
        said: Lines that were logged before: a study starts a training in each trial.

    Raises:
        InvalidArgument: If every user has taken every item.
    """
    has_negatives: NDArray[np.bool_] = sampler.can_draw(users)
    if has_negatives.all():
        return has_negatives
    if not has_negatives.any():
        sampler.check(users)
    line = (
        f"{len(np.unique(users[~has_negatives])):,} of {sampler.n_users:,} users took every "
        "item: their rows are not trained on, as this loss needs items that a user has not taken."
    )
    if line not in said:
        said.add(line)
        _logger.warning(line)
    return has_negatives
