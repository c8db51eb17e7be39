"""Training of the torch recommenders: data and negatives on the device, batches by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from hpolab.errors import InvalidArgument, check_count, one_of
from hpolab.logs import get_logger
from hpolab.recommender.losses import SAMPLED_LOSSES, full_softmax
from hpolab.recommender.models import MODELS, Embedding
from hpolab.recommender.negatives import NegativeSampler
from hpolab.recommender.space import RECOMMENDER_LOSSES
from hpolab.recommender.trainer import (
    RecommenderTrainer,
    RecommenderTraining,
    count_param,
    number_param,
)
from hpolab.seeding import derive_seed
from hpolab.torch.build import build_optimizer, build_schedule
from hpolab.torch.data import open_split
from hpolab.torch.rng import order_seed, seeded
from hpolab.torch.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.models import RecommenderModule, Side
    from hpolab.recommender.negatives import TensorNegativeSampler
    from hpolab.torch.data import Split

__all__ = ["TorchRecommenderTrainer"]

_logger = get_logger(__name__)

# Optimizers whose result is the same with sparse gradients: rows without one stay as they are.
# (Adagrad's is too, but its sparse step makes torch warn of its own code.)
_SAME_IF_SPARSE = ("sgd",)
# Numbers of an embedding table from which sparse gradients are used. A step of SGD for 2,048 rows
# of 64 takes on one CPU thread, dense and sparse: 1.2 and 0.7 ms for 2^20 numbers, 43 and 0.9 for
# 2^24.
_SPARSE_FROM = 2**20


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

    Args:
        model: "mf", "neumf", "fm", "deepfm", "two_tower" or "lightgcn". Side features are read by
            "fm", "deepfm" and "two_tower".
        device: Where models and data live.

    Raises:
        InvalidArgument: If the model is unknown.
    """

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
        sampler = None if loss == "softmax" else NegativeSampler(train)
        rows = open_split("train", self._trained_on(train, sampler), self._device)
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
        return MODELS[self.name](train, **arguments)

    def _trained_on(
        self, train: Interactions, sampler: NegativeSampler | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return users and items of the rows that the loss can learn from."""
        if sampler is None or (has_negatives := sampler.can_draw(train.users)).all():
            return train.users, train.items
        left_out = np.unique(train.users[~has_negatives])
        if has_negatives.any():
            self._say_once(
                f"{len(left_out):,} of {train.n_users:,} users took every item: their rows are not "
                "trained on, as this loss needs items that a user has not taken."
            )
        else:
            sampler.check(train.users)
        return train.users[has_negatives], train.items[has_negatives]

    def _say_once(self, line: str) -> None:
        # A study starts a training in each trial.
        if line not in self._said:
            self._said.add(line)
            _logger.warning(line)

    def _new_loss(
        self,
        loss: str,
        params: Mapping[str, Any],
        sampler: NegativeSampler | None,
        drawing: torch.Generator,
    ) -> _FullLoss | _SampledLoss:
        if sampler is None:
            return _FullLoss()
        n_negatives = count_param(params, "n_negatives")
        return _SampledLoss(loss, n_negatives, sampler.to(self._device), drawing)


class TorchRecommenderTraining(RecommenderTraining):
    """A torch recommender between two epochs; made by `TorchRecommenderTrainer`."""

    def __init__(
        self,
        model: RecommenderModule,
        state: TrainingState,
        *,
        rows: Split,
        batch_size: int,
        loss: _FullLoss | _SampledLoss,
        embedding_l2: float,
    ) -> None:
        self.model = model
        self._state = state
        self._rows = rows
        self._batch_size = batch_size
        self._loss = loss
        self._embedding_l2 = embedding_l2
        self._embeddings = [each for each in model.modules() if isinstance(each, Embedding)]
        for embedding in self._embeddings:
            # A gradient of a million rows takes as long to clear as all the rest of a step.
            embedding.keeps_gradient = not embedding.sparse and state.device.type == "cpu"
        kept = {id(embedding.weight) for embedding in self._embeddings}
        self._others = [weight for weight in model.parameters() if id(weight) not in kept]

    def epoch(self) -> None:
        # Nothing here may wait for the device: no `.item()`, no check of the loss.
        self.model.train()
        state = self._state
        for users, items in self._rows.batches(self._batch_size, state.generators[0]):
            self._clear_gradients()
            self._batch_loss(users, items).backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.schedule.step()

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        self.model.eval()
        # Not inference_mode: what a module caches in it cannot be used in training any more.
        with torch.no_grad():
            codes = torch.as_tensor(users).to(self._state.device)
            scores: NDArray[Any] = self.model.table(codes).cpu().numpy()
        return scores

    def keep_best(self) -> None:
        self._state.keep_best()

    def load_best(self) -> None:
        self._state.load_best()

    def to_bytes(self) -> bytes:
        return self._state.to_bytes()

    def from_bytes(self, state: bytes) -> None:
        self._state.from_bytes(state)

    def _clear_gradients(self) -> None:
        for embedding in self._embeddings:
            embedding.clear_gradient()
        for weight in self._others:
            weight.grad = None

    def _batch_loss(self, users: Tensor, items: Tensor) -> Tensor:
        loss, user_side, item_side = self._loss(self.model, users, items)
        if not self._embedding_l2:
            return loss
        squares = user_side.squares() + item_side.squares()
        return loss + squares * (self._embedding_l2 / (2 * len(users)))


class _SampledLoss:
    """A loss over each row's positive and negatives drawn for it."""

    def __init__(
        self,
        name: str,
        n_negatives: int,
        sampler: TensorNegativeSampler,
        generator: torch.Generator,
    ) -> None:
        self._loss = SAMPLED_LOSSES[name]
        self._n_negatives = n_negatives
        self._sampler = sampler
        self._generator = generator

    def __call__(
        self, model: RecommenderModule, users: Tensor, items: Tensor
    ) -> tuple[Tensor, Side, Side]:
        """Return the loss, and the sides whose embeddings it has used."""
        negatives = self._sampler.draw(users, self._n_negatives, self._generator)
        candidates = torch.cat([items.unsqueeze(1), negatives], 1)
        user_side, item_side = model.sides(users, candidates)
        return self._loss(model.score(user_side, item_side)), user_side, item_side


class _FullLoss:
    """The softmax loss over all items."""

    def __call__(
        self, model: RecommenderModule, users: Tensor, items: Tensor
    ) -> tuple[Tensor, Side, Side]:
        """Return the loss, and the sides whose embeddings are penalized."""
        # Rows of one user have one table row, and a batch may have more rows than users.
        distinct, rows = torch.unique(users, return_inverse=True)
        user_side, item_side = model.sides(distinct, None)
        loss = full_softmax(model.cross(user_side, item_side), rows, items)
        return loss, user_side.only(rows), item_side.only(items)


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
