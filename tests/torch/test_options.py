"""Options of a training: each trains as the plain torch loop that users know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from hpolab import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    SearchSpace,
    TorchObjective,
    TrainedEpoch,
    build_optimizer,
    make_study,
    optimizer_space,
    run,
    schedule_space,
)
from hpolab.torch.layout import to_channels_last
from hpolab.torch.rng import order_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

N_EPOCHS = 3


def mlp(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


def with_dropout(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def tensors(data: tuple[Any, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = (torch.as_tensor(part, dtype=torch.float32) for part in data)
    return inputs, targets[:, None]


class Loop:
    """A plain training loop for the rows of `splits`, in the order that a seed gives.

    Args:
        build: params -> model.
        data: The rows to train on.
        batch_size: Rows of a batch; a single row left over joins the last.
        seed: Of the training.
    """

    def __init__(self, build: Any, data: Any, *, batch_size: int = 8, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = build({})
        self._order = torch.Generator().manual_seed(order_seed(seed))
        self._data = tensors(data)
        self._batch_size = batch_size

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        inputs, targets = self._data
        order = torch.randperm(len(targets), generator=self._order)
        parts = list(order.split(self._batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts = [*parts[:-2], torch.cat(parts[-2:])]
        for rows in parts:
            yield inputs[rows], targets[rows]

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    def valid(self, data: Any) -> float:
        inputs, targets = tensors(data)
        self.model.eval()
        with torch.no_grad():
            value = nn.functional.mse_loss(self.model(inputs), targets)
        self.model.train()
        return float(value)


def trained(objective: Any, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the model after all epochs, the best or not."""
    params = objective.search_space.complete(params or objective.search_space.defaults())
    with objective.task.seeded(0):
        training = objective.start(params, 0)
        reporter = objective.reporter(seed=0)
        for epoch in range(objective.max_steps):
            training.epoch()
            reporter.report(training.end_epoch(reporter), epoch)
    return training.model


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


ADAMW = optimizer_space("adamw")
LR = 1e-3


def adamw_of(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-2, fused=True, **options)


# Gradient clipping


@pytest.mark.parametrize("build", [mlp, with_dropout])
@pytest.mark.parametrize("max_grad_norm", [0.05, 0.7, 1e9])
def test_clipping_is_torchs_bit_for_bit(regression, splits, build, max_grad_norm):
    objective = regression(
        build, search_space=ADAMW, max_grad_norm=max_grad_norm, score=None, metric="mse"
    )
    loop = Loop(build, splits["train"])
    optimizer = adamw_of(loop.model)
    for _ in range(N_EPOCHS):
        for batch in loop.batches():
            optimizer.zero_grad()
            loop.loss(batch).backward()
            nn.utils.clip_grad_norm_(loop.model.parameters(), max_grad_norm)
            optimizer.step()
    assert torch.equal(weights_of(trained(objective)), weights_of(loop.model))


def test_no_clipping_is_an_infinite_norm(regression):
    whole = weights_of(trained(regression(mlp)))
    assert torch.equal(weights_of(trained(regression(mlp, max_grad_norm=math.inf))), whole)
    assert not torch.equal(weights_of(trained(regression(mlp, max_grad_norm=0.1))), whole)


# Accumulation


@pytest.mark.parametrize("batch_size", [4, 8, 13, 41])
@pytest.mark.parametrize("accumulation_steps", [2, 3, 50])
@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
def test_accumulation_steps_along_the_mean_over_all_rows(
    regression, splits, batch_size, accumulation_steps, max_grad_norm
):
    objective = regression(
        mlp,
        search_space=ADAMW,
        batch_size=batch_size,
        accumulation_steps=accumulation_steps,
        max_grad_norm=max_grad_norm,
    )
    loop = Loop(mlp, splits["train"], batch_size=batch_size)
    optimizer = adamw_of(loop.model)
    for _ in range(N_EPOCHS):
        batches = list(loop.batches())
        for start in range(0, len(batches), accumulation_steps):
            inputs, targets = zip(*batches[start : start + accumulation_steps], strict=True)
            optimizer.zero_grad()
            loop.loss((torch.cat(inputs), torch.cat(targets))).backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(loop.model.parameters(), max_grad_norm)
            optimizer.step()
    torch.testing.assert_close(weights_of(trained(objective)), weights_of(loop.model))


