"""Muon for the hidden weights and AdamW for the rest: steps, schedule, state, closure."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from hpolab import InvalidArgument, build_optimizer, build_schedule, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Callable


def muon_groups(model: nn.Module) -> list[list[torch.Tensor]]:
    optimizer = build_optimizer(optimizer_space("muon").defaults(), model)
    return [group["params"] for group in optimizer.param_groups]


def test_muon_trains_hidden_matrices_and_adamw_the_rest() -> None:
    embedding, first, second = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 6)
    head = nn.Linear(6, 2)
    model = nn.Sequential(embedding, first, nn.LayerNorm(6), second, head)
    hidden, rest = muon_groups(model)
    assert [id(p) for p in hidden] == [id(first.weight), id(second.weight)]
    assert len(hidden) + len(rest) == len(list(model.parameters()))


def test_muon_steps_are_those_of_torchs_two_optimizers(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    weights: Callable[..., Any],
) -> None:
    params = {"optimizer": "muon", "lr": 0.02, "weight_decay": 0.01, "adamw_lr": 3e-3}
    model, x, y = make_task("muon")
    twin = copy.deepcopy(model)
    hidden = [twin[0].weight, twin[2].weight]  # type: ignore[index]
    rest = [p for p in twin.parameters() if all(p is not h for h in hidden)]
    muon = torch.optim.Muon(hidden, lr=0.02, weight_decay=0.01)
    adamw = torch.optim.AdamW(rest, lr=3e-3, weight_decay=0.01)
    train(model, build_optimizer(params, model), (x, y), 5)
    for _ in range(5):
        twin.zero_grad()
        nn.functional.cross_entropy(twin(x), y).backward()
        muon.step()
        adamw.step()
    torch.testing.assert_close(weights(model), weights(twin))


def test_muon_follows_a_schedule_in_both_parts(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    weights: Callable[..., Any],
) -> None:
    model, x, y = make_task("muon")
    optimizer = build_optimizer({**optimizer_space("muon").defaults(), "adamw_lr": 0.01}, model)
    schedule = build_schedule({"schedule": "exponential", "gamma": 0.0}, optimizer, max_epochs=3)
    train(model, optimizer, (x, y), 1)
    schedule.step()
    assert schedule.get_last_lr() == [0.0, 0.0]
    before = weights(model)
    train(model, optimizer, (x, y), 1)
    assert torch.equal(weights(model), before)


def test_muon_survives_pickling(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    weights: Callable[..., Any],
) -> None:
    model, x, y = make_task("muon")
    optimizer = build_optimizer(optimizer_space("muon").defaults(), model)
    train(model, optimizer, (x, y), 2)
    twin, resumed = pickle.loads(pickle.dumps((model, optimizer)))
    train(model, optimizer, (x, y), 2)
    train(twin, resumed, (x, y), 2)
    assert torch.equal(weights(model), weights(twin))


def test_muon_takes_a_closure(
    make_task: Callable[..., Any],
) -> None:
    model, x, y = make_task("muon")
    optimizer = build_optimizer(optimizer_space("muon").defaults(), model)

    def closure() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss.item()

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 2),
        nn.Conv2d(3, 3, 3),
        nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 2)),
    ],
)
def test_muon_without_a_hidden_matrix_is_refused(model: nn.Module) -> None:
    with pytest.raises(InvalidArgument, match="'muon' needs a trainable 2-D weight"):
        build_optimizer(optimizer_space("muon").defaults(), model)
