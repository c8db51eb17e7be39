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
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

# Columns of LightGCN's layers that are smoothed at a time: those of 10,000 nodes take 1.3 MB.
_SMOOTHED_COLUMNS = 32
# Numbers in an intermediate of a table: 1 MiB, which stays in a core's cache.
_CHUNK = 2**18
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
        vectors: (..., d), for the product with the other side's.
        embeddings: (k, ...) what the penalty is on.
        hidden: (..., h) this side's part of the first hidden layer; None without a head.
        rows: (...) which of `embeddings` each row has; None for each its own.
    """

    vectors: Tensor
    embeddings: Tensor
    hidden: Tensor | None = None
    rows: Tensor | None = None

    def take(self, ids: Tensor | None) -> Side:
        """Return some rows of a side of all ids, or the side itself for None."""
        if ids is None:
            return self
        hidden = None if self.hidden is None else _pick(self.hidden, ids)
        return Side(_pick(self.vectors, ids), self.embeddings, hidden, ids)

    def only(self, rows: Tensor) -> Side:
        """Return a side (k, ...) as one that has used some of its rows alone."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def squares(self) -> Tensor:
        """Return the embeddings' squared norm, summed over all rows, ()."""
        if self.rows is None:
            return self.embeddings.square().sum()
        squares = self.embeddings.flatten(1).square().sum(1, keepdim=True)
        return _pick(squares, self.rows).sum()


