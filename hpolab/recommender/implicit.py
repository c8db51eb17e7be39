"""Factor models of the package implicit, on the CPU, one of its iterations an epoch."""

from __future__ import annotations

import abc
import functools
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hpolab.errors import Diverged, check_count, needs
from hpolab.recommender.classical import arrays_from_bytes, arrays_to_bytes
from hpolab.recommender.trainer import (
    RecommenderTrainer,
    RecommenderTraining,
    count_param,
    number_param,
)
from hpolab.seeding import derive_seed

with needs("`als`, `bpr_implicit`, `logistic_mf`", "implicit", "recommender"):
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from implicit.cpu.lmf import LogisticMatrixFactorization, RNGVector, lmf_update
    from implicit.recommender_base import ModelFitError
    from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["Als", "BprImplicit", "LogisticMf"]


class _FactorTraining(RecommenderTraining):
    """A training of one of implicit's models: factors of users and items, and what goes with them.

    implicit changes factors in place, so that the best ones are copies.

    Args:
        model: The model, with ``iterations=0`` and its seed.
        matrix: What it is trained on, CSR (n_users, n_items).
        seed: Seeds what epochs draw.
    """

    def __init__(self, model: Any, matrix: Any, *, seed: int) -> None:
        self._model = model
        self._matrix = matrix
        self._seed = seed
        self._n_epochs = 0
        self._best: dict[str, NDArray[Any]] = {}
        # Without an iteration it draws the initial factors and no more.
        model.fit(matrix, show_progress=False)

    @abc.abstractmethod
    def _iterate(self) -> None:
        """Do one iteration."""

    def _memory(self) -> dict[str, NDArray[Any]]:
        """Return what an iteration changes beside the factors, by name; views, not copies."""
        return {}

    def epoch(self) -> None:
        self._iterate()
        if not all(np.isfinite(factors).all() for factors in self._factors().values()):
            self._give_up()
        self._n_epochs += 1

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        # Biases are columns of the factors, with ones on the other side.
        scores: NDArray[Any] = self._model.user_factors[users] @ self._model.item_factors.T
        return scores

    def item_vectors(self) -> NDArray[Any]:
        factors: NDArray[Any] = self._model.item_factors
        return factors

    def keep_best(self) -> None:
        self._best = {name: factors.copy() for name, factors in self._factors().items()}

    def load_best(self) -> None:
        self._set_factors({name: factors.copy() for name, factors in self._best.items()})

    def to_bytes(self) -> bytes:
        best = {f"best_{name}": factors for name, factors in self._best.items()}
        n_epochs = {"n_epochs": np.array(self._n_epochs)}
        return arrays_to_bytes(self._factors() | self._memory() | best | n_epochs)

    def from_bytes(self, state: bytes) -> None:
        arrays = arrays_from_bytes(state)
        self._n_epochs = int(arrays["n_epochs"])
        self._set_factors(arrays)
        for name, array in self._memory().items():
            array[...] = arrays[name]
        self._best = {
            name: arrays[f"best_{name}"] for name in self._factors() if f"best_{name}" in arrays
        }

    def _factors(self) -> dict[str, NDArray[Any]]:
        return {"users": self._model.user_factors, "items": self._model.item_factors}

    def _set_factors(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._model.user_factors, self._model.item_factors = arrays["users"], arrays["items"]

    def _epoch_seed(self) -> int:
        """Return a seed for the next epoch: what it draws depends on nothing before it."""
        return derive_seed(self._seed, "epoch", self._n_epochs)

    def _give_up(self, cause: BaseException | None = None) -> NoReturn:
        name = type(self._model).__name__
        raise Diverged(f"{name} reached NaN or infinity in epoch {self._n_epochs}.") from cause


class Als(RecommenderTrainer):
    """Weighted matrix factorization by alternating least squares, of implicit.

    n epochs end with the very factors of implicit's own fit with ``iterations=n`` and
    ``random_state=seed``. The model: Hu, Koren and Volinsky 2008, "Collaborative Filtering for
    Implicit Feedback Datasets", ICDM; the solver: Takács, Pilászy and Tikk 2011.

    Parameters of a trial: `factors`, 1 or above; `regularization`, 0 or above; `alpha`, above 0:
    the confidence in an interaction, where that in a missing one is 1; it is multiplied by the
    interaction's own weight.

    Args:
        n_threads: Threads of one training; results do not depend on it.

    Raises:
        InvalidArgument: If ``n_threads`` is below 1.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> params = {"factors": 1, "regularization": 0.1, "alpha": 5.0}
        >>> training = Als().start(params, train, seed=0, max_epochs=10)
        >>> for _ in range(10):
        ...     training.epoch()
        >>> milk, tea = training.scores(train.encode_users([3]))[0]
        >>> bool(0.5 < milk < tea)
        True
    """

    name = "als"
    reads_weights = True

    def __init__(self, *, n_threads: int = 1) -> None:
        check_count("n_threads", n_threads)
        self._n_threads = n_threads

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        with _one_blas_thread():
            model = AlternatingLeastSquares(
                factors=count_param(params, "factors"),
                regularization=number_param(params, "regularization", at_least=0.0),
                alpha=number_param(params, "alpha", above=0.0),
                iterations=0,
                num_threads=self._n_threads,
                random_state=seed,
            )
        return _AlsTraining(model, train.weighted_matrix(), seed=seed)


class _AlsTraining(_FactorTraining):
    def __init__(self, model: Any, matrix: Any, *, seed: int) -> None:
        super().__init__(model, matrix, seed=seed)
        # Not by `fit`, which would weight and transpose the matrix again in each epoch.
        self._user_items = model.alpha * matrix
        self._item_users = self._user_items.T.tocsr()

    def _iterate(self) -> None:
        model = self._model
        users, items = model.user_factors, model.item_factors
        with _one_blas_thread():
            for matrix, solved, fixed in (
                (self._user_items, users, items),
                (self._item_users, items, users),
            ):
                model.solver(
                    matrix, solved, fixed, model.regularization, num_threads=model.num_threads
                )


class BprImplicit(RecommenderTrainer):
    """Bayesian personalized ranking by stochastic gradient descent, of implicit.

    It draws as many pairs an epoch as there are interactions, negatives by their popularity, and
    runs in one thread, as more would overwrite each other's steps (Rendle et al. 2009, "BPR:
    Bayesian Personalized Ranking from Implicit Feedback", UAI). Each epoch draws from a stream of
    its own; implicit's own fit draws all from one, so that its results differ as those of another
    seed do.

    Parameters of a trial: `factors`, 1 or above; `learning_rate`, above 0; `regularization`, 0 or
    above.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> params = {"factors": 2, "learning_rate": 0.1, "regularization": 0.01}
        >>> training = BprImplicit().start(params, train, seed=0, max_epochs=10)
        >>> training.epoch()
        >>> training.scores(train.encode_users([3])).shape
        (1, 2)
    """

    name = "bpr_implicit"

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        model = BayesianPersonalizedRanking(
            factors=count_param(params, "factors"),
            learning_rate=number_param(params, "learning_rate", above=0.0),
            regularization=number_param(params, "regularization", at_least=0.0),
            iterations=0,
            num_threads=1,
            random_state=seed,
        )
        return _BprTraining(model, train.matrix(), seed=seed)


class _BprTraining(_FactorTraining):
    def _iterate(self) -> None:
        # Else each fit would draw the same pairs again.
        self._model.random_state = self._epoch_seed()
        self._model.iterations = 1
        try:
            self._model.fit(self._matrix, show_progress=False)
        except ModelFitError as error:
            self._give_up(error)


class LogisticMf(RecommenderTrainer):
    """Logistic matrix factorization by alternating AdaGrad steps, of implicit.

    The model: Johnson 2014, "Logistic Matrix Factorization for Implicit Feedback Data". The sums
    of AdaGrad go on from epoch to epoch, as in implicit's own fit with more iterations, and each
    epoch draws from a stream of its own, where implicit draws all from one.

    Parameters of a trial: `factors`, 1 or above; `learning_rate`, above 0; `regularization`, 0 or
    above; `neg_prop`, 1 or above: negatives drawn for each interaction. implicit draws for a user,
    or an item, no more than ``factors + 2`` in all, so that where rows are long `neg_prop` has no
    effect. An interaction's own weight multiplies its gradient.

    Args:
        n_threads: Threads of one training; results differ with their number.

    Raises:
        InvalidArgument: If ``n_threads`` is below 1.

    Example:
        >>> from hpolab import Interactions
        >>> train = Interactions.of([1, 1, 2, 2, 3], ["tea", "milk", "tea", "milk", "tea"])
        >>> params = {"factors": 2, "learning_rate": 1.0, "regularization": 0.6, "neg_prop": 3}
        >>> training = LogisticMf().start(params, train, seed=0, max_epochs=10)
        >>> training.epoch()
        >>> training.scores(train.encode_users([3])).shape
        (1, 2)
    """

    name = "logistic_mf"
    reads_weights = True

    def __init__(self, *, n_threads: int = 1) -> None:
        check_count("n_threads", n_threads)
        self._n_threads = n_threads

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        model = LogisticMatrixFactorization(
            factors=count_param(params, "factors"),
            learning_rate=number_param(params, "learning_rate", above=0.0),
            regularization=number_param(params, "regularization", at_least=0.0),
            neg_prop=count_param(params, "neg_prop"),
            iterations=0,
            num_threads=self._n_threads,
            random_state=seed,
        )
        return _LogisticTraining(model, train.weighted_matrix(), seed=seed)


class _LogisticTraining(_FactorTraining):
    def __init__(self, model: Any, matrix: Any, *, seed: int) -> None:
        super().__init__(model, matrix, seed=seed)
        self._transposed = matrix.T.tocsr()
        self._user_sums = np.zeros_like(model.user_factors)
        self._item_sums = np.zeros_like(model.item_factors)

    def _iterate(self) -> None:
        # Not by `fit`, which begins with sums of zero: each epoch's first step would be as long
        # as that of the first.
        model = self._model
        users, items = model.user_factors, model.item_factors
        streams = self._streams()
        self._step(streams, self._user_sums, users, items, self._matrix)
        users[:, -2] = 1
        self._step(streams, self._item_sums, items, users, self._transposed)
        items[:, -1] = 1

    def _step(self, streams: Any, sums: Any, stepped: Any, fixed: Any, matrix: Any) -> None:
        model = self._model
        lmf_update(
            streams,
            sums,
            stepped,
            fixed,
            matrix.indices,
            matrix.indptr,
            matrix.data,
            model.learning_rate,
            model.regularization,
            model.neg_prop,
            model.num_threads,
        )

    def _streams(self) -> Any:
        """Return one random stream for each thread, of which each draws an interaction's place."""
        n_threads = self._model.num_threads
        rng = np.random.default_rng(self._epoch_seed())
        seeds = rng.integers(0, 2**31, size=n_threads, dtype="long")
        return RNGVector(n_threads, self._matrix.nnz - 1, seeds)

    def _memory(self) -> dict[str, NDArray[Any]]:
        return {"user_sums": self._user_sums, "item_sums": self._item_sums}


def _one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS has one thread.

    ALS calls it on vectors so short that threads make it up to ten times as slow, and implicit
    warns of them.
    """
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _libraries() -> ThreadpoolController:
    # Once: it looks through all libraries that the process has loaded.
    return ThreadpoolController()
