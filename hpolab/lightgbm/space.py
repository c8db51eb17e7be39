"""LightGBM's search spaces, under LightGBM's own parameter names.

Nothing here imports LightGBM: a space is distributions, and what trains with it is an objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import IntDistribution

from hpolab.errors import check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.search_space.prior import Prior
from hpolab.search_space.rows import Row, space_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpolab.search_space.space import SearchSpace

__all__ = ["LIGHTGBM_PRESETS", "LIGHTGBM_STAGES", "lightgbm_space"]

_DEFAULT = "default: LightGBM's (Parameters page)"
_LOWER_END = "default: the lower end, as LightGBM's own, 0, is not on a log scale"
_TUNING = "LightGBM's Parameters Tuning page"
_TUNER = "optuna-integration's LightGBMTuner"
_FLAML = "FLAML's LGBMEstimator.search_space (flaml/automl/model.py)"
_TABARENA = "TabArena's space for LightGBM (Erickson et al. 2025, arXiv:2506.16791)"
# The median and the spread of the thirteen configurations of LightGBM that were learned from 200
# tables (AutoGluon's zeroshot_portfolio_2023.py).
_TABREPO = "TabRepo's portfolio (Salinas & Erickson 2024, arXiv:2311.02971)"
_NUM_LEAVES_PRIOR = Prior(127, 2.7, _TABREPO)
_MIN_DATA_IN_LEAF_PRIOR = Prior(14, 2.3, _TABREPO)
_FEATURE_FRACTION_PRIOR = Prior(0.62, 0.18, _TABREPO)

LIGHTGBM_STAGES: tuple[tuple[str | tuple[str, ...], int, str], ...] = (
    ("feature_fraction", 7, "grid"),
    ("num_leaves", 20, "tpe"),
    ("bagging_fraction", 10, "tpe"),
    ("feature_fraction", 6, "bisect"),
    (("lambda_l1", "lambda_l2"), 20, "tpe"),
    ("min_data_in_leaf", 5, "grid"),
)
"""LightGBMTuner's order of parameters with its trials for each, for `StepwiseSampler(stages=...)`.

