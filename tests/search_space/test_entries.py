"""Entries: the default, grid and scale of a range, fixed values, and how both are overridden."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpolab import InvalidArgument, InvalidType, SearchSpace


def test_default_without_one_is_the_middle_on_the_ranges_own_scale() -> None:
    space = SearchSpace(
        {
            "log": FloatDistribution(1e-4, 1.0, log=True),
            "step": IntDistribution(10, 30, step=10),
            "beta": (0.9, 0.999),
        },
        one_minus=["beta"],
    )
    assert space.defaults() == {"log": pytest.approx(1e-2), "step": 20, "beta": pytest.approx(0.99)}


@pytest.mark.parametrize("bound", [0.9, 0.99, 0.999, 0.9999, 0.99999, 1 - 1e-9, 0.7, 1 / 3, 0.0])
def test_both_ends_of_a_one_minus_range_survive_the_way_back(bound: float) -> None:
    low, high = sorted([bound, 0.5 if bound != 0.5 else 0.6])
    space = SearchSpace({"beta": (low, high)}, one_minus=["beta"])
    for value in (low, high):
        (found,) = space.to_trial({"beta": value}).values()
        distribution = space.distributions()["one_minus_beta"]
        assert isinstance(distribution, FloatDistribution)
        assert distribution.low <= found <= distribution.high
        assert space.from_trial({"one_minus_beta": found}) == {"beta": value}


def test_grid_drops_whole_numbers_that_coincide() -> None:
    assert SearchSpace({"n": (1, 3)}).grid(10) == {"n": [1, 2, 3]}


def test_grid_holds_the_exact_ends_of_a_range() -> None:
    (points,) = SearchSpace({"x": FloatDistribution(1e-7, 0.3, log=True)}).grid(4).values()
    assert (points[0], points[-1]) == (1e-7, 0.3)


def test_trial_names_that_meet_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="'one_minus_beta' twice"):
        SearchSpace({"beta": (0.5, 0.9), "one_minus_beta": (0.1, 0.5)}, one_minus=["beta"])


def test_override_keeps_scale_and_type(flat: SearchSpace) -> None:
    space = flat.override(lr=(1e-6, 1.0), beta2=(0.9, 0.99999), hidden=(8, 16), dropout=(0, 1))
    assert space.distributions() == {
        "lr": FloatDistribution(1e-6, 1.0, log=True),
        "one_minus_beta2": FloatDistribution(1e-5, 0.1, log=True),
        "hidden": IntDistribution(8, 16),
        "dropout": FloatDistribution(0.0, 1.0),
        "activation": CategoricalDistribution(["relu", "gelu", None]),
    }
    assert space.sources()["lr"] == "given to `override`"


def test_override_moves_a_default_to_the_nearest_end(flat: SearchSpace) -> None:
    space = flat.override(lr=(1e-5, 1e-4), beta2=(0.99, 0.995), hidden=(200, 256))
    assert space.defaults()["lr"] == 1e-4
    assert space.defaults()["beta2"] == 0.995
    assert space.defaults()["hidden"] == 200
    assert flat.override(activation=["tanh", "gelu"]).defaults()["activation"] == "tanh"
    assert flat.override(hidden=[64, 136]).defaults()["hidden"] == 136


def test_override_fixes_and_opens(flat: SearchSpace) -> None:
    space = flat.override(lr=0.5, beta2=0.9, epochs=(5, 50))
    assert "lr" not in space.distributions()
    assert space.defaults()["lr"] == 0.5
    assert space.defaults()["beta2"] == 0.9
    assert space.distributions()["epochs"] == IntDistribution(5, 50)
    assert space.defaults()["epochs"] == 10
    opened = SearchSpace({"eps": 1e-8}).override(eps=FloatDistribution(1e-9, 1e-7, log=True))
    assert opened.defaults() == {"eps": 1e-8}


def test_override_takes_a_distribution_in_trainer_units(flat: SearchSpace) -> None:
    space = flat.override(beta2=FloatDistribution(0.9, 0.999))
    assert space.distributions()["beta2"] == FloatDistribution(0.9, 0.999)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"larning": 1}, "must be one of"),
        ({"lrr": 1}, "Did you mean 'lr'"),
        ({"lr": (1.0, 0.1)}, "`low` must be below `high`, got low=1.0, high=0.1 for 'lr'"),
        ({"lr": (0.0, 0.1)}, "above 0 on a log scale"),
        ({"hidden": (1.5, 3)}, "whole numbers"),
        ({"beta2": (0.9, 1.0)}, r"\[0, 1\)"),
        ({"activation": []}, "must not be empty"),
    ],
)
def test_bad_override_is_refused(
    flat: SearchSpace, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        flat.override(**changes)


@pytest.mark.parametrize("bounds", [(0.5, 1.0), (-0.1, 0.5), (0.5, 1.5)])
def test_one_minus_range_must_lie_below_one(bounds: tuple[float, float]) -> None:
    with pytest.raises(InvalidArgument, match=r"\[0, 1\)"):
        SearchSpace({"x": bounds}, one_minus=["x"])


@pytest.mark.parametrize("spec", [FloatDistribution(0.5, 0.9), 0.9, ["a"]])
def test_one_minus_takes_a_tuple_only(spec: object) -> None:
    with pytest.raises(InvalidType, match="'x'"):
        SearchSpace({"x": spec}, one_minus=["x"])


def test_default_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"defaults.*16 \.\. 256.*got 8"):
        SearchSpace({"hidden": (16, 256)}, defaults={"hidden": 8})


@pytest.mark.parametrize(("name", "error"), [("", InvalidArgument), (3, InvalidType)])
def test_names_are_strings(name: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        SearchSpace({name: 1})  # type: ignore[dict-item]


def test_fixed_values_may_be_left_out_of_params(flat: SearchSpace) -> None:
    params = flat.defaults()
    del params["epochs"]
    assert flat.to_trial(params) == flat.to_trial(flat.defaults())


def test_fixed_values_are_filled_in_and_others_kept(
    flat: SearchSpace, branched: SearchSpace
) -> None:
    assert flat.complete({"lr": 1.0}) == {"lr": 1.0, "epochs": 10}
    assert flat.complete({"lr": 1.0, "epochs": 20})["epochs"] == 20
    assert branched.complete({"optimizer": "adam", "lr": 0.1})["eps"] == 1e-8
    assert branched.complete({"lr": 0.1}) == {"lr": 0.1}
