"""Small models with their data, trained and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from hpolab import SearchSpace, TorchObjective, make_study, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial


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


@pytest.fixture(scope="session")
def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rows that `regression` takes if no others are given: "train", "valid" and "score"."""
    return SPLITS


@pytest.fixture(scope="session")
def batch_norm() -> Callable[..., nn.Module]:
    """Build a model with batch normalization and dropout."""
    return with_batch_norm


@pytest.fixture(scope="session")
def regression() -> Callable[..., TorchObjective]:
    """Make an objective of a model, a linear one if none is given, and options."""
    return make_regression


@pytest.fixture(scope="session")
def random_study() -> Callable[..., Study]:
    """Make a study that draws at random and prunes nothing."""
    return make_random_study


@pytest.fixture(scope="session")
def run_trials() -> Callable[..., list[FrozenTrial]]:
    """Return the trials of a study of an objective."""
    return trials_of


@pytest.fixture(scope="session")
def run_trial() -> Callable[..., FrozenTrial]:
    """Return the one trial of a study of an objective."""
    return trial_of


@pytest.fixture(scope="session")
def same_weights() -> Callable[[nn.Module, nn.Module], bool]:
    """Tell whether two models have the same weights and buffers."""
    return have_same_weights


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
    if hasattr(optimizer, "train"):  # schedule-free ones have weights of their own for it
        optimizer.train()
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


SGD = SearchSpace({"optimizer": "sgd", "lr": (1e-3, 1.0, "linear")}, defaults={"lr": 0.05})


WEIGHTS = np.array([1.0, -2.0, 3.0])


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear problem with noise, float64: inputs (n, 3), targets (n,)."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 3))
    return inputs, inputs @ WEIGHTS + rng.normal(size=n)


SPLITS = {"train": rows(41, 0), "valid": rows(30, 1), "score": rows(30, 2)}


def linear(params: Mapping[str, Any]) -> nn.Module:
    return nn.Linear(3, 1)


def with_batch_norm(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def make_regression(build_model: Any = linear, **options: Any) -> TorchObjective:
    settings: dict[str, Any] = {
        **SPLITS,
        "search_space": SGD,
        "loss": "mse",
        "metric": "rmse",
        "max_epochs": 3,
        "batch_size": 8,
    }
    return TorchObjective(build_model, **settings | options)


def make_random_study(**options: Any) -> Study:
    return make_study("s", storage="memory://", sampler="random", pruner="none", seed=0, **options)


def trials_of(objective: TorchObjective, n_trials: int = 1) -> list[FrozenTrial]:
    study = make_random_study(direction=objective.direction)
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study.trials


def trial_of(objective: TorchObjective) -> FrozenTrial:
    (trial,) = trials_of(objective)
    return trial


def have_same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
