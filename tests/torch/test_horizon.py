"""A schedule is made for the epochs that an objective trains, or one hears of it."""

from __future__ import annotations

import warnings

import pytest

from hpolab import InvalidArgument, SearchSpace, optimizer_space, schedule_space
from hpolab.torch.horizon import check_schedule

NAMES = ["cosine", "step", "exponential", "warmup"]


@pytest.mark.parametrize("name", [*NAMES, NAMES])
@pytest.mark.parametrize(("made_for", "max_epochs"), [(100, 10), (10, 100), (10, 11), (3, 2)])
def test_schedule_for_other_epochs_is_refused(name, made_for, max_epochs):
    space = optimizer_space("adam") | schedule_space(name, max_epochs=made_for)
    with pytest.raises(InvalidArgument, match=rf"{max_epochs} epochs, got '\w+' for {made_for}:"):
        check_schedule(space, max_epochs)


@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_warm_up_for_other_epochs_is_refused(name):
    with pytest.raises(InvalidArgument, match="for 100"):
        check_schedule(schedule_space(name, max_epochs=100, warmup=True), 10)


@pytest.mark.parametrize("name", ["constant", "one_cycle", *NAMES, NAMES])
@pytest.mark.parametrize("max_epochs", [1, 2, 3, 10, 37, 300])
@pytest.mark.parametrize("warmup", [False, True])
def test_schedule_for_its_epochs_is_not_refused(name, max_epochs, warmup):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`step_size` is 1")  # of one epoch
        check_schedule(schedule_space(name, max_epochs=max_epochs, warmup=warmup), max_epochs)


def test_range_that_was_overridden_is_the_user_s():
    space = schedule_space("cosine", max_epochs=10).override(T_max=(10, 15))
    check_schedule(space, 10)
    check_schedule(space, 8)
    check_schedule(SearchSpace({"lr": (1e-3, 1.0, "log")}), 10)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"schedule": "cosine", "T_max": 100}, "`T_max` is 100: the learning rate hardly falls"),
        ({"schedule": "cosine", "T_max": (60, 80)}, "hardly falls in 10 epochs"),
        ({"schedule": "cosine", "T_max": 4}, "`T_max` is 4: the learning rate rises again"),
        ({"schedule": "step", "step_size": 30, "gamma": 0.1}, "`step_size` is 30: .* never falls"),
    ],
)
def test_setting_of_one_s_own_that_does_not_fit_warns(params, message):
    with pytest.warns(UserWarning, match=message):
        check_schedule(SearchSpace(params), 10)


def test_objective_refuses_it_before_a_trial(regression):
    space = optimizer_space("adam") | schedule_space("cosine", max_epochs=100)
    with pytest.raises(InvalidArgument, match="`search_space` must have a schedule for the obj"):
        regression(search_space=space, max_epochs=10)
    objective = regression(search_space=optimizer_space("adam"), max_epochs=10)
    with pytest.raises(InvalidArgument, match="'cosine' for 100"):
        objective.with_search_space(space).check()
