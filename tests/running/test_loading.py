"""Objectives by their names: where they are searched, and what is said of those not found."""

from __future__ import annotations

import sys

import pytest

from hpolab import FunctionObjective
from hpolab.errors import InvalidArgument, InvalidType
from hpolab.running.loading import load_objective

MODULE = """
from hpolab import FunctionObjective
def train(trial):
    return 1.0
def no_trial():
    return 1.0
def make(width, depth):
    return train
class Holder:
    objective = staticmethod(train)
ours = FunctionObjective(
    lambda params, reporter: 1.0, search_space={"x": (0, 1)}, direction="minimize", max_steps=1
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """The working folder; modules in it have names that no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "tuned.py").write_text(MODULE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "inner.py").write_text(MODULE)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "place",
    ["tuned:train", "package.inner:train", "tuned.py:train", "package/inner.py:train"],
)
def test_function_is_found_in_a_module_of_the_working_folder_or_a_script(folder, place):
    assert load_objective(place)(None) == 1.0


def test_name_may_be_one_inside_a_class_or_an_hpolab_objective(folder):
    assert load_objective("tuned:Holder.objective")(None) == 1.0
    assert isinstance(load_objective("tuned:ours"), FunctionObjective)


def test_script_may_import_what_lies_beside_it(folder):
    (folder / "package" / "script.py").write_text("from inner import train\n")
    assert load_objective("package/script.py:train")(None) == 1.0


def test_script_with_the_name_of_a_module_in_use_leaves_that_alone(folder):
    import json

    (folder / "json.py").write_text(MODULE)
    assert load_objective("./json.py:train")(None) == 1.0
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tund:train", "no 'tund' .* Did you mean 'tuned'"),
        ("package.iner:train", "no 'package.iner' in the package 'package'. Did you mean 'pack"),
        ("tunde.py:train", "a script that is there, got 'tunde.py'.* Did you mean 'tuned.py'"),
        (
            "tuned:trian",
            "no 'trian'. Did you mean 'train'.* It has make, no_trial, ours, train",
        ),
        ("tuned:Holder.objectiv", "has no 'objectiv'. Did you mean 'objective'"),
        ("tuned", "must be 'module:name'"),
        ("tuned:", "must be 'module:name'"),
        ("C-3:train", "must be 'module:name'"),
    ],
)
def test_misspelt_place_is_told_with_what_is_there(folder, place, words):
    with pytest.raises(InvalidArgument, match=words):
        load_objective(place)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tuned:no_trial", "one argument, the trial.*too many positional"),
        ("tuned:make", "one argument, the trial.*missing.*'depth'"),
        ("tuned:Holder", "which is the class Holder"),
        ("tuned:__name__", "which is str"),
    ],
)
def test_what_is_no_objective_is_refused(folder, place, words):
    with pytest.raises(InvalidType, match=words):
        load_objective(place)


@pytest.mark.parametrize("place", ["broken:train", "broken.py:train"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0", r"line 2, in <module>\n.*\n(.*\n)?.*ZeroDivisionError"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("import package.missing", "No module named 'package.missing'"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_error_of_the_user_s_module_is_shown_where_it_is_raised(folder, place, code, words):
    (folder / "broken.py").write_text(f"\n{code}\n")
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_objective(place)
    assert "cannot be imported" in str(caught.value)
    assert "loading.py" not in str(caught.value)
