"""Search spaces: ranges with defaults and sources, and the optimizers and schedules they tune."""

from __future__ import annotations

from hpolab.search_space.build import build_optimizer, build_schedule
from hpolab.search_space.lightgbm import (
    LIGHTGBM_ORDER,
    LIGHTGBM_PRESETS,
    LIGHTGBM_STAGES,
    lightgbm_space,
)
from hpolab.search_space.optimizers import OPTIMIZERS as _optimizers
from hpolab.search_space.optimizers import optimizer_space
from hpolab.search_space.recommender import (
    RECOMMENDER_LOSSES,
    RECOMMENDERS,
    recommender_space,
)
from hpolab.search_space.schedules import SCHEDULES as _schedules
from hpolab.search_space.schedules import schedule_space
from hpolab.search_space.sklearn import ESTIMATORS as _estimators
from hpolab.search_space.sklearn import estimator_space
from hpolab.search_space.space import SearchSpace

__all__ = [
    "ESTIMATORS",
    "LIGHTGBM_ORDER",
    "LIGHTGBM_PRESETS",
    "LIGHTGBM_STAGES",
    "OPTIMIZERS",
    "RECOMMENDERS",
    "RECOMMENDER_LOSSES",
    "SCHEDULES",
    "SearchSpace",
    "build_optimizer",
    "build_schedule",
    "estimator_space",
    "lightgbm_space",
    "optimizer_space",
    "recommender_space",
    "schedule_space",
]

ESTIMATORS: tuple[str, ...] = tuple(_estimators)
"""The scikit-learn classes that `estimator_space` knows."""

OPTIMIZERS: tuple[str, ...] = tuple(_optimizers)
"""The names that `optimizer_space` knows."""

SCHEDULES: tuple[str, ...] = tuple(_schedules)
"""The names that `schedule_space` knows."""
