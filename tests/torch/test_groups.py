"""Parameter groups: given ones, those without weight decay, and rates that fall by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hpolab import (
    EXTRA_OPTIMIZERS,
    OPTIMIZERS,
    HpolabError,
    InvalidArgument,
    InvalidType,
    build_optimizer,
    optimizer_space,
)

ADAMW = optimizer_space("adamw").defaults()


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, n_steps: int = 5) -> torch.Tensor:
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    if hasattr(optimizer, "train"):  # schedule-free ones have weights of their own for it
        optimizer.train()
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# What is given


DENSE = sorted({*OPTIMIZERS, *EXTRA_OPTIMIZERS} - {"sparse_adam", "muon"})


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(
    "give",
    [
        lambda m: m.parameters(),
        lambda m: list(m.parameters()),
        lambda m: m.named_parameters(),
        lambda m: [{"params": m.parameters()}],
        lambda m: [{"params": list(m.named_parameters())}],
    ],
    ids=["generator", "list", "named", "group", "named group"],
)
def test_parameters_train_as_the_model_does(name: str, give: Any) -> None:
    params = optimizer_space(name).defaults()
    model, twin = make_model(), make_model()
    whole = train(model, build_optimizer(params, model))
    assert torch.equal(train(twin, build_optimizer(params, give(twin))), whole)


def test_groups_train_as_torchs_do() -> None:
    def groups(model: nn.Sequential) -> list[dict[str, Any]]:
        first, *rest = model.parameters()
        return [
            {"params": first, "lr": 0.05, "betas": (0.5, 0.6)},
            {"params": rest, "weight_decay": 0.3},
        ]

    model, twin = make_model(), make_model()
    optimizer = build_optimizer(ADAMW, groups(model))
    torchs = torch.optim.AdamW(groups(twin), lr=1e-3, weight_decay=1e-2, fused=True)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-2, 0.3]
    assert torch.equal(train(model, optimizer), train(twin, torchs))


def test_frozen_weights_are_left_out_of_groups() -> None:
    model = make_model()
    model[0].requires_grad_(False)
    groups = [{"params": part.parameters()} for part in (model[0], model[2])]
    optimizer = build_optimizer(ADAMW, groups)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]


@pytest.mark.parametrize(
    ("give", "error", "message"),
    [
        (lambda m: None, InvalidType, "`model` must be a torch.nn.Module, .* got NoneType"),
        (lambda m: m[0].weight, InvalidType, "`model` must be .* got Parameter"),
        (lambda m: m.state_dict(), InvalidType, "`model` must be .* got OrderedDict"),
        (lambda m: [m], InvalidType, "got a Sequential among the parameters"),
        (lambda m: [m[0].weight, {"params": []}], InvalidType, "got a dict among the parameters"),
        (lambda m: [], InvalidArgument, "requires_grad, got none"),
        (lambda m: [{"params": []}], InvalidArgument, "requires_grad, got none"),
        (lambda m: [{"weight_decay": 0.0}], InvalidArgument, "'params' in each .* 'weight_decay'"),
        (
            lambda m: [{"params": m.parameters(), "weigth_decay": 0.0}],
            InvalidArgument,
            "groups with arguments of torch's .* got 'weigth_decay'.*Did you mean 'weight_decay'",
        ),
        (
            lambda m: [{"params": m.parameters(), "lr": -1.0}],
            InvalidArgument,
            r"torch\.optim\.AdamW refuses this: Invalid learning rate: -1\.0",
        ),
        (
            lambda m: [{"params": m.parameters(), "weight_decay": "none"}],
            InvalidArgument,
            r"torch\.optim\.AdamW refuses this: ",
        ),
        (lambda m: [{"params": None}], InvalidType, "`model` must be .* got NoneType"),
        (lambda m: set(m.parameters()), InvalidType, "`model` must be .* got set"),
        (
            lambda m: [*m.parameters(), m[0].weight],
            InvalidArgument,
            "each parameter once, .* got 1 again",
        ),
        (
            lambda m: [{"params": m.parameters()}, {"params": m[0].parameters()}],
            InvalidArgument,
            "each parameter once, .* got 2 again",
        ),
        (lambda m: [m[0].weight * 2], InvalidArgument, "can't optimize a non-leaf Tensor"),
    ],
)
def test_what_is_neither_model_nor_parameters_is_refused(
    give: Any, error: type[HpolabError], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_optimizer(ADAMW, give(make_model()))


@pytest.mark.parametrize(
    ("params", "options", "what"),
    [
        (optimizer_space("muon").defaults(), {}, "'muon'"),
        (ADAMW, {"decay_biases": False}, "`decay_biases=False`"),
        (ADAMW, {"layer_decay": 0.5}, "`layer_decay=0.5`"),
        (ADAMW | {"layer_decay": 0.5}, {}, "`layer_decay=0.5`"),
    ],
)
def test_the_model_is_asked_for_where_parameters_do_not_tell(
    params: dict[str, Any], options: dict[str, Any], what: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"`model` must be the torch.nn.Module for .*{what}"):
        build_optimizer(params, make_model().parameters(), **options)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_values_that_torch_refuses_are_an_error_of_hpolab(name: str) -> None:
    params = optimizer_space(name).defaults() | {"lr": -0.1}
    with pytest.raises(InvalidArgument, match=r"refuses this: Invalid learning rate: -0\.1"):
        build_optimizer(params, make_model())


# Biases and norms


class Odd(nn.Module):
    """Weights that only their module or their shape tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm((4, 4))  # its weights have two dimensions
        self.batch = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.lstm = nn.LSTM(4, 4)
        self.words = nn.Embedding(3, 4)
        self.scale = nn.Parameter(torch.ones(4))


