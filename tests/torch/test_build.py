"""From params to a torch optimizer that trains."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import optuna
import pytest
import torch
from torch import nn

from hpolab import (
    OPTIMIZERS,
    InvalidArgument,
    MissingExtra,
    build_optimizer,
    build_schedule,
    optimizer_space,
)


class Bag(nn.Module):
    """Three classes told by the mean of embedded words: sparse gradients only."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(20, 3, sparse=True)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.words(words)


def make_task(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    if name == "sparse_adam":
        words = torch.randint(0, 20, (64, 4))
        return Bag(), words, words[:, 0] % 3
    x = torch.randn(64, 8)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    )
    return model, x, x[:, :3].argmax(1)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[torch.Tensor, torch.Tensor],
    n_steps: int,
) -> list[float]:
    losses = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_default_configuration_learns(name: str) -> None:
    model, x, y = make_task(name)
    optimizer = build_optimizer(optimizer_space(name).defaults(), model)
    losses = train(model, optimizer, (x, y), 40)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("seed", range(3))
def test_any_draw_trains_every_weight(name: str, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    model, x, y = make_task(name)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(optimizer_space(name).suggest(study.ask()), model)
    losses = train(model, optimizer, (x, y), 3)
    assert all(loss == loss for loss in losses)
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_params_reach_torch(name: str) -> None:
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
def test_variants_are_switched_on(name: str, flag: str) -> None:
    optimizer = build_optimizer(optimizer_space(name).defaults(), make_task(name)[0])
    assert optimizer.param_groups[0][flag]


def test_plain_variants_are_switched_off() -> None:
    model, _, _ = make_task("adam")
    adam = build_optimizer(optimizer_space("adam").defaults(), model)
    assert not adam.param_groups[0]["amsgrad"]
    momentum = build_optimizer(optimizer_space("momentum").defaults(), model)
    assert not momentum.param_groups[0]["nesterov"]
    assert momentum.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("name", ["adam", "adam_amsgrad", "adamw"])
def test_fused_steps_are_torchs_default_steps(name: str) -> None:
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_training_goes_on_exactly(name: str) -> None:
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


def test_fixed_values_may_be_missing_and_others_are_passed_over() -> None:
    params = {"optimizer": "adam", "lr": 0.5, "beta1": 0.8, "beta2": 0.99, "momentum": 3, "rho": 4}
    defaults = build_optimizer(params, make_task("adam")[0]).defaults
    assert (defaults["lr"], defaults["betas"], defaults["eps"]) == (0.5, (0.8, 0.99), 1e-8)


def test_frozen_weights_are_left_out() -> None:
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
def test_params_that_make_no_optimizer_are_refused(params: dict[str, Any], message: str) -> None:
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
    name: str, torch_class: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, torch_class)
    with pytest.raises(InvalidArgument, match=f"{name}.*{version} or newer, got torch"):
        build_optimizer(optimizer_space(name).defaults(), make_task(name)[0])


def test_a_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_muon_steps_are_those_of_torchs_two_optimizers() -> None:
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


def test_muon_follows_a_schedule_in_both_parts() -> None:
    model, x, y = make_task("muon")
    optimizer = build_optimizer({**optimizer_space("muon").defaults(), "adamw_lr": 0.01}, model)
    schedule = build_schedule({"schedule": "exponential", "gamma": 0.0}, optimizer, max_epochs=3)
    train(model, optimizer, (x, y), 1)
    schedule.step()
    assert schedule.get_last_lr() == [0.0, 0.0]
    before = weights(model)
    train(model, optimizer, (x, y), 1)
    assert torch.equal(weights(model), before)


def test_muon_survives_pickling() -> None:
    model, x, y = make_task("muon")
    optimizer = build_optimizer(optimizer_space("muon").defaults(), model)
    train(model, optimizer, (x, y), 2)
    twin, resumed = pickle.loads(pickle.dumps((model, optimizer)))
    train(model, optimizer, (x, y), 2)
    train(twin, resumed, (x, y), 2)
    assert torch.equal(weights(model), weights(twin))


def test_muon_takes_a_closure() -> None:
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
