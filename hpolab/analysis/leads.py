"""By how much the leader of a comparison is better than its rivals on the test data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.statistics import (
    CONFIDENCE,
    Estimate,
    differences,
    holm,
    intervals,
    p_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Lead", "leads_of"]


@dataclass(frozen=True)
class Lead:
    """A lead over one rival, seed by seed.

    Attributes:
        rival: Its name.
        estimate: By how much the leader is better on the test data, with its 95 % interval; below
            0 the rival is.
        p_value: Of the lead being zero, by Holm's correction for all rivals.
    """

    rival: str
    estimate: Estimate
    p_value: float

    @property
    def is_told(self) -> bool:
        """Whether the two differ beyond chance, whichever is better."""
        return self.p_value <= 1 - CONFIDENCE

    def __str__(self) -> str:
        mean, low, high = self.estimate.mean, self.estimate.low, self.estimate.high
        if mean < 0:
            low, high = -high, -low
        proof = f"by {abs(mean):.4g} (95 % interval {low:.4g} to {high:.4g}, p {_p(self.p_value)})"
        if not self.is_told:
            return f"cannot be told from {self.rival}, {'ahead' if mean >= 0 else 'behind'} {proof}"
        return f"is {'better' if mean > 0 else 'worse'} than {self.rival} {proof}"


def leads_of(
    scores: Mapping[str, Sequence[float]], leader: str, *, maximize: bool
) -> tuple[Lead, ...]:
    """Return the leader's leads over all others that were scored on the same seeds.

    Those with other seeds, or with one on which the training diverged, have none.

    Args:
        scores: Contender -> scores on the test data, in the order of the seeds.
        leader: Who is compared with the others. It must not be chosen by these scores, or its lead
            is an overestimate.
        maximize: Whether a higher score is better.

    Example:
        >>> scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.7, 0.7], "c": [0.9]}
        >>> [lead.rival for lead in leads_of(scores, "a", maximize=True)]
        ['b']
    """
    of_leader = scores[leader]
    if len(of_leader) < 2 or any(map(math.isnan, of_leader)):
        return ()
    rivals = [
        name
        for name, found in scores.items()
        if name != leader and len(found) == len(of_leader) and not any(map(math.isnan, found))
    ]
    if not rivals:
        return ()
    sign = 1.0 if maximize else -1.0
    leads = [sign * differences(of_leader, scores[name]) for name in rivals]
    corrected = holm(p_values(leads).tolist())
    return tuple(
        Lead(rival, Estimate(*row), p)
        for rival, row, p in zip(rivals, intervals(leads).tolist(), corrected, strict=True)
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
