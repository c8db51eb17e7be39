"""compare(n_repeats=...): paired, resumable, independent tunings, and what they say."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import InMemoryStorage

from hpolab import (
    Comparison,
    Diverged,
    InvalidArgument,
    Objective,
    RecipeMismatch,
    SearchSpace,
    StudyNotFound,
    compare,
    delete_study,
    load_comparison,
    load_study,
    make_study,
    run,
)
from hpolab.studies.export import in_short
from hpolab.studies.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter

UNIT = SearchSpace({"x": (0.0, 1.0)})


class Noisy(Objective):
    """The value is x with the noise of the seed, and so is the score."""

    def __init__(self, shift: float = 0.0, deviation: float = 0.1, **settings: Any) -> None:
        super().__init__(search_space=UNIT, direction="maximize", max_steps=1, **settings)
        self.shift, self.deviation = shift, deviation

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return self._score(params, reporter.seed)

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        return params, seed

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"score": self._score(*model)}

    def _score(self, params: Mapping[str, Any], seed: int) -> float:
        noise = np.random.default_rng([seed, round(params["x"] * 1e6)]).normal()
        return params["x"] + self.shift + self.deviation * noise


def compared(contenders: Mapping[str, Objective] | None = None, **options: Any) -> Comparison:
    settings = {
        "study_name": "c",
        "n_trials": 4,
        "storage": "memory://",
        "sampler": "random",
        "pruner": "none",
        "show_progress_bar": False,
    }
    return compare(None, contenders or {"a": Noisy(), "b": Noisy()}, **settings | options)


def drawn(found: Comparison) -> dict[str, list[list[float]]]:
    return {
        name: [[t.params["x"] for t in each.study.trials] for each in side.tunings]
        for name, side in found.contenders.items()
    }


def seen(found: Comparison) -> Any:
    return [
        (name, each.values.tolist(), each.test_scores)
        for name, side in found.contenders.items()
        for each in side.tunings
    ]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", RandomSampler])
def test_contenders_and_repeats_draw_independently_and_the_same_once_more(sampler):
    found = drawn(compared(sampler=sampler, n_repeats=3))
    tunings = [tuple(draws[1:]) for several in found.values() for draws in several]
    assert len(set(tunings)) == 6
    assert not set.intersection(*map(set, tunings))
    assert drawn(compared(sampler=sampler, n_repeats=3)) == found
    assert drawn(compared(sampler=sampler, n_repeats=3, seed=1)) != found


def test_contenders_train_with_the_same_seeds_in_each_repeat():
    class Seeded(Noisy):
        def _score(self, params: Mapping[str, Any], seed: int) -> float:
            return float(seed)

    found = compared({"a": Seeded(), "b": Seeded()}, n_repeats=3, test=0)
    a, b = (found.contenders[name].tunings for name in "ab")
    for one, other in zip(a, b, strict=True):
        assert one.values.tolist() == other.values.tolist()
        assert one.test_scores == other.test_scores
    every = [value for each in a for value in (*each.values, *each.test_scores)]
    assert len(set(every)) == len(every)


def test_first_tuning_is_that_of_a_comparison_without_repeats():
    storage = InMemoryStorage()
    alone = compared(storage=storage, test=0)
    together = compared(storage=storage, test=0, n_repeats=3)
    fresh = compared(test=0, n_repeats=3)
    assert seen(together) == seen(fresh)
    for name in "ab":
        first = together.contenders[name]
        assert first.values.tolist() == alone.contenders[name].values.tolist()
        assert first.test_scores == alone.contenders[name].test_scores
        assert len(first.study.trials) == 4
    assert str(load_comparison("c", storage=storage)) == str(together)


def test_comparison_that_an_earlier_version_has_begun_draws_on_as_it_did():
    storage = InMemoryStorage()
    for name in "ab":  # all samplers had the study's seed
        study = make_study(
            f"c-{name}", objective=Noisy(), storage=storage, sampler="random", pruner="none", seed=0
        )
        run(study, Noisy(), n_trials=2, show_progress_bar=False)
    found = drawn(compared(storage=storage, n_repeats=2))
    assert found["a"][0] == found["b"][0]
    assert found["a"][1] != found["b"][1]


def test_study_resumes_with_the_seed_of_its_own_sampler():
    storage = InMemoryStorage()
    found = compared(storage=storage)
    recipe = read_recipe(found.contenders["a"].study)
    assert recipe is not None
    assert recipe.sampler_seed is not None
    study = load_study("c-a", storage=storage)
    run(study, Noisy(), n_trials=7, show_progress_bar=False)
    longer = drawn(compared(n_trials=7))
    assert [trial.params["x"] for trial in study.trials] == longer["a"][0]
    with pytest.raises(RecipeMismatch, match="sampler_seed: stored"):
        make_study("c-a", storage=storage, objective=Noisy(), sampler_seed=1)


KILLED = """
import os, sys
from tests.analysis.trained.test_compare_repeats import Noisy, compared

