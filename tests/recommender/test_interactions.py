"""Interactions: encoding, duplicates, what is not known, usual names, files, bad input."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hpolab import DataNotFound, Interactions, InvalidArgument, InvalidType, split_by_time

FRAME = {
    "user_id": ["b", "a", "b", "c", "b"],
    "item_id": [30, 10, 10, 20, 20],
    "rating": [5.0, 3.0, 1.0, 4.0, 2.0],
    "when": [3, 1, 2, 9, 4],
}


FORMS = {
    "pandas": pd.DataFrame(FRAME),
    "polars": pl.DataFrame(FRAME),
    "polars, lazy": pl.LazyFrame(FRAME),
    "columns by name": FRAME,
}


@pytest.mark.parametrize("frame", FORMS.values(), ids=FORMS)
def test_frames_are_encoded(frame):
    data = Interactions.from_frame(frame, rating="rating", timestamp="when")
    assert data.user_ids.tolist() == ["a", "b", "c"]
    assert data.item_ids.tolist() == [10, 20, 30]
    assert data.users.tolist() == [1, 0, 1, 2, 1]
    assert data.items.tolist() == [2, 0, 0, 1, 1]
    assert data.ratings.tolist() == FRAME["rating"]
    assert data.timestamps.tolist() == FRAME["when"]


def test_ids_that_are_not_known_are_minus_one():
    data = Interactions.from_frame(pd.DataFrame(FRAME), rating=None)
    assert data.encode_users(["c", "z", "a"]).tolist() == [2, -1, 0]
    assert data.encode_items([30, 31, 5]).tolist() == [2, -1, -1]


def test_of_duplicates_the_latest_is_kept_and_they_are_counted():
    data = Interactions.of([1, 1, 1], [5, 5, 6], ratings=[1, 2, 3], timestamps=[9, 4, 1])
    assert (data.ratings.tolist(), data.n_duplicates) == ([1.0, 3.0], 1)
    by_place = Interactions.of([1, 1, 1], [5, 5, 6], ratings=[1, 2, 3])
    assert by_place.ratings.tolist() == [2.0, 3.0]


def test_matrix_is_one_where_there_is_a_row():
    data = Interactions.from_frame(pd.DataFrame(FRAME), rating=None)
    assert data.matrix().toarray().tolist() == [[1, 0, 0], [1, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"users": [1, 2], "items": [1]}, InvalidArgument, "`users` must be as long as"),
        ({"users": [], "items": []}, InvalidArgument, "hold a row"),
        ({"users": [1, None], "items": [1, 2]}, InvalidArgument, "`users` .* 1 missing, .* row 1"),
        ({"users": [1.0, np.nan], "items": [1, 2]}, InvalidArgument, "`users` .* 1 missing"),
        ({"users": ["a", 1], "items": [1, 2]}, InvalidType, "`users` must be of one type"),
        (
            {"users": pd.array(["a", None], dtype="string"), "items": [1, 2]},
            InvalidArgument,
            "`users` .* 1 missing, .* row 1",
        ),
        ({"users": [[1]], "items": [1]}, InvalidArgument, r"shape \(rows,\), got \(1, 1\)"),
        (
            {"users": [1, 2], "items": [1, 2], "ratings": [1.0, np.nan]},
            InvalidArgument,
            "`ratings` must have no missing values, got 1 missing",
        ),
        (
            {"users": [1, 2], "items": [1, 2], "ratings": [1.0, np.inf]},
            InvalidArgument,
            "`ratings` must be finite",
        ),
        (
            {"users": [1, 2], "items": [1, 2], "timestamps": ["12/31/1997", "01/05/1998"]},
            InvalidArgument,
            "`timestamps` must be numbers, dates, or text such as .* got '12/31/1997'",
        ),
        (
            {"users": [1, 2], "items": [1, 2], "timestamps": ["99", "1000"]},
            InvalidArgument,
            "`timestamps` must be .* got '99'",
        ),
    ],
)
def test_bad_columns_are_refused(columns, error, message):
    with pytest.raises(error, match=message):
        Interactions.of(**columns)


def test_missing_column_is_named():
    with pytest.raises(InvalidArgument, match=r"`item` must be one of 'item_id', .* got 'movie'"):
        Interactions.from_frame(pd.DataFrame(FRAME), item="movie")


@pytest.mark.parametrize(
    ("user", "item", "timestamp"),
    [
        ("user_id", "item_id", "timestamp"),
        ("userId", "movieId", "timestamp"),
        ("User ID", "Item ID", "Time"),
        ("user", "parent_asin", "date"),
    ],
)
def test_usual_names_are_found(user, item, timestamp):
    frame = {"x": [5, 5], timestamp: [2, 1], item: ["a", "b"], user: [8, 7]}
    data = Interactions.from_frame(frame)
    assert data.user_ids.tolist() == [7, 8]
    assert data.item_ids.tolist() == ["a", "b"]
    assert data.timestamps.tolist() == [2, 1]
    assert Interactions.from_frame(frame, timestamp=None).timestamps is None


def test_ids_are_preferred_to_other_columns():
    data = Interactions.from_frame({"user": ["x"], "user_id": [1], "item": ["y"], "item_id": [2]})
    assert (data.user_ids.tolist(), data.item_ids.tolist()) == ([1], [2])


def test_column_without_a_usual_name_is_asked_for():
    with pytest.raises(InvalidArgument, match=r"`user` must name the column .*'who'.*`user=`"):
        Interactions.from_frame({"who": [1], "item_id": [1]})


def test_interactions_without_times_say_how_to_name_them():
    data = Interactions.from_frame(pd.DataFrame(FRAME), rating=None)
    with pytest.raises(InvalidArgument, match="timestamp="):
        split_by_time(data)


@pytest.mark.parametrize("frame", [None, 3, [[1, 2]], np.zeros((2, 2))], ids=repr)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(InvalidType, match="`frame` must be a data frame"):
        Interactions.from_frame(frame)


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-02", "2020-01-01"],
        ["2020-01-01 12:30", "2020-01-01 12:29:59.5"],
        ["2020-01-01T00:00:00Z", "2020-01-01T01:00:00+02:00"],
        [date(2020, 1, 2), date(2020, 1, 1)],
        [datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)],
        pd.to_datetime(pd.Series(["2020-01-02", "2020-01-01"])),
        pl.Series([date(2020, 1, 2), date(2020, 1, 1)]),
        np.array(["2020-01-02", "2020-01-01"], "datetime64[D]"),
        [2.5, 1],
    ],
    ids=lambda times: f"{type(times).__name__} of {times[0]}",
)
def test_times_of_every_type_are_put_in_order(times):
    data = Interactions.of([1, 1], [5, 5], ratings=[4, 3], timestamps=times)
    assert data.ratings.tolist() == [4]


def test_file_is_read_by_its_name(tmp_path):
    pd.DataFrame(FRAME).to_csv(tmp_path / "data.csv", index=False)
    for data in (
        Interactions.from_frame(str(tmp_path / "data.csv"), rating=None, timestamp="when"),
        Interactions.from_file(tmp_path / "data.csv", rating=None, timestamp="when"),
    ):
        assert data.user_ids.tolist() == ["a", "b", "c"]
        assert data.timestamps.tolist() == FRAME["when"]
    with pytest.raises(DataNotFound, match="`path` must name a file"):
        Interactions.from_frame("nowhere.csv")


def test_file_takes_what_a_frame_takes(tmp_path):
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t4\t891717742\n")
    data = Interactions.from_file(tmp_path / "u.data", rating="rating", user_features=["timestamp"])
    assert data.ratings.tolist() == [3, 4]
    assert data.user_features.names == ("timestamp",)


def test_negative_ids_are_ids_like_others():
    data = Interactions.of([-1, -7], [-3, 0])
    assert data.user_ids.tolist() == [-7, -1]
    assert data.users.tolist() == [1, 0]


def test_later_interactions_take_the_codes_of_earlier_ones_and_lose_what_is_unknown():
    known = Interactions.from_frame(
        pd.DataFrame(FRAME),
        rating=None,
        user_features=pd.DataFrame({"user_id": ["a", "b", "c"], "gender": ["f", "m", "f"]}),
    )
    later = Interactions.of(["c", "z", "a", "a"], [10, 10, 99, 30], like=known)
    assert later.users.tolist() == [2, 0]
    assert later.items.tolist() == [0, 2]
    assert (later.n_users, later.n_items, later.n_unknown) == (3, 3, 2)
    assert later.user_features is known.user_features


def test_later_interactions_of_another_type_or_of_none_that_is_known_are_refused():
    known = Interactions.of(["1", "2"], [1, 2])
    with pytest.raises(InvalidType, match="`users` must be of the type of the known ids"):
        Interactions.of([1, 2], [1, 2], like=known)
    with pytest.raises(InvalidArgument, match=r"`like` must know .* got none of 2 rows"):
        Interactions.of(["8", "9"], [1, 2], like=known)


def test_joined_interactions_are_the_rows_of_both():
    one = Interactions.of([1, 2], [1, 2], ratings=[3, 4])
    other = Interactions.of([2], [1], like=one)
    joined = one.join(other)
    assert joined.users.tolist() == [0, 1, 1]
    assert joined.items.tolist() == [0, 1, 0]
    assert joined.ratings is None


def test_joined_rows_without_times_come_last():
    one = Interactions.of([1, 2, 1], [1, 2, 2], timestamps=[30, 20, 10])
    other = Interactions.of([2], [1], like=one)
    assert one.join(other).timestamps.tolist() == [30, 20, 10, 30]
    assert other.join(one).timestamps is None


def test_columns_of_the_interactions_can_be_side_features():
    data = Interactions.from_frame(
        pd.DataFrame(FRAME), user_features=["rating"], item_features=["when", "rating"]
    )
    assert data.user_features.names == ("rating",)
    assert data.user_features.codes.shape == (3, 1)
    assert data.item_features.names == ("when", "rating")


def test_side_features_without_the_id_are_refused():
    with pytest.raises(InvalidArgument, match="must have the column 'user_id' and one more"):
        Interactions.from_frame(
            pd.DataFrame(FRAME), rating=None, user_features=pd.DataFrame({"age": [1]})
        )


@pytest.mark.parametrize(
    ("given", "ratings", "weights", "items"),
    [
        ({"rating": None}, None, None, [30, 10, 10, 20, 20]),
        ({"rating": "rating"}, [5, 3, 1, 4, 2], None, [30, 10, 10, 20, 20]),
        ({"threshold": 4}, None, None, [30, 20]),
        ({"threshold": 3, "rating": "rating"}, None, None, [30, 10, 20]),
        ({"weight": "rating"}, None, [5, 3, 1, 4, 2], [30, 10, 10, 20, 20]),
        ({"weight": "rating", "threshold": 4}, None, [5, 4], [30, 20]),
    ],
    ids=str,
)
def test_ratings_mean_what_is_said(given, ratings, weights, items):
    data = Interactions.from_frame(FRAME, timestamp="when", **given)
    assert (None if data.ratings is None else data.ratings.tolist()) == ratings
    assert (None if data.weights is None else data.weights.tolist()) == weights
    assert data.item_ids[data.items].tolist() == items
    assert data.n_below == len(FRAME["rating"]) - len(items)


@pytest.mark.parametrize("name", ["rating", "Stars", "overall"])
def test_ratings_that_nobody_explains_are_asked_about(name):
    frame = {("rating" if key == "rating" else key): value for key, value in FRAME.items()}
    frame[name] = frame.pop("rating")
    with pytest.warns(UserWarning, match=f"Column '{name}' is not read.*Say what ratings mean"):
        data = Interactions.from_frame(frame)
    assert data.ratings is None
    assert len(data) == 5


def test_threshold_leaves_the_users_and_items_alone_that_somebody_liked():
    data = Interactions.from_frame(
        FRAME, threshold=4, item_features={"item_id": [10, 20, 30], "kind": ["a", "b", "c"]}
    )
    assert data.user_ids.tolist() == ["b", "c"]
    assert data.item_ids.tolist() == [20, 30]
    assert data.item_features.codes.tolist() == [[1], [2]]
    later = Interactions.of(["b", "c"], [20, 30], ratings=[1, 5], threshold=4, like=data)
    assert (later.n_users, later.items.tolist(), later.n_below) == (2, [1], 1)


def test_latest_rating_decides_about_the_threshold():
    rated = {"users": [1, 1, 2], "items": [5, 5, 5], "ratings": [5, 1, 4]}
    data = Interactions.of(**rated, timestamps=[1, 2, 3], threshold=4)
    assert (data.user_ids.tolist(), data.n_duplicates, data.n_below) == ([2], 1, 1)


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, [1, 3, 1]), ([1, 2, 4, 8, 16], [1, 26, 4])], ids=["n", "sum"]
)
def test_duplicates_are_summed_up_where_that_is_asked_for(weights, expected):
    data = Interactions.of(
        [1, 1, 2, 1, 1], [6, 5, 5, 5, 5], weights=weights, timestamps=[1, 9, 1, 3, 4],
        duplicates="sum",
    )  # fmt: skip
    assert data.users.tolist() == [0, 0, 1]
    assert data.items.tolist() == [1, 0, 0]
    assert data.timestamps.tolist() == [1, 9, 1]
    assert data.weights.tolist() == expected
    assert data.n_duplicates == 2
    assert data.weighted_matrix().toarray().tolist() == [
        [expected[1], expected[0]],
        [expected[2], 0],
    ]


def test_sum_counts_only_rows_that_are_known():
    known = Interactions.of([1, 2], [5, 6])
    data = Interactions.of([1, 9, 1, 2], [5, 5, 5, 6], duplicates="sum", like=known)
    assert data.weights.tolist() == [2, 1]


def test_duplicates_are_kept_where_that_is_asked_for():
    data = Interactions.of([1, 1, 2], [5, 5, 5], duplicates="keep")
    assert (len(data), data.n_duplicates) == (3, 0)
    assert data.matrix().toarray().tolist() == [[1], [1]]
    assert data.weighted_matrix().toarray().tolist() == [[2], [1]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 4}, "`threshold` must be of ratings, got 4 and no ratings"),
        ({"threshold": 6, "ratings": [1, 5]}, "`threshold` must be reached by a rating .* 1 to 5"),
        ({"duplicates": "first"}, "`duplicates` must be one of 'keep', 'last', 'sum'"),
        ({"duplicates": "sum", "ratings": [1, 5]}, "of which a sum means nothing"),
        ({"weights": [1, 0]}, "`weights` must be above 0, got 0"),
        ({"weights": [1, -2]}, "`weights` must be above 0, got -2"),
        ({"weights": [1, np.inf]}, "`weights` must be finite numbers"),
        ({"weights": [1, np.nan]}, "`weights` must have no missing values"),
    ],
    ids=str,
)
def test_meanings_that_cannot_be_are_refused(given, message):
    with pytest.raises(InvalidArgument, match=message):
        Interactions.of([1, 2], [5, 5], **given)


@pytest.mark.parametrize("other", [[1, 3], [1, 2, 3]], ids=["as many", "more"])
def test_rows_whose_codes_mean_other_users_are_not_joined(other):
    one = Interactions.of([1, 2], [5, 6])
    theirs = Interactions.of(other, [5, 6, 6][: len(other)])
    with pytest.raises(InvalidArgument, match="`other` must have the users of the interactions"):
        one.join(theirs)


@pytest.mark.parametrize("threshold", ["4", True, [4]])
def test_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(InvalidType, match="`threshold` must be a number"):
        Interactions.of([1, 2], [5, 5], ratings=[1, 5], threshold=threshold)
