"""The data of a SklearnObjective: every form of it, and the parts that grow within each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import coo_array, csr_array
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

from hpolab import SearchSpace, SklearnObjective

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial


IRIS = load_iris(return_X_y=True)
DIABETES = tuple(part[:150] for part in load_diabetes(return_X_y=True))
CV = StratifiedKFold(4, shuffle=True, random_state=3)
NOTHING = SearchSpace({})


def test_rows_grow_within_each_other_and_end_as_the_whole_fold(
    fits_of: Callable[..., list[list[int]]],
) -> None:
    labels = np.array([0] * 60 + [1] * 35 + [2] * 5)
    rows = np.arange(100).reshape(-1, 1)
    fits, again = (fits_of((rows, labels), folds=5, fidelity="rows") for _ in range(2))
    assert fits == again
    for fold in range(5):
        parts = [set(fits[rung * 5 + fold]) for rung in range(3)]
        assert parts[0] < parts[1] < parts[2]
        assert [len(part) for part in parts] == [9, 27, 80]
        assert [[list(labels[list(part)]).count(c) for c in range(3)] for part in parts] == [
            [5, 3, 1],
            [16, 9, 2],
            [48, 28, 4],
        ]


@pytest.mark.parametrize("fidelity", ["folds", "epochs", "rows"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda X, y: (X.tolist(), y.tolist()),
        lambda X, y: (pd.DataFrame(X), pd.Series(y, index=range(5, 5 + len(y)))),
        lambda X, y: (pl.DataFrame(X), pl.Series(y)),
        lambda X, y: (csr_array(X), y),
        lambda X, y: (coo_array(X), y),
    ],
    ids=["list", "pandas", "polars", "csr", "coo"],
)
def test_data_of_every_form_give_what_arrays_give(
    run_trial: Callable[..., FrozenTrial], convert: Any, fidelity: str
) -> None:
    options: dict[str, Any] = {"search_space": NOTHING, "folds": 3, "fidelity": fidelity}
    if fidelity == "epochs":
        options["max_steps"] = 2
    data = (IRIS[0][::2], IRIS[1][::2])
    values = [
        run_trial(SklearnObjective(MultinomialNB(), train, **options)).value
        for train in (data, convert(*data))
    ]
    assert values[0] == values[1]


def test_labels_may_be_strings(run_trial: Callable[..., FrozenTrial]) -> None:
    labels = np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]
    for fidelity in ("folds", "epochs", "rows"):
        options: dict[str, Any] = {"search_space": NOTHING, "folds": CV, "fidelity": fidelity}
        ours, theirs = (
            run_trial(SklearnObjective(MultinomialNB(), (IRIS[0], y), **options)).value
            for y in (labels, IRIS[1])
        )
        assert ours == theirs


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_targets_may_be_a_column(run_trial: Callable[..., FrozenTrial]) -> None:
    model = KNeighborsClassifier()
    column = (IRIS[0], IRIS[1].reshape(-1, 1))
    for fidelity in ("folds", "rows"):
        ours, theirs = (
            run_trial(SklearnObjective(model, data, folds=CV, fidelity=fidelity)).value
            for data in (column, IRIS)
        )
        assert ours == theirs


def test_targets_may_have_several_columns(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    targets = np.column_stack([DIABETES[1], DIABETES[0][:, 0]])
    objective = SklearnObjective(Ridge(), (DIABETES[0], targets), folds=KFold(3))
    expected = cross_val_score(Ridge(), DIABETES[0], targets, cv=KFold(3))
    assert reports(run_trial(objective)) == expected.tolist()