def kill(study, trial):
    if study.study_name == sys.argv[2] and trial.number == 1:
        os.kill(os.getpid(), 9)

compared(storage=sys.argv[1], n_repeats=3, test=0, callbacks=[kill])
"""


@pytest.mark.parametrize("place", ["c-a", "c-b-repeat1", "c-test-seeds-repeat1"])
def test_killed_comparison_ends_as_the_uninterrupted_one(place, tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    ended = subprocess.run([sys.executable, "-c", KILLED, url, place], check=False)
    assert ended.returncode == -9
    part = load_comparison("c", storage=url)
    assert part.n_repeats < 3
    assert "3 tunings each" not in part.verdict
    whole = compared(storage=url, n_repeats=3, test=0)
    assert seen(whole) == seen(compared(n_repeats=3, test=0))
    assert whole.n_repeats == 3


@pytest.mark.usefixtures("warm_workers")
def test_workers_find_what_one_process_finds(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    found = compared(storage=url, n_repeats=2, test=0, n_workers=2)
    assert found.n_repeats == 2
    alone = compared(n_repeats=2, test=0)
    assert drawn(found) == drawn(alone)
    for name in "ab":
        for one, other in zip(
            found.contenders[name].tunings, alone.contenders[name].tunings, strict=True
        ):
            assert one.test_scores == other.test_scores


def test_repeats_belong_to_their_comparison_and_go_with_it():
    storage = InMemoryStorage()
    compared(storage=storage, n_repeats=3, test=0)
    expected = {f"c-{part}{suffix}" for part in ("a", "b", "test-seeds")
                for suffix in ("", "-repeat1", "-repeat2")}  # fmt: skip
    assert set(optuna.get_all_study_names(storage)) == expected
    assert list(load_comparison("c", storage=storage).contenders) == ["a", "b"]
    assert set(delete_study("c", storage=storage)) == expected
    with pytest.raises(StudyNotFound):
        load_comparison("c", storage=storage)


def test_verdict_of_repeats_is_about_the_contenders():
    found = compared({"low": Noisy(), "high": Noisy(1.0)}, n_repeats=6, test=0)
    assert [each.name for each in found.ranking()] == ["high", "low"]
    assert found.improvements()["low"].is_better
    assert found.outperforming()["low"].wins == 6
    assert found.outperforming()["low"].low > 0.5
    assert found.verdict.startswith(
        "On this test data, over 6 tunings each (3 seeds each): high is better than low by "
    )
    assert "in 6 of 6 tunings, with a probability of 100 % (95 % interval 54 % to 100 %)" in (
        found.verdict
    )
    assert "nearly normal" in found.verdict
    assert found.verdict in str(found)
    frame = found.to_frame()
    assert frame["n_repeats"].tolist() == [6, 6]
    assert frame["leader_outperforms"].tolist()[1] == 1.0
    for column, of_tuning in [
        ("best_value", lambda tuning: tuning.best_value),
        ("test_score", lambda tuning: tuning.test_score),
    ]:
        for place, each in enumerate(found.ranking()):
            values = [of_tuning(tuning) for tuning in each.tunings]
            assert frame[column][place] == pytest.approx(np.mean(values))
            error = np.std(values, ddof=1) / 6**0.5
            assert frame[f"{column}_error"][place] == pytest.approx(error)
    assert found.winners(2)["high"].wins >= 5


def test_few_repeats_say_how_many_are_needed():
    found = compared(n_repeats=2, test=0)
    assert "not known yet to differ" in found.verdict
    assert "At least 6 tunings each are needed" in found.verdict


@pytest.mark.parametrize("names", [("adam", "sgd"), ("a", "b", "c")])
@pytest.mark.parametrize("deviation", [0.0, 0.1])
def test_one_tuning_each_never_calls_a_contender_better(names, deviation):
    rivals = {name: Noisy(float(place), deviation) for place, name in enumerate(names)}
    found = compared(rivals, test=0, n_test_seeds=5)
    assert found.n_repeats == 1
    assert found.outperforming() == {}
    assert "not about the contenders" in found.verdict
    assert "`n_repeats`" in found.verdict
    for name in names:
        assert f"{name} is better" not in found.verdict
    with pytest.raises(InvalidArgument, match="one tuning does not tell who would win another"):
        found.winners(2)


def test_without_test_data_the_verdict_says_that_values_are_optimistic():
    found = compared({"low": Noisy(), "high": Noisy(1.0)}, n_repeats=3)
    assert found.verdict.startswith("By the best values of 3 tunings each (without `test`; they ")
    assert found.improvements()["low"].is_better


def test_copies_of_trainings_are_no_evidence():
    rivals = {"a": Noisy(0.0, 0.0), "b": Noisy(1.0, 0.0)}
    found = compared(rivals, test=0, n_test_seeds=8)
    assert found.improvements() == {}
    assert "nothing is claimed from seeds" in found.verdict
    repeated = compared(rivals, test=0, n_repeats=6)  # their draws differ
    assert repeated.improvements()["a"].is_better
    copies = compared(rivals, test=0, n_repeats=6, n_trials=1)
    assert copies.improvements() == copies.outperforming() == {}
    assert "repeats are copies" in copies.verdict
    with pytest.raises(InvalidArgument, match="copies"):
        copies.winners(1)


def test_tuning_whose_configuration_diverges_loses():
    class Fragile(Noisy):
        def fit(self, params: Mapping[str, Any], seed: int) -> Any:
            if seed % 3 == 0:
                raise Diverged("nan in epoch 3")
            return super().fit(params, seed)

    found = compared({"a": Noisy(), "b": Fragile(1.0)}, n_repeats=6, test=0)
    lost = [math.isnan(score) for score in found.scores()["b"]]
    assert any(lost)
    assert found.ranking()[0].name == "a"
    assert found.improvements() == {}
    assert found.outperforming()["b"].wins == sum(lost)
    assert "found no configuration that trains on every seed" in found.verdict


@pytest.mark.parametrize("sampler", [RandomSampler(seed=1), {"a": TPESampler(), "b": "random"}])
def test_sampler_object_is_refused_where_tunings_are_repeated(sampler):
    storage = InMemoryStorage()
    with pytest.raises(InvalidArgument, match="must be a name or a factory"):
        compared(storage=storage, sampler=sampler, n_repeats=2)
    assert optuna.get_all_study_names(storage) == []
    assert len(compared(sampler=sampler).contenders) == 2
    compared(sampler=partial(TPESampler, n_startup_trials=2), n_repeats=2)


@pytest.mark.parametrize("names", [("a", "a-repeat1"), ("test-seeds", "a")])
def test_contenders_whose_studies_would_have_one_name_are_refused(names):
    storage = InMemoryStorage()
    with pytest.raises(InvalidArgument, match="must have names whose studies differ"):
        compared({name: Noisy() for name in names}, storage=storage, n_repeats=2)
    assert optuna.get_all_study_names(storage) == []


def test_study_of_a_contender_is_not_taken_for_a_repeat_of_another():
    storage = InMemoryStorage()
    compared({"a-repeat1": Noisy()}, storage=storage)
    with pytest.raises(RecipeMismatch):
        compared({"a": Noisy()}, storage=storage, n_repeats=2)
    assert list(load_comparison("c", storage=storage).contenders) == ["a-repeat1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_repeats": 0}, "`n_repeats`"), ({"min_difference": 0.0}, "`min_difference`")],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(InvalidArgument, match=message):
        compared(**options)


def test_difference_below_the_margin_is_practically_none():
    storage = InMemoryStorage()
    found = compared(storage=storage, n_repeats=5, test=0, min_difference=9.0)
    ((rival, effect),) = found.improvements().items()
    assert effect.answer == "practically the same"
    assert f"is practically the same as {rival}" in found.verdict
    assert load_comparison("c", storage=storage).verdict == found.verdict


def test_repeats_with_more_trials_count_once_all_have_them():
    storage = InMemoryStorage()
    compared(storage=storage, n_repeats=3, test=0)

    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if study.study_name == "c-a-repeat1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(storage=storage, n_repeats=3, test=0, n_trials=6, callbacks=[stop])
    assert load_comparison("c", storage=storage).n_repeats == 1
    whole = compared(storage=storage, n_repeats=3, test=0, n_trials=6)
    assert whole.n_repeats == 3
    assert {len(each.values) for side in whole.contenders.values() for each in side.tunings} == {6}


@pytest.mark.parametrize("seed", range(3))
def test_best_configuration_is_that_of_the_best_tuning(seed):
    found = compared(n_repeats=4, seed=seed)
    best = found.best_tuning("a")
    assert best.best_value == max(each.best_value or 0.0 for each in found.contenders["a"].tunings)
    assert best.best_params is not None
    assert in_short(best.best_params, digits=3) in str(found)


def test_tuning_curve_says_what_it_knows():
    random = compared(n_trials=15)
    curve = random.tuning_curve("a")
    assert curve is not None
    assert (len(curve.median), curve.simultaneous) == (14, True)  # without the default
    assert compared(sampler="tpe").tuning_curve("a") is None
    repeated = compared(sampler="tpe", n_repeats=6).tuning_curve("a")
    assert repeated is not None
    assert not repeated.simultaneous
    assert np.all((repeated.low <= repeated.median) & (repeated.median <= repeated.high))


def test_pruned_trials_are_no_independent_draws():
    class Pruned(Noisy):
        def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
            if reporter.trial.number == 2:
                raise optuna.TrialPruned
            return super().train(params, reporter)

    assert compared({"a": Pruned()}).tuning_curve("a") is None


class Circle(Objective):
    """A valley on a circle at a place of the contender's own, its default anywhere on it."""

    def __init__(self, place: int, better_by: float) -> None:
        super().__init__(
            search_space=SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}),
            direction="maximize",
            max_steps=1,
        )
        self.place, self.better_by = place, better_by

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return self._score(params, reporter.seed, reporter.trial.number == 0)

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        return params, seed

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        params, seed = model
        return {"score": self._score(params, seed, False)}

    def _score(self, params: Mapping[str, Any], seed: int, is_default: bool) -> float:
        rng = np.random.default_rng([seed, self.place])
        if is_default:  # of no use, so that no contender's default is better
            return -1.0
        distance = (np.array([params["x"], params["y"]]) + self.place / 7) % 1.0 - 0.3
        return self.better_by - float(distance @ distance) + 0.005 * rng.normal()


