"""Objectives: callables that take a trial, made of a search space and a trainer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpolab.objectives.base import Objective

if TYPE_CHECKING:
    from hpolab.objectives.lightgbm import FoldModels, LightGBMModel, LightGBMObjective
    from hpolab.objectives.sklearn import SklearnObjective
    from hpolab.objectives.torch import TorchObjective

__all__ = [
    "FoldModels",
    "LightGBMModel",
    "LightGBMObjective",
    "Objective",
    "SklearnObjective",
    "TorchObjective",
]

# Each takes seconds to import, and users of one trainer may not have the others.
_LAZY = {
    "FoldModels": "lightgbm",
    "LightGBMModel": "lightgbm",
    "LightGBMObjective": "lightgbm",
    "SklearnObjective": "sklearn",
    "TorchObjective": "torch",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"hpolab.objectives.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
