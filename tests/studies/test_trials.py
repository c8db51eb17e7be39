"""Tables of trials."""

from __future__ import annotations

from datetime import datetime

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpolab.studies.trials import (
    Tally,
    best_of,
    best_trial,
    is_complete,
    is_feasible,
    ranked,
    sign_of,
    tally,
)


def test_tally_counts_every_state():
    trials = [create_trial(value=1.0), *(create_trial(state=s) for s in waiting_and_pruned())]
    assert tally(trials) == Tally(complete=1, pruned=1, failed=1, running=1, waiting=1)
    assert tally(trials).finished == 3


def waiting_and_pruned() -> list[TrialState]:
    return [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]


def test_best_is_the_earliest_among_equals():
    trials = [create_trial(value=value) for value in (2.0, 1.0, 1.0)]
    assert best_of(trials, "minimize") is trials[1]
    assert best_of(trials, "maximize") is trials[0]


def violating(value: float) -> FrozenTrial:
    return FrozenTrial(
        number=0,
        trial_id=0,
        state=TrialState.COMPLETE,
        value=value,
        datetime_start=datetime(2026, 1, 1),
        datetime_complete=datetime(2026, 1, 1),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={"constraints:hpolab:dead": 1.0},
        intermediate_values={},
    )


def test_best_violates_no_constraint():
    dead, alive = violating(0.0), create_trial(value=1.0)
    assert best_of([dead, alive], "minimize") is alive
    assert [is_feasible(trial) for trial in (dead, alive)] == [False, True]
    assert best_of([dead], "minimize") is None


def test_ranked_has_what_may_be_the_best_in_its_order():
    trials = [create_trial(value=value) for value in (2.0, 1.0, 1.0)]
    more = [*trials, violating(0.0), create_trial(state=TrialState.PRUNED)]
    assert ranked(more, "minimize") == [trials[1], trials[2], trials[0]]
    assert ranked(more, "maximize") == trials


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_trial_of_a_study_is_optunas(direction):
    study = optuna.create_study(direction=direction)
    assert best_trial(study) is None
    study.add_trials([create_trial(value=value) for value in (2.0, 1.0, 3.0)])
    assert best_trial(study) == study.best_trial
    assert sign_of(study.direction) == sign_of(direction)
    assert max((2.0, 1.0, 3.0), key=lambda v: sign_of(direction) * v) == study.best_value


def test_complete_means_finite_and_feasible():
    trials = [create_trial(value=0.0), create_trial(value=float("inf")), violating(0.0)]
    assert [is_complete(trial) for trial in trials] == [True, False, False]
    assert not is_complete(create_trial(state=TrialState.PRUNED))


def test_a_study_with_several_values_has_no_best_trial():
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    assert best_trial(study) is None


def test_no_complete_trial_has_no_best():
    assert best_of([create_trial(state=TrialState.PRUNED)], "maximize") is None