def test_accumulation_of_a_loader_of_unknown_length(regression, splits):
    class Stream:
        def __iter__(self) -> Iterator[Any]:
            yield from DataLoader(TensorDataset(*tensors(splits["train"])), batch_size=7)

    stream, whole = (
        regression(mlp, train=train, accumulation_steps=k, max_epochs=2)
        for train, k in [
            (Stream(), 3),
            (DataLoader(TensorDataset(*tensors(splits["train"])), batch_size=21), 1),
        ]
    )
    found, expected = weights_of(trained(stream)), weights_of(trained(whole))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("accumulation_steps", [1, 2, 4, 9])
def test_schedule_advances_once_a_step(regression, accumulation_steps):
    space = ADAMW | schedule_space("cosine", max_epochs=N_EPOCHS)
    shown: list[TrainedEpoch] = []
    objective = regression(
        search_space=space, accumulation_steps=accumulation_steps, on_epoch=shown.append
    )
    trained(objective)
    expected = [LR * (1 + math.cos(math.pi * epoch / N_EPOCHS)) / 2 for epoch in (1, 2, 3)]
    assert [each.lr for each in shown] == pytest.approx(expected)


def total(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[:, 0] - targets).pow(2).sum()


def root(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[:, 0] - targets).pow(2).mean().sqrt()


@pytest.mark.parametrize("loss", [total, root])
@pytest.mark.parametrize(
    "accumulating",
    [
        {"accumulation_steps": 2},
        {"search_space": ADAMW | {"accumulation_steps": [1, 4]}},
        {"search_space": ADAMW | {"accumulation_steps": (1, 3)}},
        {"search_space": ADAMW | {"accumulation_steps": 2}},
    ],
    ids=["option", "choice", "range", "fixed"],
)
@pytest.mark.parametrize("batches", [False, True])
def test_loss_that_is_no_mean_over_rows_cannot_be_accumulated(
    regression, splits, loss, batches, accumulating
):
    inputs, targets = tensors(splits["train"])
    data = list(DataLoader(TensorDataset(inputs, targets[:, 0]), batch_size=8))
    options = {"train": data} if batches else {}
    regression(loss=loss, **options).check()
    objective = regression(loss=loss, **accumulating, **options)
    with pytest.raises(InvalidArgument, match="`loss` must be a mean over rows where"):
        objective.check()


@pytest.mark.parametrize("n_rare", [1, 20])
def test_loss_with_class_weights_cannot_be_accumulated_where_rows_are_sorted(n_rare):
    n = 60
    inputs = np.random.default_rng(0).normal(size=(n, 3)).astype("float32")
    targets = np.repeat([0, 1], [n - n_rare, n_rare])
    objective = TorchObjective(
        lambda params: nn.Linear(3, 2),
        train=(inputs, targets),
        valid=(inputs + 1, targets),
        search_space=ADAMW,
        loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])),
        metric="accuracy",
        max_epochs=1,
        accumulation_steps=2,
    )
    with pytest.raises(InvalidArgument, match="`loss` must be a mean over rows where"):
        objective.check()


def test_tuned_accumulation_is_refused_where_rows_have_weights(regression, splits):
    inputs, targets = splits["train"]
    objective = regression(
        train=(inputs, targets, np.ones(len(inputs))),
        search_space=ADAMW | {"accumulation_steps": [1, 2]},
    )
    with pytest.raises(InvalidArgument, match="`accumulation_steps` must be 1 where rows have"):
        objective.check()


