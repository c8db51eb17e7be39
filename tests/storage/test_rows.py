"""Trials read from a database's rows are those that Optuna reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from hpolab import open_storage
from hpolab.storage.rows import read_trial, read_trials

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

OTHER = create_trial(value=0.5, params={"z": 1}, distributions={"z": IntDistribution(0, 3)})


def all_kinds() -> list[FrozenTrial]:
    """Return trials with every kind of thing that a trial may have."""
    space = {
        "x": FloatDistribution(1e-5, 1, log=True),
        "a": IntDistribution(0, 10, step=2),
        "kind": CategoricalDistribution(["one", 2, None, True]),
    }
    params = {"x": 0.1, "a": 4, "kind": None}
    attrs = {"none": None, "list": [1, {"a": "ü"}], "text": "x" * 3000}
    return [
        create_trial(value=1.5, params=params, distributions=space, user_attrs=attrs),
        create_trial(values=[math.inf], params=params, distributions=space),
        create_trial(values=[-math.inf], system_attrs={"constraints": [1.0], "hpolab:x": attrs}),
        create_trial(
            state=TrialState.PRUNED,
            value=2.0,
            intermediate_values={0: math.nan, 7: math.inf, 3: -math.inf, 1: 0.25},
        ),
        create_trial(state=TrialState.FAIL),
        create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params}),
        create_trial(state=TrialState.RUNNING, user_attrs={"hpolab:lease": {"pid": 3}}),
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Any) -> RDBStorage:
    url = f"sqlite:///{tmp_path}/s.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    opened = open_storage(url)
    assert isinstance(opened, RDBStorage)
    return opened


def filled(storage: RDBStorage, *directions: str) -> int:
    """Return the id of a study with all kinds of trials, another study's between them."""
    study = optuna.create_study(storage=storage, directions=directions or ["minimize"])
    other = optuna.create_study(storage=storage)
    for trial in all_kinds():
        if len(directions) > 1 and trial.state == TrialState.COMPLETE:
            trial = create_trial(values=[trial.values[0], -1.0])
        elif len(directions) > 1 and trial.values:
            continue
        study.add_trial(trial)
        other.add_trial(OTHER)
    return study._study_id


def theirs(storage: RDBStorage, study_id: int, *of: Any) -> list[FrozenTrial]:
    return RDBStorage._get_trials(storage, study_id, *of)


def as_text(trials: list[FrozenTrial]) -> list[str]:
    """Return trials for comparison: NaN is not equal to itself; the order of params counts."""
    return [
        repr(
            {
                name: sorted(value.items()) if name.endswith(("attrs", "values_")) else value
                for name, value in vars(trial).items()
                if name != "_intermediate_values"
            }
        )
        + repr(sorted(trial.intermediate_values.items()))
        for trial in trials
    ]


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_all_kinds_of_trials_are_read_as_optuna_reads_them(
    storage: RDBStorage, directions: list[str]
) -> None:
    study_id = filled(storage, *directions)
    expected = theirs(storage, study_id, None, set(), -1)
    found = read_trials(storage, study_id, None, set(), -1)
    assert len(found) >= 6
    assert as_text(found) == as_text(expected)
    alone = [read_trial(storage, trial._trial_id) for trial in expected]
    assert as_text(alone) == as_text(expected)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[RDBStorage, int]:
    """A storage that is filled once, and the study's id."""
    storage = open_storage(f"sqlite:///{tmp_path_factory.mktemp('rows')}/s.db")
    assert isinstance(storage, RDBStorage)
    return storage, filled(storage)


@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE,), (TrialState.WAITING,), ()])
@pytest.mark.parametrize("included", [(), (0,), (0, 2, 5)])
@pytest.mark.parametrize("after", [-1, 0, 3, 99])
@pytest.mark.parametrize("max_named", [500, 2, 1])
def test_any_part_of_a_study_is_what_optuna_reads(
    kept: tuple[RDBStorage, int],
    monkeypatch: pytest.MonkeyPatch,
    states: Any,
    included: tuple[int, ...],
    after: int,
    max_named: int,
) -> None:
    monkeypatch.setattr("hpolab.storage.rows._MAX_NAMED", max_named)
    storage, study_id = kept
    ids = [trial._trial_id for trial in theirs(storage, study_id, None, set(), -1)]
    bound = -1 if after == -1 else ids[min(after, len(ids) - 1)]
    part = (states, {ids[each] for each in included}, bound)
    assert as_text(read_trials(storage, study_id, *part)) == as_text(
        theirs(storage, study_id, *part)
    )


def test_what_is_not_there_is_a_key_error(storage: RDBStorage) -> None:
    with pytest.raises(KeyError):
        read_trial(storage, 12345)
    with pytest.raises(KeyError):
        read_trials(storage, 12345, None, set(), -1)
