"""Ranking metrics: each is its expected value over the orders of candidates that score the same.

Of candidates with one score no order is better than another. A metric is therefore its mean over
all their orders, each as likely as the others, in closed form (McSherry and Najork 2008, "Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR): a
model that gives every item one score is as good as chance, and held-out items that tie with each
other alone are found for certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["LOWER_IS_BETTER", "METRICS_BY_USER", "RANKING_METRICS", "TiedRanks", "parse_metric"]

# Terms of sums over the places of tied candidates that are held at a time: 8 MB each.
_MAX_TERMS = 1_000_000


@dataclass(frozen=True)
class TiedRanks:
    """Where the held-out items of u users stand: g groups, each of those with one score.

    Attributes:
        better: Candidates of the user that score higher, (g,), rising within a user.
        tied: Candidates with the group's score, its held-out items included, (g,).
        found: Held-out items in the group, 1 or more, (g,).
        found_before: Held-out items of the user that score higher, (g,).
        starts: Where each user's groups begin, (u,).
        counts: Held-out items of each user, (u,).
        n_candidates: (u,).
        log_losses: (u,).
    """

    better: Ints
    tied: Ints
    found: Ints
    found_before: Ints
    starts: Ints
    counts: Ints
    n_candidates: Ints
    log_losses: Floats

    @classmethod
    def of(
        cls, users: Ints, better: Ints, tied: Ints, n_candidates: Ints, log_losses: Floats
    ) -> TiedRanks:
        """Group held-out items.

        Args:
            users: The user of each held-out item, (p,), sorted.
            better: Candidates that score higher, (p,), rising within a user.
            tied: Candidates that score the same, itself included, (p,).
            n_candidates: The user's candidates, (p,).
            log_losses: (u,).
        """
        begins_user = np.append(True, users[1:] != users[:-1])
        begins_group = begins_user | np.append(True, better[1:] != better[:-1])
        first_of_user = np.flatnonzero(begins_user)
        groups = np.flatnonzero(begins_group)
        counts = np.diff(np.append(first_of_user, len(users)))
        return cls(
            better=better[groups],
            tied=tied[groups],
            found=np.diff(np.append(groups, len(users))),
            found_before=groups - first_of_user[np.cumsum(begins_user)[groups] - 1],
            starts=np.searchsorted(groups, first_of_user),
            counts=counts,
            n_candidates=n_candidates[first_of_user],
            log_losses=log_losses,
        )

    def within(self, cut: float) -> Floats:
        """Return how many of each group's places are within the cut, (g,)."""
        within: Floats = np.clip(cut - self.better, 0, self.tied)
        return within

    def total(self, values: NDArray[Any]) -> Floats:
        """Return the sum of (g,) values over each user's groups, (u,)."""
        total: Floats = np.add.reduceat(values, self.starts)
        return total


def _hit_rate(of: TiedRanks, cut: float) -> Floats:
    # The best group decides: where the cut goes beyond it, it is found for certain.
    tied, found = of.tied[of.starts], of.found[of.starts]
    hits: Floats = 1 - _none_drawn(tied, found, of.within(cut)[of.starts])
    return hits


def _recall(of: TiedRanks, cut: float) -> Floats:
    return _hits(of, cut) / of.counts


def _precision(of: TiedRanks, cut: float) -> Floats:
    return _hits(of, cut) / cut


def _hits(of: TiedRanks, cut: float) -> Floats:
    return of.total(of.found * of.within(cut) / of.tied)


def _ndcg(of: TiedRanks, cut: float) -> Floats:
    last = int(max((of.better + of.tied).max(), of.counts.max()))
    discounts = 1 / np.log2(np.arange(2, last + 2))
    sums = np.append(0.0, np.cumsum(discounts))
    within = of.within(cut).astype(np.int64)
    alone = np.where(within > 0, discounts[of.better], 0.0)
    gains = np.where(of.tied == 1, alone, _mean(sums, of, within))
    best = sums[np.minimum(of.counts, cut).astype(np.int64)]
    ndcg: Floats = of.total(of.found * gains) / best
    return ndcg


def _map(of: TiedRanks, cut: float) -> Floats:
    # At a place of the group that holds a held-out item are, of the group, (found - 1) / (tied - 1)
    # of the places before it held-out ones too. Precision there is rate + rest / place.
    rate = (of.found - 1) / np.maximum(of.tied - 1, 1)
    rest = of.found_before + 1 - rate * (of.better + 1)
    within = of.within(cut)
    inverses = _mean(_sums_of_inverses(of), of, within.astype(np.int64))
    alone = np.where(within > 0, (of.found_before + 1) / (of.better + 1), 0.0)
    precision = np.where(of.tied == 1, alone, rate * within / of.tied + rest * inverses)
    mean: Floats = of.total(of.found * precision) / np.minimum(of.counts, cut)
    return mean


def _mrr(of: TiedRanks, cut: float) -> Floats:
    better, tied, found = (each[of.starts] for each in (of.better, of.tied, of.found))
    within = of.within(cut)[of.starts].astype(np.int64)
    inverses = _sums_of_inverses(of)
    mrr: Floats = (inverses[better + within] - inverses[better]) / tied
    alone = tied == 1
    mrr[alone] = np.where(within > 0, 1 / (better + 1), 0.0)[alone]
    several = np.flatnonzero((found > 1) & (within > 0))
    if len(several):
        groups = np.stack([better, tied, found, within], axis=1)[several]
        distinct, place = np.unique(groups, axis=0, return_inverse=True)
        mrr[several] = _first_of_several(distinct)[place.ravel()]
    return mrr


