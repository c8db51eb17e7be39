"""delete_study: a study goes with all that belongs to it, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    Objective,
    SearchSpace,
    StagedObjective,
    StudyNotFound,
    compare,
    confirm,
    delete_study,
    load_study,
    make_study,
    run,
    sweep,
)

SPACE = SearchSpace({"x": (0.0, 1.0)})


class Line(Objective):
    def train(self, params, reporter):
        for step in reporter.steps(self.max_steps):
            reporter.report(params["x"], step, state=lambda: b"state")
            if step == 1:
                raise KeyboardInterrupt
        return params["x"]

    def fit(self, params, seed=0):
        return params["x"] + seed % 7

    def evaluate(self, model, data):
        return {"value": model}


def line(max_steps=1):
    return Line(search_space=SPACE, direction="minimize", max_steps=max_steps, checkpoint_seconds=0)


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    run(make_study("other", storage=url, objective=line()), line(), n_trials=1)
    return url


def names(url):
    return optuna.get_all_study_names(optuna.storages.RDBStorage(url))


def test_confirmations_go_with_their_study(url):
    study = make_study("line", storage=url, objective=line())
    run(study, line(), n_trials=3)
    confirm(study, line(), test=0, n_seeds=2)
    confirm(study, line(), test=0, n_seeds=2, study_name="again", seed=7)
    assert set(delete_study("line", storage=url)) == {"line", "line-confirm", "again"}
    assert names(url) == ["other"]


def test_comparison_goes_by_its_name_with_all_contenders(url):
    contenders = {"a": SPACE, "b": SPACE.override(x=(0.5, 1.0))}
    compare(line(), contenders, study_name="cmp", n_trials=2, storage=url, test=0, n_test_seeds=2)
    assert set(delete_study("cmp", storage=url)) == {"cmp-a", "cmp-b", "cmp-test-seeds"}
    assert names(url) == ["other"]


def test_sweep_goes_by_its_name_with_all_stages(url):
    sweep(line(), {"one": {"x": [0.1]}, "two": {"x": [0.2]}}, study_name="s", storage=url)
    assert set(delete_study("s", storage=url)) == {"s-one", "s-two"}
    assert names(url) == ["other"]


def test_checkpoints_go_with_their_study(url, tmp_path):
    study = make_study("line", storage=url, objective=line(3))
    with pytest.raises(KeyboardInterrupt):
        run(study, line(3), n_trials=1, show_progress_bar=False)
    folder = Path(tmp_path, "s.db.checkpoints")
    assert list(folder.glob("line-*"))
    delete_study("line", storage=url)
    assert not folder.exists() or not list(folder.iterdir())


def test_post_processing_goes_with_its_study_and_artifacts_with_the_last(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    objective = StagedObjective(
        lambda params, reporter: params["x"],
        lambda artifact, post_params, part: artifact + post_params["y"],
        search_space=SPACE,
        post_space={"y": (0.0, 1.0)},
        direction="minimize",
        max_steps=1,
        n_post_trials=2,
    )
    for name in ("one", "two"):
        study = make_study(name, storage=url, objective=objective)
        run(study, objective, n_trials=1, show_progress_bar=False)
    folder = Path(tmp_path, "s.db.artefacts")
    assert set(delete_study("one", storage=url)) == {"one", "one-trial0-post"}
    assert list(folder.iterdir())  # the other study may use them
    delete_study("two", storage=url)
    assert names(url) == []
    assert not folder.exists()


@pytest.mark.parametrize("name", ["nothing", "othe", ""])
def test_name_of_nothing_is_refused(url, name):
    with pytest.raises(StudyNotFound, match=f"'{name}'; the storage has 'other'"):
        delete_study(name, storage=url)


def test_study_that_is_run_is_refused_unless_by_force(url):
    study = load_study("other", storage=url)
    trial = study.ask()
    with pytest.raises(InvalidArgument, match="'other' with 1 running: trial 1"):
        delete_study("other", storage=url)
    assert names(url) == ["other"]
    assert delete_study("other", storage=url, force=True) == ["other"]
    assert trial.number == 1


def test_deleted_study_can_be_made_anew_with_another_problem(url):
    delete_study("other", storage=url)
    other = FunctionObjective(
        lambda params, reporter: -params["x"],
        search_space={"x": (0.5, 1.0, "log")},
        direction="maximize",
        max_steps=2,
    )
    study = make_study("other", storage=url, objective=other)
    run(study, other, n_trials=2, show_progress_bar=False)
    assert len(study.trials) == 2
