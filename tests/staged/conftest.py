"""A training that predicts with noise, its objective, and studies of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest

from hpolab import SearchSpace, StagedObjective, make_study, run

SPACE = SearchSpace({"noise": (0.1, 1.0)}, defaults={"noise": 0.5})
POST = SearchSpace({"threshold": (-1.0, 2.0)}, defaults={"threshold": 0.0})
TRUTH = np.arange(300) % 2
ROWS = {"tune": slice(0, 100), "score": slice(100, 200), "test": slice(200, 300)}


@pytest.fixture
def noisy():
    """A training that counts how often it was run."""
    return Noisy()


@pytest.fixture(scope="session")
def accuracy():
    """Score predictions with a threshold on a part."""
    return accuracy_of


@pytest.fixture(scope="session")
def make():
    """Make an objective, of a training and a score if they are given."""
    return make_objective


@pytest.fixture(scope="session")
def run_study():
    """Run a study of an objective."""
    return run_a_study


@pytest.fixture(scope="session")
def studies_of():
    """Return the names of all studies in a study's storage."""
    return names_in


class Noisy:
    """Predicts the truth with noise, and counts how often it does."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Any]] = []

    def __call__(self, params, reporter, shift=0.0):
        self.trained.append(dict(params))
        for step in reporter.steps(3):
            reporter.report(step, step)
        noise = np.random.default_rng(reporter.seed).normal(size=len(TRUTH))
        return TRUTH + params["noise"] * noise + shift


def accuracy_of(predictions, post_params, part):
    said = predictions[ROWS[part]] > post_params["threshold"]
    return float((said == TRUTH[ROWS[part]]).mean())


def make_objective(train=None, score=accuracy_of, **settings):
    settings = {
        "search_space": SPACE,
        "post_space": POST,
        "direction": "maximize",
        "max_steps": 3,
        "n_post_trials": 12,
        **settings,
    }
    return StagedObjective(train or Noisy(), score, **settings)


def run_a_study(objective, n_trials=3, *, storage="memory://", **settings):
    study = make_study("s", storage=storage, objective=objective, seed=0, pruner="none")
    run(study, objective, n_trials=n_trials, show_progress_bar=False, **settings)
    return study


def names_in(study):
    return sorted(optuna.get_all_study_names(study._storage))
