"""SearchSpace: what it takes, what it refuses, and the ways between trial and trainer."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from hpolab import InvalidArgument, InvalidType, SearchSpace, optimizer_space


def ask(space: SearchSpace, seed: int) -> optuna.Trial:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    space.suggest(trial)
    return trial


def test_kinds_become_optunas_own_distributions(flat: SearchSpace) -> None:
    assert flat.distributions() == {
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "one_minus_beta2": FloatDistribution(1e-4, 1e-2, log=True),
        "hidden": IntDistribution(16, 256),
        "dropout": FloatDistribution(0.0, 0.5),
        "activation": CategoricalDistribution(["relu", "gelu", None]),
    }


def test_defaults_and_sources_are_kept(flat: SearchSpace) -> None:
    assert flat.defaults() == {
        "lr": 1e-3,
        "beta2": 0.999,
        "hidden": 136,
        "dropout": 0.25,
        "activation": "relu",
        "epochs": 10,
    }
    assert flat.sources()["lr"] == "a paper"


@pytest.mark.parametrize("seed", range(5))
def test_from_trial_gives_what_suggest_gave(space: SearchSpace, seed: int) -> None:
    trial = ask(space, seed)
    params = space.from_trial(trial.params)
    assert params == space.suggest(trial)
    assert params == space.suggest(FixedTrial(trial.params))
    assert params == space.suggest(optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=0.0
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_to_trial_undoes_suggest(space: SearchSpace, seed: int) -> None:
    trial = ask(space, seed)
    back = space.to_trial(space.suggest(trial))
    assert back.keys() == trial.params.keys()
    numbers = {name: value for name, value in back.items() if isinstance(value, float)}
    assert numbers == pytest.approx({name: trial.params[name] for name in numbers}, rel=1e-9)


def test_defaults_survive_the_way_to_the_trial_and_back(space: SearchSpace) -> None:
    assert space.from_trial(space.to_trial(space.defaults())) == space.defaults()


def test_enqueued_defaults_are_the_next_trials_params(space: SearchSpace) -> None:
    study = optuna.create_study()
    study.enqueue_trial(space.to_trial(space.defaults()))
    assert space.suggest(study.ask()) == space.defaults()


def test_flat_space_can_be_asked_for_at_once(flat: SearchSpace) -> None:
    space = flat
    trial = optuna.create_study().ask(space.distributions())
    assert space.suggest(trial) == space.from_trial(trial.params)


def test_trial_params_of_other_spaces_are_passed_over() -> None:
    space = SearchSpace({"lr": (0.0, 1.0)})
    assert space.from_trial({"lr": 0.5, "hidden": 3}) == {"lr": 0.5}


def test_grid_is_what_grid_sampler_takes() -> None:
    space = SearchSpace(
        {
            "lr": FloatDistribution(1e-4, 1e-2, log=True),
            "beta": (0.9, 0.999),
            "width": (1, 5),
            "units": IntDistribution(1, 100, log=True),
            "step": IntDistribution(8, 64, step=8),
            "rate": FloatDistribution(0.0, 1.0, step=0.25),
            "kind": ["a", "b"],
            "fixed": 1,
        },
        one_minus=["beta"],
    )
    grid = space.grid(3)
    assert grid == {
        "lr": pytest.approx([1e-4, 1e-3, 1e-2]),
        "one_minus_beta": pytest.approx([1e-3, 1e-2, 1e-1]),
        "width": [1, 3, 5],
        "units": [1, 10, 100],
        "step": [8, 40, 64],
        "rate": [0.0, 0.5, 1.0],
        "kind": ["a", "b"],
    }
    sampler = optuna.samplers.GridSampler(grid, seed=0)
    for _ in range(5):
        space.suggest(optuna.create_study(sampler=sampler).ask())


def test_joined_spaces_hold_the_entries_of_both() -> None:
    left = SearchSpace({"lr": (0.1, 1.0), "seed": 1})
    right = SearchSpace({"seed": 1, "width": (1, 7)})
    assert (left | right).defaults() == {"lr": 0.55, "seed": 1, "width": 4}


@pytest.mark.parametrize(
    "other",
    [
        SearchSpace({"lr": (0.1, 2.0)}),
        SearchSpace({"lr": 0.5}),
        SearchSpace({"lr": (0.1, 1.0)}, defaults={"lr": 0.2}),
        SearchSpace.choice("kind", {"a": SearchSpace({"lr": (0.1, 1.0)})}),
    ],
)
def test_a_name_with_two_meanings_does_not_join(other: SearchSpace) -> None:
    with pytest.raises(InvalidArgument, match="'lr'"):
        SearchSpace({"lr": (0.1, 1.0)}) | other


def test_a_plain_dict_joins_from_either_side() -> None:
    left, right = {"width": (1, 7)}, SearchSpace({"lr": (0.1, 1.0)})
    assert left | right == SearchSpace(left) | right
    assert right | left == right | SearchSpace(left)


def test_joining_something_else_is_a_type_error(flat: SearchSpace) -> None:
    with pytest.raises(TypeError):
        flat | 3  # type: ignore[operator]
    with pytest.raises(TypeError):
        [("lr", 1.0)] | flat  # type: ignore[operator]


DOTTED = SearchSpace({"model.lr": (0.1, 1.0), "model.beta": (0.5, 0.9)}, one_minus=["model.beta"])


@pytest.mark.parametrize(
    ("space", "trial_name", "names"),
    [
        ("flat", "lr", ("lr", "lr")),
        ("flat", "one_minus_beta2", ("beta2", "beta2")),
        ("branched", "optimizer", ("optimizer", "optimizer")),
        ("branched", "sgd.lr", ("lr", "sgd.lr")),
        ("branched", "adam.one_minus_beta", ("beta", "adam.beta")),
        ("nested", "cnn.batch.momentum", ("momentum", "cnn.batch.momentum")),
        # A dot of the trainer's own is no branch.
        (DOTTED, "model.lr", ("model.lr", "model.lr")),
        (DOTTED, "one_minus_model.beta", ("model.beta", "model.beta")),
        ("flat", "one_minus_else", ("one_minus_else", "one_minus_else")),
    ],
    indirect=["space"],
)
def test_a_trials_name_is_known_by_the_trainers_and_by_overrides(
    space: SearchSpace, trial_name: str, names: tuple[str, str]
) -> None:
    assert (space.trainer_name(trial_name), space.address(trial_name)) == names


@pytest.mark.parametrize("seed", range(3))
def test_each_value_of_a_trial_has_its_trainers_name_and_value(
    space: SearchSpace, seed: int
) -> None:
    trial, names = ask(space, seed), space.names()
    assert trial.params.keys() <= names.keys() == space.distributions().keys()
    params = space.suggest(trial)
    for name, value in trial.params.items():
        assert params[names[name]] == space.trainer_value(name, value)
        assert space.is_one_minus(name) == (params[names[name]] != value)


@pytest.mark.parametrize("seed", range(3))
def test_override_knows_each_address(space: SearchSpace, seed: int) -> None:
    trial = ask(space, seed)
    choices = [name for name in trial.params if name in ("optimizer", "model", "cnn.norm")]
    for name in trial.params.keys() - choices:
        changed = space.override(**{space.address(name): 0.5})
        assert name not in changed.distributions()


def test_trainer_names_are_those_of_all_branches_and_fixed_values(
    branched: SearchSpace, nested: SearchSpace
) -> None:
    assert branched.trainer_names() == ["optimizer", "lr", "beta", "eps"]
    assert nested.trainer_names() == ["model", "norm", "momentum", "depth", "seed", "width"]


def test_space_survives_json(space: SearchSpace) -> None:
    values = space.to_dict()
    assert json.loads(json.dumps(values)) == values
    read = SearchSpace.from_dict(json.loads(json.dumps(values)))
    assert read == space
    assert hash(read) == hash(space)
    assert repr(read) == repr(space)


def test_space_survives_pickling(space: SearchSpace) -> None:
    assert pickle.loads(pickle.dumps(space)) == space


def test_spaces_differ_by_default_source_and_order() -> None:
    plain = SearchSpace({"a": (0.0, 1.0), "b": 1})
    assert plain != SearchSpace({"a": (0.0, 1.0), "b": 1}, defaults={"a": 0.1})
    assert plain != SearchSpace({"a": (0.0, 1.0), "b": 1}, sources={"a": "x"})
    assert plain != SearchSpace({"b": 1, "a": (0.0, 1.0)})


def test_space_is_frozen(flat: SearchSpace) -> None:
    with pytest.raises(FrozenInstanceError):
        flat._entries = ()  # type: ignore[misc]
    flat.defaults()["lr"] = 3
    assert flat.defaults()["lr"] == 1e-3


def test_repr_has_a_line_for_each_parameter(branched: SearchSpace) -> None:
    assert repr(branched) == (
        "SearchSpace(\n"
        "  optimizer: 'adam' | 'sgd', default 'adam'\n"
        "    adam.lr: 0.0001 .. 0.01, default 0.001\n"
        "    adam.beta: 0.8 .. 0.95 (log scale of 1 - value), default 0.9\n"
        "    adam.eps = 1e-08\n"
        "    sgd.lr: 0.001 .. 1.0, default 0.5005\n"
        ")"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ((0.1, 0.01), "`low` must be below `high`, got low=0.1, high=0.01 for 'x'"),
        ((1, 1), "`low` must be below `high`, got low=1, high=1 for 'x'"),
        ((1.0,), r"\(low, high\) tuple"),
        ((1.0, 2.0, "log", 3), r'tuple or \(low, high, "log"\)'),
        ((0.0, 1.0, "log"), "above 0 on a log scale"),
        ((1e-4, 1e-2, "Log"), r'"log" or "linear", got \'Log\' .* write \(0.0001, 0.01, "log"\)'),
        ((1e-4, 1e-2, "lin"), r'write \(0.0001, 0.01, "linear"\)'),
        ((1e-4, 1e-2, True), r'write \(0.0001, 0.01, "log"\)'),
        ((1e-4, 1e-2, None), r'write \(0.0001, 0.01, "log"\)'),
        ((0, 10, 2), r"IntDistribution\(0, 10, step=2\)"),
        ((0.0, 1.0, 0.5), r"FloatDistribution\(0.0, 1.0, step=0.5\)"),
        ([1e-4, 1e-2, "log"], r'must be a tuple.* write \(0.0001, 0.01, "log"\)'),
        ((0.0, float("inf")), "finite"),
        ((float("nan"), 1.0), "finite"),
        (float("nan"), "finite"),
        ([], "must not be empty"),
        (["a", "a"], "must differ"),
    ],
)
def test_bad_value_is_refused_by_name(spec: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        SearchSpace({"x": spec})
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize("name", ["lone \ud800", "a\0b"], ids=ascii)
def test_a_name_that_some_storage_cannot_keep_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="a parameter's name must be text"):
        SearchSpace({name: (0.0, 1.0)})


@pytest.mark.parametrize("spec", [("a", "b"), (True, 2), {"low": 1}, object(), {1, 2}, [object()]])
def test_bad_type_is_refused_by_name(spec: object) -> None:
    with pytest.raises(InvalidType, match="'x'"):
        SearchSpace({"x": spec})


def test_a_dict_in_a_dict_is_told_how_a_choice_is_written() -> None:
    with pytest.raises(InvalidType, match=r"`SearchSpace\.choice"):
        SearchSpace({"model": {"mlp": {"hidden": (8, 64)}}})


@pytest.mark.parametrize("argument", ["defaults", "sources", "one_minus", "priors"])
def test_names_beside_the_ranges_are_refused(argument: str) -> None:
    with pytest.raises(InvalidArgument, match=f"`{argument}`.*'width'.*Did you mean"):
        SearchSpace({"width": (1, 2)}, **{argument: {"widht": "?"}})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "'lr', which is missing"),
        ({"lr": 1e-3}, "missing"),
        ({"lr": 1.0}, "'lr' must be in 0.0001 .. 0.01"),
        ({"lr": "fast"}, "'lr' must be in"),
        ({"lr": None}, "'lr' must be in"),
        ({"lr": float("nan")}, "'lr' must be in"),
        ({"beta2": 0.98}, "'beta2' must be in 0.99 .. 0.9999"),
        ({"beta2": 1.0}, "'beta2' must be in"),
        ({"hidden": 16.5}, "'hidden' must be in"),
        ({"activation": "tanh"}, "'relu' | 'gelu' | None"),
        ({"epochs": 11}, "'epochs' is fixed at 10, got 11"),
        ({"one_minus_beta2": 0.1}, "must have 'beta2', got 'one_minus_beta2'.*`from_trial`"),
        ({"hiden": 3}, "Did you mean 'hidden'"),
    ],
)
def test_params_that_no_trial_could_hold_are_refused(
    flat: SearchSpace, params: dict[str, object], message: str
) -> None:
    complete = {} if "missing" in message else flat.defaults()
    with pytest.raises(InvalidArgument, match=message):
        flat.to_trial({**complete, **params})


def test_a_misspelled_name_is_told_before_the_one_that_it_leaves_missing() -> None:
    with pytest.raises(InvalidArgument, match=r"'lrr'.*Did you mean 'lr'"):
        SearchSpace({"lr": (0.1, 1.0)}).to_trial({"lrr": 0.5})


@pytest.mark.parametrize(
    ("space", "params", "message"),
    [
        ("flat", {"beta2": 0.999}, "'one_minus_beta2', got 'beta2', the trainer's name"),
        ("flat", {"one_minus_bta2": 1e-3}, "'one_minus_beta2', .* got 'one_minus_bta2' in its"),
        ("flat", {}, "'one_minus_beta2', which is missing"),
        (
            "branched",
            {"optimizer": "sgd", "lr": 0.1},
            "have 'sgd.lr', got 'lr', the trainer's name",
        ),
        ("branched", {"optimizer": "adan"}, "Did you mean 'adam'"),
    ],
    indirect=["space"],
)
def test_trial_params_under_a_wrong_name_are_refused_by_both_names(
    flat: SearchSpace, space: SearchSpace, params: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        space.from_trial({"lr": 1e-3, **params} if space == flat else params)


@pytest.mark.parametrize(
    ("n", "space"), [(1, "flat"), (0, "flat"), (3, "branched")], indirect=["space"]
)
def test_a_grid_that_cannot_be_is_refused(n: int, space: SearchSpace) -> None:
    with pytest.raises(InvalidArgument):
        space.grid(n)


def test_importing_the_package_leaves_torch_alone() -> None:
    code = "import sys; from hpolab import SearchSpace; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_params_of_a_trial_and_of_the_trainer_are_completed_alike(space: SearchSpace) -> None:
    for seed in range(5):
        trial = ask(space, seed)
        params = space.from_trial(trial.params)
        assert space.complete(trial.params) == params
        assert space.complete(params) == params
        assert list(space.complete(trial.params)) == list(params)


def test_names_of_the_trainer_s_own_are_passed_on_unless_strict(flat: SearchSpace) -> None:
    assert flat.complete({"lr": 1.0, "width": 3}) == {"lr": 1.0, "epochs": 10, "width": 3}
    with pytest.raises(InvalidArgument, match="must hold parameters of the search space, got 'wid"):
        flat.complete({"lr": 1.0, "width": 3}, strict=True)


@pytest.mark.parametrize(
    ("space", "params", "message"),
    [
        ("flat", {"one_minus_beta2": 0.01}, "must have 'lr', which is missing"),
        ("branched", {"optimizer": "adam", "adam.lr": 0.1}, "'adam.one_minus_beta', which is miss"),
        ("branched", {"optimizer": "rms", "lr": 0.1}, "`optimizer` must be one of 'adam', 'sgd'"),
        (
            "branched",
            {"optimizer": "sgd", "sgd.lr": 0.1, "adam.lr": 0.1},
            "must hold parameters of the search space, got 'adam.lr'",
        ),
        ("branched", {"optimizer": "sgd", "sgd.lr": 0.1, "lr": 0.2}, "give 'lr' once, got 'lr'"),
        ("flat", {"one_minus_beta1": 0.1}, "got 'one_minus_beta1', which it has not"),
        (
            SearchSpace({"beta": (0.1, 0.9)}, one_minus=["beta"]),
            {"beta": 0.9, "one_minus_beta": 0.2},
            "give 'beta' once, got 'beta' and 'one_minus_beta'",
        ),
    ],
    indirect=["space"],
)
def test_params_that_would_train_something_else_are_refused(
    space: SearchSpace, params: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        space.complete(params)


def test_same_range_from_another_source_joins():
    space = optimizer_space("adadelta")
    assert space | {"lr": (0.1, 10.0, "log")} == space
    with pytest.raises(InvalidArgument, match=r"use `space\.override\(lr=\.\.\.\)`"):
        space | {"lr": (0.1, 20.0, "log")}
