"""make_study and load_study: creation, resumption, the recipe."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from functools import partial

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection

from hpolab import (
    HpolabError,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    Objective,
    RecipeMismatch,
    SearchSpace,
    StorageUnavailable,
    StudyNotFound,
    load_study,
    make_study,
    run,
)
from hpolab.studies.pruner import PRUNERS
from hpolab.studies.recipe import read_recipe as recipe_of_study


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


SAMPLERS = [
    *("auto", "tpe", "random", "cmaes", "gp", "nsga2", "qmc", "grid", "brute_force", "manual"),
    *("stepwise", "lightgbm"),
]
SPACE = SearchSpace({"x": (-1.0, 1.0)})


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_sampler_and_pruner_by_name_is_loaded_as_it_was_made(sampler, pruner):
    storage = InMemoryStorage()
    made = make_study("s", storage=storage, sampler=sampler, pruner=pruner, search_space=SPACE)
    again = make_study("s", storage=storage, search_space=SPACE)
    assert str(again.sampler) == str(made.sampler)
    assert type(again.pruner) is type(made.pruner)


def test_a_grid_is_laid_on_a_dict_of_ranges():
    ranges = {"x": (1e-2, 1.0, "log")}
    study = make_study("s", storage="memory://", sampler="grid", search_space=ranges)
    study.optimize(lambda trial: SearchSpace(ranges).suggest(trial)["x"], n_trials=3)
    values = sorted(trial.value for trial in study.trials)
    assert values == pytest.approx([1e-2, 1e-1, 1.0])


def test_study_is_a_plain_optuna_study(storage_url, study_name):
    study = make_study(study_name, storage=storage_url, direction="maximize", sampler="random")
    assert type(study) is optuna.Study
    study.optimize(square, n_trials=2)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_resumed_study_keeps_direction_seed_sampler_and_pruner(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    make_study("s", storage=url, direction="maximize", sampler="random", pruner="asha", seed=7)
    study = load_study("s", storage=url)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert str(study.sampler) == "TrialSeededSampler(RandomSampler, seed=7)"
    assert isinstance(study.pruner, optuna.pruners.SuccessiveHalvingPruner)


@pytest.mark.parametrize(
    ("argument", "value", "shown"),
    [
        ("sampler", "random", r"sampler: stored tpe\(.*asked for random\("),
        ("pruner", "none", r"pruner: stored median\(.*asked for none\("),
        ("direction", "maximize", r"direction: stored minimize, asked for maximize"),
        ("seed", 1, r"seed: stored 0, asked for 1"),
    ],
)
def test_another_recipe_is_refused_and_both_sides_are_shown(argument, value, shown):
    storage = InMemoryStorage()
    run(make_study("s", storage=storage), square, n_trials=1)
    with pytest.raises(RecipeMismatch, match=shown):
        make_study("s", storage=storage, **{argument: value})


def test_other_settings_of_the_same_sampler_are_refused():
    storage = InMemoryStorage()
    run(make_study("s", storage=storage, sampler=TPESampler), square, n_trials=1)
    with pytest.raises(RecipeMismatch, match=r"n_startup_trials=10.*n_startup_trials=5"):
        make_study("s", storage=storage, sampler=partial(TPESampler, n_startup_trials=5))


@pytest.mark.parametrize("place", ["memory", "sqlite", "journal"])
@pytest.mark.parametrize(
    "asked",
    [{"sampler": "random"}, {"pruner": "none"}, {"direction": "maximize"}, {"seed": 1}],
    ids=str,
)
def test_study_without_a_trial_takes_another_recipe(asked, place, tmp_path):
    storages = {
        "memory": InMemoryStorage(),
        "sqlite": f"sqlite:///{tmp_path}/s.db",
        "journal": f"journal:///{tmp_path}/s.log",
    }
    make_study("s", storage=storages[place])
    make_study("s", storage=storages[place], **asked)
    study = load_study("s", storage=storages[place])
    run(study, square, n_trials=2)
    fresh = make_study("s", storage="memory://", **asked)
    run(fresh, square, n_trials=2)
    assert [trial.params for trial in study.trials] == [trial.params for trial in fresh.trials]
    assert study.directions == fresh.directions


def test_study_without_a_trial_keeps_what_nobody_asks_for_otherwise():
    storage = InMemoryStorage()
    make_study("s", storage=storage, sampler="random", pruner="none", seed=3)
    study = make_study("s", storage=storage, seed=4)
    assert str(study.sampler) == "TrialSeededSampler(RandomSampler, seed=4)"
    assert isinstance(study.pruner, optuna.pruners.NopPruner)


def test_enqueued_trials_stay_in_a_study_that_takes_another_recipe():
    storage = InMemoryStorage()
    make_study("s", storage=storage).enqueue_trial({"x": 0.25})
    study = make_study("s", storage=storage, sampler="random", seed=1)
    run(study, square, n_trials=2)
    assert study.trials[0].params == {"x": 0.25}
    other = make_study("t", storage=storage)
    other.enqueue_trial({"x": 0.25})
    with pytest.raises(RecipeMismatch, match="direction"):  # kept for good by the storage
        make_study("t", storage=storage, direction="maximize")


def test_trial_that_was_only_begun_binds_the_recipe():
    storage = InMemoryStorage()
    make_study("s", storage=storage).ask()
    with pytest.raises(RecipeMismatch, match="seed"):
        make_study("s", storage=storage, seed=1)


def test_sampler_may_change_when_asked_for_by_name():
    storage = InMemoryStorage()
    make_study("s", storage=storage)
    changed = make_study("s", storage=storage, sampler="random", allow_change=["sampler"])
    assert "RandomSampler" in str(changed.sampler)
    assert "RandomSampler" in str(load_study("s", storage=storage).sampler)


def test_factory_makes_a_resumed_study_repeat_the_uninterrupted_one():
    sampler = partial(TPESampler, multivariate=True, n_startup_trials=3)
    whole = make_study("s", storage="memory://", sampler=sampler, seed=2)
    run(whole, square, n_trials=8)
    storage = InMemoryStorage()
    for n_trials in (2, 5, 8):
        run(make_study("s", storage=storage, sampler=sampler, seed=2), square, n_trials=n_trials)
    resumed = make_study("s", storage=storage, sampler=sampler, seed=2)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


def test_study_of_a_sampler_object_must_be_given_it_again():
    storage = InMemoryStorage()
    make_study("s", storage=storage, sampler=TPESampler(seed=0))
    with pytest.raises(RecipeMismatch, match=r"TPESampler given as an object.*`sampler`"):
        load_study("s", storage=storage)
    assert make_study("s", storage=storage, sampler=TPESampler(seed=0)).trials == []


def test_study_that_hpolab_did_not_make_is_left_alone():
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage).optimize(square, n_trials=1)
    with pytest.raises(RecipeMismatch, match=r"hpolab did not make it.*`load_study` opens it"):
        make_study("s", storage=storage, pruner="hyperband")
    assert len(load_study("s", storage=storage).trials) == 1


def test_study_that_hpolab_did_not_make_goes_on_with_the_sampler_and_pruner_that_are_given():
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage).optimize(square, n_trials=2)
    study = load_study("s", storage=storage, sampler="random", pruner="hyperband")
    run(study, square, n_trials=5)
    assert str(study.sampler) == "TrialSeededSampler(RandomSampler, seed=0)"
    assert isinstance(study.pruner, optuna.pruners.HyperbandPruner)
    assert len(load_study("s", storage=storage).trials) == 5


def test_study_that_hpolab_made_is_loaded_with_no_other_sampler_or_pruner():
    storage = InMemoryStorage()
    make_study("s", storage=storage, sampler="random", pruner="none").optimize(square, n_trials=1)
    assert load_study("s", storage=storage, pruner="none").study_name == "s"
    with pytest.raises(RecipeMismatch, match="pruner"):
        load_study("s", storage=storage, pruner="hyperband")
    with pytest.raises(InvalidArgument, match="Did you mean 'tpe'"):
        load_study("s", storage=storage, sampler="tep")


def test_empty_study_without_a_recipe_is_ours():
    """A worker killed between a study's creation and its recipe leaves such a one."""
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    make_study("s", storage=storage, seed=3)
    assert str(load_study("s", storage=storage).sampler).endswith("seed=3)")


