"""Functions and estimators by what is the same in every process: names and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import fbeta_score, make_scorer, mean_absolute_error, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn, tensor

from hpolab.identity import (
    captured_data,
    code_digest,
    estimator_settings,
    function_name,
    function_settings,
    plain_fact,
)


@dataclass(frozen=True)
class Weighted:
    weight: float

    def __call__(self, outputs, targets):
        return self.weight * (outputs - targets).abs().mean()


def square(x):
    return x * x


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (make_scorer(fbeta_score, beta=1.0), make_scorer(fbeta_score, beta=2.0)),
        (
            make_scorer(mean_absolute_error),
            make_scorer(mean_absolute_error, greater_is_better=False),
        ),
        (make_scorer(roc_auc_score), make_scorer(roc_auc_score, response_method="predict_proba")),
        (partial(round, ndigits=1), partial(round, ndigits=2)),
        (Weighted(1.0), Weighted(2.0)),
        (nn.HuberLoss(delta=1.0), nn.HuberLoss(delta=2.0)),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=tensor([1.0, 2.0]))),
        (LogisticRegression(), LogisticRegression(C=2.0)),
        (LogisticRegression(), LogisticRegression(random_state=3)),
        (make_pipeline(StandardScaler(), LogisticRegression()), LogisticRegression()),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
        ),
        (
            ColumnTransformer([("a", StandardScaler(), [0])]),
            ColumnTransformer([("a", StandardScaler(), [1])]),
        ),
        (
            VotingClassifier([("a", LogisticRegression())]),
            VotingClassifier([("a", LogisticRegression(C=3.0))]),
        ),
        (FunctionTransformer(np.log), FunctionTransformer(np.sqrt)),
    ],
)
def test_other_settings_are_told_apart(one, other):
    assert plain_fact(one) != plain_fact(other)
    for fact in (plain_fact(one), plain_fact(other)):
        assert json.loads(json.dumps(fact)) == fact
        assert "0x" not in json.dumps(fact)


@pytest.mark.parametrize("change", [{"n_jobs": 2}, {"verbose": 3}])
def test_what_changes_no_result_is_left_out(change):
    assert estimator_settings(RandomForestClassifier(**change)) == {
        "class": "RandomForestClassifier"
    }


def test_what_is_tuned_is_left_out_by_its_whole_name():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=3.0))
    tuned = estimator_settings(pipeline, leave_out=["logisticregression__C"])
    assert tuned == estimator_settings(make_pipeline(StandardScaler(), LogisticRegression()))


def test_names_hold_no_module_and_no_address():
    def local(x):
        return x

    assert function_name(local) == "local"
    assert function_settings(lambda x: x) == "<lambda>"
    assert function_name(nn.MSELoss()) == "MSELoss"
    assert plain_fact(object()) == "object"
    assert plain_fact("/tmp/somewhere/x.bin") == plain_fact("C:\\x.bin") == "a path"
    assert plain_fact(float("nan")) == "nan"
    assert plain_fact([np.int64(1), np.float32(0.5), True, None]) == [1, 0.5, True, None]


def test_code_is_told_apart_but_not_by_its_place_or_docstring():
    def one(x):
        """Return more."""
        return x + 1

    def two(x):
        """Return something else."""
        # Elsewhere.
        return x + 1

    assert code_digest(one) == code_digest(two)
    assert code_digest(one) != code_digest(square)
    assert code_digest(partial(one, x=1)) == code_digest(one)
    assert code_digest(Weighted(1.0)) == code_digest(Weighted(2.0))
    assert code_digest(np.log) is None


def test_arrays_that_a_function_reads_are_seen():
    data = np.arange(5.0)

    def reads(values=(1.0, 2.0)):
        return [np.add(x, data) for x in values]  # `numpy` has a `shape` of its own

    before = captured_data(reads)
    assert captured_data(reads) == before
    data = np.arange(6.0)
    assert captured_data(reads) != before
    assert captured_data(partial(square, x=data)) != captured_data(partial(square, x=data[1:]))
    assert captured_data(square) == captured_data(np.log)
