"""Recommenders: interactions and their splits, ranking metrics, trainers, and the objective."""

from __future__ import annotations

from hpolab.objectives.recommender.features import Features
from hpolab.objectives.recommender.interactions import Interactions
from hpolab.objectives.recommender.objective import Recommender, RecommenderObjective
from hpolab.objectives.recommender.ranking import (
    RANKING_METRICS,
    Estimate,
    Ranking,
    RankingTask,
)
from hpolab.objectives.recommender.splits import (
    Splits,
    leave_last_out,
    split_by_time,
    split_users_by_ratio,
)
from hpolab.objectives.recommender.trainer import Trainer, Training

__all__ = [
    "RANKING_METRICS",
    "Estimate",
    "Features",
    "Interactions",
    "Ranking",
    "RankingTask",
    "Recommender",
    "RecommenderObjective",
    "Splits",
    "Trainer",
    "Training",
    "leave_last_out",
    "split_by_time",
    "split_users_by_ratio",
]
