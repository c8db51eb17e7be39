"""Recommenders with a closed form, which one epoch solves: popularity, EASE, item neighbors."""

from __future__ import annotations

import abc
import copy
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, check_count, one_of
from hpolab.recommender.trainer import (
    RecommenderTrainer,
    RecommenderTraining,
    count_param,
    number_param,
    param,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = [
    "ClosedForm",
    "Ease",
    "ItemKnn",
    "Popularity",
    "arrays_from_bytes",
    "arrays_to_bytes",
]

# Cells of a dense block of the items-by-items matrix: 16 MB of float32.
_BLOCK_CELLS = 2**22

# Bytes a pair of items, at the peak: the inverse in float64 beside the weights in float32.
_EASE_BYTES = 12
# What a solution in float32 may be off by, relative to its size: ranks do not change for less.
_EASE_ERROR = 1e-4

# BM25's saturation and length normalization (Robertson and Zaragoza 2009, section 3.2).
_BM25_K1, _BM25_B = 1.2, 0.75

_SIMILARITIES = ("bm25", "cosine", "tfidf_cosine")


class ClosedForm(RecommenderTraining):
    """A training of one epoch, which has no better model than its only one."""

    def __init__(self) -> None:
        self._solution: dict[str, NDArray[Any]] = {}

    @abc.abstractmethod
    def _solve(self) -> dict[str, NDArray[Any]]:
        """Return the model as arrays by name."""

    def epoch(self) -> None:
        self._solution = self._solve()

    def keep_best(self) -> None:
        """Do nothing: whenever it is solved, the model is the same."""

    def load_best(self) -> None:
        """Do nothing, likewise."""

    def to_bytes(self) -> bytes:
        return arrays_to_bytes(self._solution)

    def from_bytes(self, state: bytes) -> None:
        self._solution = arrays_from_bytes(state)


class _OfMatrix(ClosedForm):
    """A closed form of the matrix of who took what, whose rows it reads as it scores."""

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        self._matrix = matrix

    def with_history(self, rows: Interactions) -> RecommenderTraining:
        other = copy.copy(self)
        other._matrix = rows.matrix()
        return other


class Popularity(RecommenderTrainer):
    """Recommends what most users took: the baseline that every other recommender must beat.

    It has no parameters.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of(["ann", "bob", "bob"], ["tea", "tea", "milk"])
        >>> training = Popularity().start({}, train, seed=0, max_epochs=1)
        >>> training.epoch()
        >>> training.scores(train.encode_users(["ann"]))
        array([[1., 2.]], dtype=float32)
    """

    name = "popularity"
    max_epochs = 1

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        return _PopularityTraining(train.matrix())


class _PopularityTraining(_OfMatrix):
    def _solve(self) -> dict[str, NDArray[Any]]:
        return {"counts": _column_counts(self._matrix)}

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(self._solution["counts"][None], len(users), axis=0)


class Ease(RecommenderTrainer):
    """EASE^R: a linear model from items to items, fitted by ridge regression.

    With P the inverse of (X^T X + l2 I) the weights are B = I - P diag(1 / diag(P)), whose
    diagonal is zero (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW,
    equation 8). It takes 4 bytes a pair of items, and time that grows with the cube of the number
    of items. It is solved in float32, and the solution's error is measured; where that is above
    1e-4, as with a tiny `l2`, it is solved again in float64, which takes 12 bytes meanwhile.

    Parameters of a trial: `l2`, above 0.

    Args:
        max_items: Items above which it refuses to start; the default, 20,000, takes 4.8 GB.

    Raises:
        InvalidArgument: If ``max_items`` is below 1.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> training = Ease().start({"l2": 1.0}, train, seed=0, max_epochs=1)
        >>> training.epoch()
        >>> training.scores(train.encode_users([3])).round(2)  # milk, tea
        array([[0.5, 0. ]], dtype=float32)
    """

    name = "ease"
    max_epochs = 1

    def __init__(self, *, max_items: int = 20_000) -> None:
        check_count("max_items", max_items)
        self._max_items = max_items

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        l2 = number_param(params, "l2", above=0.0)
        if train.n_items > self._max_items:
            gigabytes = _EASE_BYTES * train.n_items**2 / 1e9
            raise InvalidArgument(
                f"`train` must have at most {self._max_items} items for EASE, got "
                f"{train.n_items}, which would take {gigabytes:.1f} GB. Leave out rare items, or "
                "raise `max_items` where there is the memory."
            )
        return _EaseTraining(train.matrix(), l2)


class _EaseTraining(_OfMatrix):
    def __init__(self, matrix: Any, l2: float) -> None:
        super().__init__(matrix)
        self._l2 = l2

    def _solve(self) -> dict[str, NDArray[Any]]:
        weights = _inverse(self._matrix, self._l2)
        weights /= -weights.diagonal()
        np.fill_diagonal(weights, 0)
        return {"weights": weights}

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        scores: NDArray[Any] = self._matrix[users] @ self._solution["weights"]
        return scores

    def similarities(self, items: NDArray[Any]) -> NDArray[Any]:
        """Return the weights from some items to all."""
        weights: NDArray[Any] = self._solution["weights"][items]
        return weights


def _inverse(matrix: Any, l2: float) -> NDArray[np.float32]:
    """Return the inverse of X^T X + ``l2`` I.

    Float32 takes half of float64's time and a third of its memory, and mostly has six digits left.
    With a small ``l2`` and items that the same users took, it has none.

    Args:
        matrix: X, a CSR matrix (n_users, n_items).
        l2: Above 0.
    """
    inverse = _cholesky_inverse(matrix, l2, np.float32)
    if inverse is None or not _error_of(inverse, matrix, l2) < _EASE_ERROR:
        del inverse
        inverse = _cholesky_inverse(matrix, l2, np.float64)
    if inverse is None:
        raise InvalidArgument(f"`l2` must be larger for these interactions, got {l2}.")
    return np.asarray(inverse, np.float32)


def _cholesky_inverse(matrix: Any, l2: float, dtype: type[np.floating[Any]]) -> Any:
    """Return the inverse of X^T X + ``l2`` I, or None where it has no Cholesky factor."""
    from scipy.linalg.lapack import get_lapack_funcs

    gram = np.empty((matrix.shape[1],) * 2, dtype)
    for rows, block in _gram_blocks(matrix):
        gram[rows] = block
    gram[np.diag_indices_from(gram)] += dtype(l2)
    potrf, potri = get_lapack_funcs(("potrf", "potri"), [gram])
    # It is symmetric, so that its transpose is the same in the order that LAPACK needs in place.
    factor, failed = potrf(gram.T, lower=1, clean=0, overwrite_a=1)
    if failed:
        return None
    triangle, _ = potri(factor, lower=1, overwrite_c=1)
    return _symmetric(triangle.T)


def _symmetric(upper: NDArray[Any]) -> NDArray[Any]:
    """Copy the upper triangle of a matrix (n, n) to its lower one, in place."""
    n_rows = max(1, _BLOCK_CELLS // len(upper))
    for start in range(0, len(upper), n_rows):
        rows = slice(start, start + n_rows)
        upper[rows, :start] = upper[:start, rows].T
        square = upper[rows, rows]
        square[...] = np.triu(square) + np.triu(square, 1).T
    return upper


def _error_of(inverse: NDArray[Any], matrix: Any, l2: float) -> float:
    """Return how far ``inverse``, P, is from the inverse of A = X^T X + ``l2`` I, relative to it.

    It is measured on a random vector z: A (P z) - z = A e, so that P times that is the error e of
    P z. Each item counts in its own scale, as what many users took has an inverse of its own size.
    """
    scales = np.sqrt(_column_counts(matrix) + l2)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=len(scales))
    found = _times(inverse, scales * signs)
    there_and_back = matrix.T @ (matrix @ found) + l2 * found
    error = _times(inverse, there_and_back - scales * signs)
    return float(np.linalg.norm(scales * error) / np.linalg.norm(scales * found))


def _times(inverse: NDArray[Any], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (inverse @ vector.astype(inverse.dtype)).astype(np.float64)
    return product


class ItemKnn(RecommenderTrainer):
    """Recommends the nearest neighbors of a user's items.

    A well-tuned one is hard to beat (Ferrari Dacrema et al. 2021, "A Troubling Analysis of
    Reproducibility and Progress in Recommender Systems Research", ACM TOIS). An item's score is
    the sum of its similarities to those of the user's items that are among its neighbors.

    Parameters of a trial:

    - `n_neighbors`: Neighbors kept of each item, 1 or above.
    - `shrink`: 0 or above; a similarity of items with n and m interactions is multiplied by
      s / (s + shrink), s = sqrt(n m). For the cosine that is the usual
      dot / (|a| |b| + shrink); here it has one scale for all similarities.
    - `similarity`: "cosine"; "tfidf_cosine", in which a user counts for the less the more items
      they took; "bm25": dot products of items under BM25's weights (k1 = 1.2, b = 0.75), which
      stand in for their norms.

    It takes 8 bytes a neighbor kept, and about 100 MB more while they are sought.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> params = {"n_neighbors": 1, "shrink": 0.0, "similarity": "cosine"}
        >>> training = ItemKnn().start(params, train, seed=0, max_epochs=1)
        >>> training.epoch()
        >>> training.scores(train.encode_users([3])).round(2)  # milk, tea
        array([[0.82, 0.  ]], dtype=float32)
    """

    name = "item_knn"
    max_epochs = 1

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        return _ItemKnnTraining(
            train.matrix(),
            n_neighbors=count_param(params, "n_neighbors"),
            shrink=number_param(params, "shrink", at_least=0.0),
            similarity=one_of("similarity", param(params, "similarity"), _SIMILARITIES),
        )


class _ItemKnnTraining(_OfMatrix):
    def __init__(self, matrix: Any, *, n_neighbors: int, shrink: float, similarity: str) -> None:
        super().__init__(matrix)
        self._n_neighbors = min(n_neighbors, matrix.shape[1])
        self._shrink = shrink
        self._similarity = similarity

    def _solve(self) -> dict[str, NDArray[Any]]:
        # At least 1, against a division by zero: what nobody took is similar to nothing anyway.
        support = np.sqrt(np.maximum(_column_counts(self._matrix), 1))
        neighbors, similarities = [], []
        for rows, block in _gram_blocks(_weighted(self._matrix, self._similarity)):
            support_of_pair = np.outer(support[rows], support)
            block *= support_of_pair / (support_of_pair + np.float32(self._shrink))
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = 0
            nearest = np.argpartition(block, -self._n_neighbors, axis=1)[:, -self._n_neighbors :]
            neighbors.append(nearest.astype(np.int32))
            similarities.append(np.take_along_axis(block, nearest, axis=1))
        weights = _sparse_columns(np.concatenate(neighbors), np.concatenate(similarities))
        return {"data": weights.data, "indices": weights.indices, "indptr": weights.indptr}

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        scores: NDArray[Any] = (self._matrix[users] @ self._weights()).toarray()
        return scores

    def similarities(self, items: NDArray[Any]) -> NDArray[Any]:
        """Return the similarities of some items' neighbors, minus infinity for all others."""
        similarities: NDArray[Any] = self._weights()[:, items].toarray().T
        similarities[similarities == 0] = -np.inf
        return similarities

    def _weights(self) -> Any:
        from scipy.sparse import csr_matrix

        columns = tuple(self._solution[name] for name in ("data", "indices", "indptr"))
        return csr_matrix(columns, shape=(self._matrix.shape[1],) * 2)


def _sparse_columns(rows: NDArray[np.int32], values: NDArray[np.float32]) -> Any:
    """Return a CSR matrix (n, n) whose column i has ``values[i]`` in ``rows[i]``, both (n, k)."""
    from scipy.sparse import csc_matrix

    n, k = rows.shape
    starts = np.arange(0, n * k + 1, k)
    matrix = csc_matrix((values.ravel(), rows.ravel(), starts), shape=(n, n)).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _weighted(matrix: Any, similarity: str) -> Any:
    """Return ``matrix``, weighted so that its columns' dot products are the similarities."""
    from scipy.sparse import diags

    if similarity == "cosine":
        return _with_unit_columns(matrix)
    n_items = matrix.shape[1]
    rarity = np.log(n_items / (1 + np.diff(matrix.indptr)))
    weighted = (diags(rarity) @ matrix).astype(np.float32)
    if similarity == "tfidf_cosine":
        return _with_unit_columns(weighted)
    lengths = _column_counts(matrix)
    relative = 1 - _BM25_B + _BM25_B * lengths / lengths.mean()
    return (weighted @ diags((_BM25_K1 + 1) / (_BM25_K1 * relative + 1))).astype(np.float32)


def _with_unit_columns(matrix: Any) -> Any:
    from scipy.sparse import diags

    norms = np.sqrt(np.bincount(matrix.indices, matrix.data**2, minlength=matrix.shape[1]))
    return (matrix @ diags(1 / np.where(norms == 0, 1, norms))).astype(np.float32)


def _column_counts(matrix: Any) -> NDArray[np.float32]:
    return np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float32)


def _gram_blocks(matrix: Any) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield X^T X, some rows (b, n_items) at a time, each with the slice of its rows.

    Args:
        matrix: X, a CSR matrix (n_users, n_items).
    """
    n_items = matrix.shape[1]
    by_item = matrix.T.tocsr()
    n_rows = max(1, _BLOCK_CELLS // n_items)
    for start in range(0, n_items, n_rows):
        rows = slice(start, min(start + n_rows, n_items))
        yield rows, (by_item[rows] @ matrix).toarray()


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as bytes, without pickle."""
    file = io.BytesIO()
    # Typed apart: NumPy 2.1 has a flag of its own among the names, which 1.26 stores as an array.
    named: dict[str, Any] = dict(arrays)
    np.savez(file, **named)
    return file.getvalue()


def arrays_from_bytes(state: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays that `arrays_to_bytes` has packed."""
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
        return dict(arrays)
