"""What the trials around a configuration show, and how much of it is noise."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import create_trial

from hpolab import recommend


def test_repeated_configurations_tell_the_noise(study_of_rows):
    rows = [(float(v), {"lr": 0.1}) for v in (1.0, 2.0, 3.0, 4.0)] + [(10.0, {"lr": 0.01})]
    noise = recommend(study_of_rows(rows)).noise
    assert noise.deviation == pytest.approx(np.std([1, 2, 3, 4], ddof=1))
    assert noise.source == "4 trials of repeated configurations"


@pytest.mark.parametrize(("lr", "ends"), [(1e-4, True), (1.0, True), (0.01, False)])
def test_end_of_a_range_is_said(study_of_rows, lr, ends):
    rows = [(0.5, {"lr": 0.1}), (0.6, {"lr": 0.05}), (0.9, {"lr": lr})]
    assert ("At the end of its range: lr." in recommend(study_of_rows(rows)).best.risk) == ends


def test_one_disaster_does_not_pull_its_neighbors_down(plateau_and_peak):
    study = plateau_and_peak()
    params = {"lr": 10**-3.0}
    study.add_trial(
        create_trial(value=-1e9, params=params, distributions=study.trials[0].distributions)
    )
    assert 10**-3.3 <= recommend(study).robust.params["lr"] <= 10**-2.7
