"""Rows of a table of ranges: when one counts, and the space that a table makes."""

from __future__ import annotations

import pytest

from hpolab import Prior, SearchSpace
from hpolab.search_space.rows import Row, space_of

GAMMA = Row((0.1, 1.0), 0.5, "a paper", only_if=("kernel", ("rbf", "poly")))


@pytest.mark.parametrize(
    ("given", "applies"),
    [({}, True), ({"kernel": "poly"}, True), ({"kernel": "linear"}, False), ({"C": 1.0}, True)],
)
def test_a_row_counts_where_the_argument_that_it_hangs_on_has_one_of_its_values(
    given: dict[str, object], applies: bool
) -> None:
    assert GAMMA.applies_to(given) is applies


def test_a_table_is_the_search_space_of_its_rows_and_fixed_values() -> None:
    prior = Prior(0.95, 2.0, "a table")
    beta = Row((0.9, 0.999), 0.99, "a rule", one_minus=True, prior=prior)
    assert space_of({"gamma": GAMMA, "beta": beta, "freq": 1}) == SearchSpace(
        {"gamma": (0.1, 1.0), "beta": (0.9, 0.999), "freq": 1},
        defaults={"gamma": 0.5, "beta": 0.99},
        sources={"gamma": "a paper", "beta": "a rule"},
        one_minus=["beta"],
        priors={"beta": prior},
    )