def _auc(of: TiedRanks, cut: float) -> Floats:
    # Mann-Whitney: of the sum of mid ranks is left what the held-out items have over all others.
    n_others = of.n_candidates - of.counts
    ranks = of.total(of.found * (of.better + (of.tied + 1) / 2))
    above = ranks - of.counts * (of.counts + 1) / 2
    with np.errstate(invalid="ignore"):  # a user without another candidate
        return 1 - above / (of.counts * n_others)


def _log_loss(of: TiedRanks, cut: float) -> Floats:
    return of.log_losses


def _mean(sums: Floats, of: TiedRanks, within: Ints) -> Floats:
    """Return the mean over a group's places of values, those beyond the cut as 0, (g,).

    Args:
        sums: The sum of the values of the first 0, 1, 2, ... places.
        of: The groups.
        within: How many of a group's places are within the cut, (g,).
    """
    mean: Floats = (sums[of.better + within] - sums[of.better]) / of.tied
    return mean


def _sums_of_inverses(of: TiedRanks) -> Floats:
    last = int((of.better + of.tied).max())
    return np.append(0.0, np.cumsum(1 / np.arange(1, last + 1)))


def _none_drawn(tied: Ints, found: Ints, n: Floats) -> Floats:
    """Return the probability that n of the tied candidates hold no held-out one, (g,)."""
    from scipy.special import gammaln

    others = tied - found
    none = np.where(n == 0, 1.0, np.where(found == 1, 1 - n / tied, 0.0))
    open_ = np.flatnonzero((found > 1) & (n > 0) & (n <= others))
    t, rest, k = tied[open_] + 1.0, others[open_] + 1.0, n[open_]
    # The number of ways to choose n of the others, over that of n of all.
    none[open_] = np.exp(gammaln(rest) - gammaln(rest - k) - gammaln(t) + gammaln(t - k))
    return none


def _first_of_several(groups: Ints) -> Floats:
    """Return the expected reciprocal rank of the first held-out item of groups, (g,).

    The first of f held-out items among t tied candidates is the i-th of them with probability
    C(t - i, f - 1) / C(t, f).

    Args:
        groups: (g, 4): candidates that are better, tied ones, held-out ones, and places within the
            cut.
    """
    n_terms = np.minimum(groups[:, 1] - groups[:, 2] + 1, groups[:, 3])
    # As many groups at a time as have _MAX_TERMS terms, or one.
    parts = np.flatnonzero(np.diff(np.cumsum(n_terms) // _MAX_TERMS)) + 1
    expected = [
        _expected_inverse(part, n)
        for part, n in zip(np.split(groups, parts), np.split(n_terms, parts), strict=True)
    ]
    return np.concatenate(expected)


def _expected_inverse(groups: Ints, n_terms: Ints) -> Floats:
    from scipy.special import gammaln

    starts = np.cumsum(n_terms) - n_terms
    i = np.arange(n_terms.sum()) - np.repeat(starts, n_terms) + 1
    better, tied, found = (np.repeat(column, n_terms) for column in groups[:, :3].T)
    factorials = gammaln(np.arange(1.0, groups[:, 1].max() + 2))
    log_ways = factorials[tied - i] - factorials[tied - i - found + 1] - factorials[found - 1]
    log_all = factorials[tied] - factorials[tied - found] - factorials[found]
    terms = np.exp(log_ways - log_all) / (better + i)
    sums: Floats = np.add.reduceat(terms, starts)
    return sums


METRICS_BY_USER: Mapping[str, Callable[[TiedRanks, float], Floats]] = {
    "hr": _hit_rate,
    "recall": _recall,
    "precision": _precision,
    "ndcg": _ndcg,
    "map": _map,
    "mrr": _mrr,
    "auc": _auc,
    "log_loss": _log_loss,
}
"""Name -> function of the ranks and of the cut (infinity for none), with a value a user, (u,)."""

RANKING_METRICS: tuple[str, ...] = (*METRICS_BY_USER, "coverage")
"""What is known of ranks: part of users with a hit, recall, precision, NDCG with binary relevance
(Järvelin and Kekäläinen 2002), average precision over ``min(k, held-out items)``, reciprocal rank
of the first hit, area under the ROC curve, log loss of ``sigmoid(score)`` over all candidates, and
the part of the catalog in anybody's best k.

Where candidates tie, a metric is its mean over all their orders. Precision divides by k also where
a user has fewer candidates."""

LOWER_IS_BETTER = frozenset(["log_loss"])

_CUT_OR_NOT, _UNCUT = ("mrr",), ("auc", "log_loss")


def parse_metric(name: str) -> tuple[str, float]:
    """Return a metric's kind and its cut, infinity for none.

    Raises:
        InvalidArgument: If there is no such metric, or its cut is missing or below 1.

    Example:
        >>> parse_metric("ndcg@10"), parse_metric("auc")
        (('ndcg', 10.0), ('auc', inf))
    """
    kind, at, cut = name.partition("@")
    _check_kind(name, kind)
    if not at and kind in (*_CUT_OR_NOT, *_UNCUT):
        return kind, math.inf
    if not cut.isdecimal() or int(cut) < 1 or kind in _UNCUT:
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
