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
from hpolab.objectives.packed_rows import RowScores
from hpolab.report.document import document_of
from hpolab.seeding import derive_seed
from hpolab.studies.recipe import FACTS_KEY, REFERENCES_KEY
from hpolab.studies.trials import METRICS_KEY, ROWS_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

DATA = make_taste_clusters(n_users=120, n_items=60, n_per_user=15)
OTHER = make_taste_clusters(n_users=120, n_items=60, n_per_user=15, seed=1)
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


def test_report_compares_the_best_trial_with_simple_solutions_user_by_user():
    objective = make("ease", references=("popularity", "item_knn"), metrics=["coverage@10"])
    study = tune(objective, n_trials=4, pruner="none")
    best = study.best_trial
    section = next(s for s in document_of(study).sections if s.anchor == "references")
    table = section.blocks[1]
    assert table.head[-1] == f"trial {best.number} minus it, ndcg@10"
    cells = {row[0]: row[-1] for row in table.rows}
    assert cells[f"trial {best.number}"] == "-"
    mine = objective.ranking(objective.fit_best(study), SPLITS.valid)
    for name in ("popularity", "item_knn"):
        simple = make(name)
        theirs = simple.ranking(simple.fit(simple.search_space.defaults()), SPLITS.valid)
        expected = mine.difference(theirs, "ndcg@10")
        mean, _, error = cells[name].partition(" ± ")
        assert float(mean) == pytest.approx(expected.mean, rel=1e-3)
        assert float(error) == pytest.approx(expected.standard_error, rel=0.05)


def test_scores_by_user_are_stored_with_trials_that_were_the_best_so_far():
    study = tune(make("ease", references=()), n_trials=6, pruner="none")
    best = -np.inf
    for trial in study.trials:
        assert (ROWS_KEY in trial.user_attrs) == (trial.value > best)
        best = max(best, trial.value)
        if ROWS_KEY in trial.user_attrs:
            rows = RowScores.of_text(trial.user_attrs[ROWS_KEY]).values
            assert rows.mean() == pytest.approx(trial.value, rel=1e-5)


def test_reference_that_fails_says_why_beside_the_others(monkeypatch):
    def broken(self, *args, **kwargs):
        raise MemoryError("no room")

    monkeypatch.setattr("hpolab.recommender.classical.ItemKnn.start", broken)
    found = walk(references=("popularity", "item_knn")).references()
    assert found["item_knn"] == "left out: MemoryError: no room"
    assert "ndcg@10" in found["popularity"]


def test_references_are_computed_once_for_studies_of_the_same_data(monkeypatch):
    computed = []
    reference = RecommenderObjective._reference
    monkeypatch.setattr(
        RecommenderObjective,
        "_reference",
        lambda self, name: computed.append(name) or reference(self, name),
    )
    options = {"references": ("popularity",), "metrics": ["hr@7"]}  # of no other test
    first = tune(make("ease", **options)).user_attrs[REFERENCES_KEY]
    assert tune(make("item_knn", **options)).user_attrs[REFERENCES_KEY] == first
    assert computed == ["popularity"]
    with pytest.warns(UserWarning, match="sampled candidates"):
        sampled = make("ease", n_sampled=20, **options)
    assert tune(sampled).user_attrs[REFERENCES_KEY] != first
    tune(make("ease", splits=leave_last_out(OTHER.interactions), **options))
    tune(make("ease", **options | {"metrics": ["hr@6"]}))
    assert computed == ["popularity"] * 4


def test_baselines_tell_the_difference_to_a_model_user_by_user():
    objective = make("ease", metrics=["hr@10"])
    model = objective.fit({"l2": 10.0})
    table = objective.baselines(SPLITS.test, ["popularity"], beside=model)["popularity"]
    assert list(table) == ["ndcg@10", "ndcg@10 (difference)", "hr@10", "hr@10 (difference)"]
    mine = objective.estimates(model, SPLITS.test)["ndcg@10"]
    gain = table["ndcg@10 (difference)"]
    assert gain.mean == pytest.approx(mine.mean - table["ndcg@10"].mean)
    assert gain.standard_error < np.hypot(mine.standard_error, table["ndcg@10"].standard_error)


