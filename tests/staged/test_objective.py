"""StagedObjective: a training once, post-processing tuned on what it made, an honest value."""

from __future__ import annotations

import json
import signal

import numpy as np
import optuna
import pytest
from optuna.study import get_all_study_names
from optuna.trial import TrialState
from typer.testing import CliRunner

from hpolab import (
    ArtifactCache,
    CacheMismatch,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    SearchSpace,
    confirm,
    copy_study,
    load_study,
    make_study,
    open_storage,
    run,
)
from hpolab.cli import app
from hpolab.studies.export import POST_KEY
from hpolab.studies.trials import METRICS_KEY

SPACE = SearchSpace({"noise": (0.1, 1.0)}, defaults={"noise": 0.5})
TRUTH = np.arange(300) % 2


def test_value_is_the_tuned_parameters_on_the_other_part(make, run_study, studies_of, noisy):
    train = noisy
    objective = make(train)
    study = run_study(objective)
    assert len(train.trained) == 3
    assert studies_of(study) == ["s", "s-trial0-post", "s-trial1-post", "s-trial2-post"]
    for trial in study.trials:
        inner = optuna.load_study(study_name=f"s-trial{trial.number}-post", storage=study._storage)
        assert len(inner.trials) == 12
        assert inner.trials[0].params == {"threshold": 0.0}
        assert trial.user_attrs[POST_KEY] == {"score": inner.best_params}
        metrics = trial.user_attrs[METRICS_KEY]
        assert metrics["in tuning"] == inner.best_value
        assert metrics["value"] == trial.value
        assert metrics["in tuning"] >= inner.trials[0].value
        assert len(trial.intermediate_values) == 3


def test_parameters_of_a_trial_are_those_of_its_study_of_post_processing(
    make, run_study, studies_of, noisy
):
    train = noisy
    objective = make(train)
    study = run_study(objective)
    tuned = objective.tune(study, 1)
    assert tuned.post_params == study.trials[1].user_attrs[POST_KEY]["score"]
    assert tuned.study_name == "s-trial1-post"
    assert objective.tune(study).study_name == f"s-trial{study.best_trial.number}-post"
    assert len(studies_of(study)) == 4


def test_post_processing_once_for_the_best(make, run_study, studies_of):
    objective = make(tune="best")
    study = run_study(objective)
    assert studies_of(study) == ["s"]
    assert POST_KEY not in study.best_trial.user_attrs
    tuned = objective.tune(study)
    assert studies_of(study) == ["s", f"s-trial{study.best_trial.number}-post"]
    assert tuned.value > tuned.default_value


def test_artifact_is_trained_once_for_params_seed_and_data(make, noisy, tmp_path):
    train = noisy
    objective = make(train, cache=tmp_path / "cache", data=TRUTH)
    first = objective.artifact({"noise": 0.3}, 1)
    assert (objective.artifact({"noise": 0.3}, 1) == first).all()
    again = make(train, cache=ArtifactCache(tmp_path / "cache"), data=TRUTH.copy())
    assert (again.artifact({"noise": 0.3}, 1) == first).all()
    assert len(train.trained) == 1
    objective.artifact({"noise": 0.3}, 2)
    objective.artifact({"noise": 0.4}, 1)
    objective.artifact({"noise": 0.3}, 1, shift=0.5)
    make(train, cache=tmp_path / "cache", data=1 - TRUTH).artifact({"noise": 0.3}, 1)
    assert len(train.trained) == 5


def test_confirmation_tunes_on_each_fresh_artifact_and_trains_none_twice(
    make, run_study, noisy, tmp_path
):
    train = noisy
    objective = make(train, cache=tmp_path / "cache")
    study = run_study(objective)
    confirmed = confirm(study, objective, test="test", top_k=1, n_seeds=2, show_progress_bar=False)
    assert len(train.trained) == 3 + 4
    best = confirmed.configurations[0]
    fitted = objective.fit(best.params, next(iter(best.scores)))
    assert objective.evaluate(fitted, "test")["value"] == next(iter(best.scores.values()))
    assert len(train.trained) == 7


