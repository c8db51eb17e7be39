"""The network of SASRec: causal self-attention over sequences of several lengths.

Positions of all sequences of a batch stand behind one another, without padding. Attention alone
needs a rectangle: users are grouped by length, and each group is padded to its own longest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from hpolab.recommender.sequences import Packed

__all__ = ["Batch", "SasRecModel"]

# The authors' (github.com/kang205/SASRec, modules.py); so small that it is none.
_NORM_EPS = 1e-8
# Cells of a group's attention, users by length by length: 2 MB of float32, near a core's cache.
_ATTENTION_CELLS = 2**19


@final
class SasRecModel(nn.Module):
    """The network of SASRec: item and position embeddings, blocks of attention, a norm.

    Args:
        n_items: How many items there are.
        embedding_size: Numbers of an embedding.
        n_blocks: How many blocks of attention and a network.
        n_heads: How many heads each attention has.
        max_length: The longest sequence.
        dropout: Of embeddings, attention weights and networks, 0 to below 1.
    """

    def __init__(
        self,
        n_items: int,
        *,
        embedding_size: int,
        n_blocks: int,
        n_heads: int,
        max_length: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self.max_length = max_length
        self.dropout = _Dropout(dropout)
        self.items = nn.Embedding(n_items, embedding_size)
        self.positions = nn.Embedding(max_length, embedding_size)
        self.blocks = nn.ModuleList(
            _Block(embedding_size, n_heads, dropout) for _ in range(n_blocks)
        )
        self.norm = nn.LayerNorm(embedding_size, eps=_NORM_EPS)
        for each in self.parameters():
            if each.ndim > 1:
                nn.init.xavier_normal_(each)

    def forward(self, batch: Batch) -> Tensor:
        """Return what is known at each position of sequences, (n, d)."""
        x: Tensor = self._embedded(batch)
        for block in self._blocks():
            x = block(x, batch)
        out: Tensor = self.norm(x)
        return out

    def ends(self, batch: Batch) -> Tensor:
        """Return what is known at the end of each sequence, (b, d)."""
        x = self._embedded(batch)
        *inner, last = self._blocks()
        for block in inner:
            x = block(x, batch)
        out: Tensor = self.norm(last.ends(x, batch))
        return out

    def _blocks(self) -> list[_Block]:
        return cast("list[_Block]", list(self.blocks))

    def _embedded(self, batch: Batch) -> Tensor:
        # As the authors' code (Vaswani et al. 2017, section 3.4), or positions drown items: NDCG@10
        # on MovieLens-100K's last items is 0.083 without it and 0.107 with it.
        scale = math.sqrt(self.items.embedding_dim)
        embedded = self.items(batch.items) * scale + self.positions(batch.positions)
        dropped: Tensor = self.dropout(embedded)
        return dropped


class _Block(nn.Module):
    """Self-attention and a network of two layers, each added to what its norm returned."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self._n_heads = n_heads
        self.dropout = _Dropout(dropout)
        width = n_heads * -(-size // n_heads)
        self.attention_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.query = _linear(size, width)
        self.key_value = _linear(size, 2 * width)
        self.joined = _linear(width, size)
        self.network_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.inner = _linear(size, size)
        self.outer = _linear(size, size)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """Return the positions (n, d) after the block."""
        normed = self.attention_norm(x)
        table = torch.cat([self.query(normed), self.key_value(x)], 1)
        found = []
        for group in batch.groups:
            query, key, value = self._heads(group.padded(table[group.rows])).unbind(2)
            attended = self._attend(query, key, value, group.is_past)
            found.append(attended.flatten(0, 1)[group.cells])
        return self._network(normed + self.joined(torch.cat(found)))

    def ends(self, x: Tensor, batch: Batch) -> Tensor:
        """Return the last position of each sequence after the block, (b, d)."""
        normed = self.attention_norm(x[batch.last])
        queries, table = self.query(normed), self.key_value(x)
        found = []
        for group in batch.groups:
            query = self._heads(queries[group.users].unsqueeze(1)).squeeze(2)
            key, value = self._heads(group.padded(table[group.rows])).unbind(2)
            attended = self._attend(query, key, value, group.is_there)
            found.append(attended.squeeze(1))
        return self._network(normed + self.joined(torch.cat(found)))

    def _heads(self, padded: Tensor) -> Tensor:
        """Return (b, l, k * h * e) as (b, l, k, h, e)."""
        width = self.joined.in_features // self._n_heads
        return padded.view(*padded.shape[:2], -1, self._n_heads, width)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, is_read: Tensor) -> Tensor:
        """Return the attention of (b, l, h, e), heads side by side, (b, l, h * e)."""
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        if self.training:
            # By hand for the quick dropout, and for the same gradients each time on any device.
            logits = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3)
            weights = torch.softmax(logits.masked_fill_(~is_read, -math.inf), -1)
            attended: Tensor = self.dropout(weights) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value, is_read)
        return attended.transpose(1, 2).flatten(2)

    def _network(self, x: Tensor) -> Tensor:
        normed = self.network_norm(x)
        hidden = self.dropout(F.relu(self.inner(normed)))
        out: Tensor = normed + self.dropout(self.outer(hidden))
        return out


