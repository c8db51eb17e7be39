"""A study's history in one line of bars."""

from __future__ import annotations

import pytest
from optuna.trial import create_trial

from hpolab.report.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "maximize", "bars"),
    [([1.0, 3.0, 2.0], True, "1 ▁██ 3"), ([2.0, 2.0], False, "2 ▁▁ 2"), ([], False, "")],
)
def test_sparkline_rises_where_it_gets_better(values, maximize, bars):
    trials = [create_trial(value=value) for value in values]
    assert sparkline(trials, maximize=maximize).removeprefix("best so far  ") == bars


def test_sparkline_of_many_trials_is_forty_bars():
    trials = [create_trial(value=-float(i)) for i in range(1000)]
    assert sum(char in "▁▂▃▄▅▆▇█" for char in sparkline(trials, maximize=False)) == 40
