"""Recommenders as torch modules, all of one form, in which scoring all items is cheap.

Every model knows something of a user and something of an item before the two meet, and scores

    s(u, i) = <u.vectors, i.vectors> + head(u.hidden + i.hidden).

The first term is all there is of matrix factorization, factorization machines, two towers and
LightGCN: a table of scores is one matrix product. What a side adds by itself, such as an item's
bias, is one more coordinate that meets a 1. NeuMF and DeepFM have the second term: the first layer
of their network is linear, W [u; i] = W_u u + W_i i, and only the layers behind it are computed for
each pair.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpolab.recommender.gradients import (
    pick_rows,
    relu_dropout,
    row_products,
    squared_norm,
    table_products,
    unit_rows,
)
from hpolab.recommender.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.recommender.features import Features
    from hpolab.recommender.interactions import Interactions

__all__ = [
    "MODELS",
    "DeepFM",
    "FactorizationMachine",
    "LightGCN",
    "MatrixFactorization",
    "NeuMF",
    "RecommenderModule",
    "Side",
    "TwoTower",
]

# Numbers in an intermediate of a table: 512 KiB, which stay in a core's cache; on other devices.
_CHUNK, _CHUNK_ELSEWHERE = 2**17, 2**25
# He et al. 2017, section 4.1: a Gaussian with standard deviation 0.01.
_STD = 0.01
# Xavier's for such tables (Glorot, Bengio 2010). On MovieLens-100K 0.05 gave matrix factorization
# with BPR 0.003 more of NDCG@10 than 0.01, on validation items, and 0.1 no more than that.
_FACTORS_STD = 0.05
# LightGCN has nothing but embeddings, averaged over neighbors: the authors' code
# (github.com/gusye1234/LightGCN-PyTorch, model.py) begins with 0.1.
_LIGHTGCN_STD = 0.1
# Between the 0.05 and 0.1 that are usual; learned from there.
_TEMPERATURE = 0.1


@dataclass(frozen=True)
class Side:
    """What a model knows of some users, or of some items, before they meet.

    Attributes:
        vectors: (..., d), for the product with the other side's; (k, d) where there are `rows`.
        embeddings: (k, ...) what the penalty is on.
        hidden: This side's part of the first hidden layer, as `vectors`; None without a head.
        rows: (...) which of the k rows each has; None for each its own.
    """

    vectors: Tensor
    embeddings: Tensor
    hidden: Tensor | None = None
    rows: Tensor | None = None

    def only(self, rows: Tensor) -> Side:
        """Return some rows (...) of a side (k, ...)."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def each(self) -> Tensor:
        """Return the vectors of all rows, (..., d)."""
        return self.vectors if self.rows is None else pick_rows(self.vectors, self.rows)

    def each_hidden(self) -> Tensor | None:
        """Return the parts of the first hidden layer of all rows, (..., h)."""
        if self.hidden is None or self.rows is None:
            return self.hidden
        return pick_rows(self.hidden, self.rows)

    def squares(self) -> Tensor:
        """Return the embeddings' squared norm, summed over all rows, ()."""
        if self.rows is None:
            return squared_norm(self.embeddings)
        counts = torch.bincount(self.rows.flatten(), minlength=len(self.embeddings))
        return squared_norm(self.embeddings.flatten(1), counts.to(self.embeddings.dtype))


