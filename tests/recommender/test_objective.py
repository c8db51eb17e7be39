"""RecommenderObjective: its value, its protocol, resuming, the fitted recommender, bad input."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.trial import TrialState

from hpolab import (
    HpolabError,
    Interactions,
    InvalidArgument,
    InvalidType,
    RankingTask,
    RecipeMismatch,
    RecommenderObjective,
    RecommenderTrainer,
    RecommenderTraining,
    SearchSpace,
    leave_last_out,
    load_study,
    make_study,
    make_taste_clusters,
    recommender_space,
    run,
    schedule_space,
    split_by_time,
    split_users_by_ratio,
)
from hpolab.seeding import derive_seed
from hpolab.studies.recipe import FACTS_KEY, REFERENCES_KEY
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

DATA = make_taste_clusters(n_users=120, n_items=60, n_per_user=15)
SPLITS = leave_last_out(DATA.interactions)


def make(trainer: Any = "mf", **settings: Any) -> RecommenderObjective:
    return RecommenderObjective(trainer, settings.pop("splits", SPLITS), **settings)


def tune(objective: RecommenderObjective, n_trials: int = 2, **settings: Any) -> Study:
    study = make_study("s", storage="memory://", objective=objective, seed=0, **settings)
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


class Walk(RecommenderTrainer):
    """Goes a step from noise to the truth each epoch, and past it from epoch 6 on."""

    name = "walk"

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        return Walking(params["noise"], seed)


class Walking(RecommenderTraining):
    def __init__(self, noise: float, seed: int) -> None:
        self.noise, self.seed, self.n, self.best = noise, seed, 0, 0

    def epoch(self) -> None:
        self.n += 1

    def scores(self, users: Any) -> Any:
        distance = abs(self.n - 6)
        noise = np.random.default_rng(self.seed).normal(size=DATA.scores.shape)
        return DATA.scores[users] + distance * self.noise * noise[users]

    def keep_best(self) -> None:
        self.best = self.n

    def load_best(self) -> None:
        self.n = self.best

    def to_bytes(self) -> bytes:
        return bytes([self.n, self.best])

    def from_bytes(self, state: bytes) -> None:
        self.n, self.best = state


NOISE = SearchSpace({"noise": (0.5, 2.0)})


def walk(**settings: Any) -> RecommenderObjective:
    return make(Walk(), search_space=NOISE, **{"max_epochs": 20, "patience": 3} | settings)


def test_trial_reports_each_epoch_stops_early_and_ends_with_the_best_model():
    trial = tune(walk(), n_trials=1, pruner="none").trials[0]
    values = trial.intermediate_values
    assert list(values) == list(range(9))  # best at epoch 5, and three more
    assert trial.value == values[5] == max(values.values())
    truth = RankingTask(seen=SPLITS.train, held_out=SPLITS.valid)
    assert trial.value == truth.rank(lambda users: DATA.scores[users]).estimate("ndcg@10").mean


def test_epochs_rank_some_users_and_the_value_is_of_all_of_them():
    trial = tune(walk(eval_users=30), n_trials=1, pruner="none").trials[0]
    whole = tune(walk(), n_trials=1, pruner="none").trials[0]
    # The truth is best, for some users as for all.
    assert trial.value == whole.value == whole.intermediate_values[5]
    assert trial.intermediate_values[5] == max(trial.intermediate_values.values())
    drawn = np.random.default_rng(0).choice(np.unique(SPLITS.valid.users), 30, replace=False)
    some = SPLITS.valid.rows(np.flatnonzero(np.isin(SPLITS.valid.users, drawn)))
    task = RankingTask(seen=SPLITS.train, held_out=some)
    expected = task.rank(lambda users: DATA.scores[users]).estimate("ndcg@10").mean
    assert trial.intermediate_values[5] == expected != trial.value


def test_users_ranked_each_epoch_are_a_fact_of_the_study(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, objective=walk(eval_users=30), seed=0)
    run(study, walk(eval_users=30), n_trials=1, show_progress_bar=False)
    assert study.user_attrs[FACTS_KEY]["eval_users"] == 30
    for other in ({}, {"eval_users": 40}):
        with pytest.raises(RecipeMismatch, match="eval_users"):
            run(study, walk(**other), n_trials=2, show_progress_bar=False)
    study = make_study("all", storage=url, objective=walk(), seed=0)
    run(study, walk(), n_trials=1, show_progress_bar=False)
    with pytest.raises(RecipeMismatch, match="eval_users"):
        run(study, walk(eval_users=30), n_trials=2, show_progress_bar=False)


def test_more_users_than_there_are_to_rank_each_epoch_are_all():
    assert walk(eval_users=1000).facts == walk().facts


@pytest.mark.parametrize(("value", "error"), [(0, InvalidArgument), (2.5, InvalidType)])
def test_number_of_users_to_rank_each_epoch_is_a_count(value, error):
    with pytest.raises(error, match="`eval_users`"):
        walk(eval_users=value)


def test_all_metrics_are_stored_with_their_standard_errors():
    objective = walk(metric="ndcg@20", metrics=["hr@5", "coverage@5", "log_loss"])
    trial = tune(objective, n_trials=1).trials[0]
    stored = trial.user_attrs[METRICS_KEY]
    names = ["ndcg@20", "hr@5", "coverage@5", "log_loss"]
    assert set(stored) == {*names, *(f"{name} (error)" for name in names)}
    assert stored["ndcg@20"] == trial.value
    assert 0 < stored["hr@5 (error)"] < 0.1


def test_score_ranks_trials_behind_what_steered_them():
    held_out = replace(SPLITS, score=SPLITS.test)
    objective = walk(splits=held_out)
    trial = tune(objective, n_trials=1).trials[0]
    task = RankingTask(seen=[SPLITS.train, SPLITS.valid], held_out=SPLITS.test)
    assert trial.value == task.rank(lambda users: DATA.scores[users]).estimate("ndcg@10").mean
    assert trial.value != trial.intermediate_values[5]


def test_metric_that_is_better_when_lower_is_minimized():
    objective = walk(metric="log_loss")
    assert objective.direction == "minimize"
    study = tune(objective, n_trials=1)
    assert study.trials[0].value == min(study.trials[0].intermediate_values.values())


def test_protocol_is_stored_and_another_one_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, objective=walk(), seed=0)
    run(study, walk(), n_trials=1, show_progress_bar=False)
    facts = load_study("s", storage=url).user_attrs[FACTS_KEY]
    assert facts["metric"] == "ndcg@10"
    assert facts["split"] == "leave last out"
    assert facts["ranking"] == "all items that the user has not seen"
    assert facts["n_users_with_ties"] == 0
    other = walk(splits=split_users_by_ratio(DATA.interactions))
    with pytest.raises(RecipeMismatch, match="'split': stored 'leave last out', asked for 'users"):
        run(study, other, n_trials=2, show_progress_bar=False)
    assert len(study.trials) == 1


def told(study: Study) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


KILLED = """
import os, sys
from hpolab import RecommenderObjective, leave_last_out, make_study, make_taste_clusters, run
from hpolab.recommender.training import TorchRecommenderTrainer

