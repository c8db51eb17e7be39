"""Training of the torch recommenders: it learns, repeats bit for bit, refuses bad parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from hpolab import (
    EXTRA_OPTIMIZERS,
    RECOMMENDER_LOSSES,
    Features,
    HpolabError,
    Interactions,
    InvalidArgument,
    InvalidType,
    optimizer_space,
    recommender_space,
    schedule_space,
)
from hpolab.recommender import training
from hpolab.recommender.models import MODELS, Embedding
from hpolab.recommender.objective import open_trainer
from hpolab.recommender.training import TorchRecommenderTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hpolab import RecommenderTraining

N_USERS, N_ITEMS = 40, 30
each_model = pytest.mark.parametrize("name", RECOMMENDER_LOSSES)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than models of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def two_clusters(*, features: bool = False) -> tuple[Interactions, NDArray[np.bool_]]:
    """Users and items of two kinds: each user has taken half the items of the own kind.

    Returns:
        The interactions, and whether user and item are of one kind, (N_USERS, N_ITEMS).
    """
    kind_of_user, kind_of_item = np.arange(N_USERS) % 2, np.arange(N_ITEMS) % 2
    alike = kind_of_user[:, None] == kind_of_item
    taken = alike & (np.random.default_rng(0).random(alike.shape) < 0.5)
    users, items = np.nonzero(taken)
    times = np.random.default_rng(1).permutation(len(users))  # no item comes before another
    data = Interactions(users, items, np.arange(N_USERS), np.arange(N_ITEMS), timestamps=times)
    if features:
        users = {"user": list(range(N_USERS)), "kind": kind_of_user.tolist()}
        items = {"item": list(range(N_ITEMS)), "kind": kind_of_item.tolist()}
        data = replace(
            data,
            user_features=Features.of(data.user_ids, users, id_column="user"),
            item_features=Features.of(data.item_ids, items, id_column="item"),
        )
    return data, alike


def params_of(name: str, **changes: Any) -> dict[str, Any]:
    """The space's defaults but for size and step, which suit the small data."""
    loss = changes.pop("loss", None)
    params = recommender_space(name, loss=loss).defaults()
    small = {"embedding_size": 8, "batch_size": 32, "lr": 0.02, "hidden": 16, "dropout": 0.1}
    return params | {key: value for key, value in small.items() if key in params} | changes


def trained(
    name: str, data: Interactions, params: dict[str, Any], *, n_epochs: int, seed: int = 0
) -> RecommenderTraining:
    trainer = open_trainer(name)
    with trainer.seeded(seed):
        made = trainer.start(params, data, seed=seed, max_epochs=max(1, n_epochs))
        for _ in range(n_epochs):
            made.epoch()
    return made


def all_scores(made: RecommenderTraining) -> NDArray[np.float32]:
    return made.scores(np.arange(N_USERS))


def auc(scores: NDArray[Any], data: Interactions, alike: NDArray[np.bool_]) -> float:
    """The part of pairs of items in the right order: not taken and alike before not alike."""
    untaken = np.ones((N_USERS, N_ITEMS), bool)
    untaken[data.users, data.items] = False
    return float(
        np.mean(
            [
                (row[a & free][:, None] > row[~a][None]).mean()
                for row, a, free in zip(scores, alike, untaken[: len(scores)], strict=True)
            ]
        )
    )


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        (name, loss)
        for name, losses in RECOMMENDER_LOSSES.items()
        for loss in losses
        if loss != "mse"
    ],
)
def test_every_model_learns_with_every_loss(name, loss):
    data, alike = two_clusters()
    made = trained(name, data, params_of(name, loss=loss), n_epochs=25)
    scores = all_scores(made)
    assert scores.shape == (N_USERS, N_ITEMS)
    assert scores.dtype == np.float32
    assert auc(scores, data, alike) > 0.8


RATING_MODELS = [name for name, losses in RECOMMENDER_LOSSES.items() if "mse" in losses]
NOISE = 0.5