class RecommenderModule(nn.Module, abc.ABC):
    """A model that scores items for users.

    Attributes:
        head: (n, h) -> (n,), of the two sides' `hidden` added up; None without.
    """

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

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores (n, m) of m items for each user.

        Args:
            users: (n,) codes.
            items: (n, m) codes.
        """
        return self.score(*self.sides(users, items))

    def score(self, users: Side, items: Side) -> Tensor:
        """Return the scores (n, m) of sides (n, ...) and (n, m, ...)."""
        scores = (items.vectors * users.vectors.unsqueeze(1)).sum(-1)
        if self.head is None or users.hidden is None or items.hidden is None:
            return scores
        return scores + self._behind(users.hidden.unsqueeze(1) + items.hidden)

    def table(self, users: Tensor) -> Tensor:
        """Return the scores (b, n_items) of all items for each user.

        Args:
            users: (b,) codes.
        """
        return self.cross(*self.sides(users, None))

    def cross(self, users: Side, items: Side) -> Tensor:
        """Return the scores (b, n_items) of sides (b, ...) and (n_items, ...)."""
        scores = users.vectors @ items.vectors.T
        if self.head is None or users.hidden is None or items.hidden is None:
            return scores
        if torch.is_grad_enabled():
            return scores + self._behind(users.hidden.unsqueeze(1) + items.hidden)
        return scores + self._behind_all(users.hidden, items.hidden)

    def _behind_all(self, users: Tensor, items: Tensor) -> Tensor:
        """Return what the network makes of the sums of (b, h) and (n_items, h): (b, n_items)."""
        assert self.head is not None
        *inner, last = self.head
        n_rows = max(1, _CHUNK // items.numel())
        # Written anew for each part: memory that is freed and claimed again may have to be cleared
        # by the system each time, which takes as long as all the rest.
        sums = items.new_empty((n_rows, *items.shape))
        outputs = {
            layer: items.new_empty((n_rows * len(items), layer.out_features))
            for layer in inner
            if isinstance(layer, nn.Linear)
        }
        found = items.new_empty((len(users), len(items)))
        for part, rows in zip(torch.split(users, n_rows), torch.split(found, n_rows), strict=True):
            hidden = torch.add(part.unsqueeze(1), items, out=sums[: len(part)]).flatten(0, -2)
            for layer in inner:
                if isinstance(layer, nn.Linear):
                    out = outputs[layer][: len(hidden)]
                    hidden = torch.addmm(layer.bias, hidden, layer.weight.T, out=out)
                else:
                    hidden = layer(hidden)
            rows.copy_(last(hidden).view_as(rows))
        return found

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
        kept = (bits >= self._n_dropped - 2**15) & (x > 0)
        return x * (kept * (2**16 / (2**16 - self._n_dropped)))


def _pick(table: Tensor, ids: Tensor) -> Tensor:
    """Return rows (..., d) of a table (n, d) by ids (...)."""
    if table.device.type != "cpu":
        return F.embedding(ids, table)  # the same result each time, unlike the other there
    # On a CPU there and back in half the time.
    return table.index_select(0, ids.flatten()).view(*ids.shape, table.shape[1])


class Embedding(nn.Embedding):
    """An embedding whose dense gradients are faster on a CPU."""

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings (..., size) of ids (...)."""
        return super().forward(ids) if self.sparse else _pick(self.weight, ids)


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

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings (..., n_fields, size) of ids (...)."""
        own: Tensor = self.ids(ids).unsqueeze(-2)
        if self.values is None:
            return own
        slots: Tensor = self.values(self.codes[ids])
        if len(self.slot_fields) > self.n_features:
            slots = slots * self.weights[ids].unsqueeze(-1)
            fields = slots.new_zeros(*ids.shape, self.n_features, slots.shape[-1])
            slots = fields.index_add(-2, self.slot_fields, slots)
        return torch.cat([own, slots], -2)


class TwoSided(RecommenderModule):
    """A recommender whose users know nothing of items, nor items of users, before they meet.

    Args:
        train: Knows how many users and items there are.
        each: Whether every id of a batch is computed by itself. Otherwise, where a batch has more
            of them than there are, all are computed once and then looked up.
    """

    all_users: Tensor
    all_items: Tensor

    def __init__(self, train: Interactions, *, each: bool) -> None:
        super().__init__()
        self._each = each
        self.register_buffer("all_users", torch.arange(train.n_users), persistent=False)
        self.register_buffer("all_items", torch.arange(train.n_items), persistent=False)

    @abc.abstractmethod
    def user_side(self, ids: Tensor) -> Side:
        """Return what is known of users (...)."""

    @abc.abstractmethod
    def item_side(self, ids: Tensor) -> Side:
        """Return what is known of items (...)."""

    @final
    def sides(self, users: Tensor, items: Tensor | None) -> tuple[Side, Side]:
        return (
            self._side(self.user_side, users, self.all_users),
            self._side(self.item_side, items, self.all_items),
        )

    def _side(self, side: Callable[[Tensor], Side], ids: Tensor | None, known: Tensor) -> Side:
        if ids is not None and (self._each or ids.numel() < known.numel()):
            return side(ids)
        return side(known).take(ids)


@final
class MatrixFactorization(TwoSided):
    """Matrix factorization with a bias for each item: s(u, i) = <p_u, q_i> + b_i.

    Koren, Bell, Volinsky 2009, "Matrix factorization techniques for recommender systems"; Rendle
    et al. 2009, "BPR". A user's bias would change no ranking.
    """

    def __init__(self, train: Interactions, *, embedding_size: int, sparse: bool = False) -> None:
        super().__init__(train, each=True)
        self.users = _embedding(train.n_users, embedding_size, sparse, _FACTORS_STD)
        # The last number is the bias.
        self.items = _zero_last(_embedding(train.n_items, embedding_size + 1, sparse, _FACTORS_STD))

    def user_side(self, ids: Tensor) -> Side:
        factors = self.users(ids)
        return Side(F.pad(factors, (0, 1), value=1.0), factors)

    def item_side(self, ids: Tensor) -> Side:
        factors = self.items(ids)
        return Side(factors, factors[..., :-1])


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

    def user_side(self, ids: Tensor) -> Side:
        embedded = self.users(ids)
        product, network = embedded.chunk(2, -1)
        return Side(product * self.product.weight[0], embedded, self.user_half(network))

    def item_side(self, ids: Tensor) -> Side:
        embedded = self.items(ids)
        product, network = embedded.chunk(2, -1)
        return Side(product, embedded, self.item_half(network))


@final
class FactorizationMachine(TwoSided):
    """A factorization machine over the ids and all side features.

    s(x) = Σ_f w_f + Σ_{f<g} <v_f, v_g>, where field f has the weight w_f and the factors v_f.
    Rendle 2010, "Factorization machines", equation 1. Sums over pairs fall into those within a
    side and <Σ_user v, Σ_item v>.
    """

    def __init__(self, train: Interactions, *, embedding_size: int, sparse: bool = False) -> None:
        super().__init__(train, each=sparse)
        self.users, self.items = _machine_fields(train, embedding_size, sparse)

    def user_side(self, ids: Tensor) -> Side:
        total, own, factors = _sum_up(self.users(ids))
        return Side(torch.cat([total, own, torch.ones_like(own)], -1), factors)

    def item_side(self, ids: Tensor) -> Side:
        total, own, factors = _sum_up(self.items(ids))
        return Side(torch.cat([total, torch.ones_like(own), own], -1), factors)


@final
class DeepFM(TwoSided):
    """A factorization machine and a network over the same embeddings, added up.

    Guo et al. 2017, "DeepFM". Dropout follows every hidden layer.
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
        self.users, self.items = _machine_fields(train, embedding_size, sparse)
        self.user_half, self.item_half = _halves(
            self.users.n_fields * embedding_size, self.items.n_fields * embedding_size, hidden[0]
        )
        self.head = _head(hidden, dropout)

    def user_side(self, ids: Tensor) -> Side:
        total, own, factors = _sum_up(self.users(ids))
        vectors = torch.cat([total, own, torch.ones_like(own)], -1)
        return Side(vectors, factors, self.user_half(factors.flatten(-2)))

    def item_side(self, ids: Tensor) -> Side:
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

    def user_side(self, ids: Tensor) -> Side:
        embedded = self.users(ids)
        vectors = F.normalize(self.user_tower(embedded.flatten(-2)), dim=-1)
        return Side(vectors * self.log_scale.exp(), embedded)

    def item_side(self, ids: Tensor) -> Side:
        embedded = self.items(ids)
        return Side(F.normalize(self.item_tower(embedded.flatten(-2)), dim=-1), embedded)


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
        self.graph = _Graph(train, n_layers)

    def sides(self, users: Tensor, items: Tensor | None) -> tuple[Side, Side]:
        smooth: Tensor = _Smooth.apply(self.nodes.weight, self.graph)  # type: ignore[no-untyped-call]
        user_nodes, item_nodes = torch.split(self.nodes.weight, self._sizes)
        user_vectors, item_vectors = torch.split(smooth, self._sizes)
        return Side(user_vectors, user_nodes).take(users), Side(item_vectors, item_nodes).take(
            items
        )


