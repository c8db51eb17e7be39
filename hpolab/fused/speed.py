"""How many trials to train as one, by measuring it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from optuna.logging import get_logger

from hpolab.errors import in_brief
from hpolab.fused.member import Member
from hpolab.fused.stack import Stack
from hpolab.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpolab.fused.architecture import Architecture
    from hpolab.objectives import TorchObjective

__all__ = ["Speed", "choose"]

_logger = get_logger(__name__)

_SIZES = (4, 16, 64)

# Under "auto" a study has so many trials for each that trains at once: a sampler learns from those
# that have ended alone.
_LEAST_ROUNDS = 4

# Steps of a measurement, and how often it is repeated: the least is the least disturbed.
_N_STEPS = 8
_N_REPEATS = 3

# Seconds of lone training, for each size, from which compiling the step is tried: it takes some ten
# seconds for a size, and makes steps up to ten times as fast.
_COMPILE_FROM_SECONDS = 60.0

# What a stack must gain on a lone training, as a measurement may err by so much.
_LEAST_GAIN = 1.1


@dataclass(frozen=True)
class Speed:
    """How fast a stack of the default configuration trains.

    Attributes:
        size: Its members; 1 is a lone training.
        compiled: Whether its steps are compiled.
        seconds: Of a step, for each member.
    """

    size: int
    compiled: bool
    seconds: float


def choose(
    objective: TorchObjective,
    architecture: Architecture,
    fuse: int | str,
    n_trials: int,
    seconds_left: float,
) -> Speed:
    """Return how to train ``n_trials`` trials, the fastest way of those that ``fuse`` allows.

    Args:
        objective: What is trained.
        architecture: That of the default configuration, which can be stacked.
        fuse: How many trials at once, of which only is measured whether their steps are compiled;
            or "auto" for the fastest of 1, 4, 16 and 64, as far as a quarter of ``n_trials``.
        n_trials: Trials that are left.
        seconds_left: Seconds that are left.
    """
    lone = _lone_speed(objective)
    if fuse == "auto":
        sizes = [size for size in _SIZES if size * _LEAST_ROUNDS <= n_trials]
        found = [_stack_speed(objective, architecture, size, compiled=False) for size in sizes]
    else:
        sizes, found = [int(fuse)], []
    n_batches = architecture.task.train.n_batches(architecture.batch_size) or 1
    seconds_alone = lone.seconds * n_trials * objective.max_steps * n_batches
    if min(seconds_alone, seconds_left) >= _COMPILE_FROM_SECONDS * len(sizes):
        found += [_stack_speed(objective, architecture, size, compiled=True) for size in sizes]
    if fuse != "auto":
        return found[0] if found and found[0] else Speed(sizes[0], compiled=False, seconds=0.0)
    stacks = [speed for speed in found if speed is not None]
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


def _lone_speed(objective: TorchObjective) -> Speed:
    member = Member.outside(objective, objective.search_space.defaults(), 0)

    def train() -> None:
        with member.random():
            member.training.epoch(n_batches=_N_STEPS)

    return Speed(1, compiled=False, seconds=_seconds(train, objective.task.device))


def _stack_speed(
    objective: TorchObjective, architecture: Architecture, size: int, *, compiled: bool
) -> Speed | None:
    """Return the speed of a stack, None if it does not fit in memory or does not compile."""
    params = objective.search_space.defaults()
    try:
        members = [Member.outside(objective, params, seed) for seed in range(size)]
        stack = Stack(architecture, members, compiled=compiled)
        seconds = _seconds(lambda: stack.epoch(n_batches=_N_STEPS), objective.task.device)
    except Exception as error:
        if not compiled and not is_out_of_memory(error):
            raise
        how = "compiled as one" if compiled else "trained as one"
        _logger.warning(f"{size} trials cannot be {how}: {in_brief(error)}")
        return None
    return Speed(size, compiled=compiled, seconds=seconds / size)


def _seconds(train: Callable[[], None], device: torch.device) -> float:
    """Return the least seconds of a step; a call makes `_N_STEPS`, and the first is not counted."""
    train()
    taken = []
    for _ in range(_N_REPEATS):
        _wait_for(device)
        started = time.perf_counter()
        train()
        _wait_for(device)
        taken.append((time.perf_counter() - started) / _N_STEPS)
    return min(taken)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
