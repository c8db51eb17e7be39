"""The first sentence of a report: the metric by its name, the gain, and whether it holds."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpolab import Objective, SearchSpace, compare, confirm, make_study, run
from hpolab.report.blocks import Answer
from hpolab.report.document import document_of


class Shots(Objective):
    """Scores x, give or take some luck; the default stands at x = 0.5."""

    def __init__(self, noise: float = 0.01, *, low: float = 0.0, shift: float = 0.0) -> None:
        space = SearchSpace({"x": (low, 1.0)}, defaults={"x": max(low, 0.5)})
        super().__init__(search_space=space, metric="hits", direction="maximize", max_steps=1)
        self.noise, self.shift = noise, shift

    def train(self, params, reporter):
        return self.evaluate(self.fit(params, reporter.seed), None)["hits"]

    def fit(self, params, seed):
        return params["x"] + self.shift, seed

    def evaluate(self, model, data):
        x, seed = model
        rng = np.random.default_rng([seed % 2**32, int(x * 1e6)])
        return {"hits": float(x + self.noise * rng.normal())}


def answer_of(source) -> Answer:
    found = document_of(source).sections[0].blocks[0]
    assert isinstance(found, Answer)
    return found


def tuned(objective: Objective, n_trials: int = 12) -> optuna.Study:
    study = make_study("shots", storage=InMemoryStorage(), objective=objective, sampler="random")
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


def test_confirmed_gain_is_said_to_hold_with_both_values():
    objective = Shots()
    study = tuned(objective)
    found = confirm(study, objective, test=None, top_k=2, n_seeds=5, show_progress_bar=False)
    answer = answer_of(study)
    assert answer == answer_of(found)
    assert answer.headline.startswith("The gain holds: hits 0.")
    assert answer.headline.endswith("with the default.")
    assert f"with trial {found.winner.trial}, " in answer.headline
    assert answer.tone == "good"
    assert "trained again with 5 new seeds" in answer.paragraphs[0]


def test_gain_that_is_lost_on_new_seeds_is_not_said_to_hold():
    objective = Shots(noise=1.0)
    study = tuned(objective)
    confirm(study, objective, test=None, top_k=2, n_seeds=4, show_progress_bar=False)
    answer = answer_of(study)
    assert not answer.headline.startswith("The gain holds")
    assert answer.tone == "finding"


def test_trial_that_became_the_best_after_the_confirmation_is_called_unconfirmed():
    objective = Shots()
    study = tuned(objective)
    confirm(study, objective, test=None, top_k=2, n_seeds=4, show_progress_bar=False)
    params = {"x": 1.0}
    ranges = {"x": FloatDistribution(0.0, 1.0)}
    study.add_trial(create_trial(value=9.5, params=params, distributions=ranges))
    last = answer_of(study).paragraphs[-1]
    assert last == "Trial 12 has the best hits of the trials, 9.5, and is not confirmed."


def test_gain_without_a_confirmation_is_called_unconfirmed_and_says_what_to_do():
    answer = answer_of(tuned(Shots()))
    assert answer.headline.startswith("Best hits ")
    assert answer.headline.endswith("with the default: the gain is not confirmed.")
    assert "the best of 12 is partly luck" in answer.paragraphs[0]
    assert "`hpolab.confirm(study, objective, test=...)`" in answer.paragraphs[0]


def of_trials(*trials: tuple[TrialState, float | None]) -> optuna.Study:
    """A study whose trial 0 is the default configuration."""
    space = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": 0.5})
    study = make_study("few", storage=InMemoryStorage(), search_space=space, direction="minimize")
    for number, (state, value) in enumerate(trials):
        params = {"x": 0.5 if number == 0 else 0.1}
        ranges = {"x": FloatDistribution(0.0, 1.0)}
        study.add_trial(create_trial(state=state, value=value, params=params, distributions=ranges))
    return study


@pytest.mark.parametrize(
    ("trials", "headline", "words"),
    [
        ([], "No trial is complete yet: none has begun.", ""),
        (
            [(TrialState.FAIL, None)] * 2,
            "No trial is complete yet, so there is nothing to compare: 2 failed.",
            "Most often (2 trials) one failed: no reason stored.",
        ),
        (
            [(TrialState.COMPLETE, 0.5)],
            "The default is the best so far: value 0.5.",
            "No other trial is complete yet.",
        ),
        (
            [(TrialState.COMPLETE, 0.5), (TrialState.COMPLETE, 0.75)],
            "The default is the best so far: value 0.5.",
            "No other of 2 complete trials is better.",
        ),
        (
            [(TrialState.PRUNED, None), (TrialState.COMPLETE, 0.5)],
            "Best value 0.5 with trial 1, not confirmed.",
            "The default was pruned and has no value to compare with.",
        ),
        (
            [(TrialState.FAIL, None), (TrialState.COMPLETE, 0.5)],
            "Best value 0.5 with trial 1, not confirmed.",
            "The default failed and has no value to compare with.",
        ),
    ],
)
def test_study_with_little_to_tell_says_what_there_is(trials, headline, words):
    answer = answer_of(of_trials(*trials))
    assert answer.headline == headline
    assert words in " ".join(answer.paragraphs)
    assert answer.tone == "finding"


def test_study_without_a_default_says_that_nothing_can_be_compared(study_of):
    answer = answer_of(study_of([0.5, 0.25, 0.75]))
    assert answer.headline == "Best value 0.25 with trial 1, not confirmed."
    assert "nothing to compare it with" in answer.paragraphs[0]


def test_several_values_have_a_front_and_no_best():
    study = optuna.create_study(directions=["minimize", "minimize"])
    for x in (0.1, 0.5, 0.9):
        study.add_trial(create_trial(values=[x, 1 - x]))
    study.add_trial(create_trial(values=[2.0, 2.0]))
    headline = answer_of(study).headline
    assert headline == "3 of 4 complete trials are on the Pareto front of value 0 and value 1."


@pytest.mark.parametrize("n_repeats", [1, 7])
def test_comparison_says_who_is_better_and_about_what(n_repeats):
    objective = Shots(noise=0.001)
    spaces = {"high": Shots(low=0.9).search_space, "low": SearchSpace({"x": (0.0, 0.1)})}
    found = compare(
        objective, spaces, study_name="duel", n_trials=3, n_repeats=n_repeats,
        storage=InMemoryStorage(), test=0, n_test_seeds=4, show_progress_bar=False,
    )  # fmt: skip
    answer = answer_of(found)
    if n_repeats == 1:
        assert answer.headline == "high's configuration is better than that of low."
        assert "one tuning each" in answer.paragraphs[0]
    else:
        assert answer.headline == "high is better than low."
        assert "mean over 7 tunings each" in answer.paragraphs[0]
    assert answer.paragraphs[0].startswith("On the test data, hits")
    assert answer.tone == "good"


def test_comparison_without_test_data_does_not_say_who_is_better():
    objective = Shots()
    spaces = {"high": Shots(low=0.9).search_space, "low": SearchSpace({"x": (0.0, 0.1)})}
    found = compare(
        objective, spaces, study_name="duel", n_trials=3, storage=InMemoryStorage(),
        show_progress_bar=False,
    )  # fmt: skip
    answer = answer_of(found)
    assert answer.headline == "Not known yet which of high and low is better."
    assert "Best hits of the trials: high" in answer.paragraphs[0]
