"""A trained recommender: what it recommends, to whom, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpolab import (
    Interactions,
    InvalidArgument,
    InvalidType,
    Recommender,
    RecommenderObjective,
    RecommenderTrainer,
    RecommenderTraining,
    leave_last_out,
    make_taste_clusters,
    split_by_time,
)

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


def test_more_items_than_a_user_has_left_are_refused():
    model = truth()
    with pytest.raises(InvalidArgument, match=r"`k` must be at most .* got 60, where user 7 has"):
        model.recommend([7], k=60)
