"""What every trainer checks of its parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpolab import InvalidArgument, InvalidType
from hpolab.recommender.trainer import count_param, number_param, param


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, InvalidArgument, "`k` must be 1 or above, got 0"),
        (2.0, InvalidType, "`k` must be an int, got float"),
        (True, InvalidType, "`k` must be an int, got bool"),
    ],
)
def test_count_below_one_or_of_another_type_is_refused(value, error, message):
    assert count_param({"k": 3}, "k") == 3
    with pytest.raises(error, match=message):
        count_param({"k": value}, "k")


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0.0, InvalidArgument, "`l2` must be above 0, got 0.0"),
        (math.nan, InvalidArgument, "`l2` must be finite, got nan"),
        (math.inf, InvalidArgument, "`l2` must be finite, got inf"),
        ("0.1", InvalidType, "`l2` must be a number, got str"),
        (True, InvalidType, "`l2` must be a number, got bool"),
    ],
)
def test_number_out_of_its_range_or_of_another_type_is_refused(value, error, message):
    assert number_param({"l2": np.float32(0.5)}, "l2", above=0) == 0.5
    assert number_param({"l2": 0}, "l2", at_least=0) == 0
    with pytest.raises(error, match=message):
        number_param({"l2": value}, "l2", above=0)


def test_missing_parameter_is_named_with_those_that_came():
    with pytest.raises(InvalidArgument, match="`l2` must be among the parameters, got 'a', 'b'"):
        param({"b": 1, "a": 2}, "l2")