# Precision


def test_bf16_is_torchs_autocast_bit_for_bit(regression, splits):
    seen = []

    def mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(outputs.dtype)
        return nn.functional.mse_loss(outputs, targets[:, None])

    objective = regression(
        mlp,
        search_space=ADAMW,
        precision="bf16",
        loss=mse,
        metric=mse,
        direction="minimize",
    )
    loop = Loop(mlp, splits["train"])
    optimizer = adamw_of(loop.model)
    for _ in range(N_EPOCHS):
        for inputs, targets in loop.batches():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                outputs = loop.model(inputs)
            assert outputs.dtype == torch.bfloat16
            nn.functional.mse_loss(outputs.float(), targets).backward()
            optimizer.step()
    found = weights_of(trained(objective))
    assert torch.equal(found, weights_of(loop.model))
    assert found.dtype == torch.float32
    assert set(seen) == {torch.float32}
    assert not torch.equal(found, weights_of(trained(regression(mlp, search_space=ADAMW))))


def test_values_of_bf16_are_near_those_of_fp32(regression, run_trial):
    values = [run_trial(regression(precision=each)).value for each in ("fp32", "bf16")]
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], rel=0.02)


def test_device_without_bf16_says_so(regression, monkeypatch):
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device: False)
    regression(precision="fp32")
    message = r"`precision` must be 'fp32' on device 'cpu', .*\(torch has no autocast for it\)"
    with pytest.raises(InvalidArgument, match=message):
        regression(precision="bf16")


# Memory format


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 2, 6, 6))
    return inputs, inputs[:, 0, :3].mean(axis=(1, 2))


def convolutions(params: Mapping[str, Any], flatten: Any = None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), flatten or nn.Flatten(), nn.Linear(128, 1)
    )


