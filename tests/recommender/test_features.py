"""Side features: encoding of categories, lists and real numbers; ids without a row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hpolab import Features, InvalidArgument

FILMS = {
    "item_id": [10, 20, 30],
    "genres": [["war", "drama"], ["drama"], []],
    "year": [1994, None, 1995],
    "length": [90.5, 120.25, None],
}


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame(FILMS), pl.DataFrame(FILMS), pl.LazyFrame(FILMS), FILMS],
    ids=["pandas", "polars", "polars, lazy", "columns by name"],
)
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


def test_missing_values_within_lists_are_left_out():
    films = {"item_id": [10, 20], "genres": [["war", None, np.nan], ["drama"]]}
    codes = Features.of([10, 20], films, id_column="item_id").codes
    assert codes.tolist() == [[2], [1]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float32"])
def test_real_numbers_of_every_type_are_put_into_bins(dtype):
    lengths = pd.Series(np.linspace(60, 200, 1001), dtype=dtype)
    films = pd.DataFrame({"item_id": range(1001), "length": lengths})
    assert Features.of(range(1001), films, id_column="item_id").n_codes == 11


def test_ids_of_another_type_are_refused():
    films = {"item_id": ["10", "20"], "genre": ["war", "drama"]}
    with pytest.raises(InvalidArgument, match=r"such as 10, got none .* \['10', '20'\]"):
        Features.of([10, 20], films, id_column="item_id")


def test_what_is_missing_is_known_in_some_rows_too():
    films = {
        "film": [1, 2, 3, 4],
        "year": [1990, 2001, 2002, None],
        "genre": [["a"], ["b"], [], []],
    }
    features = Features.of([1, 2, 3, 4, 5], films, id_column="film")
    assert features.missing.tolist() == [0, 4]
    assert features.is_known().tolist() == [True, True, True, False, False]
    # Without the rows of the largest codes these are still of fields that begin where they did.
    some = features.rows(np.array([0, 3]))
    assert some.is_known().tolist() == [True, False]
