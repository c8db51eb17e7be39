"""Random state: seeded inside a training, and outside it as it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from hpolab.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

__all__ = ["get_random_state", "order_seed", "seeded", "set_random_state"]


def order_seed(seed: int) -> int:
    """Return the seed of a training's data order, independent of its initial weights."""
    return derive_seed(seed, "order")


@contextmanager
def seeded(
    seed: int, device: torch.device, generators: Sequence[torch.Generator] = ()
) -> Iterator[None]:
    """Seed torch's default generators inside, and give each its old state back after.

    Args:
        seed: Seeds the default generators of the CPU and of ``device``, and no other device's:
            `torch.manual_seed` would seed them all.
        device: Where the training runs.
        generators: The data's own generators, treated likewise.
    """
    devices = [] if device.type == "cpu" else [device]
    states = [generator.get_state() for generator in generators]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.default_generator.manual_seed(seed)
        for other in devices:
            state = torch.Generator(other).manual_seed(seed).get_state()
            torch.get_device_module(other).set_rng_state(state, other)
        for generator in generators:
            generator.manual_seed(order_seed(seed))
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def get_random_state(device: torch.device, generators: Sequence[torch.Generator]) -> list[Tensor]:
    """Return the states of all that `seeded` seeds: the CPU, ``device``, then ``generators``."""
    states = [torch.default_generator.get_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states + [generator.get_state() for generator in generators]


def set_random_state(
    states: Sequence[Tensor], device: torch.device, generators: Sequence[torch.Generator]
) -> None:
    """Go back to the states that `get_random_state` has returned."""
    rest = list(states)
    torch.default_generator.set_state(rest.pop(0))
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(rest.pop(0), device)
    for generator, state in zip(generators, rest, strict=True):
        generator.set_state(state)