Source: optuna_integration/lightgbm/_lightgbm_tuner/optimize.py, version 5, ``run`` and the
``tune_...`` methods that it calls. It tunes ``bagging_freq`` beside ``bagging_fraction``, and its
second search for ``feature_fraction`` is a grid within 0.08 of the best, here bisection from it.
"""


@checks_keywords()
def lightgbm_space(preset: str = "default", *, n_rows: int | None = None) -> SearchSpace:
    """Return a search space for LightGBM.

    Parameters are named as LightGBM names them, and their defaults are LightGBM's own, so that a
    study's trial 0 is the library's default. Two things differ: ``lambda_l1``, ``lambda_l2`` and
    ``path_smooth`` are 0 there, which a log scale cannot hold, so their default is the lower end
    of their range; and ``bagging_freq`` is fixed at 1, without which ``bagging_fraction`` would do
    nothing. The number of rounds is not in the space: it is found by early stopping.

    Args:
        preset: What is tuned:

            - ``"default"``: learning rate, leaves, rows in a leaf, fractions of columns and rows,
              and both penalties, in the ranges that hold good configurations;
            - ``"fast"``: small trees of at most 64 bins a column, no penalties, no small learning
              rates: short trials, for large data or little time;
            - ``"wide"``: wider ranges, and ``max_bin``, ``path_smooth`` and ``extra_trees`` too.
              ``linear_tree`` is in it as a fixed False, as it needs numeric columns and their raw
              values: ``override(linear_tree=[False, True])`` opens it. Each ``max_bin`` and
              ``linear_tree`` needs a binning of its own;
            - ``"flaml"``: FLAML's space, but for the number of rounds and its own start.
        n_rows: Rows of the training data, 1 or above. With them, leaves and rows in a leaf may
            go as high as so much data allows.

    Raises:
        InvalidArgument: If the preset is unknown or ``n_rows`` is below 1.
        InvalidType: If ``n_rows`` is no int.

    Example:
        >>> lightgbm_space("fast", n_rows=20_000).override(learning_rate=0.1)
        SearchSpace(
          feature_fraction: 0.2 .. 1.0, default 1.0, prior
          num_leaves: 4 .. 63 (log scale), default 31
          learning_rate = 0.1
          min_data_in_leaf: 5 .. 200 (log scale), default 20
          bagging_fraction: 0.4 .. 1.0, default 1.0
          bagging_freq = 1
          max_bin = 63
        )
        >>> lightgbm_space().defaults()["num_leaves"]
        31
    """
    one_of("preset", preset, LIGHTGBM_PRESETS)
    if n_rows is not None:
        check_count("n_rows", n_rows)
    return space_of(_PRESETS[preset](n_rows))


def _default(n_rows: int | None) -> dict[str, Any]:
    # What gains most for its time comes first: a stepwise sampler moves parameters in this order.
    return {
        "feature_fraction": Row(
            (0.2, 1.0),
            1.0,
            f"half of {_TUNER}'s 0.4; {_DEFAULT}",
            prior=_FEATURE_FRACTION_PRIOR,
        ),
        "num_leaves": Row(
            (4, _rows_share(n_rows, 100, 255, 1023), "log"),
            31,
            f"4: {_FLAML}; 255: {_TUNER}, and with `n_rows` a leaf for each 100 rows up to 1023; "
            f"{_DEFAULT}",
            prior=_NUM_LEAVES_PRIOR,
        ),
        "learning_rate": Row(
            (0.02, 0.3, "log"),
            0.1,
            f"{_TABARENA}: 0.005 .. 0.1, moved up, as the rounds of a trial go with "
            f"1 / learning_rate; {_DEFAULT}",
        ),
        "min_data_in_leaf": Row(
            (2, _rows_share(n_rows, 100, 100, 1000), "log"),
            20,
            f"2: {_FLAML}; 100: {_TUNER}, and with `n_rows` a hundredth of them up to 1000, "
            f"'hundreds or thousands' for large data: {_TUNING}; {_DEFAULT}",
            prior=_MIN_DATA_IN_LEAF_PRIOR,
        ),
        "lambda_l2": _penalty(1e-2, 100.0, f"the middle ones of {_FLAML}: 1 / 1024 .. 1024"),
        "bagging_fraction": Row((0.4, 1.0), 1.0, f"{_TUNER}; {_DEFAULT}"),
        "bagging_freq": 1,
        "lambda_l1": _penalty(1e-2, 100.0, f"the middle ones of {_FLAML}: 1 / 1024 .. 1024"),
    }


def _fast(n_rows: int | None) -> dict[str, Any]:
    entries = _default(n_rows)
    return {
        "feature_fraction": entries["feature_fraction"],
        "num_leaves": Row(
            (4, 63, "log"),
            31,
            f"preset 'default' up to 63, as a round's time grows with the leaves; {_DEFAULT}",
        ),
        "learning_rate": Row(
            (0.05, 0.3, "log"),
            0.1,
            f"preset 'default' down to 0.05, twice the rounds of the default; {_DEFAULT}",
        ),
        "min_data_in_leaf": Row(
            (5, _rows_share(n_rows, 100, 100, 1000), "log"),
            20,
            f"5: {_TUNER}; upper end: preset 'default'; {_DEFAULT}",
        ),
        "bagging_fraction": entries["bagging_fraction"],
        "bagging_freq": 1,
        # "Use small max_bin" is the Parameters Tuning page's advice for speed; 63 is the GPU
        # Tuning Guide's number.
        "max_bin": 63,
    }


def _wide(n_rows: int | None) -> dict[str, Any]:
    return {
        **_default(n_rows),
        "feature_fraction": Row(
            (0.1, 1.0),
            1.0,
            f"between {_TUNER} and {_FLAML}; {_DEFAULT}",
            prior=_FEATURE_FRACTION_PRIOR,
        ),
        "num_leaves": Row(
            (2, _rows_share(n_rows, 20, 1023, 4095), "log"),
            31,
            f"2: {_TUNER}; upper end: between {_TUNER} (256) and {_FLAML} (one a row); {_DEFAULT}",
            prior=_NUM_LEAVES_PRIOR,
        ),
        "learning_rate": Row(
            (0.005, 0.5, "log"),
            0.1,
            f"0.005: {_TABARENA}; 0.5: half the upper end of {_FLAML}; {_DEFAULT}",
            prior=Prior(0.015, 2.2, _TABREPO),
        ),
        "min_data_in_leaf": Row(
            (1, _rows_share(n_rows, 50, 200, 5000), "log"),
            20,
            f"1: {_TABARENA}; upper end: 'hundreds or thousands' for large data, {_TUNING}; "
            f"{_DEFAULT}",
            prior=_MIN_DATA_IN_LEAF_PRIOR,
        ),
        "lambda_l2": _penalty(1e-8, 100.0, f"{_TUNER}, ten times its upper end"),
        "bagging_fraction": Row((0.2, 1.0), 1.0, f"{_TUNER}, half its lower end; {_DEFAULT}"),
        "lambda_l1": _penalty(1e-8, 100.0, f"{_TUNER}, ten times its upper end"),
        "path_smooth": _penalty(
            1e-3,
            100.0,
            "around 1, at which a leaf of one row keeps half of its own output: the "
            "weight is (n / path_smooth) / (n / path_smooth + 1), Parameters page",
        ),
        "extra_trees": Row([False, True], False, f"{_TABARENA}; {_DEFAULT}"),
        "max_bin": Row(
            [255, 63, 1023], 255, f"{_FLAML}: 7 .. 1023, three of it, each binned once; {_DEFAULT}"
        ),
        "linear_tree": False,
    }


def _flaml(n_rows: int | None) -> dict[str, Any]:
    upper = 32768 if n_rows is None else max(5, min(32768, n_rows))
    return {
        "learning_rate": Row((1 / 1024, 1.0, "log"), 0.1, _FLAML),
        # FLAML's upper ends of whole numbers are exclusive.
        "num_leaves": Row(
            # One value alone with 5 rows or less, where a tuple would be an empty range.
            IntDistribution(4, upper - 1, log=True),
            min(31, upper - 1),
            f"{_FLAML}; {_DEFAULT}",
        ),
        "min_data_in_leaf": Row((2, 128, "log"), 20, _FLAML),
        "feature_fraction": Row((0.01, 1.0), 1.0, _FLAML),
        "lambda_l1": _penalty(1 / 1024, 1024.0, _FLAML),
        "lambda_l2": _penalty(1 / 1024, 1024.0, _FLAML),
        "max_bin": Row([2**power - 1 for power in range(3, 11)], 255, _FLAML),
    }


_PRESETS: Mapping[str, Callable[[int | None], dict[str, Any]]] = {
    "default": _default,
    "fast": _fast,
    "wide": _wide,
    "flaml": _flaml,
}

LIGHTGBM_PRESETS: tuple[str, ...] = tuple(_PRESETS)
"""The presets that `lightgbm_space` knows."""


def _penalty(low: float, high: float, source: str) -> Row:
    return Row((low, high, "log"), low, f"{source}; {_LOWER_END}")


def _rows_share(n_rows: int | None, divisor: int, least: int, most: int) -> int:
    """Return ``n_rows / divisor`` between ``least`` and ``most``; ``least`` without ``n_rows``."""
    return least if n_rows is None else min(max(n_rows // divisor, least), most)
