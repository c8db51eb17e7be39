"""Ranking metrics over all users at once, each with its standard error.

Ranks of held-out items are counted, not sorted: how many candidates score higher, and how many the
same. All items are candidates but those that the user has taken before.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.recommender.candidates import Candidates, draw_others
from hpolab.recommender.interactions import Interactions
from hpolab.recommender.metrics import METRICS_BY_USER, TiedRanks, parse_metric
from hpolab.recommender.pairs import are_among, distinct_pairs
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Scores = Callable[[Ints], NDArray[Any]]

__all__ = ["Ranking", "RankingEstimate", "RankingTask"]

# Scores that a model is asked for at a time: 32 MB of float32.
_MAX_CELLS = 8_000_000
# Scores that are copied and compared at a time: 2 MB, which stay in a core's cache.
_MAX_COMPARED = 500_000

_OF_ALL_ITEMS = ("log_loss", "coverage")


class RankingEstimate(NamedTuple):
    """A metric's mean over users, and the standard error of that mean."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, by_user: Floats) -> RankingEstimate:
        """Return the estimate of what each user contributes, (u,); of one its error is NaN."""
        n = len(by_user)
        error = by_user.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
        return cls(float(by_user.mean()), float(error))

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.standard_error:.2g}"

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>"


class RankingTask(Displayed):
    """Rank held-out items among all items that their users have not seen.

    It is prepared once: a study ranks the same items after each epoch of each trial. Scores are
    asked for so many users at a time that 8,000,000 of them, or those of one user, are in memory.

    Args:
        seen: Interactions whose items are no longer candidates, one or several: the training rows,
            and the validation rows when test rows are ranked.
        held_out: The interactions to find. Those that are in ``seen`` are skipped and counted.
        users: Codes of the users who are ranked; None for all with an item to find.
        n_sampled: Rank each user's held-out items among this many random others, 1 or above,
            instead of all. It is a different metric, and it can order models differently.
        seed: Seeds the draw of these items. It happens once, so that all models are ranked among
            the same ones.

    Attributes:
        n_items: The catalog's size.
        n_users: Users with an item to find.
        facts: What a reader of the metrics must know: the kind of ranking, what becomes of ties,
            and counts: `n_users_ranked`, `n_items`, `n_held_out_seen` (held-out interactions that
            are in ``seen``), `n_users_without_others` (users who have no candidate beside their
            held-out items, and are left out of the AUC).

    Raises:
        InvalidArgument: If no held-out item is left, ``seen`` has other users or items, or
            ``users`` or ``n_sampled`` is out of its range.
        InvalidType: If ``users`` are no codes.

    Warns:
        UserWarning: If ``n_sampled`` is given, for the reason above, or held-out interactions are
            skipped.

    Example:
        >>> from hpolab import Interactions
        >>> past = Interactions.of(["ann", "bob", "bob"], ["x", "y", "z"])
        >>> future = Interactions.of(["ann", "bob"], ["z", "x"], like=past)
        >>> task = RankingTask(seen=past, held_out=future)
        >>> ranking = task.rank(lambda users: np.array([[0.3, 0.2, 0.1]])[[0] * len(users)])
        >>> ranking.ranks
        array([2., 1.])
        >>> ranking.estimate("hr@1")
        RankingEstimate(mean=0.5, standard_error=0.5)
    """

    @checks_keywords()
    def __init__(
        self,
        *,
        seen: Interactions | Sequence[Interactions],
        held_out: Interactions,
        users: NDArray[Any] | None = None,
        n_sampled: int | None = None,
        seed: int = 0,
    ) -> None:
        parts = [seen] if isinstance(seen, Interactions) else list(seen)
        for part in parts:
            held_out.check_same_ids(part, "seen")
        self.n_items: int = held_out.n_items
        taken, all_sought = distinct_pairs(*parts), distinct_pairs(held_out)
        sought = all_sought[~are_among(all_sought, taken)]
        n_held_out_seen = len(all_sought) - len(sought)
        if users is not None:
            codes = _user_codes(users, held_out.n_users)
            sought = sought[np.isin(sought // self.n_items, codes)]
        if not len(sought):
            of_users = "" if users is None else f" of the {len(codes)} `users`"
            raise InvalidArgument(
                f"`held_out` must hold an item that its user has not seen, got none{of_users}."
            )
        if n_held_out_seen:
            warnings.warn(
                f"{n_held_out_seen:,} of {len(all_sought):,} interactions of `held_out` are in "
                "`seen`: they are not ranked.",
                stacklevel=3,
            )
        if n_sampled is not None:
            _check_sampled(n_sampled)
        self._n_sampled = n_sampled
        self._chunks = [
            _candidates(chunk, taken, self.n_items, n_sampled, seed)
            for chunk in _by_users(sought, self.n_items)
        ]
        self.n_users = sum(len(chunk.users) for chunk in self._chunks)
        self._most_held_out = max(int(chunk.counts.max()) for chunk in self._chunks)
        self.facts: dict[str, Any] = {
            "ranking": "all items that the user has not seen"
            if n_sampled is None
            else f"the user's held-out items and {n_sampled} sampled others",
            "ties": "expected over their orders",
            "n_users_ranked": self.n_users,
            "n_items": self.n_items,
            "n_held_out_seen": n_held_out_seen,
            "n_users_without_others": sum(
                int((chunk.n_candidates == chunk.counts).sum()) for chunk in self._chunks
            ),
        }

    def check_metric(self, name: str) -> str:
        """Return a metric's name if this task can compute it.

        Args:
            name: One of `RANKING_METRICS` with its cut, "ndcg@10"; "mrr", "auc" and "log_loss"
                stand alone.

        Raises:
            InvalidArgument: If there is no such metric, its cut is missing, below 1 or beyond the
                candidates, it needs all items and the candidates are sampled, or it needs others
                than held-out items and no user has any.
        """
        kind, cut = parse_metric(name)
        n = self.n_items
        if self._n_sampled is not None:
            n = min(n, self._n_sampled + self._most_held_out)
        if math.isfinite(cut) and cut > n:
            raise InvalidArgument(f"`metric` must cut within the {n} candidates, got {name!r}.")
        if self._n_sampled is not None and kind in _OF_ALL_ITEMS:
            raise InvalidArgument(f"`metric` must not be {name!r} where candidates are sampled.")
        if kind == "auc" and self.facts["n_users_without_others"] == self.n_users:
            raise InvalidArgument(
                "`metric` must not be 'auc' where no user has a candidate beside held-out items."
            )
        return name

    def rank(self, scores: Scores, *, metrics: Sequence[str] = ()) -> Ranking:
        """Rank the held-out items.

        Args:
            scores: User codes (b,) -> scores (b, n_items), larger for better.
            metrics: The metrics that will be asked for; only "log_loss" and "coverage@k", which
                need more than ranks, have to be named.

        Raises:
            Diverged: If a score is not finite.
            InvalidArgument: If scores are of another shape, or as `check_metric`.
        """
        parsed = [parse_metric(self.check_metric(name)) for name in metrics]
        n_top = max((int(cut) for kind, cut in parsed if kind == "coverage"), default=0)
        log_loss = any(kind == "log_loss" for kind, _ in parsed)
        parts = [
            chunk.rank(table, n_top, log_loss)
            for chunks in self._batches()
            for chunk, table in _with_scores(chunks, scores)
        ]
        users, better, tied, n_candidates, each, log_losses, top = map(
            np.concatenate, zip(*parts, strict=True)
        )
        order, by_user = np.lexsort((better, users)), np.argsort(each)
        return Ranking(
            users=users[order],
            better=better[order],
            tied=tied[order],
            n_candidates=n_candidates[order],
            log_losses=log_losses[by_user],
            top=top[by_user],
            n_items=self.n_items,
        )

    def estimate(self, scores: Scores, metrics: Sequence[str]) -> dict[str, RankingEstimate]:
        """Return metrics of some scores: name -> mean and standard error; see `rank`."""
        ranking = self.rank(scores, metrics=metrics)
        return {name: ranking.estimate(name) for name in metrics}

    def _batches(self) -> Iterator[list[Candidates]]:
        """Yield chunks whose scores stay within ``_MAX_CELLS`` together."""
        n = max(1, _MAX_CELLS // (self.n_items * len(self._chunks[0].users)))
        for first in range(0, len(self._chunks), n):
            yield self._chunks[first : first + n]

    def _in_one_line(self) -> str:
        among = self.facts["ranking"]
        return f"held-out items of {self.n_users:,} users, {self.n_items:,} items; ranks {among}"


@dataclass(frozen=True, repr=False)
class Ranking(Displayed):
    """The ranks of p held-out items of u users, and the metrics that follow from them.

    Where candidates tie, a metric is its expected value over all their orders.

    Attributes:
        users: The user of each held-out item, (p,), sorted.
        better: How many of the user's candidates score higher, (p,), rising by user.
        tied: How many score the same, the item itself included, (p,).
        n_candidates: How many candidates the user has, (p,).
        log_losses: (u,); NaN where it was not asked for.
        top: Each user's best candidates, the best first, of those that tie the first of the
            catalog, (u, n_top); -1 where a user has fewer.
        n_items: The catalog's size.
    """

    users: Ints
    better: Ints
    tied: Ints
    n_candidates: Ints
    log_losses: Floats
    top: Ints
    n_items: int

    @property
    def ranks(self) -> Floats:
        """The mid rank of each held-out item among the candidates, (p,), 1 for the best."""
        ranks: Floats = self.better + (self.tied + 1) / 2
        return ranks

    def metric(self, name: str) -> Floats:
        """Return a metric of each user with held-out items, (u,), in the order of users.

        The AUC of a user who has no other candidate is NaN.

        Args:
            name: As `RankingTask.check_metric` but for coverage, which is no user's.

        Raises:
            InvalidArgument: If there is no such metric, or its cut is missing or below 1.
        """
        kind, cut = parse_metric(name)
        one_of("metric", kind, METRICS_BY_USER)
        ranks = TiedRanks.of(self.users, self.better, self.tied, self.n_candidates, self.log_losses)
        # Rounding alone can take one out of its range.
        return np.clip(METRICS_BY_USER[kind](ranks, cut), 0, None if kind == "log_loss" else 1)

    def estimate(self, name: str) -> RankingEstimate:
        """Return a metric's mean over users, and its standard error; of coverage by jackknife.

        The AUC is that of users who have candidates beside their held-out items. Coverage counts
        the items that `Recommender.recommend` would list.
        """
        kind, cut = parse_metric(name)
        if kind == "coverage":
            return _coverage(self.top[:, : int(cut)], self.n_items)
        return RankingEstimate.of(self.by_user(name))

    def difference(self, other: Ranking, name: str) -> RankingEstimate:
        """Return by how much a metric is above another model's on the same users.

        The standard error is that of the paired differences. Users that are hard for one model are
        mostly hard for the other, so the two models' own errors are too large to compare them.

        Args:
            other: The other model's ranks, of the same task.
            name: As in `estimate`.

        Raises:
            InvalidArgument: If the two are not of the same task, or as in `metric`.

        Example:
            >>> from hpolab import Interactions
            >>> past = Interactions.of(["ann", "bob", "eve"], ["x", "y", "z"])
            >>> future = Interactions.of(["ann", "bob", "eve"], ["z", "x", "y"], like=past)
            >>> task = RankingTask(seen=past, held_out=future)
            >>> one = task.rank(lambda users: np.array([[0.3, 0.2, 0.1]])[[0] * len(users)])
            >>> other = task.rank(lambda users: np.array([[0.1, 0.2, 0.3]])[[0] * len(users)])
            >>> round(one.difference(other, "mrr").mean, 3)
            -0.167
        """
        is_same_task = (
            self.n_items == other.n_items
            and np.array_equal(self.users, other.users)
            and np.array_equal(self.n_candidates, other.n_candidates)
        )
        if not is_same_task:
            raise InvalidArgument(
                "`other` must rank the same held-out items, got one of another task."
            )
        return RankingEstimate.of(self.by_user(name) - other.by_user(name))

    def by_user(self, name: str) -> Floats:
        """Return what each user contributes to a metric, (u,), in the order of users.

        Their mean is the metric, also of coverage, which no user has alone: they are its jackknife
        over users (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982). Of the
        AUC there are fewer where a user has no candidate beside the held-out items.
        """
        kind, cut = parse_metric(name)
        if kind != "coverage":
            by_user = self.metric(name)
            return by_user[~np.isnan(by_user)] if kind == "auc" else by_user
        top = self.top[:, : int(cut)]
        lost, n = _lost_without(top, self.n_items), len(top)
        coverage = _coverage(top, self.n_items).mean
        of_each: Floats = coverage + (n - 1) * (lost - lost.mean()) / self.n_items
        return of_each

    def _in_one_line(self) -> str:
        n = f"{len(self.ranks):,} held-out items of {len(self.top):,} users among {self.n_items:,}"
        return f"{n}, mrr {self.estimate('mrr')}"

    def _parts(self) -> list[str | TextTable]:
        names = ("hr@10", "ndcg@10", "mrr")
        found = [(name, self.estimate(name)) for name in names]
        rows = [[name, f"{each.mean:.4g}", f"{each.standard_error:.2g}"] for name, each in found]
        said = f"{len(self.ranks):,} held-out items of {len(self.top):,} users are ranked."
        return [said, TextTable(["metric", "mean over users", "standard error"], rows)]


def _coverage(top: Ints, n_items: int) -> RankingEstimate:
    """Return the part of the catalog that is in any user's best items."""
    counts = _times_listed(top, n_items)
    lost = _lost_without(top, n_items)
    error = math.sqrt((len(top) - 1) / len(top) * float(((lost - lost.mean()) ** 2).sum()))
    return RankingEstimate(float((counts > 0).mean()), error / n_items)


def _lost_without(top: Ints, n_items: int) -> Ints:
    """Return how many items each user (u,) takes along if left out: nobody else was given them."""
    counts = _times_listed(top, n_items)
    lost: Ints = ((top >= 0) & (counts[top] == 1)).sum(axis=1)
    return lost


def _times_listed(top: Ints, n_items: int) -> Ints:
    return np.bincount(top[top >= 0], minlength=n_items)


class _Sought(NamedTuple):
    """Some users, by falling counts, with the pairs that are sought of them, user by user."""

    users: Ints
    counts: Ints
    pairs: Ints


def _by_users(sought: Ints, n_items: int) -> Iterator[_Sought]:
    """Yield users in parts whose scores stay within ``_MAX_COMPARED``."""
    of_users = sought // n_items
    starts = np.flatnonzero(np.append(True, of_users[1:] != of_users[:-1]))
    users, counts = of_users[starts], np.diff(np.append(starts, len(sought)))
    n = max(1, _MAX_COMPARED // n_items)
    for first in range(0, len(users), n):
        order = first + np.argsort(-counts[first : first + n], kind="stable")
        pairs = sought[_ranges(starts[order], counts[order])]
        yield _Sought(users[order], counts[order], pairs)


def _candidates(
    sought: _Sought, taken: Ints, n_items: int, n_sampled: int | None, seed: int
) -> Candidates:
    """Return some users with their candidates.

    Args:
        sought: The users.
        taken: The pairs of all users that are no candidates, sorted.
        n_items: The catalog's size.
        n_sampled: How many candidates are drawn for each user; None for all.
        seed: Seeds the draw, for each user by itself.
    """
    users, counts, pairs = sought
    first, stop = (np.searchsorted(taken, (users + more) * n_items) for more in (0, 1))
    begins = (np.arange(len(users)) - users) * n_items  # pair + begin of its user: its cell
    others = None
    n_candidates = n_items - (stop - first)
    if n_sampled is not None:
        others = np.full((len(users), n_sampled), -1)
        owned = np.split(pairs, np.cumsum(counts)[:-1])
        for row, (user, own) in enumerate(zip(users, owned, strict=True)):
            known = np.union1d(own, taken[first[row] : stop[row]]) - user * n_items
            drawn = draw_others(known, n_items, n_sampled, np.random.default_rng((seed, user)))
            others[row, : len(drawn)] = drawn + row * n_items
        n_candidates = counts + (others >= 0).sum(axis=1)
    return Candidates(
        users=users,
        counts=counts,
        held_out=pairs + np.repeat(begins, counts),
        seen=taken[_ranges(first, stop - first)] + np.repeat(begins, stop - first),
        n_candidates=n_candidates,
        n_items=n_items,
        others=others,
    )


def _with_scores(
    chunks: Sequence[Candidates], scores: Scores
) -> Iterator[tuple[Candidates, NDArray[Any]]]:
    """Yield chunks of users with their scores, which are asked for together."""
    users = np.concatenate([chunk.users for chunk in chunks])
    table = np.asarray(scores(users))
    expected = (len(users), chunks[0].n_items)
    if table.shape != expected:
        raise InvalidArgument(
            f"`scores` must return an array of shape {expected}, got {table.shape}."
        )
    stops = np.cumsum([len(chunk.users) for chunk in chunks])
    return zip(chunks, np.split(table, stops[:-1]), strict=True)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return start, start + 1, ... of each length, one after another."""
    before = np.cumsum(lengths) - lengths
    ranges: Ints = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return ranges


def _user_codes(users: Any, n_users: int) -> Ints:
    codes = np.asarray(users)
    if codes.dtype.kind not in "iu" or codes.ndim != 1:
        raise InvalidType(
            f"`users` must be codes of users, integers of shape (n,), got {codes.dtype} of shape "
            f"{codes.shape}."
        )
    outside = codes[(codes < 0) | (codes >= n_users)]
    if len(outside):
        raise InvalidArgument(f"`users` must be codes of 0 to {n_users - 1}, got {outside[0]}.")
    return codes


def _check_sampled(n_sampled: int) -> None:
    check_count("n_sampled", n_sampled)
    warnings.warn(
        f"Metrics over {n_sampled} sampled candidates can order models differently from the same "
        "metrics over all items (Krichene and Rendle, KDD 2020): leave `n_sampled` out unless "
        "they are to be compared with published ones.",
        stacklevel=4,
    )
