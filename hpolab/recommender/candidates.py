"""Held-out items among their users' candidates: how many score higher, and how many the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpolab.errors import Diverged
from hpolab.recommender.top import best_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Candidates", "Places", "draw_others", "finite_copy"]

# Held-out items of a user from which their scores are sorted once, rather than compared with each
# item. On a processor with AVX-512 both take the same time for 5, on one without for 20 to 80.
_SORT_FROM = 8


class Places(NamedTuple):
    """Where the held-out items of some users stand.

    Attributes:
        users: The user of each held-out item, (p,).
        better: Candidates that score higher, (p,).
        tied: Candidates that score the same, the item itself included, (p,).
        n_candidates: The user's candidates, (p,).
        each: The users, (b,).
        log_losses: Of each user, (b,); NaN where it was not asked for.
        top: The best candidates of each user, the best first, (b, n_top); -1 for none.
    """

    users: Ints
    better: Ints
    tied: Ints
    n_candidates: Ints
    each: Ints
    log_losses: Floats
    top: Ints


@dataclass(frozen=True)
class Candidates:
    """Some users with their candidates, so few that their scores stay in a core's cache.

    Cells are places in their table of scores, (b, n_items), read row by row.

    Attributes:
        users: (b,) by falling `counts`.
        counts: Held-out items of each user, (b,).
        held_out: Their cells, user by user, (p,).
        seen: The cells that are no candidates, (s,).
        n_candidates: (b,).
        n_items: The catalog's size.
        others: The cells of sampled candidates, (b, n), -1 for none; None for all items.
    """

    users: Ints
    counts: Ints
    held_out: Ints
    seen: Ints
    n_candidates: Ints
    n_items: int
    others: Ints | None = None

    def rank(self, scores: NDArray[Any], n_top: int, log_loss: bool) -> Places:
        """Compare the scores of held-out items with those of all candidates.

        Args:
            scores: The users' scores of all items, (b, n_items).
            n_top: How many of each user's best candidates are sought.
            log_loss: Whether the log loss is.

        Raises:
            Diverged: If a score is not finite.
        """
        table = finite_copy(scores)
        mine = table.reshape(-1)[self.held_out]
        if self.others is None:
            table.reshape(-1)[self.seen] = -np.inf
            compared = table
        else:
            compared = self._sampled(table, mine)
        none = np.empty((len(table), 0), np.int64)
        top = best_columns(table, n_top) if n_top else none
        losses = self._log_losses(table) if log_loss else np.full(len(table), np.nan)
        better, tied = _compare(compared, mine, self.counts)  # the last: it sorts in place
        return Places(
            users=np.repeat(self.users, self.counts),
            better=better,
            tied=tied,
            n_candidates=np.repeat(self.n_candidates, self.counts),
            each=self.users,
            log_losses=losses,
            top=top,
        )

    def _sampled(self, table: NDArray[Any], mine: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of sampled candidates and of held-out items, (b, n + most of these)."""
        assert self.others is not None
        n = self.others.shape[1]
        sampled = np.full((len(table), n + self.counts.max()), -np.inf, table.dtype)
        sampled[:, :n] = np.where(self.others < 0, -np.inf, table.reshape(-1)[self.others])
        rows = np.repeat(np.arange(len(table)), self.counts)
        sampled[rows, n + _count_up(self.counts)] = mine
        return sampled

    def _log_losses(self, table: NDArray[Any]) -> Floats:
        # -log sigmoid(s) where an item is sought, -log sigmoid(-s) where it is not.
        margins = table.astype(np.float64)
        margins.reshape(-1)[self.held_out] *= -1
        losses = np.abs(margins)
        np.negative(losses, out=losses)
        np.exp(losses, out=losses)
        # Not `log1p`, which takes five times as long; the terms that are lost are below 1e-16.
        losses += 1
        np.log(losses, out=losses)
        losses += np.maximum(margins, 0, out=margins)
        mean: Floats = losses.sum(axis=1) / self.n_candidates
        return mean


def finite_copy(scores: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of a table of scores (b, n_items), as floats.

    Raises:
        Diverged: If a score is not finite.
    """
    dtype = scores.dtype if scores.dtype.kind == "f" else np.float64
    table: NDArray[Any] = np.array(scores, dtype, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        sums = table.sum(axis=1)
    # A sum may be infinite where no score is; where a score is not finite, no sum is.
    if not np.isfinite(sums).all() and not np.isfinite(table).all():
        raise Diverged("`scores` must be finite, got NaN or infinity.")
    return table


def draw_others(taken: Ints, n_items: int, n: int, rng: np.random.Generator) -> Ints:
    """Return n items that a user has not taken, each once, (n,), or all where there are fewer.

    Args:
        taken: The items that the user has taken, sorted, each once.
        n_items: The catalog's size.
        n: How many to draw.
        rng: Draws them.
    """
    n_left = n_items - len(taken)
    places = rng.choice(n_left, min(n, n_left), replace=False, shuffle=False)
    # Of the items not taken, taken[j] - j lie before the j-th that is.
    return places + np.searchsorted(taken - np.arange(len(taken)), places, side="right")


def _compare(table: NDArray[Any], mine: NDArray[Any], counts: Ints) -> tuple[Ints, Ints]:
    """Return how many cells of their row are better than some scores, and how many are equal.

    Args:
        table: (b, n) scores; changed.
        mine: Scores of cells, row by row, (p,).
        counts: How many there are of each row, falling, (b,).
    """
    better, no_worse = np.empty(len(mine), np.int64), np.empty(len(mine), np.int64)
    starts = np.cumsum(counts) - counts
    n_sorted = int((counts >= _SORT_FROM).sum())
    table[:n_sorted].sort(axis=1)
    for row, start, count in zip(table[:n_sorted], starts, counts, strict=False):
        own = slice(start, start + count)
        better[own] = len(row) - np.searchsorted(row, mine[own], side="right")
        no_worse[own] = len(row) - np.searchsorted(row, mine[own], side="left")
    for place in range(counts[n_sorted] if n_sorted < len(counts) else 0):
        n_rows = int((counts > place).sum())
        at = starts[n_sorted:n_rows] + place
        rows, score = table[n_sorted:n_rows], mine[at][:, None]
        # Summed in 32 bits: half the time of `count_nonzero`, which counts in 64.
        better[at] = (rows > score).sum(axis=1, dtype=np.int32)
        no_worse[at] = (rows >= score).sum(axis=1, dtype=np.int32)
    return better, no_worse - better


def _count_up(counts: Ints) -> Ints:
    """Return 0, 1, ... to each count less one, one after another."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
