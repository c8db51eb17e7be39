"""LightGBM objectives."""

from hpolab.errors import MissingExtra

try:
    import lightgbm as _lightgbm  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise MissingExtra("`LightGBMObjective`", "LightGBM", "lightgbm") from None

from hpolab.objectives.lightgbm.model import FoldModels, LightGBMModel
from hpolab.objectives.lightgbm.objective import LightGBMObjective

__all__ = ["FoldModels", "LightGBMModel", "LightGBMObjective"]
