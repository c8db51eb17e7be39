"""The recipe: what is stored, read again, and refused where a newer hpolab has written it."""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib.metadata import version

import optuna
import pytest
from optuna.storages import InMemoryStorage

from hpolab import (
    RecipeMismatch,
    SearchSpace,
    copy_study,
    load_study,
    make_study,
    open_storage,
    run,
)
from hpolab.studies.recipe import Part, read_recipe

KEY = "hpolab:recipe"
SPACE = SearchSpace({"x": (-1.0, 1.0)})


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def with_recipe(storage, study_name, **changes):
    """Make a study with two trials, then change its stored recipe; None takes a key out."""
    study = make_study(study_name, storage=storage, sampler="random", seed=3, search_space=SPACE)
    run(study, square, n_trials=2)
    stored = study.user_attrs[KEY] | changes
    study.set_user_attr(KEY, {key: value for key, value in stored.items() if value is not None})
    return study


def everything(study) -> tuple[object, ...]:
    return study.user_attrs, study.trials, study.directions


def test_a_recipe_is_read_as_it_was_written(storage_url, study_name):
    storage = open_storage(storage_url)
    study = with_recipe(storage, study_name)
    recipe = read_recipe(optuna.load_study(study_name=study_name, storage=storage))
    assert recipe == read_recipe(study)
    assert (recipe.seed, recipe.directions, recipe.exhausted) == (3, ("minimize",), False)
    assert recipe.sampler.name == "random"
    assert SearchSpace.from_dict(recipe.search_space) == SPACE
    assert recipe.versions["optuna"] == version("optuna")


def test_a_recipe_without_a_schema_is_of_the_first_and_goes_on(storage_url, study_name):
    storage = open_storage(storage_url)
    study = with_recipe(storage, study_name, schema=None, needs_hpolab=None)
    assert "schema" not in study.user_attrs[KEY]
    again = load_study(study_name, storage=storage)
    assert str(again.sampler) == "TrialSeededSampler(RandomSampler, seed=3)"
    run(again, square, n_trials=4)
    assert len(again.trials) == 4
    # What writes the recipe again gives it its number.
    make_study(study_name, storage=storage, pruner="none", allow_change=["pruner"])
    assert load_study(study_name, storage=storage).user_attrs[KEY]["schema"] == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda storage, name: make_study(name, storage=storage),
        lambda storage, name: make_study(name, storage=storage, pruner="none", seed=7),
        lambda storage, name: load_study(name, storage=storage),
        lambda storage, name: run(
            optuna.load_study(study_name=name, storage=storage), square, n_trials=5
        ),
        lambda storage, name: copy_study(name, storage=storage, to_storage=InMemoryStorage()),
    ],
    ids=["make", "make otherwise", "load", "run", "copy"],
)
def test_a_newer_recipe_is_refused_before_anything_is_changed(storage_url, study_name, act):
    storage = open_storage(storage_url)
    # A later hpolab may store a part in another form, and parts that this one does not know.
    study = with_recipe(
        storage, study_name, schema=9, needs_hpolab="4.2", sampler="tpe", budget={"hours": 3}
    )
    before = everything(study)
    message = (
        f"Study '{study_name}' was written by a newer hpolab: its recipe has schema 9, and hpolab "
        f"{version('hpolab')}, which is installed here, reads schemas up to 1; nothing was "
        "changed. Install hpolab 4.2 or newer (pip install --upgrade 'hpolab>=4.2')"
    )
    with pytest.raises(RecipeMismatch, match=re.escape(message)):
        act(storage, study_name)
    assert everything(optuna.load_study(study_name=study_name, storage=storage)) == before


@pytest.mark.parametrize("schema", [2, "2", 1.5, [2], {"major": 2}])
def test_a_schema_that_nobody_knows_is_refused_with_the_way_out(schema):
    storage = InMemoryStorage()
    with_recipe(storage, "s", schema=schema, needs_hpolab=None)
    with pytest.raises(RecipeMismatch, match=r"Install the newest one \(pip install --upgrade"):
        load_study("s", storage=storage)


def test_a_key_that_a_recipe_of_this_schema_has_too_many_is_passed_over():
    storage = InMemoryStorage()
    with_recipe(storage, "s", comment="kept by hand")
    assert read_recipe(load_study("s", storage=storage)).seed == 3


def test_a_study_that_hpolab_did_not_make_has_no_recipe():
    assert read_recipe(optuna.create_study()) is None


def test_parts_are_the_same_if_they_agree_in_what_both_know():
    part = Part("tpe", {"n_startup_trials": 10, "multivariate": False})
    assert part.same_as(Part("tpe", {"n_startup_trials": 10, "group": False}))
    assert not part.same_as(Part("tpe", {"n_startup_trials": 5}))
    assert not part.same_as(Part("random", {}))
    assert str(part) == "tpe(n_startup_trials=10, multivariate=False)"
    assert asdict(part)["name"] == "tpe"
