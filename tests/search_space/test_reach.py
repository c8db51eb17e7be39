"""What a parameter can stand beside: the values of a choice, branch by branch."""

from __future__ import annotations

import pytest

from hpolab import InvalidArgument, SearchSpace, optimizer_space, schedule_space
from hpolab.search_space.reach import (
    choices_of,
    corners,
    filled,
    in_trial_names,
    values_beside,
    values_of,
)

NESTED = SearchSpace.choice(
    "recipe",
    {"old": SearchSpace({"optimizer": "sgd", "lr": (0.1, 1.0)}), "new": optimizer_space("adam")},
)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (optimizer_space("adam"), {"adam"}),
        (optimizer_space(["adam", "sgd"]), {"adam", "sgd"}),
        (SearchSpace({"optimizer": ["adam", "rmsprop"]}), {"adam", "rmsprop"}),
        (NESTED, {"adam", "sgd"}),
        (SearchSpace.choice("recipe", {"a": {}, "b": {"optimizer": "sgd"}}), {None, "sgd"}),
        (SearchSpace({"lr": (0.1, 1.0)}), {None}),
    ],
)
def test_values_of_a_choice_are_those_of_all_branches(space, values):
    assert values_of(space, "optimizer") == values


def test_parameter_of_a_branch_stands_beside_its_own_value_alone():
    beside = values_beside(NESTED | {"hidden": 4}, "optimizer")
    assert beside["lr"] == {"old.lr": {"sgd"}, "new.lr": {"adam"}}
    assert beside["hidden"] == {"hidden": {"adam", "sgd"}}


def test_parameter_of_another_choice_stands_beside_all_values():
    space = optimizer_space(["adam", "sgd"]) | schedule_space(["step", "cosine"], max_epochs=9)
    assert values_beside(space, "optimizer")["gamma"] == {"step.gamma": {"adam", "sgd"}}
    assert values_beside(space, "schedule")["gamma"] == {"step.gamma": {"step"}}
    assert choices_of(space) == ["optimizer", "schedule"]


def test_corners_have_every_choice_and_both_ends():
    space = SearchSpace({"n": (1, 3), "act": ["relu", "elu", "gelu"]}) | NESTED
    found = list(corners(space))
    assert {each["act"] for each in found} == {"relu", "elu", "gelu"}
    assert {each["n"] for each in found} == {1, 3}
    assert {each["recipe"] for each in found} == {"old", "new"}
    assert list(corners(SearchSpace({"lr": 0.1}))) == [{"lr": 0.1}] * 2


def test_what_another_space_lacks_is_at_its_default_and_branches_stay_whole() -> None:
    space = optimizer_space(["sgd", "adam"]) | SearchSpace({"width": (8, 64)})
    defaults = space.to_trial(optimizer_space("adam").defaults() | {"width": 36})
    expected = defaults | {"adam.lr": 2e-3}
    assert filled(space, {"optimizer": "adam", "adam.lr": 2e-3, "depth": 3}) == expected
    assert filled(space, {}) == space.to_trial(space.defaults())


@pytest.mark.parametrize(
    "params",
    [{"optimizer": "adam", "adam.lr": 5.0}, {"optimizer": "lion"}, {"sgd.lr": "fast"}],
    ids=["outside", "choice", "type"],
)
def test_what_lies_outside_a_space_has_no_counterpart_in_it(params: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        filled(optimizer_space(["sgd", "adam"]), params)


def test_a_trainer_s_name_that_branches_share_means_none_of_them() -> None:
    space = optimizer_space(["sgd", "adam"])
    assert in_trial_names(space, {"optimizer": "adam", "lr": 0.002, "beta2": 0.99}) == {
        "optimizer": "adam",
        "adam.one_minus_beta2": 0.01,
    }
