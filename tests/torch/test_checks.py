"""Losses and metrics of one's own: what they compare, what they change, and what they return."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from torch.nn import functional

from hpolab import Diverged, InvalidArgument, SearchSpace
from hpolab.studies.trials import METRICS_KEY
from hpolab.torch.checks import check_alignment
from hpolab.trial.reporter import REASON_KEY

PAIRS = "must compare row by row, but of outputs"


def difference(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean()


def logistic(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.softplus(-outputs * (2 * targets - 1)).sum()


def squeezed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return difference(outputs.squeeze(1), targets)


def column(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return difference(outputs[:, 0], targets)


def flat(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return difference(outputs.flatten(), targets.flatten())


def pairwise(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A ranking loss: all pairs of rows, on purpose."""
    s, t = outputs.flatten(), targets.flatten()
    return functional.relu(1 - (s[:, None] - s) * (t[:, None] - t).sign()).mean()


BROKEN = [
    nn.MSELoss(),
    nn.L1Loss(reduction="sum"),
    nn.SmoothL1Loss(),
    nn.HuberLoss(),
    functional.mse_loss,
    nn.PoissonNLLLoss(),
    difference,
    logistic,
]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", BROKEN, ids=lambda loss: getattr(loss, "__name__", str(loss)))
def test_loss_of_a_column_and_a_vector_is_refused_before_a_trial(regression, loss):
    with pytest.raises(InvalidArgument, match=rf"`loss` {PAIRS} \(2, 1\) and targets \(2,\)"):
        regression(loss=loss).check()


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("metric", [difference, functional.l1_loss])
def test_metric_of_a_column_and_a_vector_is_refused(regression, metric):
    objective = regression(metric=metric, direction="minimize")
    with pytest.raises(InvalidArgument, match=rf"`metric` '\w+' {PAIRS}"):
        objective.check()
    objective = regression(metric=metric, direction="minimize")
    with pytest.raises(InvalidArgument, match=PAIRS):  # also where nobody has checked
        objective.fit(objective.search_space.defaults(), seed=0)


@pytest.mark.parametrize("function", [squeezed, column, flat, pairwise])
def test_function_that_aligns_by_itself_is_not_refused(regression, function):
    regression(loss=function, metric=function, direction="minimize").check()


def test_loss_of_equal_shapes_is_not_refused(regression):
    regression(lambda _: nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), loss=nn.MSELoss()).check()


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((4, 1), (4,)), ((4,), (4, 1)), ((4, 3, 1), (4, 3)), ((4, 1, 3), (4, 3))],
)
@pytest.mark.parametrize("value", [0, 1])
def test_equal_targets_hide_nothing(outputs, targets, value):
    rows = torch.full(targets, float(value))
    if len(outputs) < 3 or outputs[1] == 1:
        with pytest.raises(InvalidArgument, match=PAIRS):
            check_alignment("`loss`", difference, torch.zeros(outputs), rows)
    else:  # torch refuses to broadcast them
        check_alignment("`loss`", difference, torch.zeros(outputs), rows)


# In place


def of_prices(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    outputs.exp_()
    targets.exp_()
    return float((outputs[:, 0] - targets).square().mean().numpy())


def scaled_in_numpy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    scores, truth = outputs[:, 0].numpy(), targets.numpy()
    scores *= 7
    truth -= scores
    return float(np.abs(truth).mean())


@pytest.mark.parametrize("own", [of_prices, scaled_in_numpy])
@pytest.mark.parametrize("place", ["first", "last"])
def test_metric_in_place_changes_no_other(regression, run_trial, own, place):
    plain = run_trial(regression(metric="rmse", metrics=["mae", "r2"]))
    metrics = [own, "mae", "r2"] if place == "first" else ["mae", "r2", own]
    trial = run_trial(regression(metric="rmse", metrics=metrics))
    recorded = trial.user_attrs[METRICS_KEY]
    assert {k: recorded[k] for k in ("rmse", "mae", "r2")} == plain.user_attrs[METRICS_KEY]


@pytest.mark.parametrize("form", ["arrays", "tensors", "batches"])
def test_model_and_loss_in_place_leave_the_user_s_data_as_it_was(regression, splits, form):
    class InPlace(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            inputs /= 255.0
            inputs.numpy()[:] += 1
            return super().forward(inputs)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets -= outputs.detach()[:, 0]
        return ((outputs[:, 0] - targets) ** 2).mean()

    own = {
        name: tuple(torch.as_tensor(part).float() for part in data) for name, data in splits.items()
    }
    given: dict[str, Any] = own
    if form == "arrays":
        given = {name: tuple(part.numpy() for part in data) for name, data in own.items()}
    if form == "batches":
        given = {
            name: [tuple(part[i::3] for part in data) for i in range(3)]
            for name, data in own.items()
        }
    before = {name: [part.clone() for part in data] for name, data in own.items()}
    objective = regression(lambda _: InPlace(3, 1), **given, loss=loss, metrics=["loss"])
    objective.check()
    objective.evaluate(objective.fit(objective.search_space.defaults(), 0), given["valid"])
    for name, data in own.items():
        assert all(map(torch.equal, data, before[name]))


def test_model_may_write_its_outputs_over_the_last_ones(regression, splits):
    class Reusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)
            self.place = torch.zeros(5, 1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.place.copy_(self.linear(inputs))

    model = Reusing()
    objective = regression(lambda _: Reusing(), eval_batch_size=5)
    found = objective.evaluate(model, splits["valid"])
    assert found == pytest.approx(objective.evaluate(model.linear, splits["valid"]))


# Divergence


def refuses_nan(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError("Input contains NaN.")
    return float((outputs[:, 0] - targets).abs().mean())


def looks_away(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(((outputs[:, 0] > 0) == (targets > 0)).float().mean())


@pytest.mark.parametrize("metric", [refuses_nan, looks_away])
def test_model_of_nan_is_pruned_whatever_the_metric_says(regression, run_trial, metric):
    space = SearchSpace({"optimizer": "sgd", "lr": 1e30})
    objective = regression(search_space=space, metric=metric, direction="maximize")
    trial = run_trial(objective)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY].startswith("diverged: nan")
    with pytest.raises(Diverged):
        objective.fit(space.defaults(), seed=0)


class BreaksOn(nn.Module):
    """Gives NaN for rows that only `score` has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs) / (inputs[:, :1] < 100).float().where(
            inputs[:, :1] < 100, torch.nan
        )


def test_nan_on_score_alone_is_pruned_and_records_nothing(regression, run_trial, splits):
    inputs, targets = splits["score"]
    far = np.where(np.arange(30)[:, None] == 3, 1000.0, inputs)
    objective = regression(
        lambda _: BreaksOn(),
        score=(far, targets),
        metric=looks_away,
        direction="maximize",
        metrics=["mae"],
    )
    trial = run_trial(objective)
    assert trial.state == TrialState.PRUNED
    assert METRICS_KEY not in trial.user_attrs
    values = objective.evaluate(BreaksOn(), (far, targets))
    assert list(values) == ["looks_away", "mae"]
    assert all(math.isnan(value) for value in values.values())


def test_error_of_a_metric_on_finite_outputs_still_fails_the_trial(regression, random_study):
    def refuses_all(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        raise ValueError("no rows of class 1")

    objective = regression(metric=refuses_all, direction="minimize")
    with pytest.raises(ValueError, match="no rows of class 1"):
        objective.fit(objective.search_space.defaults(), seed=0)
