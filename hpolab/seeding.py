"""One seed for a study, and every other seed derived from it."""

from __future__ import annotations

from numbers import Integral
from typing import Any
from zlib import crc32

from hpolab.errors import InvalidArgument, InvalidType

__all__ = ["check_seed", "derive_seed"]


def check_seed(seed: Any, argument: str = "seed") -> int:
    """Return a seed as an int, or refuse what is none.

    Args:
        seed: A whole number of 0 or above; NumPy's integers are ones, flags and floats are not.
        argument: The argument's name, for the message.

    Raises:
        InvalidType: If ``seed`` is no int.
        InvalidArgument: If it is below 0.

    Example:
        >>> check_seed(-1)
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `seed` must be 0 or above, got -1.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InvalidType(f"`{argument}` must be an int, got {type(seed).__name__}.")
    if seed < 0:
        raise InvalidArgument(f"`{argument}` must be 0 or above, got {seed}.")
    return int(seed)


def derive_seed(seed: int, *path: int | str) -> int:
    """Derive an independent 32-bit seed for one use of a study's seed.

    NumPy's ``SeedSequence`` mixes the entropy (O'Neill 2015, "Developing a seed_seq alternative"),
    so neighboring trials get unrelated streams.

    Args:
        seed: The study's seed, 0 or above.
        *path: What the seed is for: a trial's number, a parameter's name, a purpose.

    Returns:
        An integer in [0, 2**32).

    Example:
        >>> derive_seed(0, 7, "lr") == derive_seed(0, 7, "lr")
        True
        >>> derive_seed(0, 7, "lr") == derive_seed(0, 8, "lr")
        False
    """
    import numpy as np

    words = [crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])