class RecommenderModule(nn.Module, abc.ABC):
    """A model that scores items for users.

    Attributes:
        head: (n, h) -> (n,), of the two sides' `hidden` added up; None without.
        reads_features: Whether it knows users and items by their side features, too.
        n_biases: How many of the last numbers of an item's vector are no factors of the item: what
            a side adds by itself.
    """

    reads_features: bool = False
    n_biases: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Sequential | None = None

    @abc.abstractmethod
    def sides(self, users: Tensor, items: Tensor | None) -> tuple[Side, Side]:
        """Return what is known of users and of items.

        Args:
            users: (n,) codes.
            items: (n, m) codes, or None for all items.

        Returns:
            The users' side (n, ...) and the items', (n, m, ...) or (n_items, ...).
        """

    def forget(self) -> None:
        """Forget what was computed from the weights, which have changed."""

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores (n, m) of m items for each user.

        Args:
            users: (n,) codes.
            items: (n, m) codes.
        """
        return self.score(*self.sides(users, items))

    def score(self, users: Side, items: Side) -> Tensor:
        """Return the scores (n, m) of sides (n, ...) and (n, m, ...)."""
        if items.rows is None:
            scores = row_products(users.each(), items.vectors)
        else:
            scores = table_products(users.each(), items.vectors, items.rows)
        hidden, others = users.each_hidden(), items.each_hidden()
        if self.head is None or hidden is None or others is None:
            return scores
        return scores + self._behind(hidden.unsqueeze(1) + others)

    def table(self, users: Tensor) -> Tensor:
        """Return the scores (b, n_items) of all items for each user.

        Args:
            users: (b,) codes.
        """
        return self.cross(*self.sides(users, None))

    def item_vectors(self) -> Tensor:
        """Return vectors by which items are compared, (n_items, d)."""
        anybody = torch.zeros(1, dtype=torch.int64, device=next(self.parameters()).device)
        vectors = self.sides(anybody, None)[1].vectors
        return vectors[:, : vectors.shape[1] - self.n_biases]

    def cross(self, users: Side, items: Side) -> Tensor:
        """Return the scores (b, n_items) of sides (b, ...) and (n_items, ...)."""
        scores = users.each() @ items.vectors.T
        hidden = users.each_hidden()
        if self.head is None or hidden is None or items.hidden is None:
            return scores
        if torch.is_grad_enabled():
            return scores + self._behind(hidden.unsqueeze(1) + items.hidden)
        return scores + self._behind_all(hidden, items.hidden)

    def _behind_all(self, users: Tensor, items: Tensor) -> Tensor:
        """Return what the network makes of the sums of (b, h) and (n_items, h): (b, n_items).

        As relu(u + i) = max(i, -u) + u, the users' part goes through each linear layer once, as a
        shift s: relu(W (x + s) + b) = max(W x, -s') + s' with s' = W s + b. For each pair are left
        the maximum and the product.
        """
        assert self.head is not None
        *inner, last = (layer for layer in self.head if isinstance(layer, nn.Linear))
        shifts = [users]
        for layer in inner:
            shifts.append(layer(shifts[-1]))
        negated = [-shift.unsqueeze(2) for shift in shifts]
        scores = users.new_empty((len(users), len(items)))
        # On a CPU one user at a time: torch's products of many small matrices take twice as long.
        is_cpu = users.device.type == "cpu"
        n_columns = max(1, (_CHUNK if is_cpu else _CHUNK_ELSEWHERE) // users.shape[1])
        parts = zip(torch.split(items, n_columns), torch.split(scores, n_columns, 1), strict=True)
        for some, found in parts:
            columns = some.T.contiguous()
            n_rows = n_columns // len(some)
            for part in range(len(users)) if is_cpu else _slices(len(users), n_rows):
                # Columns are pairs: then a user's number meets as many as a vector holds.
                hidden = torch.maximum(columns, negated[0][part])
                for layer, shift in zip(inner, negated[1:], strict=True):
                    hidden = torch.maximum(layer.weight @ hidden, shift[part])
                found[part] = last.weight[0] @ hidden
        return scores.add_(last(shifts[-1]).unsqueeze(1))

    def _behind(self, hidden: Tensor) -> Tensor:
        """Return what the network makes of sums (..., h): (...)."""
        assert self.head is not None
        # Flat, as a linear layer's result of more dimensions than two is a view, which takes copies
        # where it is changed in place.
        behind: Tensor = self.head(hidden.flatten(0, -2))
        return behind.view(hidden.shape[:-1])


class ReLUDropout(nn.Module):
    """ReLU and then dropout, as one product with a mask.

    It draws a quarter of the random numbers of `nn.Dropout`, which draws one for each element: on a
    CPU that is a quarter of an epoch of DeepFM. Here 16 bits decide, so that the rate is rounded to
    a multiple of 2^-16, for which the scale is exact.

    Args:
        p: The part of elements that become 0, 0 to below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self._p = p
        self._n_dropped = min(round(p * 2**16), 2**16 - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, 0 where it is negative; in training elements dropped, others scaled up.

        Without gradients ``x`` is changed.
        """
        if not self.training or not self._n_dropped:
            return F.relu(x, inplace=not torch.is_grad_enabled())
        if x.device.type != "cpu":
            return F.dropout(F.relu(x), self._p)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[: x.numel()].view(x.shape)
        return relu_dropout(x, bits, self._n_dropped)


class Embedding(nn.Embedding):
    """An embedding whose dense gradients are faster on a CPU.

    Attributes:
        keeps_gradient: Whether the gradient is kept from step to step, and only those of its rows
            are cleared that were looked up: then `clear_gradient` must be called before each step.
    """

    keeps_gradient = False

    def __init__(self, n: int, size: int, *, sparse: bool) -> None:
        super().__init__(n, size, sparse=sparse)
        self._looked_up: list[Tensor] = []
        self._is_whole = False

    def forward(self, ids: Tensor | None) -> Tensor:
        """Return the embeddings (..., size) of ids (...), or those of all ids, (n, size)."""
        if ids is None:
            self._is_whole = True
            return self.weight
        if self.sparse:
            return super().forward(ids)
        if not self.keeps_gradient or not torch.is_grad_enabled():
            return pick_rows(self.weight, ids)
        if self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        self._looked_up.append(ids.flatten())
        # Sparse, this gradient is added to those rows of the dense one that it has.
        return F.embedding(ids, self.weight, sparse=True)

    def clear_gradient(self) -> None:
        """Make the gradient zero, or None where all ids were looked up at once."""
        if self._is_whole or self.weight.grad is None or not self._looked_up:
            self.weight.grad = None
        else:
            for ids in self._looked_up:
                self.weight.grad.index_fill_(0, ids, 0.0)
        self._looked_up.clear()
        self._is_whole = False


class ToNumber(nn.Linear):
    """A linear layer to one number, (n, n_in) -> (n,), with the initial weights of the others.

    Its gradient is an outer product, which torch's takes for a matrix product, ten times as slow.
    """

    def __init__(self, n_in: int) -> None:
        super().__init__(n_in, 1)
        _as_glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return a number for each row."""
        return torch.addmv(self.bias, x, self.weight[0])


class FieldEmbeddings(nn.Module):
    """Embeddings of one side's fields: the id itself, then each side feature.

    A field of several values has the mean of theirs (Covington et al. 2016, "Deep neural networks
    for YouTube recommendations", section 3.3).

    Args:
        n_ids: The number of users or items.
        features: Their side features, or None.
        size: Numbers of an embedding.
        sparse: Whether gradients are sparse.
    """

    codes: Tensor
    weights: Tensor
    slot_fields: Tensor

    def __init__(self, n_ids: int, features: Features | None, size: int, *, sparse: bool) -> None:
        super().__init__()
        self.ids = _embedding(n_ids, size, sparse)
        self.values: nn.Embedding | None = None
        self.n_features = 0
        if features is not None:
            self.values = _embedding(features.n_codes, size, sparse)
            self.n_features = len(features.names)
            self.register_buffer("codes", torch.tensor(features.codes), persistent=False)
            self.register_buffer("weights", torch.tensor(features.weights), persistent=False)
            self.register_buffer("slot_fields", torch.tensor(features.fields), persistent=False)

    @property
    def n_fields(self) -> int:
        """The number of fields, the id's included."""
        return 1 + self.n_features

    def forward(self, ids: Tensor | None) -> Tensor:
        """Return the embeddings (..., n_fields, size) of ids (...), or of all ids."""
        own: Tensor = self.ids(ids).unsqueeze(-2)
        if self.values is None:
            return own
        codes, weights = self.codes, self.weights
        if ids is not None:
            codes, weights = codes[ids], weights[ids]
        slots: Tensor = self.values(codes)
        if len(self.slot_fields) > self.n_features:
            slots = slots * weights.unsqueeze(-1)
            fields = slots.new_zeros(*codes.shape[:-1], self.n_features, slots.shape[-1])
            slots = fields.index_add(-2, self.slot_fields, slots)
        return torch.cat([own, slots], -2)


class TwoSided(RecommenderModule):
    """A recommender whose users know nothing of items, nor items of users, before they meet.

    Args:
        train: Knows how many users and items there are.
        each: Whether every id of a batch is computed by itself. Otherwise, where a batch has more
            of them than there are, all are computed once and then looked up.
    """

    def __init__(self, train: Interactions, *, each: bool) -> None:
        super().__init__()
        self._each = each
        self._n_users, self._n_items = train.n_users, train.n_items

    @abc.abstractmethod
    def user_side(self, ids: Tensor | None) -> Side:
        """Return what is known of users (...), or of all users."""

    @abc.abstractmethod
    def item_side(self, ids: Tensor | None) -> Side:
        """Return what is known of items (...), or of all items."""

    @final
    def sides(self, users: Tensor, items: Tensor | None) -> tuple[Side, Side]:
        return (
            self._side(self.user_side, users, self._n_users),
            self._side(self.item_side, items, self._n_items),
        )

    def _side(self, side: Callable[[Tensor | None], Side], ids: Tensor | None, n: int) -> Side:
        if ids is None:
            return side(None)
        return side(ids) if self._each or ids.numel() < n else side(None).only(ids)


@final
class MatrixFactorization(TwoSided):
    """Matrix factorization with a bias for each item: s(u, i) = <p_u, q_i> + b_i.

    Koren, Bell, Volinsky 2009, "Matrix factorization techniques for recommender systems"; Rendle
    et al. 2009, "BPR".

    Args:
        train: Knows how many users and items there are.
        embedding_size: The length of p and q.
        sparse: Whether gradients are sparse.
        user_bias: Add b_u. It changes no ranking, but a predicted rating.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        embedding_size: int,
        sparse: bool = False,
        user_bias: bool = False,
    ) -> None:
        super().__init__(train, each=True)
        # The last number is the bias.
        n_numbers = embedding_size + 1 if user_bias else embedding_size
        users = _embedding(train.n_users, n_numbers, sparse, _FACTORS_STD)
        self.users = _zero_last(users) if user_bias else users
        self.items = _zero_last(_embedding(train.n_items, embedding_size + 1, sparse, _FACTORS_STD))
        self.n_biases = 2 if user_bias else 1
        self._has_user_bias = user_bias

    def user_side(self, ids: Tensor | None) -> Side:
        factors = self.users(ids)
        if not self._has_user_bias:
            return Side(F.pad(factors, (0, 1), value=1.0), factors)
        own = factors[..., -1:]
        vectors = torch.cat([factors[..., :-1], torch.ones_like(own), own], -1)
        return Side(vectors, factors[..., :-1])

    def item_side(self, ids: Tensor | None) -> Side:
        factors = self.items(ids)
        vectors = F.pad(factors, (0, 1), value=1.0) if self._has_user_bias else factors
        return Side(vectors, factors[..., :-1])


@final
class NeuMF(TwoSided):
    """Neural matrix factorization: s(u, i) = <h, p_u * q_i> + MLP([p'_u; q'_i]).

    He et al. 2017, "Neural collaborative filtering", section 3.4, trained from scratch. Dropout
    follows every hidden layer.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        embedding_size: int,
        hidden: Sequence[int],
        dropout: float,
        sparse: bool = False,
    ) -> None:
        super().__init__(train, each=sparse)
        # The first half is for the product, the second for the network.
        self.users = _embedding(train.n_users, 2 * embedding_size, sparse)
        self.items = _embedding(train.n_items, 2 * embedding_size, sparse)
        self.product = _linear(embedding_size, 1, bias=False)
        self.user_half, self.item_half = _halves(embedding_size, embedding_size, hidden[0])
        self.head = _head(hidden, dropout)

    def user_side(self, ids: Tensor | None) -> Side:
        embedded = self.users(ids)
        product, network = embedded.chunk(2, -1)
        return Side(product * self.product.weight[0], embedded, self.user_half(network))

    def item_side(self, ids: Tensor | None) -> Side:
        embedded = self.items(ids)
        product, network = embedded.chunk(2, -1)
        return Side(product, embedded, self.item_half(network))

    def item_vectors(self) -> Tensor:
        """Return both embeddings of each item, (n_items, d)."""
        vectors: Tensor = self.items.weight
        return vectors


@final
class FactorizationMachine(TwoSided):
    """A factorization machine over the ids and all side features.

    s(x) = Σ_f w_f + Σ_{f<g} <v_f, v_g>, where field f has the weight w_f and the factors v_f.
    Rendle 2010, "Factorization machines", equation 1. Sums over pairs fall into those within a
    side and <Σ_user v, Σ_item v>.
    """

    reads_features = True
    n_biases = 2

    def __init__(self, train: Interactions, *, embedding_size: int, sparse: bool = False) -> None:
        super().__init__(train, each=sparse)
        self.users, self.items = _machine_fields(train, embedding_size, sparse)

    def user_side(self, ids: Tensor | None) -> Side:
        total, own, factors = _sum_up(self.users(ids))
        return Side(torch.cat([total, own, torch.ones_like(own)], -1), factors)

    def item_side(self, ids: Tensor | None) -> Side:
        total, own, factors = _sum_up(self.items(ids))
        return Side(torch.cat([total, torch.ones_like(own), own], -1), factors)


@final
class DeepFM(TwoSided):
    """A factorization machine and a network over the same embeddings, added up.

    Guo et al. 2017, "DeepFM". Dropout follows every hidden layer.
    """

    reads_features = True
    n_biases = 2

    def __init__(
        self,
        train: Interactions,
        *,
        embedding_size: int,
        hidden: Sequence[int],
        dropout: float,
        sparse: bool = False,
    ) -> None:
        super().__init__(train, each=sparse)
        self.users, self.items = _machine_fields(train, embedding_size, sparse)
        self.user_half, self.item_half = _halves(
            self.users.n_fields * embedding_size, self.items.n_fields * embedding_size, hidden[0]
        )
        self.head = _head(hidden, dropout)

    def user_side(self, ids: Tensor | None) -> Side:
        total, own, factors = _sum_up(self.users(ids))
        vectors = torch.cat([total, own, torch.ones_like(own)], -1)
        return Side(vectors, factors, self.user_half(factors.flatten(-2)))

    def item_side(self, ids: Tensor | None) -> Side:
        total, own, factors = _sum_up(self.items(ids))
        vectors = torch.cat([total, torch.ones_like(own), own], -1)
        return Side(vectors, factors, self.item_half(factors.flatten(-2)))


@final
class TwoTower(TwoSided):
    """A network for users and one for items: s(u, i) = cos(f(u), g(i)) / τ.

    Huang et al. 2013 (DSSM) score by the cosine; Yi et al. 2019, "Sampling-bias-corrected neural
    modeling", section 3, divide it by a temperature, which is learned here. Dropout follows every
    hidden layer; where all items are computed once for a batch, an item's mask is too.
    """

    reads_features = True

    def __init__(
        self,
        train: Interactions,
        *,
        embedding_size: int,
        hidden: Sequence[int],
        dropout: float,
        sparse: bool = False,
    ) -> None:
        super().__init__(train, each=sparse)
        self.users = FieldEmbeddings(
            train.n_users, train.user_features, embedding_size, sparse=sparse
        )
        self.items = FieldEmbeddings(
            train.n_items, train.item_features, embedding_size, sparse=sparse
        )
        widths = [*hidden, embedding_size]
        self.user_tower = _tower(self.users.n_fields * embedding_size, widths, dropout)
        self.item_tower = _tower(self.items.n_fields * embedding_size, widths, dropout)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    def user_side(self, ids: Tensor | None) -> Side:
        embedded = self.users(ids)
        vectors = unit_rows(self.user_tower(embedded.flatten(-2)))
        return Side(vectors * self.log_scale.exp(), embedded)

    def item_side(self, ids: Tensor | None) -> Side:
        embedded = self.items(ids)
        return Side(unit_rows(self.item_tower(embedded.flatten(-2))), embedded)


@final
class LightGCN(RecommenderModule):
    """Embeddings smoothed over the graph of interactions: the mean of E, ÃE, Ã²E, ...

    He et al. 2020, "LightGCN", equations 3 to 8; Ã is the adjacency, normalized on both sides. The
    penalty is on E alone, as theirs (equation 15).
    """

    def __init__(self, train: Interactions, *, embedding_size: int, n_layers: int) -> None:
        super().__init__()
        self._sizes = [train.n_users, train.n_items]
        self.nodes = _embedding(sum(self._sizes), embedding_size, False, _LIGHTGCN_STD)
        self.graph = Graph(train, n_layers)
        self._kept: tuple[Tensor, Tensor] | None = None

    def sides(self, users: Tensor, items: Tensor | None) -> tuple[Side, Side]:
        user_nodes, item_nodes = torch.split(self.nodes.weight, self._sizes)
        user_vectors, item_vectors = self._smooth()
        item_side = Side(item_vectors, item_nodes)
        if items is not None:
            item_side = item_side.only(items)
        return Side(user_vectors, user_nodes).only(users), item_side

    def _smooth(self) -> tuple[Tensor, Tensor]:
        """Return the smoothed embeddings of users and of items."""
        if torch.is_grad_enabled():
            found: tuple[Tensor, Tensor] = self.graph(self.nodes.weight)
            return found
        # Tables are asked for some users at a time.
        if self._kept is None:
            self._kept = self.graph(self.nodes.weight)
        return self._kept

    def forget(self) -> None:
        self._kept = None


MODELS: Mapping[str, Callable[..., RecommenderModule]] = {
    "mf": MatrixFactorization,
    "neumf": NeuMF,
    "fm": FactorizationMachine,
    "deepfm": DeepFM,
    "two_tower": TwoTower,
    "lightgcn": LightGCN,
}
"""The models by the names of their trainers."""


def _slices(n: int, n_rows: int) -> list[slice]:
    return [slice(start, start + n_rows) for start in range(0, n, n_rows)]


def _embedding(n: int, size: int, sparse: bool, std: float = _STD) -> nn.Embedding:
    embedding = Embedding(n, size, sparse=sparse)
    nn.init.normal_(embedding.weight, std=std)
    return embedding


def _zero_last(embedding: nn.Embedding) -> nn.Embedding:
    with torch.no_grad():
        embedding.weight[:, -1] = 0.0
    return embedding


def _linear(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=bias)
    _as_glorot(layer)
    return layer


def _as_glorot(layer: nn.Linear) -> None:
    # Glorot & Bengio 2010, as the authors of NeuMF and DeepFM do.
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _halves(n_user: int, n_item: int, width: int) -> tuple[nn.Linear, nn.Linear]:
    """Return a linear layer over [user; item] as two that are added up."""
    user, item = nn.Linear(n_user, width), nn.Linear(n_item, width, bias=False)
    bound = math.sqrt(6 / (n_user + n_item + width))
    nn.init.uniform_(user.weight, -bound, bound)
    nn.init.uniform_(item.weight, -bound, bound)
    nn.init.zeros_(user.bias)
    return user, item


def _head(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Return what follows the first linear layer of a network, down to one number."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [ReLUDropout(dropout), _linear(width, following)]
    return nn.Sequential(*layers, ReLUDropout(dropout), ToNumber(widths[-1]))


def _tower(n_in: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [_linear(n_in, widths[0])]
    for width, following in pairwise(widths):
        layers += [ReLUDropout(dropout), _linear(width, following)]
    return nn.Sequential(*layers)


def _machine_fields(
    train: Interactions, size: int, sparse: bool
) -> tuple[FieldEmbeddings, FieldEmbeddings]:
    """Return fields whose embeddings end in the linear weight, so that one look-up has both."""
    users = FieldEmbeddings(train.n_users, train.user_features, size + 1, sparse=sparse)
    items = FieldEmbeddings(train.n_items, train.item_features, size + 1, sparse=sparse)
    for fields in (users, items):
        for embedding in (fields.ids, fields.values):
            if embedding is not None:
                _zero_last(embedding)
    return users, items


def _sum_up(fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what one side has in a factorization machine.

    Args:
        fields: Factors, then the linear weight, of each field, (..., f, d + 1).

    Returns:
        The sum of factors (..., d); linear weights and pairs within the side, summed, (..., 1);
        the factors themselves (..., f, d).
    """
    factors, linear = fields[..., :-1], fields[..., -1:]
    if fields.shape[-2] == 1:
        return factors.squeeze(-2), linear.squeeze(-2), factors
    total = factors.sum(-2)
    pairs = (total.square() - factors.square().sum(-2)).sum(-1, keepdim=True) / 2
    return total, linear.sum(-2) + pairs, factors
