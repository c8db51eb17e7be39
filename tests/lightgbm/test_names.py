"""Names of LightGBM's parameters: aliases, what the objective decides, and typing errors."""

from __future__ import annotations

import pytest

from hpolab import InvalidArgument, InvalidType
from hpolab.lightgbm.names import canonical, of_bins, of_objective


def test_aliases_become_main_names():
    given = {"eta": 0.1, "sub_feature": 0.5, "max_leaves": 7}
    main = {"learning_rate": 0.1, "feature_fraction": 0.5, "num_leaves": 7}
    assert canonical("params", given) == main


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"num_leafs": 7}, InvalidArgument, r"got 'num_leafs'\. Did you mean 'num_leaves'"),
        ({"eta": 0.1, "learning_rate": 0.1}, InvalidArgument, "must give 'learning_rate' once"),
        ({"n_estimators": 9}, InvalidArgument, "'n_estimators' out, .* the argument `max_rounds`"),
        ([("eta", 0.1)], InvalidType, "`params` must be a mapping, got list"),
    ],
    ids=["unknown", "twice", "decided elsewhere", "no mapping"],
)
def test_bad_names_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        canonical("params", params)


def test_what_the_objective_decides_may_be_allowed_or_left_out():
    assert canonical("params", {"n_estimators": 9}, allowed=["num_iterations"]) == {
        "num_iterations": 9
    }
    assert canonical("params", {"n_estimators": 9, "eta": 0.1}, strict=False) == {
        "learning_rate": 0.1
    }


def test_parameters_are_told_apart_by_what_reads_them():
    params = {"max_bin": 63, "alpha": 0.9, "num_leaves": 7}
    assert of_bins(params) == {"max_bin": 63}
    assert of_objective(params) == {"alpha": 0.9}
