"""Which names a TorchObjective reads: the optimizer's, the schedule's, and the model's own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument
from hpolab.search_space.near import meant_name
from hpolab.torch.optimizers import OPTIMIZER_ROWS, optimizer_space
from hpolab.torch.schedules import SCHEDULE_ROWS

if TYPE_CHECKING:
    from hpolab.torch.reading import ReadParams

__all__ = ["TUNABLE", "names_of_training", "unread_names"]

TUNABLE = ("accumulation_steps", "max_grad_norm", "decay_biases", "layer_decay")
"""Options of a training that may also be parameters of a trial."""


@cache
def names_of_training() -> frozenset[str]:
    """Return all names that an optimizer or a schedule of hpolab's may read, and ``batch_size``."""
    optimizers = optimizer_space(list(OPTIMIZER_ROWS)).trainer_names()
    schedules = {name for row in SCHEDULE_ROWS.values() for name in (*row.parameters(), *row.fixed)}
    of_schedules = ("schedule", "schedule_epochs", "warmup_epochs")
    return frozenset({*optimizers, *schedules, *of_schedules, "batch_size", *TUNABLE})


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
