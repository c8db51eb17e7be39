"""Stacked models: the inputs, weights and compiled steps that an architecture supports."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from hpolab import TorchObjective, optimizer_space
from hpolab.torch.fused.speed import Speed


class Towers(nn.Module):
    """Inputs in a dict, an embedding, a layer that is frozen, two tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(4, 3)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        left = self.words(inputs["word"]) * self.first(inputs["context"])
        return (left + self.frozen(self.second(inputs["context"]))).sum(-1)


def test_inputs_in_a_dict_tied_and_frozen_weights_are_stacked(double, caplog, study_of, check_same):
    drawn = torch.Generator().manual_seed(0)

    def part(n: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        words = torch.randint(0, 5, (n,), generator=drawn)
        return {"word": words, "context": torch.randn(n, 4, generator=drawn)}, words.double()

    objective = TorchObjective(
        lambda params: Towers(),
        train=part(50),
        valid=part(20),
        search_space=optimizer_space("adamw"),
        loss="mse",
        metric="rmse",
        max_epochs=3,
        batch_size=16,
    )
    check_same(study_of(objective, 4, 4), study_of(objective, 4, None), 1e-8)
    assert "trains alone" not in caplog.text


# torch's compiler warns of its own code.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("names", "backend"),
    [
        # The steps are captured as a graph, which then runs without a C++ compiler.
        pytest.param(["adam", "sgd"], "eager", id="mixed, captured"),
        pytest.param("adam", "inductor", id="one rule", marks=pytest.mark.long),
        pytest.param(["adam", "sgd"], "inductor", id="mixed", marks=pytest.mark.long),
    ],
)
def test_compiled_steps_are_those_of_the_trials_alone(
    names, backend, double, caplog, monkeypatch, objective_of, study_of, check_same, rows
):
    sizes: list[int] = []

    def measured(*_: Any, compiled: bool, **__: Any) -> Speed | None:
        if not compiled:
            return None
        sizes.append(4)
        return Speed(4, compiled=True, seconds=1.0)

    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=backend))
    # A study this small would not be compiled, whether its steps are fast here or not.
    monkeypatch.setattr("hpolab.torch.fused.speed._COMPILE_SMALL_FROM_SECONDS", 0.0)
    monkeypatch.setattr("hpolab.torch.fused.speed._COMPILE_FROM_SECONDS", 0.0)
    monkeypatch.setattr("hpolab.torch.fused.speed._stack_speed", measured)
    # Compiling is what takes long here: one length of batches, few modules.
    objective = objective_of(
        optimizer_space(names),
        lambda params: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.3), nn.Linear(4, 2)),
        train=rows(32, 0),
    )
    check_same(study_of(objective, 6, 4), study_of(objective, 6, None), 1e-8)
    assert sizes == [4]
    # What does not compile would train alone.
    assert "alone" not in caplog.text
