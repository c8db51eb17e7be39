"""Sequences: the order of time, ties in their stored order, and what follows what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpolab import Interactions
from hpolab.recommender.sequences import Sequences


def sequences(timestamps, items=(5, 6, 7, 8, 9, 4)):
    users = ["ann", "bob", "ann", "ann", "bob", "ann"]
    data = Interactions.of(users, list(items), timestamps=timestamps)
    return data, Sequences(data)


def ids_of(data, packed):
    parts = np.split(data.item_ids[packed.items], np.cumsum(packed.lengths)[:-1])
    return [part.tolist() for part in parts]


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        (None, [[5, 7, 8, 4], [6, 9]]),
        ([4, 2, 3, 2, 1, 1], [[4, 8, 7, 5], [9, 6]]),
        ([1, 1, 1, 1, 1, 1], [[5, 7, 8, 4], [6, 9]]),
        ([2, 1, 1, 2, 1, 1], [[7, 4, 5, 8], [6, 9]]),
        (np.array([3, 2, 2, 1, 1, 9], "datetime64[D]"), [[8, 7, 5, 4], [9, 6]]),
    ],
)
def test_items_are_in_the_order_of_time_and_ties_as_they_are_stored(timestamps, expected):
    data, made = sequences(timestamps)
    assert ids_of(data, made.last(np.array([0, 1]), 10)) == expected


def test_the_last_ones_are_kept():
    data, made = sequences(None)
    assert ids_of(data, made.last(np.array([1, 0, 1]), 2)) == [[6, 9], [8, 4], [6, 9]]
    assert ids_of(data, made.last(np.array([0, 1]), 1)) == [[4], [9]]


def test_user_without_a_row_has_an_empty_sequence():
    data, _ = sequences(None)
    made = Sequences(data.rows(np.array([0, 2, 3, 5])))
    packed = made.last(np.array([1, 0]), 3)
    assert packed.lengths.tolist() == [0, 3]
    assert made.lengths.tolist() == [4, 0]


def test_positions_count_from_the_end():
    _, made = sequences(None)
    packed = made.last(np.array([0, 1]), 3)
    assert packed.positions.tolist() == [2, 1, 0, 1, 0]
    assert packed.last.tolist() == [2, 4]


def test_each_item_but_the_last_has_one_that_follows():
    data, made = sequences(None)
    inputs, following = made.last(np.array([0, 1]), 3).shifted()
    assert ids_of(data, inputs) == [[7, 8], [6]]
    assert ids_of(data, following) == [[8, 4], [9]]
    assert following.weights is None


def test_weights_go_with_their_rows():
    data, _ = sequences([4, 2, 3, 2, 1, 1])
    weighted = replace(data, weights=np.arange(6) + 1.0)
    packed = Sequences(weighted).last(np.array([0, 1]), 3)
    assert packed.weights.tolist() == [4, 3, 1, 5, 2]
    inputs, following = packed.shifted()
    assert inputs.weights.tolist() == [4, 3, 5]
    assert following.weights.tolist() == [3, 1, 2]
