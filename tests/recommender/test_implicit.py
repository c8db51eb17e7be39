"""Trainers on the package implicit: against its own fit, and resumed, seeded, refused."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import implicit.utils
import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.lmf import LogisticMatrixFactorization
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_info, threadpool_limits

from hpolab import Diverged, Interactions, InvalidArgument, MissingExtra
from hpolab.recommender.implicit import Als, BprImplicit, LogisticMf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpolab import RecommenderTrainer, RecommenderTraining

ALS = {"factors": 8, "regularization": 0.1, "alpha": 5.0}
BPR = {"factors": 8, "learning_rate": 0.05, "regularization": 0.01}
LOGISTIC = {"factors": 8, "learning_rate": 0.3, "regularization": 0.1, "neg_prop": 5}
TRAINERS = {
    "als": (Als(), ALS),
    "als-two-threads": (Als(n_threads=2), ALS),
    "bpr": (BprImplicit(), BPR),
    "logistic": (LogisticMf(), LOGISTIC),
    "logistic-two-threads": (LogisticMf(n_threads=2), LOGISTIC),
}
every_trainer = pytest.mark.parametrize(
    ("trainer", "params"), TRAINERS.values(), ids=TRAINERS.keys()
)


def two_clusters() -> tuple[NDArray[Any], NDArray[Any]]:
    """60 users take 8 of the 20 items of their half and 1 of the other; returns also the halves."""
    rng = np.random.default_rng(0)
    own = np.arange(60)[:, None] % 2 == np.arange(40)[None] % 2
    taken = np.zeros((60, 40), bool)
    for row, half in zip(taken, own, strict=True):
        row[rng.permutation(np.flatnonzero(half))[:8]] = True
        row[rng.permutation(np.flatnonzero(~half))[0]] = True
    return taken, own


def share_of_own_half(scores: NDArray[Any], taken: NDArray[Any], own: NDArray[Any]) -> float:
    """Of the five items not taken that rank highest, those of the user's half; 0.39 by chance."""
    top = np.argsort(np.where(taken, -np.inf, scores), axis=1)[:, -5:]
    return float(np.take_along_axis(own, top, axis=1).mean())


def interactions(taken: NDArray[Any]) -> Interactions:
    """Return the interactions of a table (n_users, n_items) of truths."""
    users, items = np.nonzero(taken)
    return Interactions(users, items, np.arange(len(taken)), np.arange(taken.shape[1]))


TAKEN, OWN = two_clusters()
# One user more who took nothing, and one item more that nobody took.
TRAIN = interactions(np.pad(TAKEN, ((0, 1), (0, 1))))
USERS = np.arange(TRAIN.n_users)


def start(
    trainer: RecommenderTrainer, params: dict[str, Any], *, seed: int = 0
) -> RecommenderTraining:
    return trainer.start(params, TRAIN, seed=seed, max_epochs=50)


def go_on(training: RecommenderTraining, n_epochs: int) -> NDArray[Any]:
    """Train some epochs and return the scores of everybody."""
    for _ in range(n_epochs):
        training.epoch()
    return training.scores(USERS)


@pytest.mark.parametrize("alpha", [1.0, 12.5])
@pytest.mark.parametrize("n_epochs", [1, 7])
def test_als_ends_where_implicits_own_fit_ends(alpha: float, n_epochs: int) -> None:
    params = ALS | {"alpha": alpha}
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            **params, iterations=n_epochs, num_threads=1, random_state=3
        )
        model.fit(TRAIN.matrix(), show_progress=False)
    expected = model.user_factors @ model.item_factors.T
    np.testing.assert_array_equal(go_on(start(Als(), params, seed=3), n_epochs), expected)


