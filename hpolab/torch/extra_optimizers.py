"""Optimizers of the packages that the extra ``optimizers`` brings: rows as those of torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.search_space.rows import Row
from hpolab.torch.optimizer_rows import (
    ADAM_BETAS,
    ADAMW_DECAY,
    OptimizerRow,
    betas_of_adam,
    decades,
    shared,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXTRA_ROWS"]

_LION = "Chen et al. 2023 (arXiv:2302.06675, section 5)"
_SCHEDULE_FREE = "the documentation of schedulefree (github.com/facebookresearch/schedule_free)"
_SOAP = "Vyas et al. 2024 (arXiv:2409.11321)"
_INTERPOLATION = Row(
    (0.8, 0.98),
    0.9,
    f"{_SCHEDULE_FREE}: 0.9, and 0.95 or 0.98 for long trainings; below as far as Adam's beta1",
    one_minus=True,
)


EXTRA_ROWS: Mapping[str, OptimizerRow] = {
    "schedulefree_adamw": OptimizerRow(
        "AdamWScheduleFree",
        tuned={
            "lr": decades(
                2.5e-3, 1, 1, f"1 to 10 times Adam's 0.001 is 0.001 to 0.01 ({_SCHEDULE_FREE})"
            ),
            "beta1": _INTERPOLATION,
            "beta2": shared("adam", ADAM_BETAS["beta2"], "the same second moment"),
            "weight_decay": shared(
                "adamw", ADAMW_DECAY, "its own default, 0, would make it a schedule-free Adam"
            ),
        },
        fixed={"eps": 1e-8, "warmup_steps": 0, "weight_lr_power": 2.0},
        since="1.4.1",
        module="schedulefree",
    ),
    "schedulefree_sgd": OptimizerRow(
        "SGDScheduleFree",
        tuned={
            "lr": decades(
                1.0, 2, 1, f"10 to 50 times the usual 0.01 to 0.1 is 0.1 to 5 ({_SCHEDULE_FREE})"
            ),
            "momentum": shared(
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
            "weight_decay": shared("adamw", ADAMW_DECAY, "AdamW in another basis"),
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
            "beta1": shared("adam", ADAM_BETAS["beta1"], f"0.9, or 0.95 if unstable: {_LION}"),
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
            "d_coef": decades(
                1.0,
                1,
                1,
                "in place of lr, which stays at 1: 2 or 10 for larger steps, 0.5 or 0.1 for "
                "smaller ones (github.com/konstmish/prodigy, of arXiv:2306.06101)",
            ),
            **betas_of_adam("Adam's two moments, weighted by the step's size"),
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
