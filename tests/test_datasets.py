"""Data sets: shapes, checksums, splits."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpolab.datasets import load_digits, load_mnist, split_four
from hpolab.errors import DataNotFound, InvalidArgument

# Only $HPOLAB_DATA tells where the larger data is; pytest lists what did not run for want of it.
needs_mnist = pytest.mark.skipif(
    not os.environ.get("HPOLAB_DATA"), reason="MNIST is read from $HPOLAB_DATA, which is not set"
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
