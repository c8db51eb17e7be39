"""Ranking metrics over all users at once, each with its standard error.

The rank of a held-out item is counted, not sorted: one more than the items that score higher, and
half of those that score the same (the mid rank), so that a model that gives every item one score is
no better than chance. All items are candidates but those that the user has taken before.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import Diverged, InvalidArgument, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.recommender.interactions import Interactions
from hpolab.recommender.negatives import NegativeSampler
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Scores = Callable[[Ints], NDArray[Any]]

__all__ = ["RANKING_METRICS", "Ranking", "RankingEstimate", "RankingTask"]

# Scores compared at a time: 32 MB of float32, so that a million items do not fill the memory.
_MAX_CELLS = 8_000_000


class RankingEstimate(NamedTuple):
    """A metric's mean over users, and the standard error of that mean."""

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.standard_error:.2g}"

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>"


class RankingTask(Displayed):
    """Rank held-out items among all items that their users have not seen.

    It is prepared once: a study ranks the same items after each epoch of each trial.

    Args:
        seen: Interactions whose items are no longer candidates, one or several: the training rows,
            and the validation rows when test rows are ranked.
        held_out: The interactions to find. Those that are in ``seen`` are skipped.
        n_sampled: Rank each held-out item among this many random items, 1 or above, instead of
            all. It is a different metric, and it can order models differently.
        seed: Seeds the draw of these items. It happens once, so that all models are ranked among
            the same ones.

    Attributes:
        n_items: The catalog's size.
        n_users: Users with an item to find.
        facts: What a reader of the metrics must know: the kind of ranking, and counts.

    Raises:
        InvalidArgument: If no held-out item is left, or ``n_sampled`` is out of its range.

    Warns:
        UserWarning: If ``n_sampled`` is given, for the reason above.

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
        n_sampled: int | None = None,
        seed: int = 0,
    ) -> None:
        from scipy.sparse import csr_matrix

        sought = held_out.matrix()
        taken = csr_matrix(sought.shape, dtype=sought.dtype)
        for part in [seen] if isinstance(seen, Interactions) else seen:
            taken = taken.maximum(part.matrix())
        sought = (sought - sought.multiply(taken)).tocsr()
        sought.eliminate_zeros()
        sought.sort_indices()
        users = np.flatnonzero(np.diff(sought.indptr))
        if not len(users):
            raise InvalidArgument(
                "`held_out` must hold an item that its user has not seen, got none."
            )
        self.n_items: int = taken.shape[1]
        self.n_users = len(users)
        self._n_sampled = n_sampled
        negatives = None
        if n_sampled is not None:
            users_of, items_of = (taken + sought).nonzero()
            negatives = _sampler(n_sampled, replace(held_out, users=users_of, items=items_of))
        rng = np.random.default_rng(seed)
        self._chunks = []
        for chunk in _parts(users, np.diff(sought.indptr)[users], self.n_items):
            rows = _Chunk.of(chunk, taken[chunk], sought[chunk])
            if negatives is not None and n_sampled is not None:
                others = negatives.draw(rows.users[rows.rows], n_sampled, rng)
                rows = rows.among(others)
            self._chunks.append(rows)
        self.facts: dict[str, Any] = {
            "ranking": "all items that the user has not seen"
            if n_sampled is None
            else f"the held-out item and {n_sampled} sampled ones",
            "ties": "mid rank",
            "n_users_ranked": self.n_users,
            "n_items": self.n_items,
        }

    def check_metric(self, name: str) -> str:
        """Return a metric's name if this task can compute it.

        Args:
            name: One of `RANKING_METRICS` with its cut, "ndcg@10"; "mrr", "auc" and "log_loss"
                stand alone.

        Raises:
            InvalidArgument: If there is no such metric, its cut is missing, below 1 or beyond the
                candidates, or it needs all items and the candidates are sampled.
        """
        kind, cut = _parse(name)
        n = self.n_items if self._n_sampled is None else self._n_sampled + 1
        if math.isfinite(cut) and cut > n:
            raise InvalidArgument(f"`metric` must cut within the {n} candidates, got {name!r}.")
        if self._n_sampled is not None and kind in _OF_ALL_ITEMS:
            raise InvalidArgument(f"`metric` must not be {name!r} where candidates are sampled.")
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
        parsed = [_parse(self.check_metric(name)) for name in metrics]
        n_top = max((int(cut) for kind, cut in parsed if kind == "coverage"), default=0)
        log_loss = any(kind == "log_loss" for kind, _ in parsed)
        parts = [chunk.rank(scores, n_top, log_loss) for chunk in self._chunks]
        users, ranks, n_candidates, log_losses, top = map(np.concatenate, zip(*parts, strict=True))
        return Ranking(users, ranks, n_candidates, log_losses, top, self.n_items)

    def estimate(self, scores: Scores, metrics: Sequence[str]) -> dict[str, RankingEstimate]:
        """Return metrics of some scores: name -> mean and standard error; see `rank`."""
        ranking = self.rank(scores, metrics=metrics)
        return {name: ranking.estimate(name) for name in metrics}

    def _in_one_line(self) -> str:
        among = self.facts["ranking"]
        return f"held-out items of {self.n_users:,} users, {self.n_items:,} items; ranks {among}"


@dataclass(frozen=True, repr=False)
class Ranking(Displayed):
    """The ranks of p held-out items of u users, and the metrics that follow from them.

    Attributes:
        users: The user of each held-out item, (p,), sorted.
        ranks: Its rank among the user's candidates, (p,), 1 for the best, rising by user.
        n_candidates: How many candidates the user has, (p,).
        log_losses: (u,); NaN where it was not asked for.
        top: Each user's best items, the best first, (u, n_top).
        n_items: The catalog's size.
    """

    users: Ints
    ranks: Floats
    n_candidates: Ints
    log_losses: Floats
    top: Ints
    n_items: int

    def metric(self, name: str) -> Floats:
        """Return a metric of each user with held-out items, (u,), in the order of users.

        Args:
            name: As `RankingTask.check_metric` but for coverage, which is no user's.

        Raises:
            InvalidArgument: If there is no such metric, or its cut is missing or below 1.
        """
        kind, cut = _parse(name)
        one_of("metric", kind, _BY_USER)
        return _BY_USER[kind](self._by_user(), cut)

    def estimate(self, name: str) -> RankingEstimate:
        """Return a metric's mean over users, and its standard error; of coverage by jackknife."""
        kind, cut = _parse(name)
        if kind == "coverage":
            return _coverage(self.top[:, : int(cut)], self.n_items)
        return _mean_of(self.metric(name))

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
        return _mean_of(self.by_user(name) - other.by_user(name))

    def by_user(self, name: str) -> Floats:
        """Return what each user contributes to a metric, (u,), in the order of users.

        Their mean is the metric, also of coverage, which no user has alone: they are its jackknife
        over users (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982).
        """
        kind, cut = _parse(name)
        if kind != "coverage":
            return self.metric(name)
        top = self.top[:, : int(cut)]
        lost, n = _lost_without(top, self.n_items), len(top)
        coverage = _coverage(top, self.n_items).mean
        by_user: Floats = coverage + (n - 1) * (lost - lost.mean()) / self.n_items
        return by_user

    def _by_user(self) -> _ByUser:
        _, starts, counts = np.unique(self.users, return_index=True, return_counts=True)
        place = np.arange(len(self.users)) - np.repeat(starts, counts) + 1
        return _ByUser(
            self.ranks, place, starts, counts, self.n_candidates[starts], self.log_losses
        )

    def _in_one_line(self) -> str:
        n = f"{len(self.ranks):,} held-out items of {len(self.top):,} users among {self.n_items:,}"
        return f"{n}, mrr {self.estimate('mrr')}"

    def _parts(self) -> list[str | TextTable]:
        names = ("hr@10", "ndcg@10", "mrr")
        found = [(name, self.estimate(name)) for name in names]
        rows = [[name, f"{each.mean:.4g}", f"{each.standard_error:.2g}"] for name, each in found]
        said = f"{len(self.ranks):,} held-out items of {len(self.top):,} users are ranked."
        return [said, TextTable(["metric", "mean over users", "standard error"], rows)]


