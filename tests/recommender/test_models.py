"""The torch recommenders: each scores what its paper says, and a table what forward says."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hpolab import Features, Interactions
from hpolab.recommender import models
from hpolab.recommender.models import MODELS
from hpolab.torch.rng import seeded

if TYPE_CHECKING:
    from hpolab.recommender.models import RecommenderModule

N_USERS, N_ITEMS, SIZE = 12, 9, 4
ARGUMENTS: dict[str, dict[str, Any]] = {
    "mf": {},
    "neumf": {"hidden": [6, 3], "dropout": 0.5},
    "fm": {},
    "deepfm": {"hidden": [6, 3], "dropout": 0.5},
    "two_tower": {"hidden": [6], "dropout": 0.5},
    "lightgcn": {"n_layers": 3},
}
each_model = pytest.mark.parametrize("name", MODELS)
with_and_without_features = pytest.mark.parametrize("features", [True, False])


def interactions(*, features: bool = True) -> Interactions:
    """Users and items of whom each occurs; genres are lists of up to three."""
    rng = np.random.default_rng(0)
    taken = rng.random((N_USERS, N_ITEMS)) < 0.4
    taken[np.arange(N_USERS), np.arange(N_USERS) % N_ITEMS] = True
    data = Interactions.of(*np.nonzero(taken))
    if not features:
        return data
    users = {"user": list(range(N_USERS)), "sex": list("fm" * 6), "age": rng.normal(size=N_USERS)}
    genres = [["a", "b", "c"][: 1 + i % 3] for i in range(N_ITEMS)]
    items = {"item": list(range(N_ITEMS)), "genre": genres, "year": [1990 + i for i in range(9)]}
    return replace(
        data,
        user_features=Features.of(data.user_ids, users, id_column="user"),
        item_features=Features.of(data.item_ids, items, id_column="item"),
    )


def model_of(name: str, data: Interactions) -> RecommenderModule:
    """A model in evaluation mode whose every weight is drawn, biases too."""
    with seeded(0, torch.device("cpu")):
        model = MODELS[name](data, embedding_size=SIZE, **ARGUMENTS[name])
        for weight in model.parameters():
            if weight.ndim:
                nn.init.normal_(weight)
    return model.eval()


def pairs(n: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    users, items = rng.integers(N_USERS, size=n), rng.integers(N_ITEMS, size=(n, m))
    return torch.tensor(users), torch.tensor(items)


def field_embeddings(model: Any, user: int, item: int) -> list[torch.Tensor]:
    """The embeddings of all fields of a pair, those of lists averaged, one look-up at a time."""
    found = []
    for fields, code in ((model.users, user), (model.items, item)):
        found.append(fields.ids.weight[code])
        if fields.values is None:
            continue
        for field in range(fields.n_features):
            slots = (fields.slot_fields == field) & (fields.weights[code] > 0)
            found.append(fields.values.weight[fields.codes[code][slots]].mean(0))
    return found


@each_model
@with_and_without_features
def test_forward_equals_table(name, features):
    model = model_of(name, interactions(features=features))
    users, items = pairs(7, 3)
    table = model.table(users)
    assert table.shape == (7, N_ITEMS)
    torch.testing.assert_close(model(users, items), table.gather(1, items))


@each_model
def test_many_rows_score_as_one_by_one(name):
    model = model_of(name, interactions())
    users, items = pairs(40, 5)
    single = [model(users[[i]], items[[i]]) for i in range(40)]
    torch.testing.assert_close(model(users, items), torch.cat(single))


@pytest.mark.parametrize("name", ["neumf", "deepfm"])
def test_chunks_do_not_change_a_table(name, monkeypatch):
    model = model_of(name, interactions())
    users, _ = pairs(20, 1)
    whole = model.table(users)
    monkeypatch.setattr(models, "_CHUNK", 3 * 6 * N_ITEMS)
    torch.testing.assert_close(model.table(users), whole)


@pytest.mark.parametrize("name", ["neumf", "deepfm", "two_tower"])
def test_dropout_acts_in_training_alone(name):
    model = model_of(name, interactions())
    users, items = pairs(7, 3)
    assert torch.equal(model(users, items), model(users, items))
    model.train()
    assert not torch.equal(model(users, items), model(users, items))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1 - 1e-9])
def test_dropout_drops_its_part_and_keeps_the_mean(p):
    dropout = models.ReLUDropout(p)
    with seeded(0, torch.device("cpu")):
        kept = dropout(torch.ones(301, 999))
    assert (kept == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    values = kept[kept > 0].unique()
    assert len(values) <= 1
    if p < 0.95:
        assert kept.mean().item() == pytest.approx(1, abs=0.02)
        assert values.item() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert torch.equal(dropout.eval()(kept.clone()), kept)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_what_is_negative_becomes_nothing_and_has_no_gradient(p):
    inputs = torch.randn(50, 30, requires_grad=True)
    outputs = models.ReLUDropout(p)(inputs)
    assert (outputs[inputs < 0] == 0).all()
    outputs.sum().backward()
    # The scale of what is kept, as the output is of the input.
    torch.testing.assert_close(inputs.grad * inputs, outputs)
    evaluated = models.ReLUDropout(p).eval()(inputs.detach().clone())
    assert torch.equal(evaluated, inputs.clamp_min(0))


def test_matrix_factorization_is_a_product_and_a_bias():
    model = model_of("mf", interactions())
    scores = model.users.weight @ model.items.weight[:, :-1].T + model.items.weight[:, -1]
    torch.testing.assert_close(model.table(torch.arange(N_USERS)), scores)


@with_and_without_features
def test_factorization_machine_sums_over_all_pairs_of_fields(features):
    model = model_of("fm", interactions(features=features))
    fields = field_embeddings(model, 4, 2)
    assert len(fields) == (6 if features else 2)
    expected = sum(field[-1] for field in fields)
    expected = expected + sum(a[:-1] @ b[:-1] for a, b in combinations(fields, 2))
    torch.testing.assert_close(model.table(torch.tensor([4]))[0, 2], expected)


def test_deepfm_is_a_machine_and_a_network_over_the_same_embeddings():
    model = model_of("deepfm", interactions())
    fields = field_embeddings(model, 4, 2)
    machine = sum(field[-1] for field in fields)
    machine = machine + sum(a[:-1] @ b[:-1] for a, b in combinations(fields, 2))
    first = torch.cat([model.user_half.weight, model.item_half.weight], 1)
    layer = first @ torch.cat([field[:-1] for field in fields]) + model.user_half.bias
    for linear in (model.head[1], model.head[3]):
        layer = F.linear(layer.relu(), linear.weight, linear.bias)
    torch.testing.assert_close(model.table(torch.tensor([4]))[0, 2], machine + layer[0])


def test_neumf_is_a_weighted_product_and_a_network():
    model = model_of("neumf", interactions())
    user, item = model.users.weight[4], model.items.weight[2]
    product = (user[:SIZE] * item[:SIZE]) @ model.product.weight[0]
    layer = model.user_half(user[SIZE:]) + model.item_half(item[SIZE:])
    for linear in (model.head[1], model.head[3]):
        layer = F.linear(layer.relu(), linear.weight, linear.bias)
    torch.testing.assert_close(model.table(torch.tensor([4]))[0, 2], product + layer[0])


def test_two_towers_score_by_the_cosine():
    model = model_of("two_tower", interactions())
    scale = model.log_scale.exp()
    assert scale.item() == pytest.approx(10)
    user = model.user_tower(model.users(torch.tensor(4)).flatten())
    item = model.item_tower(model.items(torch.tensor(2)).flatten())
    expected = scale * F.cosine_similarity(user, item, dim=0)
    torch.testing.assert_close(model.table(torch.tensor([4]))[0, 2], expected)


def test_lightgcn_averages_its_layers_and_so_do_its_gradients():
    data = interactions()
    model = model_of("lightgcn", data)
    taken = torch.tensor(data.matrix().toarray())
    adjacency = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS)
    adjacency[:N_USERS, N_USERS:] = taken
    adjacency[N_USERS:, :N_USERS] = taken.T
    scale = adjacency.sum(1).rsqrt()
    adjacency = scale[:, None] * adjacency * scale
    nodes = model.nodes.weight.detach().clone().requires_grad_()
    layers = [nodes]
    for _ in range(3):
        layers.append(adjacency @ layers[-1])
    smooth = torch.stack(layers).mean(0)
    users, items = pairs(7, 3)
    expected = (smooth[:N_USERS] @ smooth[N_USERS:].T)[users].gather(1, items)
    scores = model(users, items)
    torch.testing.assert_close(scores, expected)
    scores.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(model.nodes.weight.grad, nodes.grad)


def test_lightgcn_leaves_alone_who_has_no_interaction():
    data = interactions()
    model = model_of("lightgcn", data.rows(np.flatnonzero(data.users != 3)))
    users, _ = model.sides(torch.tensor([3]), None)
    torch.testing.assert_close(users.each()[0], model.nodes.weight[3] / 4)


@each_model
@pytest.mark.parametrize("n", [1, 40])
def test_squares_count_an_embedding_as_often_as_it_is_used(name, n):
    model = model_of(name, interactions())
    users, items = pairs(n, 5)
    together = model.sides(users, items)
    rows = [model.sides(users[[i]], items[[i], j : j + 1]) for i in range(n) for j in range(5)]
    torch.testing.assert_close(together[1].squares(), sum(row[1].squares() for row in rows))
    torch.testing.assert_close(together[0].squares(), sum(row[0].squares() for row in rows) / 5)


@each_model
@pytest.mark.parametrize("n", [2, N_USERS])
def test_squares_of_some_rows_are_theirs(name, n):
    model = model_of(name, interactions())
    ids, rows = torch.arange(N_USERS).flip(0)[:n], torch.tensor([1, 1, 0])
    users, _ = model.sides(ids, None)
    expected, _ = model.sides(ids[rows], None)
    torch.testing.assert_close(users.only(rows).squares(), expected.squares())


@each_model
def test_squares_are_of_embeddings_alone(name):
    model = model_of(name, interactions(features=False))
    users, items = model.sides(torch.tensor([4]), torch.tensor([[2]]))
    if name == "lightgcn":
        expected = model.nodes.weight[4].square().sum() + model.nodes.weight[14].square().sum()
    else:
        tables = [getattr(side, "ids", side).weight for side in (model.users, model.items)]
        if name in ("fm", "deepfm"):
            tables = [table[:, :-1] for table in tables]
        if name == "mf":
            tables[1] = tables[1][:, :-1]
        expected = tables[0][4].square().sum() + tables[1][2].square().sum()
    torch.testing.assert_close(users.squares() + items.squares(), expected)


@each_model
def test_kept_gradients_are_those_made_anew(name):
    kept, anew = (model_of(name, interactions()) for _ in range(2))
    embeddings = [each for each in kept.modules() if isinstance(each, models.Embedding)]
    for embedding in embeddings:
        embedding.keeps_gradient = True
    generator = torch.Generator().manual_seed(0)
    # All ids of a side at once, then some of them, then all again.
    for n in (40, 3, 2, 50, 1):
        users = torch.randint(N_USERS, (n,), generator=generator)
        items = torch.randint(N_ITEMS, (n, 2), generator=generator)
        for embedding in embeddings:
            embedding.clear_gradient()
        for model in (kept, anew):
            others = {id(embedding.weight) for embedding in embeddings}
            for weight in model.parameters():
                if id(weight) not in others:
                    weight.grad = None
            user_side, item_side = model.sides(users, items)
            penalty = user_side.squares() + item_side.squares()
            (model.score(user_side, item_side).square().sum() + 0.1 * penalty).backward()
        for ours, expected in zip(kept.parameters(), anew.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, expected.grad)
            assert not ours.grad.is_sparse
