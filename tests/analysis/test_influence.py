"""What parameters do: what is planted is found, what is noise is called noise."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab import InvalidArgument, InvalidType, influence


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_planted_parameter_is_found_and_the_others_are_not(study_of, draw, planted, direction):
    params = draw(80)
    sign = 1 if direction == "maximize" else -1
    found = influence(
        study_of([sign * v for v in planted(params)], params, direction=direction),
        bins={"lr": [1e-3]},
    )
    assert [name for name, each in found.parameters.items() if each.is_significant] == ["lr"]
    assert next(iter(found.parameters)) == "lr"
    assert found["lr"].smooth_effect.is_significant
    assert found["lr"].importance.share > 0.5
    assert found["lr"].difference.better == ">= 0.001"
    assert "Significant" in found.verdict[-1]
    assert "lr" in found.verdict[-1]


def test_planted_choice_is_found(study_of, draw, noise):
    params = draw(60)
    values = noise(60) + np.array([0.5 * (each["optimizer"] == "sgd") for each in params])
    found = influence(study_of(values.tolist(), params))
    assert found["optimizer"].is_significant
    assert found["optimizer"].difference.better == "sgd"


def test_planted_interaction_is_found(study_of, draw, noise):
    params = draw(90)
    signs = [(e["lr"] > 10**-2.5) == (e["layers"] > 4) for e in params]
    found = influence(
        study_of((noise(90) + np.array(signs)).tolist(), params),
        bins={"lr": [10**-2.5], "layers": [4.5]},
    )
    assert set(found.interaction.parameters) == {"lr", "layers"}
    assert found.interaction.is_significant
    assert found.interaction.share > 0.5
    assert sum(cell.n_trials for cell in found.interaction.cells) == 90


def test_pure_noise_is_called_noise(study_of, draw, noise):
    found = influence(study_of(noise(70).tolist(), draw(70)))
    assert not any(each.is_significant for each in found.parameters.values())
    assert "No effect of a parameter is significant at one run each." in str(found)


@pytest.mark.long
def test_false_alarms_are_as_rare_as_the_confidence_says(study_of, draw, noise):
    alarms = 0
    for seed in range(20):
        study = study_of(noise(30, seed).tolist(), draw(30, seed))
        found = influence(study, n_resamples=60, seed=seed)
        alarms += "No effect" not in found.verdict[-1]
    # At one in twenty, five or more of twenty happen in three of a thousand cases.
    assert alarms < 5


def test_intervals_of_differences_hold_the_true_one(study_of, noise):
    held = 0
    for seed in range(100):
        params = [{"layers": 1 + row % 2} for row in range(12)]
        values = noise(12, seed) + np.array([0.3 * each["layers"] for each in params])
        difference = influence(study_of(values.tolist(), params), n_resamples=1, confidence=0.7)[
            "layers"
        ].difference
        held += 0.3 in difference.effect
    # 70 of 100, give or take 4.6.
    assert 56 <= held <= 84


def test_groups_have_counts_means_and_t_intervals(study_of):
    params = [{"layers": n} for n in (1, 1, 1, 2)]
    found = influence(study_of([1.0, 2.0, 3.0, 5.0], params))["layers"]
    first, second = found.groups
    assert (first.label, first.n_trials, first.mean) == ("1", 3, 2.0)
    # t(0.975, 2) = 4.3027, times a standard error of 1 / sqrt(3)
    assert (first.low, first.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert (second.n_trials, second.low, second.high) == (1, None, None)
    assert found.difference is None
    assert "too few trials: no two groups" in str(found)


@pytest.mark.parametrize(
    ("n", "n_groups"), [(6, 2), (29, 2), (30, 3)], ids=["few", "not yet three", "three"]
)
def test_numbers_are_split_into_groups_of_one_size(study_of, noise, n, n_groups):
    params = [{"lr": float(x)} for x in np.geomspace(1e-4, 1e-1, n)]
    found = influence(study_of(noise(n).tolist(), params), n_resamples=2)["lr"]
    sizes = [group.n_trials for group in found.groups]
    assert len(sizes) == n_groups
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_edge_belongs_to_the_group_above(study_of):
    params = [{"lr": lr} for lr in (0.001, 0.01, 0.05)]
    groups = influence(study_of([1.0, 2.0, 3.0], params), bins={"lr": [0.01]})["lr"].groups
    assert [(g.label, g.n_trials) for g in groups] == [("< 0.01", 1), (">= 0.01", 2)]


def test_conditional_parameter_is_judged_on_the_trials_that_have_it(study_of, draw, noise):
    params = draw(90)
    for each in params:
        if each["optimizer"] != "sgd":
            del each["layers"]
    values = noise(90) + np.array([0.2 * each.get("layers", 0) for each in params])
    found = influence(study_of(values.tolist(), params))
    assert found["layers"].n_trials == sum("layers" in each for each in params)
    assert found["layers"].is_significant
    assert found["layers"].importance is not None
    # That lr matters is not true either: only sgd's values scatter.
    assert not found.interaction.is_significant


def test_study_is_only_read(study_of, draw, noise):
    study = study_of(noise(20).tolist(), draw(20))
    before = [(t.params, t.value, t.distributions) for t in study.trials]
    influence(study, n_resamples=2)
    assert [(t.params, t.value, t.distributions) for t in study.trials] == before


def test_same_seed_gives_the_same(study_of, draw, noise):
    study = study_of(noise(30).tolist(), draw(30))
    assert influence(study, n_resamples=9, seed=3) == influence(study, n_resamples=9, seed=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bins": {"lrr": [1]}}, InvalidArgument, "`bins` must be one of .* Did you mean 'lr'"),
        ({"bins": {"optimizer": [1]}}, InvalidArgument, "numeric parameter, got 'optimizer'"),
        ({"bins": {"lr": [2, 1]}}, InvalidArgument, "must be increasing numbers"),
        ({"bins": {"lr": []}}, InvalidArgument, "must be increasing numbers"),
        ({"bins": {"lr": 3}}, InvalidType, "lists of numbers"),
        ({"evaluator": "fanova"}, InvalidType, "importance evaluators, got str"),
        ({"n_resamples": 0}, InvalidArgument, "`n_resamples` must be 1 or above"),
        ({"confidence": 95}, InvalidArgument, "`confidence` must be in"),
    ],
)
def test_bad_input_is_refused(study_of, draw, noise, arguments, error, message):
    with pytest.raises(error, match=message):
        influence(study_of(noise(12).tolist(), draw(12)), **arguments)
