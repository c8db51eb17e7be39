"""The cores of this machine that are ours to use."""

from __future__ import annotations

import loky

__all__ = ["n_usable_cores"]


def n_usable_cores() -> int:
    """Return the number of cores that this process may use, 1 or more.

    It is at most the cores that the process is bound to, as by ``taskset`` or SLURM, and the
    quota of its control group, as a container has it.
    """
    n_cores: int = loky.cpu_count()
    return n_cores
