"""A sampler that cannot use a search space is refused before a trial is spent."""

from __future__ import annotations

import pytest

from hpolab import FunctionObjective, InvalidArgument, SearchSpace, make_study, optimizer_space, run

BRANCHES = optimizer_space(["sgd", "adam"])
SHARED = BRANCHES | {"width": (1, 8)}
CHOICES = SearchSpace({"act": ["relu", "gelu"], "bias": [True, False]})
ONE = SearchSpace({"lr": (1e-4, 1.0, "log"), "act": ["relu", "gelu"]})


def study_of(space: SearchSpace, sampler: str):
    objective = FunctionObjective(
        lambda params, reporter: 1.0, search_space=space, direction="minimize", max_steps=1
    )
    study = make_study("s", storage="memory://", objective=objective, sampler=sampler)
    return study, objective


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        pytest.param("cmaes", BRANCHES, id="cmaes-branches", marks=pytest.mark.needs("cmaes")),
        pytest.param("cmaes", CHOICES, id="cmaes-choices", marks=pytest.mark.needs("cmaes")),
        pytest.param("cmaes", ONE, id="cmaes-one", marks=pytest.mark.needs("cmaes")),
        pytest.param("gp", BRANCHES, id="gp-branches", marks=pytest.mark.needs("torch")),
    ],
)
def test_a_sampler_that_would_draw_every_number_at_random_is_refused(sampler, space):
    study, objective = study_of(space, sampler)
    with pytest.raises(InvalidArgument, match=f"`sampler='{sampler}'` needs a search space"):
        run(study, objective, n_trials=3)
    assert study.trials == []


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        pytest.param("gp", CHOICES, id="gp-choices", marks=pytest.mark.needs("torch")),
        pytest.param("gp", ONE, id="gp-one", marks=pytest.mark.needs("torch")),
        pytest.param("gp", SHARED, id="gp-shared", marks=pytest.mark.needs("torch")),
        pytest.param("tpe", BRANCHES, id="tpe"),
    ],
)
def test_a_sampler_that_can_use_a_space_runs(sampler, space):
    study, objective = study_of(space, sampler)
    run(study, objective, n_trials=2)
    assert len(study.trials) == 2