def test_als_does_not_depend_on_its_threads() -> None:
    one, two = (go_on(start(Als(n_threads=n), ALS), 5) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_logistic_steps_shrink_as_in_implicits_own_fit() -> None:
    # With one user and one item there is nothing to draw.
    train = Interactions.of(["ann"], ["tea"])
    model = LogisticMatrixFactorization(**LOGISTIC, iterations=9, num_threads=1, random_state=3)
    model.fit(train.matrix(), show_progress=False)
    training = LogisticMf().start(LOGISTIC, train, seed=3, max_epochs=9)
    for _ in range(9):
        training.epoch()
    expected = model.user_factors @ model.item_factors.T
    np.testing.assert_array_equal(training.scores(np.array([0])), expected)


def test_bpr_draws_other_pairs_in_each_epoch() -> None:
    # So short steps change next to nothing, so that the same pairs would make the same change.
    training = start(BprImplicit(), BPR | {"learning_rate": 1e-3, "regularization": 0.0})
    first, second, third = (go_on(training, n) for n in (0, 1, 1))
    changes = np.stack([second - first, third - second]).reshape(2, -1)
    assert np.corrcoef(changes)[0, 1] < 0.9


@every_trainer
def test_a_restored_training_goes_on_as_if_never_stopped(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    training = start(trainer, params)
    go_on(training, 2)
    training.keep_best()
    best = go_on(training, 0)
    go_on(training, 1)

    other = start(trainer, params)
    other.from_bytes(training.to_bytes())
    np.testing.assert_array_equal(go_on(other, 0), go_on(training, 0))
    np.testing.assert_array_equal(go_on(other, 3), go_on(training, 3))
    other.load_best()
    np.testing.assert_array_equal(go_on(other, 0), best)


@every_trainer
def test_the_best_model_stays_as_it_was(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    training = start(trainer, params)
    best = go_on(training, 2)
    training.keep_best()
    for _ in range(2):
        assert not np.array_equal(go_on(training, 1), best)
        training.load_best()
        np.testing.assert_array_equal(go_on(training, 0), best)


@every_trainer
def test_a_seed_decides_the_scores(trainer: RecommenderTrainer, params: dict[str, Any]) -> None:
    first, again, other = (go_on(start(trainer, params, seed=s), 3) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("name", ["als", "bpr", "logistic"])
def test_users_get_the_items_of_their_own_cluster(name: str) -> None:
    trainer, params = TRAINERS[name]
    # Two tastes need few factors, which then cannot learn the noise by heart.
    scores = go_on(start(trainer, params | {"factors": 2}), 50)
    assert share_of_own_half(scores[:-1, :-1], TAKEN, OWN) > 0.9


@every_trainer
def test_scores_are_those_of_the_users_asked_for(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    training = start(trainer, params)
    scores = go_on(training, 1)
    asked = training.scores(np.array([7, 3]))
    np.testing.assert_allclose(asked, scores[[7, 3]], rtol=1e-5, atol=1e-6)
    asked[:] = -1
    np.testing.assert_array_equal(training.scores(USERS), scores)


@pytest.mark.parametrize(
    ("trainer", "params"), [(BprImplicit(), BPR), (LogisticMf(), LOGISTIC)], ids=["bpr", "logistic"]
)
def test_a_training_that_reaches_infinity_says_so(
    trainer: RecommenderTrainer, params: dict[str, Any]
) -> None:
    training = start(trainer, params | {"learning_rate": 1e38})
    with pytest.raises(Diverged, match=r"reached NaN or infinity in epoch \d"):
        go_on(training, 3)


def test_als_gives_blas_its_threads_back_and_is_not_warned_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(implicit.utils, "_checked_blas_config", False)
    with threadpool_limits(2, "blas"):
        before = threadpool_info()
        go_on(start(Als(), ALS), 1)
        assert threadpool_info() == before


@pytest.mark.parametrize(
    ("trainer", "params", "message"),
    [
        (Als(), ALS | {"factors": 0}, "`factors` must be 1 or above, got 0."),
        (Als(), ALS | {"alpha": 0}, "`alpha` must be above 0, got 0."),
        (Als(), ALS | {"regularization": -1}, "`regularization` must be 0 or above, got -1."),
        (BprImplicit(), BPR | {"learning_rate": 0.0}, "`learning_rate` must be above 0, got 0.0."),
        (
            BprImplicit(),
            {"factors": 8, "learning_rate": 0.1},
            "`regularization` must be among the parameters, got 'factors', 'learning_rate'.",
        ),
        (LogisticMf(), LOGISTIC | {"neg_prop": 0}, "`neg_prop` must be 1 or above, got 0."),
    ],
)
def test_parameters_out_of_range_are_refused(
    trainer: RecommenderTrainer, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        start(trainer, params)
    assert str(caught.value) == message


@pytest.mark.parametrize("trainer", [Als, LogisticMf])
def test_no_thread_at_all_is_refused(trainer: type[Als] | type[LogisticMf]) -> None:
    with pytest.raises(InvalidArgument, match="`n_threads` must be 1 or above, got 0"):
        trainer(n_threads=0)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    monkeypatch.delitem(sys.modules, "hpolab.recommender.implicit")
    with pytest.raises(MissingExtra, match=r"hpolab\[recommender\]"):
        import_module("hpolab.recommender.implicit")


def test_weights_of_als_are_implicits_confidences():
    rng = np.random.default_rng(0)
    pairs = np.unravel_index(rng.choice(30 * 20, 200, replace=False), (30, 20))
    weights = rng.integers(1, 9, 200)
    train = Interactions.of(*pairs, weights=weights)
    params = {"factors": 4, "regularization": 0.1, "alpha": 2.0}
    training = Als().start(params, train, seed=0, max_epochs=3)
    for _ in range(3):
        training.epoch()
    theirs = AlternatingLeastSquares(
        factors=4, regularization=0.1, alpha=2.0, iterations=3, num_threads=1, random_state=0
    )
    theirs.fit(csr_matrix((weights.astype(np.float32), pairs), (30, 20)), show_progress=False)
    scores = theirs.user_factors @ theirs.item_factors.T
    np.testing.assert_allclose(training.scores(np.arange(30)), scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "params"), [(Als(), ALS), (LogisticMf(), LOGISTIC)], ids=["als", "logistic"]
)
def test_weights_change_the_model(trainer, params):
    rng = np.random.default_rng(0)
    pairs = np.unravel_index(rng.choice(30 * 20, 200, replace=False), (30, 20))
    found = []
    for weights in (None, np.ones(200), rng.integers(1, 9, 200)):
        train = Interactions.of(*pairs, weights=weights)
        training = trainer.start(params, train, seed=0, max_epochs=2)
        training.epoch()
        found.append(training.scores(np.arange(30)))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3
