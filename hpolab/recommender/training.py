"""Training of the torch recommenders: data and negatives on the device, batches by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch

from hpolab.errors import InvalidArgument, check_count, one_of
from hpolab.recommender.losses import SAMPLED_LOSSES, full_softmax, mse
from hpolab.recommender.models import MODELS, Embedding
from hpolab.recommender.negatives import NegativeDraw, NegativeSampler, rows_with_negatives
from hpolab.recommender.space import RECOMMENDER_LOSSES
from hpolab.recommender.trainer import (
    RecommenderTrainer,
    RecommenderTraining,
    count_param,
    number_param,
)
from hpolab.seeding import derive_seed
from hpolab.torch.batches import WeightedTargets
from hpolab.torch.build import build_optimizer, build_schedule
from hpolab.torch.data import open_split
from hpolab.torch.rng import order_seed, seeded
from hpolab.torch.state import TrainingState, has_two_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.models import RecommenderModule, Side
    from hpolab.torch.data import Split

__all__ = ["TorchRecommenderTrainer"]

# Optimizers whose result is the same with sparse gradients: rows without one stay as they are.
# (Adagrad's is too, but its sparse step makes torch warn of its own code.)
_SAME_IF_SPARSE = ("sgd",)
# Numbers of an embedding table from which sparse gradients are used. A step of SGD for 2,048 rows
# of 64 takes on one CPU thread, dense and sparse: 1.2 and 0.7 ms for 2^20 numbers, 43 and 0.9 for
# 2^24.
_SPARSE_FROM = 2**20
# Ratings predicted at a time.
_MAX_PREDICTED = 2**16


@final
class TorchRecommenderTrainer(RecommenderTrainer):
    """Trains a torch recommender.

    An epoch goes once through the interactions in a random order. For a sampled loss, new
    negatives are drawn for each row, uniformly from the items that the user has not taken; rows of
    users who have taken every item are left out then, and the log says so once. The
    penalty is half the squared norm of the embeddings that a row uses (Rendle et al. 2009, section
    4.3) times `embedding_l2`; for the full softmax these are the embeddings of the user and of the
    positive item. Biases and networks are penalized only by the optimizer's own weight decay.

    Parameters are those of `recommender_space`; `hidden` may also be the widths of all hidden
    layers.

    With the loss "mse" ratings are predicted, as their mean over `train` and a model of what is
    left; predictions are drawn into the range of the ratings trained on. Rows that have weights
    count by them in every loss, as if their mean were 1.

    Args:
        model: "mf", "neumf", "fm", "deepfm", "two_tower" or "lightgcn". Side features are read by
            "fm", "deepfm" and "two_tower".
        device: Where models and data live.

    Raises:
        InvalidArgument: If the model is unknown.
    """

    reads_weights = True

    def __init__(self, model: str, *, device: str | torch.device = "cpu") -> None:
        self.name = one_of("model", model, MODELS)
        self._device = torch.device(device)
        self._said: set[str] = set()

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> TorchRecommenderTraining:
        """Return a training before its first epoch, inside `seeded`, which initial weights need.

        Raises:
            InvalidArgument: If a parameter is missing or out of its range, or a loss needs
                negatives where every user has taken every item.
            InvalidType: If a parameter is of the wrong type.
        """
        loss = one_of("loss", params.get("loss"), RECOMMENDER_LOSSES[self.name])
        batch_size = count_param(params, "batch_size")
        model = self._new_model(params, train).to(self._device)
        optimizer = build_optimizer(params, model)
        sampler = NegativeSampler(train) if loss in SAMPLED_LOSSES else None
        learned_from = train
        if sampler is not None:
            has_negatives = rows_with_negatives(sampler, train.users, self._said)
            learned_from = train.rows(np.flatnonzero(has_negatives))
        rows = open_split("train", _columns(learned_from, loss), self._device)
        schedule = build_schedule(
            params,
            optimizer,
            max_epochs=max_epochs,
            steps_per_epoch=rows.n_batches(batch_size) or 1,
        )
        order = torch.Generator().manual_seed(order_seed(seed))
        drawing = torch.Generator(self._device).manual_seed(derive_seed(seed, "negatives"))
        return TorchRecommenderTraining(
            model,
            TrainingState(model, optimizer, schedule, [order, drawing], self._device),
            rows=rows,
            batch_size=batch_size,
            loss=self._new_loss(loss, params, sampler, drawing),
            embedding_l2=number_param(params, "embedding_l2", at_least=0.0),
            ratings=_RatingScale.of(train) if loss == "mse" else None,
        )

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return a context in which torch's random state is seeded; outside it stays as it was."""
        return seeded(seed, self._device)

    def _new_model(self, params: Mapping[str, Any], train: Interactions) -> RecommenderModule:
        arguments: dict[str, Any] = {"embedding_size": count_param(params, "embedding_size")}
        if self.name == "lightgcn":
            arguments["n_layers"] = count_param(params, "n_layers")
        else:
            arguments["sparse"] = _is_sparse(params, train)
        if self.name in ("neumf", "deepfm", "two_tower"):
            arguments["hidden"] = _widths(params)
            arguments["dropout"] = _dropout(params)
        if self.name == "mf":
            arguments["user_bias"] = params["loss"] == "mse"
        return MODELS[self.name](train, **arguments)

    def _new_loss(
        self,
        loss: str,
        params: Mapping[str, Any],
        sampler: NegativeSampler | None,
        drawing: torch.Generator,
    ) -> _FullLoss | _SampledLoss | _RatingLoss:
        if sampler is None and loss == "mse":
            return _RatingLoss()
        if sampler is None:
            return _FullLoss()
        n_negatives = count_param(params, "n_negatives")
        draw = NegativeDraw(n_negatives, sampler.to(self._device), drawing)
        return _SampledLoss(loss, draw)


