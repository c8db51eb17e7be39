"""One seed for a study, and every other seed derived from it."""

from __future__ import annotations

from zlib import crc32

__all__ = ["derive_seed"]


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
