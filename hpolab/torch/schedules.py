"""Learning-rate schedules: their search spaces, and each as a pure function of the step.

torch's own schedulers step from the last learning rate to the next. Here the factor is computed
from the step alone: warm-up composes with every schedule, a resumed training cannot drift, and
epochs may be divided into any number of steps. The tests hold each one to torch's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpolab.errors import check_count
from hpolab.keywords import checks_keywords
from hpolab.search_space.rows import Row, space_of
from hpolab.search_space.space import SearchSpace, named_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpolab.search_space.space import SearchSpace

__all__ = ["SCHEDULES", "SCHEDULE_ROWS", "Moment", "ScheduleRow", "factor_at", "schedule_space"]

_ALGOPERF = "AlgoPerf's baselines (Dahl et al. 2023, arXiv:2306.07179)"


@dataclass(frozen=True)
class Moment:
    """Where training stands, counted from the end of its warm-up.

    Attributes:
        step: Steps done since then.
        n_steps: Steps from then to the end.
        n_epochs: Epochs of the whole training, warm-up included.
        steps_per_epoch: Steps of an epoch.
        lr: The learning rate that the schedule multiplies.
    """

    step: float
    n_steps: float
    n_epochs: int
    steps_per_epoch: int
    lr: float


def _constant(now: Moment, params: Mapping[str, Any]) -> float:
    return 1.0


def _cosine(now: Moment, params: Mapping[str, Any]) -> float:
    # SGDR, arXiv:1608.03983, equation 5, without restarts. Warm-up shortens the whole curve.
    floor = params["eta_min"] / now.lr
    period = now.n_steps * params["T_max"] / now.n_epochs
    return _cosine_between(1.0, floor, now.step / period)


def _one_cycle(now: Moment, params: Mapping[str, Any]) -> float:
    # Smith & Topin, arXiv:1708.07120, in the two-phase cosine form of torch's OneCycleLR.
    first = 1.0 / params["div_factor"]
    last = first / params["final_div_factor"]
    peak = max(params["pct_start"] * now.n_steps - 1.0, 0.0)
    if now.step < peak:
        return _cosine_between(first, 1.0, now.step / peak)
    fall = max(now.n_steps - 1.0 - peak, 1.0)
    return _cosine_between(1.0, last, min((now.step - peak) / fall, 1.0))


def _step(now: Moment, params: Mapping[str, Any]) -> float:
    # A fractional warm-up leaves rounding in the step; a drop must not come an epoch late for it.
    epochs = now.step / now.steps_per_epoch + 1e-9
    return float(params["gamma"] ** math.floor(epochs / params["step_size"]))


def _exponential(now: Moment, params: Mapping[str, Any]) -> float:
    return float(params["gamma"] ** (now.step / now.steps_per_epoch))


def _cosine_between(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * part)) / 2.0


def _no_settings(max_epochs: int) -> dict[str, Row]:
    return {}


def _cosine_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "T_max": Row(
            (max_epochs, 2 * max_epochs),
            max_epochs,
            "SGDR (arXiv:1608.03983, equation 5) with one period for the run; a longer period is "
            "cut off before its floor, a shorter one would rise again",
        )
    }


def _one_cycle_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "pct_start": Row(
            (0.1, 0.5),
            0.3,
            "torch's default 0.3 up to the symmetric cycle of Smith & Topin (arXiv:1708.07120), "
            "and as far down",
        ),
        "div_factor": Row(
            (2.5, 250.0, "log"),
            25.0,
            "decades(25, 1, 1) around torch's default; Smith & Topin (arXiv:1708.07120) begin at "
            "a third or a quarter of the peak",
        ),
    }


def _step_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "step_size": Row(
            (max(1, max_epochs // 10), max(2, max_epochs)),
            max(1, max_epochs // 3),
            "from ten drops to none; default a third of the run, as 30 of 90 epochs in torch's "
            "ImageNet example (github.com/pytorch/examples)",
        ),
        "gamma": Row(
            (0.05, 0.5, "log"),
            0.1,
            "torch's default, from half of it to a mere halving",
        ),
    }


def _exponential_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "gamma": Row(
            (1e-3 ** (1 / max_epochs), 0.9 ** (1 / max_epochs)),
            0.1 ** (1 / max_epochs),
            "gamma**max_epochs, the part of the learning rate that is left, in 0.001 .. 0.9; "
            "default a tenth, one drop of StepLR",
            one_minus=True,
        )
    }


def _plateau_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "factor": Row(
            (0.05, 0.5, "log"), 0.1, "torch's default, from half of it to a mere halving"
        ),
        "plateau_patience": Row(
            (1, max(2, max_epochs // 4)),
            min(10, max(1, max_epochs // 8)),
            "torch's default 10, or an eighth of a short run; up to a quarter of the run, after "
            "which little is left to train",
        ),
    }


def _warmup_settings(max_epochs: int) -> dict[str, Row]:
    return {
        "warmup_epochs": Row(
            (0.0125 * max_epochs, 0.2 * max_epochs, "log"),
            0.05 * max_epochs,
            f"{_ALGOPERF}: warmup_factor 0.05 of the run; a factor of four either side",
        )
    }


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule.

    Attributes:
        factor: What the learning rate is multiplied by, of a moment and trainer params.
        settings: Makes the tuned parameters for a number of epochs.
        fixed: What stays as it is unless a space's `override` opens it.
        warms_up: Whether the schedule is nothing without a warm-up.
    """

    factor: Callable[[Moment, Mapping[str, Any]], float]
    settings: Callable[[int], dict[str, Row]] = _no_settings
    fixed: Mapping[str, Any] = field(default_factory=dict)
    warms_up: bool = False

    def space(self, name: str, max_epochs: int, warmup: bool) -> SearchSpace:
        """Return the row's search space under the schedule's name."""
        settings = self.settings(max_epochs)
        # A training of another length would end before such a schedule does, or after it.
        is_of_length = settings != self.settings(2 * max_epochs)
        if warmup or self.warms_up:
            settings |= _warmup_settings(max_epochs)
            is_of_length = True
        length = {"schedule_epochs": max_epochs} if is_of_length else {}
        return space_of({"schedule": name, **settings, **self.fixed, **length})

    def parameters(self) -> list[str]:
        """Return the names that the factor reads, warm-up aside."""
        return [*self.settings(2), *self.fixed]


