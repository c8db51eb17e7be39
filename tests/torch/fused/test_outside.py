"""What building one model changes for the others is noticed, wherever it lies."""

from __future__ import annotations

import functools
import logging
import types
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hpolab import SearchSpace, optimizer_space

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = optimizer_space("sgd") | SearchSpace({"scale": (0.3, 2.0)})


class Config:
    """Settings that a program keeps in one place."""

    scale = 1.0

    def __init__(self) -> None:
        self.layers = {"hidden": {"scale": 1.0}}


CONFIG = Config()
NAMESPACE = types.SimpleNamespace(scale=1.0)
SCALE = 1.0
ARRAY = torch.ones(())
FUNCTION: Callable[[torch.Tensor], torch.Tensor] = torch.tanh


def set_class(scale: float) -> None:
    Config.scale = scale


def set_object(scale: float) -> None:
    CONFIG.layers["hidden"]["scale"] = scale


def set_namespace(scale: float) -> None:
    NAMESPACE.scale = scale


def set_number(scale: float) -> None:
    global SCALE
    SCALE = scale


def set_array(scale: float) -> None:
    ARRAY.fill_(scale)


def set_function(scale: float) -> None:
    global FUNCTION
    FUNCTION = functools.partial(torch.mul, scale)


def set_attribute(scale: float) -> None:
    scaled.scale = scale  # type: ignore[attr-defined]


def set_model_class(scale: float) -> None:
    Model.scale = scale


def scaled(inputs: torch.Tensor) -> torch.Tensor:
    return inputs * SCALE


class Model(nn.Module):
    """Scales its hidden layer by what lies outside."""

    scale = 1.0

    def __init__(self, read: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.read = read

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.read(self, self.first(inputs).tanh()))


PLACES = {
    "attribute of a class": (set_class, lambda model, x: x * Config.scale),
    "attribute of the model's class": (set_model_class, lambda model, x: x * Model.scale),
    "object": (set_object, lambda model, x: x * CONFIG.layers["hidden"]["scale"]),
    "namespace": (set_namespace, lambda model, x: x * NAMESPACE.scale),
    "number read by a function": (set_number, lambda model, x: scaled(x)),
    "array": (set_array, lambda model, x: x * ARRAY),
    "function": (set_function, lambda model, x: FUNCTION(x)),
    "attribute of a function": (set_attribute, lambda model, x: x * scaled.scale),  # type: ignore[attr-defined]
}


@pytest.fixture(autouse=True)
def untouched():
    set_attribute(1.0)
    yield
    for change, _ in PLACES.values():
        change(1.0)


@pytest.mark.parametrize("place", PLACES)
def test_settings_outside_the_models_make_trials_train_one_by_one(
    double, caplog, objective_of, study_of, check_same, place
):
    change, read = PLACES[place]

    def build(params: dict[str, Any]) -> nn.Module:
        change(params["scale"])
        return Model(read)

    objective = objective_of(SPACE, build)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert caplog.text.count("train one by one") == 1
    check_same(together, study_of(objective, 6, None), 1e-12)


@pytest.mark.parametrize("reader", ["loss", "metric"])
def test_settings_of_loss_and_metric_make_trials_train_one_by_one(
    double, caplog, objective_of, study_of, check_same, reader
):
    held = {"scale": 1.0}  # in a closure

    def read(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return held["scale"] * functional.cross_entropy(outputs, targets)

    def build(params: dict[str, Any]) -> nn.Module:
        held["scale"] = params["scale"]
        return nn.Linear(6, 2)

    direction = {"direction": "minimize"} if reader == "metric" else {}
    objective = objective_of(SPACE, build, **{reader: read}, **direction)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert caplog.text.count("train one by one") == 1
    assert "held" in caplog.text
    check_same(together, study_of(objective, 6, None), 1e-12)


LOG: list[float] = []


def test_what_training_alone_changes_outside_keeps_no_trial_out_of_a_stack(
    double, caplog, objective_of, study_of, check_same
):
    def logged(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        LOG.append(float(functional.cross_entropy(outputs, targets)))
        return LOG[-1]

    class Named(nn.Module):
        n_made = 0

        def __init__(self) -> None:
            super().__init__()
            type(self).n_made += 1
            self.layer = nn.Linear(6, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs)

    objective = objective_of(
        optimizer_space("adam"), lambda params: Named(), metric=logged, direction="minimize"
    )
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 8, 4)
    assert "one by one" not in caplog.text
    assert "alone" not in caplog.text
    check_same(together, study_of(objective, 8, None), 1e-8)


class Counting:
    """A loss that weighs less with each call."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        return 0.99**self.n_calls * functional.cross_entropy(outputs, targets)


def test_trials_whose_loss_counts_its_calls_train_one_by_one(
    double, caplog, objective_of, study_of, check_same
):
    space = optimizer_space("sgd")
    with caplog.at_level(logging.WARNING):
        together = study_of(objective_of(space, loss=Counting(), metric="accuracy"), 6, 3)
    assert caplog.text.count("`loss` keeps state") == 1
    alone = study_of(objective_of(space, loss=Counting(), metric="accuracy"), 6, None)
    check_same(together, alone, 1e-12)
