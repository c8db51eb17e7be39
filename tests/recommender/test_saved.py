"""A recommender comes back from its file as it was, without pickle."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from hpolab import (
    DataNotFound,
    Interactions,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    RecommenderObjective,
    compare,
    leave_last_out,
    load_comparison,
    load_recommender,
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
    loaded = load_recommender(tmp_path / "model")
    assert np.array_equal(loaded.scores(CODES), model.scores(CODES))
    assert np.array_equal(loaded.recommend(ROWS.user_ids[:6]), model.recommend(ROWS.user_ids[:6]))
    assert (loaded.name, loaded.params, loaded.n_epochs) == (
        model.name,
        model.params,
        model.n_epochs,
    )
    assert objective.evaluate(loaded, SPLITS.test) == objective.evaluate(model, SPLITS.test)


SERVED = """
import sys
from hpolab import load_recommender

model = load_recommender(sys.argv[1])
users = model.train.user_ids[:4]
print(model.name, model.n_epochs, model.facts["split"], model.facts["metric"])
print(model.recommend(users, k=3).tolist(), model.similar_items(model.train.item_ids[0], k=3))
"""


@pytest.mark.needs("torch")
@pytest.mark.parametrize("trainer", ["fm", "ease"])
def test_recommender_is_opened_in_another_process_with_its_protocol(trainer, tmp_path, python):
    users = [f"user {i}" for i in np.repeat(np.arange(12), 6)]
    items = [f"item {(i * 5 + i // 6) % 17}" for i in range(72)]
    table = {"user": users, "item": items, "ts": np.arange(72), "age": np.arange(72) // 6 % 4}
    _, model = trained(
        trainer, leave_last_out(Interactions.from_frame(table, user_features=["age"]))
    )
    model.save(tmp_path / "model")
    answered = python.run(SERVED, str(tmp_path / "model"))
    assert answered.returncode == 0, answered.stderr
    ids = model.train.user_ids[:4]
    assert answered.stdout.splitlines() == [
        f"{trainer} {model.n_epochs} leave last out ndcg@5",
        f"{model.recommend(ids, k=3).tolist()} {model.similar_items(model.train.item_ids[0], k=3)}",
    ]


@pytest.mark.parametrize("trainer", ["mf", "als", "sasrec", "ease"])
@pytest.mark.needs("torch", "implicit")
def test_file_of_a_recommender_holds_no_pickle_of_code(trainer, tmp_path, monkeypatch):
    _, model = trained(trainer)
    model.save(tmp_path / "model")
    expected = model.recommend(ROWS.user_ids[:3])

    def refused(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.load", refused)
    monkeypatch.setattr("pickle.loads", refused)
    assert (load_recommender(tmp_path / "model").recommend(ROWS.user_ids[:3]) == expected).all()
    with zipfile.ZipFile(tmp_path / "model") as file:
        assert not [name for name in file.namelist() if not name.endswith(".npy")]


def test_protocol_and_numbers_of_numpy_are_saved(tmp_path):
    _, model = trained("popularity")
    assert model.facts["ranking"] == "all items that the user has not seen"
    own = replace(model, facts={**model.facts, "n": np.int64(3), "share": np.float32(0.5)})
    own.save(tmp_path / "model")
    found = load_recommender(tmp_path / "model").facts
    assert found == {**model.facts, "n": 3, "share": 0.5}
    with pytest.raises(InvalidType, match="must be numbers, text, or lists of them"):
        replace(model, facts={"what": {1, 2}}).save(tmp_path / "model")


def test_side_features_and_text_ids_are_saved(tmp_path):
    users = [f"user {i}" for i in np.repeat(np.arange(12), 6)]
    items = [f"item {(i * 5 + i // 6) % 17}" for i in range(72)]
    rows = Interactions.from_frame(
        {"user": users, "item": items, "ts": np.arange(72), "age": np.repeat(np.arange(12), 6) % 4},
        user_features=["age"],
    )
    _, model = trained("fm", leave_last_out(rows))
    model.save(tmp_path / "model")
    loaded = load_recommender(tmp_path / "model")
    assert loaded.recommend("user 3").tolist() == model.recommend("user 3").tolist()
    assert loaded.train.user_features.names == ("age",)


@pytest.mark.parametrize("content", [b"", b"no such thing", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InvalidArgument, match="must name a recommender that `save` wrote"):
        load_recommender(tmp_path / "other")
    with pytest.raises(DataNotFound):
        load_recommender(tmp_path / "missing")


def test_trainer_of_the_users_own_is_needed_to_load(tmp_path):
    _, model = trained("popularity")
    replace(model, name="mine").save(tmp_path / "model")
    with pytest.raises(InvalidArgument, match="`trainer` must be the RecommenderTrainer"):
        load_recommender(tmp_path / "model")


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