@dataclass(frozen=True)
class _ByUser:
    """The ranks (p,) of u users.

    Attributes:
        ranks: (p,) rising within a user.
        place: (p,) 1 for the user's best held-out item, 2 for the next.
        starts: (u,) where a user's ranks begin.
        counts: (u,) how many they are.
        n_candidates: (u,).
        log_losses: (u,).
    """

    ranks: Floats
    place: Ints
    starts: Ints
    counts: Ints
    n_candidates: Ints
    log_losses: Floats

    def total(self, values: Floats) -> Floats:
        """Return the sum of (p,) values over each user's held-out items, (u,)."""
        total: Floats = np.add.reduceat(values, self.starts)
        return total


def _hit_rate(of: _ByUser, cut: float) -> Floats:
    return (of.ranks[of.starts] <= cut).astype(np.float64)


def _recall(of: _ByUser, cut: float) -> Floats:
    return of.total((of.ranks <= cut).astype(np.float64)) / of.counts


def _precision(of: _ByUser, cut: float) -> Floats:
    return of.total((of.ranks <= cut).astype(np.float64)) / cut


def _ndcg(of: _ByUser, cut: float) -> Floats:
    gains = np.where(of.ranks <= cut, 1 / np.log2(of.ranks + 1), 0.0)
    best = np.cumsum(1 / np.log2(np.arange(1, of.counts.max() + 1) + 1))
    ndcg: Floats = of.total(gains) / best[np.minimum(of.counts, int(cut)) - 1]
    return ndcg


