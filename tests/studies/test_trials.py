"""Tables of trials."""

from __future__ import annotations

from datetime import datetime

from optuna.trial import FrozenTrial, TrialState, create_trial

from hpolab.studies.trials import Tally, best_of, tally


def test_tally_counts_every_state():
    trials = [create_trial(value=1.0), *(create_trial(state=s) for s in waiting_and_pruned())]
    assert tally(trials) == Tally(complete=1, pruned=1, failed=1, running=1, waiting=1)
    assert tally(trials).finished == 3


def waiting_and_pruned() -> list[TrialState]:
    return [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]


def test_best_is_the_earliest_among_equals():
    trials = [create_trial(value=value) for value in (2.0, 1.0, 1.0)]
    assert best_of(trials, maximize=False) is trials[1]
    assert best_of(trials, maximize=True) is trials[0]


def test_best_violates_no_constraint():
    dead = FrozenTrial(
        number=0,
        trial_id=0,
        state=TrialState.COMPLETE,
        value=0.0,
        datetime_start=datetime(2026, 1, 1),
        datetime_complete=datetime(2026, 1, 1),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={"constraints:hpolab:dead": 1.0},
        intermediate_values={},
    )
    alive = create_trial(value=1.0)
    assert best_of([dead, alive], maximize=False) is alive


def test_no_complete_trial_has_no_best():
    assert best_of([create_trial(state=TrialState.PRUNED)], maximize=True) is None