def test_biases_norms_and_vectors_do_not_decay() -> None:
    model = Odd()
    optimizer = build_optimizer(ADAMW, model, decay_biases=False)
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    decaying = {name for name, p in model.named_parameters() if decays[id(p)] > 0}
    assert decaying == {
        "linear.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "words.weight",
    }
    assert sorted(set(decays.values())) == [0.0, 1e-2]


@pytest.mark.parametrize("name", ["adamw", "muon", "momentum"])
def test_spared_weights_train_as_in_torchs_own_groups(name: str) -> None:
    params = optimizer_space(name).defaults() | {"weight_decay": 0.5}
    model, twin, plain = make_model(), make_model(), make_model()
    spared = [p for p in twin.parameters() if p.ndim < 2]
    decayed = [p for p in twin.parameters() if p.ndim == 2]
    ours = train(model, build_optimizer(params, model, decay_biases=False))
    if name == "muon":
        muon = torch.optim.Muon(decayed[:2], weight_decay=0.5)
        adamw = torch.optim.AdamW(
            [{"params": decayed[2:]}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.5
        )
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
        for _ in range(5):
            twin.zero_grad()
            twin(inputs).pow(2).mean().backward()
            muon.step()
            adamw.step()
        theirs = torch.cat([p.detach().flatten() for p in twin.parameters()])
    else:
        groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
        settings = {"lr": params["lr"], "weight_decay": 0.5}
        torchs = {
            "adamw": lambda: torch.optim.AdamW(groups, fused=True, **settings),
            "momentum": lambda: torch.optim.SGD(groups, momentum=0.9, **settings),
        }[name]()
        theirs = train(twin, torchs)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, train(plain, build_optimizer(params, plain)))


def test_without_weight_decay_there_is_one_group() -> None:
    optimizer = build_optimizer(
        optimizer_space("adam").defaults(), make_model(), decay_biases=False
    )
    assert len(optimizer.param_groups) == 1


# Layers


class Classifier(nn.Module):
    """A transformer as they are written: embeddings, blocks, a norm, a head."""

    def __init__(self, blocks: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.places = nn.Parameter(torch.zeros(1, 4))
        self.encoder = nn.Module()
        self.encoder.blocks = blocks
        self.encoder.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


class Tower(nn.Module):
    """Layers by name, without any list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.tied = self.first


LAYERS = {
    "sequential": (
        make_model(),
        [["0.weight", "0.bias", "1.weight", "1.bias"], ["2.weight", "2.bias"], ["3.weight"]],
    ),
    "named": (Tower(), [["first.weight"], ["second.weight"]]),
    "one": (nn.Linear(4, 2), [["weight", "bias"]]),
    "blocks in a ModuleList": (
        Classifier(nn.ModuleList([Block(), Block()])),
        [
            ["places", "words.weight"],
            ["encoder.blocks.0.attention.in_proj_weight", "encoder.blocks.0.mlp.2.weight"],
            ["encoder.blocks.1.mlp.0.bias", "encoder.norm.weight"],
            ["head.weight"],
        ],
    ),
    "blocks in a Sequential": (
        Classifier(nn.Sequential(Block(), Block())),
        [["places"], ["encoder.blocks.0.mlp.2.weight"], ["encoder.blocks.1.mlp.2.weight"]],
    ),
    "a backbone and a head": (
        nn.Sequential(Classifier(nn.ModuleList([Block(), Block()])), nn.Linear(2, 2)),
        [
            ["0.words.weight"],
            ["0.encoder.blocks.0.mlp.0.weight"],
            [],
            ["0.head.weight"],
            ["1.bias"],
        ],
    ),
    "stages of blocks": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.Sequential(Block(), Block()),
            nn.Sequential(Block()),
        ),
        [["0.weight", "1.weight"], ["2.0.mlp.0.weight"], ["2.1.mlp.2.weight"]],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rates_fall_by_layer_from_the_outputs_to_the_inputs(name: str) -> None:
    model, layers = LAYERS[name]
    optimizer = build_optimizer(ADAMW | {"lr": 1.0}, model, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert len(rates) == len(named)
    assert max(rates.values()) == 1.0
    first = min(rates.values())
    for place, members in enumerate(layers):
        for each in members:
            assert rates[id(named[each])] == pytest.approx(first * 2**place), each


def test_layers_and_spared_biases_go_together_and_follow_the_params() -> None:
    params = ADAMW | {"layer_decay": 0.5, "decay_biases": False}
    optimizer = build_optimizer(params, make_model())
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    rates = [2.5e-4, 5e-4, 1e-3]
    assert found == [(rate, decay) for rate in rates for decay in (1e-2, 0.0)]
    again = build_optimizer(params, make_model(), decay_biases=True, layer_decay=1.0)
    assert len(again.param_groups) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer_decay": 0.0}, InvalidArgument, "`layer_decay` must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, InvalidArgument, r"at most 1, got 1\.5"),
        ({"layer_decay": "0.9"}, InvalidType, "`layer_decay` must be a number, got str"),
        ({"decay_biases": 0}, InvalidType, "`decay_biases` must be a bool, got int"),
    ],
)
def test_bad_option_is_refused(
    options: dict[str, Any], error: type[HpolabError], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_optimizer(ADAMW, make_model(), **options)
