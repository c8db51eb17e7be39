"""Every first-order optimizer of `torch.optim`, and some of other packages, with its own ranges.

One row of `OPTIMIZER_ROWS` states an optimizer's class, what is tuned, what stays at the class's
default, and where each range comes from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpolab.keywords import checks_keywords
from hpolab.search_space.prior import Prior
from hpolab.search_space.rows import Row
from hpolab.search_space.space import named_space
from hpolab.torch.extra_optimizers import EXTRA_ROWS
from hpolab.torch.optimizer_rows import (
    ADAM_BETA_PRIORS,
    ADAM_BETAS,
    ADAM_LR,
    ADAM_LR_PRIOR,
    ADAMW_DECAY,
    ALGOPERF_BEST,
    SCHMIDT_BEST,
    STUDY,
    OptimizerRow,
    betas_of_adam,
    decades,
    shared,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "EXTRA_OPTIMIZERS",
    "OPTIMIZERS",
    "OPTIMIZER_ROWS",
    "SCHEDULE_FREE",
    "optimizer_space",
]

_ALGOPERF = "AlgoPerf's baselines (Dahl et al. 2023, arXiv:2306.07179, tuning_search_space.json)"
# Models of 130M to 520M parameters; widened to 3, as all are language models on the same data.
_WEN_BEST = "the best of Wen et al. 2025 (arXiv:2509.02046), eight language models"

_SGD_LR = replace(
    decades(
        1e-3, 1, 3, "networks without adaptive steps are usually begun far above it, at 0.01 to 0.1"
    ),
    prior=Prior(0.085, 6.0, f"{SCHMIDT_BEST}, five problems"),
)
_MOMENTUM_LR = decades(
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
    prior=Prior(0.954, 2.0, f"{ALGOPERF_BEST}, three problems"),
)


_TORCH_ROWS: Mapping[str, OptimizerRow] = {
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
            "lr": shared("momentum", _MOMENTUM_LR, "the same sum of gradients, one step ahead"),
            "momentum": shared(
                "momentum", _MOMENTUM, "the same sum of gradients", prior=_MOMENTUM.prior
            ),
        },
        fixed={"weight_decay": 0.0},
        constants={"nesterov": True},
    ),
    "adagrad": OptimizerRow(
        "Adagrad",
        tuned={
            "lr": decades(
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
            "lr": decades(
                1.0, 1, 1, "Zeiler 2012 (arXiv:1212.5701) has no learning rate, that is, 1"
            ),
            "rho": Row((0.5, 0.999), 0.9, STUDY, one_minus=True),
        },
        fixed={"eps": 1e-6, "weight_decay": 0.0},
    ),
    "rmsprop": OptimizerRow(
        "RMSprop",
        tuned={
            "lr": replace(
                decades(
                    1e-2,
                    3,
                    0,
                    "without bias correction the first step is lr / sqrt(1 - alpha), ten lr",
                ),
                prior=Prior(2e-4, 2.6, f"{SCHMIDT_BEST}, four problems"),
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
        tuned={"lr": ADAM_LR, **ADAM_BETAS},
        fixed={"eps": 1e-8, "weight_decay": 0.0},
    ),
    "adam_amsgrad": OptimizerRow(
        "Adam",
        tuned={
            "lr": shared("adam", ADAM_LR, "only the denominator differs, by a running maximum"),
            **betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0},
        constants={"amsgrad": True},
    ),
    "adamw": OptimizerRow(
        "AdamW",
        tuned={
            "lr": shared(
                "adam", ADAM_LR, f"{STUDY} tunes Adam's step in both", prior=ADAM_LR_PRIOR
            ),
            **betas_of_adam("the same two moments", ADAM_BETA_PRIORS),
            "weight_decay": ADAMW_DECAY,
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
                prior=ADAM_LR_PRIOR,
            ),
            **betas_of_adam("the same two moments", ADAM_BETA_PRIORS),
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
            "lr": shared("adam", ADAM_LR, "Adam's step once the rectification has worn off"),
            **betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0, "decoupled_weight_decay": False},
    ),
    "adamax": OptimizerRow(
        "Adamax",
        tuned={
            "lr": decades(2e-3, 1, 1, "Kingma & Ba 2015 (arXiv:1412.6980, section 7.1) give 0.002"),
            **betas_of_adam("the first moment is Adam's, the norm decays at Adam's rate"),
        },
        fixed={"eps": 1e-8, "weight_decay": 0.0},
    ),
    "adafactor": OptimizerRow(
        "Adafactor",
        tuned={
            "lr": decades(
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
                shared("sgd", _SGD_LR, "the weights walk as SGD's do, the average runs beside"),
                default=1e-2,
            )
        },
        fixed={"lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0},
    ),
    "rprop": OptimizerRow(
        "Rprop",
        tuned={"lr": decades(1e-2, 2, 1, "the first step only; each weight then finds its own")},
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
                decades(
                    0.1, 2, 1, "tuned with lr alone (github.com/KellerJordan/Muon, which uses 0.01)"
                ),
                prior=Prior(0.1, 3.0, _WEN_BEST),
            ),
            "adamw_lr": shared(
                "adamw",
                ADAM_LR,
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
            "lr": shared("adam", ADAM_LR, "Adam's step for the rows that have gradients"),
            **betas_of_adam("the same two moments"),
        },
        fixed={"eps": 1e-8},
    ),
}

OPTIMIZER_ROWS: Mapping[str, OptimizerRow] = {**_TORCH_ROWS, **EXTRA_ROWS}

OPTIMIZERS: tuple[str, ...] = tuple(_TORCH_ROWS)
"""The optimizers of `torch.optim` that `optimizer_space` knows."""

EXTRA_OPTIMIZERS: tuple[str, ...] = tuple(EXTRA_ROWS)
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
