"""Data sets: shapes, checksums, splits."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpolab import (
    DataNotFound,
    InvalidArgument,
    RankingTask,
    leave_last_out,
    load_digits,
    load_mnist,
    load_movielens_100k,
    make_taste_clusters,
    split_four,
)

# Only $HPOLAB_DATA tells where the larger data is; pytest lists what did not run for want of it.
needs_mnist, needs_movielens = (
    pytest.mark.skipif(
        not os.environ.get("HPOLAB_DATA"),
        reason=f"{name} is read from $HPOLAB_DATA, which is not set",
    )
    for name in ("MNIST", "MovieLens-100K")
)


def test_digits():
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert sorted(set(labels)) == list(range(10))


def test_splits_are_disjoint_and_seeded():
    rows = np.arange(100)
    splits = split_four((rows, rows), n_train=10, n_valid=20, n_score=30, n_test=40, seed=1)
    parts = [splits.train, splits.valid, splits.score, splits.test]
    assert sorted(np.concatenate([inputs for inputs, _ in parts])) == list(range(100))
    again = split_four((rows, rows), n_train=10, n_valid=20, n_score=30, n_test=40, seed=1)
    assert (again.train[0] == splits.train[0]).all()


def test_without_counts_two_fifths_are_for_training():
    frame = pd.DataFrame({"a": range(103)})
    splits = split_four((frame, frame["a"]), seed=3)
    parts = [splits.train, splits.valid, splits.score, splits.test]
    assert [len(inputs) for inputs, _ in parts] == [43, 20, 20, 20]
    assert sorted(row for inputs, _ in parts for row in inputs["a"]) == list(range(103))
    assert all((inputs["a"] == targets).all() for inputs, targets in parts)


@pytest.mark.parametrize(
    ("data", "counts", "message"),
    [
        ((np.arange(10), np.arange(9)), {}, "one target a row, got 10 rows and 9 targets"),
        ((np.arange(10), np.arange(10)), {"n_train": 5}, "`n_valid`, `n_score`, `n_test`"),
        ((np.arange(4), np.arange(4)), {}, "`n_valid` must be 1 or above, got 0"),
    ],
)
def test_splits_that_are_not_meant_are_refused(data, counts, message):
    with pytest.raises(InvalidArgument, match=message):
        split_four(data, **counts)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1, 1, 1), "`n_train` must be 1 or above, got 0"),
        ((9, 9, 9, 9), "must fit into the 10 rows, got 36 rows"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    names = ("n_train", "n_valid", "n_score", "n_test")
    with pytest.raises(InvalidArgument, match=message):
        split_four((np.arange(10), np.arange(10)), **dict(zip(names, sizes, strict=True)))


def test_mnist_without_a_folder_names_the_variable(monkeypatch):
    monkeypatch.delenv("HPOLAB_DATA", raising=False)
    with pytest.raises(DataNotFound, match="HPOLAB_DATA"):
        load_mnist()


def test_mnist_in_a_folder_without_it_names_the_file(tmp_path):
    with pytest.raises(DataNotFound, match=r"train-images-idx3-ubyte.gz is missing"):
        load_mnist(tmp_path)


def test_file_that_is_not_the_published_one_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataNotFound, match="SHA-256 differs"):
        load_mnist(tmp_path)


@needs_mnist
def test_mnist():
    images, labels = load_mnist()
    assert images.shape == (70_000, 1, 28, 28)
    assert labels.shape == (70_000,)
    assert np.bincount(labels[60_000:])[:3].tolist() == [980, 1135, 1032]


@needs_mnist
def test_truncated_mnist_is_refused(tmp_path):
    name = "train-images-idx3-ubyte.gz"
    whole = Path(os.environ["HPOLAB_DATA"]) / "mnist" / name
    shutil.copy(whole, tmp_path / name)
    with open(tmp_path / name, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataNotFound, match="not a whole gzip file"):
        load_mnist(tmp_path)


def test_movielens_without_a_folder_names_the_variable(monkeypatch):
    monkeypatch.delenv("HPOLAB_DATA", raising=False)
    with pytest.raises(DataNotFound, match=r"MovieLens-100K was not found.*HPOLAB_DATA"):
        load_movielens_100k()


@needs_movielens
def test_movielens():
    data = load_movielens_100k()
    assert (len(data), data.n_users, data.n_items, data.n_duplicates) == (100_000, 943, 1682, 0)
    assert data.ratings is None
    assert load_movielens_100k(rating="rating").ratings.mean() == pytest.approx(3.52986)
    liked = load_movielens_100k(threshold=4)
    assert (len(liked), liked.n_users, liked.n_items, liked.n_below) == (55_375, 942, 1447, 44_625)
    assert data.user_features.names == ("age", "gender", "occupation")
    assert data.user_features.codes.shape == (943, 3)
    assert data.item_features.names == ("class", "release_year")
    assert data.item_features.codes.shape == (1682, 7)  # six genres at most, and the year
    toy_story = np.flatnonzero(data.item_ids == 1)[0]
    assert data.item_features.weights[toy_story, :6].tolist() == pytest.approx(
        [1 / 3] * 3 + [0] * 3
    )
    ties = leave_last_out(data).facts["n_users_with_ties"]
    assert round(100 * ties / 943) == 44


def test_true_tastes_rank_best_and_as_well_as_they_say():
    data = make_taste_clusters(n_users=2000, seed=1)
    splits = leave_last_out(data.interactions)
    seen = [splits.train, splits.valid]
    task = RankingTask(seen=seen, held_out=splits.test)
    truth = task.rank(lambda users: data.scores[users]).estimate("ndcg@10")
    blurred = data.scores + np.random.default_rng(0).normal(size=data.scores.shape)
    assert truth.mean > task.rank(lambda users: blurred[users]).estimate("ndcg@10").mean
    # What ranking by the probabilities of the next item must give on average.
    left = np.exp(data.scores)
    left[np.concatenate([part.users for part in seen]), np.concatenate([p.items for p in seen])] = 0
    best = np.sort(left / left.sum(axis=1, keepdims=True), axis=1)[:, :-11:-1]
    expected = (best / np.log2(np.arange(2, 12))).sum(axis=1).mean()
    assert truth.mean == pytest.approx(expected, abs=3 * truth.standard_error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_users": 0}, "`n_users` must be 1 or above, got 0"),
        ({"n_items": 20, "n_per_user": 20}, "`n_per_user` must be below the 20 items, got 20"),
        ({"purity": 1.0}, "`purity` must be 0 or above and below 1, got 1.0"),
    ],
)
def test_clusters_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InvalidArgument, match=message):
        make_taste_clusters(**settings)
