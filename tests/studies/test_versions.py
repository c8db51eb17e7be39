"""Versions of two machines: which differences count."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from hpolab import make_study
from hpolab.studies.recipe import read_recipe
from hpolab.studies.versions import current_versions, differing_versions

HERE = {
    "python": "3.12.4",
    "torch": "2.9.0+cu128",
    "optuna": "5.0.0",
    "hpolab": "0.1.0",
    "schedulefree": "1.4.1",
    "pytorch-optimizer": "4.1.0",
}


@pytest.mark.parametrize(
    ("package", "other", "differs"),
    [
        ("python", "3.12.9", False),
        ("python", "3.11.4", True),
        ("torch", "2.9.1+cpu", False),
        ("torch", "2.10.0", True),
        ("optuna", "5.0.3", False),
        ("optuna", "5.1.0", True),
        ("hpolab", "0.2.0", True),
        ("schedulefree", "1.4.2", False),
        ("schedulefree", "1.5", True),
        ("pytorch-optimizer", "4.0.0", True),
        ("numpy", "1.26.0", False),  # samplers draw alike with each
    ],
)
def test_major_and_minor_versions_count(package, other, differs):
    found = differing_versions({**HERE, package: other}, HERE)
    assert found == ({package: (other, HERE[package])} if differs else {})


def test_what_one_side_does_not_tell_is_not_compared():
    assert differing_versions({"optuna": "5.0.0"}, HERE) == {}
    assert differing_versions(HERE, {"python": "3.12.4"}) == {}


def test_study_keeps_the_versions_that_made_it():
    recipe = read_recipe(make_study("s", storage="memory://"))
    assert recipe.versions == current_versions()
    assert recipe.versions["hpolab"] == version("hpolab")
