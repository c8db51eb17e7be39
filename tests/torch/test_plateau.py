"""The schedule that follows the metric: torch's ReduceLROnPlateau, behind a warm-up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hpolab import InvalidArgument, build_schedule

PARAMS = {"schedule": "plateau", "factor": 0.3, "plateau_patience": 2, "min_lr": 1e-3}


def make_optimizer() -> torch.optim.SGD:
    layer = torch.nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias], "lr": 0.02}]
    return torch.optim.SGD(groups)


def make_schedule(direction: str = "minimize", **options: Any) -> Any:
    params = PARAMS | {key: options.pop(key) for key in list(options) if key == "warmup_epochs"}
    made = make_optimizer()
    return build_schedule(params, made, max_epochs=60, direction=direction, **options)


def rates_after(schedule: Any, values: Any, n_steps: int = 1) -> list[list[float]]:
    """Return each group's rate after each epoch of so many steps."""
    found = []
    for value in values:
        for _ in range(n_steps):
            schedule.optimizer.step()
            schedule.step()
        schedule.observe(value)
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
    return found


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_steps", [1, 7])
def test_rates_are_torchs_for_metrics_above_zero(direction, seed, n_steps):
    values = np.random.default_rng(seed).uniform(0.5, 1.5, size=40)
    theirs = make_optimizer()
    torchs = ReduceLROnPlateau(theirs, direction[:3], factor=0.3, patience=2, min_lr=1e-3)
    expected = []
    for value in values:
        torchs.step(value)
        expected.append([group["lr"] for group in theirs.param_groups])
    schedule = make_schedule(direction, steps_per_epoch=n_steps)
    assert rates_after(schedule, values, n_steps) == expected
    assert expected[-1] == [pytest.approx(1e-3), pytest.approx(1e-3)]  # it has fallen


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_slightly_worse_value_below_zero_is_no_improvement(direction):
    # Each value is worse than the one before it by less than torch's threshold.
    sign = 1 if direction == "maximize" else -1
    worse = [-1.0 - sign * 5e-5 * epoch for epoch in range(5)]
    assert rates_after(make_schedule(direction), worse)[-1] == pytest.approx([0.03, 0.006])


def test_rates_rise_by_step_and_fall_only_after_the_warmup():
    schedule = make_schedule(warmup_epochs=3, steps_per_epoch=4)
    rising = [schedule.get_last_lr()[0]]
    for _ in range(12):
        schedule.optimizer.step()
        schedule.step()
        schedule.observe(1.0)
        rising.append(schedule.get_last_lr()[0])
    assert rising[:12] == pytest.approx([0.1 * (step + 1) / 12 for step in range(12)])
    assert rates_after(schedule, [1.0] * 2, 4) == [[0.1, 0.02]] * 2
    assert rates_after(schedule, [1.0], 4)[0] == pytest.approx([0.03, 0.006])


def test_resumed_schedule_goes_on_exactly(tmp_path):
    values = np.random.default_rng(0).uniform(0.5, 1.5, size=20)
    whole = rates_after(make_schedule(), values)
    first = make_schedule()
    rates_after(first, values[:7])
    torch.save((first.state_dict(), first.optimizer.state_dict()), tmp_path / "checkpoint")
    schedule, state = torch.load(tmp_path / "checkpoint", weights_only=True)
    second = make_schedule()
    second.optimizer.load_state_dict(state)
    second.load_state_dict(schedule)
    assert rates_after(second, values[7:]) == whole[7:]


def test_it_is_refused_where_nobody_says_which_way_is_better():
    with pytest.raises(InvalidArgument, match=r"'plateau' .* needs to know its `direction`"):
        build_schedule(PARAMS, make_optimizer(), max_epochs=3)
    with pytest.raises(InvalidArgument, match="`direction` must be one of"):
        build_schedule(PARAMS, make_optimizer(), max_epochs=3, direction="min")
