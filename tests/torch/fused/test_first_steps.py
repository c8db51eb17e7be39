"""A member joins a stack if its first steps there are those that it makes alone."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hpolab import SearchSpace, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Callable


class Net(nn.Module):
    """Two layers, and what happens between them in training."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.between = between

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(inputs))
        return self.last(self.between(hidden) if self.training else hidden)


def hook_gradient(hidden: torch.Tensor) -> torch.Tensor:
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
    return hidden


def drop_by_python(hidden: torch.Tensor) -> torch.Tensor:
    return hidden if random.random() < 0.9 else hidden * 2


def drop_by_numpy(hidden: torch.Tensor) -> torch.Tensor:
    return hidden if np.random.rand() < 0.9 else hidden * 2


def use_data(hidden: torch.Tensor) -> torch.Tensor:
    return hidden + 0 * hidden.data.sum()


def catch(hidden: torch.Tensor) -> torch.Tensor:
    try:
        return hidden * float(hidden.detach().mean())
    except RuntimeError:  # of vmap
        return hidden


class Clamped(nn.Linear):
    """Keeps its weights small, which shows only once they have grown."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.weight.clamp_(-0.6, 0.6)
        return super().forward(inputs)


class Averaged(nn.Module):
    """Replaces a buffer in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0)
        return self.layer(inputs - self.mean)


class Calibrated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.temperature = nn.Parameter(torch.tensor([2.0]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(inputs)
        return outputs if self.training else outputs / self.temperature


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        pytest.param(lambda _: Net(hook_gradient), "hooks on gradients", id="hook in forward"),
        pytest.param(lambda _: Net(use_data), "uses `.data`", id="data"),
        pytest.param(lambda _: Net(catch), "train", id="catches what vmap raises"),
        pytest.param(lambda _: Clamped(6, 2), "changes its weight 'weight'", id="clamped weight"),
        pytest.param(lambda _: Averaged(), "'mean'", id="buffer replaced"),
        pytest.param(lambda _: Calibrated(), "'temperature' gets no gradient", id="no gradient"),
    ],
)
def test_what_a_stack_would_do_otherwise_trains_alone(
    build, reason, double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(optimizer_space("adamw"), build, max_epochs=6)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 5, 4)
    assert caplog.text.count("trains alone") == 1
    assert reason in caplog.text
    check_same(together, study_of(objective, 5, None), 1e-12)


@pytest.mark.parametrize("between", [drop_by_python, drop_by_numpy])
def test_random_state_that_is_not_torchs_keeps_trials_out_of_stacks(
    between, caplog, objective_of, study_of
):
    random.seed(0)
    np.random.seed(0)
    with caplog.at_level(logging.WARNING):
        study_of(objective_of(model=lambda params: Net(between)), 4, 4)
    assert "the random state of Python or NumPy" in caplog.text


class Functional(nn.Module):
    """Dropout as a function, twice in a module, of channels, in place, and in attention."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 2)
        self.twice = nn.Dropout(rate)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.twice(torch.tanh(self.twice(self.first(inputs))))
        hidden = functional.dropout(hidden, 0.2, training=self.training)
        words = functional.dropout1d(hidden.reshape(-1, 3, 4), 0.3, self.training)
        rate = 0.25 if self.training else 0.0
        words = functional.scaled_dot_product_attention(words, words, words, dropout_p=rate)
        hidden = torch.relu(words.transpose(1, 2)).flatten(1)
        functional.dropout(hidden, 0.1, self.training, inplace=True)
        return self.last(torch.dropout(hidden, 0.1, self.training))


def test_dropout_is_each_members_own_wherever_it_is_called(
    double, caplog, objective_of, study_of, check_same
):
    space = optimizer_space("adam") | SearchSpace({"rate": (0.0, 0.6)}, defaults={"rate": 0.0})
    objective = objective_of(space, lambda params: Functional(params["rate"]))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 4)
    assert "alone" not in caplog.text
    check_same(together, study_of(objective, 6, None), 1e-8)


class ReadsRate(nn.Module):
    """Uses the rate of a dropout for something else."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop, self.layer = nn.Dropout(rate), nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(self.drop(inputs)) * (1 - 1e-3 * self.drop.p)


def test_a_rate_that_is_read_for_something_else_is_not_that_of_another_trial(
    double, objective_of, study_of, check_same
):
    space = optimizer_space("adam") | SearchSpace({"rate": (0.1, 0.6)})
    objective = objective_of(space, lambda params: ReadsRate(params["rate"]))
    check_same(study_of(objective, 6, 4), study_of(objective, 6, None), 1e-10)


