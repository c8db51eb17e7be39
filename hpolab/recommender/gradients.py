"""Steps of the torch recommenders whose gradients are written by hand.

torch's own would keep and read again what is not needed: each candidate's own copy of an item's
vector, all squares. On a CPU that is most of an epoch's time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "pick_rows",
    "relu_dropout",
    "row_products",
    "squared_norm",
    "table_products",
    "unit_rows",
]

# Numbers of the vectors that are gathered at a time: 512 KiB, which stay in a core's cache.
_GATHERED = 2**17


def pick_rows(table: Tensor, ids: Tensor) -> Tensor:
    """Return rows (..., d) of a table (n, d) by ids (...)."""
    if table.device.type != "cpu":
        return F.embedding(ids, table)  # the same result each time, unlike the other there
    # On a CPU there and back in half the time.
    return table.index_select(0, ids.flatten()).view(*ids.shape, table.shape[1])


def row_products(users: Tensor, items: Tensor) -> Tensor:
    """Return the products (n, m) of users (n, d), each with m items of its own, (n, m, d)."""
    products: Tensor = _RowProducts.apply(users, items)  # type: ignore[no-untyped-call]
    return products


def table_products(users: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """Return the products (n, m) of users (n, d), each with m rows of a table.

    Args:
        users: (n, d).
        table: (k, d).
        ids: Rows of ``table``, (n, m).
    """
    if table.device.type != "cpu":
        return row_products(users, pick_rows(table, ids))
    products: Tensor = _TableProducts.apply(users, table, ids)  # type: ignore[no-untyped-call]
    return products


def squared_norm(rows: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return the squared norm of a tensor, (); each row counts as often as ``counts`` says, (k,).

    Args:
        rows: Of any shape; (k, d) where there are counts.
        counts: (k,) or None for once each.
    """
    norm: Tensor = _SquaredNorm.apply(rows, counts)  # type: ignore[no-untyped-call]
    return norm


def unit_rows(rows: Tensor) -> Tensor:
    """Return ``rows`` (..., d) at length 1, as `torch.nn.functional.normalize` does."""
    unit: Tensor = _UnitRows.apply(rows)  # type: ignore[no-untyped-call]
    return unit


def relu_dropout(x: Tensor, numbers: Tensor, n_dropped: int) -> Tensor:
    """Return ``x``, 0 where it is negative or dropped; what is kept is scaled up.

    Args:
        x: Of any shape.
        numbers: Random int16 of the same shape, -2**15 to below 2**15.
        n_dropped: How many of the 2**16 numbers, the lowest ones, drop an element.
    """
    kept: Tensor = _ReluDropout.apply(x, numbers, n_dropped)  # type: ignore[no-untyped-call]
    return kept


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: Tensor, n_dropped: int) -> Tensor:
        ctx.scale = 2**16 / (2**16 - n_dropped)
        # All ones where it is dropped, and zeros elsewhere: torch takes three times as long for a
        # product with truths.
        dropped = numbers.int().sub_(n_dropped - 2**15).bitwise_right_shift_(31)
        if x.dtype == torch.float32:
            kept = dropped.bitwise_not_().bitwise_and_(x.view(torch.int32)).view(torch.float32)
        else:
            kept = x.masked_fill(dropped.bool(), 0.0)
        kept.clamp_min_(0.0).mul_(ctx.scale)
        ctx.save_for_backward(kept)
        return kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.threshold_backward(gradient, kept, 0.0)
        return passed.mul_(ctx.scale), None, None


class _RowProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(users, items)
        return torch.bmm(items, users.unsqueeze(2)).squeeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        users, items = ctx.saved_tensors
        of_users = torch.bmm(gradient.unsqueeze(1), items).squeeze(1)
        return of_users, gradient.unsqueeze(2) * users.unsqueeze(1)


class _TableProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(users, table, ids)
        n_rows = max(1, _GATHERED // (ids.shape[1] * table.shape[1]))
        products = users.new_empty((*ids.shape, 1))
        parts = (torch.split(each, n_rows) for each in (users, ids, products))
        for some, theirs, found in zip(*parts, strict=True):
            torch.bmm(pick_rows(table, theirs), some.unsqueeze(2), out=found)
        return products.squeeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        # With the gradient as a sparse matrix G of users by rows of the table, they are
        # G @ table and G^T @ users.
        users, table, ids = ctx.saved_tensors
        gradient = gradient.contiguous()
        starts = torch.arange(0, ids.numel(), ids.shape[1])
        of_users = _weighted_sums(table, ids.flatten(), starts, gradient.flatten())
        of_table = _weighted_sums(users, *_by_column(ids, gradient, len(table)))
        return of_users, of_table, None


def _weighted_sums(table: Tensor, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Return sums of weighted rows of a table, one from each of ``starts`` on."""
    return F.embedding_bag(ids, table, starts, mode="sum", per_sample_weights=weights)


def _by_column(ids: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sort a sparse matrix that has m values in each row by its columns.

    Args:
        ids: The column of each value, (n_rows, m).
        values: (n_rows, m).
        n: The number of columns.

    Returns:
        The row of each value, (n_rows * m,), where each column begins, (n,), and the values.
    """
    from scipy.sparse import csr_matrix

    starts = torch.arange(0, ids.numel() + 1, ids.shape[1], dtype=torch.int32)
    parts = (values.flatten().numpy(), ids.flatten().int().numpy(), starts.numpy())
    sorted_parts = csr_matrix(parts, shape=(len(ids), n)).tocsc()
    rows, column_starts, sorted_values = map(
        torch.from_numpy, (sorted_parts.indices, sorted_parts.indptr[:-1], sorted_parts.data)
    )
    return rows, column_starts, sorted_values


class _SquaredNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, counts)
        if counts is None:
            norm: Tensor = torch.linalg.vector_norm(rows).square()
        else:
            norm = torch.linalg.vector_norm(rows, dim=1).square() @ counts
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, counts = ctx.saved_tensors
        twice = 2 * gradient
        return rows * (twice if counts is None else (counts * twice).unsqueeze(1)), None


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min_(1e-12)
        unit: Tensor = rows / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, unit).unsqueeze(-1)
        across: Tensor = torch.addcmul(gradient, unit, along, value=-1)
        return across.div_(lengths)
