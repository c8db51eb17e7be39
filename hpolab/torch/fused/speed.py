"""How many trials to train as one: measured, not guessed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from hpolab.errors import in_brief
from hpolab.logs import get_logger
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.stack import Stack
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpolab.torch.fused.architecture import Architecture
    from hpolab.torch.training import TrainsByEpochs

__all__ = ["Speed", "choose", "is_too_short"]

_logger = get_logger(__name__)

_SIZES = (4, 16, 64)

# The least number of trials per slot under "auto". A sampler learns only from trials that have
# ended, so a stack must not hold too large a part of the study.
_LEAST_ROUNDS = 4

# A measurement is the fastest of some repeats, which is the least disturbed one. The first step is
# not counted.
_N_REPEATS = 3
# Steps of a repeat, as many as the study is long enough for.
_FEWEST_STEPS, _MOST_STEPS = 2, 8
# The largest part of the study's steps that measurements may take.
_MOST_SPENT = 0.02

# Seconds of lone training per size from which compiling is tried; it takes some ten seconds per
# size. Small steps spend their time on launching operations and may become ten times as fast; large
# steps spend it in the operations, which compiling hardly changes.
_COMPILE_SMALL_FROM_SECONDS = 60.0
_COMPILE_FROM_SECONDS = 600.0
_SMALL_STEP_SECONDS = 0.003

# A stack must be faster than lone training by this factor, which a measurement may be off by.
_LEAST_GAIN = 1.1


@dataclass(frozen=True)
class Speed:
    """How fast a stack of the default configuration trains.

    Attributes:
        size: The number of its members; 1 is lone training.
        compiled: Whether its steps are compiled.
        seconds: The duration of a step, divided by the number of members.
    """

    size: int
    compiled: bool
    seconds: float


def is_too_short(objective: TrainsByEpochs, batch_size: int, n_trials: int) -> bool:
    """Tell whether a study has too few steps for measurements to pay off."""
    return not _measured_sizes(n_trials, _n_lone_steps(objective, batch_size, n_trials))


def choose(
    objective: TrainsByEpochs,
    architecture: Architecture,
    member: Member,
    fuse: int | str,
    n_trials: int,
    seconds_left: float,
) -> Speed:
    """Return the fastest way to train ``n_trials`` trials that ``fuse`` allows.

    Args:
        objective: The objective to train.
        architecture: The architecture of the default configuration, which can be stacked.
        member: A member of it that has been in a stack.
        fuse: The number of trials at once, for which only compiling is measured; or "auto" for the
            fastest of 1, 4, 16 and 64. Sizes above a quarter of ``n_trials``, and sizes that the
            study is too short to measure, are left out.
        n_trials: The number of trials that are left.
        seconds_left: The time that is left, in seconds.
    """
    n_lone_steps = _n_lone_steps(objective, architecture.batch_size, n_trials)
    sizes = _measured_sizes(n_trials, n_lone_steps) if fuse == "auto" else [int(fuse)]
    n_steps = _n_measured_steps(sizes, n_lone_steps)
    lone = _lone_speed(objective, n_steps)
    measure = partial(_stack_speed, objective, architecture, member, n_steps=n_steps)
    found = [measure(size, compiled=False) for size in sizes] if fuse == "auto" else []
    seconds = min(lone.seconds * n_lone_steps, seconds_left)
    if seconds >= _compile_from(lone) * len(sizes):
        found += [measure(size, compiled=True) for size in sizes]
    if fuse != "auto":
        return found[0] if found and found[0] else Speed(sizes[0], compiled=False, seconds=0.0)
    return _fastest(lone, [speed for speed in found if speed is not None])


def _fastest(lone: Speed, stacks: Sequence[Speed]) -> Speed:
    best = min(stacks, key=lambda speed: speed.seconds, default=lone)
    if lone.seconds < _LEAST_GAIN * best.seconds:
        best = lone
    _logger.info(
        f"{best.size} trials train as one{', compiled' if best.compiled else ''}, "
        f"{lone.seconds / best.seconds:.1f} times as fast as one by one."
        if best.size > 1
        else "Trials train one by one, as fast as several at once."
    )
    return best


def _compile_from(lone: Speed) -> float:
    """Return the seconds of lone training from which compiling a size is tried."""
    is_small = lone.seconds < _SMALL_STEP_SECONDS
    return _COMPILE_SMALL_FROM_SECONDS if is_small else _COMPILE_FROM_SECONDS


def _n_lone_steps(objective: TrainsByEpochs, batch_size: int, n_trials: int) -> int:
    """Return the number of steps of all trials if each trains to its end."""
    n_batches = objective.task.train.n_batches(batch_size) or 1
    return n_trials * objective.max_steps * n_batches


def _measured_sizes(n_trials: int, n_lone_steps: int) -> list[int]:
    """Return the sizes that suit a study and that it is long enough to measure."""
    sizes = [size for size in _SIZES if size * _LEAST_ROUNDS <= n_trials]
    while sizes and _n_spent(sizes, _FEWEST_STEPS) > _MOST_SPENT * n_lone_steps:
        sizes.pop()
    return sizes


def _n_measured_steps(sizes: Sequence[int], n_lone_steps: int) -> int:
    """Return the number of steps of a repeat, the same for all sizes."""
    counts = range(_MOST_STEPS, _FEWEST_STEPS, -1)
    affordable = (n for n in counts if _n_spent(sizes, n) <= _MOST_SPENT * n_lone_steps)
    return next(affordable, _FEWEST_STEPS)


def _n_spent(sizes: Sequence[int], n_steps: int) -> int:
    """Return how many steps of members it takes to measure some sizes and a lone training."""
    return (1 + sum(sizes)) * (1 + _N_REPEATS * n_steps)


def _lone_speed(objective: TrainsByEpochs, n_steps: int) -> Speed:
    member = Member.outside(objective, objective.search_space.defaults(), 0)

    def train(n_batches: int) -> None:
        with member.random():
            member.training.epoch(n_batches)

    return Speed(1, compiled=False, seconds=_step_seconds(train, n_steps, objective.task.device))


def _stack_speed(
    objective: TrainsByEpochs,
    architecture: Architecture,
    member: Member,
    size: int,
    *,
    n_steps: int,
    compiled: bool,
) -> Speed | None:
    """Return a stack's speed, or None if it does not fit in memory or does not compile."""
    params = objective.search_space.defaults()
    try:
        members = [Member.outside(objective, params, seed) for seed in range(size)]
        for each in members:
            each.dropout_rates = member.dropout_rates
        stack = Stack(architecture, [(each, None) for each in members], compiled=compiled)
        seconds = _step_seconds(stack.epoch, n_steps, objective.task.device)
    except Exception as error:
        if not compiled and not is_out_of_memory(error):
            raise
        how = "compiled as one" if compiled else "trained as one"
        _logger.warning(f"{size} trials cannot be {how}: {in_brief(error)}")
        return None
    return Speed(size, compiled=compiled, seconds=seconds / size)


def _step_seconds(train: Callable[[int], None], n_steps: int, device: torch.device) -> float:
    """Return the seconds of a step, the fastest of some repeats; ``train(n)`` makes n steps."""
    train(1)
    taken = []
    for _ in range(_N_REPEATS):
        _wait_for(device)
        started = time.perf_counter()
        train(n_steps)
        _wait_for(device)
        taken.append((time.perf_counter() - started) / n_steps)
    return min(taken)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
