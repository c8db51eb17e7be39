"""Arguments of the objective: what they are read as."""

from __future__ import annotations

from typing import Any

import pytest

from hpolab import HpolabError
from hpolab.lightgbm.arguments import (
    open_objective,
    refuse_checkpoints,
    same_in_all_trials,
    usual_rounds,
)


def halves(predictions: Any, data: Any) -> tuple[Any, Any]:
    return predictions / 2, predictions / 2


def test_an_objective_is_a_name_or_a_function():
    assert open_objective(" Binary") == ("binary", None)
    assert open_objective(halves) == ("custom", halves)


@pytest.mark.parametrize("objective", ["", "none", "CUSTOM", "binary auc", None, 3, ["binary"]])
def test_anything_else_is_refused(objective):
    with pytest.raises(HpolabError, match="`objective` must be"):
        open_objective(objective)


def test_what_is_given_wins_over_what_trials_have_in_common():
    common = same_in_all_trials({"num_threads": 4, "force_col_wise": True}, {"max_bin": 15})
    assert common["num_threads"] == 4
    assert common["max_bin"] == 15
    assert not common["force_row_wise"]
    assert same_in_all_trials({"max_bin": 7}, {"max_bin": 15})["max_bin"] == 7


def test_rounds_go_with_the_rows():
    assert [usual_rounds(n, 5) for n in (10, 8_000, 20_000, 80_000, 10**7)] == [
        5_000,
        5_000,
        2_000,
        500,
        500,
    ]


def test_few_rows_of_many_columns_get_fewer_rounds_and_never_less_than_a_thousand():
    assert [usual_rounds(2_400, n) for n in (1, 20, 100, 1_000)] == [5_000, 5_000, 1_153, 1_000]
    # Where the rows alone give fewer, the columns change nothing.
    assert usual_rounds(100_000, 1_000) == 500


@pytest.mark.parametrize("name", ["checkpoints", "checkpoint_every", "checkpoint_seconds"])
def test_checkpoints_are_refused_by_name(name):
    with pytest.raises(HpolabError, match=f"`{name}` must be left out"):
        refuse_checkpoints({name: 1})
