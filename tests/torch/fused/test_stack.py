"""A fused member is what the trial would be alone."""

from __future__ import annotations

import pytest
import torch

from hpolab import OPTIMIZERS, SearchSpace, optimizer_space, schedule_space
from hpolab.studies.trials import METRICS_KEY
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.first_steps import FirstSteps
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.rules import RULES
from hpolab.torch.fused.stack import Stack

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name in RULES])
def test_curve_of_a_fused_member_is_that_of_the_trial_alone(
    name, dtype, objective_of, study_of, check_same
):
    space = optimizer_space(name) | SearchSpace({"dropout": (0.0, 0.6)})
    objective = objective_of(space | schedule_space("cosine", max_epochs=3))
    check_same(study_of(objective, 5, 3), study_of(objective, 5, None), TOLERANCE[dtype])


def test_different_optimizers_stand_in_one_stack(double, objective_of, study_of, check_same):
    names = ["adam", "sgd", "adadelta", "adafactor", "rprop", "nesterov"]
    objective = objective_of(optimizer_space(names), metrics=["accuracy"])
    together, alone = study_of(objective, 12, 6), study_of(objective, 12, None)
    check_same(together, alone, 1e-8)
    assert len({trial.params["optimizer"] for trial in together.trials}) > 3
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.user_attrs[METRICS_KEY] == pytest.approx(other.user_attrs[METRICS_KEY])


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "loss"])
def test_metrics_are_those_of_the_trials_alone(metric, objective_of, study_of, check_same):
    objective = objective_of(metric=metric)
    check_same(study_of(objective, 5, 5), study_of(objective, 5, None), 1e-3)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name in RULES])
def test_a_training_moves_between_a_stack_and_its_own_optimizer(name, double, objective_of):
    objective = objective_of(optimizer_space(name))

    def members() -> list[Member]:
        return [Member.outside(objective, objective.search_space.defaults(), k) for k in range(2)]

    alone, moving = members(), members()
    for member in [*alone, *alone, *alone, *moving]:
        member.epoch()
    architecture = Architecture(moving[0].training)
    stack = Stack(architecture, [(each, FirstSteps(architecture, each)) for each in moving])
    stack.epoch()
    assert not stack.strangers
    for slot, member in enumerate(moving):
        stack.take_out(slot)
        member.epoch()
    for one, other in zip(alone, moving, strict=True):
        for mine, theirs in zip(
            one.training.model.parameters(), other.training.model.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
            states = [each.training.state.optimizer.state for each in (one, other)]
            assert set(states[0].get(mine, {})) == set(states[1].get(theirs, {}))


@pytest.mark.parametrize("name", ["adamw", "sgd", "nadam", "adafactor", "asgd"])
def test_clipped_gradients_and_parameter_groups_are_each_members_own(
    name, double, caplog, objective_of, study_of, check_same
):
    tuned = {
        "max_grad_norm": (0.05, 2.0, "log"),
        "layer_decay": (0.5, 1.0),
        "decay_biases": [True, False],
    }
    space = optimizer_space(name) | schedule_space("cosine", max_epochs=3) | tuned
    objective = objective_of(space)
    together = study_of(objective, 8, 4)
    check_same(together, study_of(objective, 8, None), 1e-8)
    assert "alone" not in caplog.text


def test_a_training_of_several_groups_moves_between_a_stack_and_its_own_optimizer(
    double, objective_of, study_of, check_same
):
    # Of ten trials in stacks of four the last go on alone.
    objective = objective_of(
        optimizer_space("adamw"), decay_biases=False, max_grad_norm=0.1, max_epochs=4, patience=1
    )
    check_same(study_of(objective, 10, 4), study_of(objective, 10, None), 1e-8)
