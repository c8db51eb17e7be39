"""Each module that is listed trains in a stack as alone; all else trains alone and says why."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from hpolab import optimizer_space
from hpolab.torch.fused import listing

if TYPE_CHECKING:
    from collections.abc import Callable

FLAT, CURVE, IMAGE, CUBE, WORDS = (8,), (4, 6), (4, 6, 6), (2, 4, 4, 4), (5, 8)

# Layer by layer: what it is made of, and the shape of a row that it takes.
LAYERS: dict[type[nn.Module], tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        kind: (kind, FLAT)
        for kind in (
            nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU,
            nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
            nn.Softshrink, nn.Hardshrink, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Tanhshrink,
            nn.GLU, nn.Dropout,
        )
    },
    **{
        kind: (lambda kind=kind: kind(dim=1), FLAT)
        for kind in (nn.Softmax, nn.LogSoftmax, nn.Softmin)
    },
    nn.Threshold: (lambda: nn.Threshold(0.1, -0.2), FLAT),
    nn.Linear: (lambda: nn.Linear(8, 3), FLAT),
    nn.Unflatten: (lambda: nn.Unflatten(1, (2, 4)), FLAT),
    nn.Flatten: (nn.Flatten, CURVE),
    nn.LayerNorm: (lambda: nn.LayerNorm(8), FLAT),
    nn.RMSNorm: (lambda: nn.RMSNorm(8), FLAT),
    nn.GroupNorm: (lambda: nn.GroupNorm(2, 8), FLAT),
    nn.BatchNorm1d: (lambda: nn.BatchNorm1d(8, momentum=None), FLAT),
    nn.BatchNorm2d: (lambda: nn.BatchNorm2d(4), IMAGE),
    nn.BatchNorm3d: (lambda: nn.BatchNorm3d(2, momentum=None), CUBE),
    nn.InstanceNorm1d: (lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), CURVE),
    nn.InstanceNorm2d: (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    nn.InstanceNorm3d: (lambda: nn.InstanceNorm3d(2), CUBE),
    nn.LocalResponseNorm: (lambda: nn.LocalResponseNorm(2), IMAGE),
    nn.Conv1d: (lambda: nn.Conv1d(4, 3, 3, padding="same", dilation=2), CURVE),
    nn.Conv2d: (lambda: nn.Conv2d(4, 4, 3, groups=2, padding_mode="circular", padding=1), IMAGE),
    nn.Conv3d: (lambda: nn.Conv3d(2, 3, 2, stride=2), CUBE),
    nn.ConvTranspose1d: (lambda: nn.ConvTranspose1d(4, 3, 3), CURVE),
    nn.ConvTranspose2d: (lambda: nn.ConvTranspose2d(4, 3, 3, stride=2), IMAGE),
    nn.ConvTranspose3d: (lambda: nn.ConvTranspose3d(2, 3, 2), CUBE),
    **{kind: (lambda kind=kind: kind(2), CURVE) for kind in (nn.MaxPool1d, nn.AvgPool1d)},
    **{kind: (lambda kind=kind: kind(2), IMAGE) for kind in (nn.MaxPool2d, nn.AvgPool2d)},
    **{kind: (lambda kind=kind: kind(2), CUBE) for kind in (nn.MaxPool3d, nn.AvgPool3d)},
    **{
        kind: (lambda kind=kind: kind(2), CURVE)
        for kind in (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
    },
    **{
        kind: (lambda kind=kind: kind(2), IMAGE)
        for kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    },
    **{
        kind: (lambda kind=kind: kind(2), CUBE)
        for kind in (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)
    },
    nn.Dropout1d: (nn.Dropout1d, CURVE),
    nn.Dropout2d: (nn.Dropout2d, IMAGE),
    nn.Dropout3d: (nn.Dropout3d, CUBE),
    **{
        kind: (lambda kind=kind: kind(1), CURVE)
        for kind in (nn.ZeroPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d)
    },
    **{
        kind: (lambda kind=kind: kind(1), IMAGE)
        for kind in (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)
    },
    nn.ZeroPad3d: (lambda: nn.ZeroPad3d(1), CUBE),
    nn.ConstantPad1d: (lambda: nn.ConstantPad1d(1, 0.5), CURVE),
    nn.ConstantPad2d: (lambda: nn.ConstantPad2d(1, 0.5), IMAGE),
    nn.ConstantPad3d: (lambda: nn.ConstantPad3d(1, 0.5), CUBE),
    nn.PixelShuffle: (lambda: nn.PixelShuffle(2), IMAGE),
    nn.PixelUnshuffle: (lambda: nn.PixelUnshuffle(2), IMAGE),
    nn.ChannelShuffle: (lambda: nn.ChannelShuffle(2), IMAGE),
    nn.Upsample: (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    nn.TransformerEncoder: (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        WORDS,
    ),
}  # fmt: skip


class Around(nn.Module):
    """A layer between two linear ones."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.into = nn.Linear(6, math.prod(shape))
        self.layer = layer
        with torch.no_grad():
            n_outputs = layer.eval()(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.out = nn.Linear(n_outputs, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        between = self.into(inputs).reshape(-1, *self.shape)
        return self.out(self.layer(between).flatten(1))


class Ids(nn.Module):
    """An embedding of what is above 0, with padding for the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4, padding_idx=0)
        self.out = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        ids = (inputs > 0) * torch.arange(1, 7)
        return self.out(self.words(ids).mean(1))


class Similar(nn.Module):
    """Containers of torch's, and modules that take several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 8)])
        self.named = nn.ModuleDict({"out": nn.Linear(8, 2)})
        self.more = nn.ParameterList([torch.ones(8)])
        self.most = nn.ParameterDict({"scale": torch.ones(1)})
        self.cosine = nn.CosineSimilarity()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        one, other = (part(inputs) for part in self.parts)
        close = self.cosine(one, other).unsqueeze(-1)
        return self.named["out"](one * close * self.more[0]) * self.most["scale"]


class Translating(nn.Module):
    """A decoder with a mask, and attention that returns its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(1, 4)
        layer = nn.TransformerDecoderLayer(4, 2, 8, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        words = self.into(inputs.unsqueeze(-1))
        mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=words.dtype)
        found = self.decoder(words, words, tgt_mask=mask, tgt_is_causal=True)
        found, weights = self.attention(found, found, found, key_padding_mask=inputs < -1.5)
        return self.out(found.mean(1)) + weights.mean()


SEVERAL = [Ids, Similar, Translating]
TESTED_WITHIN = {
    nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict,
    nn.Embedding, nn.CosineSimilarity, nn.MultiheadAttention,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.TransformerDecoder,
    nn.modules.linear.NonDynamicallyQuantizableLinear,
}  # fmt: skip


def test_every_module_that_is_listed_is_tried():
    assert {*LAYERS} | TESTED_WITHIN == set(listing._LISTED)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_listed_layer_trains_in_a_stack_as_alone(
    kind, double, caplog, objective_of, study_of, check_same
):
    make, shape = LAYERS[kind]
    check_stacked(lambda params: Around(make(), shape), caplog, objective_of, study_of, check_same)


@pytest.mark.parametrize("model", SEVERAL, ids=lambda model: model.__name__)
def test_listed_modules_train_together_in_a_stack_as_alone(
    model, double, caplog, objective_of, study_of, check_same
):
    check_stacked(lambda params: model(), caplog, objective_of, study_of, check_same)


def check_stacked(build: Any, caplog: Any, objective_of: Any, study_of: Any, check_same: Any):
    objective = objective_of(optimizer_space("adamw"), build, max_epochs=2)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 3, 3)
    assert "alone" not in caplog.text
    check_same(together, study_of(objective, 3, None), 1e-8)


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(0.4 * torch.randn(4, 2, dtype=torch.complex128))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (torch.fft.rfft(inputs) @ self.w).abs()


def with_gradient_hook(params: dict[str, Any]) -> nn.Module:
    model = nn.Linear(6, 2)
    model.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    return model


def with_hook_after_accumulation(params: dict[str, Any]) -> nn.Module:
    model = nn.Linear(6, 2)

    def halve(weight: torch.Tensor) -> None:
        weight.grad.mul_(0.5)

    model.weight.register_post_accumulate_grad_hook(halve)
    return model


def with_forward_hook(params: dict[str, Any]) -> nn.Module:
    model = nn.Linear(6, 2)
    model.register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    return model


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(inputs.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        pytest.param(with_gradient_hook, "'weight' has hooks on its gradient", id="gradient hook"),
        pytest.param(with_hook_after_accumulation, "has hooks on its gradient", id="another hook"),
        pytest.param(with_forward_hook, "it has hooks", id="forward hook"),
        pytest.param(lambda _: Spectral(), "'w' is of torch.complex128", id="complex"),
        pytest.param(lambda _: weight_norm(nn.Linear(6, 2)), "Parametrized", id="parametrized"),
        pytest.param(lambda _: nn.LazyLinear(2), "it is a LazyLinear", id="lazy"),
        pytest.param(lambda _: Recurrent(), "its 'cell' is a LSTM", id="recurrent"),
        pytest.param(
            lambda _: nn.Sequential(nn.Linear(6, 4), nn.AlphaDropout(0.2), nn.Linear(4, 2)),
            "its '1' is a AlphaDropout",
            id="another dropout",
        ),
        pytest.param(
            lambda _: nn.Sequential(nn.Linear(6, 4), nn.RReLU(), nn.Linear(4, 2)),
            "its '1' is a RReLU",
            id="random",
        ),
    ],
)
def test_what_is_not_listed_trains_alone_and_names_it(
    build, reason, double, caplog, objective_of, study_of, check_same
):
    objective = objective_of(optimizer_space("adamw"), build, max_epochs=2)
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert caplog.text.count("trains alone") == 1
    assert reason in caplog.text
    check_same(together, study_of(objective, 4, None), 1e-12)
