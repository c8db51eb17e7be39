"""Parameters of LightGBM that it reads under another one alone, and is silent about else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument
from hpolab.lightgbm.names import main_name
from hpolab.search_space.reach import values_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.space import SearchSpace

__all__ = ["BOOSTINGS", "refuse_unread"]

BOOSTINGS = ("dart", "gbdt", "goss", "rf")
"""What a model may be boosted by: values of ``boosting``, and the sampling that was one."""

# Name -> (its default, which changes nothing, and what must hold for it to be read), from
# https://lightgbm.readthedocs.io/en/stable/Parameters.html
_READ_IF: Mapping[str, tuple[Any, str]] = {
    "drop_rate": (0.1, "dart"),
    "max_drop": (50, "dart"),
    "skip_drop": (0.5, "dart"),
    "xgboost_dart_mode": (False, "dart"),
    "uniform_drop": (False, "dart"),
    "drop_seed": (4, "dart"),
    "top_rate": (0.2, "goss"),
    "other_rate": (0.1, "goss"),
    "bagging_fraction": (1.0, "bagging"),
    "pos_bagging_fraction": (1.0, "bagging"),
    "neg_bagging_fraction": (1.0, "bagging"),
    "linear_lambda": (0.0, "linear trees"),
    "fair_c": (1.0, "fair"),
    "poisson_max_delta_step": (0.7, "poisson"),
    "tweedie_variance_power": (1.5, "tweedie"),
}

# What must hold -> how it is said, and (parameter, its default, values of it) of which one will do.
_CONDITIONS: Mapping[str, tuple[str, tuple[tuple[str, Any, Any], ...]]] = {
    "dart": ("'boosting' is 'dart'", (("boosting", "gbdt", ("dart",)),)),
    "goss": (
        "'data_sample_strategy' is 'goss'",
        (("data_sample_strategy", "bagging", ("goss",)), ("boosting", "gbdt", ("goss",))),
    ),
    "bagging": ("'bagging_freq' is 1 or above", (("bagging_freq", 0, None),)),
    "linear trees": ("'linear_tree' is True", (("linear_tree", False, (True,)),)),
    "fair": ("the objective is 'fair'", (("objective", "regression", ("fair",)),)),
    "poisson": ("the objective is 'poisson'", (("objective", "regression", ("poisson",)),)),
    "tweedie": ("the objective is 'tweedie'", (("objective", "regression", ("tweedie",)),)),
}


def refuse_unread(space: SearchSpace, fixed: Mapping[str, Any]) -> None:
    """Refuse a search space with parameters that LightGBM would not read.

    Args:
        space: The search space, under any of LightGBM's names.
        fixed: What is the same in each trial, under LightGBM's main names.

    Raises:
        InvalidArgument: If a trial would have a value that changes nothing.

    Example:
        >>> from hpolab import SearchSpace
        >>> refuse_unread(SearchSpace({"bagging_fraction": (0.5, 1.0)}), {"bagging_freq": 1})
        >>> refuse_unread(SearchSpace({"subsample": (0.5, 1.0)}), {})
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `search_space` must hold names that LightGBM reads, got \
'subsample', which it reads only if 'bagging_freq' is 1 or above: give that in `params` or \
`search_space`, or leave 'subsample' out.
    """
    tuned, defaults = set(space.names().values()), space.defaults()
    for name in space.trainer_names():
        neutral, condition = _READ_IF.get(main_name(name), (None, ""))
        if not condition or (name not in tuned and defaults.get(name, neutral) == neutral):
            continue
        said, ways = _CONDITIONS[condition]
        if not any(_may_hold(space, name, fixed, *way) for way in ways):
            raise InvalidArgument(
                f"`search_space` must hold names that LightGBM reads, got {name!r}, which it reads "
                f"only if {said}: give that in `params` or `search_space`, or leave {name!r} out."
            )


def _may_hold(
    space: SearchSpace, name: str, fixed: Mapping[str, Any], other: str, default: Any, wanted: Any
) -> bool:
    """Tell whether another parameter may have a wanted value wherever a parameter is."""
    alias = next((each for each in space.trainer_names() if main_name(each) == other), None)
    if alias is None:
        beside = [frozenset([fixed.get(other, default)])]
    else:
        beside = list(values_beside(space, alias)[name].values())
    return all(any(_is(value, wanted) for value in values) for values in beside)


def _is(value: Any, wanted: Any) -> bool:
    return value in wanted if wanted is not None else value is not None and value > 0
