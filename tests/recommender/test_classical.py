"""Recommenders with a closed form: each against its formula, written out plainly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpolab import Interactions, InvalidArgument, InvalidType
from hpolab.recommender import classical
from hpolab.recommender.classical import Ease, ItemKnn, Popularity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab import RecommenderTrainer, RecommenderTraining

SIMILARITIES = ("bm25", "cosine", "tfidf_cosine")
KNN = {"n_neighbors": 4, "shrink": 3.0, "similarity": "cosine"}
TRAINERS = {
    "popularity": (Popularity(), {}),
    "ease": (Ease(), {"l2": 20.0}),
    **{f"knn-{name}": (ItemKnn(), KNN | {"similarity": name}) for name in SIMILARITIES},
}
every_trainer = pytest.mark.parametrize(
    ("trainer", "params"), TRAINERS.values(), ids=TRAINERS.keys()
)


def interactions(taken: NDArray[Any]) -> Interactions:
    """Return the interactions of a table (n_users, n_items) of truths."""
    users, items = np.nonzero(taken)
    return Interactions(users, items, np.arange(len(taken)), np.arange(taken.shape[1]))


def random_table() -> NDArray[np.bool_]:
    """30 users, one of whom took nothing, and 12 items, one of which nobody took."""
    taken = np.random.default_rng(0).random((30, 12)) < 0.3
    taken[4] = taken[:, 5] = False
    return taken


def start(
    trainer: RecommenderTrainer, params: dict[str, Any], train: Interactions
) -> RecommenderTraining:
    return trainer.start(params, train, seed=0, max_epochs=1)


def trained(
    trainer: RecommenderTrainer, params: dict[str, Any], taken: NDArray[Any]
) -> RecommenderTraining:
    training = start(trainer, params, interactions(taken))
    training.epoch()
    return training


def scores(
    trainer: RecommenderTrainer, params: dict[str, Any], taken: NDArray[Any]
) -> NDArray[Any]:
    return trained(trainer, params, taken).scores(np.arange(len(taken)))


def item_to_item(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a table that ends with one user for each item, and these users' scores."""
    taken = np.concatenate([random_table(), np.eye(12, dtype=bool)])
    return taken, scores(trainer, params, taken)[-12:]


def two_clusters() -> tuple[NDArray[Any], NDArray[Any]]:
    """60 users take 8 of the 20 items of their half and 1 of the other; returns also the halves."""
    rng = np.random.default_rng(0)
    own = np.arange(60)[:, None] % 2 == np.arange(40)[None] % 2
    chosen = [
        np.concatenate(
            [rng.permutation(np.flatnonzero(row))[:8], rng.permutation(np.flatnonzero(~row))[:1]]
        )
        for row in own
    ]
    taken = np.zeros((60, 40), bool)
    np.put_along_axis(taken, np.array(chosen), True, axis=1)
    return taken, own


def share_of_own_half(scores: NDArray[Any], taken: NDArray[Any], own: NDArray[Any]) -> float:
    """Of the five items not taken that rank highest, those of the user's half; 0.39 by chance."""
    top = np.argsort(np.where(taken, -np.inf, scores), axis=1)[:, -5:]
    return float(np.take_along_axis(own, top, axis=1).mean())


def test_popularity_is_the_count_of_interactions_for_everybody() -> None:
    taken = random_table()
    expected = np.tile(taken.sum(axis=0), (30, 1))
    np.testing.assert_array_equal(scores(Popularity(), {}, taken), expected)


@pytest.mark.parametrize("l2", [0.01, 0.5, 20.0])
def test_ease_is_its_closed_form(l2: float) -> None:
    taken = random_table().astype(float)
    inverse = np.linalg.inv(taken.T @ taken + l2 * np.eye(12))
    weights = np.eye(12) - inverse @ np.diag(1 / np.diag(inverse))
    np.testing.assert_allclose(scores(Ease(), {"l2": l2}, taken), taken @ weights, atol=1e-5)


