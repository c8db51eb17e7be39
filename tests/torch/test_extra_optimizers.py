"""Optimizers of other packages: each update by an oracle, and in all that a training offers."""

from __future__ import annotations

import importlib
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from hpolab import (
    EXTRA_OPTIMIZERS,
    OPTIMIZERS,
    InvalidArgument,
    MissingExtra,
    RecommenderObjective,
    build_optimizer,
    compare,
    leave_last_out,
    make_taste_clusters,
    optimizer_space,
    recommender_space,
    schedule_space,
)
from hpolab.torch.rng import order_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from hpolab import TorchObjective

    Array = NDArray[np.float64]

PACKAGES = {
    "schedulefree_adamw": "schedulefree",
    "schedulefree_sgd": "schedulefree",
    "soap": "pytorch_optimizer",
    "lion": "pytorch_optimizer",
    "prodigy": "pytorch_optimizer",
}
each_extra = pytest.mark.parametrize("name", EXTRA_OPTIMIZERS)

# Updates by formulas of the papers, in NumPy

CURVATURE = np.diag([3.0, 1.0, 0.2]) + 0.1
TARGET = np.array([1.0, -2.0, 0.5])


def gradient(weights: Array) -> Array:
    found: Array = CURVATURE @ (weights - TARGET)
    return found


def stepped(params: Mapping[str, Any], n_steps: int) -> tuple[Array, Array]:
    """Return the weights that an optimizer trains and those that it evaluates, after some steps."""
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = build_optimizer(params, [weights])
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(n_steps):
        weights.grad = torch.as_tensor(gradient(weights.detach().numpy()))
        optimizer.step()
    trained = weights.detach().numpy().copy()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return trained, weights.detach().numpy()


def lion(n_steps: int, *, lr: float, beta1: float, beta2: float, weight_decay: float) -> Array:
    """Chen et al. 2023 (arXiv:2302.06675), algorithm 2."""
    w, m = np.zeros(3), np.zeros(3)
    for _ in range(n_steps):
        g = gradient(w)
        w = w - lr * (np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lion_is_that_of_its_paper(weight_decay: float) -> None:
    params = {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "weight_decay": weight_decay}
    found, _ = stepped({"optimizer": "lion", **params}, 30)
    assert found == pytest.approx(lion(30, **params), rel=1e-12)


def schedule_free(
    n_steps: int, descent: Callable[[Array, int], Array], *, lr: float, beta: float, warmup: int
) -> tuple[Array, Array]:
    """Defazio et al. 2024 (arXiv:2405.15682), equations 3 to 5, averaged by squared rates.

    Args:
        n_steps: Steps.
        descent: (y, step number from 1) -> direction of the step.
        lr: The learning rate after its warm-up.
        beta: Where between z and x gradients are taken.
        warmup: Steps of the warm-up.

    Returns:
        y, where gradients are taken, and x, which is evaluated.
    """
    z, x, total = np.zeros(3), np.zeros(3), 0.0
    for t in range(1, n_steps + 1):
        rate = lr * min(1.0, t / max(warmup, 1))
        z = z - rate * descent((1 - beta) * z + beta * x, t)
        total += rate**2
        x = x + rate**2 / total * (z - x)
    return (1 - beta) * z + beta * x, x


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_schedule_free_sgd_is_that_of_its_paper(weight_decay: float, warmup: int) -> None:
    params = {"lr": 0.2, "momentum": 0.85, "weight_decay": weight_decay, "warmup_steps": warmup}
    found = stepped({"optimizer": "schedulefree_sgd", **params}, 30)
    expected = schedule_free(
        30, lambda y, t: gradient(y) + weight_decay * y, lr=0.2, beta=0.85, warmup=warmup
    )
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-10)


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("weight_decay", [1e-4, 0.3])
def test_schedule_free_adamw_is_that_of_its_paper(weight_decay: float, warmup: int) -> None:
    params = {"lr": 0.05, "beta1": 0.85, "beta2": 0.95, "weight_decay": weight_decay}
    found = stepped({"optimizer": "schedulefree_adamw", "warmup_steps": warmup, **params}, 30)
    squares = np.zeros(3)

    def descent(y: Array, t: int) -> Array:
        nonlocal squares
        g = gradient(y)
        squares = 0.95 * squares + 0.05 * g**2
        # The bias correction stands in the denominator, not in the rate: schedulefree 1.3.
        moved: Array = g / (np.sqrt(squares / (1 - 0.95**t)) + 1e-8) + weight_decay * y
        return moved

    expected = schedule_free(30, descent, lr=0.05, beta=0.85, warmup=warmup)
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-10)


