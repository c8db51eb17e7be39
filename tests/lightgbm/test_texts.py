"""Columns of strings are categories by themselves, unless they look like something else."""

from __future__ import annotations

import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest

from hpolab import InvalidType, LightGBMObjective

RNG = np.random.default_rng(0)
N = 200
CITIES = RNG.choice(["Oslo", "Bergen", "Bodø"], N)
FRAME = pd.DataFrame({"size": RNG.normal(size=N)})
LABELS = (CITIES == "Oslo").astype(int)


def make(frame):
    return LightGBMObjective(frame, LABELS, objective="binary", max_rounds=5, folds=2)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(CITIES, dtype="str"),
        pd.Series(CITIES, dtype=object),
        pd.Series(CITIES, dtype="string"),
        pd.Series(CITIES, dtype="category"),
        pd.Series([None if i % 7 == 3 else city for i, city in enumerate(CITIES)], dtype=object),
    ],
    ids=["str", "object", "string", "category", "missing"],
)
def test_strings_are_categories_as_pandas_own(column):
    model = make(FRAME.assign(city=column)).fit({}, n_rounds=5)
    assert model.columns.categories["city"] == ("Bergen", "Bodø", "Oslo")
    assert max(model.importance(), key=model.importance().get) == "city"
    new = pd.DataFrame({"city": ["Oslo", "Bergen", "Tromsø"], "size": 0.0})
    found = model.predict(new)
    assert found[0] > found[1]


def test_strings_of_polars_are_categories():
    model = make(pl.DataFrame({"size": FRAME["size"].to_numpy(), "city": CITIES})).fit({})
    assert model.columns.categories["city"] == ("Bergen", "Bodø", "Oslo")


def test_taken_strings_are_said_once(caplog):
    optuna.logging.enable_propagation()
    caplog.set_level("INFO")
    make(FRAME.assign(city=CITIES))
    assert caplog.text.count("Column 'city' holds 3 different strings") == 1
    optuna.logging.disable_propagation()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([f"C{i:05}" for i in range(N)], "they look like ids"),
        ([f"C{min(i, 150):05}" for i in range(N)], "they look like ids"),
        ([" " if i == 3 else str(i / 7) for i in range(N)], "numbers, ' ' among them, so convert"),
        ([f"2026-01-{1 + i % 28:02}" for i in range(N)], "they look like dates"),
        ([f"{1 + i % 28}/1/2026" for i in range(N)], "they look like dates"),
    ],
    ids=["ids", "most", "numbers", "iso dates", "dates"],
)
def test_strings_that_are_no_categories_are_refused_unless_named(values, what):
    frame = FRAME.assign(code=values)
    with pytest.raises(InvalidType, match=rf"column 'code' with .*{what}"):
        make(frame)
    named = LightGBMObjective(
        frame, LABELS, objective="binary", max_rounds=5, folds=2, categorical=["code"]
    )
    assert len(named.fit({}, n_rounds=1).columns.categories["code"]) == len(set(values))
