"""What two trainings may share: frozen weights; what a training writes is its own."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from hpolab import InvalidArgument, optimizer_space
from hpolab.torch.freshness import ModelsSeen

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "`build_model` must make new weights each time"
BUFFERS = "`build_model` must give each model what training writes anew"


class Mean(nn.Module):
    """Moves by the mean of what it has seen; its buffer is replaced rather than written."""

    def __init__(self, mean: torch.Tensor | None = None, *, replaces: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3) if mean is None else mean, persistent=False)
        self.replaces = replaces

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and self.replaces:
            self.mean = 0.9 * self.mean + 0.1 * inputs.detach().mean(0)
        elif self.training:
            self.mean.mul_(0.9).add_(inputs.detach().mean(0), alpha=0.1)
        return inputs - self.mean


class Grows(nn.Module):
    """A table as long as the longest batch, as positions have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1, 1), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(self.table) < len(inputs):
            self.table = torch.zeros(len(inputs), 1)
        return inputs + self.table[: len(inputs)]


def with_head(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(*parts, nn.Linear(3, 1))


def shares_batch_norm() -> Any:
    shared = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    return lambda params: with_head(shared)


def shares_module_that_replaces() -> Any:
    shared = Mean()
    return lambda params: with_head(shared)


def shares_buffer_alone() -> Any:
    mean = torch.zeros(3)
    return lambda params: with_head(Mean(mean, replaces=False))


def shares_frozen_table() -> Any:
    table = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()  # rows that are longer are shortened in place, frozen or not
            self.rows = nn.Embedding.from_pretrained(table, freeze=True, max_norm=0.5)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.rows((inputs[:, 0].abs() * 3).long().clamp(max=8))

    return lambda params: with_head(Rows())


def shares_view() -> Any:
    table = torch.zeros(5, 3)
    return lambda params: with_head(Mean(table[2], replaces=False))


@pytest.mark.parametrize(
    "make", [shares_batch_norm, shares_module_that_replaces, shares_buffer_alone, shares_view]
)
def test_shared_buffers_that_training_writes_are_refused_before_a_trial(regression, make):
    build = make()
    objective = regression(build)
    before = [buffer.clone() for buffer in build({}).buffers()]
    with pytest.raises(InvalidArgument, match=BUFFERS):
        objective.check()
    if make is not shares_module_that_replaces:  # the tensors themselves are as they were
        assert all(map(torch.equal, before, build({}).buffers()))


@pytest.mark.parametrize(
    "make",
    [
        shares_batch_norm,
        shares_module_that_replaces,
        shares_buffer_alone,
        shares_view,
        shares_frozen_table,
    ],
)
def test_training_on_what_another_has_written_is_refused_without_a_check(regression, make):
    objective = regression(make())
    params = objective.search_space.defaults()
    objective.fit(params, seed=0)
    with pytest.raises(InvalidArgument, match=BUFFERS):
        objective.fit(params, seed=0)


def test_backbone_that_some_trials_alone_share_is_found(regression):
    shared = nn.BatchNorm1d(3, affine=False)

    def build(params: Mapping[str, Any]) -> nn.Module:
        return with_head(shared) if params["shares"] else with_head()

    space = optimizer_space("sgd") | {"shares": [True, False]}
    objective = regression(build, search_space=space)
    params = space.defaults()
    objective.fit({**params, "shares": False}, seed=0)
    objective.fit(params, seed=0)
    objective.fit({**params, "shares": False}, seed=1)
    with pytest.raises(InvalidArgument, match=BUFFERS):
        objective.fit(params, seed=0)


class Evaluating(nn.Sequential):
    """Stays in evaluation mode, as a frozen backbone should."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


def keeps_evaluating() -> Any:
    shared = Evaluating(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
    return lambda params: with_head(shared)


def copies() -> Any:
    shared = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    return lambda params: with_head(copy.deepcopy(shared))


def grows() -> Any:
    shared = Grows()
    return lambda params: with_head(shared)


def shares_frozen_weights() -> Any:
    shared = nn.Linear(3, 3).requires_grad_(False)
    return lambda params: with_head(shared)


def makes_anew() -> Any:
    return lambda params: with_head(nn.BatchNorm1d(3), Mean())


@pytest.mark.parametrize(
    "make", [keeps_evaluating, copies, grows, shares_frozen_weights, makes_anew]
)
def test_same_seed_trains_the_same_model_where_nothing_written_is_shared(
    regression, same_weights, make
):
    objective = regression(make())
    objective.check()
    params = objective.search_space.defaults()
    first, _, again = (objective.fit(params, seed) for seed in (0, 1, 0))
    assert same_weights(first, again)


def shares_trained() -> Any:
    shared = nn.Linear(3, 3)
    return lambda params: with_head(shared)


def shares_all() -> Any:
    shared = nn.Linear(3, 1)
    return lambda params: shared


def shares_memory_alone() -> Any:
    state = nn.Linear(3, 1).state_dict()

    def build(params: Mapping[str, Any]) -> nn.Module:
        model = nn.Linear(3, 1)
        model.load_state_dict(state, assign=True)
        return model

    return build


def borrows_an_array() -> Any:
    vectors = np.ones((3, 3), np.float32)

    def build(params: Mapping[str, Any]) -> nn.Module:
        first = nn.Linear(3, 3)
        first.weight = nn.Parameter(torch.from_numpy(vectors))
        return with_head(first)

    return build


def test_weights_in_the_memory_of_an_array_are_refused_before_a_trial(regression):
    with pytest.raises(InvalidArgument, match=WEIGHTS):
        regression(borrows_an_array()).check()


def unfreezes() -> Any:
    shared = nn.Linear(3, 3)
    return lambda params: with_head(shared.requires_grad_(params.get("tune", False)))


@pytest.mark.parametrize("make", [shares_trained, shares_all, shares_memory_alone])
def test_shared_weights_that_are_trained_are_refused(regression, make):
    with pytest.raises(InvalidArgument, match=WEIGHTS):
        regression(make()).check()
    objective = regression(make())
    objective.fit(objective.search_space.defaults(), seed=0)
    with pytest.raises(InvalidArgument, match=WEIGHTS):
        objective.fit(objective.search_space.defaults(), seed=1)


def test_shared_weights_that_one_trial_trains_are_refused(regression):
    space = optimizer_space("sgd") | {"tune": [False, True]}
    objective = regression(unfreezes(), search_space=space)
    objective.check()
    params = objective.search_space.defaults()
    objective.fit(params, seed=0)
    with pytest.raises(InvalidArgument, match=WEIGHTS):
        objective.fit({**params, "tune": True}, seed=0)


def test_memory_of_a_model_that_is_gone_is_not_taken_for_shared():
    seen = ModelsSeen()
    for _ in range(50):
        seen.add(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    gc.collect()
    seen.add(nn.Linear(3, 3))
    assert len(seen._tensors) <= 2 + 6
    assert pickle.loads(pickle.dumps(seen))._tensors == {}
