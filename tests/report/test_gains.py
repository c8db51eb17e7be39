"""The first figure of a report: a gain that was confirmed, or what is not known of it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage

from hpolab import Objective, SearchSpace, confirm, make_study, run, terminal_report
from hpolab.report.blocks import Tiles
from hpolab.report.document import document_of


class Draws(Objective):
    """The default stands at x = 0.5; another x is better by ``gain``, on new seeds."""

    def __init__(self, gain: float, noise: float = 0.1) -> None:
        space = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": 0.5})
        super().__init__(search_space=space, direction="maximize", max_steps=1)
        self.gain, self.noise = gain, noise

    def train(self, params, reporter):
        return float(np.random.default_rng(reporter.seed % 2**32).normal())

    def fit(self, params, seed):
        rng = np.random.default_rng([seed % 2**32, int(params["x"] * 1e6)])
        return (params["x"] != 0.5) * self.gain + self.noise * rng.normal()

    def evaluate(self, model, data):
        return {"score": float(model)}


def tuned(gain: float, *, is_confirmed: bool) -> optuna.Study:
    objective = Draws(gain)
    study = make_study(
        "draws", storage=InMemoryStorage(), objective=objective, sampler="random", seed=3
    )
    run(study, objective, n_trials=15, show_progress_bar=False)
    if is_confirmed:
        confirm(study, objective, test=None, top_k=3, n_seeds=6, show_progress_bar=False)
    return study


def first_tile(study: optuna.Study) -> tuple[str, str, str]:
    blocks = document_of(study).sections[0].blocks
    return next(block for block in blocks if isinstance(block, Tiles)).tiles[0]


def answer(study: optuna.Study) -> str:
    first = document_of(study).sections[0].blocks[0]
    return " ".join([first.headline, *first.paragraphs])


@pytest.mark.parametrize(
    ("gain", "sign", "answer"), [(1.0, "+", "better"), (-1.0, "-", "worse"), (0.0, "", "known")]
)
def test_confirmed_gain_is_that_of_new_seeds_and_a_loss_is_a_loss(gain, sign, answer):
    name, shown, hint = first_tile(tuned(gain, is_confirmed=True))
    assert name == "gain on the default"
    assert shown.startswith(sign)
    assert abs(float(shown) - gain) < 0.4
    assert answer in hint
    assert "trained again on" in hint


def test_unconfirmed_gain_is_not_shown_as_one():
    study = tuned(1.0, is_confirmed=False)
    name, shown, hint = first_tile(study)
    assert (name, shown) == ("gain on the default", "unconfirmed")
    assert "in single runs" in hint
    assert "the gain is not confirmed" in answer(study)
    assert "the best of 15 is partly luck: by chance alone, it may be ahead by up to" in answer(
        study
    )
    assert "unconfirmed" in terminal_report(study)


def test_without_an_estimate_of_noise_nobody_knows():
    study = optuna.create_study()
    space = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": 0.5})
    study = make_study("two", storage=InMemoryStorage(), search_space=space)
    for x in (0.5, 0.4):
        study.enqueue_trial({"x": x})
    study.optimize(lambda trial: space.suggest(trial)["x"], n_trials=2)
    assert "nobody knows how much single runs differ" in answer(study)


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_chance_that_the_best_is_worse_stands_in_each_report(is_confirmed):
    shown = " ".join(terminal_report(tuned(0.0, is_confirmed=is_confirmed)).split())
    assert "Chance that the best trial is worse than the default:" in shown
    assert "Schneider et al. 2025" in shown


@pytest.mark.parametrize(("gain", "low", "high"), [(1.0, 0.0, 0.01), (-1.0, 0.99, 1.0)])
def test_confirmation_tells_whether_the_best_trial_is_worse(gain, low, high):
    from hpolab import load_confirmation, recommend

    study = tuned(gain, is_confirmed=True)
    confirmed = load_confirmation(
        optuna.load_study(study_name="draws-confirm", storage=study._storage)
    )
    found = recommend(study, confirmed)
    assert low <= found.overtuning.chance <= high
    has_better = "No configuration was found to be better than the default" not in found.best.risk
    assert has_better == (gain > 0)
    assert found.trained_again


def test_race_says_how_many_it_expects_to_have_lost():
    study = make_study("race", storage=InMemoryStorage(), pruner="race", seed=0)
    rng = np.random.default_rng(0)

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        values = x + rng.normal(size=5)
        for fold, value in enumerate(values):
            trial.report(value, fold)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(values.mean())

    study.optimize(objective, n_trials=20)
    shown = " ".join(terminal_report(study).split())
    assert "are expected to have become better than the best trial" in shown
