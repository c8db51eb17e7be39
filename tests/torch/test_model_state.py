"""A model's whole state comes back, also what its `state_dict` leaves out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from hpolab.torch.model_state import load_model_state, model_state

if TYPE_CHECKING:
    from collections.abc import Callable


class Tracker(nn.Module):
    """Keeps the mean of what it has seen, in a way of its own."""

    def __init__(self, start: Callable[[nn.Module], None], step: Callable[..., None]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.step = step
        start(self)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.step(self, inputs.detach().mean(0))
        mean = torch.as_tensor(self.mean[-1] if isinstance(self.mean, list) else self.mean)
        return self.linear(inputs - mean.sum().sin())


def in_place(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean.mul_(0.9).add_(mean, alpha=0.1)


def replaced(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean = 0.9 * model.mean + 0.1 * mean


def grown(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean = torch.cat([model.mean, mean])


def listed(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean.append(float(mean.sum()))


def counted(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean += 1.0


def appeared(model: nn.Module, mean: torch.Tensor) -> None:
    model.mean = mean if model.mean is None else 0.9 * model.mean + 0.1 * mean


def buffer(persistent: bool) -> Callable[[nn.Module], None]:
    def start(model: nn.Module) -> None:
        model.register_buffer("mean", torch.zeros(3), persistent=persistent)

    return start


def attribute(value: Any) -> Callable[[nn.Module], None]:
    return lambda model: setattr(model, "mean", value())


KINDS = {
    "buffer": (buffer(True), in_place),
    "buffer that is replaced": (buffer(True), replaced),
    "buffer that grows": (buffer(True), grown),
    "not persistent": (buffer(False), in_place),
    "not persistent and replaced": (buffer(False), replaced),
    "not persistent and grows": (buffer(False), grown),
    "tensor": (attribute(lambda: torch.zeros(3)), in_place),
    "tensor that is replaced": (attribute(lambda: torch.zeros(3)), replaced),
    "tensor that grows": (attribute(lambda: torch.zeros(3)), grown),
    "list": (attribute(lambda: [0.0]), listed),
    "number": (attribute(lambda: 0.0), counted),
}


def error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[:, 0] - targets).abs().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_the_best_epoch_s_whole_model(regression, run_trial, kind):
    def build(params: Any) -> nn.Module:
        return Tracker(*KINDS[kind])

    # The worst is taken for the best, so that an early epoch is.
    options = {"metric": error, "direction": "maximize"}
    objective = regression(build, score=None, max_epochs=8, **options)
    reporter = objective.reporter(seed=3)
    value = objective.train({"optimizer": "sgd", "lr": 0.01}, reporter)
    assert reporter.best_step is not None
    assert reporter.best_step < 7  # or nothing would have to come back
    assert value == reporter.best_value


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_a_file_and_is_a_copy(kind):
    model, again = Tracker(*KINDS[kind]), Tracker(*KINDS[kind])
    rows = torch.arange(12.0).reshape(4, 3)
    model(rows)
    state = model_state(model)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    expected = model.eval()(rows)
    model.train()(rows)
    for saved in (state, torch.load(file, weights_only=True)):
        load_model_state(again, saved)
        again.train()(rows)  # what it writes is its own
        load_model_state(again, saved)
        assert torch.equal(again.eval()(rows), expected)


def test_buffer_that_was_not_there_yet_comes_and_goes():
    def start(model: nn.Module) -> None:
        model.register_buffer("mean", None)

    def show(self: Any, mean: torch.Tensor) -> None:
        self.mean = mean

    models = [Tracker(start, show) for _ in range(2)]
    empty = model_state(models[0])
    models[0].mean = torch.ones(3)
    load_model_state(models[1], model_state(models[0]))
    assert torch.equal(models[1].mean, torch.ones(3))
    load_model_state(models[1], empty)
    assert models[1].mean is None


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_weights_that_a_module_lists_stay_its_weights(kind):
    model = nn.ModuleList([kind(3, 2)])
    state = model_state(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    load_model_state(model, state)
    assert all(any(w is p for p in model.parameters()) for w in model[0]._flat_weights)
    assert all(torch.equal(state[name], p) for name, p in model.named_parameters())


def test_view_of_a_weight_stays_a_view():
    model = nn.Linear(2, 2)
    model.row = model.weight.detach()[0]
    state = model_state(model)
    with torch.no_grad():
        model.weight.zero_()
    load_model_state(model, state)
    assert torch.equal(model.row, state["weight"][0])
    assert model.row.data_ptr() == model.weight.data_ptr()


def test_state_of_an_earlier_version_is_read():
    model = Tracker(*KINDS["not persistent"])
    with torch.no_grad():
        model.mean += 1
    load_model_state(model, nn.Module.state_dict(model))
    assert torch.equal(model.mean, torch.ones(3))
