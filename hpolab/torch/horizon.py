"""Whether a learning-rate schedule is made for the epochs that an objective trains."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpolab.errors import InvalidArgument
from hpolab.torch.schedules import SCHEDULE_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution

    from hpolab.search_space.space import SearchSpace

__all__ = ["check_schedule"]


def check_schedule(space: SearchSpace, max_epochs: int) -> None:
    """Refuse a schedule that `schedule_space` made for another number of epochs.

    Such a learning rate hardly falls, or has fallen long before the end, and nothing tells.

    Args:
        space: The search space of an objective.
        max_epochs: The epochs that it trains at most.

    Raises:
        InvalidArgument: If a range of the space is that of another number of epochs.

    Warns:
        UserWarning: If a ``T_max`` or ``step_size`` of one's own does not fit the epochs.
    """
    for name, own in _schedules(space):
        made_for = _made_for(name, own, max_epochs)
        if made_for is not None:
            raise InvalidArgument(
                f"`search_space` must have a schedule for the objective's {max_epochs} epochs, "
                f"got {name!r} for {made_for}: "
                f"make it by schedule_space({name!r}, max_epochs={max_epochs})."
            )
        _warn(name, own.defaults(), max_epochs)


def _schedules(space: SearchSpace) -> Iterator[tuple[str, SearchSpace]]:
    """Yield each schedule that a trial may have, and the space of trials that have it."""
    if "schedule" not in space.trainer_names():
        return
    choice = space.distributions().get("schedule")
    if isinstance(choice, CategoricalDistribution):
        for name in choice.choices:
            yield str(name), space.override(schedule=name)
    elif "schedule" in space.defaults():
        yield str(space.defaults()["schedule"]), space


def _made_for(name: str, space: SearchSpace, max_epochs: int) -> int | None:
    """Return the other number of epochs that a range was made for, None if there is none."""
    row = SCHEDULE_ROWS.get(name)
    if row is None:
        return None
    own = space.distributions()
    warmup = "warmup_epochs" in own
    fitting = row.space(name, max_epochs, warmup).distributions()
    for trial_name, distribution in own.items():
        if trial_name not in fitting or fitting[trial_name] == distribution:
            continue
        parameter = space.trainer_name(trial_name)
        guess = _guess(parameter, distribution, space.defaults()[parameter])
        if guess is not None and guess >= 1:
            other = row.space(name, guess, warmup).distributions()
            if other.get(trial_name) == distribution:
                return guess
    return None


def _guess(parameter: str, distribution: BaseDistribution, default: Any) -> int | None:
    """Return for how many epochs a range may have been made; see the table of schedules."""
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return None
    if parameter == "T_max":
        return int(distribution.low)
    if parameter == "step_size":
        return int(distribution.high)
    if parameter == "warmup_epochs":
        return round(distribution.low / 0.0125)
    if parameter == "gamma" and 0 < default < 1:
        return round(math.log(0.1) / math.log(default))
    return None


def _warn(name: str, defaults: dict[str, Any], max_epochs: int) -> None:
    found = None
    period, step_size = defaults.get("T_max"), defaults.get("step_size")
    if name == "cosine" and period is not None and period > 2 * max_epochs:
        found = f"`T_max` is {period}: the learning rate hardly falls"
    elif name == "cosine" and period is not None and period < max_epochs:
        found = f"`T_max` is {period}: the learning rate rises again before the end"
    elif name == "step" and step_size is not None and step_size >= max_epochs:
        found = f"`step_size` is {step_size}: the learning rate never falls"
    if found is not None:
        warnings.warn(
            f"{found} in {max_epochs} epochs, by default; "
            f"schedule_space({name!r}, max_epochs={max_epochs}) has ranges that fit.",
            stacklevel=4,
        )
