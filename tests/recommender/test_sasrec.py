"""SASRec: its equations, what it must not see, what it learns, and whose rows it reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hpolab import (
    Interactions,
    InvalidArgument,
    InvalidType,
    RecommenderObjective,
    leave_last_out,
    recommender_space,
)
from hpolab.recommender import attention, sasrec
from hpolab.recommender.sasrec import SasRec


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def params_of(**changes: Any) -> dict[str, Any]:
    params = recommender_space("sasrec", loss=changes.pop("loss", None)).defaults()
    return params | {"embedding_size": 6, "max_length": 5} | changes


def started(data, seed=0, **changes):
    trainer = SasRec()
    with trainer.seeded(seed):
        return trainer.start(params_of(**changes), data, seed=seed, max_epochs=1)


def mixed_lengths(n_items=9):
    """Users with 7, 2, 1, 0, 4 and 5 rows, of whom the first has more than are read."""
    rng = np.random.default_rng(0)
    lengths = [7, 2, 1, 0, 4, 5]
    users = np.repeat(np.arange(6), lengths)
    items = np.concatenate([rng.permutation(n_items)[:n] for n in lengths])
    shuffled = rng.permutation(len(users))
    times = np.arange(len(users))[shuffled]
    return Interactions(
        users[shuffled], items[shuffled], np.arange(6), np.arange(n_items), timestamps=times
    )


# The equations of the paper (section III) as the authors' code has them, one position at a time.
def norm(x, weight, bias):
    variance = ((x - x.mean()) ** 2).mean()
    return weight * (x - x.mean()) / torch.sqrt(variance + 1e-8) + bias


def naive_hidden(weights, items, n_heads):
    """Return the state at each position of one sequence, written from the equations."""
    size = weights["items.weight"].shape[1]
    x = [
        weights["items.weight"][item] * math.sqrt(size)
        + weights["positions.weight"][len(items) - 1 - place]
        for place, item in enumerate(items)
    ]
    block = 0
    while f"blocks.{block}.query.weight" in weights:

        def of(name, block=block):
            return weights[f"blocks.{block}.{name}"]

        queries = [norm(v, of("attention_norm.weight"), of("attention_norm.bias")) for v in x]
        after = []
        for t, query in enumerate(queries):
            q = of("query.weight") @ query + of("query.bias")
            past = [of("key_value.weight") @ v + of("key_value.bias") for v in x[: t + 1]]
            width = len(q) // n_heads
            heads = []
            for h in range(n_heads):
                mine = slice(h * width, (h + 1) * width)
                logits = [q[mine] @ kv[: len(q)][mine] / math.sqrt(width) for kv in past]
                shares = torch.softmax(torch.stack(logits), 0)
                heads.append(
                    sum(a * kv[len(q) :][mine] for a, kv in zip(shares, past, strict=True))
                )
            joined = of("joined.weight") @ torch.cat(heads) + of("joined.bias")
            z = norm(query + joined, of("network_norm.weight"), of("network_norm.bias"))
            inner = torch.relu(of("inner.weight") @ z + of("inner.bias"))
            after.append(z + of("outer.weight") @ inner + of("outer.bias"))
        x = after
        block += 1
    return [norm(v, weights["norm.weight"], weights["norm.bias"]) for v in x]


def naive_loss(weights, data, max_length, n_heads, loss):
    """Return the mean over all positions of all users that have a next item."""
    losses = []
    for user in range(data.n_users):
        rows = np.flatnonzero(data.users == user)
        rows = rows[np.argsort(data.timestamps[rows])][-(max_length + 1) :]
        items = data.items[rows].tolist()
        if len(items) < 2:
            continue
        hidden = naive_hidden(weights, items[:-1], n_heads)
        for state, following, row in zip(hidden, items[1:], rows[1:], strict=True):
            scores = weights["items.weight"] @ state
            share = 1.0 if data.weights is None else data.weights[row] / data.weights.mean()
            if loss == "softmax":
                losses.append(-share * torch.log_softmax(scores, 0)[following])
                continue
            (other,) = set(range(data.n_items)) - set(items)
            pair = scores[[following, other]]
            if loss == "bce":
                losses.append(-share * (F.logsigmoid(pair[0]) + F.logsigmoid(-pair[1])))
            else:
                losses.append(-share * torch.log_softmax(pair, 0)[0])
    return torch.stack(losses).mean()


def all_but_one():
    """Users who have taken all items but one, so that the negative is known."""
    items = [[0, 1, 2, 3], [4, 2, 0, 1], [3, 4, 1, 0]]
    users = np.repeat(np.arange(3), 4)
    return Interactions(
        users, np.concatenate(items), np.arange(3), np.arange(5), timestamps=np.arange(12)
    )


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("cells", [2**20, 30])
@pytest.mark.parametrize(
    ("loss", "n_heads", "n_blocks"),
    [
        ("softmax", 1, 2),
        ("softmax", 4, 1),
        ("softmax", 3, 3),
        ("bce", 1, 2),
        ("sampled_softmax", 2, 1),
    ],
)
def test_a_step_goes_along_the_gradient_of_the_equations(
    monkeypatch, loss, n_heads, n_blocks, cells, is_weighted
):
    # 30 cells: each part of the loss and each group of users has a row or two.
    monkeypatch.setattr(sasrec, "_LOSS_CELLS", cells)
    monkeypatch.setattr(attention, "_ATTENTION_CELLS", cells)
    data = mixed_lengths() if loss == "softmax" else all_but_one()
    if is_weighted:
        data = replace(data, weights=np.random.default_rng(0).random(len(data)) + 0.1)
    step = {"optimizer": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
    changes = step | {"dropout": 0.0, "loss": loss, "n_heads": n_heads, "n_blocks": n_blocks}
    if loss != "softmax":
        changes["n_negatives"] = 1
    made = started(data, **changes)
    before = {
        name: value.detach().clone().double().requires_grad_()
        for name, value in made.model.named_parameters()
    }
    naive_loss(before, data, 5, n_heads, loss).backward()
    made.epoch()
    for name, value in made.model.named_parameters():
        stepped = before[name].detach() - before[name].grad
        torch.testing.assert_close(value.detach().double(), stepped, rtol=1e-4, atol=2e-6)


def test_scores_are_those_of_the_equations():
    data = mixed_lengths()
    made = started(data, n_heads=2)
    weights = {name: value.detach() for name, value in made.model.named_parameters()}
    scores = made.scores(np.array([3, 1, 0, 4, 2, 5, 0]))
    for row, user in zip(scores, [3, 1, 0, 4, 2, 5, 0], strict=True):
        rows = np.flatnonzero(data.users == user)
        items = data.items[rows[np.argsort(data.timestamps[rows])]][-5:].tolist()
        if not items:
            assert not row.any()
            continue
        last = naive_hidden(weights, items, n_heads=2)[-1]
        np.testing.assert_allclose(row, weights["items.weight"] @ last, rtol=1e-4, atol=1e-6)


def test_rows_beyond_the_longest_sequence_are_not_read():
    data = mixed_lengths()
    made = started(data)
    old = (data.users == 0) & (data.timestamps < 2)
    fewer = data.rows(np.flatnonzero(~old))
    assert np.array_equal(
        made.scores(np.array([0])), made.with_history(fewer).scores(np.array([0]))
    )


def cycle(n_users=60, n_items=12, length=9):
    """Each item is followed by the next one, wherever a user begins."""
    starts = np.random.default_rng(0).integers(n_items, size=n_users)
    items = (starts[:, None] + np.arange(length)) % n_items
    users = np.repeat(np.arange(n_users), length)
    return Interactions(users, items.ravel(), np.arange(n_users), np.arange(n_items))


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce"])
def test_it_learns_what_follows(loss):
    splits = leave_last_out(cycle())
    changes = {"embedding_size": 16, "lr": 0.01, "batch_size": 16, "max_length": 20}
    space = recommender_space("sasrec", loss=loss).override(**changes)
    objective = RecommenderObjective(
        "sasrec", splits, search_space=space, metric="hr@1", metrics=["mrr"], max_epochs=60
    )
    model = objective.fit(space.defaults(), seed=0)
    assert objective.estimates(model, splits.valid)["hr@1"].mean > 0.95
    # Of what follows the validation item, a model of `train` can know by reading that item alone.
    assert objective.estimates(model, splits.test)["hr@1"].mean > 0.8
    without = model.scores(splits.test.users).argmax(axis=1)
    assert np.mean(without == splits.test.items) < 0.5


def test_order_of_time_is_read_and_not_that_of_rows():
    data = cycle()
    shuffled = np.random.default_rng(1).permutation(len(data))
    timed = Interactions(
        data.users[shuffled],
        data.items[shuffled],
        data.user_ids,
        data.item_ids,
        timestamps=shuffled,
    )
    users = np.arange(data.n_users)
    one, other = started(data, dropout=0.0), started(timed, dropout=0.0)
    one.epoch()
    other.epoch()
    assert np.array_equal(one.scores(users), other.scores(users))


def test_history_is_read_and_the_training_stays_as_it_is():
    data = cycle()
    made = started(data)
    users = np.arange(data.n_users)
    own = made.scores(users)
    later = made.with_history(data.rows(np.flatnonzero(np.arange(len(data)) % 9 < 4)))
    assert not np.allclose(later.scores(users), own)
    assert np.array_equal(made.scores(users), own)
    made.epoch()  # the same weights serve both
    again = made.with_history(data)
    assert np.array_equal(again.scores(users), made.scores(users))
    assert not np.allclose(made.scores(users), own)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_blocks": 0}, InvalidArgument, "`n_blocks` must be 1 or above, got 0"),
        ({"n_heads": 0}, InvalidArgument, "`n_heads` must be 1 or above, got 0"),
        ({"max_length": 0}, InvalidArgument, "`max_length` must be 1 or above, got 0"),
        ({"max_length": 2.0}, InvalidType, "`max_length` must be an int"),
        ({"dropout": 1}, InvalidArgument, "`dropout` must be below 1, got 1"),
        ({"loss": "bpr"}, InvalidArgument, "`loss` must be one of"),
    ],
)
def test_bad_parameters_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        SasRec().start(params_of() | changes, cycle(), seed=0, max_epochs=1)


def test_rows_of_which_none_follows_another_are_refused():
    single = Interactions(np.arange(3), np.arange(3), np.arange(3), np.arange(3))
    with pytest.raises(InvalidArgument, match="a user with two rows or more"):
        started(single)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce"])
def test_user_who_took_every_item_does_not_keep_others_from_learning(loss):
    data = cycle()
    greedy = Interactions(
        np.append(data.users, np.full(12, 60)),
        np.append(data.items, np.arange(12)),
        np.arange(61),
        np.arange(12),
    )
    made = started(greedy, loss=loss, **({} if loss == "softmax" else {"n_negatives": 2}))
    made.epoch()
    assert np.isfinite(made.scores(np.arange(61))).all()
    alone = greedy.rows(np.arange(len(data), len(greedy)))
    if loss != "softmax":
        with pytest.raises(InvalidArgument, match="who has taken all 12"):
            started(alone, loss=loss, n_negatives=2)
