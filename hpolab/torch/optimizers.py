"""Every first-order optimizer of `torch.optim`, and some of other packages, with its own ranges.

One row of `OPTIMIZER_ROWS` states an optimizer's class, what is tuned, what stays at the class's
default, and where each range comes from. A source that reads ``decades(d, below, above)`` is a
rule: from the class's default ``d`` so many powers of ten down and up. Where two optimizers share a
range of learning rates, the source of one begins with ``shared with`` and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument
from hpolab.keywords import checks_keywords
from hpolab.search_space.prior import Prior
from hpolab.search_space.rows import Row, space_of
from hpolab.search_space.space import named_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "EXTRA_OPTIMIZERS",
    "OPTIMIZERS",
    "OPTIMIZER_ROWS",
    "SCHEDULE_FREE",
    "OptimizerRow",
    "optimizer_space",
]

_STUDY = "the MNIST optimizer study"
_ALGOPERF = "AlgoPerf's baselines (Dahl et al. 2023, arXiv:2306.07179, tuning_search_space.json)"
# The settings of the runs that set AlgoPerf's targets (reference_algorithms/
# target_setting_algorithms): Criteo, ViT, Conformer, DeepSpeech and WMT have two moments; fastMRI,
# ResNet and OGBG have momentum.
_ALGOPERF_BEST = "AlgoPerf's targets (arXiv:2306.07179)"
# What was trained again with ten seeds, of its largest budget without a schedule, on mnist_vae,
# fmnist_2c2d, cifar10_3c3d, cifar100_allcnnc (not RMSprop) and tolstoi_char_rnn.
_SCHMIDT_BEST = "the best of Schmidt et al. 2021 (arXiv:2007.01547)"
# Models of 130M to 520M parameters; widened to 3, as all are language models on the same data.
_WEN_BEST = "the best of Wen et al. 2025 (arXiv:2509.02046), eight language models"


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


def _decades(default: float, below: int, above: int, why: str) -> Row:
    source = f"decades({default:g}, {below}, {above}) around its default: {why}"
    return Row((default / 10**below, default * 10**above, "log"), default, source)


def _shared(other: str, row: Row, why: str, *, prior: Prior | None = None) -> Row:
    return replace(row, source=f"shared with {other}: {why}", prior=prior)


# Each prior is the median of the best values that a published tuning found, and the standard
# deviation of their logarithms as a factor. Where no such table was found, there is no prior.
_ADAM_LR_PRIOR = Prior(
    1.2e-3,
    2.8,
    f"{_SCHMIDT_BEST} and {_ALGOPERF_BEST}, ten problems",
)
_ADAM_BETA_PRIORS = {
    key: Prior(median, spread, f"{_ALGOPERF_BEST}, five problems")
    for key, median, spread in [("beta1", 0.85, 1.6), ("beta2", 0.9968, 13.0)]
}
_ADAM_LR = Row((1e-4, 1e-2, "log"), 1e-3, _STUDY, prior=_ADAM_LR_PRIOR)
_ADAM_BETAS = {
    "beta1": Row((0.8, 0.95), 0.9, _STUDY, one_minus=True, prior=_ADAM_BETA_PRIORS["beta1"]),
    "beta2": Row((0.99, 0.9999), 0.999, _STUDY, one_minus=True, prior=_ADAM_BETA_PRIORS["beta2"]),
}
_SGD_LR = replace(
    _decades(
        1e-3, 1, 3, "networks without adaptive steps are usually begun far above it, at 0.01 to 0.1"
    ),
    prior=Prior(0.085, 6.0, f"{_SCHMIDT_BEST}, five problems"),
)
_MOMENTUM_LR = _decades(
    1e-3,
    2,
    2,
    "SGD's range a power of ten lower, as momentum 0.9 adds up ten gradients; "
    "0.1 is where He et al. 2015 begin (arXiv:1512.03385, section 3.4)",
)
# Torch's default is no momentum at all, which would make these two rows plain SGD.
_MOMENTUM = Row(
    (0.7, 0.995),
    0.9,
    f"{_ALGOPERF}: 1 - momentum in 5e-3 .. 0.3; default of He et al. 2015 (arXiv:1512.03385)",
    one_minus=True,
    prior=Prior(0.954, 2.0, f"{_ALGOPERF_BEST}, three problems"),
)


_LION = "Chen et al. 2023 (arXiv:2302.06675, section 5)"
_SCHEDULE_FREE = "the documentation of schedulefree (github.com/facebookresearch/schedule_free)"
_SOAP = "Vyas et al. 2024 (arXiv:2409.11321)"
# Above 0.98 nothing is reported, and below Adam's 0.8 the averaged weights train as no average.
_INTERPOLATION = Row(
    (0.8, 0.98),
    0.9,
    f"{_SCHEDULE_FREE}: 0.9, and 0.95 or 0.98 for long trainings; below as far as Adam's beta1",
    one_minus=True,
)
_ADAMW_DECAY = Row((1e-4, 2e-2, "log"), 1e-2, _STUDY)


def _betas_of_adam(why: str, priors: Mapping[str, Prior] | None = None) -> dict[str, Row]:
    return {
        key: _shared("adam", row, why, prior=(priors or {}).get(key))
        for key, row in _ADAM_BETAS.items()
    }


OPTIMIZER_ROWS: Mapping[str, OptimizerRow] = {
    "sgd": OptimizerRow(
        "SGD",
        tuned={"lr": _SGD_LR},
        fixed={"weight_decay": 0.0},
    ),
    "momentum": OptimizerRow(
        "SGD",
        tuned={"lr": _MOMENTUM_LR, "momentum": _MOMENTUM},
        fixed={"dampening": 0.0, "weight_decay": 0.0},
    ),
    "nesterov": OptimizerRow(
        "SGD",
        tuned={
            "lr": _shared("momentum", _MOMENTUM_LR, "the same sum of gradients, one step ahead"),
            "momentum": _shared(
                "momentum", _MOMENTUM, "the same sum of gradients", prior=_MOMENTUM.prior
            ),
        },
        fixed={"weight_decay": 0.0},
        constants={"nesterov": True},
    ),
    "adagrad": OptimizerRow(
        "Adagrad",
        tuned={
            "lr": _decades(
                1e-2, 1, 2, "its step only shrinks, so that large beginnings are survivable"
            )
        },
        fixed={
            "lr_decay": 0.0,
            "weight_decay": 0.0,
            "initial_accumulator_value": 0.0,
            "eps": 1e-10,
        },
    ),
    "adadelta": OptimizerRow(
        "Adadelta",
        tuned={
            "lr": _decades(
                1.0, 1, 1, "Zeiler 2012 (arXiv:1212.5701) has no learning rate, that is, 1"
            ),
            "rho": Row((0.5, 0.999), 0.9, _STUDY, one_minus=True),
        },
        fixed={"eps": 1e-6, "weight_decay": 0.0},
    ),
    "rmsprop": OptimizerRow(
        "RMSprop",
        tuned={
            "lr": replace(
                _decades(
                    1e-2,
                    3,
                    0,
                    "without bias correction the first step is lr / sqrt(1 - alpha), ten lr",
                ),
                prior=Prior(2e-4, 2.6, f"{_SCHMIDT_BEST}, four problems"),
            ),
            "alpha": Row(
                (0.9, 0.999),
                0.99,
                "decades(0.01, 1, 1) around 1 - torch's default; Hinton's lecture 6e has 0.9",
                one_minus=True,
            ),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
    ),
    "adam": OptimizerRow(
        "Adam",
        tuned={"lr": _ADAM_LR, **_ADAM_BETAS},
        fixed={"eps": 1e-8, "weight_decay": 0.0},
    ),
    "adam_amsgrad": OptimizerRow(
        "Adam",
        tuned={
            "lr": _shared("adam", _ADAM_LR, "only the denominator differs, by a running maximum"),
            **_betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0},
        constants={"amsgrad": True},
    ),
    "adamw": OptimizerRow(
        "AdamW",
        tuned={
            "lr": _shared(
                "adam", _ADAM_LR, f"{_STUDY} tunes Adam's step in both", prior=_ADAM_LR_PRIOR
            ),
            **_betas_of_adam("the same two moments", _ADAM_BETA_PRIORS),
            "weight_decay": _ADAMW_DECAY,
        },
        fixed={"eps": 1e-8},
    ),
    "nadam": OptimizerRow(
        "NAdam",
        tuned={
            "lr": Row(
                (1e-4, 1e-2, "log"),
                2e-3,
                f"shared with adam: {_ALGOPERF} give NAdamW this range",
                prior=_ADAM_LR_PRIOR,
            ),
            **_betas_of_adam("the same two moments", _ADAM_BETA_PRIORS),
        },
        fixed={
            "eps": 1e-8,
            "weight_decay": 0.0,
            "momentum_decay": 4e-3,
            "decoupled_weight_decay": False,
        },
    ),
    "radam": OptimizerRow(
        "RAdam",
        tuned={
            "lr": _shared("adam", _ADAM_LR, "Adam's step once the rectification has worn off"),
            **_betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0, "decoupled_weight_decay": False},
    ),
    "adamax": OptimizerRow(
        "Adamax",
        tuned={
            "lr": _decades(
                2e-3, 1, 1, "Kingma & Ba 2015 (arXiv:1412.6980, section 7.1) give 0.002"
            ),
            **_betas_of_adam("the first moment is Adam's, the norm decays at Adam's rate"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0},
    ),
    "adafactor": OptimizerRow(
        "Adafactor",
        tuned={
            "lr": _decades(
                1e-2, 1, 1, "a cap on the step relative to the weights' size, not a step itself"
            )
        },
        fixed={"beta2_decay": -0.8, "eps1": None, "eps2": 1e-3, "d": 1.0, "weight_decay": 0.0},
        since="2.5",
    ),
    "asgd": OptimizerRow(
        "ASGD",
        tuned={
            "lr": replace(
                _shared("sgd", _SGD_LR, "the weights walk as SGD's do, the average runs beside"),
                default=1e-2,
            )
        },
        fixed={"lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0},
    ),
    "rprop": OptimizerRow(
        "Rprop",
        tuned={"lr": _decades(1e-2, 2, 1, "the first step only; each weight then finds its own")},
        fixed={"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 50.0},
    ),
    "muon": OptimizerRow(
        "Muon",
        tuned={
            "lr": Row(
                (1e-4, 0.2, "log"),
                1e-3,
                "decades(0.001, 1, 0) below torch's default, decades(0.02, 0, 1) above the 0.02 "
                "of Jordan et al. 2024 (github.com/KellerJordan/Muon)",
                prior=Prior(4e-3, 3.0, _WEN_BEST),
            ),
            "weight_decay": replace(
                _decades(
                    0.1, 2, 1, "tuned with lr alone (github.com/KellerJordan/Muon, which uses 0.01)"
                ),
                prior=Prior(0.1, 3.0, _WEN_BEST),
            ),
            "adamw_lr": _shared(
                "adamw",
                _ADAM_LR,
                "AdamW trains what Muon does not",
                prior=Prior(2.4e-3, 3.0, _WEN_BEST),
            ),
        },
        fixed={"momentum": 0.95, "nesterov": True, "eps": 1e-7, "ns_steps": 5},
        since="2.9",
    ),
    "sparse_adam": OptimizerRow(
        "SparseAdam",
        tuned={
            "lr": _shared("adam", _ADAM_LR, "Adam's step for the rows that have gradients"),
            **_betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8},
    ),
    "schedulefree_adamw": OptimizerRow(
        "AdamWScheduleFree",
        tuned={
            "lr": _decades(
                2.5e-3, 1, 1, f"1 to 10 times Adam's 0.001 is 0.001 to 0.01 ({_SCHEDULE_FREE})"
            ),
            "beta1": _INTERPOLATION,
            "beta2": _shared("adam", _ADAM_BETAS["beta2"], "the same second moment"),
            "weight_decay": _shared(
                "adamw", _ADAMW_DECAY, "its own default, 0, would make it a schedule-free Adam"
            ),
        },
        fixed={"eps": 1e-8, "warmup_steps": 0, "weight_lr_power": 2.0},
        since="1.4.1",
        module="schedulefree",
    ),
    "schedulefree_sgd": OptimizerRow(
        "SGDScheduleFree",
        tuned={
            "lr": _decades(
                1.0, 2, 1, f"10 to 50 times the usual 0.01 to 0.1 is 0.1 to 5 ({_SCHEDULE_FREE})"
            ),
            "momentum": _shared(
                "schedulefree_adamw", _INTERPOLATION, "the same place between two sets of weights"
            ),
        },
        fixed={"weight_decay": 0.0, "warmup_steps": 0, "weight_lr_power": 2.0},
        since="1.4.1",
        module="schedulefree",
    ),
    "soap": OptimizerRow(
        "SOAP",
        tuned={
            "lr": Row(
                (3e-4, 3e-2, "log"),
                3e-3,
                f"decades(0.003, 1, 1) around its default: {_SOAP} sweep it by half powers of ten",
            ),
            "beta1": Row((0.9, 0.99), 0.95, f"{_SOAP} sweep 0.9, 0.95 and 0.99", one_minus=True),
            "beta2": Row(
                (0.9, 0.99),
                0.95,
                f"as beta1, which has the same default: {_SOAP}",
                one_minus=True,
            ),
            "weight_decay": _shared("adamw", _ADAMW_DECAY, "AdamW in another basis"),
        },
        fixed={
            "eps": 1e-8,
            "shampoo_beta": None,
            "precondition_frequency": 10,
            "max_precondition_dim": 10000,
            "merge_dims": False,
            "precondition_1d": False,
            "correct_bias": True,
            "normalize_gradient": False,
        },
        since="3.3",
        module="pytorch_optimizer",
    ),
    "lion": OptimizerRow(
        "Lion",
        tuned={
            "lr": Row(
                (1e-5, 3e-3, "log"),
                1e-4,
                f"adamw's range, its upper end 3 times smaller and its lower end 10 times: {_LION}",
            ),
            "beta1": _shared("adam", _ADAM_BETAS["beta1"], f"0.9, or 0.95 if unstable: {_LION}"),
            "beta2": Row(
                (0.9, 0.999),
                0.99,
                f"decades(0.01, 1, 1) around 1 - its default; 0.98 if unstable: {_LION}",
                one_minus=True,
            ),
            "weight_decay": Row(
                (3e-4, 0.2, "log"),
                0.1,
                "adamw's range, its lower end 3 times larger, its upper end and default 10 times: "
                f"{_LION}; its own default, 0, has no decay to tune",
            ),
        },
        since="3.3",
        module="pytorch_optimizer",
    ),
    "prodigy": OptimizerRow(
        "Prodigy",
        tuned={
            "d_coef": _decades(
                1.0,
                1,
                1,
                "in place of lr, which stays at 1: 2 or 10 for larger steps, 0.5 or 0.1 for "
                "smaller ones (github.com/konstmish/prodigy, of arXiv:2306.06101)",
            ),
            **_betas_of_adam("Adam's two moments, weighted by the step's size"),
        },
        fixed={
            "lr": 1.0,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "d0": 1e-6,
            "bias_correction": False,
            "safeguard_warmup": False,
        },
        since="3.3",
        module="pytorch_optimizer",
    ),
}

OPTIMIZERS: tuple[str, ...] = tuple(
    name for name, row in OPTIMIZER_ROWS.items() if row.package == "torch"
)
"""The optimizers of `torch.optim` that `optimizer_space` knows."""

EXTRA_OPTIMIZERS: tuple[str, ...] = tuple(
    name for name, row in OPTIMIZER_ROWS.items() if row.package != "torch"
)
"""The optimizers of other packages that `optimizer_space` knows; the extra ``optimizers`` brings
these packages."""

SCHEDULE_FREE: tuple[str, ...] = tuple(
    name for name, row in OPTIMIZER_ROWS.items() if row.package == "schedulefree"
)
"""Those that average their weights in place of a learning-rate schedule."""


@checks_keywords()
def optimizer_space(name: str | Sequence[str]) -> SearchSpace:
    """Return the search space of an optimizer, or of a choice among several.

    Only what people tune is a range; everything else of the class (``eps``, a ``weight_decay`` of
    0, ...) is in the space as a fixed value at its default, and `SearchSpace.override` opens it.
    Defaults are the class's own, except where these would make it another optimizer: the momentum
    of ``momentum`` and ``nesterov`` is 0.9, the weight decay of ``schedulefree_adamw`` AdamW's, and
    that of ``lion`` ten times AdamW's. Decay rates (betas, rho, alpha, momentum) are sampled as
    1 - value on a log scale. `SearchSpace.sources` says where each range comes from. Ranges whose
    best values were published have a `Prior`.

    Five optimizers need the extra ``optimizers`` to train, not for their space:
    ``schedulefree_adamw`` and ``schedulefree_sgd`` (Defazio et al. 2024, arXiv:2405.15682; they
    average their weights in place of a schedule, so that none should be joined to them but
    "warmup"), ``soap`` (Vyas et al. 2024, arXiv:2409.11321), ``lion`` (Chen et al. 2023,
    arXiv:2302.06675) and ``prodigy`` (Mishchenko & Defazio 2023, arXiv:2306.06101; it finds its
    learning rate itself and tunes ``d_coef``; its authors ask for ``safeguard_warmup=True`` with a
    warm-up).

    Args:
        name: One of sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam, adam_amsgrad,
            adamw, nadam, radam, adamax, adafactor, asgd, rprop, muon (hidden 2-D weights, AdamW
            with ``adamw_lr`` for the rest), sparse_adam (sparse gradients only) and the five
            above; or a list of them, which makes the optimizer itself a parameter. The first is
            then the default.

    Raises:
        InvalidArgument: If a name is unknown, or a list is empty or repeats a name.
        InvalidType: If ``name`` is neither a string nor a sequence of strings.

    Example:
        >>> space = optimizer_space("adam")
        >>> list(space.distributions())
        ['lr', 'one_minus_beta1', 'one_minus_beta2']
        >>> space.defaults()["beta2"]
        0.999
        >>> list(optimizer_space(["sgd", "adadelta"]).distributions())
        ['optimizer', 'sgd.lr', 'adadelta.lr', 'adadelta.one_minus_rho']
    """
    return named_space(
        "optimizer", name, OPTIMIZER_ROWS, lambda key: OPTIMIZER_ROWS[key].space(key)
    )