def test_a_metric_that_fails_for_one_trial_ends_that_trial_alone(objective_of, study_of):
    def picky(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        if float(outputs.abs().max()) > 1e3:
            raise ValueError("too large")
        return float(functional.cross_entropy(outputs, targets))

    space = optimizer_space("sgd").override(lr=[0.1, 1e4])
    objective = objective_of(
        space, lambda params: nn.Linear(6, 2), metric=picky, direction="minimize"
    )
    study = study_of(objective, 8, 8, max_failures=100)
    states = {trial.params["lr"]: trial.state.name for trial in study.trials}
    assert states == {0.1: "COMPLETE", 1e4: "FAIL"}


def test_a_metric_in_python_is_each_members_own(double, objective_of, study_of, check_same):
    seen: list[Any] = []

    def remembering(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        try:
            seen.append(outputs.numpy().copy())
            return float((outputs.argmax(1).numpy() == targets.numpy()).mean())
        except RuntimeError:  # of vmap
            return 0.5

    objective = objective_of(metric=remembering, direction="maximize")
    check_same(study_of(objective, 5, 4), study_of(objective, 5, None), 1e-12)


@pytest.mark.parametrize("name", ["adam", "rmsprop", "rprop", "adafactor", "adagrad", "sgd"])
def test_rounding_is_no_reason_to_train_alone(name, caplog, objective_of, study_of, rows):
    """In single precision, with biases before normalizations, whose gradients are rounding."""

    def build(params: dict[str, Any]) -> nn.Module:
        return nn.Sequential(
            *(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU()),
            *(nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2)),
        )

    objective = objective_of(optimizer_space(name), build, train=rows(640, 0), batch_size=64)
    with caplog.at_level(logging.WARNING):
        study_of(objective, 24, 8)
    assert "alone" not in caplog.text


class Evaluated(nn.Module):
    """Changes itself when it is evaluated, as a model that counts epochs does."""

    def __init__(self, change: Callable[[Evaluated], None], *, by_mode: bool) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 8), nn.Dropout(0.4), nn.Linear(8, 2)
        self.register_buffer("scale", torch.ones(()))
        self.change, self.by_mode = change, by_mode

    def train(self, mode: bool = True) -> Evaluated:
        if self.by_mode and not mode:
            self.change(self)
        return super().train(mode)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.by_mode and not self.training:
            self.change(self)
        return self.last(self.scale * self.drop(self.first(inputs).tanh()))


def lower_rate(model: Evaluated) -> None:
    model.drop.p *= 0.5


def scale_in_place(model: Evaluated) -> None:
    model.scale.mul_(0.5)


def scale_anew(model: Evaluated) -> None:
    model.scale = model.scale * 0.5


def clamp_weights(model: Evaluated) -> None:
    with torch.no_grad():
        model.first.weight.clamp_(-0.1, 0.1)


@pytest.mark.parametrize("by_mode", [False, True], ids=["in forward", "in train"])
@pytest.mark.parametrize("change", [lower_rate, scale_in_place, scale_anew, clamp_weights])
def test_a_model_that_evaluation_changes_trains_alone(
    double, caplog, objective_of, study_of, check_same, change, by_mode
):
    objective = objective_of(model=lambda params: Evaluated(change, by_mode=by_mode))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert caplog.text.count("trains alone") == 1
    check_same(together, study_of(objective, 4, None), 1e-12)


class Enclosed(nn.Module):
    """Reads its count through a function, which a copy of it shares."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.register_buffer("count", torch.zeros(()))
        self.anneal = lambda hidden: hidden / (1 + self.count)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.count += 1
        return self.last(self.anneal(self.first(inputs).tanh()))


def test_a_function_that_encloses_the_model_keeps_it_out_of_stacks(
    double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: Enclosed())
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert "'anneal' is a function that refers to the model itself" in caplog.text
    check_same(together, study_of(objective, 4, None), 1e-12)


class InPlace(nn.Module):
    """Centers its inputs in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs -= inputs.mean(0)
        return self.layer(inputs)


def test_a_model_that_works_in_place_shares_a_stack(
    double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: InPlace())
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert "alone" not in caplog.text
    check_same(together, study_of(objective, 4, None), 1e-8)


HIDDEN: dict[str, torch.Tensor] = {}


class Noted(nn.Module):
    """Leaves its hidden layer where the loss finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        HIDDEN["last"] = self.first(inputs).tanh()
        return self.last(HIDDEN["last"])


def test_a_metric_that_needs_more_than_outputs_is_read_without_the_stack(
    double, caplog, objective_of, study_of, check_same
):
    def penalized(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, targets) + 0.1 * HIDDEN["last"].square().mean()

    objective = objective_of(model=lambda params: Noted(), loss=penalized)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert caplog.text.count("in a stack its metric fails") == 1
    check_same(together, study_of(objective, 6, None), 1e-8)