def test_refit_learns_from_all_but_the_test_rows_unless_these_are_included():
    valid, score = (SPLITS.valid.rows(rows) for rows in (np.arange(80), np.arange(80, 120)))
    objective = make("popularity", splits=replace(SPLITS, valid=valid, score=score))
    counts = {
        include_test: objective.refit({}, n_epochs=1, include_test=include_test).scores(
            np.array([0])
        )
        for include_test in (False, True)
    }
    assert counts[False].sum() == len(SPLITS.train) + len(SPLITS.valid)
    gained = np.bincount(SPLITS.test.items, minlength=SPLITS.test.n_items)
    assert np.array_equal(counts[True][0] - counts[False][0], gained)


def test_refit_refuses_what_fit_refuses():
    with pytest.raises(InvalidArgument, match="`seed` must be"):
        make("popularity").refit({}, -1, n_epochs=1)
    with pytest.raises(InvalidArgument, match="`n_epochs` must be 1 or above"):
        make("popularity").refit({}, n_epochs=0)


@pytest.mark.parametrize(
    ("trainer", "params"),
    [("ease", {"l2": 5.0}), ("item_knn", {"n_neighbors": 9, "shrink": 0, "similarity": "cosine"})],
)
def test_test_items_are_ranked_by_all_rows_before_them(trainer, params):
    objective = make(trainer)
    model = objective.fit(params)
    ranks = objective.ranking(model, SPLITS.test).ranks
    seen = SPLITS.train.join(SPLITS.valid)
    later = model.training.with_history(seen)
    task = RankingTask(seen=seen, held_out=SPLITS.test)
    assert np.array_equal(task.rank(later.scores).ranks, ranks)
    assert not np.array_equal(task.rank(model.scores).ranks, ranks)
    # What was learned is the same, and what steers a trial is ranked by the training rows.
    assert np.array_equal(
        objective.ranking(model, SPLITS.valid).ranks,
        RankingTask(seen=SPLITS.train, held_out=SPLITS.valid).rank(model.scores).ranks,
    )


def test_score_is_ranked_by_the_rows_of_valid_too():
    objective = make("ease", splits=replace(SPLITS, score=SPLITS.test), references=())
    study = tune(objective, n_trials=1)
    model = objective.fit_best(study)
    later = model.training.with_history(SPLITS.train.join(SPLITS.valid))
    task = RankingTask(seen=[SPLITS.train, SPLITS.valid], held_out=SPLITS.test)
    assert study.best_value == task.rank(later.scores).estimate("ndcg@10").mean
    assert objective.evaluate(model, SPLITS.test)["ndcg@10"] == study.best_value


def late_data() -> Interactions:
    """Return interactions of which the last are of users who were not there before."""
    rng = np.random.default_rng(0)
    users = np.concatenate([rng.integers(0, 30, 800), np.repeat(np.arange(30, 50), 10)])
    items = np.concatenate([rng.integers(0, 25, 800), rng.integers(0, 25, 200)])
    begin = 900 + 5 * np.repeat(np.arange(20), 10)
    times = np.concatenate([rng.integers(0, 1000, 800), begin + rng.integers(0, 5, 200)])
    return Interactions.of(users, items, timestamps=times, ratings=rng.integers(1, 6, 1000))


@pytest.mark.parametrize(
    ("trainer", "with_score"),
    [("popularity", False), ("popularity", True), ("mf", False), ("mf", True), ("ease", False)],
)
def test_users_whom_a_model_cannot_know_are_left_out_and_stand_apart(trainer, with_score):
    data = replace(late_data(), ratings=None)
    splits = split_by_time(data, valid=0.1, test=0.1)
    if with_score:
        splits = replace(splits, score=splits.test)
    scored = splits.test if with_score else splits.valid
    objective = make(trainer, splits=splits, metrics=["mrr"], max_epochs=2, references=())
    study = tune(objective, n_trials=1)
    metrics = study.trials[0].user_attrs[METRICS_KEY]
    cold = np.setdiff1d(scored.users, splits.train.users)
    n_warm = len(np.intersect1d(scored.users, splits.train.users))
    assert 0 < len(cold) == objective.facts["n_cold_users"]
    assert n_warm == objective.facts["n_users_ranked"]
    seen = [splits.train, splits.valid] if with_score else [splits.train]
    # A cold user gets from each trainer what most users took.
    for name, is_cold in (("mrr", False), ("mrr (cold users)", True)):
        if trainer != "popularity" and not is_cold:
            continue
        rows = scored.rows(np.flatnonzero(np.isin(scored.users, cold) == is_cold))
        task = RankingTask(seen=seen, held_out=rows)
        counts = np.bincount(splits.train.items, minlength=data.n_items)
        expected = task.estimate(lambda users: np.tile(counts, (len(users), 1)), ["mrr"])["mrr"]  # noqa: B023
        assert metrics[name] == pytest.approx(expected.mean)
        assert metrics[f"{name} (error)"] == pytest.approx(expected.standard_error)
    model = objective.fit_best(study)
    apart = objective.estimates(model, splits.test, users="cold")["mrr"]
    everybody = objective.estimates(model, splits.test, users="all")["mrr"]
    known = objective.estimates(model, splits.test)["mrr"]
    assert min(apart.mean, known.mean) < everybody.mean < max(apart.mean, known.mean)


