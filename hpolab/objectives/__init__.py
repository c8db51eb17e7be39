"""Objectives: callables that take a trial, made of a search space and a trainer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpolab.objectives.base import Objective

if TYPE_CHECKING:
    from hpolab.objectives.function import FunctionObjective
    from hpolab.objectives.lightgbm import FoldModels, LightGBMModel, LightGBMObjective
    from hpolab.objectives.recommender import RecommenderObjective
    from hpolab.objectives.sklearn import SklearnObjective
    from hpolab.objectives.staged import Staged, StagedObjective, Tuned
    from hpolab.objectives.torch import TorchObjective

__all__ = [
    "FoldModels",
    "FunctionObjective",
    "LightGBMModel",
    "LightGBMObjective",
    "Objective",
    "RecommenderObjective",
    "SklearnObjective",
    "Staged",
    "StagedObjective",
    "TorchObjective",
    "Tuned",
]

# Each takes seconds to import, and users of one trainer may not have the others.
_LAZY = {
    "FoldModels": "lightgbm",
    "FunctionObjective": "function",
    "LightGBMModel": "lightgbm",
    "LightGBMObjective": "lightgbm",
    "RecommenderObjective": "recommender",
    "SklearnObjective": "sklearn",
    "Staged": "staged",
    "StagedObjective": "staged",
    "TorchObjective": "torch",
    "Tuned": "staged",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"hpolab.objectives.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
