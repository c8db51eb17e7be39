"""A history holds what the storage holds, and reads a finished trial once."""

from __future__ import annotations

import gc
import random
import weakref
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from hpolab import make_study, open_storage, run
from hpolab.studies.history import history_of
from hpolab.studies.trials import tally
from hpolab.trial.lease import requeue_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study


def square(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    trial.report(x, 0)
    return x**2


def same(study: Study) -> list[FrozenTrial]:
    """Check a study's history against its trials, and return these."""
    history, trials = history_of(study), study.get_trials(deepcopy=False)
    assert list(history.trials) == trials
    assert history.unfinished == [t for t in trials if not t.state.is_finished()]
    assert sorted(t.number for t in history.finished) == [
        t.number for t in trials if t.state.is_finished()
    ]
    assert history.tally == tally(trials)
    return trials


class Storm:
    """Random operations on a study, by several workers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pending: list[tuple[Study, optuna.Trial]] = []

    def step(self, study: Study) -> None:
        """Do one operation."""
        self._random.choice([self._ask, self._ask, self._report, self._tell, self._tell])(study)
        if self._random.random() < 0.2:
            self._random.choice([self._enqueue, self._requeue])(study)

    def _ask(self, study: Study) -> None:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        self._pending.append((study, trial))

    def _enqueue(self, study: Study) -> None:
        study.enqueue_trial({"x": self._random.random()})

    def _report(self, study: Study) -> None:
        if self._pending:
            _, trial = self._random.choice(self._pending)
            trial.set_user_attr("note", self._random.random())

    def _tell(self, study: Study) -> None:
        if self._pending:
            owner, trial = self._pending.pop(self._random.randrange(len(self._pending)))
            state = self._random.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            owner.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)

    def _requeue(self, study: Study) -> None:
        if self._pending:
            owner, trial = self._pending.pop(self._random.randrange(len(self._pending)))
            requeue_trial(owner, trial.number)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_study_after_any_operations_of_several_workers(
    storage_url: str, seed: int
) -> None:
    mine = make_study("storm", storage=storage_url, sampler="random", seed=0)
    others = (
        [mine]
        if storage_url == "memory://"
        else [
            optuna.load_study(
                study_name="storm",
                storage=open_storage(storage_url),
                sampler=optuna.samplers.RandomSampler(seed),
            )
            for _ in range(2)
        ]
    )
    storm = Storm(seed)
    for turn in range(60):
        storm.step(random.Random(turn).choice([mine, *others]))
        if turn % 3 == 0:
            same(mine)
    assert len(same(mine)) > 5


class Reads:
    """Counts the finished trials that a storage hands out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_finished = 0
        build = optuna.storages.RDBStorage._get_trials

        def counting(storage: Any, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
            found = build(storage, *args, **kwargs)
            self.n_finished += sum(trial.state.is_finished() for trial in found)
            return found

        monkeypatch.setattr(optuna.storages.RDBStorage, "_get_trials", counting)


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_a_run_reads_a_finished_trial_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", sampler=sampler, seed=0)
    run(study, square, n_trials=20)
    reads = Reads(monkeypatch)
    run(study, square, n_trials=40)
    # Its own twenty, each at most once.
    assert reads.n_finished <= 20


@pytest.mark.parametrize("sampler", ["random", "qmc"])
@pytest.mark.parametrize("workers", ["alone", "beside another"])
def test_no_trial_of_a_run_lists_all_trials(
    monkeypatch: pytest.MonkeyPatch, sampler: str, workers: str
) -> None:
    study = make_study("s", storage="memory://", sampler=sampler, seed=0)
    run(study, square, n_trials=20)
    n_listed = 0
    listing = optuna.storages.InMemoryStorage.get_all_trials

    def counting(storage: Any, study_id: int, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        nonlocal n_listed
        n_listed += 1
        found: list[FrozenTrial] = listing(storage, study_id, *args, **kwargs)
        return found

    monkeypatch.setattr(optuna.storages.InMemoryStorage, "get_all_trials", counting)
    if workers == "beside another":
        study.ask()
    counts = []
    for n_trials in (30, 60):
        before = n_listed
        run(study, square, n_trials=n_trials)
        counts.append(n_listed - before)
    # What a run lists at its start and end does not depend on how many trials it has.
    assert counts[0] == counts[1]


def test_a_study_made_anew_under_its_name_has_a_history_of_its_own(storage_url: str) -> None:
    storage = open_storage(storage_url)
    for n_trials in (5, 3):
        study = make_study("again", storage=storage, sampler="random", seed=0)
        run(study, square, n_trials=n_trials)
        assert len(same(study)) == n_trials
        optuna.delete_study(study_name="again", storage=storage)
        with pytest.raises(KeyError):
            history_of(study)


@pytest.fixture
def begun() -> Callable[[], Study]:
    def begin() -> Study:
        study = make_study("s", storage="memory://", sampler="random", seed=0)
        run(study, square, n_trials=4)
        return study

    return begin


def test_what_a_history_has_read_stays_as_it_was_read(begun: Callable[[], Study]) -> None:
    study = begun()
    before = history_of(study).trials[0]
    run(study, square, n_trials=8)
    assert history_of(study).trials[0] is before


def test_a_foreign_storage_is_read_as_a_whole(tmp_path: Any) -> None:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "log"))
    )
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(0))
    run(study, square, n_trials=6)
    assert len(same(study)) == 6


@pytest.mark.parametrize("foreign", [False, True])
def test_a_study_that_nobody_uses_any_more_is_let_go(tmp_path: Any, foreign: bool) -> None:
    storage: Any = open_storage(f"journal:///{tmp_path}/log")
    if foreign:
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "log"))
        storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(0))
    run(study, square, n_trials=3)
    gone = weakref.ref(storage)
    del storage, study
    gc.collect()
    assert gone() is None


def test_a_memory_study_that_nobody_uses_any_more_is_let_go() -> None:
    study = make_study("s", storage="memory://", sampler="tpe", pruner="median", seed=0)
    run(study, square, n_trials=3)
    gone = weakref.ref(study._storage)
    del study
    gc.collect()
    assert gone() is None
