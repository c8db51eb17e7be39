"""Objectives whose truth is known: what a verdict about them should say can be checked."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab import Confirmation, Objective, SearchSpace, confirm, make_study, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from optuna import Study

    Floats = NDArray[np.float64]
    Score = Callable[[float, np.random.Generator], float]

__all__ = ["Draws", "Rows", "confirmed", "number_of"]

_SPACE = SearchSpace({"x": (0.0, 1.0)}, defaults={"x": 0.5})


def number_of(x: float) -> int:
    """Return a number that seeds what belongs to a configuration."""
    return int(x * 1e6)


class _Untuned(Objective):
    """What tuning sees says nothing of a configuration, so the choice is a random one."""

    def train(self, params: Mapping[str, Any], reporter: Any) -> float:
        return float(np.random.default_rng(reporter.seed % 2**32).normal())


class Draws(_Untuned):
    """One number a seed, drawn by ``score(x, rng)``; the default stands at x = 0.5."""

    def __init__(self, score: Score) -> None:
        super().__init__(search_space=_SPACE, metric="score", direction="maximize", max_steps=1)
        self.score = score

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> float:
        x = params["x"]
        return self.score(x, np.random.default_rng([seed % 2**32, number_of(x)]))

    def evaluate(self, model: float, data: Any) -> dict[str, float]:
        return {"score": float(model)}


class Rows(_Untuned):
    """Classifiers that are each wrong on rows of their own, and on others with another seed.

    Args:
        world: Seeds the test rows.
        n_rows: How many test rows there are.
        own: How much of a row's difficulty is a configuration's own, of 1.
        jitter: How much of it is a training's own, of 1.
        gain: By how much the accuracy of every other configuration is above the default's 0.9.
        group_size: Rows of one group that are equally difficult.
    """

    def __init__(
        self,
        world: int,
        *,
        n_rows: int = 500,
        own: float = 0.15,
        jitter: float = 0.05,
        gain: float = 0.0,
        group_size: int = 1,
    ) -> None:
        super().__init__(search_space=_SPACE, metric="accuracy", direction="maximize", max_steps=1)
        self.world, self.n_rows, self.own, self.jitter = world, n_rows, own, jitter
        self.gain, self.group_size = gain, group_size

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> tuple[float, int]:
        return params["x"], seed

    def margins(self, model: tuple[float, int]) -> Floats:
        """Return (n_rows,) standard normal numbers, small for what the model is right about."""
        x, seed = model
        n_groups = -(-self.n_rows // self.group_size)

        def drawn(*key: int, n: int) -> Floats:
            return np.random.default_rng([self.world, *key]).normal(size=n)

        common = drawn(1, n=n_groups)
        hard = drawn(2, number_of(x), n=n_groups)
        chance = drawn(3, number_of(x), seed % 2**32, n=self.n_rows)
        fixed = np.sqrt(1 - self.own - self.jitter) * common + np.sqrt(self.own) * hard
        repeated: Floats = np.repeat(fixed, self.group_size)[: self.n_rows]
        return repeated + np.sqrt(self.jitter) * chance

    def row_scores(self, model: tuple[float, int], data: Any) -> Floats:
        accuracy = 0.9 + (self.gain if model[0] != 0.5 else 0.0)
        right: Floats = (self.margins(model) < NormalDist().inv_cdf(accuracy)).astype(float)
        return right

    def evaluate(self, model: tuple[float, int], data: Any) -> dict[str, float]:
        return {"accuracy": float(self.row_scores(model, data).mean())}


def confirmed(
    objective: Objective, seed: int, *, n_trials: int = 10, **settings: Any
) -> tuple[Study, Confirmation]:
    """Tune at random and confirm, through the public functions; ten seeds and the best five."""
    study = make_study(
        "case", storage="memory://", objective=objective, sampler="random", seed=seed
    )
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    settings = {"top_k": 5, "n_seeds": 10, "min_seeds": 10, **settings}
    found = confirm(study, objective, test=None, show_progress_bar=False, **settings)
    return study, found