def _map(of: _ByUser, cut: float) -> Floats:
    precision_there = np.where(of.ranks <= cut, of.place / of.ranks, 0.0)
    return of.total(precision_there) / np.minimum(of.counts, cut)


def _mrr(of: _ByUser, cut: float) -> Floats:
    first = of.ranks[of.starts]
    return np.where(first <= cut, 1 / first, 0.0)


def _auc(of: _ByUser, cut: float) -> Floats:
    # Mann-Whitney: of the sum of ranks is left what the held-out items have over all others.
    n_others = of.n_candidates - of.counts
    above = of.total(of.ranks) - of.counts * (of.counts + 1) / 2
    with np.errstate(invalid="ignore"):  # a user who has left nothing out
        return 1 - above / (of.counts * n_others)


def _log_loss(of: _ByUser, cut: float) -> Floats:
    return of.log_losses


def _mean_of(values: Floats) -> RankingEstimate:
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return RankingEstimate(float(values.mean()), float(error))


def _coverage(top: Ints, n_items: int) -> RankingEstimate:
    """Return the part of the catalog that is in any user's best items."""
    counts = np.bincount(top.ravel(), minlength=n_items)
    lost = _lost_without(top, n_items)
    error = math.sqrt((len(top) - 1) / len(top) * float(((lost - lost.mean()) ** 2).sum()))
    return RankingEstimate(float((counts > 0).mean()), error / n_items)


def _lost_without(top: Ints, n_items: int) -> Ints:
    """Return how many items each user (u,) takes along if left out: nobody else was given them."""
    counts = np.bincount(top.ravel(), minlength=n_items)
    lost: Ints = (counts[top] == 1).sum(axis=1)
    return lost


_BY_USER: Mapping[str, Callable[[_ByUser, float], Floats]] = {
    "hr": _hit_rate,
    "recall": _recall,
    "precision": _precision,
    "ndcg": _ndcg,
    "map": _map,
    "mrr": _mrr,
    "auc": _auc,
    "log_loss": _log_loss,
}

RANKING_METRICS: tuple[str, ...] = (*_BY_USER, "coverage")
"""What is known of ranks: part of users with a hit, recall, precision, NDCG with binary relevance
(Järvelin and Kekäläinen 2002), average precision over ``min(k, held-out items)``, reciprocal rank
of the first hit, area under the ROC curve, log loss of ``sigmoid(score)`` over all candidates, and
the part of the catalog in anybody's best k."""

LOWER_IS_BETTER = frozenset(["log_loss"])

_CUT_OR_NOT, _UNCUT = ("mrr",), ("auc", "log_loss")
_OF_ALL_ITEMS = ("log_loss", "coverage")


@dataclass(frozen=True)
class _Chunk:
    """Some users, with what they have seen and what is sought of them.

    Attributes:
        users: (b,).
        seen: (rows, items) of the table (b, n_items) to strike out.
        rows: The row of each of the p held-out items, (p,), rising.
        items: The item, (p,).
        n_candidates: (p,).
        n_items: The catalog's size.
        others: Sampled candidates beside it, (p, n); None for all.
    """

    users: Ints
    seen: tuple[Ints, Ints]
    rows: Ints
    items: Ints
    n_candidates: Ints
    n_items: int
    others: Ints | None = None

    @classmethod
    def of(cls, users: Ints, taken: Any, sought: Any) -> _Chunk:
        rows = np.repeat(np.arange(len(users)), np.diff(sought.indptr))
        return cls(
            users=users,
            seen=(np.repeat(np.arange(len(users)), np.diff(taken.indptr)), taken.indices),
            rows=rows,
            items=sought.indices.astype(np.int64),
            n_candidates=(taken.shape[1] - np.diff(taken.indptr)).astype(np.int64)[rows],
            n_items=taken.shape[1],
        )

    def among(self, others: Ints) -> _Chunk:
        return replace(
            self, others=others, n_candidates=np.full(len(self.rows), others.shape[1] + 1)
        )

    def rank(
        self, scores: Scores, n_top: int, log_loss: bool
    ) -> tuple[Ints, Floats, Ints, Floats, Ints]:
        """Return users, ranks and candidates of held-out items; log losses and best of users."""
        table = np.array(scores(self.users))  # a copy: what was seen is struck out in it
        if table.shape != (len(self.users), self.n_items):
            raise InvalidArgument(
                f"`scores` must return an array of shape ({len(self.users)}, {self.n_items}), got "
                f"{table.shape}."
            )
        if not np.isfinite(table).all():
            raise Diverged("`scores` must be finite, got NaN or infinity.")
        table[self.seen] = -np.inf
        mine = table[self.rows, self.items][:, None]
        if self.others is not None:
            candidates = np.concatenate([mine, table[self.rows[:, None], self.others]], axis=1)
        else:
            candidates = table if len(self.rows) == len(table) else table[self.rows]
        ranks = _mid_ranks(candidates, mine)
        order = np.lexsort((ranks, self.rows))
        return (
            self.users[self.rows],
            ranks[order],
            self.n_candidates,
            self._log_losses(table) if log_loss else np.full(len(table), np.nan),
            _best(table, n_top),
        )

    def _log_losses(self, table: NDArray[Any]) -> Floats:
        # -log sigmoid(s) where an item is sought, -log(1 - sigmoid(s)) where it is not.
        found = np.bincount(self.rows, table[self.rows, self.items], minlength=len(table))
        total = np.logaddexp(0, table, dtype=np.float64).sum(axis=1) - found
        first = np.searchsorted(self.rows, np.arange(len(table)))
        losses: Floats = total / self.n_candidates[first]
        return losses