def rated(seed: int = 0) -> tuple[Interactions, Interactions]:
    """Ratings of a model with two factors: what is trained on, and what is held out."""
    rng = np.random.default_rng(seed)
    users, items = np.divmod(rng.permutation(60 * 40)[:1600], 40)
    biases = rng.normal(0, 0.7, 60)[users] + rng.normal(0, 0.7, 40)[items]
    tastes = (rng.normal(size=(60, 2))[users] * rng.normal(size=(40, 2))[items]).sum(1)
    ratings = 3.5 + biases + tastes + rng.normal(0, NOISE, 1600)
    data = Interactions(users, items, np.arange(60), np.arange(40), ratings=ratings)
    return data.rows(np.arange(1200)), data.rows(np.arange(1200, 1600))


def rmse_of(made: RecommenderTraining, data: Interactions) -> float:
    return float(np.sqrt(np.mean((made.predict(data.users, data.items) - data.ratings) ** 2)))


@pytest.mark.parametrize("name", RATING_MODELS)
def test_ratings_are_learned_beyond_the_biases_and_near_the_noise(name):
    train, later = rated()
    params = params_of(name, loss="mse", embedding_l2=0.02)
    found = rmse_of(trained(name, train, params, n_epochs=30), later)
    bias = recommender_space("rating_bias").defaults() | {"item_damping": 1.0, "user_damping": 1.0}
    biases = rmse_of(trained("rating_bias", train, bias, n_epochs=1), later)
    assert NOISE < found < 0.75 * biases < later.ratings.std()


@pytest.mark.parametrize("name", RATING_MODELS)
def test_predicted_ratings_are_scores_about_the_mean_within_the_range(name):
    train, later = rated()
    low, high = np.quantile(train.ratings, [0.3, 0.7])
    train = replace(train, ratings=np.clip(train.ratings, low, high))
    made = trained(name, train, params_of(name, loss="mse"), n_epochs=15)
    found = made.predict(later.users, later.items)
    scores = made.scores(np.arange(60))[later.users, later.items]
    np.testing.assert_allclose(found, np.clip(scores, low, high), rtol=1e-5)
    assert (scores > high).any()


def test_matrix_factorization_of_ratings_is_mean_biases_and_product():
    train, later = rated()
    made = trained("mf", train, params_of("mf", loss="mse"), n_epochs=5)
    weights = {name: value.detach().numpy() for name, value in made.model.named_parameters()}
    users, items = weights["users.weight"][later.users], weights["items.weight"][later.items]
    product = (users[:, :-1] * items[:, :-1]).sum(1)
    expected = train.ratings.mean() + users[:, -1] + items[:, -1] + product
    assert users.shape[1] == items.shape[1] == 9
    assert np.abs(users[:, -1]).max() > 0.1
    found = made.predict(later.users, later.items)
    low, high = train.ratings.min(), train.ratings.max()
    np.testing.assert_allclose(found, np.clip(expected, low, high), rtol=1e-5)


@pytest.mark.parametrize("name", RATING_MODELS)
def test_model_of_ranks_predicts_no_ratings(name):
    data, _ = two_clusters()
    with pytest.raises(InvalidArgument, match="predicts no ratings"):
        trained(name, data, params_of(name), n_epochs=1).predict(data.users, data.items)
    with pytest.raises(InvalidArgument, match="`train` must have ratings for the loss 'mse'"):
        trained(name, data, params_of(name, loss="mse"), n_epochs=1)


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        (name, loss)
        for name, losses in RECOMMENDER_LOSSES.items()
        for loss in losses
        if name != "sasrec"
    ],
)
def test_weights_are_read_in_every_loss(name, loss):
    data, _ = two_clusters()
    data = replace(data, ratings=np.linspace(1, 5, len(data)))
    weights = np.random.default_rng(0).integers(1, 9, len(data)).astype(float)
    params = params_of(name, loss=loss)
    none, one, drawn = (
        all_scores(trained(name, replace(data, weights=each), params, n_epochs=3))
        for each in (None, np.full(len(data), 7.0), weights)
    )
    np.testing.assert_allclose(one, none, atol=1e-5)
    assert np.abs(drawn - none).max() > 1e-3


@pytest.mark.parametrize("name", ["fm", "deepfm", "two_tower"])
def test_side_features_rank_for_a_user_who_has_taken_nothing(name):
    data, alike = two_clusters(features=True)
    known = data.rows(np.flatnonzero(data.users >= 4))
    scores = all_scores(trained(name, known, params_of(name), n_epochs=25))[:4]
    assert auc(scores, known, alike[:4]) > 0.9