class TorchRecommenderTraining(RecommenderTraining):
    """A torch recommender between two epochs; made by `TorchRecommenderTrainer`."""

    def __init__(
        self,
        model: RecommenderModule,
        state: TrainingState,
        *,
        rows: Split,
        batch_size: int,
        loss: _FullLoss | _SampledLoss | _RatingLoss,
        embedding_l2: float,
        ratings: _RatingScale | None,
    ) -> None:
        self.model = model
        self.reads_features = model.reads_features
        self._state = state
        self._rows = rows
        self._batch_size = batch_size
        self._loss = loss
        self._embedding_l2 = embedding_l2
        self._ratings = ratings
        self._embeddings = [each for each in model.modules() if isinstance(each, Embedding)]
        # A gradient of a million rows takes as long to clear as all the rest of a step, so only the
        # rows of a batch are cleared. schedulefree writes to all of them, where weights decay.
        keeps = state.device.type == "cpu" and not has_two_weights(state.optimizer)
        for embedding in self._embeddings:
            embedding.keeps_gradient = keeps and not embedding.sparse
        kept = {id(embedding.weight) for embedding in self._embeddings}
        self._others = [weight for weight in model.parameters() if id(weight) not in kept]

    def epoch(self) -> None:
        # Nothing here may wait for the device: no `.item()`, no check of the loss.
        state = self._state
        state.to_training()
        self.model.forget()
        for inputs, targets in self._rows.batches(self._batch_size, state.generators[0]):
            self._clear_gradients()
            self._batch_loss(_Rows.of(inputs, targets)).backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.schedule.step()
        state.to_evaluation()

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        self.model.eval()
        # Not inference_mode: what a module caches in it cannot be used in training any more.
        with torch.no_grad():
            codes = torch.as_tensor(users).to(self._state.device)
            scores: NDArray[Any] = self.model.table(codes).cpu().numpy()
        if self._ratings is not None:
            scores += np.float32(self._ratings.mean)
        return scores

    def item_vectors(self) -> NDArray[Any]:
        self.model.eval()
        with torch.no_grad():
            vectors: NDArray[Any] = self.model.item_vectors().cpu().numpy()
        return vectors

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        if self._ratings is None:
            return super().predict(users, items)
        self.model.eval()
        parts = range(0, len(users), _MAX_PREDICTED)
        with torch.no_grad():
            found = [
                self._predict(users[at : at + _MAX_PREDICTED], items[at : at + _MAX_PREDICTED])
                for at in parts
            ]
        return self._ratings.rating(np.concatenate(found))

    def _predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        device = self._state.device
        pairs = torch.as_tensor(users).to(device), torch.as_tensor(items).to(device)[:, None]
        found: NDArray[Any] = self.model(*pairs).squeeze(1).cpu().numpy()
        return found

    def keep_best(self) -> None:
        self._state.keep_best()

    def load_best(self) -> None:
        self._state.load_best()
        self.model.forget()

    def to_bytes(self) -> bytes:
        return self._state.to_bytes()

    def from_bytes(self, state: bytes) -> None:
        self._state.from_bytes(state)
        self.model.forget()

    def _clear_gradients(self) -> None:
        for embedding in self._embeddings:
            embedding.clear_gradient()
        for weight in self._others:
            weight.grad = None

    def _batch_loss(self, rows: _Rows) -> Tensor:
        loss, user_side, item_side = self._loss(self.model, rows)
        if not self._embedding_l2:
            return loss
        squares = user_side.squares() + item_side.squares()
        return loss + squares * (self._embedding_l2 / (2 * len(rows.users)))


