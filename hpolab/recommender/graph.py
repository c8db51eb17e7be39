"""The graph of interactions over which LightGCN averages embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from hpolab.recommender.interactions import Interactions

__all__ = ["Graph"]

# Columns that are smoothed at a time: those of 10,000 nodes take 1.3 MB, which stay in a cache.
_COLUMNS = 32


class Graph(nn.Module):
    """The normalized adjacency of users and items, D A D: A of ones, D of 1 / sqrt(degree).

    A is kept as two halves, the items of each user and the users of each item.

    Args:
        train: The interactions.
        n_layers: How often a layer is averaged over neighbors.
    """

    items_of_users: Tensor
    user_starts: Tensor
    users_of_items: Tensor
    item_starts: Tensor
    user_degrees: Tensor
    item_degrees: Tensor

    def __init__(self, train: Interactions, n_layers: int) -> None:
        super().__init__()
        self._n_layers = n_layers
        taken = train.matrix()
        self._register("items_of_users", "user_starts", "user_degrees", taken)
        self._register("users_of_items", "item_starts", "item_degrees", taken.T.tocsr())

    def _register(self, neighbors: str, starts: str, degrees: str, half: Any) -> None:
        half.sort_indices()
        # Who has no neighbor has a sum of zero, whatever it is divided by.
        counts = np.maximum(np.diff(half.indptr), 1).astype(np.float32)[:, None]
        for name, values in (
            (neighbors, half.indices.astype(np.int32)),
            (starts, half.indptr[:-1].astype(np.int32)),
            (degrees, counts),
        ):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of all layers of users and of items.

        Args:
            nodes: The first layer, users first, (n_nodes, d).
        """
        users, items = _Smooth.apply(nodes, self)  # type: ignore[no-untyped-call]
        return users, items

    def smooth(self, users: Tensor, items: Tensor, into_users: Tensor, into_items: Tensor) -> None:
        """Write the mean of all layers that begin with ``users`` and ``items``, (n, d) each."""
        # Columns know nothing of each other, and a few of them stay in a core's cache.
        width = _COLUMNS if users.device.type == "cpu" else users.shape[1]
        sides = (users, items, into_users, into_items)
        for some in zip(*(torch.split(each, width, 1) for each in sides), strict=True):
            self._smooth_columns(*some)

    def _smooth_columns(
        self, users: Tensor, items: Tensor, into_users: Tensor, into_items: Tensor
    ) -> None:
        # Layers are D A D E, D A D D A D E, ...: of z = D E, the next is D D A z, and E is z / D.
        part = 1 / (self._n_layers + 1)
        scaled_users = users * self.user_degrees.rsqrt().mul_(part)
        scaled_items = items * self.item_degrees.rsqrt().mul_(part)
        for i in range(self._n_layers):
            scaled_users, scaled_items = (
                F.embedding_bag(self.items_of_users, scaled_items, self.user_starts, mode="sum"),
                F.embedding_bag(self.users_of_items, scaled_users, self.item_starts, mode="sum"),
            )
            scaled_users.div_(self.user_degrees)
            scaled_items.div_(self.item_degrees)
            if i == 0:
                user_sum, item_sum = scaled_users.clone(), scaled_items.clone()
            else:
                user_sum += scaled_users
                item_sum += scaled_items
        torch.add(user_sum.mul_(self.user_degrees.sqrt()), users, alpha=part, out=into_users)
        torch.add(item_sum.mul_(self.item_degrees.sqrt()), items, alpha=part, out=into_items)


class _Smooth(torch.autograd.Function):
    """`Graph.smooth`, whose gradient is itself: the adjacency is symmetric."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        ctx.graph = graph
        users, items = torch.split(nodes, [len(graph.user_starts), len(graph.item_starts)])
        smooth_users, smooth_items = torch.empty_like(users), torch.empty_like(items)
        graph.smooth(users, items, smooth_users, smooth_items)
        return smooth_users, smooth_items

    @staticmethod
    def backward(ctx: Any, of_users: Tensor, of_items: Tensor) -> tuple[Tensor, None]:
        gradient = of_users.new_empty((len(of_users) + len(of_items), of_users.shape[1]))
        into = torch.split(gradient, [len(of_users), len(of_items)])
        ctx.graph.smooth(of_users, of_items, *into)
        return gradient, None
