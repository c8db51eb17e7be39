"""Popularity of late: what most users took in the last days of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, one_of
from hpolab.recommender.classical import Popularity
from hpolab.recommender.trainer import RecommenderTrainer, RecommenderTraining, number_param

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.recommender.interactions import Interactions

__all__ = ["LastDaysPopularity", "knows_days"]

_DAY = 86_400.0
_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
# Numbers from which a unit begins: as seconds they would be dates after the year 5000, and in the
# unit itself they are dates after 1973.
_FROM = {"ns": 1e17, "us": 1e14, "ms": 1e11}


class LastDaysPopularity(RecommenderTrainer):
    """Recommends what most users took in the last days of `train`.

    Where tastes move it is far ahead of the popularity of all times, and may be ahead of trained
    models: Ji et al. 2020, "A re-visit of the popularity baseline in recommender systems", SIGIR;
    how far back to look is a parameter to tune (Verachtert et al. 2022, "Are we forgetting
    something? Correctly evaluate a recommender system with an optimal training window"). It needs
    a split by time: if each user's last item is held out, test items are of all times.

    Parameters of a trial: `days`, above 0, counted back from the last row. Items that nobody took
    in them have the same score.

    Args:
        unit: What timestamps that are numbers count: "s", "ms", "us" or "ns"; "auto" tells it by
            their size, as those of dates since 1973 do not overlap. Dates need no unit.

    Raises:
        InvalidArgument: If ``unit`` is unknown.

    Example:
        >>> from hpolab import Interactions
        >>> days = np.array(["2026-01-01", "2026-01-02", "2026-03-01"], "datetime64[D]")
        >>> train = Interactions.of([1, 2, 3], ["tea", "tea", "milk"], timestamps=days)
        >>> training = LastDaysPopularity().start({"days": 7}, train, seed=0, max_epochs=1)
        >>> training.epoch()
        >>> training.scores(train.encode_users([1]))  # milk, tea
        array([[1., 0.]], dtype=float32)
    """

    name = "last_days_popularity"
    max_epochs = 1

    def __init__(self, *, unit: str = "auto") -> None:
        self._unit = one_of("unit", unit, ("auto", *_UNITS))

    def start(
        self, params: Mapping[str, Any], train: Interactions, *, seed: int, max_epochs: int
    ) -> RecommenderTraining:
        """Return a training before its only epoch.

        Raises:
            InvalidArgument: If ``days`` is missing or not above 0, or ``train`` has no timestamps,
                or they are within one day, as other numbers than seconds may seem to be.
        """
        days = number_param(params, "days", above=0.0)
        if train.timestamps is None:
            raise InvalidArgument(
                "`train` must have timestamps for its last days to be known, got none."
            )
        ages = _days_before_last(train.timestamps, self._unit)
        if not ages.max() > 1:
            raise InvalidArgument(
                "`train` must have timestamps over more than a day, as dates or in seconds since "
                f"1970, got {train.timestamps.min()} to {train.timestamps.max()}, which would be "
                f"{ages.max():.2g} days: convert them, as by `pandas.to_datetime`."
            )
        recent = train.rows(np.flatnonzero(ages <= days))
        return Popularity().start({}, recent, seed=seed, max_epochs=max_epochs)


def knows_days(train: Interactions) -> bool:
    """Tell whether there are timestamps that can be told in days."""
    times = train.timestamps
    return times is not None and bool(_days_before_last(times, "auto").max(initial=0.0) > 1)


def _days_before_last(times: NDArray[Any], unit: str) -> NDArray[np.float64]:
    """Return how many days before the last moment each is, (n,)."""
    ages: NDArray[np.float64]
    if times.dtype.kind in "mM":
        ages = (times.max() - times) / np.timedelta64(1, "s") / _DAY
        return ages
    numbers: NDArray[np.float64] = times.astype(np.float64)
    last = numbers.max(initial=0.0)
    if unit == "auto":
        unit = next((each for each, low in _FROM.items() if last >= low), "s")
    ages = (last - numbers) / _UNITS[unit] / _DAY
    return ages
