"""Negatives: never taken, uniform, seeded, and refused to whom nothing is left."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from hpolab import Interactions, InvalidArgument
from hpolab.recommender import negatives
from hpolab.recommender.negatives import NegativeSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_USERS, N_ITEMS = 20, 15


def table() -> NDArray[np.bool_]:
    """Who has taken what: user 0 nothing, user 1 all but the last, user 2 all but the first."""
    taken = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.5
    taken[:, 0] = True
    taken[0] = False
    taken[1] = np.arange(N_ITEMS) < N_ITEMS - 1
    taken[2] = np.arange(N_ITEMS) > 0
    return taken


def interactions(taken: NDArray[np.bool_]) -> Interactions:
    users, items = np.nonzero(taken)
    return Interactions(users, items, np.arange(len(taken)), np.arange(taken.shape[1]))


def draw_arrays(sampler: NegativeSampler, users: Any, n: int, seed: int) -> Any:
    return sampler.draw(users, n, np.random.default_rng(seed))


def draw_tensors(sampler: NegativeSampler, users: Any, n: int, seed: int) -> Any:
    on_device = sampler.to(torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    drawn = on_device.draw(torch.tensor(users), n, generator)
    assert drawn.dtype == torch.int64
    return drawn.numpy()


both_kinds = pytest.mark.parametrize("draw", [draw_arrays, draw_tensors])


@both_kinds
def test_negatives_are_never_positives(draw):
    taken = table()
    users = np.repeat(np.arange(N_USERS), 50)
    drawn = draw(NegativeSampler(interactions(taken)), users, 7, 0)
    assert drawn.shape == (len(users), 7)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert not taken[users[:, None], drawn].any()


@both_kinds
@pytest.mark.parametrize("user", range(0, N_USERS, 3))
def test_negatives_are_uniform(draw, user):
    taken = table()
    drawn = draw(NegativeSampler(interactions(taken)), np.full(500, user), 20, 3)
    counts = np.bincount(drawn.ravel(), minlength=N_ITEMS)[~taken[user]]
    assert chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("user", range(0, N_USERS, 5))
def test_negatives_are_uniform_where_every_item_is_suspected_to_be_taken(user, monkeypatch):
    monkeypatch.setattr(negatives._Taken, "_hash", lambda self, pairs: torch.zeros_like(pairs))
    taken = table()
    drawn = draw_tensors(NegativeSampler(interactions(taken)), np.full(500, user), 20, 3)
    assert not taken[user, drawn].any()
    assert chisquare(np.bincount(drawn.ravel(), minlength=N_ITEMS)[~taken[user]]).pvalue > 0.01


def test_negatives_of_many_users_and_items_are_never_positives():
    rng = np.random.default_rng(0)
    users, items = rng.integers(3_000, size=60_000), rng.integers(2_000, size=60_000)
    data = Interactions(users, items, np.arange(3_000), np.arange(2_000))
    taken = data.matrix().toarray() > 0
    drawn = draw_tensors(NegativeSampler(data), users, 5, 0)
    assert not taken[users[:, None], drawn].any()
    # Of untaken items each is as likely, whatever its code.
    expected = (1 / (~taken).sum(1))[users] @ ~taken[users] * 5
    counts = np.bincount(drawn.ravel(), minlength=2_000)
    assert chisquare(counts, expected).pvalue > 0.01


@both_kinds
def test_only_item_left_is_drawn(draw):
    drawn = draw(NegativeSampler(interactions(table())), np.array([1, 2]), 3, 0)
    assert drawn.tolist() == [[N_ITEMS - 1] * 3, [0] * 3]


@both_kinds
def test_same_seed_draws_the_same(draw):
    sampler = NegativeSampler(interactions(table()))
    users = np.arange(N_USERS)
    assert np.array_equal(draw(sampler, users, 9, 4), draw(sampler, users, 9, 4))
    assert not np.array_equal(draw(sampler, users, 9, 4), draw(sampler, users, 9, 5))


def test_repeated_rows_and_their_order_do_not_matter():
    data = interactions(table())
    shuffled = data.rows(np.random.default_rng(0).permutation(np.arange(len(data)).repeat(2)))
    users = np.arange(N_USERS)
    expected = draw_arrays(NegativeSampler(data), users, 9, 0)
    assert np.array_equal(draw_arrays(NegativeSampler(shuffled), users, 9, 0), expected)


def test_user_who_has_taken_everything_is_refused_when_drawn_for():
    taken = table()
    taken[5] = True
    sampler = NegativeSampler(interactions(taken))
    draw_arrays(sampler, np.array([4, 6]), 2, 0)
    with pytest.raises(InvalidArgument, match="the user of code 5, who has taken all 15"):
        draw_arrays(sampler, np.array([4, 5, 6]), 2, 0)
    with pytest.raises(InvalidArgument, match="the user of code 5"):
        sampler.check(np.array([5]))


def test_arrays_need_no_torch():
    code = "import sys; import hpolab.recommender.negatives; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
