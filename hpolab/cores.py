"""The cores of this machine that are ours to use."""

from __future__ import annotations

from numbers import Real
from typing import Any

import loky

__all__ = ["n_threads_asked", "n_usable_cores"]


def n_usable_cores() -> int:
    """Return the number of cores that this process may use, 1 or more.

    It is at most the cores that the process is bound to, as by ``taskset`` or SLURM, and the
    quota of its control group, as a container has it.
    """
    n_cores: int = loky.cpu_count()
    return n_cores


def n_threads_asked(value: Any) -> int:
    """Return how many threads a library's ``n_jobs`` or ``num_threads`` asks for, 1 or more.

    Args:
        value: A number: 0 and -1 are all cores, -2 is all but one, as joblib and LightGBM read
            them. Anything else asks for none of its own, as None.

    Example:
        >>> n_threads_asked(3), n_threads_asked(None)
        (3, 1)
    """
    if not isinstance(value, Real):
        return 1
    n_threads = int(float(value))
    return max(1, n_threads if n_threads > 0 else n_usable_cores() + 1 + (n_threads or -1))