def test_empty_study_of_another_direction_is_refused():
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage, direction="maximize")
    with pytest.raises(RecipeMismatch, match="maximize; 0 trials"):
        make_study("s", storage=storage, direction="minimize")


def test_missing_study_names_those_that_are_there():
    storage = InMemoryStorage()
    make_study("mnist-adamw", storage=storage)
    with pytest.raises(StudyNotFound, match=r"No study 'mnist-adam'.*Did you mean 'mnist-adamw'"):
        load_study("mnist-adam", storage=storage)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sampler": "tep"}, InvalidArgument, "`sampler`.*got 'tep'. Did you mean 'tpe'?"),
        ({"pruner": "hyperban"}, InvalidArgument, "`pruner`.*Did you mean 'hyperband'?"),
        ({"direction": "max"}, InvalidArgument, "`direction`.*Did you mean 'maximize'?"),
        ({"direction": []}, InvalidArgument, "`direction` must name at least one"),
        ({"storage": "sqllite:///s.db"}, InvalidArgument, "`storage`.*Did you mean 'sqlite'?"),
        ({"seed": -1}, InvalidArgument, "`seed` must be 0 or above, got -1"),
        ({"seed": 0.5}, InvalidType, "`seed` must be an int, got float"),
        ({"sampler": "grid"}, InvalidArgument, "`sampler='grid'` needs `search_space`"),
        ({"search_space": "x"}, InvalidType, "`search_space` must be a SearchSpace or .* got str"),
        ({"allow_change": ["seed"]}, InvalidArgument, "`allow_change` must be one of"),
        ({"allow_change": "sampler"}, InvalidType, "`allow_change` must be a list"),
    ],
)
def test_bad_argument_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        make_study("s", **{"storage": "memory://", **arguments})


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("", InvalidArgument, "must not be empty"), (3, InvalidType, "must be a str, got int")],
)
def test_bad_study_name_is_refused(name, error, message):
    with pytest.raises(error, match=message):
        make_study(name, storage="memory://")