# In a training, as in a loop of one's own

N_EPOCHS = 3
BATCH_SIZE = 8


def by_hand(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return an optimizer as its package's documentation builds it, with the space's defaults."""
    package = importlib.import_module(PACKAGES[name])
    made: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "schedulefree_adamw": lambda: package.AdamWScheduleFree(groups, lr=0.0025),
        "schedulefree_sgd": lambda: package.SGDScheduleFree(groups, lr=1.0),
        "soap": lambda: package.SOAP(groups, lr=3e-3, betas=(0.95, 0.95)),
        "lion": lambda: package.Lion(groups, lr=1e-4, betas=(0.9, 0.99)),
        "prodigy": lambda: package.Prodigy(groups, lr=1.0),
    }
    return made[name]()


DECAYS = {"schedulefree_adamw": 0.01, "soap": 0.01, "lion": 0.1}


def plain(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def with_batch_norm(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def with_mean_of_all_batches(params: Mapping[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, 1))


class Loop:
    """A training loop that follows the documentation of schedulefree; seed 0.

    Args:
        name: The optimizer.
        build: params -> model.
        splits: "train" and "valid".
    """

    def __init__(self, name: str, build: Any, splits: Any) -> None:
        torch.manual_seed(0)
        self.model = build({})
        weights, biases = (
            [p for p in self.model.parameters() if (p.ndim > 1) is is_weight]
            for is_weight in (True, False)
        )
        decay = DECAYS.get(name, 0.0)
        spared = {"params": biases, "weight_decay": 0.0}
        groups = [{"params": weights, "weight_decay": decay}, spared]
        if not decay:
            groups = [{"params": list(self.model.parameters())}]
        self.optimizer = by_hand(name, groups)
        self.is_schedule_free = name.startswith("schedulefree")
        self._order = torch.Generator().manual_seed(order_seed(0))
        self._train, self._valid = (
            tuple(torch.as_tensor(part, dtype=torch.float32) for part in splits[split])
            for split in ("train", "valid")
        )

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        inputs, targets = self._train
        parts = list(torch.randperm(len(targets), generator=self._order).split(BATCH_SIZE))
        if len(parts[-1]) == 1:
            parts = [*parts[:-2], torch.cat(parts[-2:])]
        for rows in parts:
            yield inputs[rows], targets[rows, None]

    def epoch(self, *, switches: bool = True) -> float:
        """Train for an epoch and return the mean squared error on "valid"."""
        self.model.train()
        if self.is_schedule_free:
            self.optimizer.train()  # type: ignore[attr-defined]
        for inputs, targets in self.batches():
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(inputs), targets).backward()
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, 0.7)
            self.optimizer.step()
        if self.is_schedule_free and switches:
            self.optimizer.eval()  # type: ignore[attr-defined]
            self.renew_norms()
        self.model.eval()
        inputs, targets = self._valid
        with torch.no_grad():
            return float(nn.functional.mse_loss(self.model(inputs), targets[:, None]))

    def renew_norms(self) -> None:
        """The documentation's forward passes, with the mean of PreciseBN."""
        norms = [each for each in self.model.modules() if isinstance(each, nn.BatchNorm1d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        if norms:
            with torch.no_grad():
                for inputs, _ in self.batches():
                    self.model(inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def objective_of(regression: Any, name: str, build: Any = plain, **options: Any) -> TorchObjective:
    settings = {
        "search_space": optimizer_space(name),
        "metric": "mse",
        "max_epochs": N_EPOCHS,
        "batch_size": BATCH_SIZE,
        "max_grad_norm": 0.7,
        "decay_biases": False,
    }
    made: TorchObjective = regression(build, **settings | options)
    return made


@each_extra
@pytest.mark.parametrize("build", [plain, with_batch_norm, with_mean_of_all_batches])
def test_values_and_weights_are_those_of_the_package_s_loop(
    regression: Any, splits: Any, same_weights: Any, name: str, build: Any
) -> None:
    values: list[float] = []
    objective = objective_of(
        regression, name, build, score=None, on_epoch=lambda epoch: values.append(epoch.value)
    )
    model = objective.fit(objective.search_space.defaults(), 0)
    loop = Loop(name, build, splits)
    expected = [loop.epoch() for _ in range(N_EPOCHS)]
    assert values == expected
    again = Loop(name, build, splits)
    for _ in range(1 + int(np.argmin(expected))):
        again.epoch()
    assert same_weights(model, again.model)
    assert objective.evaluate(model, splits["valid"])["mse"] == min(values)


@pytest.mark.parametrize("name", ["schedulefree_adamw", "schedulefree_sgd"])
def test_a_schedule_free_optimizer_that_is_not_switched_would_give_other_values(
    splits: Any, name: str
) -> None:
    switched, forgotten = Loop(name, plain, splits), Loop(name, plain, splits)
    assert switched.epoch() != pytest.approx(forgotten.epoch(switches=False), rel=1e-4)


def test_batch_norms_that_are_frozen_keep_their_statistics(regression: Any, splits: Any) -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    def build(params: Mapping[str, Any]) -> nn.Module:
        norm = Frozen(8)
        norm.running_mean.fill_(3.0)  # type: ignore[union-attr]
        return nn.Sequential(nn.Linear(3, 8), norm, nn.Linear(8, 1)).train()

    objective = objective_of(regression, "schedulefree_adamw", build)
    model = objective.fit(objective.search_space.defaults())
    assert torch.equal(model[1].running_mean, torch.full((8,), 3.0))  # type: ignore[index]


@each_extra
@pytest.mark.parametrize("n_epochs", [1, 2])
def test_training_that_resumes_ends_as_the_uninterrupted_one_bit_for_bit(
    regression: Any, same_weights: Any, name: str, n_epochs: int
) -> None:
    objective = objective_of(regression, name, with_batch_norm, accumulation_steps=2)
    params = objective.search_space.defaults()
    reporter = objective.reporter(seed=0)

    def advance(training: Any) -> float:
        training.epoch()
        value = training.end_epoch(reporter)
        training.keep_best()
        return float(value)

    with objective.task.seeded(0):
        whole = objective.start(params, 0)
        expected = [advance(whole) for _ in range(4)]
    with objective.task.seeded(0):
        first = objective.start(params, 0)
        found = [advance(first) for _ in range(n_epochs)]
        state = first.to_bytes()
    with objective.task.seeded(5):
        second = objective.start(params, 7)
        second.from_bytes(state)
        found += [advance(second) for _ in range(4 - n_epochs)]
    assert found == expected
    assert same_weights(second.model, whole.model)
    second.load_best()
    whole.load_best()
    assert same_weights(second.model, whole.model)


@each_extra
def test_accumulated_batches_train_as_larger_ones(
    regression: Any, rows_of_48: Any, name: str
) -> None:
    def weights(**options: Any) -> torch.Tensor:
        objective = objective_of(
            regression,
            name,
            lambda params: nn.Linear(3, 1),
            **rows_of_48,
            max_grad_norm=None,
            **options,
        )
        model = objective.fit(objective.search_space.defaults(), 0)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    larger = weights(batch_size=16)
    torch.testing.assert_close(weights(accumulation_steps=2), larger, rtol=1e-4, atol=1e-6)


@pytest.fixture
def rows_of_48() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(48, 3))
    data = (inputs, inputs.sum(1))
    return {"train": data, "valid": (inputs + 1, inputs.sum(1))}


@pytest.mark.parametrize("name", ["schedulefree_adamw", "schedulefree_sgd"])
def test_warm_up_of_a_schedule_is_that_of_the_package(regression: Any, name: str) -> None:
    warmup = schedule_space("warmup", max_epochs=N_EPOCHS).fixed(warmup_epochs=1.0)
    by_schedule = objective_of(regression, name, search_space=optimizer_space(name) | warmup)
    in_steps = optimizer_space(name).override(warmup_steps=5)
    by_package = objective_of(regression, name, search_space=in_steps)
    values = []
    for objective in (by_schedule, by_package):
        model = objective.fit(objective.search_space.defaults())
        values.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*values)


# What is said before a trial is spent


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_schedule_beside_a_schedule_free_optimizer_is_said_once(
    regression: Any, caplog: pytest.LogCaptureFixture, schedule: str
) -> None:
    both = optimizer_space(["adamw", "schedulefree_sgd"])
    space = both | schedule_space(schedule, max_epochs=N_EPOCHS)
    with caplog.at_level(logging.WARNING):
        objective_of(regression, "adamw", search_space=space).check()
    assert f"joins the schedule '{schedule}' to 'schedulefree_sgd'" in caplog.text
    assert caplog.text.count("joins the schedule") == 1


def test_schedule_beside_a_schedule_free_optimizer_of_a_recommender_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    splits = leave_last_out(make_taste_clusters(n_users=20, n_items=60).interactions)
    space = recommender_space("mf", optimizer="schedulefree_adamw")
    cosine = schedule_space("cosine", max_epochs=3)
    objective = RecommenderObjective(
        "mf", splits, metric="ndcg@10", search_space=space | cosine, max_epochs=3
    )
    with caplog.at_level(logging.WARNING):
        objective.check()
    assert "joins the schedule 'cosine' to 'schedulefree_adamw'" in caplog.text


@pytest.mark.parametrize(
    ("optimizers", "schedule"),
    [(["adamw", "soap"], "cosine"), ("schedulefree_adamw", "warmup"), ("schedulefree_sgd", None)],
)
def test_schedules_that_suit_an_optimizer_are_passed_over(
    regression: Any, caplog: pytest.LogCaptureFixture, optimizers: Any, schedule: str | None
) -> None:
    space = optimizer_space(optimizers)
    if schedule is not None:
        space |= schedule_space(schedule, max_epochs=N_EPOCHS)
    with caplog.at_level(logging.WARNING):
        objective_of(regression, "adamw", search_space=space).check()
    assert "schedule" not in caplog.text


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in set(PACKAGES.values()):
        monkeypatch.setitem(sys.modules, package, None)


@each_extra
def test_a_missing_package_names_the_extra_before_a_trial(
    regression: Any, without_packages: None, name: str
) -> None:
    space = optimizer_space(["adam", name])
    usual = objective_of(regression, "adam")
    package = PACKAGES[name].replace("_", "-")
    splits = leave_last_out(make_taste_clusters(n_users=20, n_items=60).interactions)
    asked: list[Callable[[], Any]] = [
        partial(objective_of, regression, name),
        partial(objective_of, regression, "adam", search_space=space),
        partial(usual.with_search_space, space),
        partial(compare, usual, ["adam", name], study_name="s", n_trials=1, storage="memory://"),
        partial(build_optimizer, optimizer_space(name).defaults(), nn.Linear(2, 2)),
        partial(
            RecommenderObjective, "mf", splits, metric="ndcg@10", search_space={"optimizer": name}
        ),
    ]
    for ask in asked:
        with pytest.raises(MissingExtra, match=rf"`optimizer` '{name}' needs {package}: .*\[optim"):
            ask()


def test_those_of_torch_need_no_other_package(regression: Any, without_packages: None) -> None:
    dense = [name for name in OPTIMIZERS if name not in ("sparse_adam", "muon")]
    objective_of(regression, "adam", search_space=optimizer_space(dense)).check()


@pytest.mark.parametrize(
    ("name", "package"), [("soap", "pytorch-optimizer"), ("schedulefree_sgd", "schedulefree")]
)
def test_an_older_package_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    module = importlib.import_module(PACKAGES[name])
    monkeypatch.delattr(module, {"soap": "SOAP"}.get(name, "SGDScheduleFree"))
    with pytest.raises(InvalidArgument, match=rf"'{name}' needs {package} .* newer, got {package}"):
        build_optimizer(optimizer_space(name).defaults(), nn.Linear(2, 2))


def test_prodigy_has_one_learning_rate_for_all_weights() -> None:
    params = optimizer_space("prodigy").defaults()
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[1].parameters()}]
    for ask in (
        partial(build_optimizer, params, model, layer_decay=0.5),
        partial(build_optimizer, params, groups),
    ):
        with pytest.raises(InvalidArgument, match=r"'prodigy' must have one .* got 0\.5, 1:"):
            ask()


@pytest.mark.parametrize("name", ["soap", "lion", "prodigy"])
def test_arguments_that_a_package_would_swallow_are_refused(name: str) -> None:
    params = optimizer_space(name).defaults()
    for unknown in ("kwargs", "momentum"):
        groups = [{"params": nn.Linear(2, 2).parameters(), unknown: 0.5}]
        with pytest.raises(InvalidArgument, match=f"got '{unknown}'"):
            build_optimizer(params, groups)


@pytest.mark.parametrize("name", ["soap", "lion", "prodigy"])
def test_values_that_a_package_refuses_name_its_class(name: str) -> None:
    params = optimizer_space(name).defaults() | {"lr": -1.0}
    with pytest.raises(InvalidArgument, match=r"pytorch_optimizer\.\w+ refuses this"):
        build_optimizer(params, nn.Linear(2, 2))
