"""Numbers and changes as results and reports write them."""

from __future__ import annotations

import math

import pytest

from hpolab.analysis.wording import change, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (math.nan, "NaN"),
        (-math.inf, "-\N{INFINITY}"),
        (3, "3"),
        ("a" * 99, None),
    ],
)
def test_values_are_short(value, text):
    assert short(value) == text or (text is None and len(short(value)) == 80)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (1e-3, 5e-3, "\N{MULTIPLICATION SIGN} 5"),
        (4, 1, "\N{DIVISION SIGN} 4"),
        (1, True, "changed"),
    ],
)
def test_change_is_said_by_a_factor_where_it_is_large(before, after, words):
    assert change(before, after) == words
