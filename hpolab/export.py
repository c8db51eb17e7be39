"""A configuration as its trainer reads it, and as text to load or to paste."""

from __future__ import annotations

import json
import pprint
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hpolab.recipe import read_recipe
from hpolab.search_space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "RUN_KEY",
    "as_json",
    "as_overrides",
    "as_python",
    "as_table",
    "as_yaml",
    "trainer_params",
]

RUN_KEY = "hpolab:run"
"""The id of the foreign run that a trial was imported from; its params are the trainer's own."""


def trainer_params(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters in trainer units, where the study's recipe knows its space.

    Those of a study without a space, and of an imported run, are returned as the trial has them.
    """
    recipe = read_recipe(study)
    if recipe is None or recipe.search_space is None or RUN_KEY in trial.user_attrs:
        return dict(trial.params)
    return SearchSpace.from_dict(recipe.search_space).from_trial(trial.params)


def as_yaml(params: Mapping[str, Any]) -> str:
    """Return YAML, in the order of ``params``.

    Example:
        >>> print(as_yaml({"optimizer": "adam", "lr": 1e-05}))
        optimizer: adam
        lr: 1.0e-05
    """
    import yaml

    return str(yaml.safe_dump(dict(params), sort_keys=False)).rstrip()


def as_json(params: Mapping[str, Any]) -> str:
    """Return JSON, in the order of ``params``."""
    return json.dumps(dict(params), indent=2)


def as_python(params: Mapping[str, Any]) -> str:
    """Return a Python literal, in the order of ``params``.

    Example:
        >>> as_python({"optimizer": "adam", "amsgrad": False})
        "{'optimizer': 'adam', 'amsgrad': False}"
    """
    return pprint.pformat(dict(params), sort_dicts=False, width=100)


def as_overrides(
    params: Mapping[str, Any],
    *,
    prefix: str = "",
    prefixes: Mapping[str, str] | None = None,
    digits: int | None = None,
) -> list[str]:
    """Return ``name=value`` for each parameter, as Hydra and its like take them.

    Args:
        params: The configuration.
        prefix: Put before each name that ``prefixes`` does not have.
        prefixes: Whole names in place of some: ``{"lr": "models.optimizer.lr"}``.
        digits: Significant digits of a float, those of 1 - value where it is above 0.9, so that no
            decay rate becomes 1; None for the exact value.

    Example:
        >>> as_overrides(
        ...     {"lr": 0.000513433, "beta2": 0.99948766, "T_max": 24},
        ...     prefixes={"lr": "models.optimizer.lr"}, digits=3,
        ... )
        ['models.optimizer.lr=0.000513', 'beta2=0.999488', 'T_max=24']
    """
    names = {name: f"{prefix}{name}" for name in params} | dict(prefixes or {})
    return [f"{names[name]}={_word(value, digits)}" for name, value in params.items()]


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines whose columns stand below each other.

    Example:
        >>> print(as_table([["name", "value"], ["lr", "0.1"]]))
        name  value
        lr    0.1
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _word(value: Any, digits: int | None) -> str:
    if value is None:
        return "null"
    if digits is not None and isinstance(value, float):
        value = _rounded(value, digits)
    return str(value)


def _rounded(value: float, digits: int) -> float:
    if 0.9 < value < 1:
        # In decimal, so that 1 - 0.000513 is 0.999487 and not a float beside it.
        return float(1 - Decimal(f"{1 - value:.{digits}g}"))
    return float(f"{value:.{digits}g}")
