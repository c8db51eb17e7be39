"""Losses of the torch recommenders: their formulas, and finite for any score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hpolab.recommender.losses import SAMPLED_LOSSES, full_softmax, mse


@pytest.mark.parametrize(
    ("name", "naive"),
    [
        ("bce", lambda s: -np.log(sigmoid(s[0])) - np.log(1 - sigmoid(s[1:])).sum()),
        ("bpr", lambda s: -np.log(sigmoid(s[0] - s[1:])).sum()),
        ("sampled_softmax", lambda s: -s[0] + np.log(np.exp(s).sum())),
    ],
)
def test_losses_are_their_formulas(name, naive):
    scores = np.random.default_rng(0).normal(size=(6, 4))
    expected = np.mean([naive(row) for row in scores])
    assert SAMPLED_LOSSES[name](torch.tensor(scores)).item() == pytest.approx(expected)


def test_full_softmax_is_its_formula():
    table = np.random.default_rng(0).normal(size=(2, 5))
    rows, items = np.array([0, 1, 1]), np.array([3, 0, 2])
    expected = np.mean([log_sum(table[u]) - table[u, i] for u, i in zip(rows, items, strict=True)])
    found = full_softmax(torch.tensor(table), torch.tensor(rows), torch.tensor(items))
    assert found.item() == pytest.approx(expected)


WEIGHTS = np.array([1, 3, 2, 1, 5, 2])


@pytest.mark.parametrize("name", [*SAMPLED_LOSSES, "softmax", "mse"])
def test_weight_counts_like_as_many_rows(name):
    rng = np.random.default_rng(0)
    scores, rows = torch.tensor(rng.normal(size=(6, 4))), torch.tensor([0, 1, 2, 3, 2, 0])
    items, ratings = torch.tensor([3, 0, 2, 1, 1, 3]), torch.tensor(rng.normal(size=6))

    def loss(of, weights=None):
        if name == "softmax":
            return full_softmax(scores, rows[of], items[of], weights)
        if name == "mse":
            return mse(scores[of, 0], ratings[of], weights)
        return SAMPLED_LOSSES[name](scores[of], weights)

    repeated = loss(torch.tensor(np.repeat(np.arange(6), WEIGHTS)))
    weighted = loss(torch.arange(6), torch.tensor(WEIGHTS / WEIGHTS.mean()))
    assert weighted.item() == pytest.approx(repeated.item())
    assert weighted.item() != pytest.approx(loss(torch.arange(6)).item(), rel=1e-3)


@pytest.mark.parametrize("name", SAMPLED_LOSSES)
def test_losses_stay_finite_for_large_scores(name):
    scores = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], requires_grad=True)
    loss = SAMPLED_LOSSES[name](scores)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def log_sum(x: Any) -> Any:
    return np.log(np.exp(x).sum())
