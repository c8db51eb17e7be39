"""The sampler `auto`: its start, its model, what it learns from trials of every kind."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.trial import TrialState

from hpolab import (
    AutoSampler,
    InvalidArgument,
    InvalidType,
    Objective,
    Prior,
    RecipeMismatch,
    SearchSpace,
    load_study,
    make_study,
    optimizer_space,
    run,
)

pytestmark = pytest.mark.needs("torch")

SPACE = SearchSpace(
    {"lr": (1e-5, 1.0, "log"), "width": (8, 512), "act": ["relu", "gelu"]},
    defaults={"lr": 1e-3, "width": 64},
)


def loss(params) -> float:
    off = abs(math.log10(params["lr"]) + 2.4) / 5 + abs(params["width"] - 300) / 500
    return off + 0.2 * (params["act"] == "relu")


class Smooth(Objective):
    def train(self, params, reporter):
        return loss(params)


def smooth(search_space=SPACE) -> Objective:
    return Smooth(search_space=search_space, direction="minimize", max_steps=1)


def best(study: optuna.Study, n_trials: int) -> float:
    return min(trial.value for trial in study.trials[:n_trials] if trial.value is not None)


def test_trial_0_is_the_default_configuration():
    study = make_study("s", storage="memory://", objective=smooth(), sampler="auto")
    study.optimize(lambda trial: loss(SPACE.suggest(trial)), n_trials=1)
    assert study.trials[0].params == SPACE.to_trial(SPACE.defaults())


def test_first_trials_spread_over_every_range():
    study = make_study("s", storage="memory://", objective=smooth(), sampler="auto")
    run(study, smooth(), n_trials=8)
    drawn = [trial.params for trial in study.trials[1:]]
    assert min(each["lr"] for each in drawn) < 1e-3 < 1e-2 < max(each["lr"] for each in drawn)
    assert min(each["width"] for each in drawn) < 150 < 350 < max(each["width"] for each in drawn)
    assert {each["act"] for each in drawn} == {"relu", "gelu"}


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.long) for i in (1, 2))])
def test_it_finds_in_25_trials_what_tpe_finds_in_60(seed):
    auto = make_study("s", storage="memory://", objective=smooth(), sampler="auto", seed=seed)
    run(auto, smooth(), n_trials=25)
    tpe = make_study("s", storage="memory://", objective=smooth(), sampler="tpe", seed=seed)
    run(tpe, smooth(), n_trials=60)
    assert best(auto, 25) <= best(tpe, 60)


def test_it_learns_without_being_told_the_search_space():
    study = optuna.create_study(sampler=AutoSampler(seed=1))
    study.optimize(lambda trial: loss(SPACE.suggest(trial)), n_trials=25)
    assert best(study, 25) < 0.15


@pytest.mark.parametrize("names", [("lrr", "wdd"), ("lr",)], ids=["misspelled", "some"])
def test_what_the_search_space_lacks_is_learned_from_the_trials(names):
    def bowl(trial: optuna.Trial) -> float:
        lr, wd = trial.suggest_float("lr", 0, 1), trial.suggest_float("wd", 0, 1)
        return (lr - 0.3) ** 2 + (wd - 0.7) ** 2

    space = {name: (0.0, 1.0) for name in names}
    study = optuna.create_study(sampler=AutoSampler(search_space=space, seed=0))
    study.optimize(bowl, n_trials=20)
    assert study.best_value < 2e-3


def test_direction_counts():
    study = optuna.create_study(sampler=AutoSampler(seed=0), direction="maximize")
    study.optimize(lambda trial: -loss(SPACE.suggest(trial)), n_trials=25)
    assert study.best_value > -0.15


BRANCHES = optimizer_space(["sgd", "adadelta", "adamw"]) | {"width": (8, 512)}


def of_branches(trial: optuna.Trial) -> float:
    params = BRANCHES.suggest(trial)
    wanted, off = {"sgd": (0.3, 0.5), "adadelta": (1.0, 0.4), "adamw": (2e-3, 0.0)}[
        params["optimizer"]
    ]
    return off + abs(math.log10(params["lr"] / wanted)) + abs(params["width"] - 300) / 500


@pytest.mark.parametrize("search_space", [BRANCHES, None], ids=["known", "learned"])
def test_it_finds_the_best_branch_and_what_is_best_in_it(search_space):
    study = optuna.create_study(sampler=AutoSampler(search_space=search_space, seed=0))
    study.optimize(of_branches, n_trials=30)
    assert study.best_params["optimizer"] == "adamw"
    assert study.best_value < 0.2
    chosen = [trial.params["optimizer"] for trial in study.trials[15:]]
    assert chosen.count("adamw") >= 10


def test_trials_have_the_parameters_of_their_branch_alone():
    study = optuna.create_study(sampler=AutoSampler(search_space=BRANCHES, seed=0))
    study.optimize(of_branches, n_trials=15)
    for trial in study.trials:
        prefixes = {name.split(".")[0] for name in trial.params if "." in name}
        assert prefixes == {trial.params["optimizer"]}


class Curves(Objective):
    """All but the first three trials are pruned at their first report."""

    def train(self, params, reporter):
        value = loss(params)
        reporter.report(value + 1, step=0)
        if reporter.trial.number >= 3:
            raise optuna.TrialPruned
        return value


def test_it_learns_from_pruned_trials():
    objective = Curves(search_space=SPACE, direction="minimize", max_steps=2)
    study = make_study("s", storage="memory://", objective=objective, sampler="auto")
    run(study, objective, n_trials=25)
    late = [loss(SPACE.from_trial(trial.params)) for trial in study.trials[8:]]
    assert [trial.state for trial in study.trials[3:]] == [TrialState.PRUNED] * 22
    # Of random draws one in fifty is as good.
    assert sum(each < 0.1 for each in late) >= 6


class Diverging(Objective):
    """Diverges above a learning rate that is well inside the range, where the loss is lowest."""

    def train(self, params, reporter):
        if params["lr"] > 1e-2:
            reporter.report(math.nan, step=0)
        return -math.log10(params["lr"]) + abs(params["width"] - 300) / 500


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_it_keeps_out_of_where_trials_diverge(seed):
    objective = Diverging(search_space=SPACE, direction="minimize", max_steps=2)

    def n_dead(sampler: str) -> int:
        study = make_study(
            "s", storage="memory://", objective=objective, sampler=sampler, seed=seed
        )
        run(study, objective, n_trials=40)
        return sum(trial.state == TrialState.PRUNED for trial in study.trials)

    assert n_dead("auto") < n_dead("tpe")


def test_a_study_in_which_all_trials_diverge_goes_on():
    space = SPACE.override(lr=(0.1, 1.0))
    objective = Diverging(search_space=space, direction="minimize", max_steps=2)
    study = make_study("s", storage="memory://", objective=objective, sampler="auto")
    run(study, objective, n_trials=14)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 14


def test_a_choice_of_one_branch_is_no_choice():
    space = optimizer_space(["sgd"]) | {"width": (8, 512)}
    study = optuna.create_study(sampler=AutoSampler(search_space=space, seed=0))
    study.optimize(lambda trial: abs(space.suggest(trial)["lr"] - 0.01), n_trials=12)
    assert {trial.params["optimizer"] for trial in study.trials} == {"sgd"}


def test_under_hyperband_it_learns_from_every_bracket():
    objective = smooth()
    study = make_study(
        "s", storage="memory://", objective=objective, sampler="auto", pruner="hyperband"
    )
    run(study, objective, n_trials=25)
    assert best(study, 25) < 0.15


def test_equal_values_are_no_error():
    study = optuna.create_study(sampler=AutoSampler(seed=0))
    study.optimize(lambda trial: 0.0 * trial.suggest_float("x", 0, 1), n_trials=15)
    assert len({trial.params["x"] for trial in study.trials}) == 15


def test_a_prior_draws_the_first_trials_to_its_median():
    def n_near(priors) -> int:
        space = SearchSpace({"lr": (1e-6, 1.0, "log")}, priors=priors)
        study = optuna.create_study(sampler=AutoSampler(search_space=space, n_startup_trials=40))
        study.optimize(lambda trial: space.suggest(trial)["lr"], n_trials=40)
        return sum(5e-4 < trial.params["lr"] < 2e-3 for trial in study.trials)

    assert n_near({"lr": Prior(1e-3, 1.5)}) >= 14
    assert n_near({}) <= 8


def trials_to(value: float, priors, seed: int) -> int:
    space = SearchSpace(
        {"lr": (1e-5, 1.0, "log"), "wd": (1e-6, 1e-1, "log"), "drop": (0.0, 0.8)}, priors=priors
    )
    study = optuna.create_study(sampler=AutoSampler(search_space=space, seed=seed))

    def bowl(trial: optuna.Trial) -> float:
        params = space.suggest(trial)
        off = math.log10(params["lr"]) + 1.5, math.log10(params["wd"]) + 2, params["drop"] - 0.6
        value = off[0] ** 2 + off[1] ** 2 + 4 * off[2] ** 2
        return value

    for number in range(60):
        study.optimize(bowl, n_trials=1)
        if study.best_value < value:
            return number + 1
    return 60


@pytest.mark.long
def test_a_misleading_prior_costs_at_most_a_tenth_more_trials():
    misleading = {"lr": Prior(1e-4, 3.0), "wd": Prior(1e-5, 3.0), "drop": Prior(0.1, 0.1)}
    without = [trials_to(0.05, None, seed) for seed in range(20)]
    misled = [trials_to(0.05, misleading, seed) for seed in range(20)]
    assert sum(misled) <= 1.1 * sum(without)


@pytest.mark.long
def test_a_good_prior_saves_trials():
    good = {"lr": Prior(0.03, 2.0), "wd": Prior(0.01, 2.0), "drop": Prior(0.6, 0.1)}
    without = [trials_to(0.05, None, seed) for seed in range(20)]
    helped = [trials_to(0.05, good, seed) for seed in range(20)]
    assert sum(helped) < 0.7 * sum(without)


def test_running_trials_are_kept_away_from():
    study = make_study("s", storage="memory://", objective=smooth(), sampler="auto")
    run(study, smooth(), n_trials=15)
    drawn = [SPACE.suggest(study.ask()) for _ in range(4)]
    assert len({tuple(each.values()) for each in drawn}) == 4


def test_behind_the_last_trial_of_the_model_all_is_tpes():
    whole = make_study("s", storage="memory://", sampler="tpe", seed=3)
    whole.optimize(lambda trial: loss(SPACE.suggest(trial)), n_trials=30)
    study = optuna.create_study(sampler=AutoSampler(seed=3, max_gp_trials=0))
    study.optimize(lambda trial: loss(SPACE.suggest(trial)), n_trials=30)
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]


def test_no_configuration_is_tried_twice_while_there_are_others():
    study = optuna.create_study(sampler=AutoSampler(seed=0))
    study.optimize(
        lambda trial: trial.suggest_int("a", 0, 4) + trial.suggest_categorical("b", [0, 1, 2]),
        n_trials=15,
    )
    drawn = [tuple(trial.params.values()) for trial in study.trials]
    # The first ones are drawn without a look at the others.
    assert len(set(drawn[6:])) == len(drawn[6:])
    assert set(drawn[:8]).isdisjoint(drawn[8:])


def test_a_study_with_several_objective_values_is_sampled():
    study = make_study("s", storage="memory://", direction=["minimize", "maximize"], sampler="auto")
    study.optimize(
        lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=15
    )
    assert len(study.trials) == 15


def test_the_recipe_keeps_its_settings(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    run(make_study("s", storage=url, objective=smooth(), sampler="auto"), smooth(), n_trials=9)
    loaded = load_study("s", storage=url)
    assert repr(loaded.sampler) == repr(AutoSampler(seed=0))
    with pytest.raises(RecipeMismatch, match="sampler: stored auto"):
        make_study("s", storage=url, objective=smooth(), sampler="tpe")


def test_a_wider_range_is_searched_after_a_resume(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    run(make_study("s", storage=url, objective=smooth(), sampler="auto"), smooth(), n_trials=10)
    wide = smooth(SPACE.override(width=(8, 4096)))
    study = load_study("s", storage=url)
    run(study, wide, n_trials=20)
    assert max(trial.params["width"] for trial in study.trials) > 512


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"seed": -1}, InvalidArgument),
        ({"n_startup_trials": -1}, InvalidArgument),
        ({"max_gp_trials": 2.5}, InvalidType),
        ({"search_space": 3}, InvalidType),
    ],
    ids=["seed", "startup", "gp", "space"],
)
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        AutoSampler(**arguments)
