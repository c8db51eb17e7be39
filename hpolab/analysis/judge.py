"""Configurations against a baseline, by their scores on seeds and on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.crossed import Contrasts, on_new_rows, on_these_rows
from hpolab.analysis.effects import Effect, effects
from hpolab.analysis.simultaneous import simultaneous_intervals, winner
from hpolab.analysis.statistics import Estimate, depends_on_seed, differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hpolab.analysis.crossed import Parts

__all__ = ["Judged", "Scored", "judge", "mean_of", "share_of_seeds"]


@dataclass(frozen=True)
class Scored:
    """A configuration's scores on test data.

    Attributes:
        by_seed: (n,) scores, in the order of the seeds.
        by_row: (n, rows) what the rows contribute to them; None if that is not known.
    """

    by_seed: NDArray[np.float64]
    by_row: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Judged:
    """What is known of some configurations against a baseline.

    Attributes:
        improvements: Place -> by how much it is better: on new data like these rows if scores by
            row are known, otherwise on these rows. They hold for all places together.
        on_these_rows: Place -> by how much it is better on these rows alone.
        best: The place with the largest improvement.
        expected: What to expect of the best, chosen for being the best.
        contrasts: The improvements as they were estimated, in the order of the places.
    """

    improvements: Mapping[int, Effect]
    on_these_rows: Mapping[int, Effect]
    best: int
    expected: Estimate
    contrasts: Contrasts

    @property
    def parts(self) -> Mapping[int, Parts]:
        """Place -> what the variance of its improvement is made of; empty without rows."""
        return dict(zip(self.improvements, self.contrasts.parts, strict=False))


def judge(
    baseline: Scored,
    others: Mapping[int, Scored],
    *,
    maximize: bool,
    n_spent: int = 1,
    min_difference: float | None = None,
) -> Judged:
    """Compare configurations with a baseline, all scored on the same seeds and rows.

    Args:
        baseline: The baseline's scores.
        others: Place -> scores of a configuration, of which there is one at least.
        maximize: Whether a higher score is better.
        n_spent: How many of the first seeds have decided the number of seeds.
        min_difference: The smallest difference that matters.
    """
    sign = 1.0 if maximize else -1.0
    paired = np.array([sign * differences(o.by_seed, baseline.by_seed) for o in others.values()])
    varies = [depends_on_seed(baseline.by_seed, other.by_seed) for other in others.values()]
    here = on_these_rows(paired, n_spent=n_spent)
    of_these = effects(here, varies, min_difference=min_difference)
    by_row = _paired_rows(baseline, others, sign)
    if by_row is None:
        contrasts, found, is_tested = here, of_these, any(varies)
    else:
        contrasts = on_new_rows(paired, by_row, n_spent=n_spent)
        found = effects(contrasts, [True] * len(others), min_difference=min_difference)
        is_tested = True
    place, expected = winner(contrasts, grid=_grid([baseline, *others.values()]))
    if not is_tested:
        expected = Estimate(*simultaneous_intervals(contrasts)[place].tolist())
    return Judged(
        dict(zip(others, found, strict=True)),
        dict(zip(others, of_these, strict=True)),
        list(others)[place],
        expected,
        contrasts,
    )


def mean_of(scored: Scored, *, n_spent: int = 1) -> Estimate:
    """Return the mean score and its interval: on new data if scores by row are known."""
    by_seed = scored.by_seed[None]
    if scored.by_row is None:
        found = on_these_rows(by_seed, n_spent=n_spent)
    else:
        found = on_new_rows(by_seed, scored.by_row[None], n_spent=n_spent)
    return Estimate(*simultaneous_intervals(found)[0].tolist())


def share_of_seeds(n_better: int, n_equal: int, n_seeds: int) -> Estimate:
    """Return how often a configuration is better on a seed, and an interval without assumptions.

    Seeds of equal scores count half, and in the interval for either side (Clopper and Pearson
    1934, "The use of confidence or fiducial limits illustrated in the case of the binomial").

    Args:
        n_better: Seeds on which it was better.
        n_equal: Seeds on which it was as good.
        n_seeds: All seeds.

    Example:
        >>> found = share_of_seeds(9, 0, 10)
        >>> round(found.mean, 2), round(found.low, 3), round(found.high, 3)
        (0.9, 0.555, 0.997)
    """
    from scipy.special import betaincinv

    at_most = n_better + n_equal
    low = betaincinv(n_better, n_seeds - n_better + 1, 0.025) if n_better else 0.0
    high = betaincinv(at_most + 1, n_seeds - at_most, 0.975) if at_most < n_seeds else 1.0
    return Estimate((n_better + n_equal / 2) / n_seeds, float(low), float(high))


def _grid(scored: Sequence[Scored]) -> float:
    """Return the step in which mean scores come, judged by the smallest gap between two scores."""
    found = np.unique(np.concatenate([each.by_seed for each in scored]))
    gaps = np.diff(found)
    gaps = gaps[gaps > 1e-12 * np.abs(found).max(initial=0.0)]
    if not len(gaps):
        return 0.0
    n = len(scored[0].by_seed) if depends_on_seed(*(each.by_seed for each in scored)) else 1
    return float(gaps.min()) / n


def _paired_rows(
    baseline: Scored, others: Mapping[int, Scored], sign: float
) -> NDArray[np.float64] | None:
    """Return differences by row, (k, n, rows); None if one of them is not known by row."""
    shapes = {None if each.by_row is None else each.by_row.shape for each in others.values()}
    if baseline.by_row is None or shapes != {baseline.by_row.shape}:
        return None
    rows = [sign * (other.by_row - baseline.by_row) for other in others.values()]  # type: ignore[operator]
    return np.array(rows)
