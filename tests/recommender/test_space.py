"""The recommenders' spaces: names, defaults, sources, and what only some losses have."""

from __future__ import annotations

import subprocess
import sys

import optuna
import pytest

from hpolab import (
    RECOMMENDER_LOSSES,
    RECOMMENDERS,
    InvalidArgument,
    InvalidType,
    optimizer_space,
    recommender_space,
)

EXPECTED = {
    # Transcribed from the sources: (trainer, parameter): (low, high)
    ("item_knn", "n_neighbors"): (5, 800),
    ("item_knn", "shrink"): (0, 1000),
    ("ease", "l2"): (1.0, 1e4),
    ("lightgcn", "n_layers"): (1, 4),
    ("deepfm", "dropout"): (0.0, 0.5),
    ("sasrec", "n_blocks"): (1, 3),
    ("last_days_popularity", "days"): (1.0, 365.0),
}
each_trainer = pytest.mark.parametrize("trainer", RECOMMENDERS)
each_torch_trainer = pytest.mark.parametrize("trainer", RECOMMENDER_LOSSES)


@each_trainer
def test_every_range_has_a_source(trainer):
    space = recommender_space(trainer)
    assert space.sources().keys() == {
        name.replace("one_minus_", "") for name in space.distributions()
    }
    assert all(space.sources().values())


@each_trainer
def test_defaults_are_a_trial(trainer):
    space = recommender_space(trainer)
    study = optuna.create_study()
    study.enqueue_trial(space.to_trial(space.defaults()))
    assert space.suggest(study.ask()) == pytest.approx(space.defaults())


@each_trainer
def test_number_of_epochs_is_no_parameter(trainer):
    names = recommender_space(trainer).defaults()
    assert not [name for name in names if "epoch" in name or "iterations" in name]


@pytest.mark.parametrize(("trainer", "name"), EXPECTED)
def test_ranges_are_those_of_their_sources(trainer, name):
    distribution = recommender_space(trainer).distributions()[name]
    assert (distribution.low, distribution.high) == EXPECTED[trainer, name]


def test_popularity_has_nothing_to_tune():
    assert recommender_space("popularity").defaults() == {}


@each_torch_trainer
def test_loss_is_the_trainers_own_unless_it_is_named(trainer):
    own, *others = RECOMMENDER_LOSSES[trainer]
    assert recommender_space(trainer).defaults()["loss"] == own
    assert recommender_space(trainer, loss=others[0]).defaults()["loss"] == others[0]


@pytest.mark.parametrize(
    ("trainer", "loss"),
    [(trainer, loss) for trainer, losses in RECOMMENDER_LOSSES.items() for loss in losses],
)
def test_negatives_are_counted_where_the_loss_samples(trainer, loss):
    names = recommender_space(trainer, loss=loss).distributions()
    assert ("n_negatives" in names) == (loss not in ("softmax", "mse"))


def test_several_losses_make_the_loss_a_parameter():
    space = recommender_space("mf", loss=["softmax", "bpr"])
    assert list(space.distributions())[3:5] == ["loss", "bpr.n_negatives"]
    assert "n_negatives" not in space.defaults()


def test_optimizers_bring_their_own_spaces():
    adagrad = recommender_space("mf", optimizer="adagrad")
    assert adagrad.defaults().items() >= optimizer_space("adagrad").defaults().items()
    several = recommender_space("mf", optimizer=["adam", "sgd"])
    assert {"optimizer", "adam.lr", "sgd.lr"} <= several.distributions().keys()


@pytest.mark.parametrize("trainer", sorted(set(RECOMMENDERS) - set(RECOMMENDER_LOSSES)))
def test_trainers_without_a_loss_refuse_one(trainer):
    with pytest.raises(InvalidArgument, match="`loss` must be None for the trainer"):
        recommender_space(trainer, loss="bpr")


def test_unknown_names_are_refused():
    with pytest.raises(InvalidArgument, match=r"`trainer` must be one of .* Did you mean 'neumf'"):
        recommender_space("neu_mf")
    with pytest.raises(InvalidArgument, match="`loss` must be one of 'bce', 'bpr'"):
        recommender_space("deepfm", loss="softmax")
    with pytest.raises(InvalidArgument, match="`optimizer` must be one of"):
        recommender_space("mf", optimizer="adamm")
    with pytest.raises(InvalidType, match="`loss` must be a name or a list of names, got int"):
        recommender_space("mf", loss=3)


def test_space_needs_neither_torch_nor_implicit():
    code = (
        "import sys; from hpolab.recommender.space import recommender_space; "
        "recommender_space('als'); recommender_space('deepfm'); "
        "assert not {'torch', 'implicit'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("optimizer", ["adam", ["adam", "sgd"], ["adadelta", "adamw"]])
@pytest.mark.parametrize("trainer", ["lightgcn", "two_tower"])
def test_learning_rate_of_large_batches_is_in_proportion(trainer, optimizer):
    large, usual = (recommender_space(name, optimizer=optimizer) for name in (trainer, "neumf"))
    assert (large.defaults()["batch_size"], usual.defaults()["batch_size"]) == (4096, 1024)
    for name in [optimizer] if isinstance(optimizer, str) else optimizer:
        chosen = [large, usual]
        if not isinstance(optimizer, str):
            chosen = [space.override(optimizer=name) for space in chosen]
        ours, others = (space.defaults()["lr"] for space in chosen)
        assert ours == pytest.approx((1 if name == "adadelta" else 4) * others)
    ranges = [
        {name: d for name, d in space.distributions().items() if name.endswith("lr")}
        for space in (large, usual)
    ]
    assert ranges[0] == ranges[1]
