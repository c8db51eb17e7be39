"""SASRec: self-attention over what a user has taken, to tell what comes next."""

from __future__ import annotations

import abc
import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch

from hpolab.errors import InvalidArgument, one_of
from hpolab.recommender.attention import Batch, SasRecModel
from hpolab.recommender.losses import SAMPLED_LOSSES
from hpolab.recommender.negatives import NegativeDraw, NegativeSampler, rows_with_negatives
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
    from torch import Tensor, nn

    from hpolab.recommender.interactions import Interactions

    Ints = NDArray[np.int64]

__all__ = ["SasRec", "SasRecTraining"]

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
    counted from the end of a sequence. The weight of a row is that of its item where it is what
    follows; side features are not read. What a user takes again is one row, its last: see
    `Interactions.of`.

    Scores are for what follows the user's last row in `train`. To rank test items as is published
    ("last item to test"), validation rows must be the end of the sequence, although nothing was
    learned from them: `RecommenderObjective` gives them by `RecommenderTraining.with_history`. A
    user without a row has a score of 0 for each item.

    Trials of it train alone, as those of all recommenders: `fuse` stacks the rows of trials that
    share a batch, and here each trial has an order of users of its own, whose sequences differ in
    length.

    Parameters of a trial: those of `recommender_space`, with `batch_size` in users. `max_length` is
    how many of a user's last items are read; those before are not learned from either. `n_heads`
    need not divide `embedding_size`: a head is as wide as the quotient rounded up. `n_negatives`
    are drawn uniformly from what the user has not taken, by "bce" for each position, by
    "sampled_softmax" for each user of a batch: its many would cost more than all items otherwise.

    Args:
        device: Where model and data live.

    Example:
        >>> from hpolab import Interactions, recommender_space
        >>> users = np.repeat(np.arange(40), 8)
        >>> items = (np.arange(8) + np.arange(40)[:, None]) % 10
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
    reads_weights = True

    def __init__(self, *, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._said: set[str] = set()

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> SasRecTraining:
        """Return a training before its first epoch, inside `seeded`, which initial weights need.

        Raises:
            InvalidArgument: If a parameter is missing or out of its range, no user has two rows, or
                a loss needs negatives and every user has taken every item.
            InvalidType: If a parameter is of the wrong type.
        """
        loss = one_of("loss", params.get("loss"), RECOMMENDER_LOSSES[self.name])
        batch_size = count_param(params, "batch_size")
        dropout = number_param(params, "dropout", at_least=0.0)
        if dropout >= 1:
            raise InvalidArgument(f"`dropout` must be below 1, got {dropout}.")
        weights = None if train.weights is None else train.weights / train.weights.mean()
        sequences = Sequences(replace(train, weights=weights))
        learned_from = np.flatnonzero(sequences.lengths >= 2)
        sampler = NegativeSampler(train) if loss in SAMPLED_LOSSES else None
        if not len(learned_from):
            raise InvalidArgument(
                "`train` must hold a user with two rows or more, one of which follows the other, "
                f"got at most {sequences.lengths.max(initial=0)} of a user."
            )
        if sampler is not None:
            learned_from = learned_from[rows_with_negatives(sampler, learned_from, self._said)]
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
            loss=_new_loss(loss, params, sampler, drawing),
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
        state = self._state
        state.to_training()
        order = torch.randperm(len(self._learned_from), generator=state.generators[0]).numpy()
        for start in range(0, len(order), self._batch_size):
            users = self._learned_from[order[start : start + self._batch_size]]
            state.optimizer.zero_grad()
            self._backward(users)
            state.optimizer.step()
            state.schedule.step()
        state.to_evaluation()

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
                ends = self.model.ends(Batch.of(packed, self._state.device))
                table[rows] = (ends @ self.model.items.weight.T).cpu().numpy()
        return table

    def item_vectors(self) -> NDArray[Any]:
        vectors: NDArray[Any] = self.model.items.weight.detach().cpu().numpy()
        return vectors

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
        inputs, following = self._sequences.last(users, self.model.max_length + 1).shifted()
        batch = Batch.of(inputs, self._state.device)
        hidden = self.model(batch)
        shares = np.ones(len(hidden)) if following.weights is None else following.weights
        positions = _Positions(
            hidden.detach(),
            torch.as_tensor(np.repeat(users, inputs.lengths)).to(hidden.device),
            torch.as_tensor(following.items).to(hidden.device),
            torch.as_tensor((shares / len(hidden)).astype(np.float32)).to(hidden.device),
        )
        hidden.backward(self._loss(self.model.items, positions, batch))


class _Positions(NamedTuple):
    """Positions of sequences, and what is to be learned there.

    Attributes:
        hidden: (n, d) what is known at each, without a graph.
        users: (n,) whose they are.
        following: (n,) the item that follows each.
        shares: (n,) by how much the loss of each counts.
    """

    hidden: Tensor
    users: Tensor
    following: Tensor
    shares: Tensor

    def split(self, n_cells: int) -> Iterator[_Positions]:
        """Yield parts that take some memory, where a position takes so many numbers."""
        size = max(1, _LOSS_CELLS // n_cells)
        for start in range(0, len(self.hidden), size):
            yield _Positions(*(of[start : start + size] for of in self))


class _Loss(abc.ABC):
    """A loss over all positions of a batch, computed some positions at a time."""

    def __call__(self, items: nn.Embedding, positions: _Positions, batch: Batch) -> Tensor:
        """Return the gradient of the loss by what is known at each position, (n, d).

        That by the embeddings of items is added to theirs.
        """
        if items.weight.grad is None:
            items.weight.grad = torch.zeros_like(items.weight)
        return torch.cat(list(self._parts(items, positions, batch)))

    @abc.abstractmethod
    def _parts(self, items: nn.Embedding, positions: _Positions, batch: Batch) -> Iterator[Tensor]:
        """Yield the gradient, some positions at a time in their order."""


class _FullLoss(_Loss):
    """The softmax loss over all items: its gradient by scores is softmax(s) - 1 at the item."""

    @torch.no_grad()
    def _parts(self, items: nn.Embedding, positions: _Positions, batch: Batch) -> Iterator[Tensor]:
        # By hand: what autograd keeps for it, and clears, takes half of an epoch's time.
        assert items.weight.grad is not None
        for hidden, _, following, shares in positions.split(items.num_embeddings):
            by_scores = torch.softmax(hidden @ items.weight.T, 1)
            by_scores[torch.arange(len(following), device=following.device), following] -= 1
            by_scores *= shares[:, None]
            items.weight.grad.addmm_(by_scores.T, hidden)
            yield by_scores @ items.weight


class _SampledLoss(_Loss):
    """A loss over each position's item and negatives drawn for it.

    Args:
        name: One of `SAMPLED_LOSSES`.
        draw: Draws them.
    """

    def __init__(self, name: str, draw: NegativeDraw) -> None:
        self._loss = SAMPLED_LOSSES[name]
        self._draw = draw

    def _parts(self, items: nn.Embedding, positions: _Positions, batch: Batch) -> Iterator[Tensor]:
        for part in positions.split((1 + self._draw.n) * items.embedding_dim):
            reached = part.hidden.detach().requires_grad_()
            negatives = items(self._draw(part.users))
            yield self._backward(items, part, reached, (negatives @ reached[..., None])[..., 0])

    def _backward(
        self, items: nn.Embedding, part: _Positions, reached: Tensor, negatives: Tensor
    ) -> Tensor:
        """Return the gradient by ``reached`` (m, d), of which negatives' scores (m, k) are."""
        positives = (items(part.following) * reached).sum(1, keepdim=True)
        # A mean over the part, whose shares make it the part's of the mean over the batch.
        scores = torch.cat([positives, negatives], 1)
        total = self._loss(scores, part.shares * len(scores))
        total.backward()  # type: ignore[no-untyped-call]
        assert reached.grad is not None
        return reached.grad


class _SharedLoss(_SampledLoss):
    """A loss over each position's item and negatives that are drawn once for all of a user's.

    Many negatives cost one product then, in place of their embeddings for each position.
    """

    def _parts(self, items: nn.Embedding, positions: _Positions, batch: Batch) -> Iterator[Tensor]:
        users = positions.users[batch.last]
        for group in batch.groups:
            part = _Positions(*(of[group.rows] for of in positions))
            reached = part.hidden.detach().requires_grad_()
            negatives = items(self._draw(users[group.users]))
            table = group.padded(reached) @ negatives.transpose(1, 2)
            yield self._backward(items, part, reached, table.flatten(0, 1)[group.cells])


def _new_loss(
    name: str,
    params: Mapping[str, Any],
    sampler: NegativeSampler | None,
    generator: torch.Generator,
) -> _Loss:
    if sampler is None:
        return _FullLoss()
    n_negatives = count_param(params, "n_negatives")
    kind = _SharedLoss if name == "sampled_softmax" else _SampledLoss
    return kind(name, NegativeDraw(n_negatives, sampler.to(generator.device), generator))