class _Dropout(nn.Module):
    """`nn.Dropout` that draws a quarter of the random numbers, 16 bits for each element.

    The rate is rounded to a multiple of 2^-16. See `hpolab.recommender.models.ReLUDropout`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._n_dropped = min(round(p * 2**16), 2**16 - 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self._n_dropped:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits >= self._n_dropped - 2**15
        return x * (kept * (2**16 / (2**16 - self._n_dropped)))


class Group(NamedTuple):
    """Some users of a batch, whose sequences are padded to one length for attention alone.

    Attributes:
        rows: Their positions among the n of the batch.
        users: Their places among the b users of the batch.
        cells: (m,) the cell of each position among the users' padded ones.
        is_there: (users, 1, 1, length) whether a padded cell holds a position.
    """

    rows: slice
    users: slice
    cells: Tensor
    is_there: Tensor

    @property
    def is_past(self) -> Tensor:
        """Which positions each one reads, (length, length): itself and those before it.

        What is behind the end of a sequence is after all of it, and so is never read.
        """
        length = self.is_there.shape[3]
        return torch.ones(length, length, dtype=torch.bool, device=self.is_there.device).tril()

    def padded(self, x: Tensor) -> Tensor:
        """Return positions (m, d) as (users, length, d), 0 behind the end of a sequence."""
        n_users, _, _, length = self.is_there.shape
        empty = x.new_zeros(n_users * length, x.shape[1])
        return empty.index_copy(0, self.cells, x).view(n_users, length, -1)


class Batch(NamedTuple):
    """Sequences of b users, n positions in all, without padding.

    Attributes:
        items: (n,).
        positions: (n,) from the end of each sequence.
        last: (b,) where each sequence ends.
        groups: Users in groups of like length, in their order.
    """

    items: Tensor
    positions: Tensor
    last: Tensor
    groups: list[Group]

    @classmethod
    def of(cls, packed: Packed, device: torch.device) -> Batch:
        """Return a batch of sequences, the longest first."""
        groups = []
        ends = np.cumsum(packed.lengths)
        first = 0
        while first < len(packed.lengths):
            longest = int(packed.lengths[first])
            behind = min(first + max(1, _ATTENTION_CELLS // longest**2), len(packed.lengths))
            lengths = packed.lengths[first:behind]
            is_there = np.arange(longest) < lengths[:, None]
            begin, end = int(ends[first] - lengths[0]), int(ends[behind - 1])
            groups.append(
                Group(
                    slice(begin, end),
                    slice(first, behind),
                    torch.as_tensor(np.flatnonzero(is_there)).to(device),
                    torch.as_tensor(is_there).to(device)[:, None, None],
                )
            )
            first = behind
        return cls(
            torch.as_tensor(packed.items).to(device),
            torch.as_tensor(packed.positions).to(device),
            torch.as_tensor(packed.last).to(device),
            groups,
        )


def _linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.zeros_(layer.bias)
    return layer
