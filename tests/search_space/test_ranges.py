"""What a user writes for a range: which distribution it makes, and when its scale is doubted."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpolab import SearchSpace, lightgbm_space, optimizer_space


def made(spec: Any) -> BaseDistribution:
    return SearchSpace({"x": spec}).distributions()["x"]


@pytest.mark.parametrize(
    ("spec", "distribution"),
    [
        ((0.1, 0.5), FloatDistribution(0.1, 0.5)),
        ((0, 0.5), FloatDistribution(0.0, 0.5)),
        ((1e-4, 1e-2, "log"), FloatDistribution(1e-4, 1e-2, log=True)),
        ((1e-4, 1e-2, "linear"), FloatDistribution(1e-4, 1e-2)),
        ((1, 0.5e3, "log"), FloatDistribution(1.0, 500.0, log=True)),
        ((8, 512), IntDistribution(8, 512)),
        ((8, 512, "log"), IntDistribution(8, 512, log=True)),
        ((8, 512, "linear"), IntDistribution(8, 512)),
        ([8, 512], CategoricalDistribution([8, 512])),
        (["sqrt", "log2", "log"], CategoricalDistribution(["sqrt", "log2", "log"])),
    ],
)
def test_a_range_names_its_scale(spec: Any, distribution: BaseDistribution) -> None:
    assert made(spec) == distribution


HALVES = FloatDistribution(0.0, 1.0, step=0.5)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (FloatDistribution(1e-3, 0.1), (1e-5, 0.1, "log"), FloatDistribution(1e-5, 0.1, log=True)),
        (FloatDistribution(1e-3, 0.1, log=True), (0.0, 0.1, "linear"), FloatDistribution(0.0, 0.1)),
        (HALVES, (0.5, 2.0, "log"), FloatDistribution(0.5, 2.0, log=True)),
        (HALVES, (0.5, 2.0, "linear"), FloatDistribution(0.5, 2.0, step=0.5)),
        (IntDistribution(8, 64, step=8), (8, 128, "log"), IntDistribution(8, 128, log=True)),
        (IntDistribution(8, 64, log=True), (0, 10, "linear"), IntDistribution(0, 10)),
        (IntDistribution(8, 64, log=True), (4.0, 16.0), IntDistribution(4, 16, log=True)),
        (1e-8, (1e-9, 1e-7, "log"), FloatDistribution(1e-9, 1e-7, log=True)),
        (["a", "b"], (1, 8, "log"), IntDistribution(1, 8, log=True)),
    ],
)  # fmt: skip
def test_override_changes_the_scale_only_where_it_is_named(
    before: Any, change: Any, after: Any
) -> None:
    space = SearchSpace({"x": before}).override(x=change)
    assert space.distributions()["x"] == after
    assert space.to_trial(space.defaults())


def test_log_of_a_range_near_one_is_the_scale_of_one_minus_value() -> None:
    adam = optimizer_space("adam")
    assert adam.override(beta2=(0.9, 0.999, "log")) == adam.override(beta2=(0.9, 0.999))
    plain = adam.override(beta2=(0.9, 0.999, "linear"))
    assert plain.distributions()["beta2"] == FloatDistribution(0.9, 0.999)
    given = SearchSpace({"rho": (0.5, 0.999, "log")}, one_minus=["rho"])
    assert given == SearchSpace({"rho": (0.5, 0.999)}, one_minus=["rho"])
    with pytest.raises(ValueError, match="leave the name out of `one_minus`"):
        SearchSpace({"rho": (0.5, 0.999, "linear")}, one_minus=["rho"])


WIDE = [(1e-5, 1e-1), (1e-4, 1e-1), (1e-3, 1.0), (1, 1000), FloatDistribution(1e-5, 1e-1),
        IntDistribution(1, 5000)]  # fmt: skip


@pytest.mark.parametrize("spec", WIDE)
def test_a_linear_range_over_three_decades_shows_how_a_log_scale_is_written(spec: Any) -> None:
    low, high = spec if isinstance(spec, tuple) else (spec.low, spec.high)
    with pytest.warns(UserWarning, match="'x' has a linear scale") as caught:
        SearchSpace({"x": spec})
    assert len(caught) == 1
    assert f'({low!r}, {high!r}, "log")' in str(caught[0].message)
    assert f'({low!r}, {high!r}, "linear")' in str(caught[0].message)
    assert caught[0].filename == __file__
    for scale in ("log", "linear"):
        SearchSpace({"x": (low, high, scale)})


@pytest.mark.parametrize("spec", WIDE)
@pytest.mark.parametrize("before", [0.01, (0.0, 1.0), ["a"]])
def test_override_doubts_it_too(spec: Any, before: Any) -> None:
    with pytest.warns(UserWarning, match=r"'x' has a linear scale.*\"log\"\)"):
        SearchSpace({"x": before}).override(x=spec)


@pytest.mark.parametrize(
    "spec",
    [
        (1e-3, 0.9),
        (0.0, 1e4),
        (-1e-3, 1e3),
        (0, 5000),
        (1, 999),
        FloatDistribution(1.0, 5e3, step=1.0),
        IntDistribution(10, 20_000, step=10),
        FloatDistribution(1e-9, 1.0, log=True),
        [1e-5, 1e-1],
    ],
)
def test_other_ranges_are_not_doubted(spec: Any) -> None:
    assert SearchSpace({"x": spec})


def test_a_scale_is_doubted_once() -> None:
    with pytest.warns(UserWarning, match="linear"):
        space = SearchSpace({"x": (1e-5, 1e-1), "y": 1})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SearchSpace.from_dict(space.to_dict())
        (space.override(y=2) | {"z": 3}).fixed(y=1).without(["z"]).suggest  # noqa: B018
        SearchSpace.choice("kind", {"a": space}).override(kind="a")
    assert not caught


def test_a_range_of_a_log_scale_stays_on_it() -> None:
    assert lightgbm_space().override(learning_rate=(1e-4, 1.0)).distributions()[
        "learning_rate"
    ] == FloatDistribution(1e-4, 1.0, log=True)
