"""What each figure shows, before it is drawn: which trials, in which units, how far."""

from __future__ import annotations

import math

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpolab import FunctionObjective, SearchSpace, sweep, terminal_report
from hpolab.report import plots
from hpolab.report.reading import read


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_course_of_a_sweep_passes_over_what_has_no_value(direction):
    def train(params, reporter):
        return params["x"] if params["x"] > 0.1 else math.nan

    objective = FunctionObjective(
        train, search_space=SearchSpace({"x": (0.0, 1.0)}), direction=direction, max_steps=1
    )
    values = {"one": {"x": [0.5, 0.0]}, "two": {"x": [0.05, 0.4, 0.6, 0.5]}}
    found = sweep(
        objective, values, study_name="s", storage=InMemoryStorage(), show_progress_bar=False
    )
    shown = plots.course(found)
    assert [series.x for series in shown.series] == [[1.0], [4.0, 5.0, 6.0]]
    changes = [5] if direction == "maximize" else [4]
    assert shown.best_counts == [1, *changes, 6]
    assert shown.best_values[-1] == found.best.value
    assert "1 without a value" in terminal_report(found)


@pytest.mark.parametrize(
    ("direction", "values", "outside"),
    [
        ("minimize", [1.0, 1.1, 1.2, 1.3, 900.0], 1),
        ("maximize", [1.0, 1.1, 1.2, 1.3, -900.0], 1),
        ("maximize", [1.0, 1.1, 1.2, 1.3, 900.0], 0),  # the best one is never cut off
        ("minimize", [1.0, 1.1, 1.2, 1.3], 0),
    ],
)
def test_far_worse_values_are_outside_the_picture(direction, values, outside):
    shown = plots.view(values, maximize=direction == "maximize")
    assert shown.n_outside == outside
    if outside:
        assert shown.low < min(sorted(values, key=abs)[:4])


def test_pruned_curves_are_told_from_complete_ones(tuned):
    shown = plots.curves(read(tuned))
    kinds = {curve.number: curve.kind for curve in shown.curves}
    assert kinds[0] == "baseline"
    assert kinds[tuned.best_trial.number] == "best"
    for trial in tuned.trials:
        if trial.state == TrialState.PRUNED and trial.intermediate_values:
            assert kinds[trial.number] == "pruned"


def test_parameters_that_most_contenders_tune_come_first(comparison):
    readings = {name: read(each.study) for name, each in comparison.contenders.items()}
    names = plots.tuned_parameters(readings)
    assert set(names[:3]) == {"lr", "hidden", "activation"}
    assert {"beta1", "beta2"} <= set(names[3:])
    shown = plots.slice_of_many(comparison, readings, "lr")
    assert [series.name for series in shown.series] == ["adam", "sgd"]
    own = plots.slice_of_many(comparison, readings, "beta1")
    assert [series.name for series in own.series] == ["adam"]


def test_best_trial_of_each_contender_is_drawn_by_step(comparison):
    readings = {name: read(each.study) for name, each in comparison.contenders.items()}
    shown = plots.best_curves(comparison, readings)
    for series, name in zip(shown.series, ["adam", "sgd"], strict=True):
        best = comparison.contenders[name].study.best_trial
        assert series.name == name
        assert series.y == [best.intermediate_values[step] for step in range(8)]