class View(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.view(len(inputs), -1)


class AsStored(nn.Module):
    """Reads numbers in the order of the memory, which another layout changes without a word."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(inputs, (len(inputs), 128), (128, 1))


def make_images(regression: Any, build: Any = convolutions, **options: Any) -> Any:
    named = {name: images(40, seed) for seed, name in enumerate(["train", "valid", "score"])}
    return regression(build, **named | options)


def is_channels_last(model: nn.Module) -> bool:
    return model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_is_another_layout_of_the_same_training(regression):
    contiguous, last = (
        make_images(regression, memory_format=each) for each in ("contiguous", "channels_last")
    )
    models = trained(contiguous), trained(last)
    assert [is_channels_last(model) for model in models] == [False, True]
    one, other = (model.state_dict() for model in models)
    torch.testing.assert_close(dict(one), dict(other), rtol=1e-3, atol=1e-5)


def test_convolutions_are_channels_last_by_default(regression):
    assert is_channels_last(trained(make_images(regression)))


@pytest.mark.parametrize("stored", [{}, {"memory_format": "auto"}], ids=["none", "auto"])
def test_study_of_an_earlier_version_resumes_under_the_default(regression, random_study, stored):
    objective = make_images(regression, memory_format="contiguous")
    objective.facts = {**objective.facts, **stored}
    study = random_study(direction="minimize")
    run(study, objective, n_trials=1, show_progress_bar=False)
    run(study, make_images(regression), n_trials=2, show_progress_bar=False)
    assert len(study.trials) == 2


def test_a_model_without_convolutions_is_not_built_again_for_the_layout(regression):
    built = []

    def build(params: Mapping[str, Any]) -> nn.Module:
        built.append(params)
        return mlp(params)

    trained(regression(build))
    assert len(built) == 1


def test_trials_with_convolutions_are_stacked_under_the_default(regression, caplog):
    objective = make_images(regression)
    studies = []
    for fuse in (None, 2):
        study = make_study("s", objective=objective, storage="memory://", sampler="random", seed=0)
        run(study, objective, n_trials=4, fuse=fuse, show_progress_bar=False)
        studies.append([trial.value or math.nan for trial in study.trials])
    assert not [line for line in caplog.messages if "trains alone" in line]
    assert studies[0] == pytest.approx(studies[1], rel=1e-3, nan_ok=True)
    assert not all(map(math.isnan, studies[0]))


def test_channels_last_holds_for_images_of_one_channel(regression):
    """Strides of a single channel are those of either layout; torch takes them for contiguous."""
    model = trained(make_images(regression))
    first = model[0](torch.rand(2, model[0].in_channels, 8, 8))
    gray = nn.Conv2d(1, 4, 3, padding=1)
    to_channels_last(gray)
    assert gray(torch.rand(2, 1, 8, 8)).is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (convolutions, True),
        (lambda params: convolutions(params, View()), False),
        (lambda params: convolutions(params, AsStored()), False),
    ],
    ids=["suits", "raises", "differs"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_takes_channels_last_where_outputs_agree(regression, build, expected, precision):
    objective = make_images(regression, build, memory_format="auto", precision=precision)
    assert is_channels_last(trained(objective)) == expected


def test_auto_leaves_a_model_without_convolutions_alone(regression):
    whole = trained(regression(mlp))
    assert torch.equal(
        weights_of(trained(regression(mlp, memory_format="auto"))), weights_of(whole)
    )


def test_trying_the_layout_changes_nothing_random(regression):
    def build(params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(*convolutions(params), nn.Dropout(0.5))

    found = [
        weights_of(trained(make_images(regression, build, memory_format=each)))
        for each in ("auto", "channels_last")
    ]
    assert torch.equal(*found)


# The user's own optimizer and schedule


def own_adamw(params: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=params["lr"], weight_decay=1e-2, fused=True)


OWN = SearchSpace({"lr": (1e-4, 1e-2, "log")}, defaults={"lr": LR})


def test_own_optimizer_trains_as_the_named_one(regression):
    named = trained(regression(mlp, search_space=ADAMW))
    own = trained(regression(mlp, search_space=OWN, optimizer=own_adamw))
    assert torch.equal(weights_of(own), weights_of(named))


def test_own_optimizer_may_build_a_named_one_on_its_own_groups(regression, run_trials):
    def split(params: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
        head = {"params": model[3].parameters(), "lr": 10 * params["lr"]}
        return build_optimizer(params, [{"params": model[:3].parameters()}, head])

    space = optimizer_space(["adam", "sgd"])
    trials = run_trials(regression(mlp, search_space=space, optimizer=split), n_trials=4)
    assert len({trial.value for trial in trials}) == 4


class Averaging(torch.optim.SGD):
    """Evaluates the mean of the weights it has trained, as schedule-free optimizers do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for group in self.param_groups:
            group["is_training"] = False

    def step(self, closure: Any = None) -> Any:
        assert all(group["is_training"] for group in self.param_groups)
        super().step(closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                self.state[p].setdefault("mean", p.clone()).lerp_(p, 0.1)

    def train(self) -> None:
        self._swap(True)

    def eval(self) -> None:
        self._swap(False)

    def _swap(self, is_training: bool) -> None:
        (group,) = self.param_groups
        if group["is_training"] != is_training:
            for p in group["params"]:
                if "mean" in self.state[p]:
                    mine = p.detach().clone()
                    p.data.copy_(self.state[p]["mean"])
                    self.state[p]["mean"].copy_(mine)
        group["is_training"] = is_training


def test_optimizer_with_two_sets_of_weights_is_switched_between_them(regression, splits):
    def own(params: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
        return Averaging(model.parameters(), lr=params["lr"])

    objective = regression(mlp, search_space=OWN, optimizer=own)
    objective.check()
    loop = Loop(mlp, splits["train"])
    optimizer = own({"lr": LR}, loop.model)
    for _ in range(N_EPOCHS):
        optimizer.train()
        for batch in loop.batches():
            optimizer.zero_grad()
            loop.loss(batch).backward()
            optimizer.step()
        optimizer.eval()
    assert torch.equal(weights_of(trained(objective)), weights_of(loop.model))


SCHEDULES: dict[str, tuple[str, Callable[..., Any]]] = {
    "by epoch": ("epoch", lambda o: lr_scheduler.ExponentialLR(o, 0.5)),
    "by step": ("step", lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=15)),
    "of lambdas": ("step", lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step))),
    "in sequence": (
        "epoch",
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, 0.1, total_iters=1), lr_scheduler.StepLR(o, 1)],
            milestones=[1],
        ),
    ),
    "by the metric": (
        "epoch",
        lambda o: lr_scheduler.ReduceLROnPlateau(o, "min", factor=0.2, patience=0, threshold=0.5),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_own_schedule_is_stepped_as_in_torchs_loop(regression, splits, name):
    every, make = SCHEDULES[name]
    objective = regression(
        mlp,
        search_space=ADAMW,
        schedule=lambda params, optimizer: make(optimizer),
        schedule_every=every,
        metric="mse",
    )
    objective.check()
    loop = Loop(mlp, splits["train"])
    optimizer = adamw_of(loop.model)
    schedule = make(optimizer)
    for _ in range(N_EPOCHS):
        for batch in loop.batches():
            optimizer.zero_grad()
            loop.loss(batch).backward()
            optimizer.step()
            if every == "step":
                schedule.step()
        if name == "by the metric":
            schedule.step(loop.valid(splits["valid"]))
        elif every == "epoch":
            schedule.step()
    assert torch.equal(weights_of(trained(objective)), weights_of(loop.model))
    assert optimizer.param_groups[0]["lr"] < LR or name == "by step"


@pytest.mark.parametrize("metric", ["mse", "r2"])
def test_plateau_is_torchs_driven_by_the_metric_on_valid(regression, splits, metric):
    settings = {"factor": 0.3, "plateau_patience": 0}
    space = optimizer_space("sgd") | {"schedule": "plateau", **settings}
    shown: list[TrainedEpoch] = []
    objective = regression(
        search_space=space, metric=metric, max_epochs=8, on_epoch=shown.append, max_grad_norm=1.0
    )
    params = space.defaults() | {"lr": 1.0}
    trained(objective, params)
    torchs = torch.optim.SGD(mlp({}).parameters(), lr=1.0)
    mode = "max" if metric == "r2" else "min"
    schedule = lr_scheduler.ReduceLROnPlateau(torchs, mode, factor=0.3, patience=0)
    for each in shown:
        schedule.step(each.value)
        assert each.lr == torchs.param_groups[0]["lr"]
    assert shown[-1].lr < 1.0


def strange(error: str) -> Callable[..., Any]:
    def own(params: Mapping[str, Any], model: nn.Module) -> Any:
        made: dict[str, Callable[[], Any]] = {
            "none": lambda: None,
            "class": lambda: torch.optim.SGD,
            "other": lambda: torch.optim.SGD(mlp({}).parameters(), lr=0.1),
            "closure": lambda: torch.optim.LBFGS(model.parameters()),
        }
        return made[error]()

    return own


class Unstored(torch.optim.SGD):
    """Keeps an object in its state that no checkpoint can hold."""

    def step(self, closure: Any = None) -> Any:
        self.state[self.param_groups[0]["params"][0]]["seen"] = strange
        return super().step(closure)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": strange("none")}, InvalidType, "`optimizer` must return .* got NoneType"),
        ({"optimizer": strange("class")}, InvalidType, "`optimizer` must return .* got type"),
        ({"optimizer": strange("other")}, InvalidArgument, r"shape \(8, 3\) that the model has no"),
        ({"optimizer": strange("closure")}, InvalidArgument, "needs no closure, got LBFGS"),
        (
            {"optimizer": lambda p, m: Unstored(m.parameters(), lr=0.1)},
            InvalidArgument,
            "must have states that a checkpoint can hold",
        ),
        (
            {"search_space": ADAMW, "optimizer": own_adamw},
            InvalidArgument,
            "must not hold 'optimizer' where the function `optimizer` does not read it, .*'adamw'",
        ),
        (
            {
                "search_space": ADAMW | schedule_space("constant", max_epochs=3),
                "schedule": lambda p, o: lr_scheduler.ConstantLR(o),
            },
            InvalidArgument,
            "must not hold 'schedule' where the function `schedule` does not read it",
        ),
        (
            {"search_space": OWN | {"layer_decay": (0.5, 1.0)}, "optimizer": own_adamw},
            InvalidArgument,
            "must not hold 'layer_decay' where the function `optimizer` does not read it",
        ),
        ({"schedule": lambda p, o: 0.1}, InvalidType, "`schedule` must return .* got float"),
        (
            {"schedule": lambda p, o: lr_scheduler.ConstantLR(own_adamw({"lr": 1}, mlp({})))},
            InvalidArgument,
            "got one of another optimizer",
        ),
        (
            {"schedule": lambda p, o: lr_scheduler.ReduceLROnPlateau(o, "max")},
            InvalidArgument,
            "ReduceLROnPlateau of mode 'min', as the metric asks for, got mode 'max'",
        ),
        (
            {
                "schedule": lambda p, o: lr_scheduler.ReduceLROnPlateau(o, "min"),
                "schedule_every": "step",
            },
            InvalidArgument,
            "`schedule_every` must be 'epoch' for ReduceLROnPlateau",
        ),
    ],
)
def test_functions_that_cannot_be_used_cost_no_trial(
    regression, random_study, options, error, message
):
    if "search_space" not in options and "optimizer" in options:
        options = {"search_space": OWN, **options}
    study = random_study()
    with pytest.raises(error, match=message):
        run(study, regression(mlp, **options), n_trials=1)
    assert study.trials == []