@pytest.mark.long
@pytest.mark.parametrize(("n_contenders", "n_repeats"), [(2, 5), (3, 6), (5, 5)])
@pytest.mark.parametrize("better_by", [0.0, 0.15])
def test_contenders_of_known_truth(n_contenders, n_repeats, better_by):
    n, claims, intervals_hold, chances_hold, false = 60, 0, 0, 0, 0
    for seed in range(n):
        rivals = {f"c{k}": Circle(k, better_by * (k == 0)) for k in range(n_contenders)}
        found = compared(rivals, n_repeats=n_repeats, test=0, n_trials=15, seed=seed)
        effects, leader = found.improvements(), found.ranking()[0].name
        true = {name: better_by * ((leader == "c0") - (name == "c0")) for name in rivals}
        intervals_hold += all(true[name] in effect for name, effect in effects.items())
        false += any(e.is_significant and e.estimate * true[n] <= 0 for n, e in effects.items())
        claims += leader == "c0" and all(effect.is_better for effect in effects.values())
        chances_hold += all(
            true[name] or 0.5 in each for name, each in found.outperforming().items()
        )
    error = 3 * math.sqrt(0.05 * 0.95 / n)
    assert false / n < 0.05 + error
    assert intervals_hold / n > 0.95 - error
    assert chances_hold / n > 0.95 - error
    if better_by:
        assert claims / n > 0.8
