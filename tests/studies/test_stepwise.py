"""The stepwise sampler: what each trial moves, what counts as the best, and exact repetition."""

from __future__ import annotations

import itertools
import math
from functools import partial

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpolab import (
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    StepwiseSampler,
    TrialSeededSampler,
    make_study,
    run,
)

DEFAULT = {"x": 0.5, "y": 0.1, "z": 3, "kind": "a"}
STAGES = [("x", 3, "grid"), (("y", "z"), 4), ("kind", 2, "bisect")]


def separable(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-3, 1, log=True)
    z = trial.suggest_int("z", 1, 20)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    return (x + 0.6) ** 2 + (math.log10(y) + 2) ** 2 / 9 + (z - 12) ** 2 / 400 + (kind != "b") / 10


def conditional(trial: optuna.Trial) -> float:
    if trial.suggest_categorical("branch", ["left", "right"]) == "left":
        return 1 + trial.suggest_float("left.x", -1, 1) ** 2
    return (trial.suggest_float("right.x", -1, 1) - 0.5) ** 2 + trial.suggest_float("right.y", 0, 1)


def study_of(sampler: StepwiseSampler, direction: str = "minimize", **start) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.enqueue_trial(start or DEFAULT)
    return study


def params(study: optuna.Study) -> list[dict[str, object]]:
    return [trial.params for trial in study.trials]


def moved(study: optuna.Study, number: int, sign: int = 1) -> set[str]:
    """Return the parameters in which a trial differs from the best one before it."""
    before = study.trials[:number]
    best = min(before, key=lambda trial: sign * trial.value)
    return {
        name for name, value in study.trials[number].params.items() if value != best.params[name]
    }


@pytest.mark.parametrize("seed", range(3))
def test_each_parameter_moves_once_and_alone_around_the_best(seed):
    study = study_of(StepwiseSampler(seed=seed))
    study.optimize(separable, n_trials=5)
    assert [moved(study, n) for n in range(1, 5)] == [{"x"}, {"y"}, {"z"}, {"kind"}]


def test_parameters_of_order_move_first_and_as_often_as_named():
    study = study_of(StepwiseSampler(order=["none", "z", ("y", "kind"), "z"]))
    study.optimize(separable, n_trials=5)
    assert [moved(study, n) for n in range(1, 5)] == [{"z"}, {"y", "kind"}, {"z"}, {"x"}]


@pytest.mark.parametrize("seed", range(3))
def test_each_stage_moves_only_its_parameters(seed):
    study = study_of(StepwiseSampler(stages=STAGES, seed=seed))
    study.optimize(separable, n_trials=10)
    stages = [{"x"}] * 3 + [{"y", "z"}] * 4 + [{"kind"}] * 2
    assert all(moved(study, n) <= stage for n, stage in enumerate(stages, start=1))


def test_moves_and_joint_draws_take_turns_behind_the_last_move():
    study = study_of(StepwiseSampler(order=["z"]))
    study.optimize(separable, n_trials=13)
    moves = [moved(study, n) for n in range(5, 13, 2)]
    assert moves == [{"z"}, {"x"}, {"y"}, {"kind"}]
    assert any(len(moved(study, n)) > 1 for n in range(6, 13, 2))


def test_all_parameters_move_behind_the_last_stage():
    study = study_of(StepwiseSampler(stages=[("x", 1)]))
    study.optimize(separable, n_trials=20)
    assert set.union(*(moved(study, n) for n in range(2, 20))) == {"x", "y", "z", "kind"}


def test_grid_lays_its_values_over_the_range():
    study = study_of(StepwiseSampler(stages=[("z", 5, "grid"), ("kind", 2, "grid")]))
    study.optimize(separable, n_trials=8)
    assert [trial.params["z"] for trial in study.trials[1:6]] == [1, 6, 11, 15, 20]
    assert {trial.params["kind"] for trial in study.trials[6:]} == {"b", "c"}  # it has "a"


def test_bisection_fills_the_widest_gap_and_first_of_all_beside_the_best():
    def objective(trial: optuna.Trial) -> float:
        return abs(trial.suggest_float("x", 0, 1) - 0.2)

    study = study_of(StepwiseSampler(stages=[("x", 12, "bisect")]), x=1.0)
    study.optimize(objective, n_trials=13)
    values = [trial.params["x"] for trial in study.trials]
    assert 0.4 <= values[1] <= 0.6
    assert len(set(values)) == 13
    filled = sorted([0.0, *values])
    assert max(high - low for low, high in itertools.pairwise(filled)) < 0.3
    near = [value for value in values if abs(value - 0.2) < 0.1]
    far = [value for value in values if abs(value - 0.8) < 0.1]
    assert len(near) > len(far)
    assert study.best_value < 0.05


