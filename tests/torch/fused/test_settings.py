"""Models share a stack only if all that their Python objects hold is the same."""

from __future__ import annotations

import functools
import gc
import logging
import random
import types
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hpolab import SearchSpace, make_study, optimizer_space, run
from hpolab.torch.fused.settings import UnknownSetting, difference, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Holder(nn.Module):
    """A linear layer, and something that it was given."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.held = held

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs)

    def scaled(self, scale: float) -> float:
        return 2 * scale


@dataclass
class Config:
    rate: float
    layers: list[int] = field(default_factory=lambda: [8, 8])


class Slotted:
    __slots__ = ("rate",)

    def __init__(self, rate: float) -> None:
        self.rate = rate


def enclosing(rate: float) -> Callable[[float], float]:
    return lambda x: rate * x


def counting(rate: float) -> Callable[[float], float]:
    def call(x: float) -> float:
        call.rate = rate  # type: ignore[attr-defined]
        return x

    call.rate = rate  # type: ignore[attr-defined]
    return call


def class_of(rate: float) -> type:
    class Own:
        def call(self, x: float) -> float:
            return rate * x

    return Own


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda rate: rate, id="number"),
        pytest.param(lambda rate: {"rate": rate}, id="dict"),
        pytest.param(lambda rate: [1, (rate,)], id="nested"),
        pytest.param(lambda rate: {1, rate}, id="set"),
        pytest.param(Config, id="dataclass"),
        pytest.param(lambda rate: Config(0.5, [1, rate]), id="within a dataclass"),
        pytest.param(Slotted, id="slots"),
        pytest.param(lambda rate: types.SimpleNamespace(rate=rate), id="namespace"),
        pytest.param(enclosing, id="closure"),
        pytest.param(counting, id="attribute of a function"),
        pytest.param(lambda rate: functools.partial(max, rate), id="partial"),
        pytest.param(lambda rate: Slotted(rate).__init__, id="method"),
        pytest.param(lambda rate: class_of(rate)(), id="local class"),
        pytest.param(lambda rate: torch.tensor([rate]), id="tensor"),
        pytest.param(lambda rate: np.array([rate]), id="array"),
        pytest.param(lambda rate: np.float32(rate), id="number of NumPy"),
        pytest.param(lambda rate: [nn.Dropout(rate)], id="module that is not registered"),
        pytest.param(
            lambda rate: functional.relu if rate < 0.5 else functional.tanh, id="function"
        ),
        pytest.param(lambda rate: torch.relu if rate < 0.5 else torch.tanh, id="of C++"),
        pytest.param(lambda rate: int if rate < 0.5 else float, id="class"),
        pytest.param(lambda rate: 1 if rate < 0.5 else True, id="of another type"),
        pytest.param(lambda rate: "a" if rate < 0.5 else None, id="text or none"),
        pytest.param(lambda rate: 0.0 if rate < 0.5 else -0.0, id="signed zero"),
    ],
)
def test_models_differ_in_what_they_hold(make):
    first, same, other = (settings_of(Holder(make(rate))) for rate in (0.25, 0.25, 0.75))
    assert difference(first, same) is None
    assert difference(first, other) == "held"


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3, dilation=2), "dilation"),
        (nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=0.2), "momentum"),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()), "0.(class)"),
        (nn.Sequential(nn.LeakyReLU(0.1)), nn.Sequential(nn.LeakyReLU(0.2)), "0.negative_slope"),
    ],
)
def test_models_differ_in_the_settings_of_their_modules(one, other, where):
    assert difference(settings_of(one), settings_of(other)) == where


def test_a_module_that_stands_twice_is_not_two_modules():
    layer = nn.Linear(2, 2)
    once = settings_of(nn.Sequential(layer, nn.ReLU(), layer))
    twice = settings_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    assert difference(once, twice) is not None


def test_rates_of_dropout_and_weights_are_no_settings():
    one, other = (nn.Sequential(nn.Linear(2, 2), nn.Dropout(rate)) for rate in (0.1, 0.4))
    assert difference(settings_of(one), settings_of(other)) is None


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (random.Random(0), "its 'held' is a Random"),
        (np.random.default_rng(0), "its 'held"),
        (torch.Generator(), "its 'held' is a Generator"),
        ({"deep": [torch.Generator()]}, "its 'held' is a Generator"),
        (torch.eye(3).to_sparse(), "its 'held' is a Tensor"),
        (np.array([object()]), "its 'held' is a ndarray"),
        (list(range(100_000, 100_001)) + [[i] for i in range(30_000)], "more than 20000 objects"),
    ],
)
def test_what_cannot_be_compared_is_named(held, message):
    with pytest.raises(UnknownSetting, match=message):
        settings_of(Holder(held))


CONFIG = {"scale": 1.0}
N_CALLS = [0]


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        N_CALLS[0] += 1
        return self.layer(inputs) * CONFIG["scale"]


def test_values_of_a_module_that_building_a_model_changes_make_trials_train_one_by_one(
    double, caplog, objective_of, study_of, check_same
):
    def build(params: dict[str, Any]) -> nn.Module:
        CONFIG["scale"] = params["scale"]
        return Configured()

    space = optimizer_space("sgd") | SearchSpace({"scale": (0.5, 2.0)})
    objective = objective_of(space, build)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert caplog.text.count("train one by one") == 1
    assert "CONFIG" in caplog.text
    check_same(together, study_of(objective, 6, None), 1e-12)


def test_a_counter_of_a_module_keeps_no_trial_out_of_a_stack(
    double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: Configured())
    N_CALLS[0] = 0
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 12, 4)
    n_stacked, N_CALLS[0] = N_CALLS[0], 0
    check_same(together, study_of(objective, 12, None), 1e-8)
    assert "alone" not in caplog.text
    assert n_stacked < 0.8 * N_CALLS[0]


class Stateful(nn.Module):
    """Divides by what it counts in training."""

    def __init__(self, held: Any, count: Callable[[Any], float]) -> None:
        super().__init__()
        self.held, self.count = held, count
        self.layer = nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) / (self.count(self.held) if self.training else 1.0)


def count_in_a_list(held: list[int]) -> float:
    held.append(1)
    return 1 + 1 / len(held)


def count_in_a_tensor(held: torch.Tensor) -> torch.Tensor:
    held += 1
    return 1 + 1 / held


def count_in_an_object(held: types.SimpleNamespace) -> float:
    held.n += 1
    return 1 + 1 / held.n


@pytest.mark.parametrize(
    ("held", "count"),
    [
        (lambda: [], count_in_a_list),
        (lambda: torch.zeros(()), count_in_a_tensor),
        (lambda: types.SimpleNamespace(n=0), count_in_an_object),
    ],
    ids=["list", "tensor", "object"],
)
def test_state_that_training_changes_keeps_a_model_out_of_stacks(
    held, count, double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: Stateful(held(), count))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert caplog.text.count("trains alone") == 1
    check_same(together, study_of(objective, 6, None), 1e-12)


class Warming(nn.Module):
    """Changes what it does in its third epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.n_left = torch.nn.Buffer(torch.tensor(14))
        self.is_warm = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.n_left -= 1
            Warming.n_calls += 1
            if Warming.n_calls == 60:
                self.is_warm = True
        return self.layer(inputs)

    n_calls = 0