def test_history_that_users_need_is_a_fact_of_the_study():
    study = tune(make("popularity"), n_trials=1)
    longer = make("popularity", splits=replace(SPLITS, min_history=5))
    with pytest.raises(RecipeMismatch, match="min_history"):
        run(study, longer, n_trials=2)


def test_all_are_scored_where_no_user_has_a_history():
    data = Interactions.of(np.repeat(range(40), 5), np.arange(200) * 7 % 11, timestamps=range(200))
    with pytest.warns(UserWarning, match="None of the 4 users has an interaction in the rows"):
        objective = make("popularity", splits=split_by_time(data))
    assert (objective.facts["n_users_ranked"], objective.facts["n_cold_users"]) == (4, 4)


def test_held_out_rows_that_train_holds_too_are_counted_and_left_out():
    valid = SPLITS.valid.join(SPLITS.train.rows(np.arange(50)))
    with pytest.warns(UserWarning, match="50 of 170 held-out rows are left out"):
        objective = make("ease", splits=replace(SPLITS, valid=valid))
    assert objective.facts["n_held_out_seen"] == 50
    model = objective.fit({"l2": 10.0})
    expected = make("ease").estimates(model, SPLITS.valid)
    with pytest.warns(UserWarning, match="50 of 170"):
        assert objective.estimates(model, valid) == expected


@pytest.mark.parametrize("part", ["valid", "test"])
def test_model_is_judged_on_some_users_of_a_split(part):
    objective = make("ease")
    model = objective.fit({"l2": 10.0})
    rows = getattr(SPLITS, part).rows(np.arange(10, 40))
    whole = objective.row_scores(model, getattr(SPLITS, part))
    assert objective.row_scores(model, rows) == pytest.approx(whole[10:40])


def test_auc_of_users_who_have_other_candidates_is_that_of_the_objective():
    everything = [(0, item) for item in range(6)]  # user 0 has nothing left but the test item
    some = [(user, item) for user in (1, 2, 3) for item in (0, user, 5)]
    users, items = np.array(everything + some).T
    splits = leave_last_out(Interactions.of(users, items, timestamps=np.arange(len(users))))
    objective = make("popularity", splits=splits, metric="auc", metrics=["precision@2"])
    model = objective.fit({})
    value = objective.evaluate(model, splits.test)["auc"]
    assert 0 <= value <= 1
    assert len(objective.checked_row_scores(model, splits.test, value)) == 3


def test_model_is_not_judged_on_rows_that_it_was_trained_on():
    objective = make("ease")
    refitted = objective.refit({"l2": 10.0}, seed=0, n_epochs=1)
    with pytest.raises(InvalidArgument, match=r"`data` must hold rows .* knows them by heart"):
        objective.evaluate(refitted, SPLITS.valid)
    assert objective.evaluate(refitted, SPLITS.test)["hr@10"] > 0


def test_model_is_not_judged_on_rows_of_other_ids():
    objective = make("ease")
    other = Interactions.of(np.arange(20), np.arange(20) % 5)
    with pytest.raises(InvalidArgument, match="`data` must have the users of the interactions"):
        objective.evaluate(objective.fit({"l2": 10.0}), other)


RATED = split_users_by_ratio(late_data(), seed=0)


