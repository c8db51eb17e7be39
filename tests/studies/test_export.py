"""A configuration as text: each form read again is the configuration."""

from __future__ import annotations

import ast
import json

import pytest
import yaml

from hpolab import (
    InvalidArgument,
    Objective,
    SearchSpace,
    as_json,
    as_overrides,
    as_python,
    as_yaml,
    make_study,
    params_of_yaml,
    run,
)
from hpolab.studies.export import POST_KEY, delivered_params, trainer_params

PARAMS = {"optimizer": "adam", "lr": 1e-05, "amsgrad": False, "n": 3, "weights": None}


@pytest.mark.parametrize(
    ("write", "read"),
    [(as_yaml, yaml.safe_load), (as_json, json.loads), (as_python, ast.literal_eval)],
    ids=["yaml", "json", "python"],
)
def test_what_is_written_is_read_again_in_its_order(write, read):
    found = read(write(PARAMS))
    assert found == PARAMS
    assert list(found) == list(PARAMS)


def test_overrides_have_names_of_the_trainers_own():
    assert as_overrides(PARAMS, prefix="model.", prefixes={"lr": "opt.lr", "n": None}) == [
        "model.optimizer=adam",
        "opt.lr=1e-05",
        "model.amsgrad=False",
        "model.weights=null",
    ]


@pytest.mark.parametrize(
    ("value", "digits", "word"),
    [(0.123456, 3, "0.123"), (0.99951234, 2, "0.99951"), (1.0, 2, "1.0"), (12, 1, "12")],
)
def test_rounded_values_keep_their_meaning(value, digits, word):
    assert as_overrides({"x": value}, digits=digits) == [f"x={word}"]


def test_a_yaml_file_gives_numbers_as_hydra_reads_them(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("models: {optimizer: {lr: 4e-4, name: adam}}\nepochs: 20\n")
    prefixes = {"lr": "models.optimizer.lr", "name": "models.optimizer.name"}
    params = params_of_yaml(path, ["lr", "name", "epochs"], prefixes=prefixes)
    assert params == {"lr": 0.0004, "name": "adam", "epochs": 20}


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("- 1", ["lr"], "must be a YAML file of names and values, got a list"),
        ("a: [", ["lr"], "must be a YAML file that can be read"),
        ("a: 1", ["lr"], "must have 'lr', got 'a' at its top"),
        ("lr: ${other}", ["lr"], "must have a plain value at 'lr', got '\\${other}'"),
        ("lr: {a: 1}", ["lr"], "must have a plain value at 'lr'"),
    ],
)
def test_a_yaml_file_without_what_is_asked_for_is_refused(text, names, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=message):
        params_of_yaml(path, names)


def test_a_missing_yaml_file_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="must be a YAML file that can be read"):
        params_of_yaml(tmp_path / "none.yaml", ["lr"])


def test_a_trials_params_are_the_trainers_with_those_tuned_for_it():
    class Line(Objective):
        def train(self, params, reporter):
            return params["beta"]

    space = SearchSpace({"beta": (0.9, 0.99)}, one_minus=["beta"])
    study = make_study("s", storage="memory://", sampler="random")
    run(study, Line(search_space=space, direction="minimize", max_steps=1), n_trials=1)
    (trial,) = study.trials
    assert trainer_params(study, trial) == {"beta": trial.value}
    trial.user_attrs[POST_KEY] = {"": {"threshold": 0.4}}
    assert delivered_params(study, trial) == {"beta": trial.value, "threshold": 0.4}
    # Of a cross-fit, none of several sets is the one.
    trial.user_attrs[POST_KEY] = {"a": {"threshold": 0.4}, "b": {"threshold": 0.6}}
    assert delivered_params(study, trial) == {"beta": trial.value}
