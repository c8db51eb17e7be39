"""sweep: stage by stage from the best so far, resumable, settings and choices included."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from optuna.storages import InMemoryStorage

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    SearchSpace,
    StudyNotFound,
    load_study,
    load_sweep,
    open_storage,
    optimizer_space,
    sweep,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter

BEST_LR = {"adam": 1e-3, "sgd": 1e-1}
SPACE = optimizer_space(["adam", "sgd"]) | SearchSpace({"size": (4, 64), "l2": (0.0, 1.0)})


class Model(Objective):
    """SGD's best is better than Adam's; at Adam's learning rate it is worse."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(search_space=SPACE, direction="maximize", max_steps=4)
        self.seconds = seconds
        self.calls: list[Mapping[str, Any]] = []

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        self.calls.append(params)
        time.sleep(self.seconds)
        distance = abs(math.log10(params["lr"] / BEST_LR[params["optimizer"]]))
        value = 0.5 * (params["optimizer"] == "sgd") - distance
        value -= abs(params["size"] - 16) / 100 + abs(params["l2"] - 0.1 * params["size"] / 16)
        for step in reporter.steps(self.max_steps):
            reporter.report(value + min(step, 5) / 100, step)
        return reporter.best_value


STAGES = {
    "optimizer": {"optimizer": ["adam", "sgd"]},
    "epochs": {"max_steps": [2, 8]},
    "learning rate": {"lr": [1e-3, 1e-2, 1e-1]},
    "patience": {"patience": [None, 1]},
    "size and l2": {"size": [8, 16], "l2": [0.05, 0.1]},
}


def test_each_stage_starts_from_the_best_so_far():
    found = sweep(Model(), STAGES, study_name="s", storage="memory://", start={"size": 32})
    first, epochs, rates, patience, both = found.stages
    assert [trial.changed for trial in first.trials] == [
        {"optimizer": "adam"},
        {"optimizer": "sgd"},
    ]
    assert {trial.params["size"] for trial in first.trials} == {32}
    assert [trial.params["lr"] for trial in first.trials] == [
        optimizer_space(name).defaults()["lr"] for name in ("adam", "sgd")
    ]
    winner = first.best.params["optimizer"]
    assert {trial.params["optimizer"] for trial in epochs.trials} == {winner}
    assert epochs.best.changed == {"max_steps": 8}
    assert {trial.settings["max_steps"] for trial in (*rates.trials, *both.trials)} == {8}
    assert rates.best.changed == {"lr": BEST_LR[winner]}
    assert len(patience.trials) == 2
    assert len(both.trials) == 4
    assert found.best == both.best
    assert both.best.changed == {"size": 16, "l2": 0.1}
    assert "size 16, l2 0.1" in str(found)


def test_stage_that_brings_nothing_leaves_things_as_they_are():
    stages = {"good": {"size": [16]}, "bad": {"size": [64]}, "l2": {"l2": [0.1]}}
    found = sweep(Model(), stages, study_name="s", storage="memory://")
    assert found.stages[1].best.params["size"] == 64
    assert found.best.params["size"] == 16


def test_optimizer_may_come_later_each_with_its_own_defaults():
    stages = {"size": {"size": [16, 32]}, "optimizer": {"optimizer": ["adam", "sgd"]}}
    found = sweep(Model(), stages, study_name="s", storage="memory://")
    assert [trial.params["size"] for trial in found.stages[1].trials] == [16, 16]
    assert {trial.params["optimizer"] for trial in found.stages[0].trials} == {"adam"}


def test_sweep_goes_on_where_it_was(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    model = Model()
    part = sweep(model, dict(list(STAGES.items())[:2]), study_name="s", storage=url)
    n_calls = len(model.calls)
    whole = sweep(model, STAGES, study_name="s", storage=url)
    assert len(model.calls) == n_calls + 3 + 2 + 4
    assert whole.stages[:2] == part.stages
    assert sweep(model, STAGES, study_name="s", storage=url) == whole
    assert len(load_study("s-size and l2", storage=url).trials) == 4
    assert load_sweep("s", storage=url) == whole
    assert [len(stage.studies) for stage in whole.stages] == [1, 2, 1, 2, 1]


def test_sweep_that_is_not_there_or_has_no_value_is_not_found(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(StudyNotFound, match="there is no such file"):
        load_sweep("s", storage=url)
    open_storage(url)
    with pytest.raises(StudyNotFound, match="No sweep 's' in the storage"):
        load_sweep("s", storage=url)
    lost = FunctionObjective(
        lambda params, reporter: math.nan, search_space=SPACE, direction="maximize", max_steps=1
    )
    with pytest.raises(InvalidArgument, match="must begin with one that succeeds"):
        sweep(lost, {"size": {"size": [8]}}, study_name="s", storage=url)
    with pytest.raises(StudyNotFound, match="has succeeded yet"):
        load_sweep("s", storage=url)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({}, "`stages` must be stage -> parameter -> values"),
        ({"a": {}}, "must have values to try in each, got none in 'a'"),
        ({"a": {"lr": []}}, "must have values to try in each, got none in 'a'"),
        ({"a": {"sizes": [1]}}, "Did you mean 'size'"),
    ],
)
def test_bad_stages_are_refused(stages, message):
    with pytest.raises(InvalidArgument, match=message):
        sweep(Model(), stages, study_name="s", storage="memory://")