class _Rows(NamedTuple):
    """A batch of n interactions."""

    users: Tensor
    items: Tensor
    ratings: Tensor | None
    weights: Tensor | None

    @classmethod
    def of(cls, inputs: Any, targets: Any) -> _Rows:
        """Return the columns of a batch that `_columns` has put together."""
        users, ratings = inputs if isinstance(inputs, tuple) else (inputs, None)
        if isinstance(targets, WeightedTargets):
            return cls(users, targets.values, ratings, targets.weights)
        return cls(users, targets, ratings, None)


def _columns(train: Interactions, loss: str) -> tuple[Any, ...]:
    """Return what a loss reads of interactions, as inputs and targets, and weights if any."""
    inputs: Any = train.users
    if loss == "mse":
        inputs = (train.users, _RatingScale.of(train).number(train))
    if train.weights is None:
        return inputs, train.items
    weights = train.weights / train.weights.mean()
    return inputs, train.items, weights.astype(np.float32)


@dataclass(frozen=True)
class _RatingScale:
    """What a model's numbers are as ratings: their distance from the mean."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, train: Interactions) -> _RatingScale:
        if train.ratings is None:
            raise InvalidArgument(
                "`train` must have ratings for the loss 'mse', got none: name their column, "
                "`Interactions.from_frame(frame, rating=...)`, without a threshold."
            )
        ratings = train.ratings
        return cls(float(ratings.mean()), float(ratings.min()), float(ratings.max()))

    def number(self, train: Interactions) -> NDArray[np.float32]:
        """Return what the ratings are to a model, (n,)."""
        assert train.ratings is not None
        return (train.ratings - self.mean).astype(np.float32)

    def rating(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the ratings of a model's numbers, (n,)."""
        ratings: NDArray[Any] = np.clip(numbers + self.mean, self.low, self.high)
        return ratings


class _RatingLoss:
    """The squared error of ratings."""

    def __call__(self, model: RecommenderModule, rows: _Rows) -> tuple[Tensor, Side, Side]:
        """Return the loss, and the sides whose embeddings it has used."""
        assert rows.ratings is not None
        user_side, item_side = model.sides(rows.users, rows.items.unsqueeze(1))
        predicted = model.score(user_side, item_side).squeeze(1)
        return mse(predicted, rows.ratings, rows.weights), user_side, item_side


class _SampledLoss:
    """A loss over each row's positive and negatives drawn for it."""

    def __init__(self, name: str, draw: NegativeDraw) -> None:
        self._loss = SAMPLED_LOSSES[name]
        self._draw = draw

    def __call__(self, model: RecommenderModule, rows: _Rows) -> tuple[Tensor, Side, Side]:
        """Return the loss, and the sides whose embeddings it has used."""
        negatives = self._draw(rows.users)
        candidates = torch.cat([rows.items.unsqueeze(1), negatives], 1)
        user_side, item_side = model.sides(rows.users, candidates)
        return self._loss(model.score(user_side, item_side), rows.weights), user_side, item_side


class _FullLoss:
    """The softmax loss over all items."""

    def __call__(self, model: RecommenderModule, rows: _Rows) -> tuple[Tensor, Side, Side]:
        """Return the loss, and the sides whose embeddings are penalized."""
        # Rows of one user have one table row, and a batch may have more rows than users.
        distinct, places = torch.unique(rows.users, return_inverse=True)
        user_side, item_side = model.sides(distinct, None)
        loss = full_softmax(model.cross(user_side, item_side), places, rows.items, rows.weights)
        return loss, user_side.only(places), item_side.only(rows.items)


def _is_sparse(params: Mapping[str, Any], train: Interactions) -> bool:
    """Tell whether embeddings get sparse gradients: where they must, or are faster so."""
    if params.get("optimizer") == "sparse_adam":
        return True
    n_numbers = max(train.n_users, train.n_items) * params["embedding_size"]
    return (
        params.get("optimizer") in _SAME_IF_SPARSE
        and not params.get("weight_decay")
        and n_numbers >= _SPARSE_FROM
    )


def _dropout(params: Mapping[str, Any]) -> float:
    dropout = number_param(params, "dropout", at_least=0.0)
    if dropout >= 1:
        raise InvalidArgument(f"`dropout` must be below 1, got {dropout}.")
    return dropout


def _widths(params: Mapping[str, Any]) -> Sequence[int]:
    """Return the widths of the hidden layers: for a number, of two that halve."""
    hidden = params.get("hidden")
    if not isinstance(hidden, (list, tuple)):
        width = count_param(params, "hidden")
        return [width, max(1, width // 2)]
    if not hidden:
        raise InvalidArgument(f"`hidden` must have a layer at least, got {hidden!r}.")
    for width in hidden:
        check_count("hidden", width)
    return hidden
