"""Trials and reports written together are what Optuna would have written one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpolab import _optuna, open_storage
from hpolab.storage.bulk import Report, write_reports, write_trials

if TYPE_CHECKING:
    from optuna import Study

DISTRIBUTIONS = {
    "x": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
    "n": optuna.distributions.IntDistribution(1, 9, step=2),
    "c": optuna.distributions.CategoricalDistribution(("a", None, True, 3)),
}


def many() -> list[FrozenTrial]:
    params = {"x": 0.1, "n": 3, "c": None}
    reports = {0: 0.5, 3: float("nan"), 4: float("inf")}
    whole = {
        "params": params,
        "distributions": DISTRIBUTIONS,
        "intermediate_values": reports,
        "user_attrs": {"note": {"a": [1, None]}},
        "system_attrs": {"constraints:c": 0.5},
    }
    trials = [
        create_trial(value=float("inf"), **whole),
        create_trial(state=TrialState.PRUNED, **whole),
        create_trial(state=TrialState.FAIL),
        create_trial(state=TrialState.RUNNING, **whole),
        create_trial(state=TrialState.WAITING, user_attrs={"hpolab:slot": None}),
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def new_study(storage_url: str, study_name: str) -> Study:
    return optuna.create_study(study_name=study_name, storage=open_storage(storage_url))


def contents(study: Study) -> list[tuple[object, ...]]:
    return [
        (
            *(trial.number, trial.state, trial.values, trial.params, trial.distributions),
            # As text, as NaN is equal to nothing.
            str(sorted(trial.intermediate_values.items())),
            *(trial.user_attrs, trial.system_attrs),
            *(trial.datetime_start, trial.datetime_complete),
        )
        for trial in study.trials
    ]


def test_trials_written_together_are_those_written_one_by_one(
    storage_url: str, study_name: str
) -> None:
    trials = many()
    study = new_study(storage_url, study_name)
    write_trials(*_optuna.place(study), trials)
    alone = optuna.create_study()
    for trial in trials:
        alone._storage.create_new_trial(alone._study_id, trial)
    assert contents(study) == contents(alone)
    if storage_url != "memory://":
        again = optuna.load_study(study_name=study_name, storage=open_storage(storage_url))
        assert contents(again) == contents(alone)


def test_nothing_written_is_nothing_changed(storage_url: str, study_name: str) -> None:
    study = new_study(storage_url, study_name)
    write_trials(*_optuna.place(study), [])
    write_reports(_optuna.place(study)[0], [])
    assert study.trials == []


def test_reports_replace_those_of_the_same_step(storage_url: str, study_name: str) -> None:
    study = new_study(storage_url, study_name)
    trials = [study.ask() for _ in range(3)]
    trials[0].report(9.0, 1)
    trials[0].report(0.5, 0)
    reports = [Report(trial._trial_id, 1, float(trial.number)) for trial in trials]
    write_reports(_optuna.place(study)[0], reports)
    stored = [trial.intermediate_values for trial in study.get_trials()]
    assert stored == [{0: 0.5, 1: 0.0}, {1: 1.0}, {1: 2.0}]


@pytest.mark.parametrize("storage_url", ["sqlite", "journal", "redis", "postgresql"], indirect=True)
def test_reports_of_a_trial_that_has_ended_are_left_out(storage_url: str, study_name: str) -> None:
    study = new_study(storage_url, study_name)
    ended, running = study.ask(), study.ask()
    study.tell(ended, 1.0)
    reports = [Report(trial._trial_id, 0, 0.5) for trial in (ended, running)]
    write_reports(_optuna.place(study)[0], reports)
    again = optuna.load_study(study_name=study_name, storage=open_storage(storage_url))
    assert [trial.intermediate_values for trial in again.trials] == [{}, {0: 0.5}]
