"""Boosting: the boosters of all folds, round by round together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.lightgbm.defaults import is_forest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.lightgbm.metrics import Metrics

    ObjectiveFunction = Callable[[Any, lgb.Dataset], tuple[Any, Any]]

__all__ = ["Boosting", "predict_raw", "train_booster"]


class Boosting:
    """Boosters that advance together, one a fold.

    Args:
        pairs: The datasets (train, valid) of each fold.
        settings: LightGBM's parameters.
        metrics: What is evaluated on ``valid``.
        function: The objective's gradient and Hessian, where it is the user's own.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[lgb.Dataset, lgb.Dataset]],
        settings: Mapping[str, Any],
        metrics: Metrics,
        function: ObjectiveFunction | None,
    ) -> None:
        self.n_rounds = 0
        self._metrics = metrics
        self._function = function
        self._boosters = []
        for train, valid in pairs:
            booster = lgb.Booster(dict(settings), train)
            self._boosters.append(booster.add_valid(valid, "valid"))

    def advance_to(self, n_rounds: int) -> dict[str, float]:
        """Train up to ``n_rounds`` in total and return the mean of each metric over the folds."""
        for booster in self._boosters:
            for _ in range(n_rounds - self.n_rounds):
                booster.update(fobj=self._function)
        self.n_rounds = n_rounds
        values = [self._metrics.of(booster) for booster in self._boosters]
        return {name: float(np.mean([each[name] for each in values])) for name in values[0]}

    def has_splits(self) -> bool:
        """Return whether every booster has split its rows, and predicts more than a constant."""
        return all(booster.feature_importance("split").any() for booster in self._boosters)

    def raw_predictions(self, features: Any, n_rounds: int) -> NDArray[np.float64]:
        """Return the mean raw prediction of the folds' boosters after ``n_rounds``."""
        parts = [predict_raw(booster, features, n_rounds) for booster in self._boosters]
        return np.mean(parts, axis=0)  # type: ignore[no-any-return]


def predict_raw(booster: lgb.Booster, features: Any, n_rounds: int) -> NDArray[np.float64]:
    """Return what a booster predicts after ``n_rounds``, before it becomes a probability, say."""
    raw = np.asarray(booster.predict(features, num_iteration=n_rounds, raw_score=True))
    # Of random forests LightGBM takes the mean of the trees, but not in raw predictions.
    return raw / n_rounds if is_forest(booster.params) else raw


def train_booster(
    dataset: lgb.Dataset,
    settings: Mapping[str, Any],
    n_rounds: int,
    function: ObjectiveFunction | None,
) -> lgb.Booster:
    """Return a booster of ``n_rounds``, without its training data."""
    booster = lgb.Booster(dict(settings), dataset)
    for _ in range(n_rounds):
        booster.update(fobj=function)
    return booster.free_dataset()
