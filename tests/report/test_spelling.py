"""A configuration to copy: exact where a file takes it, rounded on a command line."""

from __future__ import annotations

import shlex

import numpy as np
import yaml

from hpolab import as_overrides
from hpolab.report.spelling import spelled

EXACT = 0.00051343312


def test_files_have_every_digit_and_a_command_line_has_five():
    params = {"lr": EXACT, "layers": 3, "optimizer": "adam"}
    shown = spelled("trial 1", [], params)
    assert yaml.safe_load(shown.texts["YAML"]) == params
    assert str(EXACT) in shown.texts["Python"]
    assert shown.line == shown.texts["Overrides, 5 digits"]
    assert shown.line == "lr=0.00051343 layers=3 optimizer=adam"


def test_numbers_of_numpy_and_objects_are_plain_to_copy():
    params = {"width": np.int64(64), "rate": np.float32(0.5), "kind": EXACT.__class__}
    read = yaml.safe_load(spelled("trial 1", [], params).texts["YAML"])
    assert read == {"width": 64, "rate": 0.5, "kind": "<class 'float'>"}


def test_names_of_the_command_that_are_no_parameters_here_are_passed_over():
    prefixes = {"lr": "models.optimizer.lr", "momentum": "models.optimizer.momentum"}
    assert spelled("trial 1", [], {"lr": 0.1}, prefixes).line == "models.optimizer.lr=0.1"


def test_a_line_to_copy_is_read_back_by_a_shell():
    params = {"layers": "64,32", "act": "it's $HOME", "lr": 0.1}
    words = shlex.split(spelled("trial 1", [], params).line)
    assert words == as_overrides(params)


def test_a_name_that_no_command_line_takes_leaves_the_other_notations():
    shown = spelled("trial 1", [], {"learning rate": 0.1})
    assert "must have names" in shown.line
    assert yaml.safe_load(shown.texts["YAML"]) == {"learning rate": 0.1}