def test_what_is_no_objective_is_refused():
    with pytest.raises(InvalidType, match="`objective` must be an Objective, got function"):
        sweep(lambda trial: 0.0, STAGES, study_name="s", storage="memory://")


def test_sweep_that_runs_out_of_time_ends_with_an_unfinished_stage_and_goes_on():
    storage = InMemoryStorage()
    stages = {"size": {"size": [8, 16, 32]}, "l2": {"l2": [0.05, 0.1]}}
    whole = sweep(Model(), stages, study_name="s", storage="memory://")
    slow = Model(seconds=0.2)
    part = sweep(slow, stages, study_name="s", storage=storage, timeout_seconds=0.3)
    assert [stage.name for stage in part.stages] == ["size"]
    resumed = sweep(Model(), stages, study_name="s", storage=storage)
    assert [len(stage.trials) for stage in resumed.stages] == [3, 2]
    assert resumed.best.params == whole.best.params


def test_frame_of_a_sweep_has_a_row_for_each_trial():
    found = sweep(Model(), STAGES, study_name="s", storage="memory://")
    frame = found.to_frame()
    assert len(frame) == sum(len(stage.trials) for stage in found.stages)
    assert frame["is_best"].sum() == len(STAGES)


def test_sweep_with_other_stages_is_refused_by_an_argument_of_sweep():
    storage = InMemoryStorage()
    sweep(Model(), {"size": {"size": [8, 16]}}, study_name="s", storage=storage)
    with pytest.raises(RecipeMismatch, match=r"Sweep 's' exists, and stage 'size'.*") as refused:
        sweep(Model(), {"size": {"size": [8, 16, 32]}}, study_name="s", storage=storage)
    assert "study_name='s-2'" in str(refused.value)


def square(params: Mapping[str, Any], reporter: Reporter) -> float:
    return (params["x"] - 3) ** 2


def cube(params: Mapping[str, Any], reporter: Reporter) -> float:
    return (params["x"] - 3) ** 3


def parabola(function: Any = square, **options: Any) -> FunctionObjective:
    space = SearchSpace({"x": (0.0, 9.0), "y": (0.0, 9.0)})
    settings = {"search_space": space, "direction": "minimize", "max_steps": 1}
    return FunctionObjective(function, **settings | options)


@pytest.mark.parametrize(
    "other", [parabola(cube), parabola(facts={"data": "b"})], ids=["function", "data"]
)
def test_sweep_of_another_function_or_data_is_refused(other):
    storage = InMemoryStorage()
    stages = {"one": {"x": [1.0, 2.0]}}
    sweep(parabola(), stages, study_name="s", storage=storage)
    with pytest.raises(RecipeMismatch, match="Sweep 's' exists"):
        sweep(other, stages, study_name="s", storage=storage)


def test_corrected_sweep_runs_its_own_points_after_a_first_mistake(monkeypatch):
    storage = InMemoryStorage()
    with monkeypatch.context() as patch:
        patch.setattr("hpolab.analysis.trained.sweep.run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sweep(parabola(), {"one": {"x": [7.0, 8.0]}}, study_name="s", storage=storage)
    found = sweep(parabola(), {"one": {"x": [1.0, 2.0]}}, study_name="s", storage=storage)
    assert [trial.params["x"] for trial in found.stages[0].trials] == [1.0, 2.0]


def test_mistaken_grid_leaves_nothing_in_a_stage_that_was_run():
    storage = InMemoryStorage()
    stages = {"one": {"x": [1.0, 2.0]}}
    sweep(parabola(), stages, study_name="s", storage=storage)
    with pytest.raises(RecipeMismatch):
        sweep(parabola(), {"one": {"x": [1.0, 2.0, 4.0]}}, study_name="s", storage=storage)
    assert len(load_study("s-one", storage=storage).trials) == 2
    assert len(sweep(parabola(), stages, study_name="s", storage=storage).stages[0].trials) == 2


def test_names_of_later_stages_and_of_the_start_are_checked_first():
    storage = InMemoryStorage()
    stages = {"one": {"x": [1.0]}, "two": {"z": [1.0]}}
    with pytest.raises(InvalidArgument, match="'z'"):
        sweep(parabola(), stages, study_name="s", storage=storage)
    with pytest.raises(InvalidArgument, match=r"`start` must be one of .* got 'xx'"):
        sweep(parabola(), {"one": {"y": [1.0]}}, study_name="s", storage=storage, start={"xx": 1.0})
    with pytest.raises(StudyNotFound):
        load_study("s-one", storage=storage)


def test_patience_of_a_stage_ends_its_trainings():
    def worsens(params: Mapping[str, Any], reporter: Reporter) -> float:
        for step in reporter.steps(6):
            reporter.report(step, step)
        return reporter.best_value

    objective = parabola(worsens, max_steps=6)
    storage = InMemoryStorage()
    sweep(objective, {"one": {"patience": [None, 2]}}, study_name="s", storage=storage)
    lengths = [
        len(load_study(f"s-one-patience={value}", storage=storage).trials[0].intermediate_values)
        for value in (None, 2)
    ]
    assert lengths == [6, 3]