@pytest.mark.parametrize(
    ("start", "lower_first", "low", "high"),
    [
        (0.45, False, 0.45, 1.0),  # the gap above is wider
        (0.45, True, 0.0, 0.45),  # about as wide
        (0.3, True, 0.3, 1.0),  # far wider
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_of_gaps_about_as_wide_the_lower_one_is_filled_first(start, lower_first, low, high, seed):
    sampler = StepwiseSampler(order=["x"], lower_first=lower_first, seed=seed)
    study = study_of(sampler, x=start)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert low < study.trials[1].params["x"] < high


@pytest.mark.parametrize("bounds", [(1, 2), (1, 1)])
def test_range_with_no_new_value_left_does_not_stop_the_study(bounds):
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("n", *bounds) + trial.suggest_float("x", 0, 1)

    study = study_of(StepwiseSampler(stages=[("n", 5, "bisect"), ("n", 5)]), n=1, x=0.5)
    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12


def test_maximizing_study_steps_from_its_maximum():
    study = study_of(StepwiseSampler(seed=1), "maximize")
    study.optimize(lambda trial: -separable(trial), n_trials=5)
    assert [moved(study, n, sign=-1) for n in range(1, 5)] == [{"x"}, {"y"}, {"z"}, {"kind"}]
    same = study_of(StepwiseSampler(seed=1))
    same.optimize(separable, n_trials=5)
    assert params(study) == params(same)


@pytest.mark.parametrize(
    "trial",
    [
        {"state": TrialState.PRUNED, "intermediate_values": {0: -9.0}},
        {"state": TrialState.FAIL},
        {"value": -9.0, "constraints": {"dead": 1.0}},
    ],
    ids=["pruned", "failed", "infeasible"],
)
def test_trial_without_a_valid_value_is_never_the_best(trial):
    study = study_of(StepwiseSampler())
    study.optimize(separable, n_trials=1)
    distributions = study.trials[0].distributions
    bad = {"x": -1.0, "y": 0.9, "z": 20, "kind": "c"}
    study.add_trial(create_trial(params=bad, distributions=distributions, **trial))
    study.optimize(separable, n_trials=1)
    drawn = study.trials[2].params
    assert {name for name in DEFAULT if drawn[name] != DEFAULT[name]} == {"y"}


def test_parameters_that_only_some_trials_have():
    study = study_of(StepwiseSampler(), branch="left", **{"left.x": 0.5})
    study.optimize(conditional, n_trials=40)
    assert study.best_trial.params["branch"] == "right"
    assert study.best_value < 0.3


def test_range_that_was_widened_is_used_at_once():
    def objective(trial: optuna.Trial, high: float) -> float:
        return abs(trial.suggest_float("x", 0, high) - 9) + trial.suggest_float("y", 0, 1)

    study = study_of(StepwiseSampler(stages=[("x", 20, "bisect")]), x=0.5, y=0.5)
    study.optimize(partial(objective, high=1), n_trials=4)
    study.optimize(partial(objective, high=10), n_trials=8)
    assert study.best_params["x"] > 5
    study.optimize(partial(objective, high=4), n_trials=4)  # the best lies outside now
    assert all(trial.params["x"] <= 4 for trial in study.trials[12:])


@pytest.mark.parametrize("objective", [separable, conditional], ids=["flat", "conditional"])
@pytest.mark.parametrize(
    "factory",
    [
        StepwiseSampler,
        partial(StepwiseSampler, order=["y", "right.x"]),
        partial(StepwiseSampler, stages=[*STAGES, ("branch", 2), ("right.x", 2)]),
    ],
    ids=["default", "order", "stages"],
)
@pytest.mark.filterwarnings("ignore:.stages. of .StepwiseSampler.")
def test_study_stopped_at_every_trial_repeats_the_uninterrupted_one(factory, objective):
    whole = make_study("s", storage="memory://", sampler=factory, seed=1)
    run(whole, objective, n_trials=14)
    storage = optuna.storages.InMemoryStorage()
    for n_trials in range(1, 15):
        resumed = make_study("s", storage=storage, sampler=factory, seed=1)
        run(resumed, objective, n_trials=n_trials)
    assert params(resumed) == params(whole)


def test_it_carries_nothing_from_trial_to_trial_without_the_wrapper_too():
    whole = study_of(StepwiseSampler(seed=3))
    whole.optimize(separable, n_trials=15)
    fresh = study_of(StepwiseSampler(seed=3))
    for _ in range(15):
        fresh.sampler = StepwiseSampler(seed=3)
        fresh.optimize(separable, n_trials=1)
    assert params(fresh) == params(whole)


@pytest.mark.parametrize(
    "sampler",
    [StepwiseSampler(), StepwiseSampler(stages=[("x", 8, "bisect")])],
    ids=["default", "one stage"],
)
def test_workers_take_different_points(sampler):
    study = study_of(sampler)
    trials = []
    for _ in range(8):  # all running at once, trial 0 included
        trials.append(study.ask())
        separable(trials[-1])
    points = [tuple(sorted(trial.params.items())) for trial in trials]
    assert len(set(points)) == 8
    assert all(sum(trial.params[n] != DEFAULT[n] for n in DEFAULT) == 1 for trial in trials[1:5])


def test_threads_of_study_optimize_share_it():
    study = study_of(StepwiseSampler())
    study.optimize(separable, n_trials=24, n_jobs=4)
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) >= 23


@pytest.mark.parametrize("n_trials", [10, 25])
def test_it_finds_a_separable_optimum_sooner_than_random_search(n_trials):
    def mean_best(make_sampler) -> float:
        values = []
        for seed in range(10):
            study = study_of(make_sampler(seed=seed))
            study.optimize(separable, n_trials=n_trials)
            values.append(study.best_value)
        return sum(values) / len(values)

    stepwise = mean_best(StepwiseSampler)
    assert stepwise < 0.7 * mean_best(optuna.samplers.RandomSampler)


def test_unknown_name_of_a_stage_is_warned_of():
    study = study_of(StepwiseSampler(stages=[("num_leafs", 2)]))
    study.optimize(separable, n_trials=1)
    with pytest.warns(UserWarning, match="'num_leafs', which no trial"):
        study.optimize(separable, n_trials=1)


def test_several_objective_values_are_refused():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=StepwiseSampler())
    with pytest.raises(InvalidArgument, match="one objective value, got one with 2"):
        study.ask({"x": FloatDistribution(0, 1)})


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"seed": -1}, InvalidArgument, "`seed` must be 0 or above, got -1"),
        ({"seed": 1.0}, InvalidType, "`seed` must be an int, got float"),
        ({"stages": [("x", 1)], "order": ["x"]}, InvalidArgument, "beside `stages`"),
        ({"stages": [("x", 0)]}, InvalidArgument, "`n_trials` must be 1 or above, got 0"),
        ({"stages": [("x",)]}, InvalidType, "a stage must be"),
        ({"stages": [("x", 3, "gird")]}, InvalidArgument, "Did you mean 'grid'"),
        ({"stages": [((), 3)]}, InvalidArgument, r"must name a parameter, got \(\)"),
        ({"stages": [(("x", "y"), 3, "grid")]}, InvalidArgument, "must move one parameter"),
        ({"stages": [(["x"], 3)]}, InvalidType, "a stage must move a name"),
        ({"stages": ["x"]}, InvalidType, "a stage must be"),
        ({"lower_first": 1}, InvalidType, "`lower_first` must be a bool, got int"),
        ({"order": [1]}, InvalidType, "a stage must move a name"),
        ({"order": "xy"}, InvalidType, "`order` must be a list"),
    ],
)
def test_bad_argument_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        StepwiseSampler(**arguments)


def test_another_order_on_resume_is_refused():
    storage = optuna.storages.InMemoryStorage()
    study = make_study("s", storage=storage, sampler=partial(StepwiseSampler, order=["x"]))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(RecipeMismatch, match="order="):
        make_study("s", storage=storage, sampler=partial(StepwiseSampler, order=["y"]))


def test_it_goes_by_name():
    study = make_study("s", storage="memory://", sampler="stepwise", seed=2)
    assert isinstance(study.sampler, TrialSeededSampler)
    assert str(study.sampler) == "TrialSeededSampler(StepwiseSampler, seed=2)"
