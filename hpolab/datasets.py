"""Data without a download: what packages ship, MNIST and MovieLens where a folder has them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import DataNotFound, InvalidArgument, check_count, needs
from hpolab.keywords import checks_keywords
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

    Arrays = tuple[NDArray[Any], NDArray[Any]]

__all__ = [
    "FourSplits",
    "TasteClusters",
    "load_digits",
    "load_mnist",
    "load_movielens_100k",
    "make_taste_clusters",
    "split_four",
]

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
# Of MovieLens-100K (Harper and Konstan 2015) as tables with a typed header, unpacked.
_MOVIELENS_FILES = {
    "ml-100k.inter.gz":
        "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.user.gz":
        "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item.gz":
        "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
# fmt: on


@dataclass(frozen=True, repr=False)
class FourSplits(Displayed):
    """The four splits of a study, each (inputs, targets).

    Attributes:
        train: The model learns from it.
        valid: Read after every epoch; steers a trial.
        score: Read once at the end of a trial; ranks trials.
        test: Used only by the final confirmation.
    """

    train: Arrays
    valid: Arrays
    score: Arrays
    test: Arrays

    def _in_one_line(self) -> str:
        return ", ".join(f"{name} {len(rows[1]):,}" for name, rows in vars(self).items()) + " rows"

    def _parts(self) -> list[str | TextTable]:
        rows = [
            [name, *(f"{part.dtype} {part.shape}" for part in arrays)]
            for name, arrays in vars(self).items()
        ]
        return [TextTable(["split", "inputs", "targets"], rows)]


@checks_keywords()
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
    with needs("`load_digits`", "scikit-learn", "sklearn"):
        from sklearn.datasets import load_digits as load
    images, labels = load(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)


@checks_keywords()
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
    train_x, train_y, test_x, test_y = map(
        _parse_idx, _read_files("MNIST", "mnist", folder, _MNIST_FILES)
    )
    images = np.concatenate([train_x, test_x]).astype(np.float32) / 255
    return images[:, None], np.concatenate([train_y, test_y]).astype(np.int64)


@checks_keywords()
def split_four(
    data: Arrays,
    *,
    n_train: int | None = None,
    n_valid: int | None = None,
    n_score: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> FourSplits:
    """Draw four disjoint splits at random.

    Args:
        data: Inputs (n, ...) and targets (n,): arrays, tensors or pandas frames.
        n_train: Rows to fit on. Give all four counts or none: by default 40 % of the rows.
        n_valid: Rows to steer trials by, by default 20 %.
        n_score: Rows to rank trials by, by default 20 %.
        n_test: Rows to confirm on, by default 20 %.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If a split is empty or there are too few rows, or only some counts are
            given.

    Example:
        >>> splits = split_four(load_digits())
        >>> [len(part[1]) for part in (splits.train, splits.valid, splits.score, splits.test)]
        [720, 359, 359, 359]
    """
    inputs, targets = data
    if len(inputs) != len(targets):
        raise InvalidArgument(
            f"`data` must have one target a row, got {len(inputs)} rows and {len(targets)} targets."
        )
    counts = {"n_train": n_train, "n_valid": n_valid, "n_score": n_score, "n_test": n_test}
    sizes = _sizes_of_splits(counts, len(targets))
    order = np.random.default_rng(seed).permutation(len(targets))
    bounds = np.cumsum(list(sizes.values()))
    parts = np.split(order, bounds)[:4]
    return FourSplits(*((_rows_of(inputs, rows), _rows_of(targets, rows)) for rows in parts))


def _sizes_of_splits(counts: Mapping[str, int | None], n: int) -> dict[str, int]:
    given = {argument: count for argument, count in counts.items() if count is not None}
    if not given:
        fifth = n // 5
        given = {"n_train": n - 3 * fifth, "n_valid": fifth, "n_score": fifth, "n_test": fifth}
    if len(given) < len(counts):
        missing = ", ".join(f"`{argument}`" for argument in counts if argument not in given)
        raise InvalidArgument(f"Give all four counts or none: {missing} is missing.")
    for argument, size in given.items():
        if size < 1:
            raise InvalidArgument(f"`{argument}` must be 1 or above, got {size}.")
    if sum(given.values()) > n:
        raise InvalidArgument(
            f"The splits must fit into the {n} rows, got {sum(given.values())} rows: {given}."
        )
    return given


def _rows_of(data: Any, rows: NDArray[np.intp]) -> Any:
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]  # pandas picks columns by []


@checks_keywords()
def load_movielens_100k(
    folder: str | Path | None = None, *, rating: str | None = None, threshold: float | None = None
) -> Interactions:
    """Load MovieLens-100K: 100,000 ratings of 1,682 films by 943 users (Harper, Konstan 2015).

    Args:
        folder: Where ``ml-100k.inter.gz``, ``ml-100k.user.gz`` and ``ml-100k.item.gz`` lie: tables
            separated by tabs, with a typed header; None looks into ``$HPOLAB_DATA/ml-100k``.
        rating: "rating" keeps the ratings, 1 to 5, to be predicted. None takes every rated film as
            an interaction, as papers on ranking do.
        threshold: Take films rated so and above alone, 4 for those that users liked.

    Returns:
        The interactions, with timestamps in seconds, the users' age (in ten bins), gender and
        occupation, and the films' genres and year.

    Raises:
        DataNotFound: If a file is missing, or is not the published one.
        MissingExtra: If pandas is not installed.
    """
    with needs("`load_movielens_100k`", "pandas", "recommender"):
        import pandas as pd
    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.text_tables import without_types

    files = _read_files("MovieLens-100K", "ml-100k", folder, _MOVIELENS_FILES)
    rows, users, items = (
        without_types(pd.read_csv(io.BytesIO(raw), sep="\t", keep_default_na=False))
        for raw in files
    )
    # Real numbers are put into bins, whole ones are categories.
    users["age"] += 0.5
    items["class"] = items["class"].str.split()
    return Interactions.from_frame(
        rows,
        rating=rating if threshold is None else "rating",
        threshold=threshold,
        timestamp="timestamp",
        user_features=users[["user_id", "age", "gender", "occupation"]],
        item_features=items[["item_id", "class", "release_year"]],
    )


@dataclass(frozen=True, repr=False)
class TasteClusters(Displayed):
    """Interactions made from tastes that are known.

    Attributes:
        interactions: With timestamps in order, and the items' clusters as a side feature.
        scores: The log probability that a user takes an item next, before what is taken is left
            out, (n_users, n_items). To rank by them is the best that any recommender can do.
    """

    interactions: Interactions
    scores: NDArray[np.float64]

    def _in_one_line(self) -> str:
        return self.interactions._in_one_line()


@checks_keywords()
def make_taste_clusters(
    n_users: int = 400,
    n_items: int = 300,
    *,
    n_clusters: int = 6,
    n_per_user: int = 30,
    purity: float = 0.9,
    seed: int = 0,
) -> TasteClusters:
    """Draw interactions of users who each like one cluster of items.

    A user takes items one after another without repeating any: with probability ``purity`` from
    the own cluster and else from all, popular ones (by Zipf's law within a cluster) before others.

    Args:
        n_users: Users.
        n_items: Items, more than ``n_per_user``.
        n_clusters: Clusters of items, drawn at random; so is each user's own.
        n_per_user: Interactions of each user.
        purity: 0 to below 1.
        seed: Seeds the draw.

    Raises:
        InvalidArgument: If a number is out of its range.

    Example:
        >>> from hpolab import leave_last_out, RankingTask
        >>> data = make_taste_clusters()
        >>> splits = leave_last_out(data.interactions)
        >>> task = RankingTask(seen=[splits.train, splits.valid], held_out=splits.test)
        >>> best = task.rank(lambda users: data.scores[users])
        >>> bool(best.estimate("ndcg@10").mean > 0.1)
        True
    """
    from hpolab.recommender.features import Features
    from hpolab.recommender.interactions import Interactions

    counts = {"n_users": n_users, "n_items": n_items, "n_clusters": n_clusters}
    for argument, count in {**counts, "n_per_user": n_per_user}.items():
        check_count(argument, count)
    if n_per_user >= n_items:
        raise InvalidArgument(f"`n_per_user` must be below the {n_items} items, got {n_per_user}.")
    if not 0 <= purity < 1:
        raise InvalidArgument(f"`purity` must be 0 or above and below 1, got {purity}.")
    rng = np.random.default_rng(seed)
    cluster_of_item = rng.permutation(np.arange(n_items) % n_clusters)
    popularity = 1 / (1 + rng.permutation(np.arange(n_items) // n_clusters))
    cluster_of_user = rng.integers(0, n_clusters, n_users)
    mine = popularity * (cluster_of_user[:, None] == cluster_of_item)
    own = mine / np.maximum(mine.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    scores = np.log(purity * own + (1 - purity) * popularity / popularity.sum())
    # Taking the largest first, Gumbel noise on log probabilities draws without replacement.
    order = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)[:, :n_per_user]
    items = np.arange(n_items)
    return TasteClusters(
        interactions=Interactions(
            users=np.repeat(np.arange(n_users), n_per_user),
            items=order.ravel(),
            user_ids=np.arange(n_users),
            item_ids=items,
            timestamps=np.tile(np.arange(n_per_user), n_users),
            item_features=Features.of(
                items, {"item": items, "cluster": cluster_of_item}, id_column="item"
            ),
        ),
        scores=scores,
    )


def _read_files(
    name: str, subfolder: str, folder: str | Path | None, files: Mapping[str, str]
) -> list[bytes]:
    """Return the unpacked contents of a data set's files, file name -> SHA-256, in their order."""
    if folder is None:
        root = os.environ.get(DATA_FOLDER_VARIABLE)
        if not root:
            raise DataNotFound(
                f"{name} was not found: give `folder`, or set the environment variable "
                f"{DATA_FOLDER_VARIABLE} to a folder that holds {subfolder}/*.gz."
            )
        folder = Path(root) / subfolder
    return [_read_file(name, Path(folder) / file, digest) for file, digest in files.items()]


def _read_file(name: str, path: Path, sha256: str) -> bytes:
    if not path.is_file():
        raise DataNotFound(f"{name} was not found: {path} is missing.")
    try:
        raw = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataNotFound(f"{path} is not a whole gzip file: {error}") from None
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise DataNotFound(f"{path} is not the published file: its SHA-256 differs.")
    return raw


def _parse_idx(raw: bytes) -> NDArray[np.uint8]:
    """Parse an IDX file: two zero bytes, the type, the rank, the sizes (big-endian), the data."""
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
