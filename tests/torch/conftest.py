"""Small models with their data, trained and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def make_task() -> Callable[[str], tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    """Make a model that an optimizer of a name can train, inputs and labels."""
    return task_of


@pytest.fixture(scope="session")
def train() -> Callable[..., list[float]]:
    """Train a model, given optimizer, data and steps; returns the losses."""
    return train_steps


@pytest.fixture(scope="session")
def weights() -> Callable[[nn.Module], torch.Tensor]:
    """Return a copy of all weights of a model, in one row."""
    return weights_of


class Bag(nn.Module):
    """Three classes told by the mean of embedded words: sparse gradients only."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(20, 3, sparse=True)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.words(words)


def task_of(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    if name == "sparse_adam":
        words = torch.randint(0, 20, (64, 4))
        return Bag(), words, words[:, 0] % 3
    x = torch.randn(64, 8)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    )
    return model, x, x[:, :3].argmax(1)


def train_steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[torch.Tensor, torch.Tensor],
    n_steps: int,
) -> list[float]:
    losses = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])