SCHEDULE_ROWS: Mapping[str, ScheduleRow] = {
    "constant": ScheduleRow(_constant),
    "cosine": ScheduleRow(_cosine, _cosine_settings, {"eta_min": 0.0}),
    "one_cycle": ScheduleRow(_one_cycle, _one_cycle_settings, {"final_div_factor": 1e4}),
    "step": ScheduleRow(_step, _step_settings),
    "exponential": ScheduleRow(_exponential, _exponential_settings),
    "warmup": ScheduleRow(_constant, warms_up=True),
    # Its factor depends on the metric: see `PlateauSchedule`.
    "plateau": ScheduleRow(_constant, _plateau_settings, {"min_lr": 0.0}),
}

SCHEDULES: tuple[str, ...] = tuple(SCHEDULE_ROWS)
"""The names that `schedule_space` knows."""


@checks_keywords()
def schedule_space(
    name: str | Sequence[str], *, max_epochs: int, warmup: bool = False
) -> SearchSpace:
    """Return the search space of a learning-rate schedule, or of a choice among several.

    It joins with any optimizer's space: ``optimizer_space("adam") | schedule_space("cosine",
    max_epochs=20)``. Times are in epochs. Where they count, the space holds ``schedule_epochs``: a
    training of another length is refused.

    Args:
        name: One of constant, cosine, one_cycle, step, exponential, warmup (a linear rise, then
            constant) and plateau (multiplied by ``factor`` whenever the metric on `valid` has not
            improved for more than ``plateau_patience`` epochs); or a list of them, which makes the
            schedule itself a parameter. The first is then the default.
        max_epochs: The epochs that a training lasts at most.
        warmup: Whether each schedule begins with a linear rise over ``warmup_epochs``.

    Raises:
        InvalidArgument: If a name is unknown, a list is empty or repeats a name, or
            ``max_epochs`` is below 1.
        InvalidType: If ``name`` is neither a string nor a sequence of strings, or ``max_epochs``
            is not an int.

    Example:
        >>> schedule_space("cosine", max_epochs=20, warmup=True)
        SearchSpace(
          schedule = 'cosine'
          T_max: 20 .. 40, default 20
          warmup_epochs: 0.25 .. 4.0 (log scale), default 1.0
          eta_min = 0.0
          schedule_epochs = 20
        )
    """
    check_count("max_epochs", max_epochs)
    return named_space(
        "schedule",
        name,
        SCHEDULE_ROWS,
        lambda key: SCHEDULE_ROWS[key].space(key, max_epochs, warmup),
    )


def factor_at(
    step: int,
    *,
    row: ScheduleRow,
    params: Mapping[str, Any],
    max_epochs: int,
    steps_per_epoch: int,
    lr: float,
) -> float:
    """Return what a learning rate is multiplied by for its step number ``step``, from 0.

    During the warm-up of w steps it is (step + 1) / w of the schedule's first value (Goyal et al.
    2017, arXiv:1706.02677, section 2.2); the schedule itself then runs over the steps that are
    left.
    """
    warmup_steps = params.get("warmup_epochs", 0.0) * steps_per_epoch
    now = Moment(
        step=max(step - warmup_steps, 0.0),
        n_steps=max_epochs * steps_per_epoch - warmup_steps,
        n_epochs=max_epochs,
        steps_per_epoch=steps_per_epoch,
        lr=lr,
    )
    rise = min((step + 1) / warmup_steps, 1.0) if step < warmup_steps else 1.0
    return rise * row.factor(now, params)
