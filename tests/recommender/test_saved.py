"""A recommender comes back from its file as it was, without pickle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpolab import (
    DataNotFound,
    Interactions,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    Recommender,
    RecommenderObjective,
    compare,
    leave_last_out,
    load_comparison,
    make_study,
    run,
)
from hpolab.datasets import make_taste_clusters

DATA = make_taste_clusters(n_users=30, n_items=60)
ROWS = DATA.interactions
SPLITS = leave_last_out(ROWS)
CODES = np.arange(6)


def make(trainer, splits=SPLITS, **settings):
    given = {"metric": "ndcg@5", "max_epochs": 2, "references": ()}
    return RecommenderObjective(trainer, splits, **given | settings)


def trained(trainer, splits=SPLITS):
    objective = make(trainer, splits)
    return objective, objective.fit(objective.search_space.defaults(), 0)


@pytest.mark.parametrize(
    "trainer", ["mf", "neumf", "lightgcn", "sasrec", "ease", "item_knn", "popularity"]
)
def test_recommender_survives_saving(trainer, tmp_path):
    objective, model = trained(trainer)
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert np.array_equal(loaded.scores(CODES), model.scores(CODES))
    assert np.array_equal(loaded.recommend(ROWS.user_ids[:6]), model.recommend(ROWS.user_ids[:6]))
    assert (loaded.name, loaded.params, loaded.n_epochs) == (
        model.name,
        model.params,
        model.n_epochs,
    )
    assert objective.evaluate(loaded, SPLITS.test) == objective.evaluate(model, SPLITS.test)


def test_side_features_and_text_ids_are_saved(tmp_path):
    users = [f"user {i}" for i in np.repeat(np.arange(12), 6)]
    items = [f"item {(i * 5 + i // 6) % 17}" for i in range(72)]
    rows = Interactions.from_frame(
        {"user": users, "item": items, "ts": np.arange(72), "age": np.repeat(np.arange(12), 6) % 4},
        user_features=["age"],
    )
    _, model = trained("fm", leave_last_out(rows))
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.recommend("user 3").tolist() == model.recommend("user 3").tolist()
    assert loaded.train.user_features.names == ("age",)


@pytest.mark.parametrize("content", [b"", b"no such thing", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InvalidArgument, match="must name a recommender that `save` wrote"):
        Recommender.load(tmp_path / "other")
    with pytest.raises(DataNotFound):
        Recommender.load(tmp_path / "missing")


def test_trainer_of_the_users_own_is_needed_to_load(tmp_path):
    _, model = trained("popularity")
    replace(model, name="mine").save(tmp_path / "model")
    with pytest.raises(InvalidArgument, match="`trainer` must be the RecommenderTrainer"):
        Recommender.load(tmp_path / "model")


def test_ids_that_only_pickle_could_store_are_refused(tmp_path):
    _, model = trained("popularity")
    ids = np.array([("a", i) for i in range(ROWS.n_users)] + [None], dtype=object)[:-1]
    with pytest.raises(InvalidType, match="to be saved, got objects"):
        replace(model, train=replace(model.train, user_ids=ids)).save(tmp_path / "model")


def test_comparison_has_all_metrics_on_test_data(tmp_path):
    objective = make("mf", metrics=["hr@10", "ndcg@10"])
    storage = f"sqlite:///{tmp_path}/c.db"
    settings = {"study_name": "c", "n_trials": 1, "storage": storage, "n_repeats": 2}
    found = compare(
        objective, ["adam", "sgd"], **settings, test=SPLITS.test, n_test_seeds=2, seed=0
    )
    for comparison in (found, load_comparison("c", storage=storage)):
        for name, each in comparison.contenders.items():
            assert set(each.test_metrics) == {"hr@10", "ndcg@10"}
            for tuning in each.tunings:
                assert [len(values) for values in tuning.test_metrics.values()] == [2, 2]
            frame = comparison.to_frame().set_index("contender")
            means = [np.mean(tuning.test_metrics["hr@10"]) for tuning in each.tunings]
            assert frame.loc[name, "test_hr@10"] == pytest.approx(np.mean(means))
            assert each.test_score == pytest.approx(np.mean(each.test_scores))
    model = objective.fit(found.contenders["adam"].best_params, 0)
    assert set(found.contenders["adam"].test_metrics) < set(objective.evaluate(model, SPLITS.test))


FRAME = {
    "user": ROWS.users,
    "item": ROWS.items,
    "stars": np.ones(len(ROWS)),
    "ts": np.arange(len(ROWS)),
}


def test_data_that_were_read_without_ratings_are_refused_with_the_columns_names():
    rated = leave_last_out(Interactions.from_frame(FRAME, rating="stars"))
    with pytest.warns(UserWarning, match="'popularity' does not read ratings"):
        objective = make("popularity", rated)
    study = make_study("r", objective=objective, storage="memory://")
    run(study, objective, n_trials=1)
    bare = make("popularity", leave_last_out(Interactions.from_frame(FRAME, rating=None)))
    with pytest.raises(RecipeMismatch, match="The parts are users, items, ratings") as caught:
        bare.fit_best(study)
    assert "Take another `study_name`" in str(caught.value)
