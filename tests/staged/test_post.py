"""The post-processing stage: tuned on some parts, scored on another, the artifact left as it is."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from hpolab import InvalidArgument, InvalidType
from hpolab.studies.export import POST_KEY
from hpolab.studies.trials import METRICS_KEY

TRUTH = np.arange(300) % 2


def test_cross_fit_scores_each_part_with_what_was_tuned_on_the_others(make, run_study, studies_of):
    objective = make(parts=("tune", "score", "test"), cross_fit=True)
    study = run_study(objective, 1)
    names = [f"s-trial0-post-{part}" for part in ("score", "test", "tune")]
    assert studies_of(study) == ["s", *names]
    chosen = study.trials[0].user_attrs[POST_KEY]
    assert set(chosen) == {"tune", "score", "test"}
    tuned = objective.tune(study)
    assert tuned.study_name == "s-trial0-post"


def draw(params, reporter):
    """Coin throws for predictions: no threshold is better than another."""
    return np.random.default_rng(reporter.seed).normal(size=len(TRUTH))


def values_on_noise(make, run_study, **settings):
    objective = make(draw, n_post_trials=30, post_sampler="random", **settings)
    study = run_study(objective, 60)
    values = np.array([trial.value for trial in study.trials])
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def test_without_a_split_the_value_is_optimistic_on_noise(make, run_study):
    mean, error = values_on_noise(make, run_study, parts=["tune"])
    assert mean - 0.5 > 6 * error


@pytest.mark.parametrize("settings", [{}, {"parts": ["tune", "score"], "cross_fit": True}])
def test_with_a_split_the_value_is_honest_on_noise(make, run_study, settings):
    mean, error = values_on_noise(make, run_study, **settings)
    assert abs(mean - 0.5) < 3 * error
    assert error < 0.01


def test_score_may_return_metrics_of_which_one_is_named_to_count(make, run_study, accuracy):
    def score(predictions, post_params, part):
        return {"n": 100, "accuracy": accuracy(predictions, post_params, part)}

    study = run_study(make(score=score, metric="accuracy"))
    metrics = study.best_trial.user_attrs[METRICS_KEY]
    assert list(metrics) == ["n", "accuracy", "at default", "in tuning"]
    assert metrics["accuracy"] == study.best_value


def test_minimize(make, run_study, accuracy):
    def error(predictions, post_params, part):
        return 1 - accuracy(predictions, post_params, part)

    study = run_study(make(score=error, direction="minimize"))
    metrics = study.best_trial.user_attrs[METRICS_KEY]
    assert metrics["value"] < metrics["at default"]


def test_post_processing_without_any_value_prunes(make, run_study):
    study = run_study(make(score=lambda *_: float("nan")), 1)
    assert study.trials[0].state == TrialState.PRUNED


@pytest.mark.parametrize("at", [1, 5])
def test_score_that_changes_the_artifact_is_an_error_that_says_so(make, run_study, accuracy, at):
    calls = []

    def score(predictions, post_params, part):
        calls.append(part)
        if len(calls) > at:
            predictions[0] += 1
        return accuracy(predictions, post_params, part)

    objective = make(score=score)
    with pytest.raises(InvalidArgument, match=r"`score_artifact` must leave the artifact.*ndarray"):
        objective.tuned(objective.artifact({"noise": 0.5}, 0))
    study = run_study(make(score=score), 1)
    assert study.trials[0].state == TrialState.FAIL
    assert "must leave the artifact" in study.trials[0].user_attrs["hpolab:error"]


@pytest.mark.parametrize("said", ["high", {}, {"accuracy": None}])
def test_score_that_returns_no_number_is_refused(make, said):
    objective = make(score=lambda *_: said)
    with pytest.raises(
        InvalidType, match="`score_artifact` must return a number, or numbers by name"
    ):
        objective.post.metrics(None, {}, "tune")


def test_score_without_the_metric_is_refused(make):
    objective = make(score=lambda *_: {"n": 100, "accuracy": 1.0})
    with pytest.raises(InvalidArgument, match=r"`metric` must be one of 'n', 'accuracy', .* got"):
        objective.post.metrics(None, {}, "tune")


def test_what_came_of_post_processing_is_not_told_of_for_each_trial(make, run_study, caplog):
    caplog.set_level("INFO")
    run_study(make(n_post_trials=3), 2)
    said = [r.getMessage() for r in caplog.records if r.name.startswith("hpolab")]
    assert len(said) == 3
    assert [line.partition(" finished")[0] for line in said[:2]] == [
        f"Trial {number} of study 's'" for number in range(2)
    ]
    assert said[2].startswith("Study 's' has 2 finished trials")
