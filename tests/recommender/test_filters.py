"""Cores: against a graph library, and what is left over."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab import Interactions, InvalidArgument, k_core


def drawn(seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items = rng.zipf(1.6, 600) % 60, rng.zipf(1.5, 600) % 50
    return Interactions.of(users, items, ratings=rng.integers(1, 6, 600), timestamps=range(600))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.needs("networkx")
def test_core_is_that_of_networkx(k, seed):
    import networkx  # torch brings it

    data = drawn(seed)
    core = k_core(data, k)
    graph = networkx.Graph(
        (("user", user), ("item", item)) for user, item in zip(data.users, data.items, strict=True)
    )
    left = set(networkx.k_core(graph, k).nodes)
    assert {("user", code) for code in np.flatnonzero(np.isin(data.user_ids, core.user_ids))} == {
        node for node in left if node[0] == "user"
    }
    assert {("item", code) for code in np.flatnonzero(np.isin(data.item_ids, core.item_ids))} == {
        node for node in left if node[0] == "item"
    }


def test_rows_that_are_left_are_as_they_were():
    data, core = drawn(0), k_core(drawn(0), 3)
    assert np.bincount(core.users, minlength=core.n_users).min() >= 3
    assert np.bincount(core.items, minlength=core.n_items).min() >= 3
    was = {
        (user, item): (rating, time)
        for user, item, rating, time in zip(
            data.user_ids[data.users], data.item_ids[data.items], data.ratings, data.timestamps,
            strict=True,
        )
    }  # fmt: skip
    assert np.all(np.diff(core.timestamps) > 0)
    for row in range(len(core)):
        pair = core.user_ids[core.users[row]], core.item_ids[core.items[row]]
        assert was[pair] == (core.ratings[row], core.timestamps[row])


def test_features_follow_their_ids():
    data = Interactions.from_frame(
        {"user": [1, 1, 2, 2, 3], "item": [7, 8, 7, 8, 9], "kind": ["a", "b", "a", "b", "c"]},
        item_features=["kind"],
    )
    core = k_core(data, 2)
    assert core.item_features.codes.tolist() == data.item_features.codes[:2].tolist()


@pytest.mark.parametrize(
    ("k", "message"),
    [(0, "`k` must be 1 or above"), (50, "`k` must leave interactions over, got 50")],
)
def test_impossible_cores_are_refused(k, message):
    with pytest.raises(InvalidArgument, match=message):
        k_core(drawn(0), k)
