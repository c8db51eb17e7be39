"""Places of configurations, on each range's own scale, and how far apart they are."""

from __future__ import annotations

import math

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpolab.search_space.places import distances, place_of, position

RANGES = {
    "kind": CategoricalDistribution(["a", "b", None]),
    "a.x": FloatDistribution(0.0, 2.0),
    "b.n": IntDistribution(1, 100, log=True),
}


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (FloatDistribution(-1.0, 1.0), 0.5, 0.75),
        (FloatDistribution(1e-4, 1.0, log=True), 1e-3, 0.25),
        (IntDistribution(1, 5), 2, 0.25),
        (IntDistribution(4, 4), 4, 0.0),
        (CategoricalDistribution(["a", "b"]), "b", 1.0),
    ],
    ids=["linear", "log", "int", "one-value", "choice"],
)
def test_a_value_has_its_place_on_the_scale_of_its_range(
    distribution: BaseDistribution, value: object, expected: float
) -> None:
    assert position(distribution, value) == pytest.approx(expected)


def test_a_parameter_that_a_configuration_lacks_has_no_place() -> None:
    place = place_of(RANGES, {"kind": "a", "a.x": 1.0})
    assert place[:2] == [0.0, 0.5]
    assert math.isnan(place[2])


@pytest.mark.parametrize(
    ("one", "other", "squares"),
    [
        ({"kind": "a", "a.x": 0.0}, {"kind": "a", "a.x": 0.0}, 0.0),
        ({"kind": "a", "a.x": 0.0}, {"kind": "a", "a.x": 1.0}, 0.25),
        ({"kind": "a", "a.x": 0.0}, {"kind": "b", "b.n": 10}, 3.0),
        ({"kind": "b", "b.n": 1}, {"kind": "b", "b.n": 100}, 1.0),
        ({"kind": None}, {"kind": "b", "b.n": 100}, 2.0),
        ({"kind": None}, {"kind": None}, 0.0),
    ],
    ids=["same", "number", "branches", "ends", "none", "none-both"],
)
def test_choices_and_missing_parameters_are_as_far_apart_as_the_ends_of_a_range(
    one: dict[str, object], other: dict[str, object], squares: float
) -> None:
    expected = math.sqrt(squares / 3)
    assert distances(RANGES, [one], [other]).tolist() == [[pytest.approx(expected)]]
    assert distances(RANGES, [other], [one]).tolist() == [[pytest.approx(expected)]]
