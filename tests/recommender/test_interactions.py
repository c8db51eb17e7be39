"""Interactions and side features: encoding, duplicates, what is not known, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hpolab import Features, Interactions, InvalidArgument, InvalidType

FRAME = {
    "user_id": ["b", "a", "b", "c", "b"],
    "item_id": [30, 10, 10, 20, 20],
    "rating": [5.0, 3.0, 1.0, 4.0, 2.0],
    "when": [3, 1, 2, 9, 4],
}


@pytest.mark.parametrize("frame", [pd.DataFrame(FRAME), pl.DataFrame(FRAME)], ids=["pd", "pl"])
def test_frames_are_encoded(frame):
    data = Interactions.from_frame(frame, rating="rating", timestamp="when")
    assert data.user_ids.tolist() == ["a", "b", "c"]
    assert data.item_ids.tolist() == [10, 20, 30]
    assert data.users.tolist() == [1, 0, 1, 2, 1]
    assert data.items.tolist() == [2, 0, 0, 1, 1]
    assert data.ratings.tolist() == FRAME["rating"]
    assert data.timestamps.tolist() == FRAME["when"]


def test_ids_that_are_not_known_are_minus_one():
    data = Interactions.from_frame(pd.DataFrame(FRAME))
    assert data.encode_users(["c", "z", "a"]).tolist() == [2, -1, 0]
    assert data.encode_items([30, 31, 5]).tolist() == [2, -1, -1]


def test_of_duplicates_the_latest_is_kept_and_they_are_counted():
    data = Interactions.of([1, 1, 1], [5, 5, 6], ratings=[1, 2, 3], timestamps=[9, 4, 1])
    assert (data.ratings.tolist(), data.n_duplicates) == ([1.0, 3.0], 1)
    by_place = Interactions.of([1, 1, 1], [5, 5, 6], ratings=[1, 2, 3])
    assert by_place.ratings.tolist() == [2.0, 3.0]


def test_matrix_is_one_where_there_is_a_row():
    data = Interactions.from_frame(pd.DataFrame(FRAME))
    assert data.matrix().toarray().tolist() == [[1, 0, 0], [1, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"users": [1, 2], "items": [1]}, InvalidArgument, "`users` must be as long as"),
        ({"users": [], "items": []}, InvalidArgument, "hold a row"),
        ({"users": [1, None], "items": [1, 2]}, InvalidArgument, "`users` .* 1 missing, .* row 1"),
        ({"users": [1.0, np.nan], "items": [1, 2]}, InvalidArgument, "`users` .* 1 missing"),
        ({"users": ["a", 1], "items": [1, 2]}, InvalidType, "`users` must be of one type"),
        ({"users": [[1]], "items": [1]}, InvalidArgument, r"shape \(rows,\), got \(1, 1\)"),
        (
            {"users": [1, 2], "items": [1, 2], "ratings": [1.0, np.nan]},
            InvalidArgument,
            "`ratings` must all be there, got 1 missing",
        ),
        (
            {"users": [1, 2], "items": [1, 2], "ratings": [1.0, np.inf]},
            InvalidArgument,
            "`ratings` must be finite",
        ),
    ],
)
def test_bad_columns_are_refused(columns, error, message):
    with pytest.raises(error, match=message):
        Interactions.of(**columns)


def test_missing_column_is_named():
    with pytest.raises(InvalidArgument, match=r"`item` must be one of the columns .* got 'movie'"):
        Interactions.from_frame(pd.DataFrame(FRAME), item="movie")


def test_negative_ids_are_ids_like_others():
    data = Interactions.of([-1, -7], [-3, 0])
    assert data.user_ids.tolist() == [-7, -1]
    assert data.users.tolist() == [1, 0]


def test_later_interactions_take_the_codes_of_earlier_ones_and_lose_what_is_unknown():
    known = Interactions.from_frame(
        pd.DataFrame(FRAME),
        user_features=pd.DataFrame({"user_id": ["a", "b", "c"], "gender": ["f", "m", "f"]}),
    )
    later = Interactions.of(["c", "z", "a", "a"], [10, 10, 99, 30], like=known)
    assert later.users.tolist() == [2, 0]
    assert later.items.tolist() == [0, 2]
    assert (later.n_users, later.n_items, later.n_unknown) == (3, 3, 2)
    assert later.user_features is known.user_features


def test_joined_interactions_are_the_rows_of_both():
    one = Interactions.of([1, 2], [1, 2], ratings=[3, 4])
    other = Interactions.of([2], [1], like=one)
    joined = one.join(other)
    assert joined.users.tolist() == [0, 1, 1]
    assert joined.items.tolist() == [0, 1, 0]
    assert joined.ratings is None


FILMS = {
    "item_id": [10, 20, 30],
    "genres": [["war", "drama"], ["drama"], []],
    "year": [1994, None, 1995],
    "length": [90.5, 120.25, None],
}


@pytest.mark.parametrize("frame", [pd.DataFrame(FILMS), pl.DataFrame(FILMS)], ids=["pd", "pl"])
def test_side_features_of_every_kind_are_encoded(frame):
    films = Features.of([10, 20, 30, 40], frame, id_column="item_id")
    assert films.names == ("genres", "year", "length")
    assert films.fields.tolist() == [0, 0, 1, 2]
    genres = films.codes[:, :2]
    assert genres[0].tolist() == [1, 2]  # drama, war; 0 is for a film without a genre
    assert films.weights[:, :2].tolist() == [[0.5, 0.5], [1, 0], [1, 0], [1, 0]]
    missing = films.codes[3, 2:]  # film 40 has no row
    assert films.codes[1, 2] == missing[0]
    assert films.codes[2, 3] == missing[1]
    assert len(np.unique(films.codes[[0, 1, 2], 3])) == 3
    assert films.codes.max() < films.n_codes
    assert films.codes[:, 2].min() > films.codes[:, :2].max()  # fields share no code


def test_columns_of_the_interactions_can_be_side_features():
    data = Interactions.from_frame(
        pd.DataFrame(FRAME), user_features=["rating"], item_features=["when", "rating"]
    )
    assert data.user_features.names == ("rating",)
    assert data.user_features.codes.shape == (3, 1)
    assert data.item_features.names == ("when", "rating")


def test_side_features_without_the_id_are_refused():
    with pytest.raises(InvalidArgument, match="must have the column 'user_id' and one more"):
        Interactions.from_frame(pd.DataFrame(FRAME), user_features=pd.DataFrame({"age": [1]}))
