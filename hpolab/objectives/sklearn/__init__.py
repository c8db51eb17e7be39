"""SklearnObjective and what it is made of."""

from __future__ import annotations

from hpolab.errors import MissingExtra

try:
    import sklearn  # noqa: F401
except ImportError:
    raise MissingExtra("`SklearnObjective`", "scikit-learn", "sklearn") from None

from hpolab.objectives.sklearn.objective import SklearnObjective

__all__ = ["SklearnObjective"]
