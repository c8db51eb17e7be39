"""A trained recommender: what it recommends, to whom, and what it refuses."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from hpolab import (
    Interactions,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    Recommender,
    RecommenderObjective,
    RecommenderTrainer,
    RecommenderTraining,
    Splits,
    leave_last_out,
    load_recommender,
    make_taste_clusters,
    split_by_time,
)
from hpolab.recommender.classical import Ease, Popularity

DATA = make_taste_clusters(n_users=120, n_items=60, n_per_user=15)
SPLITS = leave_last_out(DATA.interactions)


class Truth(RecommenderTrainer):
    """Knows what each user likes."""

    name = "truth"
    max_epochs = 1

    def start(self, params: Any, train: Interactions, **settings: Any) -> RecommenderTraining:
        return Known()


class Known(RecommenderTraining):
    def epoch(self) -> None: ...

    def scores(self, users: Any) -> Any:
        return DATA.scores[users]

    def keep_best(self) -> None: ...

    def load_best(self) -> None: ...

    def to_bytes(self) -> bytes:
        return b""

    def from_bytes(self, state: bytes) -> None: ...


def truth() -> Recommender:
    return Recommender("truth", {}, 1, SPLITS.train, Known())


def test_recommended_items_are_the_best_that_the_user_has_not_taken():
    model = truth()
    taken = set(SPLITS.train.items[SPLITS.train.users == 7].tolist())
    order = [item for item in np.argsort(-DATA.scores[7], kind="stable") if item not in taken]
    assert model.recommend([7], k=5).tolist() == [order[:5]]


def test_users_who_are_not_known_get_what_most_have_taken():
    model = truth()
    best = model.recommend([7, 10_000], k=3)
    counts = np.bincount(SPLITS.train.items, minlength=60)
    assert counts[best[1]].tolist() == sorted(counts)[:-4:-1]


def test_one_user_gets_a_row_of_their_own():
    model = truth()
    for one in (7, np.int64(7)):
        assert model.recommend(one, k=5).tolist() == model.recommend([7], k=5)[0].tolist()


@pytest.mark.parametrize("asked", ["7", ["7"], [7, "new"], [7, None], {7}], ids=repr)
def test_users_of_another_type_are_refused(asked):
    with pytest.raises((InvalidArgument, InvalidType), match="`user_ids` must"):
        truth().recommend(asked)


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


def test_model_of_a_trainer_of_one_s_own_is_loaded_with_it(tmp_path):
    model = truth()
    model.save(tmp_path / "model")
    loaded = load_recommender(tmp_path / "model", trainer=Truth())
    assert loaded.recommend(7, k=5).tolist() == model.recommend(7, k=5).tolist()
    with pytest.raises(InvalidArgument, match="`trainer` must be of 'truth', got one of 'ease'"):
        load_recommender(tmp_path / "model", trainer=Ease())


@pytest.mark.parametrize("k", [0, 61])
def test_counts_out_of_range_are_refused(k):
    with pytest.raises(InvalidArgument, match="`k` must be "):
        truth().recommend([7], k=k)


def short_of_items(*, text: bool) -> Recommender:
    """A model of four items: user 0 has taken three, user 1 one, and user 2 all."""
    name = {item: f"item{item}" if text else item for item in range(4)}
    rows = [(0, 0), (0, 1), (0, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    train = Interactions.of([u for u, _ in rows], [name[i] for _, i in rows])
    training = Popularity().start({}, train, seed=0, max_epochs=1)
    training.epoch()
    return Recommender("popularity", {}, 1, train, training)


@pytest.mark.parametrize("text", [True, False])
def test_user_with_few_items_left_does_not_keep_others_from_theirs(text):
    model = short_of_items(text=text)
    last = "item3" if text else 3
    with pytest.warns(UserWarning, match="2 of 3 users have fewer than 2 items left .* first is 0"):
        ids, scores = model.recommend([0, 1, 2], k=2, with_scores=True)
    first, second = ("item0", "item1") if text else (0, 1)
    assert ids.tolist() == [[last, None], [first, second], [None, None]]
    assert np.isnan(scores).tolist() == [[False, True], [False, False], [True, True]]
    frame = model.recommend_frame([0, 1, 2], k=2)
    assert frame["user_id"].tolist() == [0, 1, 1]
    assert frame["item_id"].tolist() == [last, first, second]
    assert frame["rank"].tolist() == [1, 1, 2]


def test_items_that_tie_come_in_the_order_of_their_ids():
    data = Interactions.of([1, 1, 2, 2, 3, 9, 9], ["d", "b", "b", "d", "c", "a", "e"])
    training = Popularity().start({}, data, seed=0, max_epochs=1)
    training.epoch()
    model = Recommender("popularity", {}, 1, data, training)
    assert model.recommend(3, k=4).tolist() == ["b", "d", "a", "e"]
    assert model.recommend(1, k=3).tolist() == ["a", "c", "e"]


def test_scores_come_with_the_items_and_are_the_model_s():
    model = truth()
    ids, scores = model.recommend([7, 10_000], k=5, with_scores=True)
    codes = np.searchsorted(SPLITS.train.item_ids, ids[0])
    assert scores[0] == pytest.approx(DATA.scores[7][codes], rel=1e-6)
    assert np.isnan(scores[1]).all()
    one, own = model.recommend(7, k=5, with_scores=True)
    assert one.tolist() == ids[0].tolist()
    assert own.tolist() == scores[0].tolist()


def test_frame_holds_what_the_array_does():
    model = truth()
    users = [7, 3, 10_000]
    ids, scores = model.recommend(users, k=4, with_scores=True)
    frame = model.recommend_frame(users, k=4)
    assert list(frame.columns) == ["user_id", "item_id", "rank", "score"]
    assert frame["user_id"].tolist() == np.repeat(users, 4).tolist()
    assert frame["item_id"].tolist() == ids.ravel().tolist()
    assert frame["rank"].tolist() == [1, 2, 3, 4] * 3
    assert np.array_equal(frame["score"], scores.ravel(), equal_nan=True)
    assert model.recommend_frame(7, k=4)["item_id"].tolist() == ids[0].tolist()


def test_missing_pandas_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"`recommend_frame` needs pandas: .*hpolab\[frames\]"):
        truth().recommend_frame([7])


def test_nobody_asked_for_gets_nothing():
    assert truth().recommend([], k=3).shape == (0, 3)
    assert len(truth().recommend_frame([], k=3)) == 0


def test_recommendations_do_not_depend_on_who_is_asked_for_beside_them(monkeypatch):
    model = truth()
    users = [*range(120), 10_000, 20_000]
    whole = model.recommend(users, k=6)
    monkeypatch.setattr("hpolab.recommender.trained._MAX_CELLS", 300)
    sizes = []
    monkeypatch.setattr(Known, "scores", lambda self, u: sizes.append(len(u)) or DATA.scores[u])
    assert (model.recommend(users, k=6) == whole).all()
    assert max(sizes) == 5  # of 60 items
    assert (np.stack([model.recommend(user, k=6) for user in users]) == whole).all()


COLD = Interactions.from_frame(
    {
        "user": ["a", "a", "b", "b", "c", "c", "d", "a", "cold", "bare"],
        "item": [1, 2, 1, 3, 1, 4, 2, 3, 4, 4],
        "time": list(range(10)),
        "age": ["old", "old", "young", "young", "old", "old", "young", "old", "old", None],
    },
    user_features=["age"],
)


@pytest.mark.parametrize("trainer", ["popularity", "ease", "item_knn", "mf", "lightgcn", "fm"])
def test_users_of_whom_nothing_is_known_get_what_most_have_taken(trainer):
    splits = split_by_time(COLD, valid=0.1, test=0.2)
    objective = RecommenderObjective(
        trainer, splits, metric="mrr", metrics=(), max_epochs=2, references=()
    )
    model = objective.fit(objective.search_space.defaults(), seed=0)
    popular = [1, 2, 3, 4]
    assert not np.isin(model.train.encode_users(["cold", "bare"]), model.train.users).any()
    for asked in (["new", "bare"], ["a", "new", "bare"]):
        assert model.recommend(asked, k=2)[-2:].tolist() == [popular[:2], popular[:2]]
    # Side features stand in for rows where the model reads them.
    _, scores = model.recommend("cold", k=2, with_scores=True)
    assert np.isnan(scores).all() == (trainer != "fm")


def fitted(trainer: str, **params: object) -> Recommender:
    objective = RecommenderObjective(trainer, SPLITS, max_epochs=3, references=())
    return objective.fit({**objective.search_space.defaults(), **params}, seed=0)


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return cosine


def test_similar_items_of_factors_are_those_of_the_largest_cosine():
    model = fitted("mf")
    expected = cosines(model.training.model.items.weight.detach().numpy()[:, :-1])
    ids, similarities = model.similar_items(model.train.item_ids, k=5, with_scores=True)
    best = np.argsort(-expected, axis=1, kind="stable")[:, :5]
    assert (ids == model.train.item_ids[best]).all()
    assert similarities == pytest.approx(np.take_along_axis(expected, best, axis=1), abs=1e-5)
    assert model.similar_items(model.train.item_ids[3], k=5).tolist() == ids[3].tolist()


@pytest.mark.needs("implicit")
@pytest.mark.parametrize("trainer", ["als", "bpr_implicit", "logistic_mf"])
def test_similar_items_of_implicit_s_models_are_its_own(trainer):
    model = fitted(trainer)
    own, similarities = model.training._model.similar_items(np.arange(60), N=6)
    ids, scores = model.similar_items(model.train.item_ids, k=5, with_scores=True)
    # implicit lists the item itself as the first.
    assert scores == pytest.approx(similarities[:, 1:], abs=1e-5)
    assert (ids == model.train.item_ids[own[:, 1:]]).mean() > 0.95  # near ties round otherwise


def test_similar_items_of_linear_models_are_those_of_the_largest_weight():
    ease = fitted("ease")
    ids, found = ease.similar_items(ease.train.item_ids[:4], k=59, with_scores=True)
    matrix = ease.train.matrix().toarray().astype(np.float64)
    gram = np.linalg.inv(matrix.T @ matrix + ease.params["l2"] * np.eye(60))
    expected = -gram / np.diag(gram)
    np.fill_diagonal(expected, -np.inf)
    order = np.argsort(-expected[:4], axis=1)[:, :59]
    assert found == pytest.approx(np.take_along_axis(expected[:4], order, 1), abs=1e-4)
    assert (ids[:, :5] == ease.train.item_ids[order[:, :5]]).all()


def test_similar_items_of_neighbors_are_the_neighbors():
    model = fitted("item_knn", n_neighbors=4, shrink=0.0, similarity="cosine")
    expected = cosines(model.train.matrix().toarray().T)
    with pytest.warns(UserWarning, match="items have fewer than 6 similar ones"):
        ids, found = model.similar_items(model.train.item_ids[:9], k=6, with_scores=True)
    for item in range(9):
        nearest = np.sort(expected[item])[::-1][:4]
        assert found[item, :4] == pytest.approx(nearest, abs=1e-5)
        assert ids[item, 4:].tolist() == [None, None]


@pytest.mark.parametrize("trainer", ["neumf", "fm", "deepfm", "two_tower", "lightgcn", "sasrec"])
def test_models_of_torch_know_similar_items_of_one_cluster(trainer):
    model = fitted(trainer)
    ids, scores = model.similar_items(model.train.item_ids, k=3, with_scores=True)
    assert (ids != model.train.item_ids[:, None]).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.abs(scores) <= 1 + 1e-6).all()


def test_item_that_nothing_was_learned_of_is_similar_to_none():
    data = Interactions.of(["a", "a", "b", "b", "b", "c"], ["x", "y", "x", "y", "late", "x"])
    train = data.rows(np.flatnonzero(data.items != data.encode_items(["late"])[0]))
    training = Ease().start({"l2": 1.0}, train, seed=0, max_epochs=1)
    training.epoch()
    model = Recommender("ease", {"l2": 1.0}, 1, train, training)
    with pytest.warns(UserWarning, match="3 of 3 items have fewer than 2 similar ones"):
        found = model.similar_items(["x", "y", "late"], k=2)
    assert found.tolist() == [["y", None], ["x", None], [None, None]]


def test_model_that_knows_nothing_of_items_refuses_similar_ones():
    with pytest.raises(InvalidArgument, match="`similar_items` must be asked of a model that"):
        fitted("popularity").similar_items(SPLITS.train.item_ids[:2])


@pytest.mark.parametrize(
    ("items", "k", "error", "message"),
    [
        (["x"], 3, InvalidType, "`item_ids` must be of the type of the known ids"),
        ([10_000], 3, InvalidArgument, "`item_ids` must be items of `train`, got 10000"),
        ([3], 60, InvalidArgument, "`k` must be at most n_items - 1, 59, got 60"),
        ([3], 0, InvalidArgument, "`k` must be 1 or above"),
        ([None], 3, InvalidArgument, "`item_ids` must have no missing values"),
    ],
)
def test_bad_arguments_of_similar_items_are_refused(items, k, error, message):
    with pytest.raises(error, match=message):
        fitted("ease").similar_items(items, k)


def test_ratings_are_predicted_by_ids_and_means_stand_in_for_what_is_not_known():
    rng = np.random.default_rng(0)
    data = Interactions.of(
        rng.integers(0, 20, 200) * 10,
        [f"film{n}" for n in rng.integers(0, 15, 200)],
        ratings=rng.integers(1, 6, 200),
    )
    train = data.rows(np.flatnonzero((data.users > 0) & (data.items > 0)))
    splits = Splits(train, data, data)
    with pytest.warns(UserWarning, match="are left out"):
        objective = RecommenderObjective("rating_bias", splits, metric="rmse")
    model = objective.fit(objective.search_space.defaults())
    film = data.item_ids[3]
    found = model.predict([10, 999, 0, 10, 999], [film, film, film, "nowhere", "nowhere"])
    of_item = train.ratings[train.items == 3].mean()
    of_user = train.ratings[train.users == 1].mean()
    expected = [model.training.predict(np.array([1]), np.array([3]))[0], of_item, of_item]
    assert found == pytest.approx([*expected, of_user, train.ratings.mean()])


@pytest.mark.parametrize(
    ("trainer", "items", "message"),
    [("rating_bias", [1], "as many as `user_ids`, 2, got 1"), ("ease", [1, 2], "no ratings")],
)
def test_ratings_that_cannot_be_predicted_are_refused(trainer, items, message):
    rng = np.random.default_rng(0)
    rated = {"ratings": rng.integers(1, 6, 200)} if trainer == "rating_bias" else {}
    data = Interactions.of(rng.integers(0, 20, 200), rng.integers(0, 15, 200), **rated)
    metric = "rmse" if rated else "mrr"
    objective = RecommenderObjective(trainer, leave_last_out(data), metric=metric)
    model = objective.fit(objective.search_space.defaults())
    with pytest.raises(InvalidArgument, match=message):
        model.predict([1, 2], items)
