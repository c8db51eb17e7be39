"""Row scores of losses and metrics: their mean is the metric that `evaluate` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hpolab import InvalidArgument, TorchObjective, optimizer_space
from hpolab.torch.by_row import row_scores
from hpolab.torch.losses import LOSSES
from hpolab.torch.metrics import METRICS, Metric, OnCopies

if TYPE_CHECKING:
    from collections.abc import Callable

N = 90


def data(kind: str, n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator)
    latent = inputs[:, 0] + 0.5 * inputs[:, 1] + torch.randn(n, generator=generator)
    bounds = torch.tensor([-1.0, 0.6])
    if kind == "classes":
        return inputs, torch.bucketize(latent, bounds)
    if kind == "two classes":
        return inputs, (latent > 0).long()
    if kind == "binary":
        return inputs, (latent > 0).float()
    if kind == "labels":
        return inputs, torch.stack([latent > 0, latent > 0.5, inputs[:, 2] > 0], 1).float()
    if kind == "numbers":
        return inputs, latent
    if kind == "outputs":
        return inputs, torch.stack([latent, 3 * inputs[:, 2]], 1)
    inputs = torch.randn(n, 5, 4, generator=generator)
    return inputs, torch.bucketize(inputs[..., 0] + inputs[..., 1] ** 2, bounds)


class Tagger(nn.Module):
    """Gives logits (n, classes, length) for inputs (n, length, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs).movedim(-1, 1)
        return logits


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "classes": (lambda: nn.Linear(4, 3), "cross_entropy"),
    "two classes": (lambda: nn.Linear(4, 2), "cross_entropy"),
    "binary": (lambda: nn.Linear(4, 1), "bce"),
    "labels": (lambda: nn.Linear(4, 3), "bce"),
    "numbers": (lambda: nn.Linear(4, 1), "huber"),
    "outputs": (lambda: nn.Linear(4, 2), "mse"),
    "sequences": (Tagger, "cross_entropy"),
}


def own(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """A user's metric: the correlation of whatever stands in both."""
    guess = outputs if outputs.shape == targets.shape else outputs.reshape(len(outputs), -1)[:, 0]
    truth = targets if outputs.shape == targets.shape else targets.reshape(len(targets), -1)[:, 0]
    return torch.corrcoef(torch.stack([guess.flatten(), truth.flatten().to(guess)]))[0, 1]


def objective(kind: str, metric: Any, **options: Any) -> TorchObjective:
    build, loss = MODELS[kind]
    if callable(metric):
        options["direction"] = "maximize"
    return TorchObjective(
        lambda params: build(),
        train=data(kind, 60, seed=1),
        valid=data(kind, 60, seed=2),
        search_space=optimizer_space("adam"),
        loss=options.pop("loss", loss),
        metric=metric,
        max_epochs=1,
        **options,
    )


def fitting(kind: str, name: Any) -> bool:
    of_classes = {*METRICS} - {"r2", "mse", "rmse", "mae"} | {"top_2_accuracy", "loss"}
    named = {
        "classes": of_classes,
        "sequences": of_classes,
        "two classes": of_classes - {"top_2_accuracy", "top_5_accuracy"},
        "binary": {*METRICS, "loss"} - {"top_5_accuracy"},
        "labels": {"accuracy", "macro_f1", "auc", "average_precision", "loss", "mse", "r2"},
    }
    of_numbers = {"r2", "mse", "rmse", "mae", "loss"}
    return callable(name) or name in named.get(kind, of_numbers) - {"top_5_accuracy"}


ROWS = [
    (kind, metric)
    for kind in MODELS
    for metric in (*METRICS, "top_2_accuracy", "loss", own)
    if fitting(kind, metric)
]


@pytest.mark.parametrize(("kind", "metric"), ROWS)
def test_mean_of_row_scores_is_the_metric(kind: str, metric: Any) -> None:
    made = objective(kind, metric)
    torch.manual_seed(0)
    model = MODELS[kind][0]()
    inputs, targets = data(kind)
    weights = torch.rand(N, generator=torch.Generator().manual_seed(3))
    batches = DataLoader(TensorDataset(inputs, targets), batch_size=25)
    for each in ((inputs, targets), (inputs, targets, weights), batches):
        value = made.evaluate(model, each)[made.metric]
        found = made.checked_row_scores(model, each, value)
        assert found is not None
        assert found.dtype == np.float64
        in_groups = metric is own or metric == "average_precision"
        assert made.scored_unit == ("row group" if in_groups else "row")
        assert found.shape == (40 if in_groups else N,)
        assert found.mean() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("kind", "metric"), [row for row in ROWS if row[1] != own])
