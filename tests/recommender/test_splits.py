"""Splits of interactions: parts, ties, short users, bad input."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from hpolab import (
    Interactions,
    InvalidArgument,
    Splits,
    k_core,
    leave_last_out,
    split_by_time,
    split_users_by_ratio,
)


def many(n_users: int = 30, n_items: int = 40, n: int = 900, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.of(
        rng.integers(0, n_users, n),
        rng.integers(0, n_items, n),
        timestamps=rng.integers(0, 60, n),
    )


def keys(data: Interactions) -> set[tuple[int, int]]:
    return set(zip(data.users.tolist(), data.items.tolist(), strict=True))


@pytest.mark.parametrize(
    "split",
    [leave_last_out, split_by_time, split_users_by_ratio],
    ids=lambda split: split.__name__,
)
def test_parts_are_all_rows_each_once_and_share_users_and_items(split):
    data = many()
    splits = split(data)
    parts = [splits.train, splits.valid, splits.test]
    assert sum(map(len, parts)) == len(data)
    assert set.union(*map(keys, parts)) == keys(data)
    assert all(part.user_ids is data.user_ids for part in parts)
    assert keys(split(data).test) == keys(splits.test)
    assert splits.facts["n_train"] == len(splits.train)
    assert splits.facts["n_items"] == data.n_items


@pytest.mark.parametrize("split", [leave_last_out, split_users_by_ratio], ids=["last", "ratio"])
def test_seed_decides_where_time_does_not(split):
    data = many()
    assert keys(split(data, seed=0).test) == keys(split(data).test)
    assert keys(split(data, seed=1).test) != keys(split(data).test)


def test_items_that_nobody_trains_on_are_counted():
    data = Interactions.of([0, 0, 0, 1, 1, 1], [1, 2, 9, 1, 2, 3], timestamps=[1, 2, 3, 1, 2, 3])
    facts = leave_last_out(data).facts
    assert facts["n_items_only_held_out"] == 3  # 2, 3 and 9


def test_last_is_for_test_and_the_one_before_steers():
    data = many(n=2000)
    splits = leave_last_out(data)
    assert np.bincount(splits.test.users).max() == np.bincount(splits.valid.users).max() == 1
    for user in range(data.n_users):
        times = [part.timestamps[part.users == user] for part in (splits.train, splits.valid)]
        last = splits.test.timestamps[splits.test.users == user]
        assert times[0].max() <= times[1].min() <= last.min()


def test_ties_are_counted_and_broken_by_the_seed():
    data = Interactions.of([0] * 4 + [1] * 4, list(range(8)), timestamps=[1, 2, 3, 3, 1, 2, 3, 4])
    assert leave_last_out(data).facts["n_users_with_ties"] == 1
    last = {int(leave_last_out(data, seed=seed).test.items[0]) for seed in range(20)}
    assert last == {2, 3}


def test_users_with_too_few_interactions_only_train():
    data = Interactions.of([0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 0])
    splits = leave_last_out(data)
    assert splits.test.users.tolist() == splits.valid.users.tolist() == [0]
    assert splits.facts["n_users_too_short"] == 2
    assert splits.facts["n_users_held_out"] == 1
    with pytest.raises(InvalidArgument, match=r"three rows of a user at least, .* got at most 2"):
        leave_last_out(Interactions.of([0, 0, 1], [0, 1, 0]))


def test_split_by_time_has_one_moment_for_all():
    splits = split_by_time(many())
    assert splits.train.timestamps.max() < splits.valid.timestamps.min()
    assert splits.valid.timestamps.max() < splits.test.timestamps.min()


def test_ratio_leaves_each_user_something_to_train_on():
    data = Interactions.of([0, 0, 1, *[2] * 10], [0, 1, 0, *range(10)])
    splits = split_users_by_ratio(data, valid=0.2, test=0.3)
    assert np.bincount(splits.train.users, minlength=3).min() == 1
    assert np.bincount(splits.test.users, minlength=3).tolist() == [1, 0, 3]
    assert np.bincount(splits.valid.users, minlength=3).tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_by_time(Interactions.of([1], [1])), "must have timestamps"),
        (lambda: split_by_time(many(), test=1.5), "`test` must be above 0 and below 1, got 1.5"),
        (lambda: split_users_by_ratio(many(), valid=0.5, test=0.5), "leave rows to train on"),
        (lambda: split_by_time(Interactions.of([1, 2], [1, 2], timestamps=[5, 5])), "`valid`"),
        (lambda: leave_last_out(many(), seed=-1), "`seed` must be 0 or above"),
    ],
)
def test_impossible_splits_are_refused(call, message):
    with pytest.raises(InvalidArgument, match=message):
        call()


def late(n_late: int) -> Interactions:
    """Return interactions whose last users come when the others have trained."""
    users = [n % 10 for n in range(80)] + [100 + n for n in range(n_late)] + [0] * (20 - n_late)
    return Interactions.of(users, range(100), timestamps=range(100))


@pytest.mark.parametrize("n_late", [1, 7])
def test_users_without_training_are_counted_and_said(n_late, caplog):
    optuna.logging.enable_propagation()
    caplog.set_level("INFO")
    splits = split_by_time(late(n_late), valid=0.1, test=0.2)
    optuna.logging.disable_propagation()
    assert splits.n_cold_users["test"] + splits.n_cold_users["valid"] == n_late
    n_users = len(set(splits.test.users.tolist()))
    said = f"{n_late} of {n_users} users in `test` have no interactions in `train`"
    for text in (caplog.text, repr(splits), str(splits), splits._repr_html_()):
        assert text.count(said) == 1


def test_nothing_is_said_where_all_users_train(caplog):
    optuna.logging.enable_propagation()
    caplog.set_level("INFO")
    splits = split_users_by_ratio(many())
    optuna.logging.disable_propagation()
    assert set(splits.n_cold_users.values()) == {0}
    assert not any("no interactions" in text for text in (caplog.text, repr(splits), str(splits)))


def parts(users=("ann", "bob", "bob"), items=("x", "y", "z")):
    train = Interactions.of(["ann", "bob", "bob"], ["x", "y", "z"])
    return train, Interactions.of(list(users), list(items))


@pytest.mark.parametrize(
    ("users", "items", "whose"),
    [
        (["ann", "eve", "eve"], ["x", "y", "z"], "users"),
        (["ann", "bob"], ["x", "y"], "items"),
        (["ann", "bob", "bob"], ["x", "y", "w"], "items"),
        ([1, 2, 2], ["x", "y", "z"], "users"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["valid", "test", "score"])
def test_parts_whose_codes_mean_other_users_or_items_are_refused(name, users, items, whose):
    train, other = parts(users, items)
    given = {"valid": train, "test": train, name: other}
    with pytest.raises(InvalidArgument, match=f"`{name}` must have the {whose} of .*like=train"):
        Splits(train, **given)


def test_parts_that_were_encoded_alike_are_taken():
    train, same = parts()
    assert (
        len(Splits(train, same, Interactions.of(["eve", "bob"], ["x", "x"], like=train)).test) == 1
    )


def test_users_with_a_short_history_are_cold():
    data = Interactions.of([1, 1, 1, 2, 2, 2, 2, 3, 3, 3], range(10), timestamps=range(10))
    assert leave_last_out(data).n_cold_users == {"valid": 0, "test": 0}
    splits = leave_last_out(data, min_history=2)
    assert splits.n_cold_users == {"valid": 2, "test": 2}
    assert splits.warm_users().tolist() == [1]
    assert splits.warm_users(splits.train.join(splits.valid)).tolist() == [0, 1, 2]
    assert "fewer than 2 interactions in `train`" in str(splits)
    assert leave_last_out(data, min_history=0).warm_users().tolist() == [0, 1, 2]


@pytest.mark.parametrize("split", [leave_last_out, split_by_time, split_users_by_ratio])
def test_filter_comes_before_the_split_and_is_stored_with_it(split):
    data = many(n=500)
    splits = split(data, k_core=7)
    core = k_core(data, 7)
    assert (splits.facts["k_core"], splits.facts["n_users"]) == (7, core.n_users)
    assert sum(map(len, (splits.train, splits.valid, splits.test))) == len(core) < len(data)
    assert split(data).facts["k_core"] is None
