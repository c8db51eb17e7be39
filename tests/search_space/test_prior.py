"""Priors of ranges: what is refused, where they travel, what they are on a range's own scale."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    Prior,
    RecipeMismatch,
    Reporter,
    SearchSpace,
    lightgbm_space,
    make_study,
    optimizer_space,
    run,
)
from hpolab.search_space.prior import without_priors
from hpolab.studies.recipe import read_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

LR = Prior(1e-3, 3.0, "a paper")


def make_space(**priors: object) -> SearchSpace:
    return SearchSpace(
        {
            "lr": (1e-4, 1e-2, "log"),
            "beta": (0.9, 0.9999),
            "rate": (0.0, 0.5),
            "width": (8, 64),
            "activation": ["relu", "gelu"],
            "epochs": 10,
        },
        one_minus=["beta"],
        priors=priors,  # type: ignore[arg-type]
    )


def test_a_range_has_the_prior_that_it_was_given_under_its_trial_name() -> None:
    space = make_space(lr=LR, beta=(0.99, 3), rate=(0.1, 0.1, "a rule"))
    assert space.priors() == {
        "lr": LR,
        "one_minus_beta": Prior(0.99, 3.0),
        "rate": Prior(0.1, 0.1, "a rule"),
    }
    assert make_space().priors() == {}


def test_a_prior_changes_neither_ranges_nor_defaults_nor_draws() -> None:
    plain, expected = make_space(), make_space(lr=LR)
    assert expected != plain
    assert expected.distributions() == plain.distributions()
    assert expected.defaults() == plain.defaults()


@pytest.mark.parametrize(
    ("name", "prior", "message"),
    [
        ("activation", (1, 2), r"prior of 'activation' must be one of a numeric range.*relu"),
        ("epochs", (10, 2), "`priors` must be one of .*, got 'epochs'"),
        ("lrr", (1e-3, 2), "`priors`.*got 'lrr'. Did you mean 'lr'"),
        ("lr", (0.1, 2), r"prior of 'lr' must have its median in 0.0001 .. 0.01, got 0.1"),
        ("beta", (0.5, 2), r"prior of 'beta' must have its median in 0.9 .. 0.9999, got 0.5"),
        ("lr", (1e-3, 1), r"prior of 'lr' must have a factor above 1 as `spread`.*got 1"),
        ("beta", (0.99, 0.5), "prior of 'beta' must have a factor above 1"),
        ("rate", (0.1, 0), "prior of 'rate': `spread` must be above 0, got 0"),
        ("lr", (math.nan, 2), "prior of 'lr': `median` must be finite, got nan"),
        ("lr", (1e-3, math.inf), "prior of 'lr': `spread` must be finite, got inf"),
        ("lr", (1e-3,), r"\(median, spread\) or \(median, spread, source\), got \(0.001,\)"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(name: str, prior: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_space(**{name: prior})


@pytest.mark.parametrize(
    "prior",
    [[1e-3, 3.0], 1e-3, ("fast", 3.0), (True, 3.0), (1e-3, None), (1e-3, 3.0, 7)],
    ids=["list", "number", "text", "bool", "none", "source"],
)
def test_a_prior_of_another_type_is_refused(prior: object) -> None:
    with pytest.raises(InvalidType, match="'lr'"):
        make_space(lr=prior)


@pytest.mark.parametrize(
    "space",
    [
        make_space(lr=LR, beta=(0.99, 3.0), width=(16, 4)),
        SearchSpace.choice("model", {"linear": {}, "mlp": make_space(width=(16, 4, "a rule"))}),
        optimizer_space(["sgd", "adamw"]),
    ],
    ids=["flat", "branch", "optimizers"],
)
def test_priors_survive_json(space: SearchSpace) -> None:
    read = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert read == space
    assert hash(read) == hash(space)
    assert read.priors() == space.priors() != {}


def test_a_space_without_priors_is_stored_as_it_always_was() -> None:
    assert '"prior"' not in json.dumps(make_space().to_dict())
    assert without_priors(make_space(lr=LR).to_dict()) == make_space().to_dict()


def test_a_branch_carries_its_priors_under_its_own_names() -> None:
    space = optimizer_space(["sgd", "adam"])
    assert set(space.priors()) == {
        "sgd.lr",
        "adam.lr",
        "adam.one_minus_beta1",
        "adam.one_minus_beta2",
    }
    assert space.priors()["adam.lr"] == optimizer_space("adam").priors()["lr"]
    assert space.override(optimizer="adam").priors() == optimizer_space("adam").priors()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ((1e-5, 1.0), True),
        ((1e-4, 5e-4), False),
        ((1e-4, 1e-2, "linear"), False),
        ([1e-4, 1e-3], False),
        (1e-3, False),
        (FloatDistribution(1e-5, 1.0, log=True), True),
    ],
    ids=["wider", "median-outside", "another-scale", "list", "fixed", "distribution"],
)
def test_an_overridden_range_keeps_a_prior_that_still_means_the_same(
    change: object, kept: bool
) -> None:
    assert make_space(lr=LR).override(lr=change).priors() == ({"lr": LR} if kept else {})


def test_a_range_near_one_keeps_its_prior_while_it_stays_one() -> None:
    space = make_space(beta=(0.99, 3.0))
    assert space.override(beta=(0.8, 0.999)).priors() == space.priors()
    assert space.override(beta=(0.9, 0.999, "linear")).priors() == {}


def test_spaces_that_differ_in_a_prior_alone_join_and_keep_the_left_one() -> None:
    ranges = {"lr": (1e-4, 1e-2, "log")}
    mine, other = (SearchSpace(ranges, priors={"lr": (m, 2.0)}) for m in (1e-3, 2e-3))
    assert (mine | other).priors() == mine.priors()
    assert (mine | {"width": (1, 2)}).priors() == mine.priors()
    assert (SearchSpace(ranges) | mine).priors() == {}


def test_repr_and_table_show_a_prior_and_where_it_comes_from() -> None:
    space = make_space(lr=LR)
    assert "lr: 0.0001 .. 0.01 (log scale), default 0.001, prior\n" in repr(space)
    assert "prior: 0.001 times or divided by 3, a paper" in str(space)
    assert "prior" not in str(make_space())


# The quantiles of a normal distribution, carried to the range's own units by hand.
@pytest.mark.parametrize(
    ("prior", "distribution", "is_one_minus", "expected"),
    [
        (Prior(1e-3, 10.0), FloatDistribution(1e-4, 1.0, log=True), False, (0.25, 0.25)),
        (Prior(0.99, 10.0), FloatDistribution(1e-4, 1.0, log=True), True, (0.5, 0.25)),
        (Prior(0.5, 0.25), FloatDistribution(0.0, 2.0), False, (0.25, 0.125)),
        (Prior(8, 2.0), IntDistribution(1, 64, log=True), False, (0.5, 1 / 6)),
        (Prior(3, 1.0), IntDistribution(1, 5), False, (0.5, 0.25)),
        (Prior(0.3, 0.2), FloatDistribution(0.1, 0.9, step=0.2), False, (0.25, 0.25)),
        (Prior(4, 2.0), IntDistribution(4, 4, log=True), False, (0.5, 0.5)),
    ],
    ids=["log", "one-minus", "linear", "int-log", "int", "step", "one-value"],
)
def test_on_the_range_s_own_scale_a_prior_is_a_mean_and_a_standard_deviation(
    prior: Prior,
    distribution: BaseDistribution,
    is_one_minus: bool,
    expected: tuple[float, float],
) -> None:
    found = prior.in_unit_interval(distribution, is_one_minus=is_one_minus)
    assert found == pytest.approx(expected)


def test_two_thirds_of_such_draws_lie_within_the_spread() -> None:
    distribution = FloatDistribution(1e-6, 10.0, log=True)
    mean, std = LR.in_unit_interval(distribution)
    unit = np.random.default_rng(0).normal(mean, std, 20_000)
    values = distribution.low * (distribution.high / distribution.low) ** unit
    inside = (values > LR.median / LR.spread) & (values < LR.median * LR.spread)
    assert inside.mean() == pytest.approx(0.683, abs=0.01)


def test_a_prior_of_another_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"median in 1\.0 \.\. 2\.0, got 0\.001"):
        LR.in_unit_interval(FloatDistribution(1.0, 2.0))


def test_a_study_resumes_when_priors_alone_have_changed_and_records_them() -> None:
    storage = optuna.storages.InMemoryStorage()

    def resume(space: SearchSpace, n_trials: int) -> optuna.Study:
        objective = FunctionObjective(train, search_space=space, direction="minimize", max_steps=1)
        study = make_study("priors", storage=storage, objective=objective, seed=0)
        run(study, objective, n_trials=n_trials)
        return study

    first = SearchSpace({"lr": (1e-4, 1e-2, "log")})
    expected = SearchSpace({"lr": (1e-4, 1e-2, "log")}, priors={"lr": LR})
    resume(first, 2)
    study = resume(expected, 4)
    recipe = read_recipe(study)
    assert recipe is not None
    assert recipe.search_space == expected.to_dict()
    assert len(study.trials) == 4
    assert len(resume(first, 5).trials) == 5
    with pytest.raises(RecipeMismatch):
        resume(SearchSpace({"lr": (1e-4, 1e-2)}), 6)


def train(params: Mapping[str, Any], reporter: Reporter) -> float:
    reporter.report(params["lr"], 0)
    return params["lr"]


@pytest.mark.parametrize(
    "space",
    [optimizer_space(["adam", "adamw", "nadam", "sgd", "rmsprop", "nesterov"]), lightgbm_space()],
    ids=["optimizers", "lightgbm"],
)
def test_each_prior_that_comes_with_hpolab_names_a_paper(space: SearchSpace) -> None:
    assert space.priors()
    assert all("arXiv:" in prior.source for prior in space.priors().values())
