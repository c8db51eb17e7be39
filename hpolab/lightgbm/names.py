"""The names of LightGBM's parameters: one spelling each, and which of them are for what."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

# Of LightGBM's Python package only this private class has the table of aliases, which the
# compiled library keeps; it has been the same since 3.0.
from lightgbm.basic import _ConfigAliases

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.lightgbm.values import read_value

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["all_names", "canonical", "main_name", "of_bins", "of_objective"]

# What LightGBM refuses to change once a Dataset is binned (`LGBM_DatasetUpdateParamChecking` in
# its c_api.cpp), as far as it is about the bins and not about reading files.
_BIN_PARAMS = frozenset(
    {
        "bin_construct_sample_cnt",
        "enable_bundle",
        "forcedbins_filename",
        "is_enable_sparse",
        "linear_tree",
        "max_bin",
        "max_bin_by_feature",
        "min_data_in_bin",
        "use_missing",
        "zero_as_missing",
    }
)

# What LightGBM's objectives and metrics read: "Objective Parameters" and "Metric Parameters" of
# https://lightgbm.readthedocs.io/en/stable/Parameters.html
_OBJECTIVE_PARAMS = frozenset(
    {
        "alpha",
        "auc_mu_weights",
        "boost_from_average",
        "eval_at",
        "fair_c",
        "is_unbalance",
        "label_gain",
        "lambdarank_norm",
        "lambdarank_position_bias_regularization",
        "lambdarank_truncation_level",
        "metric",
        "multi_error_top_k",
        "num_class",
        "objective",
        "objective_seed",
        "poisson_max_delta_step",
        "reg_sqrt",
        "scale_pos_weight",
        "sigmoid",
        "tweedie_variance_power",
    }
)

# What the objective decides: name -> the argument that says it.
_MANAGED = {
    "objective": "the argument `objective`",
    "metric": "the argument `metric`",
    "num_iterations": "the argument `max_rounds` and early stopping",
    "early_stopping_round": "the argument `patience`",
    "num_class": "the labels",
    "seed": "the trial",
    "data_random_seed": "the objective, so that trials share their bins",
    "categorical_feature": "the argument `categorical`",
    "feature_pre_filter": "the objective, as trials share their bins",
    "verbosity": "the objective",
}


def canonical(
    argument: str,
    params: Mapping[str, Any],
    *,
    allowed: Collection[str] = (),
    strict: bool = True,
) -> dict[str, Any]:
    """Return parameters under LightGBM's main names, their values as LightGBM reads them.

    Args:
        argument: The argument's name, for messages.
        params: Name or alias -> value.
        allowed: Parameters that the objective usually decides, but that are allowed here.
        strict: Whether a parameter that the objective decides is an error; otherwise it is left
            out.

    Raises:
        InvalidArgument: If a name is unknown to LightGBM, one comes twice, the objective decides
            it, or LightGBM would read another value.
        InvalidType: If ``params`` is no mapping, or LightGBM takes no such value.
    """
    if not isinstance(params, Mapping):
        raise InvalidType(f"`{argument}` must be a mapping, got {type(params).__name__}.")
    main_names = _main_names()
    found: dict[str, Any] = {}
    for name, value in params.items():
        if name not in main_names:
            near = get_close_matches(name, main_names, n=1, cutoff=0.5)
            hint = f" Did you mean {main_names[near[0]]!r}?" if near else ""
            raise InvalidArgument(
                f"`{argument}` must hold parameters of LightGBM, got {name!r}.{hint}"
            )
        main = main_names[name]
        if main in _MANAGED and main not in allowed:
            if not strict:
                continue
            raise InvalidArgument(
                f"`{argument}` must leave {name!r} out, which is decided by {_MANAGED[main]}, got "
                f"{value!r}."
            )
        if main in found:
            raise InvalidArgument(f"`{argument}` must give {main!r} once, got {name!r} besides.")
        found[main] = read_value(argument, main, value)
    return found


def main_name(name: str) -> str:
    """Return LightGBM's main name of a parameter; a name that it does not know stays as it is."""
    return _main_names().get(name, name)


def all_names() -> frozenset[str]:
    """Return every name of LightGBM's parameters, aliases included."""
    return frozenset(_main_names())


def of_bins(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canonical parameters that shape the bins."""
    return {name: value for name, value in params.items() if name in _BIN_PARAMS}


def of_objective(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canonical parameters that LightGBM's objectives and metrics read."""
    return {name: value for name, value in params.items() if name in _OBJECTIVE_PARAMS}


@cache
def _main_names() -> dict[str, str]:
    """Return every name of LightGBM's -> its main name."""
    _ConfigAliases.get("num_iterations")  # fills the table
    table = _ConfigAliases.aliases or {}
    return {alias: main for main, aliases in table.items() for alias in (main, *aliases)}
