"""A configuration as its trainer reads it, and as text to load or to paste."""

from __future__ import annotations

import json
import math
import pprint
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna import Study
from optuna.trial import BaseTrial

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.space import SearchSpace
from hpolab.studies.hydra import check_key, value_word
from hpolab.studies.imported import RUN_KEY
from hpolab.studies.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from optuna.trial import FrozenTrial

__all__ = [
    "POST_KEY",
    "as_json",
    "as_overrides",
    "as_python",
    "as_yaml",
    "delivered_params",
    "in_short",
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


@checks_keywords()
def as_yaml(params: Mapping[str, Any]) -> str:
    """Return YAML, in the order of ``params``; every reader of YAML tells its texts from numbers.

    Raises:
        InvalidType: If ``params`` is no dict, or a value is no text, number, bool, None, nor a list
            or dict of them.

    Example:
        >>> print(as_yaml({"optimizer": "adam", "lr": 1e-05, "epsilon": "1e-8"}))
        optimizer: adam
        lr: 1.0e-05
        epsilon: '1e-8'
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        # PyYAML knows the rules of YAML 1.1, where 1e-8 is a text; in 1.2, and in Hydra, it is not.
        style = "'" if _is_number(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(_plain(_checked(params)), Dumper=Dumper, sort_keys=False)).rstrip()


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


@checks_keywords()
def as_json(params: Mapping[str, Any]) -> str:
    """Return JSON, in the order of ``params``.

    Raises:
        InvalidType: If ``params`` is no dict, or a value is no text, number, bool, None, nor a list
            or dict of them.
    """
    return json.dumps(_plain(_checked(params)), indent=2)


@checks_keywords()
def as_python(params: Mapping[str, Any]) -> str:
    """Return a Python literal, in the order of ``params``.

    Example:
        >>> as_python({"optimizer": "adam", "amsgrad": False})
        "{'optimizer': 'adam', 'amsgrad': False}"
    """
    return pprint.pformat(_literal(_checked(params)), sort_dicts=False, width=100)


@checks_keywords()
def as_overrides(
    params: Mapping[str, Any],
    *,
    prefix: str = "",
    prefixes: Mapping[str, str | None] | None = None,
    digits: int | None = None,
) -> list[str]:
    """Return ``name=value`` for each parameter, in Hydra's grammar: arguments of a program.

    A text that Hydra would read as something else is quoted: ``layers="64,32"``. A shell takes
    quotes for its own, so for a line of a shell join them by ``shlex.join``.

    Args:
        params: The configuration.
        prefix: Put before each name that ``prefixes`` does not have.
        prefixes: Whole names in place of some: ``{"lr": "models.optimizer.lr"}``; None leaves one
            out.
        digits: Significant digits of a float, those of 1 - value where it is above 0.9, so that no
            decay rate becomes 1; None for the exact value.

    Raises:
        InvalidArgument: If a name or a value cannot be written as an override, or two parameters
            have one name.
        InvalidType: If ``params`` is no dict, or a value is no text, number, bool, None, nor a list
            or dict of them.

    Example:
        >>> as_overrides(
        ...     {"lr": 0.000513433, "beta2": 0.99948766, "T_max": 24},
        ...     prefixes={"lr": "models.optimizer.lr"}, digits=3,
        ... )
        ['models.optimizer.lr=0.000513', 'beta2=0.999488', 'T_max=24']
    """
    given = dict(prefixes or {})
    words: dict[str, str] = {}
    for name, value in _checked(params).items():
        key = given.get(name, f"{prefix}{name}")
        if key is None:
            continue
        check_key(name, prefix=prefix, given=given.get(name))
        if key in words:
            raise InvalidArgument(
                f"`prefixes` must give each parameter a name of its own, got {key!r} for two."
            )
        words[key] = value_word(_rounded(value, digits))
    return [f"{key}={word}" for key, word in words.items()]


def in_short(params: Mapping[str, Any], *, digits: int) -> str:
    """Return a configuration on one line, for a reader: rounded, and in no program's grammar.

    Example:
        >>> in_short({"optimizer": "my adam", "lr": 0.00123456}, digits=3)
        'optimizer=my adam, lr=0.00123'
    """
    return ", ".join(f"{name}={_rounded(value, digits)}" for name, value in params.items())


def _checked(params: Any) -> dict[str, Any]:
    """Refuse what holds a configuration instead of being one, and say where it has it."""
    if isinstance(params, Mapping):
        return dict(params)
    kind = type(params).__name__
    advice = ""
    if isinstance(params, Study):
        advice = ": `recommend(study).best.params` are its best trial's in the trainer's units"
    elif isinstance(params, BaseTrial):  # whose own params are as the study stores them
        advice = ": `objective.params_of(trial)` gives its params in the trainer's units"
    elif hasattr(params, "to_overrides"):
        advice = ": it writes itself by `to_overrides`, `to_yaml`, `to_json` and `to_python`"
    elif isinstance(getattr(params, "params", None), Mapping):
        advice = f": give the params of the {kind}, `.params`"
    raise InvalidType(f"`params` must be a dict of name -> value, got {kind}{advice}.")


def _read_yaml(path: str | PathLike[str]) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_loader())
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
    return here


def _loader() -> Any:
    """Return PyYAML's safe loader with the rules in which Hydra differs from YAML 1.1."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            doubled = [name for name in names if names.count(name) > 1]
            if doubled:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{doubled[0]!r} stands there twice", node.start_mark
                )
            return dict(super().construct_mapping(node, deep))

    # In the place of the loader's own table, which the subclass would share: dates are texts.
    Loader.yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789."))
    return Loader


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return re.fullmatch(r"0[ob][0-7_]+", text) is not None
    return True


def _plain(value: Any) -> Any:
    """Return a value made of what every notation knows."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return str(value) if isinstance(value, str) else [_plain(each) for each in value]
    if isinstance(value, bool | int | float):
        return int(value) if isinstance(value, int) else float(value)
    raise InvalidType(
        "A configuration must be of text, numbers, bools, None, and lists and dicts of them, got "
        f"{type(value).__name__}."
    )


def _literal(value: Any) -> Any:
    """Return a value whose ``repr`` is Python that gives it back."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return _NotFinite(value)
    if isinstance(value, dict):
        return {name: _literal(each) for name, each in value.items()}
    return type(value)(map(_literal, value)) if type(value) in (list, tuple) else value


class _NotFinite(float):
    """A float that Python has no literal for."""

    def __repr__(self) -> str:
        return f'float("{float(self)}")'


def _rounded(value: Any, digits: int | None) -> Any:
    if digits is None or not isinstance(value, float) or not math.isfinite(value):
        return value
    if 0.9 < value < 1:
        # In decimal, so that 1 - 0.000513 is 0.999487 and not a float beside it.
        return float(1 - Decimal(f"{1 - value:.{digits}g}"))
    return float(f"{value:.{digits}g}")
