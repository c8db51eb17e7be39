"""From params to a torch optimizer that trains."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import torch
from torch import nn

from hpolab import (
    EXTRA_OPTIMIZERS,
    OPTIMIZERS,
    InvalidArgument,
    MissingExtra,
    build_optimizer,
    build_schedule,
    optimizer_space,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = (*OPTIMIZERS, *EXTRA_OPTIMIZERS)


@pytest.mark.parametrize("name", ALL)
def test_default_configuration_learns(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    name: str,
) -> None:
    model, x, y = make_task(name)
    optimizer = build_optimizer(optimizer_space(name).defaults(), model)
    losses = train(model, optimizer, (x, y), 40)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_any_draw_trains_every_weight(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    name: str,
    seed: int,
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    model, x, y = make_task(name)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(optimizer_space(name).suggest(study.ask()), model)
    losses = train(model, optimizer, (x, y), 3)
    assert all(loss == loss for loss in losses)
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_params_reach_torch(make_task: Callable[..., Any], name: str) -> None:
    space = optimizer_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    params = {**space.suggest(study.ask()), "hidden": 3, "dropout": 0.1}
    group = build_optimizer(params, make_task(name)[0]).param_groups[0]
    pairs = {
        "betas": ("beta1", "beta2"),
        "etas": ("eta_minus", "eta_plus"),
        "step_sizes": ("step_min", "step_max"),
        "eps": ("eps1", "eps2"),
    }
    for argument, halves in pairs.items():
        if halves[0] in params:
            params[argument] = tuple(params[half] for half in halves)
    checked = [key for key in params if key in group]
    assert {"lr"} <= set(checked)
    assert {key: group[key] for key in checked} == {key: params[key] for key in checked}


@pytest.mark.parametrize(
    ("name", "flag"), [("adam_amsgrad", "amsgrad"), ("nesterov", "nesterov"), ("muon", "nesterov")]
)
def test_variants_are_switched_on(make_task: Callable[..., Any], name: str, flag: str) -> None:
    optimizer = build_optimizer(optimizer_space(name).defaults(), make_task(name)[0])
    assert optimizer.param_groups[0][flag]


def test_plain_variants_are_switched_off(
    make_task: Callable[..., Any],
) -> None:
    model, _, _ = make_task("adam")
    adam = build_optimizer(optimizer_space("adam").defaults(), model)
    assert not adam.param_groups[0]["amsgrad"]
    momentum = build_optimizer(optimizer_space("momentum").defaults(), model)
    assert not momentum.param_groups[0]["nesterov"]
    assert momentum.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("name", ["adam", "adam_amsgrad", "adamw"])
def test_fused_steps_are_torchs_default_steps(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    weights: Callable[..., Any],
    name: str,
) -> None:
    params = optimizer_space(name).defaults()
    model, x, y = make_task(name)
    twin = copy.deepcopy(model)
    ours = build_optimizer(params, model)
    assert ours.defaults["fused"]
    settings = {
        key: ours.defaults[key] for key in ["lr", "betas", "eps", "weight_decay", "amsgrad"]
    }
    theirs = type(ours)(twin.parameters(), **settings)
    assert train(model, ours, (x, y), 20) == pytest.approx(train(twin, theirs, (x, y), 20))
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_resumed_training_goes_on_exactly(
    make_task: Callable[..., Any],
    train: Callable[..., Any],
    weights: Callable[..., Any],
    name: str,
) -> None:
    params = optimizer_space(name).defaults()
    model, x, y = make_task(name)
    optimizer = build_optimizer(params, model)
    train(model, optimizer, (x, y), 3)
    twin = copy.deepcopy(model)
    resumed = build_optimizer(params, twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, (x, y), 3)
    train(twin, resumed, (x, y), 3)
    assert torch.equal(weights(model), weights(twin))


def test_fixed_values_may_be_missing_and_others_are_passed_over(
    make_task: Callable[..., Any],
) -> None:
    params = {"optimizer": "adam", "lr": 0.5, "beta1": 0.8, "beta2": 0.99, "momentum": 3, "rho": 4}
    defaults = build_optimizer(params, make_task("adam")[0]).defaults
    assert (defaults["lr"], defaults["betas"], defaults["eps"]) == (0.5, (0.8, 0.99), 1e-8)


def test_frozen_weights_are_left_out(
    make_task: Callable[..., Any],
) -> None:
    model, _, _ = make_task("sgd")
    model[0].requires_grad_(False)  # type: ignore[index]
    optimizer = build_optimizer(optimizer_space("sgd").defaults(), model)
    assert len(optimizer.param_groups[0]["params"]) == 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 0.1}, "must name an 'optimizer', got 'lr': take .*`optimizer_space"),
        ({}, "got none: take"),
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"optimizer": "adam", "lr": 0.1}, "'beta1', 'beta2', missing"),
    ],
)
def test_params_that_make_no_optimizer_are_refused(
    make_task: Callable[..., Any],
    params: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        build_optimizer(params, make_task("adam")[0])


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_model_with_nothing_to_train_is_refused(model: nn.Module) -> None:
    with pytest.raises(InvalidArgument, match="requires_grad, got none"):
        build_optimizer(optimizer_space("sgd").defaults(), model)


@pytest.mark.parametrize(
    ("name", "torch_class", "version"),
    [("muon", "Muon", r"2\.9"), ("adafactor", "Adafactor", r"2\.5")],
)
def test_an_older_torch_is_named(
    make_task: Callable[..., Any],
    name: str,
    torch_class: str,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.optim, torch_class)
    with pytest.raises(InvalidArgument, match=f"{name}.*{version} or newer, got torch"):
        build_optimizer(optimizer_space(name).defaults(), make_task(name)[0])


def test_a_missing_torch_names_the_extra(
    make_task: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _, _ = make_task("sgd")
    optimizer = build_optimizer(optimizer_space("sgd").defaults(), model)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"hpolab\[torch\]"):
        build_optimizer(optimizer_space("sgd").defaults(), model)
    with pytest.raises(MissingExtra, match=r"hpolab\[torch\]"):
        build_schedule({}, optimizer, max_epochs=1)


def test_dense_gradients_are_refused_by_sparse_adam() -> None:
    model = nn.Sequential(nn.EmbeddingBag(20, 8, sparse=True), nn.Linear(8, 3))
    with pytest.raises(InvalidArgument, match=r"sparse=True only.*'1\.weight' of Linear"):
        build_optimizer(optimizer_space("sparse_adam").defaults(), model)
