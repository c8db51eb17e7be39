"""Schedules: their spaces, and their learning rates held to torch's own schedulers."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from torch.optim import lr_scheduler

from hpolab import (
    EXTRA_OPTIMIZERS,
    OPTIMIZERS,
    SCHEDULES,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    build_schedule,
    optimizer_space,
    schedule_space,
)

EPOCHS = 12


def make_optimizer(lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=lr)


def rates(scheduler: lr_scheduler.LRScheduler, n_steps: int) -> list[float]:
    found = []
    for _ in range(n_steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def our_rates(params: dict[str, Any], *, steps_per_epoch: int = 1, lr: float = 0.1) -> list[float]:
    scheduler = build_schedule(
        params,
        make_optimizer(lr),
        max_epochs=EPOCHS,
        steps_per_epoch=steps_per_epoch,
        direction="minimize",
    )
    return rates(scheduler, EPOCHS * steps_per_epoch)


PLATEAU = {"schedule": "plateau", "factor": 0.1, "plateau_patience": 2}

TORCHS = {
    "constant": ({}, lambda o, k: lr_scheduler.ConstantLR(o, factor=1.0)),
    "cosine": (
        {"T_max": 15, "eta_min": 1e-3},
        lambda o, k: lr_scheduler.CosineAnnealingLR(o, T_max=15 * k, eta_min=1e-3),
    ),
    "one_cycle": (
        {"pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0},
        lambda o, k: lr_scheduler.OneCycleLR(
            o,
            max_lr=0.1,
            total_steps=EPOCHS * k,
            pct_start=0.25,
            div_factor=10.0,
            final_div_factor=100.0,
            cycle_momentum=False,
        ),
    ),
    "step": (
        {"step_size": 4, "gamma": 0.3},
        lambda o, k: lr_scheduler.StepLR(o, step_size=4 * k, gamma=0.3),
    ),
    "exponential": (
        {"gamma": 0.8},
        lambda o, k: lr_scheduler.ExponentialLR(o, gamma=0.8 ** (1 / k)),
    ),
    "warmup": (
        {"warmup_epochs": 3},
        lambda o, k: lr_scheduler.LinearLR(
            o, start_factor=1 / (3 * k), end_factor=1.0, total_iters=3 * k - 1
        ),
    ),
}


def test_every_schedule_is_compared_with_torchs() -> None:
    # "plateau" follows a metric: see test_plateau.py.
    assert set(TORCHS) == set(SCHEDULES) - {"plateau"}


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("steps_per_epoch", [1, 5])
def test_rates_are_torchs(name: str, steps_per_epoch: int) -> None:
    settings, make = TORCHS[name]
    theirs = rates(make(make_optimizer(), steps_per_epoch), EPOCHS * steps_per_epoch)
    ours = our_rates({"schedule": name, **settings}, steps_per_epoch=steps_per_epoch)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("name", ["cosine", "step", "exponential"])
def test_epochs_start_at_the_same_rates_however_they_are_divided(name: str) -> None:
    params = {"schedule": name, **TORCHS[name][0]}
    fine = our_rates(params, steps_per_epoch=7)
    assert our_rates(params) == pytest.approx(fine[::7], rel=1e-9)


@pytest.mark.parametrize("name", sorted(set(TORCHS) - {"warmup"}))
def test_warmup_rises_to_the_schedule_of_a_shorter_run(name: str) -> None:
    settings = TORCHS[name][0]
    warm = our_rates({"schedule": name, **settings, "warmup_epochs": 2}, steps_per_epoch=3)
    first = warm[6]
    assert warm[:6] == pytest.approx([first * (step + 1) / 6 for step in range(6)])
    left = EPOCHS - 2
    if name == "cosine":
        settings = {**settings, "T_max": settings["T_max"] * left / EPOCHS}
    scheduler = build_schedule(
        {"schedule": name, **settings}, make_optimizer(), max_epochs=left, steps_per_epoch=3
    )
    assert warm[6:] == pytest.approx(rates(scheduler, left * 3))


def test_no_schedule_is_a_constant_rate() -> None:
    assert our_rates({}) == [0.1] * EPOCHS


def test_warmup_of_less_than_a_step_is_none() -> None:
    assert our_rates({"schedule": "warmup", "warmup_epochs": 0.5}) == [0.1] * EPOCHS


def test_one_cycle_leaves_momentum_alone_and_stays_down_at_the_end() -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.8)
    params = schedule_space("one_cycle", max_epochs=4).defaults()
    found = rates(build_schedule(params, optimizer, max_epochs=4), 6)
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert found[3:] == pytest.approx([0.1 / 25 / 1e4] * 3)


def test_every_group_follows_from_its_own_rate() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.02}]
    )
    schedule = build_schedule({"schedule": "exponential", "gamma": 0.5}, optimizer, max_epochs=4)
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.01])


def test_resumed_schedule_goes_on_exactly(tmp_path: Any) -> None:
    params = {"schedule": "cosine", "T_max": EPOCHS, "eta_min": 0.0, "warmup_epochs": 1.7}
    whole = our_rates(params)
    first = build_schedule(params, make_optimizer(), max_epochs=EPOCHS)
    rates(first, 5)
    torch.save((first.state_dict(), first.optimizer.state_dict()), tmp_path / "checkpoint")
    schedule, state = torch.load(tmp_path / "checkpoint", weights_only=True)
    second = build_schedule(params, make_optimizer(), max_epochs=EPOCHS)
    second.load_state_dict(schedule)
    second.optimizer.load_state_dict(state)
    assert rates(second, EPOCHS - 5) == whole[5:]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("max_epochs", [1, 2, 3, 20, 500])
def test_any_draw_gives_rates_between_nothing_and_the_peak(
    name: str, warmup: bool, max_epochs: int
) -> None:
    space = schedule_space(name, max_epochs=max_epochs, warmup=warmup)
    assert space.from_trial(space.to_trial(space.defaults())) == space.defaults()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=max_epochs))
    for params in [space.defaults(), space.suggest(study.ask())]:
        scheduler = build_schedule(
            params, make_optimizer(), max_epochs=max_epochs, direction="minimize"
        )
        found = rates(scheduler, max_epochs)
        assert all(0 < rate <= 0.1 + 1e-12 for rate in found)
        assert params["schedule"] == name
        assert ("warmup_epochs" in params) == (warmup or name == "warmup")


def test_cosine_never_rises_again_in_its_range() -> None:
    for period in (EPOCHS, 2 * EPOCHS):
        found = our_rates({"schedule": "cosine", "T_max": period})
        assert found == sorted(found, reverse=True)


def test_exponential_range_is_what_is_left_at_the_end() -> None:
    distribution = schedule_space("exponential", max_epochs=20).distributions()["one_minus_gamma"]
    left = [(1 - distribution.high) ** 20, (1 - distribution.low) ** 20]  # type: ignore[attr-defined]
    assert left == pytest.approx([1e-3, 0.9])
    gamma = schedule_space("exponential", max_epochs=20).defaults()["gamma"]
    assert gamma**20 == pytest.approx(0.1)


def test_a_list_makes_the_schedule_a_parameter() -> None:
    space = schedule_space(["cosine", "exponential", "constant"], max_epochs=10, warmup=True)
    assert list(space.distributions()) == [
        "schedule",
        "cosine.T_max",
        "cosine.warmup_epochs",
        "exponential.one_minus_gamma",
        "exponential.warmup_epochs",
        "constant.warmup_epochs",
    ]


def test_schedules_have_sources() -> None:
    space = schedule_space(list(SCHEDULES), max_epochs=10, warmup=True)
    assert all(space.sources().values())


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *EXTRA_OPTIMIZERS])
def test_schedule_joins_every_optimizer(name: str, optimizer: str) -> None:
    ours = schedule_space(name, max_epochs=10, warmup=True)
    assert not ours.defaults().keys() & optimizer_space(optimizer).defaults().keys()
    joined = optimizer_space(optimizer) | ours
    assert joined.defaults() == optimizer_space(optimizer).defaults() | ours.defaults()


def test_two_choices_join() -> None:
    schedules = schedule_space(list(SCHEDULES), max_epochs=10, warmup=True)
    space = optimizer_space([*OPTIMIZERS, *EXTRA_OPTIMIZERS]) | schedules
    assert SearchSpace.from_dict(space.to_dict()) == space


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "cosin"}, InvalidArgument, "Did you mean 'cosine'"),
        ({"name": []}, InvalidArgument, "each name once"),
        ({"name": None}, InvalidType, "got NoneType"),
        ({"max_epochs": 0}, InvalidArgument, "`max_epochs` must be 1 or above, got 0"),
        ({"max_epochs": 2.5}, InvalidType, "`max_epochs` must be an int, got float"),
        ({"max_epochs": True}, InvalidType, "got bool"),
    ],
)
def test_bad_argument_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        schedule_space(**{"name": "cosine", "max_epochs": 10, **arguments})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"schedule": "step", "gamma": 0.1}, "'step_size' for the schedule 'step'"),
        ({"schedule": "warmup"}, "'warmup_epochs'"),
        ({"warmup_epochs": EPOCHS}, "below `max_epochs`"),
        ({"warmup_epochs": -1}, "at least 0"),
        ({"schedule": "plateau", "factor": 0.1}, "'plateau_patience' for the schedule 'plateau'"),
        (PLATEAU | {"factor": 1.0}, "`factor` must be above 0 and below 1, got 1.0"),
        (PLATEAU | {"factor": 0.0}, "`factor` must be above 0 and below 1, got 0.0"),
        (PLATEAU | {"plateau_patience": -1}, "`plateau_patience` must be 0 or above, got -1"),
        (PLATEAU | {"min_lr": -0.1}, "`min_lr` must be 0 or above, got -0.1"),
    ],
)
def test_params_that_make_no_schedule_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        our_rates(params)


@pytest.mark.parametrize("count", ["max_epochs", "steps_per_epoch"])
def test_counts_are_positive(count: str) -> None:
    arguments = {"max_epochs": 2, "steps_per_epoch": 2, count: 0}
    with pytest.raises(InvalidArgument, match=count):
        build_schedule({}, make_optimizer(), **arguments)


@pytest.mark.parametrize("name", ["cosine", "step", "exponential", "plateau", "warmup"])
def test_schedule_of_another_length_is_refused(name: str) -> None:
    params = schedule_space(name, max_epochs=100).defaults()
    build_schedule(params, make_optimizer(), max_epochs=100, direction="minimize")
    with pytest.raises(
        InvalidArgument, match=f"must be 100, .* schedule '{name}' was made, got 10"
    ):
        build_schedule(params, make_optimizer(), max_epochs=10, direction="minimize")


@pytest.mark.parametrize("name", ["constant", "one_cycle"])
def test_schedule_that_counts_no_epochs_fits_any_training(name: str) -> None:
    params = schedule_space(name, max_epochs=100).defaults()
    build_schedule(params, make_optimizer(), max_epochs=10)
    warm = schedule_space(name, max_epochs=100, warmup=True).defaults()
    with pytest.raises(InvalidArgument, match="`max_epochs` must be 100"):
        build_schedule(warm, make_optimizer(), max_epochs=10)