def test_row_scores_follow_their_rows_whatever_the_batches(kind: str, metric: str) -> None:
    if metric == "average_precision":
        return  # of random groups
    torch.manual_seed(0)
    model = MODELS[kind][0]()
    inputs, targets = data(kind)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(4))
    found = objective(kind, metric).row_scores(model, (inputs, targets))
    again = objective(kind, metric, eval_batch_size=7).row_scores(
        model, (inputs[order], targets[order])
    )
    assert found is not None
    assert again is not None
    np.testing.assert_allclose(again, found[order.numpy()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "auc", "loss"])
def test_a_row_is_a_sequence_also_where_batches_differ_in_length(metric: str) -> None:
    inputs, targets = data("sequences", 60)
    batches = [
        (inputs[:20, :3], targets[:20, :3]),
        (inputs[20:45], targets[20:45]),
        (inputs[45:, :2], targets[45:, :2]),
    ]
    made = objective("sequences", metric)
    torch.manual_seed(0)
    model = Tagger()
    value = made.evaluate(model, batches)[metric]
    found = made.checked_row_scores(model, batches, value)
    assert found is not None
    assert found.shape == (60,)
    assert found.mean() == pytest.approx(value)


def test_positions_of_a_sequence_are_not_counted_as_independent() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = (torch.rand(80, 1, generator=generator) < 0.6).expand(80, 10)  # all right, or none
    logits = torch.stack([(~hits).double(), hits.double()], 1)
    found = row_scores(
        METRICS["accuracy"], logits, torch.ones(80, 10).long(), samples=np.arange(80)
    )
    np.testing.assert_array_equal(found, hits[:, 0])


def test_a_loss_with_targets_that_it_leaves_out_is_scored_by_groups() -> None:
    outputs = torch.randn(60, 3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, 3, (60, 4), generator=torch.Generator().manual_seed(1))
    targets[::2, 2:] = -100
    metric = Metric(LOSSES["cross_entropy"], maximize=False)
    found = row_scores(metric, outputs, targets, samples=np.arange(60))
    assert found is not None
    value = nn.functional.cross_entropy(outputs, targets)
    assert found.mean() == pytest.approx(float(value))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_user_s_loss_may_weigh_classes(reduction: str) -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]), reduction=reduction)
    made = objective("classes", "loss", loss=loss)
    torch.manual_seed(0)
    model = MODELS["classes"][0]()
    value = made.evaluate(model, data("classes"))["loss"]
    found = made.checked_row_scores(model, data("classes"), value)
    assert found is not None
    assert found.mean() == pytest.approx(value)


def test_a_user_s_function_may_have_the_name_of_another_metric() -> None:
    def accuracy(outputs: Tensor, targets: Tensor) -> float:
        return 2 * float((outputs.argmax(1) == targets).double().mean())

    outputs, targets = torch.randn(50, 3), torch.randint(0, 3, (50,))
    metric = Metric(OnCopies(accuracy), maximize=True)
    found = row_scores(metric, outputs, targets, samples=np.arange(50))
    assert found is not None
    assert found.mean() == pytest.approx(accuracy(outputs, targets))


def test_a_model_that_has_diverged_has_no_row_scores() -> None:
    outputs = torch.full((20, 3), torch.nan)
    for metric in (METRICS["accuracy"], METRICS["log_loss"]):
        assert row_scores(metric, outputs, torch.zeros(20).long(), samples=np.arange(20)) is None


@pytest.mark.parametrize("metric", ["auc", "average_precision"])
def test_a_curve_without_a_class_is_refused_as_by_evaluate(metric: str) -> None:
    made = objective("binary", metric)
    inputs, targets = data("binary")
    one_class = inputs, torch.zeros_like(targets)
    for method in (made.evaluate, made.row_scores):
        with pytest.raises(InvalidArgument, match="both classes"):
            method(nn.Linear(4, 1), one_class)