def test_trials_begin_again_alone_where_a_stack_turns_out_to_keep_state(
    caplog, double, objective_of, study_of, check_same
):
    objective = objective_of(model=lambda params: Warming(), max_epochs=6)
    Warming.n_calls = 0
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 6, 3)
    assert "'is_warm' changes while it trains" in caplog.text
    Warming.n_calls = 0
    check_same(together, study_of(objective, 6, None), 1e-8)


def test_a_loss_that_keeps_state_keeps_trials_out_of_stacks(caplog, double, objective_of, study_of):
    class Annealed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n_calls = 0

        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            self.n_calls += 1
            return functional.cross_entropy(outputs, targets, label_smoothing=0.1 / self.n_calls)

    with caplog.at_level(logging.WARNING):
        study_of(objective_of(loss=Annealed(), metric="accuracy"), 4, 4)
    assert "`loss`" in caplog.text


def test_models_of_trials_that_have_ended_are_let_go(objective_of):
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    counts: list[int] = []

    class Local(nn.Linear):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            alive.add(self)

        def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
            copied = Local(self.in_features, self.out_features)
            copied.load_state_dict(self.state_dict())
            return memo.setdefault(id(self), copied)

    def count(study: Any, trial: Any) -> None:
        if trial.number in (15, 39):
            gc.collect()
            counts.append(len(alive))

    space = optimizer_space("sgd") | SearchSpace({"hidden": (4, 40)})
    objective = objective_of(
        space, lambda params: nn.Sequential(Local(6, params["hidden"]), Local(params["hidden"], 2))
    )
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    run(study, objective, n_trials=40, fuse=4, callbacks=[count], show_progress_bar=False)
    assert counts[1] <= counts[0] + 8  # two of each model