class _Graph(nn.Module):
    """The normalized adjacency of users and items, users first.

    It has two halves, the items of users and the users of items, each a list of rows of `scaled`
    neighbors: the adjacency is D A D, D diagonal with 1 / sqrt(degree), and A of ones.
    """

    items_of_users: Tensor
    user_starts: Tensor
    users_of_items: Tensor
    item_starts: Tensor
    scales: Tensor

    def __init__(self, train: Interactions, n_layers: int) -> None:
        super().__init__()
        self._n_layers = n_layers
        taken = train.matrix()
        degrees = []
        for neighbors, starts, half in (
            ("items_of_users", "user_starts", taken),
            ("users_of_items", "item_starts", taken.T.tocsr()),
        ):
            half.sort_indices()
            self._register(neighbors, half.indices.astype(np.int32))
            self._register(starts, half.indptr[:-1].astype(np.int32))
            degrees.append(np.diff(half.indptr))
        scales = 1 / np.sqrt(np.maximum(np.concatenate(degrees), 1))
        self._register("scales", scales.astype(np.float32)[:, None])

    def _register(self, name: str, values: Any) -> None:
        self.register_buffer(name, torch.tensor(values), persistent=False)

    def smooth(self, nodes: Tensor) -> Tensor:
        """Return the mean of all layers that begin with ``nodes``, both (n_nodes, d)."""
        # Columns know nothing of each other, and a few of them stay in a core's cache.
        width = _SMOOTHED_COLUMNS if nodes.device.type == "cpu" else nodes.shape[1]
        smoothed = torch.empty_like(nodes)
        for part, found in zip(nodes.split(width, 1), smoothed.split(width, 1), strict=True):
            self._smooth_columns(part, found)
        return smoothed

    def _smooth_columns(self, nodes: Tensor, found: Tensor) -> None:
        n_users = len(self.user_starts)
        users, items = nodes[:n_users], nodes[n_users:]
        user_scales, item_scales = self.scales[:n_users], self.scales[n_users:]
        total_users, total_items = found[:n_users].copy_(users), found[n_users:].copy_(items)
        # What an item gives to its users is scaled by its own degree, then by the user's.
        users, items = users * user_scales, items * item_scales
        for i in range(self._n_layers):
            users, items = (
                F.embedding_bag(self.items_of_users, items, self.user_starts, mode="sum"),
                F.embedding_bag(self.users_of_items, users, self.item_starts, mode="sum"),
            )
            users *= user_scales
            items *= item_scales
            total_users += users
            total_items += items
            if i < self._n_layers - 1:
                users *= user_scales
                items *= item_scales
        found /= self._n_layers + 1


class _Smooth(torch.autograd.Function):
    """`_Graph.smooth`, whose gradient is itself: the adjacency is symmetric."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, graph: _Graph) -> Tensor:
        ctx.graph = graph
        return graph.smooth(nodes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.graph.smooth(gradient.contiguous()), None


MODELS: Mapping[str, Callable[..., RecommenderModule]] = {
    "mf": MatrixFactorization,
    "neumf": NeuMF,
    "fm": FactorizationMachine,
    "deepfm": DeepFM,
    "two_tower": TwoTower,
    "lightgcn": LightGCN,
}
"""The models by the names of their trainers."""


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