@pytest.mark.parametrize("l2", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("n_items", [2, 5])
def test_ease_is_precise_for_items_that_the_same_users_took(n_items: int, l2: float) -> None:
    # By the formula of Sherman and Morrison all weights are n / (n (k - 1) + l2), and in float32
    # an l2 of 0.001 is nothing beside 4,000 interactions.
    n = 4000
    taken = np.ones((n, n_items), bool)
    expected = n * (n_items - 1) / (n * (n_items - 1) + l2)
    np.testing.assert_allclose(scores(Ease(), {"l2": l2}, taken), expected, rtol=2e-4)


def test_ease_falls_back_to_float64_only_where_float32_is_not_precise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    types = []
    solve = classical._cholesky_inverse
    monkeypatch.setattr(
        classical, "_cholesky_inverse", lambda *args: (types.append(args[-1]), solve(*args))[1]
    )
    taken = random_table()
    taken[:, 7] = taken[:, 8]
    scores(Ease(), {"l2": 1.0}, taken)
    assert types == [np.float32]
    scores(Ease(), {"l2": 1e-6}, taken)
    assert types == [np.float32, np.float32, np.float64]


def test_ease_gives_no_item_a_weight_for_itself() -> None:
    _, weights = item_to_item(Ease(), {"l2": 1.0})
    np.testing.assert_array_equal(np.diag(weights), 0)


def test_ease_refuses_more_items_than_its_memory_allows() -> None:
    with pytest.raises(InvalidArgument, match=r"at most 11 items for EASE, got 12, .* 0\.0 GB"):
        start(Ease(max_items=11), {"l2": 1.0}, interactions(random_table()))


def naive_similarity(
    taken: NDArray[Any], i: int, j: int, *, similarity: str, shrink: float
) -> float:
    """Return the similarity of two items as the documentation defines it."""
    n_users, n_items = taken.shape
    lengths = taken.sum(axis=0)

    def weight(user: int, item: int) -> float:
        if not taken[user, item]:
            return 0.0
        rarity = math.log(n_items / (1 + taken[user].sum()))
        relative = 1 - 0.75 + 0.75 * lengths[item] / lengths.mean()
        saturation = (1.2 + 1) / (1.2 * relative + 1)
        return {"cosine": 1.0, "tfidf_cosine": rarity, "bm25": rarity * saturation}[similarity]

    def dot(a: int, b: int) -> float:
        return sum(weight(user, a) * weight(user, b) for user in range(n_users))

    if i == j or dot(i, j) == 0:
        return 0.0
    norms = 1.0 if similarity == "bm25" else math.sqrt(dot(i, i) * dot(j, j))
    support = math.sqrt(lengths[i] * lengths[j])
    return dot(i, j) / norms * support / (support + shrink)


def naive_similarities(taken: NDArray[Any], **settings: Any) -> NDArray[Any]:
    items = range(taken.shape[1])
    return np.array([[naive_similarity(taken, i, j, **settings) for j in items] for i in items])


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("shrink", [0.0, 7.0])
def test_item_knn_sums_similarities_over_the_items_taken(similarity: str, shrink: float) -> None:
    taken = random_table()
    settings = {"similarity": similarity, "shrink": shrink}
    expected = taken @ naive_similarities(taken, **settings)
    result = scores(ItemKnn(), settings | {"n_neighbors": 12}, taken)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n_neighbors", [1, 3, 100])
def test_item_knn_keeps_the_nearest_neighbors_of_each_item(
    similarity: str, n_neighbors: int
) -> None:
    settings = {"similarity": similarity, "shrink": 1.0}
    taken, kept = item_to_item(ItemKnn(), settings | {"n_neighbors": n_neighbors})
    expected = naive_similarities(taken, **settings)
    # Which of two neighbors as near as each other is kept is not promised.
    nearest = np.sort(expected, axis=0)[::-1][:n_neighbors]
    np.testing.assert_allclose(np.sort(kept, axis=0)[::-1][:n_neighbors], nearest, rtol=1e-5)
    np.testing.assert_allclose(kept, np.where(kept > 0, expected, 0), rtol=1e-5)
    assert ((kept > 0).sum(axis=0) <= n_neighbors).all()


@pytest.mark.parametrize(
    ("trainer", "params"), [TRAINERS["ease"], TRAINERS["knn-cosine"]], ids=["ease", "knn"]
)
def test_blocks_of_items_change_nothing(
    trainer: RecommenderTrainer, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores(trainer, params, random_table())
    monkeypatch.setattr(classical, "_BLOCK_CELLS", 5 * 12)
    np.testing.assert_array_equal(scores(trainer, params, random_table()), whole)


@every_trainer
def test_state_gives_the_same_scores_elsewhere(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    users = np.arange(30)
    training = trained(trainer, params, random_table())
    other = start(trainer, params, interactions(random_table()))
    other.from_bytes(training.to_bytes())
    np.testing.assert_array_equal(other.scores(users), training.scores(users))


@every_trainer
def test_state_before_the_epoch_leaves_it_to_do(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    users = np.arange(30)
    other = start(trainer, params, interactions(random_table()))
    other.from_bytes(start(trainer, params, interactions(random_table())).to_bytes())
    other.epoch()
    whole = trained(trainer, params, random_table())
    np.testing.assert_array_equal(other.scores(users), whole.scores(users))


@every_trainer
def test_the_best_model_is_the_only_one(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    training = trained(trainer, params, random_table())
    before = training.scores(np.arange(30))
    training.keep_best()
    training.load_best()
    np.testing.assert_array_equal(training.scores(np.arange(30)), before)


@every_trainer
def test_scores_belong_to_the_caller(trainer: RecommenderTrainer, params: dict[str, Any]) -> None:
    training = trained(trainer, params, random_table())
    users = np.array([3, 0, 3])
    before = training.scores(users).copy()
    training.scores(users)[:] = -1
    np.testing.assert_array_equal(training.scores(users), before)
    assert before.shape == (3, 12)
    assert before.dtype == np.float32


@pytest.mark.parametrize(
    ("trainer", "params"),
    [(trainer, params) for name, (trainer, params) in TRAINERS.items() if name != "popularity"],
)
def test_users_get_the_items_of_their_own_cluster(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    taken, own = two_clusters()
    assert share_of_own_half(scores(trainer, params, taken), taken, own) > 0.95


@pytest.mark.parametrize(
    ("trainer", "params", "message"),
    [
        (Ease(), {"l2": 0}, "`l2` must be above 0, got 0."),
        (Ease(), {"l2": -1.5}, "`l2` must be above 0, got -1.5."),
        (Ease(), {"l2": math.nan}, "`l2` must be finite, got nan."),
        (Ease(), {}, "`l2` must be among the parameters, got none."),
        (ItemKnn(), KNN | {"n_neighbors": 0}, "`n_neighbors` must be 1 or above, got 0."),
        (ItemKnn(), KNN | {"shrink": -1}, "`shrink` must be 0 or above, got -1."),
        (
            ItemKnn(),
            KNN | {"similarity": "cosin"},
            "`similarity` must be one of 'bm25', 'cosine', 'tfidf_cosine', got 'cosin'. "
            "Did you mean 'cosine'?",
        ),
    ],
)
def test_parameters_out_of_range_are_refused(
    trainer: RecommenderTrainer, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        start(trainer, params, interactions(random_table()))
    assert str(caught.value) == message


@pytest.mark.parametrize("value", ["1", None, True])
def test_parameters_of_another_type_are_refused(value: Any) -> None:
    with pytest.raises(InvalidType, match="`l2` must be a number, got"):
        start(Ease(), {"l2": value}, interactions(random_table()))


def test_an_l2_that_leaves_nothing_to_invert_is_refused() -> None:
    same = np.ones((4, 3), bool)
    with pytest.raises(InvalidArgument, match="`l2` must be larger"):
        trained(Ease(), {"l2": 1e-300}, same)
