"""A row of the table of optimizers, and the ranges that several of them share.

A source that reads ``decades(d, below, above)`` is a rule: from the class's default ``d`` so many
powers of ten down and up. Where two optimizers share a range of learning rates, the source of one
begins with ``shared with`` and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument
from hpolab.search_space.prior import Prior
from hpolab.search_space.rows import Row, space_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "ADAMW_DECAY",
    "ADAM_BETAS",
    "ADAM_BETA_PRIORS",
    "ADAM_LR",
    "ADAM_LR_PRIOR",
    "ALGOPERF_BEST",
    "SCHMIDT_BEST",
    "STUDY",
    "OptimizerRow",
    "betas_of_adam",
    "decades",
    "shared",
]

STUDY = "the MNIST optimizer study"
# The settings of the runs that set AlgoPerf's targets (reference_algorithms/
# target_setting_algorithms): Criteo, ViT, Conformer, DeepSpeech and WMT have two moments; fastMRI,
# ResNet and OGBG have momentum.
ALGOPERF_BEST = "AlgoPerf's targets (arXiv:2306.07179)"
# What was trained again with ten seeds, of its largest budget without a schedule, on mnist_vae,
# fmnist_2c2d, cifar10_3c3d, cifar100_allcnnc (not RMSprop) and tolstoi_char_rnn.
SCHMIDT_BEST = "the best of Schmidt et al. 2021 (arXiv:2007.01547)"


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer.

    Attributes:
        class_name: The class in ``module``.
        tuned: The ranges of its space by name.
        fixed: What stays at the class's default unless a space's `override` opens it.
        constants: Arguments that make this optimizer what it is.
        since: The first version of the package that has the class.
        module: Where the class is imported from.
    """

    class_name: str
    tuned: Mapping[str, Row]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    since: str = "2.0"
    module: str = "torch.optim"

    @property
    def package(self) -> str:
        """The package that brings it, as an index of packages spells it."""
        return self.module.partition(".")[0].replace("_", "-")

    @property
    def full_name(self) -> str:
        """The class with its module."""
        return f"{self.module}.{self.class_name}"

    def space(self, name: str) -> SearchSpace:
        """Return the row's search space under the optimizer's name."""
        return space_of({"optimizer": name, **self.tuned, **self.fixed})

    def arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the class's keyword arguments.

        Args:
            params: Trainer params; names that are not the optimizer's are passed over, and a
                fixed value that is missing is taken from the row.

        Raises:
            InvalidArgument: If a tuned parameter is missing.
        """
        missing = [key for key in self.tuned if key not in params]
        if missing:
            raise InvalidArgument(
                f"`params` must have {', '.join(map(repr, missing))}, missing for "
                f"{self.full_name}: take the search space of `optimizer_space(...)`, and change "
                "its ranges by `override`"
            )
        found = {key: params[key] for key in self.tuned}
        found |= {key: params.get(key, value) for key, value in self.fixed.items()}
        for argument, pair in _PAIRS.items():
            if found.keys() >= set(pair):
                found[argument] = tuple(found.pop(key) for key in pair)
        return {**found, **self.constants}


# Arguments that torch takes as a pair; each half is a parameter of its own here.
_PAIRS = {
    "betas": ("beta1", "beta2"),
    "eps": ("eps1", "eps2"),
    "etas": ("eta_minus", "eta_plus"),
    "step_sizes": ("step_min", "step_max"),
}


def decades(default: float, below: int, above: int, why: str) -> Row:
    source = f"decades({default:g}, {below}, {above}) around its default: {why}"
    return Row((default / 10**below, default * 10**above, "log"), default, source)


def shared(other: str, row: Row, why: str, *, prior: Prior | None = None) -> Row:
    return replace(row, source=f"shared with {other}: {why}", prior=prior)


# Each prior is the median of the best values that a published tuning found, and the standard
# deviation of their logarithms as a factor. Where no such table was found, there is no prior.
ADAM_LR_PRIOR = Prior(
    1.2e-3,
    2.8,
    f"{SCHMIDT_BEST} and {ALGOPERF_BEST}, ten problems",
)
ADAM_BETA_PRIORS = {
    key: Prior(median, spread, f"{ALGOPERF_BEST}, five problems")
    for key, median, spread in [("beta1", 0.85, 1.6), ("beta2", 0.9968, 13.0)]
}
ADAM_LR = Row((1e-4, 1e-2, "log"), 1e-3, STUDY, prior=ADAM_LR_PRIOR)
ADAM_BETAS = {
    "beta1": Row((0.8, 0.95), 0.9, STUDY, one_minus=True, prior=ADAM_BETA_PRIORS["beta1"]),
    "beta2": Row((0.99, 0.9999), 0.999, STUDY, one_minus=True, prior=ADAM_BETA_PRIORS["beta2"]),
}
ADAMW_DECAY = Row((1e-4, 2e-2, "log"), 1e-2, STUDY)


def betas_of_adam(why: str, priors: Mapping[str, Prior] | None = None) -> dict[str, Row]:
    return {
        key: shared("adam", row, why, prior=(priors or {}).get(key))
        for key, row in ADAM_BETAS.items()
    }