url, dies_at = sys.argv[1], int(sys.argv[2])
splits = leave_last_out(make_taste_clusters(n_users=120, n_items=60, n_per_user=15).interactions)

class Mortal(TorchRecommenderTrainer):
    def start(self, *args, **kwargs):
        training = super().start(*args, **kwargs)
        train = training.epoch
        def epoch():
            global dies_at
            dies_at -= 1
            if dies_at == 0:
                os.kill(os.getpid(), 9)
            train()
        training.epoch = epoch
        return training

objective = RecommenderObjective(
    Mortal("neumf"), splits, max_epochs=6, patience=None, checkpoint_seconds=0
)
study = make_study("s", storage=url, objective=objective, sampler="random", seed=0)
run(study, objective, n_trials=3, show_progress_bar=False)
"""


@pytest.mark.needs("torch")
def test_killed_study_ends_as_the_uninterrupted_one(tmp_path, python):
    def study(file: str, dies_at: int) -> int:
        return python.run(KILLED, f"sqlite:///{tmp_path}/{file}.db", str(dies_at)).returncode

    assert study("killed", dies_at=10) == -signal.SIGKILL
    assert study("killed", dies_at=0) == 0
    assert study("whole", dies_at=0) == 0
    killed, whole = (
        load_study("s", storage=f"sqlite:///{tmp_path}/{f}.db") for f in ("killed", "whole")
    )
    assert told(killed) == told(whole)
    assert {trial.state for trial in whole.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.usefixtures("warm_workers")
def test_two_worker_processes_give_the_trials_of_one(tmp_path):
    objective = make("ease")
    studies = []
    for n_workers in (2, 1):
        study = make_study(
            f"with {n_workers}",
            storage=f"sqlite:///{tmp_path}/s.db",
            objective=objective,
            sampler="random",
            seed=0,
        )
        run(study, objective, n_trials=4, n_workers=n_workers, show_progress_bar=False)
        studies.append(study)
    assert told(studies[0]) == told(studies[1])


def test_training_that_diverges_is_pruned_and_marked():
    class Mad(Walk):
        def start(self, *args: Any, **settings: Any) -> RecommenderTraining:
            training = Walking(1.0, 0)
            training.noise = np.inf
            return training

    study = tune(make(Mad(), search_space=NOISE), n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs[REASON_KEY] == "diverged: nan in epoch 0"


@pytest.mark.parametrize("trainer", ["mf", "ease"])
def test_model_says_how_many_epochs_it_has_seen(trainer):
    objective = make(trainer, max_epochs=5)
    trial = tune(objective, n_trials=1).trials[0]
    model = objective.fit(trial.params, seed=derive_seed(0, 0, "training"))
    assert model.n_epochs == 1 + max(trial.intermediate_values, key=trial.intermediate_values.get)


def test_test_items_are_ranked_among_what_was_not_seen_before_them():
    objective = walk()
    model = objective.fit({"noise": 1.0}, seed=0)
    task = RankingTask(seen=[SPLITS.train, SPLITS.valid], held_out=SPLITS.test)
    expected = task.rank(lambda users: DATA.scores[users]).estimate("hr@10")
    assert objective.estimates(model, SPLITS.test)["hr@10"] == expected


def test_refit_trains_on_all_but_the_test_rows():
    objective = make("popularity")
    model = objective.fit({}, seed=0)
    again = objective.refit({}, seed=0, n_epochs=model.n_epochs)
    counts = np.bincount(SPLITS.train.items, minlength=60)
    assert model.scores(np.array([3])).tolist() == [counts.tolist()]
    more = counts + np.bincount(SPLITS.valid.items, minlength=60)
    assert again.scores(np.array([3])).tolist() == [more.tolist()]


def test_recommended_items_are_the_best_that_the_user_has_not_taken():
    model = walk().fit({"noise": 1.0}, seed=0)
    taken = set(SPLITS.train.items[SPLITS.train.users == 7].tolist())
    order = [item for item in np.argsort(-DATA.scores[7], kind="stable") if item not in taken]
    assert model.recommend([7], k=5).tolist() == [order[:5]]


def test_users_who_are_not_known_get_what_most_have_taken():
    model = walk().fit({"noise": 1.0}, seed=0)
    best = model.recommend([7, 10_000], k=3)
    counts = np.bincount(SPLITS.train.items, minlength=60)
    assert counts[best[1]].tolist() == sorted(counts)[:-4:-1]


def test_one_user_gets_a_row_of_their_own():
    model = walk().fit({"noise": 1.0}, seed=0)
    for one in (7, np.int64(7)):
        assert model.recommend(one, k=5).tolist() == model.recommend([7], k=5)[0].tolist()


@pytest.mark.parametrize("asked", ["7", ["7"], [7, "new"], [7, None], {7}], ids=repr)
def test_users_of_another_type_are_refused(asked):
    with pytest.raises((InvalidArgument, InvalidType), match="`user_ids` must"):
        walk().fit({"noise": 1.0}, seed=0).recommend(asked)


def test_users_without_a_training_row_get_what_most_have_taken():
    data = Interactions.of(
        ["a", "b", "c", "a", "b", "cold", "cold"], [1, 1, 2, 2, 3, 3, 3], timestamps=range(7)
    )
    objective = RecommenderObjective(
        "ease", split_by_time(data, valid=0.2, test=0.2), metric="mrr", metrics=(), references=()
    )
    model = objective.fit({"l2": 1.0}, seed=0)
    assert "cold" in model.train.user_ids
    assert model.recommend("cold", k=3).tolist() == model.recommend("new", k=3).tolist()


def test_more_items_than_a_user_has_left_are_refused():
    model = walk().fit({"noise": 1.0}, seed=0)
    with pytest.raises(InvalidArgument, match=r"`k` must be at most .* got 60, where user 7 has"):
        model.recommend([7], k=60)


def test_baselines_stand_beside_a_model():
    table = walk(metrics=["hr@10"]).baselines(SPLITS.test, ["popularity", "ease"])
    assert list(table) == ["popularity", "ease"]
    assert table["ease"]["ndcg@10"].mean > table["popularity"]["ndcg@10"].mean
    assert set(table["ease"]) == {"ndcg@10", "hr@10"}


@pytest.mark.needs("implicit")
def test_simple_recommenders_are_stored_on_what_gives_trials_their_value():
    objective = walk(metrics=["hr@10"])
    stored = tune(objective).user_attrs[REFERENCES_KEY]
    assert list(stored) == ["popularity", "ease", "als"]
    expected = objective.baselines(SPLITS.valid, ["ease"])["ease"]
    assert stored["ease"]["ndcg@10"] == expected["ndcg@10"].mean
    assert stored["ease"]["hr@10 (error)"] == expected["hr@10"].standard_error
    assert next(iter(stored["als"])) == "ndcg@10"  # the tuned one first


def test_simple_recommender_that_cannot_be_trained_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    monkeypatch.delitem(sys.modules, "hpolab.recommender.implicit", raising=False)
    monkeypatch.setattr("hpolab.recommender.objective._MOST_ITEMS_OF_EASE", 59)
    found = walk().references()
    assert found["als"].endswith("needs implicit: pip install 'hpolab[recommender]'")
    assert found["ease"] == "left out: it inverts a matrix of all 60 items"
    assert set(found["popularity"]) >= {"hr@10", "ndcg@10"}
    assert walk(references=()).references() == {}


def test_users_and_items_without_training_rows_are_ranked_all_the_same():
    data = Interactions.of(
        ["a", "a", "a", "b", "b", "b", "c"], [1, 2, 3, 1, 2, 9, 4], timestamps=[1, 2, 3, 1, 2, 3, 1]
    )
    splits = leave_last_out(data)
    assert splits.facts["n_items_only_held_out"] == 3  # 2, 3 and 9, all items left to recommend
    model = make("ease", splits=splits, metrics=["hr@1"], metric="mrr").fit({"l2": 1.0}, seed=0)
    estimates = make("ease", splits=splits, metric="mrr", metrics=[]).estimates(model, splits.test)
    assert 0 < estimates["mrr"].mean < 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"trainer": "neumff"}, InvalidArgument, "`trainer` must be .*Did you mean 'neumf'"),
        ({"trainer": 3}, InvalidType, "`trainer` must be a name or a RecommenderTrainer, got int"),
        ({"metric": "ndgc@10"}, InvalidArgument, "Did you mean 'ndcg@10'"),
        ({"metric": "hr@61"}, InvalidArgument, "within the 60 candidates, got 'hr@61'"),
        ({"metrics": ["hr"]}, InvalidArgument, "with a cut of 1 or above"),
        ({"max_epochs": 0}, InvalidArgument, "`max_epochs` must be 1 or above, got 0"),
        ({"patience": 0}, InvalidArgument, "`patience` must be 1 or above, or None, got 0"),
        ({"references": ["eas"]}, InvalidArgument, "`references` must be .*Did you mean 'ease'"),
        ({"n_sampled": 0}, InvalidArgument, "`n_sampled` must be 1 or above, got 0"),
    ],
)
def test_bad_arguments_are_refused(settings, error, message):
    with pytest.raises(error, match=message) as caught:
        make(**settings)
    assert isinstance(caught.value, HpolabError)


def test_incomplete_params_are_refused_before_a_trial_is_spent():
    objective = make("ease", search_space=SearchSpace({"l3": (1.0, 2.0)}))
    study = make_study("s", storage="memory://", objective=objective)
    with pytest.raises(InvalidArgument, match="l2"):
        run(study, objective, n_trials=1)
    assert study.trials == []


def test_each_trainer_has_a_space_of_its_own():
    assert make("ease").search_space == recommender_space("ease")


def test_schedule_for_other_epochs_is_refused():
    space = recommender_space("mf") | schedule_space("cosine", max_epochs=100)
    with pytest.raises(
        InvalidArgument, match=r"schedule for the objective's 10 epochs, .* for 100"
    ):
        make(search_space=space, max_epochs=10)


@pytest.mark.parametrize("metric", ["ndcg@10", "hr@5", "mrr", "log_loss", "coverage@5"])
def test_row_scores_are_those_of_users_of_the_split(metric):
    objective = make("popularity", metric=metric)
    model = objective.fit({}, seed=0)
    for data in (SPLITS.valid, SPLITS.test):
        value = objective.evaluate(model, data)[metric]
        scores = objective.checked_row_scores(model, data, value)
        assert objective.scored_unit == "user"
        assert len(scores) == len(np.unique(data.users))
        assert scores.mean() == pytest.approx(value)