# Groups


@pytest.mark.parametrize(
    "options", [{"decay_biases": False}, {"layer_decay": 0.5}, {"layer_decay": 1.0}]
)
def test_groups_are_those_of_build_optimizer(regression, options):
    def own(params: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(params, model, **options)

    by_option = trained(regression(mlp, search_space=ADAMW, **options))
    by_function = trained(regression(mlp, search_space=ADAMW, optimizer=own))
    assert torch.equal(weights_of(by_option), weights_of(by_function))
    # As parameters of the trial they reach a function that hands the params on.
    in_space = regression(mlp, search_space=ADAMW | options, optimizer=build_optimizer)
    assert torch.equal(weights_of(trained(in_space)), weights_of(by_option))
    plain = weights_of(trained(regression(mlp, search_space=ADAMW)))
    assert torch.equal(weights_of(by_option), plain) == (options == {"layer_decay": 1.0})


# What is shown of an epoch


def test_on_epoch_sees_the_training_loss_as_it_was_trained(regression, splits):
    shown: list[TrainedEpoch] = []
    objective = regression(with_dropout, search_space=ADAMW, on_epoch=shown.append, metric="mse")
    model = objective.fit(ADAMW.defaults(), seed=0)
    loop = Loop(with_dropout, splits["train"])
    optimizer = adamw_of(loop.model)
    losses, values = [], []
    for _ in range(N_EPOCHS):
        sums = []
        for batch in loop.batches():
            optimizer.zero_grad()
            loss = loop.loss(batch)
            loss.backward()
            optimizer.step()
            sums.append(loss.item() * len(batch[1]))
        losses.append(sum(sums) / len(splits["train"][1]))
        values.append(loop.valid(splits["valid"]))
    assert [each.epoch for each in shown] == [0, 1, 2]
    assert [each.train_loss for each in shown] == pytest.approx(losses, rel=1e-5)
    assert [each.value for each in shown] == pytest.approx(values, rel=1e-6)
    assert {each.model for each in shown} == {model}
    assert all(each.trial is None and each.params == ADAMW.defaults() for each in shown)


def test_on_epoch_changes_no_value_whatever_it_draws(regression, run_trial):
    def draw(shown: TrainedEpoch) -> None:
        torch.rand(3)
        shown.trial.set_user_attr(f"loss of epoch {shown.epoch}", shown.train_loss)

    seen = run_trial(regression(with_dropout, on_epoch=draw))
    assert seen.intermediate_values == run_trial(regression(with_dropout)).intermediate_values
    assert [key for key in seen.user_attrs if key.startswith("loss")] == [
        f"loss of epoch {epoch}" for epoch in range(N_EPOCHS)
    ]


def test_on_epoch_that_fails_fails_its_trial(regression, random_study):
    def fail(shown: TrainedEpoch) -> None:
        raise KeyError("no such chart")

    study = random_study(direction="minimize")
    run(study, regression(on_epoch=fail), n_trials=1, show_progress_bar=False)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


# In trials, studies and stacks


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_grad_norm", [None, 0.1]),
        ("accumulation_steps", [1, 3]),
        ("decay_biases", [True, False]),
        ("layer_decay", [0.5, 1.0]),
    ],
)
def test_option_may_be_a_parameter_of_the_trial(regression, name, values):
    space = ADAMW.override(weight_decay=(0.1, 0.5))
    tuned = regression(mlp, search_space=space | {name: values})
    found = []
    for value in values:
        by_parameter = trained(tuned, space.defaults() | {name: value})
        by_option = trained(regression(mlp, search_space=space, **{name: value}), space.defaults())
        assert torch.equal(weights_of(by_parameter), weights_of(by_option))
        found.append(weights_of(by_option))
    assert not torch.equal(*found)


