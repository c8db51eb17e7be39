"""Parameters that LightGBM reads under another one alone are refused without it."""

from __future__ import annotations

import pytest

from hpolab import InvalidArgument, SearchSpace, lightgbm_space
from hpolab.lightgbm.unread import refuse_unread
from hpolab.search_space.space import as_space

DART = SearchSpace.choice("boosting", {"gbdt": {}, "dart": {"drop_rate": (0.1, 0.5)}})
WRONG_BRANCH = SearchSpace.choice("boosting", {"gbdt": {"drop_rate": (0.1, 0.5)}, "dart": {}})


@pytest.mark.parametrize(
    ("space", "fixed", "needed"),
    [
        ({"drop_rate": (0.1, 0.5)}, {}, "'boosting' is 'dart'"),
        ({"rate_drop": (0.1, 0.5)}, {"boosting": "rf"}, "'boosting' is 'dart'"),
        ({"skip_drop": 0.9}, {}, "'boosting' is 'dart'"),
        (WRONG_BRANCH, {}, "'boosting' is 'dart'"),
        ({"top_rate": (0.1, 0.5)}, {}, "'data_sample_strategy' is 'goss'"),
        ({"bagging_fraction": (0.1, 1.0)}, {}, "'bagging_freq' is 1 or above"),
        ({"sub_row": (0.1, 1.0)}, {"bagging_freq": 0}, "'bagging_freq' is 1 or above"),
        ({"linear_lambda": (0.1, 1.0)}, {}, "'linear_tree' is True"),
        ({"fair_c": (0.1, 1.0)}, {"objective": "binary"}, "the objective is 'fair'"),
    ],
)
def test_parameter_that_changes_nothing_is_refused_with_what_it_needs(space, fixed, needed):
    with pytest.raises(InvalidArgument, match=needed):
        refuse_unread(as_space("space", space), fixed)


@pytest.mark.parametrize(
    ("space", "fixed"),
    [
        (lightgbm_space("default"), {}),
        (lightgbm_space("flaml"), {}),
        (lightgbm_space("wide"), {}),
        (DART, {}),
        ({"drop_rate": (0.1, 0.5), "boosting_type": ["gbdt", "dart"]}, {}),
        ({"drop_rate": (0.1, 0.5)}, {"boosting": "dart"}),
        ({"drop_rate": 0.1, "bagging_fraction": 1.0}, {}),
        ({"top_rate": (0.1, 0.5)}, {"boosting": "goss"}),
        ({"subsample": (0.1, 1.0), "subsample_freq": (0, 5)}, {}),
        ({"fair_c": (0.1, 1.0)}, {"objective": "fair"}),
    ],
)
def test_parameter_that_some_trial_reads_is_taken(space, fixed):
    refuse_unread(as_space("space", space), fixed)
