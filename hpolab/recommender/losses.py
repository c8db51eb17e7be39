"""Losses over the scores of candidates, a row's first one positive, or over a table of all items.

Each is summed over a row's candidates, as its paper sums over samples, and averaged over the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["SAMPLED_LOSSES", "full_softmax", "mse"]


def bce(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy: -log sigmoid(s_0) - Σ_j log(1 - sigmoid(s_j)).

    He et al. 2017, "Neural collaborative filtering", equation 7.

    Args:
        scores: (n, 1 + m), the positive's first.
        weights: (n,) of mean 1 over all rows; None for 1.
    """
    if weights is None:
        return (F.softplus(-scores[:, :1]).sum() + F.softplus(scores[:, 1:]).sum()) / len(scores)
    return _weighted(F.softplus(-scores[:, 0]) + F.softplus(scores[:, 1:]).sum(1), weights)


def bpr(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the loss of Bayesian personalized ranking: -Σ_j log sigmoid(s_0 - s_j).

    Rendle et al. 2009, "BPR", section 4.1, without its penalty.

    Args:
        scores: (n, 1 + m), the positive's first.
        weights: (n,) of mean 1 over all rows; None for 1.
    """
    losses = F.softplus(scores[:, 1:] - scores[:, :1])
    return losses.sum() / len(scores) if weights is None else _weighted(losses.sum(1), weights)


def sampled_softmax(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the softmax loss among the candidates: -s_0 + log Σ_j exp s_j.

    Wu et al. 2022, "On the effectiveness of sampled softmax loss for item recommendation"; as
    negatives are drawn uniformly there is nothing to correct but a constant.

    Args:
        scores: (n, 1 + m), the positive's first.
        weights: (n,) of mean 1 over all rows; None for 1.
    """
    return _weighted(scores.logsumexp(1) - scores[:, 0], weights)


def full_softmax(
    table: Tensor, rows: Tensor, items: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the softmax loss among all items: -s_i + log Σ_j exp s_j.

    The multinomial likelihood of Liang et al. 2018, "Variational autoencoders for collaborative
    filtering", equation 2, one interaction at a time.

    Args:
        table: The scores of all items for some users, (b, n_items).
        rows: The row of each interaction's user in it, (n,).
        items: The item of each, (n,).
        weights: (n,) of mean 1 over all rows; None for 1.
    """
    return _weighted(table.logsumexp(1)[rows] - table[rows, items], weights)


def mse(predicted: Tensor, ratings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error of ratings, of which RMSE is the root.

    Args:
        predicted: (n,).
        ratings: (n,).
        weights: (n,) of mean 1 over all rows; None for 1.
    """
    return _weighted((predicted - ratings).square(), weights)


def _weighted(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses.mean() if weights is None else (losses * weights).mean()


SAMPLED_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "bce": bce,
    "bpr": bpr,
    "sampled_softmax": sampled_softmax,
}
"""The losses that need negatives, by name; each takes scores (n, 1 + m) and weights."""
