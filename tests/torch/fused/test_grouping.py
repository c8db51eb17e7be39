"""Trials whose architectures differ share no stack; what cannot be stacked trains alone."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from hpolab import EXTRA_OPTIMIZERS, SearchSpace, optimizer_space


def test_shapes_and_batch_sizes_make_groups(double, objective_of, study_of, check_same):
    space = optimizer_space("sgd") | SearchSpace({"hidden": [8, 12], "batch_size": [16, 32]})
    objective = objective_of(space)
    together = study_of(objective, 14, 6)
    check_same(together, study_of(objective, 14, None), 1e-8)
    assert (
        len({tuple(trial.params[n] for n in ("hidden", "batch_size")) for trial in together.trials})
        == 4
    )


class Noisy(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + torch.randn_like(inputs) if self.training else inputs


class Branching(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2 if inputs.sum() > 0 else inputs


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Noisy, "vmap: called random operation"),
        (Branching, "data-dependent control flow"),
    ],
)
def test_what_cannot_be_stacked_trains_alone_and_says_why(
    layer, reason, caplog, double, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: nn.Sequential(layer(), nn.Linear(6, 2)))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert "trains alone" in caplog.text
    assert reason in caplog.text
    check_same(together, study_of(objective, 4, None), 1e-12)


@pytest.mark.parametrize("name", ["muon", *EXTRA_OPTIMIZERS])
def test_an_optimizer_without_a_rule_trains_alone_and_says_so_once(
    caplog, double, objective_of, study_of, check_same, name
):
    objective = objective_of(optimizer_space(["adam", name]))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 10, 4)
    assert caplog.text.count(f"the optimizer '{name}' has no rule") == 1
    check_same(together, study_of(objective, 10, None), 1e-8)


def test_models_that_hide_a_difference_do_not_share_a_stack(
    caplog, double, objective_of, study_of, check_same
):
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)
            self.scale = lambda: scale  # no plain setting that a signature shows

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs) * self.scale()

    space = optimizer_space("sgd") | SearchSpace({"scale": (0.5, 2.0)})
    objective = objective_of(space, model=lambda params: Scaled(params["scale"]))
    together = study_of(objective, 6, 3)
    check_same(together, study_of(objective, 6, None), 1e-8)


def test_a_plain_setting_of_a_module_makes_groups(
    double, caplog, objective_of, study_of, check_same
):
    space = optimizer_space("sgd") | SearchSpace({"slope": [0.1, 0.3]})
    objective = objective_of(
        space,
        model=lambda params: nn.Sequential(
            nn.Linear(6, 8), nn.LeakyReLU(params["slope"]), nn.Linear(8, 2)
        ),
    )
    check_same(study_of(objective, 8, 4), study_of(objective, 8, None), 1e-8)
    assert "trains alone" not in caplog.text
