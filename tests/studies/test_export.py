"""A configuration as text: each form read again is the configuration."""

from __future__ import annotations

import ast
import json

import numpy as np
import optuna
import pytest
import yaml

from hpolab import (
    InvalidArgument,
    InvalidType,
    Objective,
    SearchSpace,
    as_json,
    as_overrides,
    as_python,
    as_yaml,
    make_study,
    params_of_yaml,
    recommend,
    run,
)
from hpolab.studies.export import POST_KEY, delivered_params, trainer_params

INF = float("inf")
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4e-4", 0.0004),
        ("'4e-4'", "4e-4"),
        ("1e3", 1000.0),
        ('"1e3"', "1e3"),
        ("2020-01-01", "2020-01-01"),
        ("'null'", "null"),
        ("null", None),
    ],
)
def test_a_yaml_files_text_is_told_from_its_numbers(text, value, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"x: {text}\n")
    assert params_of_yaml(path, ["x"]) == {"x": value}


def test_a_yaml_file_that_names_a_value_twice_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  lr: 0.1\n  lr: 0.2\n")
    with pytest.raises(InvalidArgument, match="'lr' stands there twice"):
        params_of_yaml(path, ["lr"], prefixes={"lr": "model.lr"})


@pytest.mark.parametrize("text", ["null", "1e-8", "1e3", "0.5", "12", "0o17", "yes", "~", "", " "])
@pytest.mark.parametrize("write", [as_yaml, as_json])
def test_a_text_is_written_as_one_for_every_reader(text, write, tmp_path):
    written = write({"x": text})
    assert yaml.safe_load(written) == {"x": text}
    path = tmp_path / "config.yaml"
    path.write_text(written)
    assert params_of_yaml(path, ["x"]) == {"x": text}  # by YAML 1.2's rule of numbers


@pytest.mark.parametrize("write", [as_yaml, as_json, as_overrides])
def test_numbers_of_numpy_and_tuples_are_written_as_plain_ones(write):
    params = {"n": np.int64(3), "lr": np.float64(0.1), "is_on": np.bool_(True)}
    plain = {"n": 3, "lr": 0.1, "is_on": True}
    assert write(params | {"betas": (0.9, 0.99)}) == write(plain | {"betas": [0.9, 0.99]})


@pytest.mark.parametrize("write", [as_yaml, as_json, as_overrides, as_python])
def test_what_holds_a_configuration_says_where_it_has_it(write):
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=5)
    found = recommend(study)
    for given, advice in [
        (found, "writes itself by `to_overrides`"),
        (found.hybrid, "writes itself by `to_overrides`"),
        (study, r"`recommend\(study\).best.params` are its best"),
        (study.best_trial, r"`objective.params_of\(trial\)` gives"),
        (["lr=1"], "must be a dict of name -> value, got list.$"),
    ]:
        with pytest.raises(InvalidType, match=advice):
            write(given)


@pytest.mark.parametrize("write", [as_yaml, as_json, as_overrides])
def test_what_no_notation_knows_is_refused(write):
    with pytest.raises(InvalidType, match="got object"):
        write({"x": object()})


@pytest.mark.parametrize("value", [INF, -INF, np.float64(INF), (1.0, INF), {"a": [INF]}])
def test_infinity_is_python_that_gives_it_back(value):
    assert eval(as_python({"x": value})) == {"x": value}


# As Hydra 1.3 and OmegaConf 2.3 have read each word, by `OverridesParser` and `OmegaConf.update`.
WORDS = [
    (None, "null"),
    ("null", '"null"'),
    ("None", '"None"'),
    (True, "True"),
    ("true", '"true"'),
    (0.001, "0.001"),
    ("0.001", '"0.001"'),
    (1e-05, "1e-05"),
    ("1e-05", '"1e-05"'),
    (12, "12"),
    ("12", '"12"'),
    (float("inf"), "inf"),
    ("inf", '"inf"'),
    ("yes", '"yes"'),
    ("adam", "adam"),
    ("a-b/c.d", "a-b/c.d"),
    ("", '""'),
    ("a b", '"a b"'),
    (" a ", '" a "'),
    ("64,32", '"64,32"'),
    ("[64,32]", '"[64,32]"'),
    ("{a: 1}", '"{a: 1}"'),
    ("f(x)", '"f(x)"'),
    ("k=v", '"k=v"'),
    ("k:v", '"k:v"'),
    ("it's", '"it\'s"'),
    ('say "a"', "'say \"a\"'"),
    ("'\"", '"\'\\""'),
    ("$HOME", '"$HOME"'),
    ("${HOME}", "'\\${HOME}'"),
    ("c:\\dir", "'c:\\dir'"),
    ("c:\\dir\\", "'c:\\dir\\\\'"),
    ("größe", '"größe"'),
    ([64, "a,b"], '[64,"a,b"]'),
    ({"a": [1, None]}, "{a:[1,null]}"),
]


@pytest.mark.parametrize(("value", "word"), WORDS, ids=[word for _, word in WORDS])
def test_an_override_is_read_back_by_hydra_as_it_was(value, word):
    assert as_overrides({"x": value}) == [f"x={word}"]


def test_hydra_itself_reads_each_override_back():
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser")
    omegaconf = pytest.importorskip("omegaconf")
    params = {f"x{place}": value for place, (value, _) in enumerate(WORDS)}
    read = parser.OverridesParser.create().parse_overrides(as_overrides(params))
    assert not [each for each in read if each.is_sweep_override()]
    config = omegaconf.OmegaConf.create({each.key_or_group: each.value() for each in read})
    assert omegaconf.OmegaConf.to_container(config, resolve=True) == params


@pytest.mark.parametrize("name", ["my lr", "a=b", "l[0]", "opt/lr", "lr@x", "~lr", "größe", ""])
def test_a_name_that_hydra_reads_as_something_else_needs_another(name):
    with pytest.raises(InvalidArgument, match="give `prefixes` what the command calls it"):
        as_overrides({name: 1})
    assert as_overrides({name: 1}, prefixes={name: "+model.lr"}) == ["+model.lr=1"]
    assert as_overrides({name: 1}, prefixes={name: None}) == []


@pytest.mark.parametrize("prefix", ["my model.", "a=", "~", "$x."])
def test_a_prefix_that_hydra_reads_as_something_else_is_refused(prefix):
    with pytest.raises(InvalidArgument, match="Overrides must have names"):
        as_overrides({"lr": 1}, prefix=prefix)


def test_names_of_two_parameters_must_differ():
    with pytest.raises(InvalidArgument, match="a name of its own, got 'x' for two"):
        as_overrides({"a": 1, "b": 2}, prefixes={"a": "x", "b": "x"})


def test_hydras_mark_of_a_missing_value_is_refused():
    with pytest.raises(InvalidArgument, match="a value that is missing"):
        as_overrides({"x": "???"})


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
