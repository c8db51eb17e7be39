"""What a study's trials show of true values: intervals that hold them, also of the best trial's."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from hpolab import SearchSpace, make_study, recommend
from hpolab.analysis.statistics import chance_worse


def bowl(params):
    return -sum((x - 0.2 - 0.1 * place) ** 2 for place, x in enumerate(params.values()))


def ridge(params):
    return -8 * (params["x0"] - params["x1"]) ** 2 - 0.2 * params["x0"]


def cliff(params):
    return bowl(params) - (3.0 if params["x0"] > 0.35 else 0.0)


def flat(params):
    return 7.0


def kink(params):
    return -sum(abs(x - 0.4) for x in params.values())


def tuned(value, *, n_params, noise, n_trials, seed, sampler="tpe"):
    rng = np.random.default_rng(seed)
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study = optuna.create_study(sampler=kinds[sampler](seed=seed), direction="maximize")

    def objective(trial):
        params = {f"x{i}": trial.suggest_float(f"x{i}", 0, 1) for i in range(n_params)}
        return value(params) + noise * rng.normal()

    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize(
    ("value", "n_params", "noise"),
    [(bowl, 2, 0.01), (bowl, 5, 0.02), (ridge, 2, 0.05), (cliff, 2, 0.02), (flat, 3, 0.1)],
)
def test_expected_interval_holds_the_true_value(value, n_params, noise, sampler):
    held = []
    for seed in range(15):
        study = tuned(
            value, n_params=n_params, noise=noise, n_trials=50, seed=seed, sampler=sampler
        )
        found = recommend(study)
        for each in (found.best, found.robust):
            held.append(value(each.params) in each.expected)
    assert np.mean(held) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 15)


@pytest.mark.parametrize("value", [bowl, kink])
def test_without_noise_the_value_itself_is_expected(value):
    for seed in range(5):
        found = recommend(tuned(value, n_params=2, noise=0.0, n_trials=40, seed=seed))
        assert found.best.expected.low - 1e-12 <= found.best.value
        assert found.best.value <= found.best.expected.high + 1e-12


def test_best_of_many_noisy_values_is_expected_to_be_lower():
    gaps = []
    for seed in range(10):
        found = recommend(tuned(flat, n_params=2, noise=1.0, n_trials=40, seed=seed))
        gaps.append(found.best.value - found.best.expected.mean)
    assert 1.0 < np.mean(gaps) < 3.0


@pytest.mark.parametrize(("n_params", "n_trials"), [(6, 20), (2, 9), (1, 5)])
def test_too_few_trials_expect_nothing(n_params, n_trials):
    study = tuned(bowl, n_params=n_params, noise=0.1, n_trials=n_trials, seed=0)
    assert recommend(study).best.expected is None


def test_conditional_parameters_and_choices_are_places_too():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rng = np.random.default_rng(0)

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        value = 1.0 if kind == "a" else trial.suggest_float("x", 0, 1) ** 2
        return value + 0.02 * rng.normal()

    study.optimize(objective, n_trials=60)
    best = recommend(study).best
    assert best.params["kind"] == "b"
    assert best.params["x"] ** 2 in best.expected


def test_long_studies_are_judged_in_time():
    study = tuned(bowl, n_params=2, noise=0.02, n_trials=800, seed=0, sampler="random")
    best = recommend(study).best
    assert bowl(best.params) in best.expected


@pytest.mark.parametrize(
    ("estimate", "error", "chance"), [(0.0, 0.0, 0.5), (1.0, 0.0, 0.0), (-1.0, 0.0, 1.0)]
)
def test_without_an_error_the_sign_decides(estimate, error, chance):
    assert chance_worse(estimate, error, 9) == chance


def test_said_chance_of_overtuning_is_about_the_true_one():
    said, true = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        default, noise = float(rng.uniform(0, 1)), float(10 ** rng.uniform(-2, -0.5))
        space = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": default})
        study = make_study(
            "s", storage="memory://", search_space=space, sampler="random", seed=seed,
            direction="maximize",
        )  # fmt: skip
        study.enqueue_trial({"x": default})
        study.optimize(
            lambda trial, rng=rng, noise=noise: (
                -((trial.suggest_float("x", 0, 1) - 0.5) ** 2) + noise * rng.normal()
            ),
            n_trials=15,
        )
        chance = recommend(study, baseline=0).overtuning.chance
        if chance is not None:
            said.append(chance)
            true.append(abs(study.best_params["x"] - 0.5) > abs(default - 0.5))
    said, true = np.array(said), np.array(true)
    assert len(said) > 80
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 1.0)):
        among = (said >= low) & (said < high)
        error = 3 * math.sqrt(0.25 / max(1, among.sum()))
        assert true[among].mean() <= said[among].mean() + error
