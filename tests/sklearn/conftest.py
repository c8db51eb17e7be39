"""Trials of one objective, what they reported, and the rows that they fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from threadpoolctl import threadpool_limits

from hpolab import SearchSpace, SklearnObjective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from optuna import Study
    from optuna.trial import FrozenTrial


NOTHING = SearchSpace({})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that spin for each other cost more than models of this size."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def run_trial() -> Callable[..., FrozenTrial]:
    """Return the trial of an objective, with given or default params."""
    return trial_of


@pytest.fixture(scope="session")
def plain_study() -> Callable[..., Study]:
    """Make a study as a user of Optuna alone does."""
    return study_of_optuna


@pytest.fixture(scope="session")
def reports() -> Callable[[FrozenTrial], list[float]]:
    """Return what a trial reported."""
    return reports_of


@pytest.fixture(scope="session")
def fits_of() -> Callable[..., list[list[int]]]:
    """Return the rows of each fit of a trial on data whose inputs are their numbers."""
    return rows_of_fits


def trial_of(objective: SklearnObjective, params: Mapping[str, Any] | None = None) -> FrozenTrial:
    """The trial of given or default params, by the user of Optuna alone."""
    study = study_of_optuna()
    params = objective.search_space.defaults() | (params or {})
    study.enqueue_trial(objective.search_space.to_trial(params))
    study.optimize(objective, n_trials=1)
    return study.trials[0]


def study_of_optuna(**options: Any) -> Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(direction="maximize", sampler=sampler, **options)


def reports_of(trial: FrozenTrial) -> list[float]:
    return list(trial.intermediate_values.values())


class Recorder(ClassifierMixin, BaseEstimator):
    """Knows the rows it was fitted on: inputs hold their numbers."""

    fits: list[list[int]] = []  # noqa: RUF012

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def fit(self, X: Any, y: Any) -> Self:
        self.classes_ = np.unique(y)
        Recorder.fits.append(X[:, 0].tolist())
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])


def rows_of_fits(train: tuple[Any, Any], **options: Any) -> list[list[int]]:
    Recorder.fits = []
    trial_of(SklearnObjective(Recorder(), train, search_space=NOTHING, **options))
    return Recorder.fits
