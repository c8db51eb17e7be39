"""The search space that fits the parameters that are the same in all trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.lightgbm.space import lightgbm_space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.space import SearchSpace

__all__ = ["default_space", "is_forest"]

# The share of distinct rows in a bootstrap sample, 1 - 1/e: what Breiman's forests draw.
_BOOTSTRAP = 0.632
_SAMPLED = (0.4, 0.95)


def is_forest(params: Mapping[str, Any]) -> bool:
    """Return whether canonical parameters make a random forest."""
    return params.get("boosting") in ("rf", "random_forest")


def default_space(n_rows: int, fixed: Mapping[str, Any]) -> SearchSpace:
    """Return LightGBM's space without what is fixed, and what it makes void or impossible.

    Args:
        n_rows: Rows of the training data.
        fixed: Canonical name -> value, the same in all trials.
    """
    space = lightgbm_space(n_rows=n_rows)
    changes: dict[str, Any] = {}
    by_gradient = "goss" in (fixed.get("boosting"), fixed.get("data_sample_strategy"))
    bags = fixed.get("bagging_freq", 1) > 0 and fixed.get("bagging_fraction", 0.5) < 1
    if by_gradient:
        # It is a way of sampling rows itself, and LightGBM refuses both.
        changes = {"bagging_fraction": 1.0, "bagging_freq": 0}
    elif not bags:
        changes = {"bagging_fraction": 1.0}  # any would be void
    if is_forest(fixed):
        changes["learning_rate"] = 0.1  # not read: trees are averaged
        if not by_gradient:
            # Without a sample all trees are one, which LightGBM refuses.
            sampled = "bagging_fraction" if bags else "feature_fraction"
            space = space.override(**{sampled: _BOOTSTRAP})
            changes[sampled] = _SAMPLED
    changes |= {name: value for name, value in fixed.items() if name in space.defaults()}
    return space.override(**changes)
