"""What speaks against intervals that assume about normal differences between seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.statistics import CONFIDENCE
from hpolab.analysis.wording import percent, short

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["doubts", "unseen_share", "unseen_words"]

# Standard deviations of two configurations that differ by more are remarked on.
_UNEVEN = 3.0
# A test of normality is that of a warning, not of a claim.
_LEVEL = 0.01
# Fewer seeds show no skewness.
_FEW_SEEDS = 8


def doubts(
    name: str, scores: ArrayLike, baseline: ArrayLike, *, baseline_name: str, maximize: bool
) -> list[str]:
    """Return warnings about scores whose differences between seeds are not about normal.

    Args:
        name: What the configuration is called.
        scores: (n,) its scores, seed by seed.
        baseline: (n,) those of the baseline.
        baseline_name: What the baseline is called.
        maximize: Whether a higher score is better.

    Example:
        >>> found = doubts(
        ...     "trial 3", [0.5, 0.9, 0.7], [0.70, 0.71, 0.72],
        ...     baseline_name="the default", maximize=True,
        ... )
        >>> print(*found, sep="\\n")
        The scores of trial 3 scatter 20 times as much as those of the default.
        The worst seed of trial 3 has 0.5.
    """
    own, other = np.asarray(scores, float), np.asarray(baseline, float)
    worst = float(own.min() if maximize else own.max())
    found = []
    spreads = own.std(ddof=1), other.std(ddof=1)
    if min(spreads) > 0 and max(spreads) / min(spreads) >= _UNEVEN:
        more, less = (name, baseline_name) if spreads[0] > spreads[1] else (baseline_name, name)
        found.append(
            f"The scores of {more} scatter {short(float(max(spreads) / min(spreads)), 2)} times as "
            f"much as those of {less}."
        )
    if _is_skewed(own - other):
        found.append(
            f"The differences between {name} and {baseline_name} are not normal but skewed, so the "
            "interval may not hold: look at the single seeds, or run more of them."
        )
    if found:
        found.append(f"The worst seed of {name} has {short(worst, 4)}.")
    return found


def unseen_share(n_seeds: int) -> float:
    """Return the largest share of seeds that may collapse although none of so many has.

    Example:
        >>> round(unseen_share(10), 2)
        0.26
    """
    return float(1 - (1 - CONFIDENCE) ** (1 / n_seeds))


def unseen_words(n_seeds: int) -> str:
    """Return what the intervals assume of seeds, and what these seeds cannot show."""
    return (
        "Intervals assume about normal differences between seeds. A collapse that none of "
        f"{n_seeds} seeds has shown may still happen on up to {percent(unseen_share(n_seeds))} of "
        "seeds."
    )


def _is_skewed(differences: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    from scipy.stats import skewtest

    if len(differences) < _FEW_SEEDS or not np.ptp(differences) > 0:
        return False
    return bool(skewtest(differences).pvalue < _LEVEL)