def _best(table: NDArray[Any], n: int) -> Ints:
    """Return the columns of each row's n largest values, the largest first."""
    if n == 0:
        return np.empty((len(table), 0), np.int64)
    return np.argpartition(-table, range(n), axis=1)[:, :n]


def _mid_ranks(candidates: NDArray[Any], mine: NDArray[Any]) -> Floats:
    # Summed in 32 bits: half the time of `count_nonzero`, which counts in 64.
    better = (candidates > mine).sum(axis=1, dtype=np.int32)
    no_worse = (candidates >= mine).sum(axis=1, dtype=np.int32)
    ranks: Floats = (better + no_worse + 1) / 2
    return ranks


def _parts(users: Ints, n_held: Ints, n_items: int) -> Iterator[Ints]:
    """Return users in parts whose scores and comparisons stay within ``_MAX_CELLS``."""
    cells = np.cumsum(n_held) * n_items
    return iter(np.split(users, np.flatnonzero(np.diff(cells // _MAX_CELLS)) + 1))


def _sampler(n_sampled: int, taken: Interactions) -> NegativeSampler:
    check_count("n_sampled", n_sampled)
    warnings.warn(
        f"Metrics over {n_sampled} sampled candidates can order models differently from the same "
        "metrics over all items (Krichene and Rendle, KDD 2020): leave `n_sampled` out unless "
        "they are to be compared with published ones.",
        stacklevel=4,
    )
    return NegativeSampler(taken)


def _parse(name: str) -> tuple[str, float]:
    kind, at, cut = name.partition("@")
    _check_kind(name, kind)
    if not at and kind in (*_CUT_OR_NOT, *_UNCUT):
        return kind, math.inf
    if not cut.isdigit() or int(cut) < 1 or kind in _UNCUT:
        raise InvalidArgument(
            "`metric` must be such as 'ndcg@10', with a cut of 1 or above, or 'mrr', 'auc', "
            f"'log_loss', got {name!r}."
        )
    return kind, float(cut)


# What other libraries and papers call them.
_OTHER_NAMES = {
    **dict.fromkeys(("hit", "hits", "hit_rate", "hitrate", "hit_ratio", "hitratio"), "hr"),
    **dict.fromkeys(("rr", "reciprocal_rank", "mean_reciprocal_rank"), "mrr"),
    **dict.fromkeys(("ap", "average_precision", "mean_average_precision"), "map"),
    **dict.fromkeys(("dcg", "normalized_dcg"), "ndcg"),
    **dict.fromkeys(("prec", "p"), "precision"),
    **dict.fromkeys(("rec", "r"), "recall"),
    **dict.fromkeys(("roc_auc", "auroc", "gauc"), "auc"),
    **dict.fromkeys(("logloss", "bce", "binary_logloss"), "log_loss"),
    **dict.fromkeys(("item_coverage", "catalog_coverage", "cov"), "coverage"),
}


def _check_kind(name: str, kind: str) -> None:
    """Refuse an unknown metric with the one that was probably meant, its cut included."""
    if kind in RANKING_METRICS:
        return
    plain = kind.lower().strip().replace(" ", "_").replace("-", "_")
    letters = plain.rstrip("0123456789").rstrip("_")
    near = get_close_matches(letters, RANKING_METRICS, n=1, cutoff=0.5)
    meant = _OTHER_NAMES.get(plain) or _OTHER_NAMES.get(letters) or next(iter(near), None)
    known = ", ".join(repr(each) for each in sorted(RANKING_METRICS))
    question = ""
    if meant is not None:
        cut = name.partition("@")[2] or plain[len(letters) :].strip("_")
        whole = f"{meant}@{cut}" if cut and meant not in _UNCUT else meant
        question = f" Did you mean {whole!r}?"
    raise InvalidArgument(f"`metric` must be one of {known}, got {name!r}.{question}")
