"""Confirmations with scores by row: on new data, checked, stored, resumed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from hpolab import (
    InvalidArgument,
    Objective,
    SearchSpace,
    TooManyFailures,
    compare,
    confirm,
    load_comparison,
    load_confirmation,
    make_study,
    run,
)
from hpolab.objectives.packed_rows import RowScores


class Rows(Objective):
    """Configurations of equal accuracy, each wrong on rows of its own."""

    def __init__(self, *, n_rows=300, world=0, jitter=0.05, scale=1.0, known=True):
        space = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": 0.5})
        super().__init__(search_space=space, direction="maximize", max_steps=1, metric="accuracy")
        self.n_rows, self.world, self.jitter = n_rows, world, jitter
        self.scale, self.known = scale, known

    def train(self, params, reporter):
        return float(np.random.default_rng(reporter.seed % 2**32).normal())

    def fit(self, params, seed):
        return params["x"], seed

    def right(self, model):
        x, seed = model
        own = np.random.default_rng([self.world, int(x * 1e6)]).normal(size=self.n_rows)
        chance = np.random.default_rng([seed % 2**32, int(x * 1e6)]).normal(size=self.n_rows)
        return (np.sqrt(1 - self.jitter) * own + np.sqrt(self.jitter) * chance < 1).astype(float)

    def evaluate(self, model, data):
        return {"accuracy": float(self.right(model).mean())}

    def row_scores(self, model, data):
        return self.scale * self.right(model) if self.known else None


def confirmed(objective, *, storage="memory://", seed=0, **settings):
    study = make_study("case", storage=storage, objective=objective, sampler="random", seed=seed)
    run(study, objective, n_trials=6, show_progress_bar=False)
    settings = {"test": None, "top_k": 3, "n_seeds": 6, **settings}
    return study, confirm(study, objective, show_progress_bar=False, **settings)


def test_verdict_is_about_new_data_and_about_these_rows_beside_it():
    _, found = confirmed(Rows())
    assert found.n_rows == 300
    assert "on new data like these 300 test rows" in found.verdict.lower()
    assert "On these rows alone, trial" in str(found)
    assert "% comes from the draw of the rows" in str(found)
    assert found.parts.rows > found.parts.seeds
    for each in found.configurations:
        wide, narrow = each.improvement, each.on_these_rows
        assert wide.estimate == pytest.approx(narrow.estimate)
        assert wide.high - wide.low > narrow.high - narrow.low


def test_without_scores_by_row_the_verdict_is_about_these_rows():
    _, found = confirmed(Rows(known=False))
    assert found.n_rows is None
    assert "on these test rows" in found.verdict.lower()
    assert "`Objective.row_scores` gives them" in str(found)


def test_equal_configurations_are_rarely_called_better_on_new_data():
    claims = {True: 0, False: 0}
    for world in range(25):
        for known in claims:
            _, found = confirmed(Rows(world=world, known=known), seed=world)
            claims[known] += any(each.is_better or each.is_worse for each in found.configurations)
    assert claims[True] <= 4
    assert claims[False] >= 10  # on these rows, the differences are there


def test_trainings_without_chance_are_judged_by_their_rows():
    _, found = confirmed(Rows(jitter=0.0))
    assert found.n_rows == 300
    assert found.best.improvement.p_value is not None
    assert found.best.on_these_rows.p_value is None


def test_confirmation_with_rows_is_read_back_as_it_was(tmp_path):
    storage = f"sqlite:///{tmp_path}/rows.db"
    study, found = confirmed(Rows(), storage=storage)
    again = confirm(study, Rows(), test=None, top_k=3, n_seeds=6, show_progress_bar=False)
    assert str(again) == str(found)
    loaded = load_confirmation(
        make_study(
            "case-confirm", storage=storage, sampler="manual", pruner="none", direction="maximize"
        )
    )
    assert str(loaded) == str(found)


def test_groups_of_rows_are_what_new_data_are_made_of():
    _, by_row = confirmed(Rows())
    _, by_group = confirmed(Rows(), groups=np.arange(300) // 10)
    assert (by_group.n_rows, by_group.unit) == (30, "group")
    assert "on new data like these 30 test groups" in by_group.verdict.lower()
    assert by_group.best.improvement.estimate == by_row.best.improvement.estimate


def test_many_rows_are_scored_in_random_groups():
    _, found = confirmed(Rows(n_rows=25_000), top_k=1)
    assert found.n_rows == 25_000
    whole = Rows(n_rows=25_000).right((found.best.params["x"], next(iter(found.best.scores))))
    assert found.best.scores[next(iter(found.best.scores))] == whole.mean()


@pytest.mark.parametrize(
    ("objective", "groups", "words"),
    [
        (
            Rows(scale=0.9),
            None,
            "must be finite numbers of shape (n,) whose mean is its metric 'accuracy'",
        ),
        (Rows(scale=np.nan), None, "got 300 numbers, some of them not finite"),
        (Rows(), np.arange(299), "`groups` must have one entry for each of the 300 rows"),
        (Rows(known=False), np.arange(300), "`groups` needs scores by row"),
    ],
)
def test_scores_that_cannot_be_right_are_refused(objective, groups, words):
    with pytest.raises(TooManyFailures, match=re.escape(words)) as caught:
        confirmed(objective, groups=groups)
    assert isinstance(caught.value.__cause__, InvalidArgument)


def test_another_metric_has_no_scores_by_row():
    class Two(Rows):
        def evaluate(self, model, data):
            return {**super().evaluate(model, data), "loss": 1 - self.right(model).mean()}

    _, found = confirmed(Two(), metric=("loss", "minimize"))
    assert found.n_rows is None


def test_scores_survive_their_text():
    scores = np.random.default_rng(0).normal(size=1000)
    text = RowScores(scores, 2000).as_text()
    assert RowScores.of_text(text).values == pytest.approx(scores, rel=1e-6)
    assert RowScores.of_text(text).n == 2000
    assert len(text) < 6000


def test_groups_of_rows_need_a_metric_that_is_known_by_row():
    objective = Rows()
    objective.scored_unit = "row group"  # as of a metric that has no part for each row
    with pytest.raises(TooManyFailures, match="known by groups of rows alone"):
        confirmed(objective, groups=np.arange(500))


def test_comparison_of_one_tuning_is_about_new_data_where_rows_are_known(tmp_path):
    storage = f"sqlite:///{tmp_path}/compared.db"
    settings = {"study_name": "case", "n_trials": 3, "storage": storage, "test": 0, "seed": 1}
    sides = {"a": {"x": (0.0, 0.4)}, "b": {"x": (0.6, 1.0)}}
    found = compare(Rows(), sides, n_test_seeds=5, show_progress_bar=False, **settings)
    assert "On new data like these 300 test rows (5 seeds), the configuration" in found.verdict
    ((_, effect),) = found.improvements().items()
    rows = {name: each.test_rows for name, each in found.contenders.items()}
    assert {each.shape for each in rows.values()} == {(5, 300)}
    for name, each in found.contenders.items():
        assert rows[name].mean(axis=1) == pytest.approx(each.test_scores)
    ((_, loaded),) = load_comparison("case", storage=storage).improvements().items()
    assert loaded == effect
    without = replace(
        found,
        contenders={name: replace(each, test_rows=None) for name, each in found.contenders.items()},
    )
    ((_, narrow),) = without.improvements().items()
    assert effect.high - effect.low > narrow.high - narrow.low
    assert without.verdict.startswith("On this test data")


def test_what_cannot_be_better_by_what_matters_is_not_in_doubt():
    _, found = confirmed(Rows(n_rows=4000, jitter=0.01), min_difference=0.04)
    assert found.winner is None
    assert found.needed is None
    assert "no configuration is better than the default" in found.verdict


@pytest.mark.parametrize(
    "groups",
    [
        np.zeros(300),
        np.zeros((300, 2)),
        np.array(["a", None] * 150, dtype=object),
        np.array([]),
        "patients",
    ],
    ids=["one", "two columns", "of two kinds", "none", "a name"],
)
def test_what_cannot_be_groups_is_refused_before_anything_is_trained(groups):
    objective = Rows()
    with pytest.raises(InvalidArgument, match="`groups` must be names or numbers of two groups"):
        confirmed(objective, groups=groups)


@pytest.mark.parametrize("unit", ["user", "group", "row"])
def test_a_verdict_calls_what_was_scored_by_its_name(unit, tmp_path):
    storage = f"sqlite:///{tmp_path}/compared.db"
    objective = Rows()
    objective.scored_unit = unit
    sides = {"a": {"x": (0.0, 0.4)}, "b": {"x": (0.6, 1.0)}}
    found = compare(
        objective,
        sides,
        study_name="case",
        n_trials=3,
        n_test_seeds=5,
        test=0,
        seed=1,
        storage=storage,
        show_progress_bar=False,
    )
    loaded = load_comparison("case", storage=storage)
    for each in (found, loaded):
        assert (each.n_rows, each.unit) == (300, unit)
        assert f"On new data like these 300 test {unit}s (5 seeds)" in each.verdict
    for known in (True, False):
        objective = Rows(known=known)
        objective.scored_unit = unit
        _, confirmed_one = confirmed(objective)
        assert f"test {unit}s" in confirmed_one.where


def test_a_comparison_counts_all_rows_although_they_are_stored_in_groups():
    many = Rows()
    many.n_rows = 30_000
    sides = {"a": {"x": (0.0, 0.4)}, "b": {"x": (0.6, 1.0)}}
    found = compare(
        many,
        sides,
        study_name="many",
        n_trials=2,
        n_test_seeds=3,
        test=0,
        storage="memory://",
        show_progress_bar=False,
    )
    assert "like these 30,000 test rows" in found.verdict
