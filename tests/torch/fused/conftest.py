"""A small objective, studies of it fused and alone, and what both must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from hpolab import SearchSpace, TorchObjective, make_study, optimizer_space, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study

N_TRAIN, N_OTHER = 85, 40  # batches of 16 leave a smaller one


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """Each of two default dtypes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def rows() -> Callable[[int, int], tuple[torch.Tensor, torch.Tensor]]:
    """Make inputs (n, 6) and their classes (n,), given n and a seed."""
    return make_rows


@pytest.fixture(scope="session")
def build() -> Callable[[dict[str, Any]], nn.Module]:
    """Build a model with all that a stack must keep apart."""
    return build_model


@pytest.fixture(scope="session")
def objective_of() -> Callable[..., TorchObjective]:
    """Make an objective of a space, a model and options."""
    return make_objective


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """Run a study of an objective, given ``n_trials`` and ``fuse``."""
    return run_study


@pytest.fixture(scope="session")
def check_same() -> Callable[[Study, Study, float], None]:
    """Assert that two studies have the same trials, within a tolerance."""
    return assert_same


def make_rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] + inputs[:, 1] * inputs[:, 2] > 0).long()


def build_model(params: dict[str, Any]) -> nn.Module:
    """Batch normalization and dropout; no bias before the first, whose gradient is rounding."""
    return nn.Sequential(
        nn.Linear(6, params.get("hidden", 12), bias=False),
        nn.BatchNorm1d(params.get("hidden", 12)),
        nn.ReLU(),
        nn.Dropout(params.get("dropout", 0.3)),
        nn.Linear(params.get("hidden", 12), 8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(8, 2),
    )


def make_objective(
    space: SearchSpace | None = None,
    model: Callable[[dict[str, Any]], nn.Module] = build_model,
    **options: Any,
) -> TorchObjective:
    settings: dict[str, Any] = {
        "train": make_rows(N_TRAIN, 0),
        "valid": make_rows(N_OTHER, 1),
        "score": make_rows(N_OTHER, 2),
        "loss": "cross_entropy",
        "metric": "loss",
        "max_epochs": 3,
        "batch_size": 16,
        "search_space": optimizer_space("adam") if space is None else space,
    }
    return TorchObjective(model, **settings | options)


def run_study(
    objective: TorchObjective,
    n_trials: int,
    fuse: int | str | None,
    *,
    storage: str = "memory://",
    name: str = "s",
    sampler: Any = "random",
    pruner: Any = "none",
    **options: Any,
) -> Study:
    study = make_study(
        name, storage=storage, objective=objective, sampler=sampler, pruner=pruner, seed=0
    )
    run(study, objective, n_trials=n_trials, fuse=fuse, show_progress_bar=False, **options)
    return study


def assert_same(together: Study, alone: Study, tolerance: float) -> None:
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.params == other.params
        assert one.state == other.state
        assert one.intermediate_values == pytest.approx(
            other.intermediate_values, rel=tolerance, abs=tolerance
        )
        assert one.value == pytest.approx(other.value, rel=tolerance, abs=tolerance)
