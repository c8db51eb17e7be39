"""Losses of the torch recommenders: their formulas, and finite for any score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hpolab.recommender.losses import SAMPLED_LOSSES, full_softmax


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
