"""A trial is created under one number or not at all, in every storage that workers share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.trial import TrialState, create_trial

from hpolab import load_study, make_study, open_storage, run
from hpolab._optuna import NUMBER_KEY, claim_trial, open_slot
from hpolab.storage.numbered import without_number
from hpolab.trial.lease import Lease

SHARED = ["sqlite", "journal", "redis", "postgresql", "grpc"]
shared = pytest.mark.parametrize("storage_url", SHARED, indirect=True)


def numbered(number: int, state: TrialState = TrialState.WAITING):
    return create_trial(state=state, system_attrs={NUMBER_KEY: number, "kept": 1})


@shared
def test_a_number_is_given_once(storage_url, study_name):
    study = make_study(study_name, storage=storage_url)
    for number in (0, 1):
        study.add_trial(numbered(number))
    for taken in (0, 1, 5):
        with pytest.raises(KeyError):
            study.add_trial(numbered(taken))
    trials = load_study(study_name, storage=storage_url).trials
    assert [trial.number for trial in trials] == [0, 1]
    assert [trial.system_attrs for trial in trials] == [{"kept": 1}] * 2


@shared
def test_of_many_who_want_a_number_one_gets_it(storage_url, study_name):
    make_study(study_name, storage=storage_url)
    studies = [load_study(study_name, storage=storage_url) for _ in range(6)]

    def wants(study, number):
        try:
            study.add_trial(numbered(number))
        except KeyError:
            return 0
        return 1

    with ThreadPoolExecutor(len(studies)) as pool:
        for number in range(8):
            assert sum(pool.map(wants, studies, [number] * len(studies))) == 1
    assert [t.number for t in studies[0].trials] == list(range(8))


@shared
def test_workers_that_meet_at_the_end_of_a_budget_leave_no_trial_over(storage_url, study_name):
    """Each has read the trials before the other creates the last one."""
    study = make_study(study_name, storage=storage_url, sampler="random")
    run(study, lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    workers = [load_study(study_name, storage=storage_url) for _ in range(3)]
    seen = [worker.get_trials(deepcopy=False) for worker in workers]
    claimed = [
        claim_trial(
            worker,
            trials,
            [],
            4,
            mark=Lease.mine().as_mark(),
            is_mine=lambda trial: True,
            shared=True,
        )
        for worker, trials in zip(workers, seen, strict=True)
    ]
    assert [trial and trial.number for trial in claimed] == [3, None, None]
    assert len(study.trials) == 4
    for worker in workers:
        open_slot(worker, 4, 6)
    assert [t.state for t in study.trials][3:] == [TrialState.RUNNING, TrialState.WAITING]


def test_a_trial_without_an_only_number_is_created_as_ever():
    template = create_trial(state=TrialState.WAITING)
    assert without_number(None) == (None, None)
    assert without_number(template) == (template, None)


def test_the_template_of_the_caller_is_left_as_it_is():
    template = numbered(3)
    stripped, number = without_number(template)
    assert number == 3
    assert stripped is not None
    assert stripped.system_attrs == {"kept": 1}
    assert template.system_attrs == {NUMBER_KEY: 3, "kept": 1}


def test_a_number_is_free_again_after_a_failed_attempt(tmp_path):
    study = make_study("s", storage=open_storage(f"journal:///{tmp_path}/s.log"))
    with pytest.raises(KeyError):
        study.add_trial(numbered(2))
    study.add_trial(create_trial(state=TrialState.WAITING))
    assert len(study.trials) == 1
