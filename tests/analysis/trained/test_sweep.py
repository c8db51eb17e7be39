"""sweep: stage by stage from the best so far, resumable, settings and choices included."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    Objective,
    SearchSpace,
    StudyNotFound,
    load_study,
    load_sweep,
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

    def __init__(self) -> None:
        super().__init__(search_space=SPACE, direction="maximize", max_steps=4)
        self.calls: list[Mapping[str, Any]] = []

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        self.calls.append(params)
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
    found = sweep(Model(), STAGES, storage="memory://", start={"size": 32})
    first, epochs, rates, patience, both = found.stages
    assert [tried.changed for tried in first.tried] == [{"optimizer": "adam"}, {"optimizer": "sgd"}]
    assert {tried.params["size"] for tried in first.tried} == {32}
    assert [tried.params["lr"] for tried in first.tried] == [
        optimizer_space(name).defaults()["lr"] for name in ("adam", "sgd")
    ]
    winner = first.best.params["optimizer"]
    assert {tried.params["optimizer"] for tried in epochs.tried} == {winner}
    assert epochs.best.changed == {"max_steps": 8}
    assert {tried.settings["max_steps"] for tried in (*rates.tried, *both.tried)} == {8}
    assert rates.best.changed == {"lr": BEST_LR[winner]}
    assert len(patience.tried) == 2
    assert len(both.tried) == 4
    assert found.best == both.best
    assert both.best.changed == {"size": 16, "l2": 0.1}
    assert "size 16, l2 0.1" in str(found)


def test_stage_that_brings_nothing_leaves_things_as_they_are():
    stages = {"good": {"size": [16]}, "bad": {"size": [64]}, "l2": {"l2": [0.1]}}
    found = sweep(Model(), stages, storage="memory://")
    assert found.stages[1].best.params["size"] == 64
    assert found.best.params["size"] == 16


def test_optimizer_may_come_later_each_with_its_own_defaults():
    stages = {"size": {"size": [16, 32]}, "optimizer": {"optimizer": ["adam", "sgd"]}}
    found = sweep(Model(), stages, storage="memory://")
    assert [tried.params["size"] for tried in found.stages[1].tried] == [16, 16]
    assert {tried.params["optimizer"] for tried in found.stages[0].tried} == {"adam"}


def test_sweep_goes_on_where_it_was(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    model = Model()
    part = sweep(model, dict(list(STAGES.items())[:2]), storage=url)
    n_calls = len(model.calls)
    whole = sweep(model, STAGES, storage=url)
    assert len(model.calls) == n_calls + 3 + 2 + 4
    assert whole.stages[:2] == part.stages
    assert sweep(model, STAGES, storage=url) == whole
    assert len(load_study("sweep-size and l2", storage=url).trials) == 4
    assert load_sweep("sweep", storage=url) == whole
    assert [len(stage.studies) for stage in whole.stages] == [1, 2, 1, 2, 1]


def test_sweep_that_is_not_there_or_has_no_value_is_not_found(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(StudyNotFound, match="No sweep 'sweep' in the storage"):
        load_sweep("sweep", storage=url)
    lost = FunctionObjective(
        lambda params, reporter: math.nan, search_space=SPACE, direction="maximize", max_steps=1
    )
    with pytest.raises(InvalidArgument, match="must begin with one that succeeds"):
        sweep(lost, {"size": {"size": [8]}}, storage=url)
    with pytest.raises(StudyNotFound, match="has succeeded yet"):
        load_sweep("sweep", storage=url)


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
        sweep(Model(), stages, storage="memory://")


def test_what_is_no_objective_is_refused():
    with pytest.raises(InvalidType, match="`objective` must be an Objective, got function"):
        sweep(lambda trial: 0.0, STAGES, storage="memory://")
