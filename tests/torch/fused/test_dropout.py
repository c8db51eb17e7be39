"""The masks of a stack are those that each member would draw alone."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d])
def test_masks_of_channels_are_those_of_the_trial_alone(
    kind, double, caplog, objective_of, study_of, check_same
):
    shape = (2, 3) if kind is nn.Dropout1d else (2, 3, 1)

    def model(params: dict[str, Any]) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, shape), kind(0.4), nn.Flatten(), nn.Linear(6, 2), nn.Dropout(0.0)
        )

    objective = objective_of(model=model)
    check_same(study_of(objective, 4, 4), study_of(objective, 4, None), 1e-8)
    assert "trains alone" not in caplog.text
