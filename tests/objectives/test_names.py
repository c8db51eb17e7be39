"""Names that no trainer reads are refused, in every family, whichever way they come."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    LightGBMObjective,
    RecommenderObjective,
    SearchSpace,
    SklearnObjective,
    TorchObjective,
    leave_last_out,
    lightgbm_space,
    make_taste_clusters,
    optimizer_space,
    recommender_space,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(90, 3)), np.arange(90) % 2
SPLITS = leave_last_out(make_taste_clusters(n_users=30, n_items=40).interactions)


def build(params):
    return torch.nn.Linear(3, params.get("n_outputs", 2))


def of_torch(space=None, build_model=build):
    parts = [(torch.from_numpy(X[i::3]), torch.from_numpy(Y[i::3])) for i in range(3)]
    return TorchObjective(
        build_model,
        **dict(zip(("train", "valid", "score"), parts, strict=True)),
        search_space=optimizer_space("adam") if space is None else space,
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=1,
    )


def of_lightgbm(space=None):
    return LightGBMObjective(X, Y, objective="binary", search_space=space, max_rounds=5, folds=2)


def of_sklearn(space=None):
    return SklearnObjective(LogisticRegression(), X, Y, search_space=space, folds=2)


def of_recommender(space=None, trainer="mf"):
    return RecommenderObjective(
        trainer, SPLITS, search_space=space, metric="ndcg@5", max_epochs=1, references=()
    )


SPACES = {
    of_torch: optimizer_space("adam"),
    of_lightgbm: lightgbm_space("fast"),
    of_sklearn: SearchSpace({"C": (0.1, 1.0)}),
    of_recommender: recommender_space("mf"),
}


@pytest.mark.parametrize("make", SPACES)
@pytest.mark.parametrize("name", ["max_epochs", "patience", "timeout_seconds"])
def test_setting_of_the_objective_is_refused_in_its_space(make, name):
    space = SPACES[make] | SearchSpace({name: (2, 9)})
    # A TorchObjective knows once it has built a model, which may read such a name.
    with pytest.raises(InvalidArgument, match=name):
        make(space).check()
    with pytest.raises(InvalidArgument, match=name):
        make(SPACES[make]).with_search_space(space).check()


@pytest.mark.parametrize("name", ["num_iterations", "n_estimators", "early_stopping_rounds"])
def test_rounds_of_lightgbm_are_an_argument(name):
    with pytest.raises(InvalidArgument, match=f"leave '{name}' out, which is decided by"):
        of_lightgbm(lightgbm_space("fast") | SearchSpace({name: (10, 20)}))


@pytest.mark.parametrize("make", SPACES)
@pytest.mark.parametrize("name", ["learning_rat", "nonsense"])
def test_unknown_name_among_params_is_refused(make, name):
    objective = make(SPACES[make])
    params = objective.search_space.defaults()
    for function in (objective.params_of, objective.fit):
        with pytest.raises(InvalidArgument, match=name):
            function({**params, name: 0.5})


def test_unknown_name_among_params_of_a_function_is_refused():
    objective = FunctionObjective(
        lambda params, reporter: 0.0,
        search_space={"lr": (1e-4, 1e-2)},
        direction="minimize",
        max_steps=1,
    )
    with pytest.raises(InvalidArgument, match="Did you mean 'lr'"):
        objective.params_of({"lr": 1e-3, "learning_rate": 2})


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (of_torch, {"optimizer": "sgd", "lr": 0.1}),
        (of_torch, {"batch_size": 4}),
        (of_lightgbm, {"lambda_l1": 0.5}),
        (of_lightgbm, {"reg_alpha": 0.5}),
        (of_sklearn, {"max_iter": 50}),
    ],
)
def test_name_that_the_trainer_has_is_passed_on_though_the_space_lacks_it(make, more):
    objective = make(SPACES[make])
    params = {**objective.search_space.defaults(), **more}
    assert objective.params_of(params).items() >= more.items() or make is of_lightgbm
    objective.fit(params)


@pytest.fixture
def said(caplog):
    """What the log says."""
    optuna.logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield lambda: " ".join(record.getMessage() for record in caplog.records)
    optuna.logging.disable_propagation()


def test_parameter_that_nothing_reads_is_said(said):
    of_torch(optimizer_space("adam") | SearchSpace({"n_outputs": (2, 3)})).check()
    assert said() == ""
    of_torch(optimizer_space("adam") | SearchSpace({"depth": (2, 3), "width": 4})).check()
    assert "`search_space` has 'depth', 'width', which nothing has read" in said()


@pytest.mark.parametrize("name", ["weigth_decay", "learning_rate", "batchsize"])
def test_parameter_that_is_nearly_the_optimizers_is_refused(name):
    with pytest.raises(InvalidArgument, match=f"got '{name}', which .* Did you mean"):
        of_torch(optimizer_space("adamw") | SearchSpace({name: (0.1, 0.2)})).check()


@pytest.mark.parametrize(
    "read",
    [
        lambda params: params["depth"],
        lambda params: params.get("depth"),
        lambda params: "depth" in params,
        lambda params: {**params},
        lambda params: dict(params),
        lambda params: params | {},
        lambda params: dict(**params),
        lambda params: list(params.items()),
        lambda params: [*params],
        lambda params: params.pop("depth"),
        lambda params: params.copy(),
    ],
)
def test_parameter_that_is_read_in_any_way_is_not_spoken_of(read, said):
    def build_model(params):
        read(params)
        return torch.nn.Linear(3, 2)

    space = optimizer_space("adam") | SearchSpace({"depth": (2, 3)})
    of_torch(space, build_model).check()
    assert said() == ""
