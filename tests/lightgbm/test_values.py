"""Values of parameters are read as LightGBM reads them, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from hpolab import HpolabError, InvalidArgument, InvalidType, SearchSpace
from hpolab.lightgbm.values import read_name, read_value

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :6]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "0.1", 0.1),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", np.array(0.5), 0.5),
        ("num_leaves", " 31 ", 31),
        ("min_gain_to_split", "1e-3", 1e-3),
        ("force_col_wise", "True", True),
        ("force_col_wise", "false", False),
        ("extra_trees", np.bool_(True), True),
        ("boosting", "DART", "dart"),
        ("boosting", "Random_Forest", "rf"),
        ("boosting", "gbrt", "gbdt"),
        ("data_sample_strategy", "GOSS", "goss"),
        ("device_type", "CPU", "cpu"),
        ("monotone_constraints", (1, 0, -1), [1, 0, -1]),
        ("monotone_constraints", np.array([1, 0]), [1, 0]),
        ("monotone_constraints", "1,0,-1", "1,0,-1"),
        ("interaction_constraints", [[0, 1], (2,)], [[0, 1], [2]]),
        ("forcedbins_filename", Path("bins.json"), "bins.json"),
        ("forcedbins_filename", "1", "1"),
        ("max_depth", None, None),
    ],
)
def test_values_are_plain_and_lightgbm_s(name, value, expected):
    found = read_value("params", name, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monotone_constraints", {"Column_0": 1}),
        ("feature_contri", {"a": 0.5}),
        ("learning_rate", object()),
        ("learning_rate", lambda _: 0.1),
        ("num_leaves", 3 + 1j),
        ("auc_mu_weights", np.eye(2)),
    ],
)
def test_what_lightgbm_cannot_read_is_refused_by_name(make, name, value):
    with pytest.raises(InvalidType, match=f"`params` must give LightGBM .* for '{name}'"):
        make((X, Y), params={name: value}, search_space=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forcedsplits_filename", "my splits.json"),
        ("interaction_constraints", "[0,1], [2,3]"),
        ("metric_freq", "1 num_leaves=2"),
        ("tree_learner", "serial max_depth=1"),
    ],
)
def test_text_that_lightgbm_would_read_in_part_is_refused(make, name, value):
    with pytest.raises(InvalidArgument, match=f"must give '{name}' as text without spaces"):
        make((X, Y), params={name: value})


@pytest.mark.parametrize("name", ["binary", "Binary", "BINARY", " binary "])
@pytest.mark.parametrize("labels", [Y, Y + 1, np.array(["no", "yes"])[Y]])
def test_an_objective_in_any_case_is_the_same(make, value, name, labels):
    assert value(make((X, labels), objective=name)) == value(make((X, Y)))


@pytest.mark.parametrize("name", ["MultiClass", "SOFTMAX", "OVR", "MulticlassOVA"])
def test_objectives_of_several_classes_are_known_in_any_case(make, name):
    objective = make((X, np.array(["a", "b", "c"])[np.arange(len(X)) % 3]), objective=name)
    model = objective.fit({}, seed=0, n_rounds=2)
    assert model.predict(X).shape == (len(X), 3)


@pytest.mark.parametrize("name", ["LambdaRank", "RANK_XENDCG", "Xe_NDCG"])
def test_objectives_of_rankings_are_known_in_any_case(make, name):
    with pytest.raises(InvalidArgument, match="`groups` must name the query"):
        make((X, Y), objective=name)
    make((X, Y), objective=name, metric="NDCG@3", groups=np.arange(len(X)) // 30)


@pytest.mark.parametrize("name", ["AUC", " auc", "Auc "])
def test_a_metric_in_any_case_is_the_same(make, name):
    objective = make((X, Y), metric=name)
    assert (objective.metric, objective.direction) == ("auc", "maximize")


@pytest.mark.parametrize("name", ["auc,binary_error", "l2 auc", "", "auc=1"])
def test_several_metrics_in_one_name_are_refused(make, name):
    with pytest.raises(InvalidArgument, match="`metric` must be one name"):
        make((X, Y), metric=name)


@pytest.mark.parametrize("name", ["none", "None", "custom", "null", "na"])
def test_no_objective_is_none(make, name):
    with pytest.raises(InvalidArgument, match="`objective` must be one of LightGBM's"):
        make((X, Y), objective=name, metric="auc")


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"learning_rate": "0.3"}, {"learning_rate": 0.3}),
        ({"num_leaves": np.int64(7)}, {"num_leaves": 7}),
        ({"boosting": "Dart"}, {"boosting": "dart"}),
        ({"data_sample_strategy": "Goss"}, {"data_sample_strategy": "goss"}),
        ({"boosting": "GOSS"}, {"boosting": "goss"}),
        ({"max_bin": "15"}, {"max_bin": 15}),
    ],
)
def test_a_value_in_any_form_trains_the_same_trial(make, trials_of, given, plain):
    options: dict[str, Any] = {"search_space": None, "folds": 3, "max_rounds": 10}
    found = trials_of(make((X, Y), params=given, **options))
    expected = trials_of(make((X, Y), params=plain, **options))
    assert [t.value for t in found] == [t.value for t in expected]


def test_choices_of_a_space_are_read_alike(make, value):
    space = SearchSpace({"learning_rate": ["0.3", "0.1"], "boosting": ["Dart", "GBDT"]})
    objective = make((X, Y), search_space=space)
    plain = make((X, Y), search_space={"learning_rate": [0.3, 0.1], "boosting": ["dart", "gbdt"]})
    params = {"learning_rate": "0.3", "boosting": "GBDT"}
    assert value(objective, **params) == value(plain, learning_rate=0.3, boosting="gbdt")


@pytest.mark.parametrize("name", ["", "  ", "a b", "a,b", "a=b"])
def test_names_are_one_word(name):
    with pytest.raises(HpolabError):
        read_name("metric", name)
