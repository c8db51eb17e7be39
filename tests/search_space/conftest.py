"""Search spaces of each kind: flat, with branches, with branches in branches."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from hpolab import SearchSpace


def make_flat() -> SearchSpace:
    return SearchSpace(
        {
            "lr": FloatDistribution(1e-4, 1e-2, log=True),
            "beta2": (0.99, 0.9999),
            "hidden": (16, 256),
            "dropout": (0.0, 0.5),
            "activation": ["relu", "gelu", None],
            "epochs": 10,
        },
        defaults={"lr": 1e-3, "beta2": 0.999},
        sources={"lr": "a paper"},
        one_minus=["beta2"],
    )


def make_branched() -> SearchSpace:
    adam = SearchSpace(
        {"optimizer": "adam", "lr": (1e-4, 1e-2), "beta": (0.8, 0.95), "eps": 1e-8},
        defaults={"lr": 1e-3, "beta": 0.9},
        one_minus=["beta"],
    )
    sgd = SearchSpace({"optimizer": "sgd", "lr": (1e-3, 1.0, "linear")}, sources={"lr": "a rule"})
    return SearchSpace.choice("optimizer", {"adam": adam, "sgd": sgd})


def make_nested() -> SearchSpace:
    inner = SearchSpace.choice(
        "norm", {"batch": SearchSpace({"momentum": (0.0, 0.5)}), "none": SearchSpace({})}
    )
    outer = SearchSpace.choice("model", {"cnn": inner | SearchSpace({"depth": (1, 4)})})
    return outer | SearchSpace({"seed": 3, "width": IntDistribution(8, 512, log=True)})


SPACES = {
    "empty": SearchSpace({}),
    "flat": make_flat(),
    "branched": make_branched(),
    "nested": make_nested(),
    "stepped": SearchSpace(
        {
            "width": IntDistribution(8, 64, step=8),
            "rate": FloatDistribution(0.1, 0.9, step=0.2),
            "old": [True, False],
        }
    ),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    """Each space in turn; with ``indirect`` the one of a name, or the one given."""
    return SPACES[request.param] if isinstance(request.param, str) else request.param


@pytest.fixture
def flat() -> SearchSpace:
    return SPACES["flat"]


@pytest.fixture
def branched() -> SearchSpace:
    return SPACES["branched"]


@pytest.fixture
def nested() -> SearchSpace:
    return SPACES["nested"]
