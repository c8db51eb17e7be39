"""Rating metrics: against scikit-learn, errors against a bootstrap, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from hpolab import Diverged, Interactions, InvalidArgument, RatingTask

ORACLES = {"rmse": root_mean_squared_error, "mae": mean_absolute_error}


def rated(n_users: int = 80, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    n_of = rng.integers(1, 12, n_users)
    users = np.repeat(np.arange(n_users), n_of)
    items = np.concatenate([rng.choice(30, n, replace=False) for n in n_of])
    return Interactions.of(users, items, ratings=rng.integers(1, 6, len(users)))


def noisy(data: Interactions, seed: int, harder: float = 1.0):
    """Return predictions, some users' worse than others'."""
    rng = np.random.default_rng(seed)
    scale = rng.exponential(harder, data.n_users)
    table = {
        (u, i): r + scale[u] * rng.normal()
        for u, i, r in zip(data.users, data.items, data.ratings, strict=True)
    }
    return lambda users, items: np.array([table[pair] for pair in zip(users, items, strict=True)])


@pytest.mark.parametrize("metric", ORACLES)
def test_metrics_are_those_of_scikit_learn(metric):
    data, order = rated(), np.random.default_rng(0).permutation(len(rated()))
    predict = noisy(data, 1)
    found = RatingTask(held_out=data.rows(order)).estimate(predict, [metric])[metric]
    expected = ORACLES[metric](data.ratings, predict(data.users, data.items))
    assert found.mean == pytest.approx(expected)


@pytest.mark.parametrize("metric", ORACLES)
def test_standard_errors_are_those_of_a_bootstrap_over_users(metric):
    data = rated(n_users=300)
    errors = RatingTask(held_out=data).errors(noisy(data, 1))
    rng, found = np.random.default_rng(2), []
    rows_of = [np.flatnonzero(errors.users == user) for user in range(data.n_users)]
    for _ in range(2000):
        rows = np.concatenate([rows_of[user] for user in rng.integers(0, 300, 300)])
        losses = errors.errors[rows] ** 2 if metric == "rmse" else np.abs(errors.errors[rows])
        found.append(np.sqrt(losses.mean()) if metric == "rmse" else losses.mean())
    assert errors.estimate(metric).standard_error == pytest.approx(np.std(found), rel=0.1)


@pytest.mark.parametrize("metric", ORACLES)
def test_contributions_of_users_average_to_the_metric(metric):
    data = rated()
    errors = RatingTask(held_out=data).errors(noisy(data, 1))
    assert errors.by_user(metric).shape == (data.n_users,)
    assert errors.by_user(metric).mean() == pytest.approx(errors.estimate(metric).mean)
    other = RatingTask(held_out=data).errors(noisy(data, 3))
    gain = errors.difference(other, metric)
    assert gain.mean == pytest.approx(errors.estimate(metric).mean - other.estimate(metric).mean)
    assert errors.difference(errors, metric) == (0, 0)


def test_users_alone_that_are_asked_for_are_rated():
    data = rated()
    task = RatingTask(held_out=data, users=np.array([3, 5]))
    assert task.n_users == 2
    assert task.facts["n_ratings"] == np.isin(data.users, [3, 5]).sum()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: RatingTask(held_out=Interactions.of([1], [1])),
            InvalidArgument,
            "`held_out` must have ratings",
        ),
        (
            lambda: RatingTask(held_out=rated(), users=np.array([1000])),
            InvalidArgument,
            "a rating of these users",
        ),
        (
            lambda: RatingTask(held_out=rated()).check_metric("rsme"),
            InvalidArgument,
            "Did you mean 'rmse'",
        ),
        (
            lambda: RatingTask(held_out=rated()).errors(lambda u, i: np.ones((len(u), 2))),
            InvalidArgument,
            "`predict` must return an array of shape",
        ),
        (
            lambda: RatingTask(held_out=rated()).errors(lambda u, i: np.full(len(u), np.nan)),
            Diverged,
            "finite",
        ),
    ],
)
def test_what_cannot_be_rated_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
