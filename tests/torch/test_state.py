"""State of a training: the best epoch's comes back, and a killed training goes on exactly."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hpolab import load_study

if TYPE_CHECKING:
    from collections.abc import Mapping


class Memory(nn.Module):
    """Counts its training batches in its extra state."""

    def __init__(self) -> None:
        super().__init__()
        self.n_batches = [0]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.n_batches[0] += self.training
        return inputs

    def get_extra_state(self) -> list[int]:
        return self.n_batches

    def set_extra_state(self, state: list[int]) -> None:
        self.n_batches = state


def test_best_epoch_s_weights_buffers_and_extra_state_come_back(regression, batch_norm, splits):
    def build(params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(Memory(), batch_norm(params))

    objective = regression(build, max_epochs=8)
    reporter = objective.reporter(seed=5)
    objective.train({"optimizer": "sgd", "lr": 0.1}, reporter)
    assert reporter.best_step is not None
    assert reporter.best_step < 7  # or nothing would have to come back
    model = objective.fit({"optimizer": "sgd", "lr": 0.1}, seed=5)
    assert objective.evaluate(model, splits["valid"])["rmse"] == reporter.best_value
    assert model[0].n_batches == [5 * (reporter.best_step + 1)]
    assert not model.training


CHECKPOINT_SCRIPT = """
import os, signal, sys
import torch
from torch import nn
from hpolab import make_study, run
from hpolab.datasets import load_digits, split_four
from hpolab import TorchObjective, load_digits, make_study, optimizer_space, run, schedule_space
from hpolab import split_four

url, die_at = sys.argv[1], int(sys.argv[2])
data = split_four(load_digits(), n_train=200, n_valid=100, n_score=100, n_test=100)
n_steps = 0

def build_model(params):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(32, 10),
    )

def loss(outputs, targets):
    global n_steps
    n_steps += outputs.requires_grad
    if n_steps == die_at:  # in the middle of an epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(outputs, targets)

space = optimizer_space("momentum") | schedule_space("cosine", max_epochs=6, warmup=True)
objective = TorchObjective(
    build_model, train=data.train, valid=data.valid, score=data.score, search_space=space,
    loss=loss, metric="accuracy", max_epochs=6, batch_size=32, checkpoint_seconds=0,
)
study = make_study("s", storage=url, direction="maximize", sampler="random", pruner="none")
run(study, objective, n_trials=3)
"""


def test_killed_trials_end_bit_for_bit_as_uninterrupted_ones(tmp_path, python):
    """Mid-epoch kills: weights, momentum, schedule, BatchNorm, dropout and data order go on."""

    def train(name: str, die_at: int) -> int:
        url = f"sqlite:///{tmp_path}/{name}.db"
        return python.run(CHECKPOINT_SCRIPT, url, str(die_at)).returncode

    def outcome(name: str) -> list[object]:
        trials = load_study("s", storage=f"sqlite:///{tmp_path}/{name}.db").trials
        return [(t.params, t.intermediate_values, t.values) for t in trials]

    assert train("whole", -1) == 0
    for die_at in (24, 17):  # 7 steps an epoch; one more in the check
        assert train("killed", die_at) == -signal.SIGKILL
    assert train("killed", -1) == 0
    assert outcome("killed") == outcome("whole")
