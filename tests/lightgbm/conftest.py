"""Small objectives, and what their trials are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sklearn.datasets import load_breast_cancer

from hpolab import LightGBMObjective, SearchSpace, make_study, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial


X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :12]
SPACE = SearchSpace(
    {
        "learning_rate": (0.05, 0.3),
        "num_leaves": (3, 30),
        "feature_fraction": (0.4, 1.0),
        "bagging_fraction": (0.4, 1.0),
        "bagging_freq": 1,
    }
)


@pytest.fixture(scope="session")
def make() -> Callable[..., LightGBMObjective]:
    """Make an objective, of two classes if no other data is given."""
    return objective_of


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """Run a study of an objective, given the number of trials."""
    return run_study


@pytest.fixture(scope="session")
def trials_of() -> Callable[..., list[FrozenTrial]]:
    """Return the trials of a study of an objective."""
    return run_trials


@pytest.fixture(scope="session")
def value() -> Callable[..., float]:
    """Return the value of one training of an objective, given params."""
    return train


def objective_of(train: Any = (X, Y), **options: Any) -> LightGBMObjective:
    settings: dict[str, Any] = {"objective": "binary", "max_rounds": 30, "search_space": SPACE}
    return LightGBMObjective(train, **settings | options)


def run_study(objective: LightGBMObjective, n_trials: int, **options: Any) -> Study:
    settings = {"storage": "memory://", "sampler": "random", "pruner": "none", "seed": 0}
    study = make_study("s", direction=objective.direction, **settings | options)
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


def run_trials(objective: LightGBMObjective, n_trials: int = 3) -> list[FrozenTrial]:
    return run_study(objective, n_trials).trials


def train(objective: LightGBMObjective, **params: Any) -> float:
    return objective.train(params, objective.reporter(seed=1))
