"""Comparisons on several data sets: interquartile means, their intervals, and who outperforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.stats import trim_mean

from hpolab import Comparison, Contender, InvalidArgument, InvalidType, compare_across
from hpolab.analysis.across import interquartile_mean


def comparison(scores: dict[str, Any], direction: str = "maximize", default: float = 0.0) -> Any:
    """Return a comparison of repeated tunings that were scored on one fresh seed each."""
    study = optuna.create_study(direction=direction)
    contenders = {}
    for name, each in scores.items():
        first, *further = (
            Contender(
                name, study, np.array([default, score]), default, float(score), {},
                (float(score),), 2,
            )
            for score in each
        )  # fmt: skip
        contenders[name] = Contender(**{**vars(first), "repeats": tuple(further)})
    return Comparison("c", direction, contenders)


@pytest.mark.parametrize("n", [4, 5, 10, 31])
def test_interquartile_mean_is_scipys(n):
    scores = np.random.default_rng(n).normal(size=(3, n))
    expected = trim_mean(scores, 0.25, axis=1)
    assert interquartile_mean(scores).tolist() == pytest.approx(expected.tolist())


def test_scores_are_shares_of_what_tuning_could_gain_whatever_the_direction():
    found = compare_across(
        {
            "up": comparison({"a": [0.8, 0.9], "b": [0.7, 0.7]}, default=0.5),
            "down": comparison({"a": [2.0, 1.0], "b": [3.0, 3.0]}, "minimize", default=5.0),
        }
    )
    assert found.scales == {"up": (0.5, 0.9), "down": (5.0, 1.0)}
    assert found.scores["a"].tolist() == pytest.approx(np.array([[0.75, 1.0], [0.75, 1.0]]))
    assert found.scores["b"].tolist() == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5]]))
    assert found.ranking() == ["a", "b"]
    assert found.outperforming()["b"].wins == 4
    assert "2 data sets with 2 tunings each" in found.verdict
    assert found.to_frame()["interquartile_mean"].tolist() == pytest.approx([0.875, 0.5])
    assert "interquartile mean" in str(found)


def test_scale_of_ones_own_replaces_that_of_the_tunings():
    one = {"one": comparison({"a": [0.8, 0.9], "b": [0.7, 0.6]})}
    found = compare_across(one, scale={"one": (0.0, 2.0)})
    assert found.scores["a"].tolist() == [[0.4, 0.45]]


@pytest.mark.parametrize(("n_data_sets", "n_repeats"), [(3, 5), (5, 5), (8, 3)])
def test_intervals_hold_the_mean_of_such_estimates(n_data_sets, n_repeats):
    rng = np.random.default_rng(0)
    levels = rng.normal(size=n_data_sets)
    scale = {str(place): (0.0, 1.0) for place in range(n_data_sets)}

    def drawn() -> np.ndarray:
        return levels[:, None] + 0.3 * rng.normal(size=(n_data_sets, n_repeats))

    true = np.mean([interquartile_mean(drawn().ravel()) for _ in range(20_000)])
    held, n_draws = 0, 200
    for _ in range(n_draws):
        scores = {"a": drawn()}
        comparisons = {
            str(place): comparison({"a": scores["a"][place]}) for place in range(n_data_sets)
        }
        found = compare_across(comparisons, scale=scale).means["a"]
        held += true in found
    error = math.sqrt(0.05 * 0.95 / n_draws)
    assert 0.95 - 3 * error < held / n_draws


def test_probability_over_unequal_data_sets_is_within_its_interval():
    rng = np.random.default_rng(1)
    gains = [0.0, 0.5, 2.0, -0.5]
    chances = [0.5 * (1 + math.erf(gain / 2)) for gain in gains]
    held = []
    for _ in range(150):
        comparisons = {
            str(place): comparison({"a": rng.normal(size=4) + gain, "b": rng.normal(size=4)})
            for place, gain in enumerate(gains)
        }
        found = compare_across(comparisons, scale=dict.fromkeys(comparisons, (0.0, 1.0)))
        ((rival, each),) = found.outperforming().items()
        true = float(np.mean(chances))
        held.append((true if rival == "b" else 1 - true) in each)
    assert np.mean(held) > 0.93


@pytest.mark.parametrize(
    ("comparisons", "scale", "error", "message"),
    [
        ({}, None, InvalidType, "must be a dict"),
        ({"x": comparison({"a": [1.0]})}, None, InvalidArgument, "2 or above, got {'x': 1}"),
        (
            {"x": comparison({"a": [1.0, 2.0]}), "y": comparison({"b": [1.0, 2.0]})},
            None,
            InvalidArgument,
            "same contenders",
        ),
        (
            {"x": comparison({"a": [1.0, 2.0]}), "y": comparison({"a": [1.0, 2.0, 3.0]})},
            None,
            InvalidArgument,
            "same number of finished repeats",
        ),
        ({"x": comparison({"a": [0.0, 0.0]})}, None, InvalidArgument, "two different scores"),
        (
            {"x": comparison({"a": [1.0, math.nan]})},
            {"x": (0, 1)},
            InvalidArgument,
            "none of 1 tuning of 'a' on 'x'",
        ),
        (
            {"mnist": comparison({"a": [1.0, 2.0]})},
            {"mnst": (0, 1)},
            InvalidArgument,
            "Did you mean 'mnist'|`scale` must be one of 'mnist'",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(comparisons, scale, error, message):
    with pytest.raises(error, match=message):
        compare_across(comparisons, scale=scale)
