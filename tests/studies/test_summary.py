"""A study's summary says what its trials say, on every storage."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpolab import make_study, open_storage, run
from hpolab.storage.url import open_to_look
from hpolab.studies.summary import StudySummary, summarize
from hpolab.studies.trials import best_of, tally
from hpolab.trial.lease import requeue_trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage


def check(study: Study, looked_at: BaseStorage) -> StudySummary:
    """Check a summary against all trials of the study."""
    summary = summarize(looked_at, study.study_name)
    trials = study.get_trials(deepcopy=False)
    assert summary.tally == tally(trials)
    best = None if len(study.directions) > 1 else best_of(trials, study.direction)
    assert summary.best == (None if best is None else (best.number, best.value))
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert [
        (t.number, t.user_attrs, t.datetime_start)
        for t in sorted(summary.running, key=lambda trial: trial.number)
    ] == [(t.number, t.user_attrs, t.datetime_start) for t in running]
    assert summary.user_attrs == study.user_attrs
    return summary


class Storm:
    """Random things that happen to a study."""

    def __init__(self, seed: int, n_values: int = 1) -> None:
        self._random = random.Random(seed)
        self._n_values = n_values
        self._pending: list[optuna.Trial] = []

    def step(self, study: Study) -> None:
        """Let one happen."""
        acts = [self._ask, self._ask, self._attribute, self._constrain, self._tell, self._tell]
        self._random.choice([*acts, self._add, self._enqueue, self._requeue])(study)

    def _values(self) -> list[float]:
        kinds = [0.25, -1.0, 3.0, 3.0, math.inf, -math.inf, self._random.random()]
        return [self._random.choice(kinds) for _ in range(self._n_values)]

    def _ask(self, study: Study) -> None:
        trial = study.ask()
        is_new = not trial.params
        trial.suggest_float("x", 0, 1)
        if self._n_values == 1 and is_new:
            trial.report(0.5, 1)
        self._pending.append(trial)

    def _attribute(self, study: Study) -> None:
        if self._pending:
            value = {"op_code": 5, "of": ['["a",{"op_code":7,', "ü"]}
            self._random.choice(self._pending).set_user_attr("note", value)

    def _constrain(self, study: Study) -> None:
        if self._pending:
            trial = self._random.choice(self._pending)
            name = f"c{self._random.random()}"
            trial.set_constraint(name, self._random.choice([-1.0, 0.0, 0.0, 2.0]))

    def _tell(self, study: Study) -> None:
        if self._pending:
            trial = self._pending.pop(self._random.randrange(len(self._pending)))
            state = self._random.choice(
                [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
            )
            study.tell(trial, self._values() if state == TrialState.COMPLETE else None, state=state)

    def _add(self, study: Study) -> None:
        attrs = {"constraints": [self._random.choice([-1.0, 1.0, math.nan])]}
        study.add_trial(create_trial(values=self._values(), system_attrs=attrs))

    def _enqueue(self, study: Study) -> None:
        study.enqueue_trial({"x": 0.5})

    def _requeue(self, study: Study) -> None:
        if self._pending:
            trial = self._pending.pop(self._random.randrange(len(self._pending)))
            requeue_trial(study, trial.number)


@pytest.mark.parametrize(
    "directions", [["minimize"], ["maximize"], ["minimize", "maximize"]], ids="-".join
)
def test_it_is_what_all_trials_say(
    storage_url: str, study_name: str, directions: list[str]
) -> None:
    storage = open_storage(storage_url)
    sampler = optuna.samplers.RandomSampler(0)
    studies = [
        optuna.create_study(
            study_name=f"{study_name}-{n}", storage=storage, directions=directions, sampler=sampler
        )
        for n in range(2)
    ]
    gone = optuna.create_study(study_name=f"{study_name}-gone", storage=storage)
    looked_at = storage if storage_url == "memory://" else open_to_look(storage_url)
    storms = [Storm(seed, len(directions)) for seed in range(2)]
    for turn in range(60):
        for study, storm in zip(studies, storms, strict=True):
            storm.step(study)
        if turn == 20:
            gone.add_trial(create_trial(value=0.0))
            optuna.delete_study(study_name=gone.study_name, storage=storage)
        if turn % 15 == 0:
            for study in studies:
                check(study, looked_at)  # goes on from where it was
    for study in studies:
        check(study, looked_at if storage_url == "memory://" else open_to_look(storage_url))


def test_it_is_what_a_run_of_workers_leaves(storage_url: str, study_name: str) -> None:
    study = make_study(study_name, storage=storage_url, sampler="random", pruner="median", seed=0)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        for step in range(3):
            trial.report(x**2, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        if trial.number == 7:
            raise ValueError
        return math.nan if trial.number == 9 else x**2

    run(study, objective, n_trials=20)
    looked_at = study._storage if storage_url == "memory://" else open_to_look(storage_url)
    assert check(study, looked_at).tally.finished == 20


def test_what_two_workers_pop_counts_once(tmp_path: Any) -> None:
    url = f"journal:///{tmp_path}/s.log"
    study = make_study("s", storage=url, sampler="random", seed=0)
    study.enqueue_trial({"x": 0.5})
    trial_id = study.get_trials(deepcopy=False)[0]._trial_id
    popped = [
        open_storage(url).set_trial_state_values(trial_id, TrialState.RUNNING) for _ in range(2)
    ]
    assert Counter(popped) == {True: 1, False: 1}
    check(study, open_to_look(url))


def test_a_skimmed_journal_replays_trials_when_they_are_asked_for(tmp_path: Any) -> None:
    url = f"journal:///{tmp_path}/s.log"
    study = make_study("s", storage=url, sampler="random", seed=0)
    run(study, lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
    read = optuna.load_study(study_name="s", storage=open_to_look(url))
    assert read.trials == study.trials


def test_a_study_that_is_not_there_is_refused(storage_url: str) -> None:
    storage = open_storage(storage_url)
    with pytest.raises(KeyError):
        summarize(storage, "nothing")
