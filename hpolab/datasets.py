"""Real data without a download: what packages ship, and MNIST where a folder has it."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import DataNotFound, InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = tuple[NDArray[Any], NDArray[Any]]

__all__ = ["FourSplits", "load_digits", "load_mnist", "split_four"]

DATA_FOLDER_VARIABLE = "HPOLAB_DATA"

# SHA-256 of the four files as LeCun, Cortes and Burges published them, once unpacked: mirrors
# compress them anew.
# fmt: off
_MNIST_FILES = {
    "train-images-idx3-ubyte.gz":
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz":
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz":
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz":
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# fmt: on


@dataclass(frozen=True)
class FourSplits:
    """The four splits of a study, each (inputs, targets).

    Attributes:
        train: Weights are fitted on it.
        valid: Read every epoch; it steers a trial.
        score: Read once a trial; it ranks trials.
        test: Read by nothing but the final confirmation.
    """

    train: Arrays
    valid: Arrays
    score: Arrays
    test: Arrays


def load_digits() -> Arrays:
    """Load scikit-learn's digits: 1,797 images of 8 x 8 pixels.

    Returns:
        Images, float32 (1797, 1, 8, 8) in [0, 1], and class ids, int64 (1797,).

    Raises:
        MissingExtra: If scikit-learn is not installed.

    Example:
        >>> images, labels = load_digits()
        >>> images.shape, labels.shape
        ((1797, 1, 8, 8), (1797,))
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise MissingExtra("`load_digits`", "scikit-learn", "sklearn") from None
    images, labels = load(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def load_mnist(folder: str | Path | None = None) -> Arrays:
    """Load MNIST from its four published files (LeCun, Cortes and Burges 1998).

    Args:
        folder: Where the files ``train-images-idx3-ubyte.gz`` and so on lie; None looks into
            ``$HPOLAB_DATA/mnist``.

    Returns:
        Images, float32 (70000, 1, 28, 28) in [0, 1], and class ids, int64 (70000,): first the
        60,000 training images, then the 10,000 test images.

    Raises:
        DataNotFound: If a file is missing, or is not the published one.
    """
    if folder is None:
        root = os.environ.get(DATA_FOLDER_VARIABLE)
        if not root:
            raise DataNotFound(
                "MNIST was not found: give `folder`, or set the environment variable "
                f"{DATA_FOLDER_VARIABLE} to a folder that holds mnist/*.gz."
            )
        folder = Path(root) / "mnist"
    train_x, train_y, test_x, test_y = (
        _read_idx(Path(folder) / name, digest) for name, digest in _MNIST_FILES.items()
    )
    images = np.concatenate([train_x, test_x]).astype(np.float32) / 255
    return images[:, None], np.concatenate([train_y, test_y]).astype(np.int64)


def split_four(
    data: Arrays, *, n_train: int, n_valid: int, n_score: int, n_test: int, seed: int = 0
) -> FourSplits:
    """Draw four disjoint splits at random.

    Args:
        data: Inputs (n, ...) and targets (n,).
        n_train: Rows to fit on.
        n_valid: Rows to steer trials by.
        n_score: Rows to rank trials by.
        n_test: Rows to confirm on.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If a split is empty or there are too few rows.

    Example:
        >>> splits = split_four(load_digits(), n_train=400, n_valid=300, n_score=500, n_test=597)
        >>> [len(part[1]) for part in (splits.train, splits.valid, splits.score, splits.test)]
        [400, 300, 500, 597]
    """
    sizes = {"n_train": n_train, "n_valid": n_valid, "n_score": n_score, "n_test": n_test}
    for argument, size in sizes.items():
        if size < 1:
            raise InvalidArgument(f"`{argument}` must be 1 or above, got {size}.")
    inputs, targets = data
    if sum(sizes.values()) > len(targets):
        raise InvalidArgument(
            f"The splits must fit into the {len(targets)} rows, got {sum(sizes.values())} rows: "
            f"{sizes}."
        )
    order = np.random.default_rng(seed).permutation(len(targets))
    bounds = np.cumsum(list(sizes.values()))
    parts = np.split(order, bounds)[:4]
    return FourSplits(*((inputs[rows], targets[rows]) for rows in parts))


def _read_idx(path: Path, sha256: str) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, the type, the rank, the sizes (big-endian), the data."""
    if not path.is_file():
        raise DataNotFound(f"MNIST was not found: {path} is missing.")
    try:
        raw = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataNotFound(f"{path} is not a whole gzip file: {error}") from None
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise DataNotFound(f"{path} is not the published file: its SHA-256 differs.")
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
