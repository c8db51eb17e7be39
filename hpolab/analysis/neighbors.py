"""What the trials around a configuration show: a study's values, smoothed over its space."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.analysis.process import HALF_WIDTH, Process
from hpolab.analysis.statistics import CONFIDENCE, Estimate, chance_worse
from hpolab.search_space.places import are_numbers, gap_sizes, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["Around", "Landscape", "Noise"]

# Distances within which trials count as neighbors: root mean square over the parameters, each from
# 0 to 1 on its range's own scale.
_BANDWIDTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
# Fewer trials say nothing about neighbors: the spread of all values is taken for noise.
_MIN_TRIALS = 6
_MIN_REPEATS = 3
# A configuration with less than half a neighbor's weight around it has no neighbors.
_MIN_WEIGHT = 0.5
# Shrinks a plane's tilt by about a tenth.
_RIDGE = 0.1
# With fewer trials for each parameter, the process says little and its intervals missed the true
# value in 20 to 30 % of simulations (six parameters, 20 noisy trials).
_TRIALS_OF_A_PARAMETER = 4
_MOST_IN_PROCESS = 600
# Values further below the best than four times as far as a usual one's are behind a cliff.
_USUAL, _FAR = 0.6, 4
# Noise below a tenth of the values' spread may be none: kinks that are taken for it.
_EXACT = 0.1
# At most so many trials choose the kernel's width.
_MOST_JUDGED = 300


@dataclass(frozen=True)
class Noise:
    """How much values of one configuration vary.

    Attributes:
        deviation: The standard deviation of one value.
        freedom: Its degrees of freedom.
        source: How it is known, in words.
    """

    deviation: float
    freedom: int
    source: str

    def of_difference(self, n_chosen_from: int = 1) -> float:
        """Return the difference that two single values stay below by chance, in 95 of 100 cases.

        Args:
            n_chosen_from: The number of values that the better one is the best of (Bonferroni).
        """
        from scipy.special import stdtrit

        quantile = stdtrit(self.freedom, 1 - (1 - CONFIDENCE) / 2 / n_chosen_from)
        return float(quantile * self.deviation * math.sqrt(2))


@dataclass(frozen=True)
class Around:
    """What the trials around a configuration show.

    Attributes:
        n_near: The number of trials near it, without itself.
        estimate: The true value to expect, with its interval; None if nothing is near or the trials
            are too few to tell.
        level: The lower end of an interval of the mean around it, where more is better: what orders
            configurations by robustness. None if nothing is near.
        drop: By how much its neighbors are worse on average, below 0 if better; None if nothing is
            near, or it has no value.
        is_flat: Whether that drop is within the noise; None if there is no drop.
    """

    n_near: int
    estimate: Estimate | None
    level: float | None = None
    drop: float | None = None
    is_flat: bool | None = None


class Landscape:
    """A study's values over its space: what to expect of a configuration, and what is near it.

    The value to expect is that of a Gaussian process (`Process`). Values behind a cliff are left
    out. With too few trials there is no such value.

    Trials are near within twice the width of a Gaussian kernel. Of a few widths, the kernel has the
    one with which planes best predict the better half of the trials from the others (leave one
    out; Cleveland & Devlin 1988, "Locally weighted regression"). A trial that differs in a choice,
    or in having a parameter at all, is as far away in that parameter as the two ends of a range.

    The noise is that of repeated configurations, or else of the process, or else what the planes
    miss in the better half. If values change faster than neighbors can show, that overestimates it.

    Args:
        trials: Complete trials.
        ranges: The parameters that vary, each with one range for all trials.
        maximize: Whether a higher value is better.
    """

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        ranges: Mapping[str, BaseDistribution],
        *,
        maximize: bool,
    ) -> None:
        self._ranges = dict(ranges)
        self._sign = 1.0 if maximize else -1.0
        self._is_number = are_numbers(self._ranges)
        values = self._sign * np.array([trial.value for trial in trials], dtype=np.float64)
        self._values = _without_disasters(values)
        places = [self._place(trial.params) for trial in trials]
        self._places = np.array(places, dtype=np.float64).reshape(len(trials), len(ranges))
        misses = self._misses() if len(trials) >= _MIN_TRIALS else {_BANDWIDTHS[0]: np.empty(0)}
        self._bandwidth = min(misses, key=lambda width: float((misses[width] ** 2).sum()))
        repeated = _repeated(trials, values)
        self.noise = (
            repeated or self._noise_of_process() or _left_over(misses[self._bandwidth], values)
        )

    def around(self, params: Mapping[str, Any], *, row: int | None = None) -> Around:
        """Return what the trials around a configuration show.

        Args:
            params: The configuration, as a trial stores it.
            row: Its place among the trials; None if it is not one of them.
        """
        offsets, distances = self._seen_from(self._place(params))
        kernel = _kernel(distances, self._bandwidth)
        near = distances <= 2 * self._bandwidth
        if row is not None:
            near[row] = False
        n_near = int(near.sum())
        if self.noise is None or kernel.sum() < _MIN_WEIGHT:
            return Around(n_near, None)
        estimate = self._estimate(params, row)
        level = self._level(offsets, kernel, self.noise)
        if row is None or not n_near:
            return Around(n_near, estimate, level)
        drop = float(self._values[row] - np.average(self._values[near], weights=kernel[near]))
        noise = self.noise.of_difference() * math.sqrt((1 + 1 / n_near) / 2)
        return Around(n_near, estimate, level, drop, drop <= noise)

    def _noise_of_process(self) -> Noise | None:
        if self._process is None:
            return None
        process, _ = self._process
        source = "what a smooth function of the parameters leaves"
        return Noise(process.noise, process.freedom, source)

    def chance_worse(self, row: int, other: int) -> float | None:
        """Return the chance that one trial's true value is worse than another's; None if unknown.

        Args:
            row: A trial's place among the trials, such as the best one's.
            other: Another's, such as the default's.
        """
        if self._process is None:
            return None
        process, rows = self._process
        places = [int(np.searchsorted(rows, each)) for each in (row, other)]
        if any(place == len(rows) for place in places):
            return None
        if [int(rows[place]) for place in places] != [row, other]:
            return None
        return process.chance_below(*places)

    def chance_below_value(self, row: int, value: float) -> float | None:
        """Return the chance that a trial's true value is below another's, known by one value.

        Args:
            row: A trial's place among the trials.
            value: The other's value, where more is better: noise and all.
        """
        if self._process is None or self._expected is None:
            return None
        process, _ = self._process
        mean, low, high = self._expected[row].tolist()
        error = math.hypot((high - low) / (2 * HALF_WIDTH), process.noise)
        return chance_worse(mean - value, error, process.freedom)

    def at_ends(self, params: Mapping[str, Any]) -> list[str]:
        """Return the numbers in the last fiftieth of their range, at either end.

        If a number was tried at two places only, each is an end and says nothing.
        """
        here = self._place(params)
        return [
            name
            for column, name in enumerate(self._ranges)
            if self._is_number[column]
            and abs(here[column] - 0.5) >= 0.48
            and self._n_places(column) > 2
        ]

    def _n_places(self, column: int) -> int:
        places = self._places[:, column]
        return len(np.unique(places[~np.isnan(places)]))

    def _level(
        self, offsets: NDArray[np.float64], kernel: NDArray[np.float64], noise: Noise
    ) -> float:
        """Return the lower end of a 95 % interval of the mean value around a place.

        In units where more is better. It orders configurations: the plane has a bias at a peak, so
        it is not an interval of the true value.
        """
        from scipy.special import stdtrit

        weights = _plane(offsets, kernel, self._bandwidth)
        mean = float(weights @ self._values)
        # If values fall off around it, the risk is more than noise.
        n = float(kernel.sum() ** 2 / (kernel**2).sum())
        spread = float(np.average((self._values - mean) ** 2, weights=kernel)) * n / max(n - 1, 1)
        deviation = max(noise.deviation, math.sqrt(spread)) * float(np.linalg.norm(weights))
        return mean - float(stdtrit(noise.freedom, (1 + CONFIDENCE) / 2)) * deviation

    @cached_property
    def _process(self) -> tuple[Process, NDArray[np.intp]] | None:
        """The process of the values, and the rows that it knows; None if they are too few."""
        rows = _without_far_worse(self._values)
        if len(rows) < _TRIALS_OF_A_PARAMETER * (len(self._ranges) + 1) or not self._ranges:
            return None
        if np.ptp(self._values[rows]) == 0:
            return None
        if len(rows) > _MOST_IN_PROCESS:
            rows = self._evenly_and_near_the_best(rows)
        return Process(self._squares(self._places[rows], rows), self._values[rows]), rows

    def _evenly_and_near_the_best(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return some of the rows. None is chosen for its own value, which noise has a part in."""
        best = self._places[int(np.argmax(self._values))]
        near = rows[np.argsort(self._seen_from(best)[1][rows], kind="stable")]
        half = _MOST_IN_PROCESS // 2
        evenly = np.linspace(0, len(rows) - half - 1, half).round().astype(int)
        return np.sort(np.concatenate([near[:half], np.sort(near[half:])[evenly]]))

    @cached_property
    def _expected(self) -> NDArray[np.float64] | None:
        """The trials' true values with their intervals, (n, 3); None if nobody knows."""
        if self._process is None:
            return None
        process, rows = self._process
        chunks = np.array_split(self._places, math.ceil(len(self._places) / 500))
        return np.concatenate([process.predict(self._squares(chunk, rows)) for chunk in chunks])

    def _estimate(self, params: Mapping[str, Any], row: int | None) -> Estimate | None:
        if self._process is None:
            return None
        if row is not None:
            assert self._expected is not None
            mean, low, high = self._expected[row].tolist()
            if self._process[0].noise < _EXACT * float(self._values.std()):
                # Perhaps the value is exact, and what differs from it is the smooth function.
                value = float(self._values[row])
                low, high = min(low, value), max(high, value)
        else:
            process, rows = self._process
            place = np.array([self._place(params)])
            mean, low, high = process.predict(self._squares(place, rows))[0].tolist()
        low, high = sorted((self._sign * low, self._sign * high))
        return Estimate(self._sign * mean, low, high)

    def _squares(self, places: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return squared distances to rows of trials, (parameters, places, rows).

        A number that only one of two configurations has is the square root of 3/4 away from the
        middle of its range: as far as that, distances stay those of points in a space.
        """
        here, there = places.T[:, :, None], self._places[rows].T[:, None, :]
        absent = np.isnan(here) != np.isnan(there)
        apart = (np.nan_to_num(here, nan=0.5) - np.nan_to_num(there, nan=0.5)) ** 2 + 0.75 * absent
        differs = np.nan_to_num(here, nan=-1.0) != np.nan_to_num(there, nan=-1.0)
        squares: NDArray[np.float64] = np.where(self._is_number[:, None, None], apart, differs)
        return squares

    def _misses(self) -> dict[float, NDArray[np.float64]]:
        """Return by how much each of the better half differs from its prediction, by width."""
        rows = np.flatnonzero(self._values >= np.median(self._values))[:_MOST_JUDGED]
        misses: dict[float, list[float]] = {width: [] for width in _BANDWIDTHS}
        for row in rows:
            offsets, distances = self._seen_from(self._places[row])
            for width in _BANDWIDTHS:
                # A trial without neighbors is predicted by all others alike.
                kernel = _kernel(distances, width) + 1e-6
                kernel[row] = 0.0
                weights = _plane(offsets, kernel, width)
                miss = float(self._values[row] - weights @ self._values)
                misses[width].append(miss / math.sqrt(1 + float(weights @ weights)))
        return {width: np.array(found) for width, found in misses.items()}

    def _place(self, params: Mapping[str, Any]) -> list[float]:
        return place_of(self._ranges, params)

    def _seen_from(
        self, place: Sequence[float] | NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the trials' offsets in each number, (n, numbers), and their distances, (n,)."""
        if not self._ranges:
            return np.zeros((len(self._places), 0)), np.zeros(len(self._places))
        here = np.asarray(place, dtype=np.float64)
        gaps = (self._places - here)[:, self._is_number]
        sizes = gap_sizes(self._places, here, self._is_number)
        return np.nan_to_num(gaps), np.sqrt((sizes**2).mean(axis=1))


def _without_disasters(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values; those far below the others are moved up to where outliers begin.

    Otherwise one diverged trial would pull down the mean over neighbors of everything near it.
    """
    if not len(values):
        return values
    first, third = np.quantile(values, [0.25, 0.75])
    return np.maximum(values, first - 3 * (third - first)) if third > first else values


def _without_far_worse(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows of values that are not behind a cliff: a smooth function has none.

    Noise has no part in that: values that far below the best are not there by chance.
    """
    best, usual = values.max(), np.quantile(values, _USUAL)
    if best == usual:
        return np.arange(len(values))
    return np.flatnonzero(values >= best - _FAR * (best - usual))


def _kernel(distances: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(-((distances / bandwidth) ** 2) / 2)
    return weights


def _plane(
    offsets: NDArray[np.float64], kernel: NDArray[np.float64], bandwidth: float
) -> NDArray[np.float64]:
    """Return each trial's weight in the height of the fitted plane at no offset, (n,)."""
    design = np.hstack([np.ones((len(offsets), 1)), offsets])
    squares = design.T @ (kernel[:, None] * design)
    # Keeps a plane level if trials are too few, or too similar, to tilt it.
    tilt = np.arange(1, len(squares))
    squares[tilt, tilt] += _RIDGE * kernel.sum() * bandwidth**2
    weights: NDArray[np.float64] = np.linalg.solve(squares, (kernel[:, None] * design).T)[0]
    return weights


def _left_over(misses: NDArray[np.float64], values: NDArray[np.float64]) -> Noise | None:
    """Return the noise that the smoothed values leave; None if there are too few trials."""
    if len(values) < 3:
        return None
    if not len(misses):
        spread = float(values.std(ddof=1))
        return Noise(spread, len(values) - 1, "the spread of all values") if spread else None
    # Half of the misses of a normal distribution lie within 0.6745 standard deviations.
    deviation = float(np.median(np.abs(misses))) / 0.6745
    source = "the distances of the better half of the trials from their neighbors' values"
    return Noise(deviation, len(misses) - 1, source) if deviation else None


def _repeated(trials: Sequence[FrozenTrial], values: NDArray[np.float64]) -> Noise | None:
    """Return the noise among trials of one configuration; None if too few were repeated."""
    groups: dict[str, list[float]] = defaultdict(list)
    for trial, value in zip(trials, values, strict=True):
        groups[str(sorted(trial.params.items()))].append(float(value))
    freedom = sum(len(group) - 1 for group in groups.values())
    if freedom < _MIN_REPEATS:
        return None
    squares = sum(len(group) * float(np.var(group)) for group in groups.values())
    source = (
        f"{freedom + sum(len(g) > 1 for g in groups.values())} trials of repeated configurations"
    )
    return Noise(math.sqrt(squares / freedom), freedom, source) if squares else None