@each_model
def test_same_seed_repeats_a_training_bit_for_bit(name):
    data, _ = two_clusters()
    params = params_of(name)
    first, second, other = (
        all_scores(trained(name, data, params, n_epochs=2, seed=seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@each_model
def test_restored_training_goes_on_bit_for_bit(name):
    data, _ = two_clusters()
    space = schedule_space("cosine", max_epochs=4)
    params = params_of(name) | space.defaults()
    whole = all_scores(trained(name, data, params, n_epochs=4))
    trainer = open_trainer(name)
    with trainer.seeded(0):
        first = trainer.start(params, data, seed=0, max_epochs=4)
        first.epoch()
        first.keep_best()
        first.epoch()
        state = first.to_bytes()
    with trainer.seeded(9):
        second = trainer.start(params, data, seed=0, max_epochs=4)
        second.from_bytes(state)
        second.epoch()
        second.epoch()
    assert np.array_equal(all_scores(second), whole)
    second.load_best()
    first.load_best()
    assert np.array_equal(all_scores(second), all_scores(first))


@each_model
def test_best_model_is_kept_while_training_goes_on(name):
    data, _ = two_clusters()
    trainer = open_trainer(name)
    with trainer.seeded(0):
        made = trainer.start(params_of(name), data, seed=0, max_epochs=3)
        made.epoch()
        made.keep_best()
        best = all_scores(made)
        made.epoch()
        assert not np.array_equal(all_scores(made), best)
        made.load_best()
        assert np.array_equal(all_scores(made), best)


@each_model
def test_random_state_outside_is_left_as_it_was(name):
    data, _ = two_clusters()
    before = torch.get_rng_state()
    trained(name, data, params_of(name), n_epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@each_model
def test_scores_change_nothing(name):
    data, _ = two_clusters()
    trainer = open_trainer(name)
    with trainer.seeded(0):
        made = trainer.start(params_of(name), data, seed=0, max_epochs=2)
        made.epoch()
        made.scores(np.array([3, 1]))[:] = 7.0
        made.epoch()
    expected = all_scores(trained(name, data, params_of(name), n_epochs=2))
    assert np.array_equal(all_scores(made), expected)
    np.testing.assert_allclose(made.scores(np.array([3, 1])), expected[[3, 1]], rtol=1e-4)


@pytest.mark.parametrize(("name", "loss"), [("mf", "softmax"), *((name, None) for name in MODELS)])
def test_penalty_shrinks_embeddings(name, loss):
    data, _ = two_clusters()

    def norm(embedding_l2: float) -> float:
        params = params_of(name, loss=loss, embedding_l2=embedding_l2)
        made = trained(name, data, params, n_epochs=10)
        users, items = made.model.sides(torch.arange(N_USERS), None)
        return (users.squares() + items.squares()).item()

    assert norm(10.0) < 0.5 * norm(0.0)


def test_schedule_is_stepped_by_batch():
    data, _ = two_clusters()
    # After the batches of one epoch the learning rate is 0.
    params = params_of("mf") | {"schedule": "step", "step_size": 1, "gamma": 0.0}
    trainer = TorchRecommenderTrainer("mf")
    with trainer.seeded(0):
        made = trainer.start(params, data, seed=0, max_epochs=2)
        before = all_scores(made)
        made.epoch()
        after_one = all_scores(made)
        made.epoch()
    assert not np.array_equal(after_one, before)
    assert np.array_equal(all_scores(made), after_one)


@pytest.mark.parametrize("name", ["mf", "neumf", "fm", "deepfm", "two_tower"])
def test_sparse_gradients_train_the_same_model(name, monkeypatch):
    data, _ = two_clusters(features=True)
    params = params_of(name) | {"optimizer": "sgd", "lr": 0.05, "dropout": 0.0}
    dense = all_scores(trained(name, data, params, n_epochs=3))
    monkeypatch.setattr(training, "_SPARSE_FROM", 0)
    sparse = trained(name, data, params, n_epochs=3)
    assert any(getattr(module, "sparse", False) for module in sparse.model.modules())
    np.testing.assert_allclose(all_scores(sparse), dense, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", EXTRA_OPTIMIZERS)
@pytest.mark.parametrize("name", ["mf", "lightgcn", "sasrec"])
def test_optimizers_of_other_packages_learn_and_resume_bit_for_bit(name, optimizer):
    data, alike = two_clusters()
    rates = {"soap": 0.02, "lion": 0.02, "schedulefree_adamw": 0.05, "schedulefree_sgd": 5.0}
    rate = {"lr": rates[optimizer]} if optimizer in rates else {"d_coef": 5.0}
    params = params_of(name) | optimizer_space(optimizer).defaults() | rate
    whole = trained(name, data, params, n_epochs=10)
    trainer = open_trainer(name)
    with trainer.seeded(0):
        first = trainer.start(params, data, seed=0, max_epochs=10)
        before = auc(all_scores(first), data, alike)
        for _ in range(4):
            first.epoch()
        state = first.to_bytes()
    with trainer.seeded(9):
        second = trainer.start(params, data, seed=0, max_epochs=10)
        second.from_bytes(state)
        for _ in range(6):
            second.epoch()
    assert np.array_equal(all_scores(second), all_scores(whole))
    assert auc(all_scores(whole), data, alike) > before + 0.05


def test_weight_decay_of_a_schedule_free_optimizer_is_that_of_dense_gradients(monkeypatch):
    data, _ = two_clusters()
    params = params_of("mf", batch_size=4) | optimizer_space("schedulefree_adamw").defaults()
    found = all_scores(trained("mf", data, params | {"weight_decay": 0.5}, n_epochs=3))
    monkeypatch.setattr(
        Embedding, "clear_gradient", lambda self: setattr(self.weight, "grad", None)
    )
    expected = all_scores(trained("mf", data, params | {"weight_decay": 0.5}, n_epochs=3))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# torch's own step makes sparse tensors unchecked, and says so once a process.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("name", ["mf", "fm"])
def test_sparse_adam_trains_what_is_embeddings_alone(name):
    data, alike = two_clusters()
    params = params_of(name) | {"optimizer": "sparse_adam"}
    assert auc(all_scores(trained(name, data, params, n_epochs=25)), data, alike) > 0.9


def test_sparse_adam_is_refused_for_networks():
    data, _ = two_clusters()
    with pytest.raises(InvalidArgument, match="'sparse_adam' trains modules with sparse=True"):
        trained("deepfm", data, params_of("deepfm") | {"optimizer": "sparse_adam"}, n_epochs=0)


@pytest.mark.parametrize("hidden", [[8], [16, 8, 4], 16, 1])
def test_hidden_is_a_width_or_all_widths(hidden):
    data, _ = two_clusters()
    made = trained("deepfm", data, params_of("deepfm", hidden=hidden), n_epochs=1)
    widths = [made.model.user_half.out_features]
    widths += [layer.out_features for layer in made.model.head if hasattr(layer, "out_features")]
    expected = [hidden, max(1, hidden // 2)] if isinstance(hidden, int) else hidden
    assert widths == [*expected, 1]


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("mf", {"embedding_size": 0}, InvalidArgument, "`embedding_size` must be 1 or above"),
        ("mf", {"embedding_size": 2.5}, InvalidType, "`embedding_size` must be an int, got float"),
        ("mf", {"embedding_l2": -1.0}, InvalidArgument, "`embedding_l2` must be 0 or above"),
        ("mf", {"embedding_l2": "much"}, InvalidType, "`embedding_l2` must be a number, got str"),
        ("mf", {"embedding_l2": np.nan}, InvalidArgument, "`embedding_l2` must be finite"),
        ("mf", {"batch_size": 0}, InvalidArgument, "`batch_size` must be 1 or above, got 0"),
        ("mf", {"n_negatives": 0}, InvalidArgument, "`n_negatives` must be 1 or above, got 0"),
        ("mf", {"loss": "hinge"}, InvalidArgument, "`loss` must be one of 'bce', 'bpr'"),
        ("mf", {"optimizer": "adamm"}, InvalidArgument, "`optimizer` must be one of"),
        ("deepfm", {"loss": "softmax"}, InvalidArgument, "`loss` must be one of 'bce', 'bpr'"),
        ("deepfm", {"dropout": 1.0}, InvalidArgument, "`dropout` must be below 1, got 1.0"),
        ("deepfm", {"dropout": -0.1}, InvalidArgument, "`dropout` must be 0 or above, got -0.1"),
        ("deepfm", {"hidden": 0}, InvalidArgument, "`hidden` must be 1 or above, got 0"),
        ("deepfm", {"hidden": []}, InvalidArgument, "`hidden` must have a layer at least"),
        ("deepfm", {"hidden": [8, 0]}, InvalidArgument, "`hidden` must be 1 or above, got 0"),
        ("lightgcn", {"n_layers": 0}, InvalidArgument, "`n_layers` must be 1 or above, got 0"),
    ],
)
def test_bad_parameters_are_refused(name, changes, error, message):
    data, _ = two_clusters()
    with pytest.raises(error, match=message):
        trained(name, data, params_of(name) | changes, n_epochs=0)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *(("mf", key) for key in ("embedding_size", "embedding_l2", "batch_size", "loss")),
        *(("mf", key) for key in ("n_negatives", "optimizer", "lr")),
        *(("neumf", key) for key in ("hidden", "dropout")),
        ("lightgcn", "n_layers"),
    ],
)
def test_missing_parameters_are_named(name, missing):
    data, _ = two_clusters()
    params = params_of(name)
    del params[missing]
    with pytest.raises(HpolabError, match=missing):
        trained(name, data, params, n_epochs=0)


def with_all_items(data: Interactions, users: list[int]) -> Interactions:
    """The interactions, in which some users have taken every item."""
    others = data.rows(np.flatnonzero(~np.isin(data.users, users)))
    of_users = np.concatenate([others.users, np.repeat(users, N_ITEMS)])
    of_items = np.concatenate([others.items, np.tile(np.arange(N_ITEMS), len(users))])
    return replace(data, users=of_users, items=of_items)


@pytest.mark.parametrize("loss", ["bpr", "bce", "sampled_softmax"])
def test_user_who_has_taken_everything_does_not_keep_others_from_being_trained_on(loss, caplog):
    data, alike = two_clusters()
    full = with_all_items(data, [2, 5])
    params = params_of("mf", loss=loss)
    made = trained("mf", full, params, n_epochs=25)
    assert auc(all_scores(made)[6:], data.rows(np.flatnonzero(data.users >= 6)), alike[6:]) > 0.8
    # As if these two had no row.
    others = full.rows(np.flatnonzero(~np.isin(full.users, [2, 5])))
    expected = all_scores(trained("mf", others, params, n_epochs=25))
    assert np.array_equal(all_scores(made), expected)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "2 of 40 users took every item",
    ]


def test_users_who_have_taken_everything_are_said_once(caplog):
    full = with_all_items(two_clusters()[0], [3])
    trainer = TorchRecommenderTrainer("mf")
    for seed in (0, 1):
        with trainer.seeded(seed):
            trainer.start(params_of("mf"), full, seed=seed, max_epochs=1)
    assert len(caplog.messages) == 1


def test_user_who_has_taken_everything_is_trained_on_where_no_negative_is_needed(caplog):
    data, _ = two_clusters()
    full = with_all_items(data, [2])
    params = params_of("mf", loss="softmax", batch_size=2000)
    made, others = (
        all_scores(trained("mf", rows, params, n_epochs=1))
        for rows in (full, full.rows(np.flatnonzero(full.users != 2)))
    )
    assert not np.array_equal(made[2], others[2])
    assert not caplog.messages


def test_training_in_which_nobody_has_an_item_left_is_refused():
    full = with_all_items(two_clusters()[0], list(range(N_USERS)))
    with pytest.raises(InvalidArgument, match="the user of code 0, who has taken all 30"):
        trained("mf", full, params_of("mf", loss="bpr"), n_epochs=0)


def test_unknown_model_is_refused():
    with pytest.raises(InvalidArgument, match="`model` must be one of"):
        TorchRecommenderTrainer("svd")


def test_lightgcn_scores_by_the_weights_of_now():
    data, _ = two_clusters()
    params = params_of("lightgcn")
    made = trained("lightgcn", data, params, n_epochs=1)
    before, state = all_scores(made), made.to_bytes()
    made.keep_best()
    made.epoch()
    after = all_scores(made)
    assert np.array_equal(after, all_scores(made))
    assert not np.array_equal(before, after)
    made.load_best()
    assert np.array_equal(before, all_scores(made))
    made.epoch()
    assert not np.array_equal(before, all_scores(made))
    made.from_bytes(state)
    assert np.array_equal(before, all_scores(made))
