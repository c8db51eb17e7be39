"""What simple solutions reach: when it is computed, by whom, how often, and what if it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from optuna.trial import TrialState

from hpolab import Objective, SearchSpace, load_study, make_study, run
from hpolab.objectives.base import Reference
from hpolab.objectives.packed_rows import RowScores
from hpolab.running import references
from hpolab.studies.recipe import REFERENCE_ROWS_PREFIX, REFERENCES_KEY
from hpolab.trial.lease import Lease

FOUND = {"mean": {"loss": 0.5}, "oracle": "left out: it is not there"}


class Referred(Objective):
    """Notes in a file who has asked for its references, and how many trials there were then."""

    def __init__(self, path, *, key=None, error=None):
        super().__init__(
            search_space=SearchSpace({"x": (0.0, 1.0)}), direction="minimize", max_steps=1
        )
        self.path, self.key, self.error = path, key, error
        self.fails_at = None

    def train(self, params, reporter):
        if reporter.trial is not None and reporter.trial.number == self.fails_at:
            raise KeyboardInterrupt
        return params["x"]

    def references(self):
        with Path(self.path).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if self.error is not None:
            raise self.error
        return FOUND

    def references_key(self):
        return self.key


@pytest.fixture
def objective(tmp_path):
    return Referred(str(tmp_path / "asked"))


def asked(objective):
    path = Path(objective.path)
    return path.read_text().split() if path.exists() else []


def study_at(url="memory://", name="s"):
    return make_study(name, storage=url, sampler="random", seed=0)


def test_they_are_computed_behind_the_trials(objective):
    study = study_at()
    seen = []
    run(study, objective, n_trials=3, callbacks=[lambda s, t: seen.append(len(asked(objective)))])
    assert seen == [0, 0, 0]
    assert study.user_attrs[REFERENCES_KEY] == FOUND
    run(study, objective, n_trials=4)
    assert len(asked(objective)) == 1


def test_spent_study_of_a_killed_run_gets_them_when_run_again(objective, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/s.db"
    with monkeypatch.context() as patch:
        patch.setattr("hpolab.running.run.note_references", lambda *args: sys.exit(9))
        with pytest.raises(SystemExit):
            run(study_at(url), objective, n_trials=2)
    study = load_study("s", storage=url)
    assert len(study.trials) == 2
    run(study, objective, n_trials=2)
    assert study.user_attrs[REFERENCES_KEY] == FOUND


def test_interrupted_trials_are_not_followed_by_them(objective):
    study = study_at()
    objective.fails_at = 1
    with pytest.raises(KeyboardInterrupt):
        run(study, objective, n_trials=2)
    assert asked(objective) == []
    objective.fails_at = None
    run(study, objective, n_trials=2)
    assert study.user_attrs[REFERENCES_KEY] == FOUND


def test_study_interrupted_in_them_is_whole_and_computes_them_again(objective):
    study = study_at()
    objective.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(study, objective, n_trials=2)
    assert REFERENCES_KEY not in study.user_attrs
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    objective.error = None
    run(study, objective, n_trials=2)
    assert study.user_attrs[REFERENCES_KEY] == FOUND


def test_an_error_in_them_is_said_and_not_raised(objective, caplog):
    study = study_at()
    objective.error = RuntimeError("no such table")
    run(study, objective, n_trials=2)
    assert REFERENCES_KEY not in study.user_attrs
    assert "no simple solutions beside its trials" in caplog.text
    assert "RuntimeError: no such table" in caplog.text


def test_the_driver_alone_computes_them_for_all_its_workers(objective, tmp_path):
    study = study_at(f"sqlite:///{tmp_path}/s.db")
    run(study, objective, n_trials=4, n_workers=2)
    assert asked(objective) == [str(os.getpid())]
    assert study.user_attrs[REFERENCES_KEY] == FOUND


@pytest.mark.parametrize("same_process", [True, False])
def test_studies_that_rank_the_same_compute_them_once(
    objective, tmp_path, monkeypatch, same_process
):
    objective.key = uuid.uuid4().hex
    url = f"sqlite:///{tmp_path}/s.db"
    run(study_at(url), objective, n_trials=1)
    if not same_process:
        monkeypatch.setattr(references, "_known", {})
    other = study_at("memory://" if same_process else url, "other")
    run(other, objective, n_trials=1)
    assert other.user_attrs[REFERENCES_KEY] == FOUND
    assert len(asked(objective)) == 1
    objective.key = uuid.uuid4().hex
    run(study_at(url, "third"), objective, n_trials=1)
    assert len(asked(objective)) == 2


def test_another_process_that_computes_them_is_left_to_it(objective, tmp_path):
    study = study_at(f"sqlite:///{tmp_path}/s.db")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = psutil.Process(child.pid).create_time()
        claim = replace(Lease.mine(), pid=child.pid, started=started)
        study.set_user_attr(references._CLAIM_KEY, claim.as_mark()[1])
        run(study, objective, n_trials=1)
        assert asked(objective) == []
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
    run(study, objective, n_trials=1)
    assert study.user_attrs[REFERENCES_KEY] == FOUND


@pytest.mark.parametrize(("age", "is_left"), [(60.0, True), (7200.0, False)])
def test_a_claim_from_another_host_counts_for_an_hour(objective, age, is_left):
    study = study_at()
    mine = Lease.mine()
    claim = replace(mine, host="elsewhere", beat_at=mine.beat_at - age)
    study.set_user_attr(references._CLAIM_KEY, claim.as_mark()[1])
    run(study, objective, n_trials=1)
    assert (REFERENCES_KEY not in study.user_attrs) == is_left


def test_scores_by_row_are_stored_beside_them(objective):
    rows = np.random.default_rng(0).random(50)
    objective.scored_references = lambda: {
        "mean": Reference({"loss": rows.mean()}, rows),
        "blind": Reference({"loss": 0.7}),
        "oracle": "left out",
    }
    study = study_at()
    run(study, objective, n_trials=1)
    assert list(study.user_attrs[REFERENCES_KEY]) == ["mean", "blind", "oracle"]
    stored = {k: v for k, v in study.user_attrs.items() if k.startswith(REFERENCE_ROWS_PREFIX)}
    (text,) = stored.values()
    assert list(stored) == [f"{REFERENCE_ROWS_PREFIX}mean"]
    np.testing.assert_allclose(RowScores.of_text(text).values, rows, rtol=1e-6)


def test_study_without_a_complete_trial_has_nothing_to_stand_beside(objective):
    study = study_at()
    objective.train = lambda params, reporter: float("nan")
    run(study, objective, n_trials=1)
    assert asked(objective) == []