@pytest.mark.parametrize("trainer", ["mf", "fm", "deepfm", "rating_bias"])
def test_ratings_are_tuned_by_their_error(trainer):
    objective = make(trainer, splits=RATED, metric="rmse", max_epochs=3)
    study = tune(objective)
    assert study.direction.name == "MINIMIZE"
    assert set(study.user_attrs[REFERENCES_KEY]) == {"rating_bias"}
    metrics = study.best_trial.user_attrs[METRICS_KEY]
    assert metrics["rmse"] == study.best_value
    assert set(metrics) >= {"rmse", "rmse (error)", "mae", "mae (error)"}
    model = objective.fit_best(study)
    predicted = model.training.predict(RATED.valid.users, RATED.valid.items)
    error = np.sqrt(np.mean((predicted - RATED.valid.ratings) ** 2))
    assert study.best_value == pytest.approx(error)
    assert objective.row_scores(model, RATED.test).mean() == pytest.approx(
        objective.evaluate(model, RATED.test)["rmse"]
    )
    with pytest.raises(InvalidArgument, match="`metric` must be a ranking metric"):
        objective.ranking(model, RATED.test)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer": "als", "metric": "rmse"}, "from a trainer that predicts ratings, 'mf', 'fm'"),
        ({"metric": "rmse", "metrics": ["ndcg@10"]}, "of ratings, such as 'rmse', or of rankings"),
        ({"metric": "RMSE"}, "`metric` must be 'rmse' for the errors .*, got 'RMSE'"),
        ({"metric": "mae@10"}, "`metric` must be 'mae' for the errors .*, got 'mae@10'"),
        ({"metric": "mae", "n_sampled": 5}, "`n_sampled` must be None for the metric 'mae'"),
        (
            {"metric": "rmse", "search_space": recommender_space("mf", loss=["mse", "bpr"])},
            "must hold the loss 'mse' alone for the metric 'rmse', got 'bpr'",
        ),
        ({"metric": "rmse", "splits": SPLITS}, "`held_out` must have ratings to be predicted"),
    ],
    ids=str,
)
def test_metrics_of_ratings_are_refused_where_nothing_predicts_them(settings, message):
    with pytest.raises(InvalidArgument, match=message):
        make(settings.pop("trainer", "mf"), **{"splits": RATED, **settings})


@pytest.mark.parametrize(
    ("trainer", "column", "is_read"),
    [
        ("mf", "ratings", False),
        ("als", "ratings", False),
        ("rating_bias", "ratings", True),
        ("mf", "weights", True),
        ("als", "weights", True),
        ("ease", "weights", False),
        ("item_knn", "weights", False),
    ],
)
def test_columns_that_a_trainer_does_not_read_are_said(trainer, column, is_read, recwarn):
    data = replace(late_data(), **{"ratings": None, column: late_data().ratings})
    make(trainer, splits=split_users_by_ratio(data))
    said = [str(each.message) for each in recwarn]
    assert len(said) == (0 if is_read else 1)
    assert all(f"does not read {column}" in each for each in said)


def test_references_of_weighted_rows_read_them_where_they_can():
    data = replace(late_data(), ratings=None, weights=late_data().ratings)
    objective = make("als", splits=split_users_by_ratio(data), references=["als", "ease"])
    study = tune(objective, n_trials=1)
    assert set(study.user_attrs[REFERENCES_KEY]) == {"als", "ease"}


class Paced(Walk):
    """A walk whose trainer has a setting of its own."""

    def __init__(self, pace: float = 1.0) -> None:
        self.pace = pace


class Other(Walk):
    """Another trainer of the same name."""


@pytest.mark.parametrize(
    ("first", "then"),
    [(Paced(1.0), Paced(2.0)), (Walk(), Other()), ("ease", "popularity")],
    ids=["setting", "class", "name"],
)
def test_study_does_not_go_on_with_another_trainer(first, then):
    space = {"noise": (0.0, 1.0)} if isinstance(first, Walk) else None
    study = tune(make(first, search_space=space, max_epochs=2), n_trials=1)
    with pytest.raises(RecipeMismatch, match="trainer"):
        run(study, make(then, search_space=space, max_epochs=2), n_trials=2)
    run(study, make(first, search_space=space, max_epochs=2), n_trials=2, show_progress_bar=False)
    assert len(study.trials) == 2


@pytest.mark.parametrize(("trainer", "goes_on"), [("mf", True), ("popularity", False)])
def test_study_of_mean_ranks_goes_on_where_no_scores_are_equal(trainer, goes_on):
    objective = make(trainer, max_epochs=1)
    study = tune(objective, n_trials=1)
    study.set_user_attr(FACTS_KEY, {**study.user_attrs[FACTS_KEY], "ties": "mid rank"})
    if goes_on:
        run(study, objective, n_trials=2, show_progress_bar=False)
        assert len(study.trials) == 2
    else:
        said = "(?s)'ties': stored 'mid rank'.*An earlier version of hpolab"
        with pytest.raises(RecipeMismatch, match=said):
            run(study, objective, n_trials=2)


def test_space_of_another_loss_is_refused_for_a_metric_of_ratings():
    objective = make("mf", splits=RATED, metric="rmse")
    with pytest.raises(InvalidArgument, match="must hold the loss 'mse' alone"):
        objective.with_search_space(recommender_space("mf"))
