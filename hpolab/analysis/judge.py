"""Configurations against a baseline, by their scores on seeds and on rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpolab.analysis.crossed import Contrasts, on_new_rows, on_these_rows
from hpolab.analysis.effects import Effect, effects
from hpolab.analysis.simultaneous import simultaneous_intervals, winner
from hpolab.analysis.statistics import Estimate, depends_on_seed, differences, share_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from hpolab.analysis.crossed import Parts

    _Key = TypeVar("_Key", int, str)

__all__ = ["Judged", "Scored", "improvements", "judge", "mean_of", "share_of_seeds"]


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
    contrasts, is_tested = _contrasted(baseline, others, sign, n_spent)
    found = of_these = effects(contrasts, is_tested, min_difference=min_difference)
    if contrasts.parts:  # they are about new data
        by_seed = {place: Scored(each.by_seed) for place, each in others.items()}
        here = _contrasted(Scored(baseline.by_seed), by_seed, sign, n_spent)
        of_these = effects(*here, min_difference=min_difference)
    place, expected = winner(contrasts, grid=_grid([baseline, *others.values()]))
    if not any(is_tested):
        expected = Estimate(*simultaneous_intervals(contrasts)[place].tolist())
    return Judged(
        dict(zip(others, found, strict=True)),
        dict(zip(others, of_these, strict=True)),
        list(others)[place],
        expected,
        contrasts,
    )


def improvements(
    scores: Mapping[str, Sequence[float]],
    leader: str,
    *,
    maximize: bool,
    rows: Mapping[str, NDArray[np.float64]] | None = None,
    min_difference: float | None = None,
) -> dict[str, Effect]:
    """Return by how much the leader is better than each rival, seed by seed.

    A rival that was scored on other seeds, or whose training diverged on one, is left out.
    Intervals and p-values hold for all rivals together. If no score depends on its seed and rows
    are not known, there is nothing to test.

    Args:
        scores: Contender -> scores on the test data, in the order of the seeds.
        leader: The contender to compare with the others. It must not be chosen by these scores, or
            its improvement is an overestimate.
        maximize: Whether a higher score is better.
        rows: Contender -> (n_seeds, n_rows) scores of the same rows for all. The improvements are
            then those on new rows like these; otherwise on these rows.
        min_difference: The smallest improvement that matters.

    Returns:
        Rival -> improvement of the leader over it.

    Example:
        >>> scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.7, 0.7], "c": [0.9]}
        >>> list(improvements(scores, "a", maximize=True))
        ['b']
    """
    of_leader = scores[leader]
    if len(of_leader) < 2 or any(map(math.isnan, of_leader)):
        return {}
    rivals = [
        name
        for name, found in scores.items()
        if name != leader and len(found) == len(of_leader) and not any(map(math.isnan, found))
    ]
    if not rivals:
        return {}
    scored = {
        name: Scored(np.array(scores[name]), None if rows is None else rows[name])
        for name in (leader, *rivals)
    }
    # By how much a rival is better than the leader, turned round.
    sign = -1.0 if maximize else 1.0
    baseline = scored.pop(leader)
    contrasts, is_tested = _contrasted(baseline, scored, sign)
    found = effects(contrasts, is_tested, min_difference=min_difference)
    return dict(zip(rivals, found, strict=True))


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

    Seeds of equal scores count half, and in the interval for either side (`share_interval`).

    Args:
        n_better: Seeds on which it was better.
        n_equal: Seeds on which it was as good.
        n_seeds: All seeds.

    Example:
        >>> found = share_of_seeds(9, 0, 10)
        >>> round(found.mean, 2), round(found.low, 3), round(found.high, 3)
        (0.9, 0.555, 0.997)
    """
    low, high = share_interval(n_better, n_better + n_equal, n_seeds)
    return Estimate((n_better + n_equal / 2) / n_seeds, low, high)


def _grid(scored: Sequence[Scored]) -> float:
    """Return the step in which mean scores come, judged by the smallest gap between two scores."""
    found = np.unique(np.concatenate([each.by_seed for each in scored]))
    gaps = np.diff(found)
    gaps = gaps[gaps > 1e-12 * np.abs(found).max(initial=0.0)]
    if not len(gaps):
        return 0.0
    n = len(scored[0].by_seed) if depends_on_seed(*(each.by_seed for each in scored)) else 1
    return float(gaps.min()) / n


def _contrasted(
    baseline: Scored, others: Mapping[_Key, Scored], sign: float, n_spent: int = 1
) -> tuple[Contrasts, list[bool]]:
    """Return by how much others are above a baseline, times a sign, and which can be tested.

    On new data if scores by row are known of all; otherwise on these rows, where those that do not
    depend on their seed cannot.
    """
    paired = np.array([sign * differences(o.by_seed, baseline.by_seed) for o in others.values()])
    by_row = _paired_rows(baseline, others, sign)
    if by_row is not None:
        return on_new_rows(paired, by_row, n_spent=n_spent), [True] * len(others)
    varies = [depends_on_seed(baseline.by_seed, other.by_seed) for other in others.values()]
    return on_these_rows(paired, n_spent=n_spent), varies


def _paired_rows(
    baseline: Scored, others: Mapping[_Key, Scored], sign: float
) -> NDArray[np.float64] | None:
    """Return differences by row, (k, n, rows); None if one of them is not known by row."""
    shapes = {None if each.by_row is None else each.by_row.shape for each in others.values()}
    if baseline.by_row is None or shapes != {baseline.by_row.shape}:
        return None
    rows = [sign * (other.by_row - baseline.by_row) for other in others.values()]  # type: ignore[operator]
    return np.array(rows)
