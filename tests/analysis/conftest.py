"""Studies to analyze, and an objective to confirm whose scores are known but for noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from hpolab import Objective, SearchSpace, make_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial


SPACE = SearchSpace({"skill": (0.0, 5.0), "kind": ["a", "b"]}, defaults={"skill": 1.0})


class Thrower(Objective):
    """Scores `skill` and noise; what it was asked to fit is kept in `fitted`."""

    def __init__(self, *, noise=0.1, sign=1.0, broken=None):
        direction = "maximize" if sign > 0 else "minimize"
        super().__init__(search_space=SPACE, direction=direction, max_steps=1, metric="points")
        self.noise, self.sign, self.broken = noise, sign, broken or {}
        self.fitted = []

    def train(self, params, reporter):
        return self.sign * self.fit(params, reporter.seed)

    def fit(self, params, seed):
        self.fitted.append((params["skill"], seed))
        error = self.broken.get(params["skill"])
        if (
            error is not None
            and len([1 for skill, _ in self.fitted if skill == params["skill"]]) == 2
        ):
            raise error
        # A seed's luck is partly that of all configurations, as that of initial weights is.
        luck = np.random.default_rng(seed).normal()
        own = np.random.default_rng([seed, round(1000 * params["skill"])]).normal()
        return params["skill"] + self.noise * (luck + own)

    def evaluate(self, model, data):
        return {"points": self.sign * (model + data), "shame": -model}


class Interrupted(Thrower):
    """Is stopped by Ctrl-C after some trainings."""

    def __init__(self, *, after, **settings):
        super().__init__(**settings)
        self.after = after

    def fit(self, params, seed):
        model = super().fit(params, seed)
        if len(self.fitted) > self.after:
            raise KeyboardInterrupt
        return model


@pytest.fixture
def thrower() -> type[Thrower]:
    """The class of an objective whose scores are known but for noise."""
    return Thrower


@pytest.fixture
def interrupted() -> type[Interrupted]:
    """The class of such an objective that Ctrl-C stops."""
    return Interrupted


def _tuned(
    objective, skills=(1.0, 2.0, 3.0), *, storage="memory://", values=None, seed=0, name="throws"
):
    """A study that has tried some skills; values are those given, or the skills themselves."""
    study = make_study(name, storage=storage, objective=objective, sampler="random", seed=seed)
    for skill, value in zip(skills, values or [objective.sign * s for s in skills], strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params={"skill": skill, "kind": "a"},
                distributions=SPACE.distributions(),
                value=value,
            )
        )
    return study


@pytest.fixture
def tuned() -> Callable[..., optuna.Study]:
    """Returns a study that has tried some skills."""
    return _tuned


def _trainings(study, name="throws-confirm"):
    return optuna.load_study(study_name=name, storage=study._storage).get_trials(deepcopy=False)


@pytest.fixture
def trainings() -> Callable[..., list[FrozenTrial]]:
    """Returns the trials of a study's confirmation."""
    return _trainings


RANGES = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 8),
    "optimizer": CategoricalDistribution(["adam", "sgd", "lion"]),
}


def _study_of(values, params, *, ranges=RANGES, direction="maximize", states=()):
    """Return a study of given trials, and others of given states."""
    study = optuna.create_study(direction=direction)
    for value, each in zip(values, params, strict=True):
        distributions = {name: ranges[name] for name in each}
        study.add_trial(create_trial(value=value, params=each, distributions=distributions))
    for state in states:
        study.add_trial(create_trial(state=state))
    return study


@pytest.fixture
def study_of() -> Callable[..., optuna.Study]:
    """Returns a study of given values and params."""
    return _study_of


def _draw(n: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "lr": float(10 ** rng.uniform(-4, -1)),
            "layers": int(rng.integers(1, 9)),
            "optimizer": str(rng.choice(["adam", "sgd", "lion"])),
        }
        for _ in range(n)
    ]


@pytest.fixture
def draw() -> Callable[..., list[dict]]:
    """Draws params."""
    return _draw


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 1]).normal(scale=0.1, size=n)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Draws noise, one number a trial."""
    return _noise


def _planted(params: list[dict], seed: int = 0) -> list[float]:
    """Return values that lr alone decides, but for noise."""
    gains = [-0.5 * abs(np.log10(each["lr"]) + 2) for each in params]
    return (np.array(gains) + _noise(len(params), seed)).tolist()


@pytest.fixture
def planted() -> Callable[..., list[float]]:
    """Returns values that lr alone decides, but for noise."""
    return _planted


RANGES_OF_ROWS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "dropout": FloatDistribution(0.0, 0.8, step=0.1),
    "layers": IntDistribution(1, 9),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
}


def _study_of_rows(rows, *, direction="maximize"):
    """Return a study of (value, params) rows."""
    study = optuna.create_study(direction=direction)
    for value, params in rows:
        distributions = {name: RANGES_OF_ROWS[name] for name in params}
        study.add_trial(create_trial(value=value, params=params, distributions=distributions))
    return study


@pytest.fixture
def study_of_rows() -> Callable[..., optuna.Study]:
    """Returns a study of (value, params) rows."""
    return _study_of_rows


def _plateau_and_peak(direction="maximize"):
    """Return a study with a plateau of 0.9 about lr 1e-3 and one run of 0.95 among bad ones."""
    sign = 1 if direction == "maximize" else -1
    rng = np.random.default_rng(0)
    plateau = [(0.9, 10**e) for e in rng.uniform(-3.3, -2.7, 12)]
    slope = [(0.6, 10**e) for e in rng.uniform(-1.0, 0.0, 10)]
    rows = [*plateau, *slope, (0.95, 10**-0.5)]
    return _study_of_rows(
        [(sign * (v + rng.normal(scale=0.005)), {"lr": float(lr)}) for v, lr in rows],
        direction=direction,
    )


@pytest.fixture
def plateau_and_peak() -> Callable[..., optuna.Study]:
    """Returns a study with a plateau of good runs and one better run among bad ones."""
    return _plateau_and_peak