CHANGED = {
    "accumulation_steps": 2,
    "decay_biases": False,
    "layer_decay": 0.9,
    "max_grad_norm": 1.0,
    "memory_format": "channels_last",
    "precision": "bf16",
    "schedule": lambda params, optimizer: lr_scheduler.ConstantLR(optimizer),
}


def test_defaults_leave_the_facts_of_a_study_as_they_were(regression):
    plain = regression()
    named = regression(accumulation_steps=1, precision="fp32", max_grad_norm=None, optimizer=None)
    assert named.facts == plain.facts
    assert regression(on_epoch=print).facts == plain.facts


@pytest.mark.parametrize("name", CHANGED)
def test_values_of_another_option_are_not_mixed(regression, random_study, name):
    study = random_study(direction="minimize")
    run(study, regression(), n_trials=1, show_progress_bar=False)
    with pytest.raises(RecipeMismatch, match=name):
        run(study, regression(**{name: CHANGED[name]}), n_trials=2, show_progress_bar=False)


ALONE = {
    "accumulated": {"accumulation_steps": 2},
    "precision is 'bf16'": {"precision": "bf16"},
    "asks for channels-last weights": {"memory_format": "channels_last"},
    "optimizer is your own function": {"search_space": OWN, "optimizer": own_adamw},
    "schedule is your own function": {"schedule": CHANGED["schedule"]},
    "schedule follows the metric": {
        "search_space": ADAMW | schedule_space("plateau", max_epochs=3)
    },
    "`on_epoch` is shown its training loss": {"on_epoch": lambda shown: None},
}


