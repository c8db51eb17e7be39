"""Which names a TorchObjective reads: the optimizer's, the schedule's, and the model's own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument
from hpolab.search_space.near import meant_name
from hpolab.search_space.reach import values_beside, values_of
from hpolab.torch.optimizers import OPTIMIZER_ROWS, optimizer_space
from hpolab.torch.schedules import SCHEDULE_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.space import SearchSpace
    from hpolab.torch.reading import ReadParams

__all__ = ["TUNABLE", "names_of_others", "names_of_training", "of_others", "unread_names"]

TUNABLE = ("accumulation_steps", "max_grad_norm", "decay_biases", "layer_decay")
"""Options of a training that may also be parameters of a trial."""


@cache
def names_of_training() -> frozenset[str]:
    """Return all names that an optimizer or a schedule of hpolab's may read, and ``batch_size``."""
    optimizers = optimizer_space(list(OPTIMIZER_ROWS)).trainer_names()
    schedules = {name for row in SCHEDULE_ROWS.values() for name in (*row.parameters(), *row.fixed)}
    of_schedules = ("schedule", "schedule_epochs", "warmup_epochs")
    return frozenset({*optimizers, *schedules, *of_schedules, "batch_size", *TUNABLE})


def names_of_others(space: SearchSpace) -> dict[str, str]:
    """Return the names in a space that another optimizer or schedule reads than those beside them.

    Returns:
        Name -> who reads it, for a message.

    Example:
        >>> names_of_others(optimizer_space("adam") | {"rho": (0.5, 0.9), "hidden": 8})
        {'rho': "'adadelta'"}
        >>> names_of_others(optimizer_space(["adam", "adadelta"]))
        {}
    """
    optimizers, schedules = values_beside(space, "optimizer"), values_beside(space, "schedule")
    found = {}
    for name in space.trainer_names():
        owners = [*(each for each in OPTIMIZER_ROWS if name in _of_optimizer(each))]
        owners += [each for each in SCHEDULE_ROWS if name in _of_schedule(each)]
        if owners and any(
            not {*values, *schedules[name][address]} & {*owners}
            for address, values in optimizers[name].items()
        ):
            found[name] = " or ".join(map(repr, owners))
    return found


def of_others(space: SearchSpace, found: Mapping[str, str], readers: str) -> str:
    """Return what is wrong with names that `names_of_others` has found, for a message.

    Args:
        space: The search space.
        found: What `names_of_others` returned.
        readers: Who else could have read them.
    """
    name, owners = next(iter(found.items()))
    trained = " or ".join(sorted(map(repr, values_of(space, "optimizer"))))
    return (
        f"`search_space` must hold names that something reads, got {name!r}: {owners} reads it, "
        f"but neither optimizer {trained} nor {readers} does. Leave it out, or take one "
        "that reads it."
    )


def _of_optimizer(name: str) -> frozenset[str]:
    row = OPTIMIZER_ROWS[name]
    return frozenset({*row.tuned, *row.fixed})


def _of_schedule(name: str) -> frozenset[str]:
    return frozenset(SCHEDULE_ROWS[name].parameters())


def unread_names(params: ReadParams) -> list[str]:
    """Return the names that neither the training nor ``build_model`` has read.

    Args:
        params: A trial's params, with which a model was built.

    Raises:
        InvalidArgument: If one is nearly a name that the training reads.
    """
    known = names_of_training()
    unread = params.unread(*(name for name in params.names if name not in known))
    for name in unread:
        meant = meant_name(name, known)
        if meant is not None:
            raise InvalidArgument(
                f"`search_space` must hold names that something reads, got {name!r}, which neither "
                f"the optimizer nor `build_model` has read. Did you mean {meant!r}?"
            )
    return unread
