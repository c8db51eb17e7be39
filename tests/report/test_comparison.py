"""A comparison's report: its verdict, its race, its test scores and its trials."""

from __future__ import annotations

import numpy as np
from optuna.storages import InMemoryStorage

from hpolab import Comparison, Contender, compare


def test_comparison_shows_each_part(page, comparison):
    shown = page(comparison)
    leader = comparison.ranking()[0].name
    verdict = ("On this test data", f"the configuration found for {leader}", "n_repeats")
    for words in (
        "sgd",
        "Not known yet which of",
        "How another tuning would go",
        f"improvement of {leader}",
        *verdict,
    ):
        assert words in shown.text, words
    assert {"best-so-far", "best-trials", "test-scores", "parameter-lr"} <= shown.figures.keys()
    assert [trace["name"] for trace in shown.figures["best-so-far"]["data"][-2:]] == ["adam", "sgd"]


def test_comparison_of_one_trial_each_shows_no_race(page, curve):
    shown = page(
        compare(curve, ["adam", "sgd"], study_name="c", n_trials=1, storage=InMemoryStorage())
    )
    assert "best-so-far" not in shown.figures
    assert "best-trials" in shown.figures
    assert "-0" not in shown.text.split()


def test_contender_without_a_value_is_named(study_of, page):
    studies = {name: study_of(values) for name, values in {"a": [1, 2], "b": []}.items()}
    contenders = {
        name: Contender(name, study, np.array([1.0, 2.0] if name == "a" else []), None, None, None)
        for name, study in studies.items()
    }
    shown = page(Comparison("c", "minimize", contenders))
    assert "Without a value: b" in shown.text


def test_report_of_repeated_tunings_begins_with_what_they_say_of_the_contenders(page, curve):
    found = compare(
        curve, ["adam", "sgd"], study_name="c", n_trials=3, n_repeats=3,
        storage=InMemoryStorage(), test=0, show_progress_bar=False,
    )  # fmt: skip
    shown = page(found)
    leader = found.ranking()[0].name
    for words in ("Probability of outperforming", f"{leader} wins", "medians of the tunings"):
        assert words in shown.text, words
    assert shown.text.index("over 3 tunings each") < shown.text.rindex("Best accuracy so far")
    lines = shown.figures["best-so-far"]["data"]
    assert len(lines) == 3 * 2  # two edges of a band and a line for each
    assert len(shown.figures["test-scores"]["data"][0]["x"]) == 3 * 2


def test_bands_of_random_search_say_what_they_are(page, curve):
    found = compare(
        curve, ["adam", "sgd"], study_name="c", n_trials=12, storage=InMemoryStorage(),
        sampler={"adam": "random", "sgd": "tpe"}, pruner="none", show_progress_bar=False,
    )  # fmt: skip
    shown = page(found)
    assert "Bands of adam: where the median best value of so many random trials lies" in shown.text
    assert "These are overestimates, and one tuning each" in shown.text
    assert len(shown.figures["best-so-far"]["data"]) == 2 + 2


def test_each_best_configuration_has_its_chance_of_overtuning(page, comparison):
    shown = page(comparison)
    assert shown.text.count("in tuning, unconfirmed.") == 2
    assert shown.text.count("Chance that the best trial is worse than the default") == 2