@pytest.mark.usefixtures("warm_workers")
def test_workers_and_reproducible_studies_share_a_storage(make, run_study, studies_of, tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = run_study(make(), 4, storage=url, n_workers=2, reproducible=True)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert len(studies_of(study)) == 5
    assert (tmp_path / "s.db.artefacts").is_dir()


def test_a_copy_has_the_studies_of_post_processing_too(make, run_study, tmp_path):
    here, there = (f"sqlite:///{tmp_path}/{name}.db" for name in ("here", "there"))
    study = run_study(make(), storage=here)
    assert copy_study(study.study_name, storage=here, to_storage=there, to_study_name="other") == 3
    names = get_all_study_names(open_storage(there))
    assert sorted(names) == ["other", *(f"other-trial{number}-post" for number in range(3))]
    copied = load_study("other", storage=there)
    assert make().tune(copied).post_params == make().tune(study).post_params
    assert len(get_all_study_names(open_storage(there))) == 4


def test_best_shows_the_post_processing_parameters_unless_they_are_several(
    make, run_study, tmp_path
):
    for cross_fit in (False, True):
        url = f"sqlite:///{tmp_path}/{cross_fit}.db"
        study = run_study(make(cross_fit=cross_fit), storage=url)
        shown = json.loads(
            CliRunner().invoke(app, ["best", study.study_name, "-s", url, "-f", "json"]).output
        )
        tuned = {} if cross_fit else make().tune(study).post_params
        assert shown == study.best_params | tuned


def test_pruned_training_has_no_post_processing(make, run_study, studies_of):
    def train(params, reporter):
        reporter.report(float("nan"), 0)

    study = run_study(make(train))
    assert {trial.state for trial in study.trials} == {TrialState.PRUNED}
    assert studies_of(study) == ["s"]


def test_post_processing_parameters_of_a_pruned_trial_are_not_tuned(make, run_study):
    def train(params, reporter):
        reporter.report(1.0, 0)
        if reporter.trial is not None and reporter.trial.number == 1:
            raise optuna.TrialPruned  # behind a report, which is then its value
        return TRUTH

    objective = make(train)
    study = run_study(objective, 2)
    assert study.trials[1].value == 1.0
    with pytest.raises(InvalidArgument, match="got trial 1, which was pruned"):
        objective.tune(study, 1)


def test_cache_of_another_version_is_refused_before_a_trial(make, run_study, noisy, tmp_path):
    (tmp_path / "a.artefact").write_bytes(b"hpolab artefact 9\n...")
    train = noisy
    with pytest.raises(CacheMismatch, match="got one of format 9"):
        run_study(make(train, cache=tmp_path))
    assert train.trained == []


def test_values_of_another_post_processing_are_not_mixed(make, run_study):
    study = run_study(make())
    with pytest.raises(RecipeMismatch, match="'n_post_trials': stored 12, asked for 13"):
        run(study, make(n_post_trials=13), n_trials=5)
    with pytest.raises(RecipeMismatch, match="'data': stored"):
        run(study, make(data="other"), n_trials=5)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"parts": []}, InvalidArgument, "must be the one to tune on and the one to score"),
        ({"parts": ["a", "b", "c"]}, InvalidArgument, "must be the one to tune on"),
        ({"parts": ["a", "a"]}, InvalidArgument, "must differ"),
        ({"parts": ["a"], "cross_fit": True}, InvalidArgument, "must be two or more"),
        ({"parts": "ab"}, InvalidType, "must be a list of parts, got 'ab'"),
        ({"tune": "all"}, InvalidArgument, "`tune` must be one of 'best', 'each'"),
        ({"n_post_trials": 0}, InvalidArgument, "`n_post_trials` must be 1 or above, got 0"),
        ({"post_space": 3}, InvalidType, "`post_space` must be a SearchSpace or a dict.* got int"),
        ({"post_space": SPACE}, InvalidArgument, "got 'noise' in both"),
        ({"score": 3}, InvalidType, "`score_artifact` must be a function, got int"),
        ({"data": object()}, InvalidType, "A fingerprint must be of arrays"),
    ],
)
def test_bad_arguments_are_refused(make, settings, error, message):
    with pytest.raises(error, match=message):
        make(**settings)


def test_training_without_an_artifact_is_refused(make):
    with pytest.raises(InvalidType, match="`make_artifact` must return an artifact, got None"):
        make(lambda params, reporter: None).fit({"noise": 0.5}, 0)
    with pytest.raises(InvalidArgument, match="`seed` must be 0 or above, got -1"):
        make().artifact({"noise": 0.5}, -1)
    with pytest.raises(InvalidArgument, match="`study` must have a complete trial"):
        make().tune(make_study("s", storage="memory://", objective=make()))


WORKER = """
import os, signal, sys
import numpy as np
from hpolab import SearchSpace, StagedObjective, make_study, run

url, log, die_at = sys.argv[1:]
left = [int(die_at.split(":")[1])] if ":" in die_at else [0]


def die_in(stage):
    if die_at.startswith(stage + ":"):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def note(line):
    with open(log, "a") as file:
        file.write(line + "\\n")


def train(params, reporter):
    saved = reporter.restore()
    weights = [0.0] if saved is None else eval(saved.decode())
    for epoch in reporter.steps(4):
        die_in("train")
        note(f"epoch {reporter.trial.number} {epoch}")
        weights.append(weights[-1] + params["lr"])
        reporter.report(weights[-1], epoch, state=lambda: repr(weights).encode())
    note(f"trained {reporter.trial.number}")
    return np.array(weights)


def score(artifact, post_params, part):
    die_in("post")
    return -float(np.abs(artifact[-1] - post_params["shift"] - (part == "score") / 10))


objective = StagedObjective(
    train, score, search_space=SearchSpace({"lr": (0.0, 1.0)}),
    post_space=SearchSpace({"shift": (0.0, 4.0)}), direction="maximize", max_steps=4,
    n_post_trials=6, checkpoint_seconds=0,
)
study = make_study("s", storage=url, objective=objective, seed=0, pruner="none")
run(study, objective, n_trials=3, show_progress_bar=False)
"""


def work(python, folder, die_at="-"):
    return python.run(WORKER, f"sqlite:///{folder}/s.db", f"{folder}/log", die_at)


def outcome(folder):
    url = f"sqlite:///{folder}/s.db"
    names = ["s", *(f"s-trial{number}-post" for number in range(3))]
    return [
        [(t.number, t.state, t.params, t.value) for t in load_study(name, storage=url).trials]
        for name in names
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, python):
    folder = tmp_path_factory.mktemp("whole")
    done = work(python, folder)
    assert done.returncode == 0, done.stderr
    return outcome(folder)


@pytest.mark.parametrize("die_at", ["train:6", "post:0", "post:4", "post:10"])
def test_killed_in_either_stage_it_goes_on_without_training_twice(die_at, whole, tmp_path, python):
    killed = work(python, tmp_path, die_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = work(python, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(tmp_path) == whole
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(set(lines))
    assert len(lines) == 3 * 5
