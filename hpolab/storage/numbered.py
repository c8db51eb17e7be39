"""Trials that are created under one number or not at all, so that no worker exceeds a budget."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from hpolab._optuna import NUMBER_KEY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["NumberTaken", "refuse_other", "without_number"]


class NumberTaken(KeyError):
    """Another worker has created the trial of this number.

    A KeyError, as Optuna's gRPC server hands on no other refusal of a new trial.
    """


def without_number(template: FrozenTrial | None) -> tuple[FrozenTrial | None, int | None]:
    """Return what is to be created, and the only number for it, None for any.

    Args:
        template: As in ``BaseStorage.create_new_trial``.
    """
    number = None if template is None else template.system_attrs.get(NUMBER_KEY)
    if template is None or number is None:
        return template, None
    template = copy.copy(template)
    template.system_attrs = {k: v for k, v in template.system_attrs.items() if k != NUMBER_KEY}
    return template, number


def refuse_other(number: int, only: int | None) -> None:
    """Refuse to create a trial under another number than its only one.

    Raises:
        NumberTaken: If ``number`` is another.
    """
    if only is not None and number != only:
        raise NumberTaken(f"Trial {only} is there already.")
