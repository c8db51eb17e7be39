"""Steps with gradients by hand: each against torch's own, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hpolab.recommender import gradients
from hpolab.recommender.gradients import (
    relu_dropout,
    row_products,
    squared_norm,
    table_products,
    unit_rows,
)


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def ids(n: int, m: int, k: int) -> torch.Tensor:
    return torch.randint(k, (n, m), generator=torch.Generator().manual_seed(2))


def assert_same_gradients(found, expected, *leaves) -> None:
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=found.dtype)
    ours = torch.autograd.grad((found * weights).sum(), leaves)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves)
    torch.testing.assert_close(ours, theirs)


def test_row_products_are_products():
    users, items = leaf(5, 4), leaf(5, 3, 4, seed=1)
    assert_same_gradients(
        row_products(users, items), torch.einsum("nd,nmd->nm", users, items), users, items
    )
    assert torch.autograd.gradcheck(row_products, (users, items))


# Of 4 rows most occur more than once, of 50 most do not occur.
@pytest.mark.parametrize("k", [4, 50])
@pytest.mark.parametrize(("n", "m"), [(7, 3), (1, 1), (30, 17)])
def test_table_products_are_products_with_rows_of_the_table(n, m, k, monkeypatch):
    monkeypatch.setattr(gradients, "_GATHERED", 40)
    users, table, rows = leaf(n, 6), leaf(k, 6, seed=1), ids(n, m, k)
    expected = torch.einsum("nd,nmd->nm", users, table[rows])
    assert_same_gradients(table_products(users, table, rows), expected, users, table)
    if n * m < 100:
        assert torch.autograd.gradcheck(lambda u, t: table_products(u, t, rows), (users, table))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3), (5,)])
def test_squared_norm_is_the_sum_of_squares(shape):
    rows = leaf(*shape)
    assert_same_gradients(squared_norm(rows), rows.square().sum(), rows)


def test_squared_norm_counts_rows():
    rows, counts = leaf(4, 3), torch.tensor([2.0, 0.0, 1.0, 5.0], dtype=torch.float64)
    expected = (rows.square().sum(1) * counts).sum()
    assert_same_gradients(squared_norm(rows, counts), expected, rows)
    assert torch.autograd.gradcheck(lambda r: squared_norm(r, counts), (rows,))


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4)])
def test_unit_rows_have_length_one(shape):
    rows = leaf(*shape)
    assert_same_gradients(unit_rows(rows), F.normalize(rows, dim=-1), rows)
    assert torch.autograd.gradcheck(unit_rows, (rows,))


def test_rows_of_zeros_stay_zeros():
    assert torch.equal(unit_rows(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_dropped", [1, 2**14, 2**16 - 1])
def test_dropout_is_a_mask_by_numbers(n_dropped, dtype):
    numbers = torch.arange(-(2**15), 2**15).to(torch.int16)
    x = torch.randn(2**16, dtype=dtype).requires_grad_()
    kept = (torch.arange(2**16) >= n_dropped) & (x > 0)
    expected = x * kept * (2**16 / (2**16 - n_dropped))
    assert_same_gradients(relu_dropout(x, numbers, n_dropped), expected, x)
