"""Popularity of the last days: the window, the unit of time, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab import Interactions, InvalidArgument, InvalidType, RecommenderObjective, split_by_time
from hpolab.recommender.recent import LastDaysPopularity, knows_days

# Days, and item 0 long ago, item 1 of late.
DAYS = np.array([0.0, 1.0, 2.0, 300.0, 395.0, 399.0, 400.0])
ITEMS = np.array([0, 0, 0, 1, 1, 0, 1])
START = np.datetime64("2024-01-01", "ns")


def interactions(timestamps):
    return Interactions.of(np.arange(7), ITEMS, timestamps=timestamps)


def scores(data, days, **options):
    training = LastDaysPopularity(**options).start({"days": days}, data, seed=0, max_epochs=1)
    training.epoch()
    return training.scores(np.array([3, 0])).tolist()


def dates():
    return START + (DAYS * 86_400e9).astype("timedelta64[ns]")


@pytest.mark.parametrize(
    "timestamps",
    [
        dates(),
        dates().astype("datetime64[D]"),
        dates().tolist(),  # nanoseconds since 1970
        dates().astype("datetime64[us]").tolist(),
        dates().astype("int64") // 10**6,
        dates().astype("int64") / 1e9,
        dates().astype("int64") // 10**9,
        (dates().astype("int64") // 10**9).astype(np.uint32),
        DAYS * 86_400,
        [str(each) for each in dates().astype("datetime64[s]")],
    ],
    ids=["ns", "days", "ints", "datetime", "ms", "floats", "s", "uint32", "from 0", "text"],
)
def test_window_counts_back_from_the_last_row_in_any_unit(timestamps):
    data = interactions(timestamps)
    assert scores(data, 4.9) == [[1.0, 1.0]] * 2
    assert scores(data, 5) == [[1.0, 2.0]] * 2  # the row at its edge included
    assert scores(data, 100) == [[1.0, 3.0]] * 2
    assert scores(data, 1000) == [[4.0, 3.0]] * 2
    assert knows_days(data)


def test_unit_can_be_named():
    data = interactions(DAYS * 86_400e3)  # milliseconds, but not since 1970
    assert scores(data, 5, unit="ms") == [[1.0, 2.0]] * 2
    with pytest.raises(InvalidArgument, match="`unit` must be one of"):
        LastDaysPopularity(unit="days")


@pytest.mark.parametrize("timestamps", [DAYS, np.full(7, 1.7e9), 2000 + np.arange(7)])
def test_numbers_that_are_no_seconds_are_refused(timestamps):
    data = interactions(timestamps)
    assert not knows_days(data)
    with pytest.raises(InvalidArgument, match="over more than a day, as dates or in seconds"):
        scores(data, 30)


def test_rows_without_timestamps_are_refused():
    data = interactions(None)
    assert not knows_days(data)
    with pytest.raises(InvalidArgument, match="must have timestamps for its last days"):
        scores(data, 30)


@pytest.mark.parametrize(
    ("days", "error", "message"),
    [
        (0, InvalidArgument, "`days` must be above 0, got 0"),
        ("30", InvalidType, "`days` must be a number, got str"),
        (np.inf, InvalidArgument, "`days` must be finite"),
    ],
)
def test_bad_windows_are_refused(days, error, message):
    with pytest.raises(error, match=message):
        scores(interactions(dates()), days)


def test_it_stands_beside_trials_where_days_are_known():
    rng = np.random.default_rng(0)
    users, items = rng.integers(30, size=600), rng.integers(40, size=600)
    seconds = np.sort(rng.integers(90 * 86_400, size=600))
    for times, expected in ((seconds, True), (np.arange(600), False), (None, False)):
        data = Interactions.of(users, items, timestamps=times)
        rows = data if times is not None else Interactions.of(users, items, timestamps=seconds)
        splits = split_by_time(rows, valid=0.2, test=0.2)
        if times is None:
            splits = type(splits)(
                *(
                    Interactions.of(p.user_ids[p.users], p.item_ids[p.items], like=rows)
                    for p in (splits.train, splits.valid, splits.test)
                )
            )
        objective = RecommenderObjective("popularity", splits)
        assert ("last_days_popularity" in objective.references()) == expected