@pytest.mark.parametrize("name", ["lone \ud800", "\udcff", "a\0b", "n" * 513], ids=ascii)
@pytest.mark.parametrize("scheme", ["memory", "sqlite", "journal"])
def test_a_name_that_some_storage_cannot_keep_is_refused(name, scheme, tmp_path):
    url = "memory://" if scheme == "memory" else f"{scheme}:///{tmp_path}/s"
    with pytest.raises(InvalidArgument, match="`study_name` must"):
        make_study(name, storage=url)


def test_a_long_name_that_is_there_already_is_resumed(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    make_study("s", storage=url)
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute("UPDATE studies SET study_name = ?", ["n" * 600])
    assert make_study("n" * 600, storage=url).study_name == "n" * 600


@pytest.mark.parametrize("name", [3, None, b"s"])
def test_a_name_that_is_no_text_is_refused_by_its_type(name):
    with pytest.raises(InvalidType, match="`study_name` must be a str"):
        load_study(name, storage=InMemoryStorage())


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_study_of_a_file_that_is_not_there_is_not_found(scheme, tmp_path):
    url = f"{scheme}:///{tmp_path}/s"
    with pytest.raises(StudyNotFound, match="there is no such file"):
        load_study("s", storage=url)
    with pytest.raises(StorageUnavailable):
        load_study("s", storage=url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sampler", "package"), [("cmaes", "cmaes"), ("gp", "torch"), ("auto", "torch")]
)
def test_missing_extra_is_named_before_a_trial(sampler, package, monkeypatch):
    # The packages are installed here; that they cannot be found is pretended.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"needs {package}: pip install 'hpolab\[{package}\]'"):
        make_study("s", storage="memory://", sampler=sampler)


class Hill(Objective):
    default_sampler = "random"
    default_pruner = "none"

    def train(self, params, reporter):
        return -(params["x"] ** 2)


def test_study_of_an_objective_takes_what_the_objective_asks_for(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    objective = Hill(search_space=SPACE, direction="maximize", max_steps=1)
    study = make_study("s", storage=url, objective=objective)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert str(study.sampler) == "TrialSeededSampler(RandomSampler, seed=0)"
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    run(study, objective, n_trials=2)
    assert str(load_study("s", storage=url).sampler) == str(study.sampler)
    other = make_study("t", storage=url, objective=objective, sampler="tpe", pruner="median")
    assert isinstance(other.pruner, optuna.pruners.MedianPruner)


def test_study_of_an_objective_is_resumed_as_it_was_made(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    objective = Hill(search_space=SPACE, direction="maximize", max_steps=1)
    make_study("s", storage=url, direction="maximize", sampler="tpe")
    assert "TPE" in str(make_study("s", storage=url, objective=objective).sampler)
    run(make_study("t", storage=url, direction="minimize"), square, n_trials=1)
    with pytest.raises(RecipeMismatch, match="direction: stored minimize, asked for maximize"):
        make_study("t", storage=url, objective=objective)


def test_objective_of_a_study_must_be_one_of_hpolabs():
    with pytest.raises(InvalidType, match="`objective` must be an objective of hpolab's"):
        make_study("s", storage="memory://", objective=square)


def test_grid_over_a_plain_function_is_loaded_with_its_space(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, sampler="grid", search_space=SPACE)
    run(study, square, n_trials=2)
    run(load_study("s", storage=url), square, n_trials=10)
    values = [trial.params["x"] for trial in load_study("s", storage=url).trials]
    assert sorted(values) == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("direction", "stored"),
    [
        (StudyDirection.MAXIMIZE, ["MAXIMIZE"]),
        (StudyDirection.MINIMIZE, ["MINIMIZE"]),
        (["minimize", StudyDirection.MAXIMIZE], ["MINIMIZE", "MAXIMIZE"]),
    ],
)
def test_direction_may_be_optunas(direction, stored):
    study = make_study("s", storage="memory://", direction=direction)
    assert [each.name for each in study.directions] == stored


@pytest.mark.parametrize("direction", [5, StudyDirection.NOT_SET, ["minimize", 3], []])
def test_direction_that_is_none_is_refused(direction):
    with pytest.raises(HpolabError, match="`direction` must"):
        make_study("s", storage="memory://", direction=direction)


def test_worker_that_meets_a_studys_creation_waits_for_its_recipe(tmp_path, monkeypatch):
    """Until then Optuna's gRPC server may forget what it is told of the study."""
    url = f"sqlite:///{tmp_path}/s.db"
    created, waits = threading.Event(), threading.Event()
    create, read = optuna.create_study, recipe_of_study

    def slow_create(**options):
        study = create(**options)
        created.set()
        waits.wait(10)
        return study

    def seen_read(study):
        recipe = read(study)
        if recipe is None and threading.current_thread() is threading.main_thread():
            waits.set()
        return recipe

    monkeypatch.setattr(optuna, "create_study", slow_create)
    first = threading.Thread(target=make_study, args=("s",), kwargs={"storage": url, "seed": 3})
    first.start()
    assert created.wait(10)
    monkeypatch.setattr(optuna, "create_study", create)
    monkeypatch.setattr("hpolab.studies.study.read_recipe", seen_read)
    with pytest.raises(RecipeMismatch, match="seed: stored 3, asked for 4"):
        make_study("s", storage=url, seed=4)
    first.join(10)
    assert load_study("s", storage=url).sampler.seed == 3
