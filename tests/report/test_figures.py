"""Figures: their axes speak as the trainer does and stay readable."""

from __future__ import annotations

import pytest

from hpolab import import_runs
from hpolab.report import plots
from hpolab.report.figures import draw_slice
from hpolab.report.reading import read


def test_slice_of_a_decay_rate_runs_in_trainer_units(tuned):
    reading = read(tuned)
    shown = plots.slice_of(reading, "one_minus_beta2")
    assert shown.axis == plots.Axis("beta2", log=True, one_minus=True)
    axis = draw_slice(shown)["layout"]["xaxis"]
    assert axis["autorange"] == "reversed"
    assert all(
        float(text) == pytest.approx(1 - value)
        for value, text in zip(axis["tickvals"], axis["ticktext"], strict=True)
    )
    assert len(axis["tickvals"]) >= 2


@pytest.mark.parametrize(("n_choices", "angle"), [(3, 0), (9, -40)])
def test_names_that_would_run_into_each_other_stand_at_a_slant(n_choices, angle):
    rows = [{"optimizer": f"name-{i}", "y": i} for i in range(n_choices)]
    reading = read(import_runs(rows, study_name="many", value="y", direction="maximize"))
    axis = draw_slice(plots.slice_of(reading, "optimizer"))["layout"]["xaxis"]
    assert axis["tickangle"] == angle
