"""A configuration as its trainer reads it, and as text to load or to paste."""

from __future__ import annotations

import json
import pprint
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.space import SearchSpace
from hpolab.studies.imported import RUN_KEY
from hpolab.studies.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "POST_KEY",
    "as_json",
    "as_overrides",
    "as_python",
    "as_yaml",
    "delivered_params",
    "params_of_yaml",
    "trainer_params",
]

POST_KEY = "hpolab:post_params"
"""The post-processing parameters that a StagedObjective scored a trial with: part -> params."""

# YAML 1.1 wants a point and a sign in a float with an exponent: 4.0e-4 or 4.0e+4.
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*\.?[0-9]*[eE][-+]?[0-9]+")


def trainer_params(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters in trainer units, where the study's recipe knows its space.

    Those of a study without a space, and of an imported run, are returned as the trial has them.
    """
    recipe = read_recipe(study)
    if recipe is None or recipe.search_space is None or RUN_KEY in trial.user_attrs:
        return dict(trial.params)
    return SearchSpace.from_dict(recipe.search_space).from_trial(trial.params)


def delivered_params(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters with the post-processing ones that were tuned for it.

    A cross-fit tunes several sets, each for a part of the data: none of them is returned, and
    `StagedObjective.tune` finds the one to deliver.
    """
    tuned = trial.user_attrs.get(POST_KEY, {})
    return trainer_params(study, trial) | (next(iter(tuned.values())) if len(tuned) == 1 else {})


def as_yaml(params: Mapping[str, Any]) -> str:
    """Return YAML, in the order of ``params``.

    Example:
        >>> print(as_yaml({"optimizer": "adam", "lr": 1e-05}))
        optimizer: adam
        lr: 1.0e-05
    """
    import yaml

    return str(yaml.safe_dump(dict(params), sort_keys=False)).rstrip()


@checks_keywords()
def params_of_yaml(
    path: str | PathLike[str], names: Iterable[str], *, prefixes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a configuration from a YAML file, such as a trainer's with its defaults.

    Args:
        path: The file. What it has in sections is named by their path, ``models.optimizer.lr``.
        names: The parameters to read.
        prefixes: Parameter -> what the file calls it: ``{"lr": "models.optimizer.lr"}``; others
            stand under their own names.

    Returns:
        Parameter -> value, in the order of ``names``. Numbers such as ``4e-4``, which YAML 1.1
        takes for text, are numbers, as Hydra reads them.

    Raises:
        InvalidArgument: If there is no such file, it is no YAML of names and values, it lacks a
            parameter, or has an interpolation (``${...}``) or a section in its place.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "config.yaml")
        ...     _ = path.write_text("models: {optimizer: {lr: 4e-4}}")
        ...     params_of_yaml(path, ["lr"], prefixes={"lr": "models.optimizer.lr"})
        {'lr': 0.0004}
    """
    root = _read_yaml(path)
    known = list(names)
    for name in prefixes or {}:
        one_of("prefixes", name, known)
    return {name: _found(root, (prefixes or {}).get(name, name), path) for name in known}


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


@checks_keywords()
def as_overrides(
    params: Mapping[str, Any],
    *,
    prefix: str = "",
    prefixes: Mapping[str, str | None] | None = None,
    digits: int | None = None,
) -> list[str]:
    """Return ``name=value`` for each parameter, as Hydra and its like take them.

    Args:
        params: The configuration.
        prefix: Put before each name that ``prefixes`` does not have.
        prefixes: Whole names in place of some: ``{"lr": "models.optimizer.lr"}``; None leaves one
            out.
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
    return [
        f"{names[name]}={_word(value, digits)}"
        for name, value in params.items()
        if names[name] is not None
    ]


def _read_yaml(path: str | PathLike[str]) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidArgument(f"`{path}` must be a YAML file that can be read: {error}") from error
    if not isinstance(read, dict):
        raise InvalidArgument(
            f"`{path}` must be a YAML file of names and values, got a {type(read).__name__}."
        )
    return read


def _found(root: Mapping[str, Any], address: str, path: str | PathLike[str]) -> Any:
    """Return what stands in nested sections under ``models.optimizer.lr``."""
    here: Any = root
    for place, part in enumerate(address.split(".")):
        if not isinstance(here, dict) or part not in here:
            above = ".".join(address.split(".")[:place]) or "its top"
            has = ", ".join(map(repr, here)) or "nothing" if isinstance(here, dict) else repr(here)
            raise InvalidArgument(f"`{path}` must have {address!r}, got {has} at {above}.")
        here = here[part]
    if isinstance(here, dict) or (isinstance(here, str) and "${" in here):
        raise InvalidArgument(
            f"`{path}` must have a plain value at {address!r}, got {here!r}: give a file with its "
            "interpolations resolved, such as `--cfg job --resolve` prints."
        )
    return float(here) if isinstance(here, str) and _EXPONENT.fullmatch(here) else here


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
