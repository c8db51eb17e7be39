"""Every update rule makes torch's own steps, for several members with their own settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpolab import EXTRA_OPTIMIZERS, OPTIMIZERS, build_optimizer, optimizer_space
from hpolab.torch.fused.rules import RULES, Steps, rule_of

SHAPES = {"matrix": (4, 5), "vector": (7,), "kernel": (3, 2, 2, 2)}
N_STEPS = 50
# Settings that spaces fix at torch's default and users may open, for each of three members.
OPENED: dict[str, list[Any]] = {
    "weight_decay": [0.0, 0.1, 0.01],
    "dampening": [0.0, 0.3, 0.1],
    "lr_decay": [0.0, 0.01, 0.1],
    "initial_accumulator_value": [0.0, 0.1, 0.0],
    "decoupled_weight_decay": [False, True, True],
    "momentum_decay": [4e-3, 1e-2, 0.0],
    "lambd": [1e-4, 1e-2, 0.0],
    "alpha": [0.75, 0.9, 0.5],
    "t0": [1e6, 10.0, 20.0],
    "eps1": [None, 1e-3, 1e-8],
    "d": [1.0, 1.5, 2.0],
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


class Weights(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))


def params_of(rule: str) -> list[dict[str, Any]]:
    name = "rmsprop" if rule == "rmsprop_with_momentum" else rule
    members = []
    for member, scale in enumerate((1.0, 2.5, 0.4)):
        params = optimizer_space(name).defaults()
        params["lr"] *= scale
        params |= {key: values[member] for key, values in OPENED.items() if key in params}
        if name == "rmsprop":
            params |= {"alpha": 0.99}
        if rule == "rmsprop_with_momentum":
            params |= {"momentum": 0.9, "centered": member == 1}
        members.append(params)
    return members


@pytest.mark.parametrize("rule", RULES)
def test_fifty_steps_are_those_of_torch_alone(rule, dtype):
    with torch.random.fork_rng():
        check_against_torch(rule, dtype)


def check_against_torch(rule: str, dtype: torch.dtype) -> None:
    members = params_of(rule)
    assert {rule_of(params) for params in members} == {rule}
    alone = [Weights(seed) for seed in range(len(members))]
    optimizers = [build_optimizer(p, m) for p, m in zip(members, alone, strict=True)]
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    stacked = {
        name: torch.stack([m.get_parameter(name).detach() for m in alone]) for name in SHAPES
    }
    states = {
        name: {
            state: torch.stack(
                [torch.full(own, float(RULES[rule].initial(g).get(state, 0.0))) for g in groups]
            )
            for state, own in RULES[rule].state_shapes(shape).items()
        }
        for name, shape in SHAPES.items()
    }
    c = coefficients(rule, groups, dtype)
    for step in range(N_STEPS):
        for name, shape in SHAPES.items():
            gradient = torch.randn(len(members), *shape)
            for member, own in zip(alone, gradient, strict=True):
                member.get_parameter(name).grad = own.clone()
            now = {key: each[:, step].reshape(-1, *[1] * len(shape)) for key, each in c.items()}
            RULES[rule].update(stacked[name], gradient, states[name], now)
        for optimizer in optimizers:
            optimizer.step()
        for name, together in stacked.items():
            apart = torch.stack([m.get_parameter(name).detach() for m in alone])
            tolerance = TOLERANCE[dtype]
            torch.testing.assert_close(together, apart, rtol=tolerance, atol=tolerance)


def coefficients(rule: str, groups: list[Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    t = np.arange(1.0, N_STEPS + 1)
    found = [
        RULES[rule].coefficients(Steps(g, t, np.full(N_STEPS, g["lr"]), np.full(N_STEPS, g["lr"])))
        for g in groups
    ]
    names = {name for each in found for name in each}
    return {
        name: torch.tensor(
            np.array([np.broadcast_to(each.get(name, 0.0), N_STEPS) for each in found]), dtype=dtype
        )
        for name in names
    }


def test_every_optimizer_has_a_rule_but_for_two():
    assert set(OPTIMIZERS) - set(RULES) == {"muon", "sparse_adam"}
    assert not set(EXTRA_OPTIMIZERS) & set(RULES)
    assert rule_of({"optimizer": "muon"}) is None
