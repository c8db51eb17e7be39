"""SASRec: self-attention over what a user has taken, to tell what comes next."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpolab.errors import InvalidArgument, one_of
from hpolab.recommender.losses import SAMPLED_LOSSES
from hpolab.recommender.negatives import NegativeSampler
from hpolab.recommender.sequences import Sequences
from hpolab.recommender.space import RECOMMENDER_LOSSES
from hpolab.recommender.trainer import (
    RecommenderTrainer,
    RecommenderTraining,
    count_param,
    number_param,
)
from hpolab.seeding import derive_seed
from hpolab.torch.build import build_optimizer, build_schedule
from hpolab.torch.rng import order_seed, seeded
from hpolab.torch.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.negatives import TensorNegativeSampler
    from hpolab.recommender.sequences import Packed

    Ints = NDArray[np.int64]

__all__ = ["SasRec", "SasRecModel"]

# The authors' (github.com/kang205/SASRec, modules.py); so small that it is none.
_NORM_EPS = 1e-8
# Cells of a group's attention, users by length by length: 2 MB of float32, near a core's cache.
_ATTENTION_CELLS = 2**19
# Scores computed at a time in a loss, 8 MB: so many positions by items would fill the memory.
_LOSS_CELLS = 2**21
# Users whose sequences are read at a time where they are scored.
_SCORED_USERS = 256


@final
class SasRec(RecommenderTrainer):
    """Trains SASRec, which tells a user's next item from the sequence of those before it.

    Kang and McAuley 2018, "Self-attentive sequential recommendation", ICDM. With the softmax over
    all items as its loss it is ahead of BERT4Rec (Klenitskiy and Vasilev 2023, "Turning dross into
    gold loss: is BERT4Rec really better than SASRec?", RecSys). Each position of a sequence learns
    to tell the item that follows. An epoch goes once through all users in a random order.

    Layer norms are where the authors' code has them: before attention for queries alone, before
    each network, and at the end; a residual adds what the norm returned. Positions are learned, and
    counted from the end of a sequence. Side features are not read.

    Scores are for what follows the user's last row in `train`. To rank test items as is published
    ("last item to test"), validation rows must be the end of the sequence, although nothing was
    learned from them: `RecommenderObjective` gives them by `RecommenderTraining.with_history`. A
    user without a row has a score of 0 for each item.

    Trials of it train alone, as those of all recommenders: `fuse` stacks the rows of trials that
    share a batch, and here each trial has an order of users of its own, whose sequences differ in
    length.

    Parameters of a trial: those of `recommender_space`, with `batch_size` in users. `max_length` is
    how many of a user's last items are read; those before are not learned from either. `n_heads`
    need not divide `embedding_size`: a head is as wide as the quotient rounded up.

    Args:
        device: Where model and data live.

    Example:
        >>> from hpolab import Interactions, recommender_space
        >>> users = np.repeat(np.arange(40), 8)
        >>> items = (np.arange(8) + np.arange(40)[:, None]) % 10  # each item is followed by the next
        >>> train = Interactions.of(users, items.ravel())
        >>> params = recommender_space("sasrec").defaults() | {"lr": 0.01, "embedding_size": 16}
        >>> trainer = SasRec()
        >>> with trainer.seeded(0):
        ...     training = trainer.start(params, train, seed=0, max_epochs=60)
        ...     for _ in range(60):
        ...         training.epoch()
        >>> training.scores(np.array([0, 1])).argmax(axis=1)  # they ended with 7 and 8
        array([8, 9])
    """

    name = "sasrec"

    def __init__(self, *, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> SasRecTraining:
        """Return a training before its first epoch, inside `seeded`, which initial weights need.

        Raises:
            InvalidArgument: If a parameter is missing or out of its range, no user has two rows, or
                a loss needs negatives of a user who has taken every item.
            InvalidType: If a parameter is of the wrong type.
        """
        loss = one_of("loss", params.get("loss"), RECOMMENDER_LOSSES[self.name])
        batch_size = count_param(params, "batch_size")
        dropout = number_param(params, "dropout", at_least=0.0)
        if dropout >= 1:
            raise InvalidArgument(f"`dropout` must be below 1, got {dropout}.")
        sequences = Sequences(train)
        learned_from = np.flatnonzero(sequences.lengths >= 2)
        if not len(learned_from):
            raise InvalidArgument(
                "`train` must hold a user with two rows or more, one of which follows the other, "
                f"got at most {sequences.lengths.max(initial=0)} of a user."
            )
        model = SasRecModel(
            train.n_items,
            embedding_size=count_param(params, "embedding_size"),
            n_blocks=count_param(params, "n_blocks"),
            n_heads=count_param(params, "n_heads"),
            max_length=count_param(params, "max_length"),
            dropout=dropout,
        ).to(self._device)
        optimizer = build_optimizer(params, model)
        steps = -(-len(learned_from) // batch_size)
        schedule = build_schedule(params, optimizer, max_epochs=max_epochs, steps_per_epoch=steps)
        order = torch.Generator().manual_seed(order_seed(seed))
        drawing = torch.Generator(self._device).manual_seed(derive_seed(seed, "negatives"))
        return SasRecTraining(
            model,
            TrainingState(model, optimizer, schedule, [order, drawing], self._device),
            sequences=sequences,
            learned_from=learned_from,
            batch_size=batch_size,
            loss=_Loss.of(loss, params, train, drawing),
        )

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return a context in which torch's random state is seeded; outside it stays as it was."""
        return seeded(seed, self._device)


class SasRecTraining(RecommenderTraining):
    """A SASRec between two epochs; made by `SasRec`."""

    def __init__(
        self,
        model: SasRecModel,
        state: TrainingState,
        *,
        sequences: Sequences,
        learned_from: Ints,
        batch_size: int,
        loss: _Loss,
    ) -> None:
        self.model = model
        self._state = state
        self._sequences = sequences
        self._history = sequences
        self._learned_from = learned_from
        self._batch_size = batch_size
        self._loss = loss

    def epoch(self) -> None:
        self.model.train()
        state = self._state
        order = torch.randperm(len(self._learned_from), generator=state.generators[0]).numpy()
        for start in range(0, len(order), self._batch_size):
            users = self._learned_from[order[start : start + self._batch_size]]
            state.optimizer.zero_grad()
            self._backward(users)
            state.optimizer.step()
            state.schedule.step()

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        self.model.eval()
        table = np.zeros((len(users), self.model.n_items), np.float32)
        known = np.flatnonzero(self._history.lengths[users] > 0)
        # Users of like length are read together.
        known = known[np.argsort(-self._history.lengths[users[known]], kind="stable")]
        with torch.no_grad():
            for start in range(0, len(known), _SCORED_USERS):
                rows = known[start : start + _SCORED_USERS]
                packed = self._history.last(users[rows], self.model.max_length)
                ends = self.model.ends(_Batch.of(packed, self._state.device))
                table[rows] = (ends @ self.model.items.weight.T).cpu().numpy()
        return table

    def with_history(self, rows: Interactions) -> SasRecTraining:
        """Return this model, for which a user's sequence is that of ``rows``."""
        other = copy.copy(self)
        other._history = Sequences(rows)
        return other

    def keep_best(self) -> None:
        self._state.keep_best()

    def load_best(self) -> None:
        self._state.load_best()

    def to_bytes(self) -> bytes:
        return self._state.to_bytes()

    def from_bytes(self, state: bytes) -> None:
        self._state.from_bytes(state)

    def _backward(self, users: Ints) -> None:
        """Compute the gradients of the loss, a mean over the positions of users (b,)."""
        # The longest first, as a batch groups them.
        users = users[np.argsort(-self._sequences.lengths[users], kind="stable")]
        inputs, targets = self._sequences.last(users, self.model.max_length + 1).shifted()
        hidden = self.model(_Batch.of(inputs, self._state.device))
        # The loss goes back part by part as far as here, then once through the model.
        reached = hidden.detach().requires_grad_()
        following = torch.as_tensor(targets).to(reached.device)
        whose = torch.as_tensor(np.repeat(users, inputs.lengths)).to(reached.device)
        for part in self._loss.parts(self.model, len(reached)):
            total = self._loss.total(self.model, reached[part], whose[part], following[part])
            (total / len(reached)).backward()  # type: ignore[no-untyped-call]
        hidden.backward(reached.grad)  # type: ignore[no-untyped-call]


class _Loss:
    """A loss over all positions of a batch, computed some positions at a time.

    Args:
        name: "softmax", or one of `SAMPLED_LOSSES`.
        n_negatives: Negatives of each position; 0 for the full softmax.
        sampler: Draws them; None for the full softmax.
        generator: What draws them.
    """

    def __init__(
        self,
        name: str,
        n_negatives: int,
        sampler: TensorNegativeSampler | None,
        generator: torch.Generator,
    ) -> None:
        self._name = name
        self._n_negatives = n_negatives
        self._sampler = sampler
        self._generator = generator

    @classmethod
    def of(
        cls, name: str, params: Mapping[str, Any], train: Interactions, generator: torch.Generator
    ) -> _Loss:
        if name == "softmax":
            return cls(name, 0, None, generator)
        n_negatives = count_param(params, "n_negatives")
        sampler = NegativeSampler(train)
        sampler.check(train.users)
        return cls(name, n_negatives, sampler.to(generator.device), generator)

    def parts(self, model: SasRecModel, n: int) -> Iterator[slice]:
        """Return the positions (n,) in parts whose scores stay small."""
        cells = (1 + self._n_negatives) * model.items.weight.shape[1]
        if self._sampler is None:
            cells = model.n_items
        size = max(1, _LOSS_CELLS // cells)
        return (slice(start, start + size) for start in range(0, n, size))

    def total(
        self, model: SasRecModel, hidden: Tensor, users: Tensor, following: Tensor
    ) -> Tensor:
        """Return the sum of the loss over positions.

        Args:
            model: Has the embeddings of items.
            hidden: (m, d) what the model knows at each position.
            users: (m,) whose they are.
            following: (m,) the item that follows each.
        """
        if self._sampler is None:
            return F.cross_entropy(hidden @ model.items.weight.T, following, reduction="sum")
        negatives = self._sampler.draw(users, self._n_negatives, self._generator)
        candidates = torch.cat([following.unsqueeze(1), negatives], 1)
        scores = (model.items(candidates) @ hidden.unsqueeze(-1)).squeeze(-1)
        return SAMPLED_LOSSES[self._name](scores) * len(hidden)


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
        self._dropout = dropout
        self.items = nn.Embedding(n_items, embedding_size)
        self.positions = nn.Embedding(max_length, embedding_size)
        self.blocks = nn.ModuleList(
            _Block(embedding_size, n_heads, dropout) for _ in range(n_blocks)
        )
        self.norm = nn.LayerNorm(embedding_size, eps=_NORM_EPS)
        for each in self.parameters():
            if each.ndim > 1:
                nn.init.xavier_normal_(each)

    def forward(self, batch: _Batch) -> Tensor:
        """Return what is known at each position of sequences, (n, d)."""
        x = self._embedded(batch)
        for block in self.blocks:
            x = block(x, batch)
        out: Tensor = self.norm(x)
        return out

    def ends(self, batch: _Batch) -> Tensor:
        """Return what is known at the end of each sequence, (b, d)."""
        x = self._embedded(batch)
        *inner, last = self.blocks
        for block in inner:
            x = block(x, batch)
        out: Tensor = self.norm(last.ends(x, batch))
        return out

    def _embedded(self, batch: _Batch) -> Tensor:
        # Vaswani et al. 2017, section 3.4, as the authors' code: else positions would drown items.
        scale = math.sqrt(self.items.embedding_dim)
        embedded = self.items(batch.items) * scale + self.positions(batch.positions)
        return F.dropout(embedded, self._dropout, self.training)


class _Block(nn.Module):
    """Self-attention and a network of two layers, each added to what its norm returned."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self._n_heads = n_heads
        self._dropout = dropout
        width = n_heads * -(-size // n_heads)
        self.attention_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.query = _linear(size, width)
        self.key_value = _linear(size, 2 * width)
        self.joined = _linear(width, size)
        self.network_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.inner = _linear(size, size)
        self.outer = _linear(size, size)

    def forward(self, x: Tensor, batch: _Batch) -> Tensor:
        """Return the positions (n, d) after the block."""
        normed = self.attention_norm(x)
        table = torch.cat([self.query(normed), self.key_value(x)], 1)
        found = []
        for group in batch.groups:
            query, key, value = self._heads(group.padded(table[group.rows])).unbind(2)
            attended = self._attend(query, key, value, is_causal=True)
            found.append(attended.flatten(0, 1)[group.cells])
        return self._network(normed + self.joined(torch.cat(found)))

    def ends(self, x: Tensor, batch: _Batch) -> Tensor:
        """Return the last position of each sequence after the block, (b, d)."""
        normed = self.attention_norm(x[batch.last])
        queries, table = self.query(normed), self.key_value(x)
        found = []
        for group in batch.groups:
            query = self._heads(queries[group.users].unsqueeze(1)).squeeze(2)
            key, value = self._heads(group.padded(table[group.rows])).unbind(2)
            attended = self._attend(query, key, value, attn_mask=group.is_there)
            found.append(attended.squeeze(1))
        return self._network(normed + self.joined(torch.cat(found)))

    def _heads(self, padded: Tensor) -> Tensor:
        """Return (b, l, k * h * e) as (b, l, k, h, e)."""
        return padded.unflatten(2, (-1, self._n_heads, self.joined.in_features // self._n_heads))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, **mask: Any) -> Tensor:
        """Return the attention of (b, l, h, e), heads side by side, (b, l, h * e)."""
        attended = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            dropout_p=self._dropout if self.training else 0.0,
            **mask,
        )
        return attended.transpose(1, 2).flatten(2)

    def _network(self, x: Tensor) -> Tensor:
        normed = self.network_norm(x)
        hidden = F.dropout(F.relu(self.inner(normed)), self._dropout, self.training)
        out: Tensor = normed + F.dropout(self.outer(hidden), self._dropout, self.training)
        return out


class _Group(NamedTuple):
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

    def padded(self, x: Tensor) -> Tensor:
        """Return positions (m, d) as (users, length, d), 0 behind the end of a sequence.

        What is behind is after all positions that are there, so that causal attention never reads
        it.
        """
        n_users, _, _, length = self.is_there.shape
        empty = x.new_zeros(n_users * length, x.shape[1])
        return empty.index_copy(0, self.cells, x).view(n_users, length, -1)


class _Batch(NamedTuple):
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
    groups: list[_Group]

    @classmethod
    def of(cls, packed: Packed, device: torch.device) -> _Batch:
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
                _Group(
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