@pytest.mark.parametrize("reason", ALONE)
def test_trials_that_cannot_be_stacked_train_alone_and_say_why(regression, caplog, reason):
    objective = regression(mlp, **ALONE[reason])
    studies = []
    for fuse in (None, 2):
        study = make_study("s", objective=objective, storage="memory://", sampler="random", seed=0)
        run(study, objective, n_trials=3, fuse=fuse, show_progress_bar=False)
        studies.append(study)
    one, other = ([t.intermediate_values for t in study.trials] for study in studies)
    assert one == other
    said = [record.getMessage() for record in caplog.records if "trains alone" in record.message]
    assert len(said) == 1
    assert reason in said[0]


def test_only_the_trials_with_an_obstacle_train_alone(regression, caplog):
    objective = regression(mlp, search_space=ADAMW | {"accumulation_steps": [1, 2]})
    study = make_study("s", objective=objective, storage="memory://", sampler="random", seed=1)
    run(study, objective, n_trials=6, fuse=2, show_progress_bar=False)
    assert {trial.params["accumulation_steps"] for trial in study.trials} == {1, 2}
    said = [record.getMessage() for record in caplog.records if "trains alone" in record.message]
    assert len(said) == 1
    assert "its gradients are accumulated" in said[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_grad_norm": 0}, InvalidArgument, "`max_grad_norm` must be above 0, or None, got 0"),
        ({"max_grad_norm": math.nan}, InvalidArgument, "`max_grad_norm` must be above 0"),
        ({"max_grad_norm": "1"}, InvalidType, "`max_grad_norm` must be a number, got str"),
        ({"accumulation_steps": 0}, InvalidArgument, "`accumulation_steps` must be 1 or above"),
        ({"accumulation_steps": 2.0}, InvalidType, "`accumulation_steps` must be an int"),
        ({"precision": "fp16"}, InvalidArgument, "`precision` must be one of 'bf16', 'fp32'"),
        ({"precision": torch.bfloat16}, InvalidArgument, "`precision` must be one of"),
        ({"memory_format": "nhwc"}, InvalidArgument, "`memory_format` must be one of"),
        ({"schedule_every": "step"}, InvalidArgument, "`schedule_every` must be 'epoch' unless"),
        ({"optimizer": "adam"}, InvalidType, "`optimizer` must be a function.*`search_space="),
        ({"schedule": "cosine"}, InvalidType, "`schedule` must be a function.*schedule_space"),
        ({"on_epoch": 3}, InvalidType, "`on_epoch` must be a function, or None, got int"),
        ({"optimizer": own_adamw, "layer_decay": 0.5}, InvalidArgument, "`layer_decay` must be le"),
    ],
)
def test_bad_option_is_refused(
    regression, options: dict[str, Any], error: type[HpolabError], message: str
):
    with pytest.raises(error, match=message):
        regression(**options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_grad_norm": -1.0}, "`max_grad_norm` must be above 0"),
        ({"accumulation_steps": 0}, "`accumulation_steps` must be 1 or above"),
        ({"layer_decay": 1.5}, "`layer_decay` must be above 0 and at most 1"),
    ],
)
def test_bad_option_in_the_space_costs_no_trial(regression, random_study, params, message):
    study = random_study(direction="minimize")
    with pytest.raises(InvalidArgument, match=message):
        run(study, regression(search_space=ADAMW | params), n_trials=1)
    assert study.trials == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_epochs", (2, 9)),
        ("patience", (1, 5)),
        ("timeout_seconds", 10.0),
        ("loss", ["mse", "mae"]),
        ("precision", ["fp32", "bf16"]),
        ("memory_format", "auto"),
    ],
)
def test_settings_of_the_objective_in_the_space_cost_no_trial(
    regression, random_study, name, values
):
    objective = regression(search_space=ADAMW | {name: values})
    study = random_study(direction="minimize")
    with pytest.raises(InvalidArgument, match=f"`search_space` must not hold '{name}', which is"):
        run(study, objective, n_trials=1)
    assert study.trials == []


def test_a_model_may_read_a_parameter_of_such_a_name(regression):
    def build(params: Mapping[str, Any]) -> nn.Module:
        return nn.Linear(3, 1, bias=params["patience"] > 1)

    regression(build, search_space=ADAMW | {"patience": (1, 5)}).check()
