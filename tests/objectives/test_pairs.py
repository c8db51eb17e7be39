"""A model is scored on a pair, or on inputs and targets, in every family that has pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from hpolab import (
    FunctionObjective,
    InvalidType,
    LightGBMObjective,
    RecommenderObjective,
    SklearnObjective,
    StagedObjective,
    TorchObjective,
    optimizer_space,
)

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 3)).astype(np.float32)
TARGETS = INPUTS.sum(axis=1)


def of_sklearn():
    return SklearnObjective(Ridge(), INPUTS, TARGETS, folds=3), (INPUTS, TARGETS)


def of_lightgbm():
    objective = LightGBMObjective(
        INPUTS,
        TARGETS,
        objective="regression",
        metric="l2",
        folds=3,
        max_rounds=3,
        search_space={"num_leaves": (4, 8)},
    )
    return objective, (INPUTS, TARGETS)


def of_torch():
    pair = torch.from_numpy(INPUTS), torch.from_numpy(TARGETS)[:, None]
    objective = TorchObjective(
        lambda params: nn.Linear(3, 1),
        train=(pair[0][:40], pair[1][:40]),
        valid=(pair[0][40:], pair[1][40:]),
        loss=nn.functional.mse_loss,
        max_epochs=1,
        metric="loss",
        direction="minimize",
        device="cpu",
        search_space=optimizer_space("adam"),
    )
    return objective, pair


@pytest.mark.parametrize("family", [of_sklearn, of_lightgbm, of_torch])
def test_inputs_and_targets_may_be_two_arguments(family):
    objective, (inputs, targets) = family()
    model = objective.fit(objective.search_space.defaults())
    whole = objective.evaluate(model, (inputs, targets))
    assert objective.evaluate(model, inputs, targets) == whole
    assert objective.evaluate(model, inputs, y=targets) == whole
    rows = objective.row_scores(model, (inputs, targets))
    np.testing.assert_array_equal(objective.row_scores(model, inputs, targets), rows)
    with pytest.raises(InvalidType, match=r"`X_test`. Did you mean `data`\?"):
        objective.evaluate(model, X_test=inputs)


@pytest.mark.parametrize("family", [FunctionObjective, RecommenderObjective, StagedObjective])
def test_families_of_other_data_say_what_they_take(family):
    with pytest.raises(InvalidType, match="takes `model`, `data` by position, got 1"):
        family.evaluate(object.__new__(family), None, INPUTS, TARGETS)
