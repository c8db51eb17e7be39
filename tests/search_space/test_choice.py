"""A choice: its branches, their names and addresses, and what is refused of them."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FixedTrial

from hpolab import InvalidArgument, InvalidType, SearchSpace


def test_branches_share_no_distribution(flat: SearchSpace, branched: SearchSpace) -> None:
    assert list(branched.distributions()) == [
        "optimizer",
        "adam.lr",
        "adam.one_minus_beta",
        "sgd.lr",
    ]
    assert branched.sources()["sgd.lr"] == "a rule"
    assert branched.conditional
    assert not flat.conditional


def test_a_branchs_params_reach_the_trainer_without_its_prefix(branched: SearchSpace) -> None:
    space = branched
    assert space.suggest(FixedTrial({"optimizer": "sgd", "sgd.lr": 0.5})) == {
        "optimizer": "sgd",
        "lr": 0.5,
    }
    assert space.to_trial({"optimizer": "adam", "lr": 1e-3, "beta": 0.9}) == {
        "optimizer": "adam",
        "adam.lr": 1e-3,
        "adam.one_minus_beta": 0.1,
    }


def test_default_of_a_choice_is_its_first_branchs(branched: SearchSpace) -> None:
    assert branched.defaults() == {"optimizer": "adam", "lr": 1e-3, "beta": 0.9, "eps": 1e-8}


def test_override_reaches_into_branches(branched: SearchSpace) -> None:
    space = branched.override(**{"adam.lr": (1e-5, 1e-4), "sgd.lr": 0.1})
    assert list(space.distributions()) == ["optimizer", "adam.lr", "adam.one_minus_beta"]
    assert space.distributions()["adam.lr"] == FloatDistribution(1e-5, 1e-4)


def test_override_of_a_choice_keeps_branches(branched: SearchSpace) -> None:
    assert branched.override(optimizer="sgd", **{"sgd.lr": (0.1, 0.5)}) == SearchSpace(
        {"optimizer": "sgd", "lr": FloatDistribution(0.1, 0.5)},
        defaults={"lr": 0.5},
        sources={"lr": "given to `override`"},
    )
    kept = branched.override(optimizer=["sgd"])
    assert list(kept.distributions()) == ["optimizer", "sgd.lr"]


@pytest.mark.parametrize("kept", [[], ["adam", "adam"], "adan", ["adan"]])
def test_bad_override_of_a_choice_is_refused(branched: SearchSpace, kept: object) -> None:
    with pytest.raises(InvalidArgument, match="optimizer"):
        branched.override(optimizer=kept)


def test_plain_name_of_a_branchs_parameter_is_not_an_address(branched: SearchSpace) -> None:
    with pytest.raises(InvalidArgument, match=r"adam\.lr"):
        branched.override(lr=(0.1, 0.2))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"parameters": [{"name": "x"}]},
        {"parameters": [{"name": "x", "kind": "rang"}]},
        {"parameters": 3},
        {"parameters": [{"name": "x", "kind": "range", "distribution": {"name": "No"},
                         "default": 1, "source": "", "one_minus": False}]},
    ],
)  # fmt: skip
def test_a_dict_of_another_kind_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        SearchSpace.from_dict(values)


@pytest.mark.parametrize(
    ("branches", "error"),
    [
        ({}, InvalidArgument),
        ({"a": 3}, InvalidType),
        ({"a.b": SearchSpace({})}, InvalidArgument),
        ({"": SearchSpace({})}, InvalidArgument),
        ({"a": SearchSpace({"kind": "b"})}, InvalidArgument),
        ({"a": SearchSpace({"kind": (1, 2)})}, InvalidArgument),
    ],
)
def test_bad_branches_are_refused(branches: dict[str, SearchSpace], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"kind|branches"):
        SearchSpace.choice("kind", branches)


def test_a_branch_may_be_a_plain_dict() -> None:
    ranges = {"lr": (0.1, 1.0)}
    given = SearchSpace.choice("kind", {"a": ranges, "b": {}})
    assert given == SearchSpace.choice("kind", {"a": SearchSpace(ranges), "b": SearchSpace({})})


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 1e-3},
        {"optimizer": "adan", "lr": 1e-3},
        {"optimizer": "sgd", "lr": 0.5, "beta": 0.9},
        {"optimizer": "sgd"},
    ],
)
def test_params_of_another_branch_are_refused(
    branched: SearchSpace, params: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument):
        branched.to_trial(params)


@pytest.mark.parametrize("params", [{}, {"optimizer": "adan"}, {"optimizer": "sgd", "lr": 0.1}])
def test_incomplete_trial_params_are_refused(
    branched: SearchSpace, params: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument):
        branched.from_trial(params)
