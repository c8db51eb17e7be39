"""A comparison's report: its race, its chances, its test scores and its trials."""

from __future__ import annotations

import numpy as np
from optuna.storages import InMemoryStorage

from hpolab import Comparison, Contender, compare


def test_comparison_shows_each_part(page, comparison):
    shown = page(comparison)
    words_of_test = ("On the test data", f"improvement of {comparison.ranking()[0].name}")
    for words in ("Chance to win", "after 10 trials", "after 12 trials", "sgd", *words_of_test):
        assert words in shown.text, words
    assert {"best-so-far", "best-trials", "test-scores", "parameter-0"} <= shown.figures.keys()
    assert [trace["name"] for trace in shown.figures["best-so-far"]["data"][-2:]] == ["adam", "sgd"]


def test_comparison_of_one_trial_each_shows_no_race_and_no_chance(page, curve):
    shown = page(
        compare(curve, ["adam", "sgd"], study_name="c", n_trials=1, storage=InMemoryStorage())
    )
    assert "Chance to win" not in shown.text
    assert "would win in" not in shown.text
    assert "best-so-far" not in shown.figures
    assert "best-trials" in shown.figures
    assert "-0" not in shown.text.split()


def test_contender_without_a_value_cannot_win(study_of, page):
    studies = {name: study_of(values) for name, values in {"a": [1, 2], "b": []}.items()}
    contenders = {
        name: Contender(name, study, np.array([1.0, 2.0] if name == "a" else []), None, None, None)
        for name, study in studies.items()
    }
    shown = page(Comparison("c", "minimize", contenders))
    assert "Without a value: b" in shown.text
