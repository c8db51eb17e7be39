"""What a contender is called it trains, and what it tunes its trainer reads, in every family."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hpolab import (
    Interactions,
    InvalidArgument,
    InvalidType,
    LightGBMObjective,
    RecommenderObjective,
    SearchSpace,
    SklearnObjective,
    TorchObjective,
    compare,
    optimizer_space,
    recommender_space,
    schedule_space,
    split_by_time,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
Y = (X[:, 0] > 0).astype(int)
ADADELTA = {"lr": (0.1, 10.0, "log"), "rho": (0.5, 0.999)}


def of_torch(space=None, build_model=None, **settings):
    inputs, targets = torch.tensor(X, dtype=torch.float32), torch.tensor(Y)
    parts = {
        name: (inputs[i::3], targets[i::3]) for i, name in enumerate(("train", "valid", "score"))
    }
    return TorchObjective(
        build_model or (lambda params: torch.nn.Linear(4, 2)),
        **parts,
        search_space=optimizer_space("adam") if space is None else space,
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=2,
        **settings,
    )


def of_lightgbm(space=None, **settings):
    return LightGBMObjective(
        X, Y, objective="binary", search_space=space, max_rounds=5, folds=2, **settings
    )


def of_sklearn(space=None):
    estimator = make_pipeline(StandardScaler(), SVC())
    return SklearnObjective(estimator, X, Y, search_space=space, folds=2)


def of_recommender(space=None, trainer="mf"):
    users = np.repeat(np.arange(20), 10)
    items = np.tile(np.arange(10), 20)
    rows = Interactions.from_frame({"user": users, "item": items, "ts": items}, timestamp="ts")
    return RecommenderObjective(
        trainer,
        split_by_time(rows),
        search_space=space,
        metric="ndcg@5",
        max_epochs=1,
        references=(),
    )


def params_of(objective, contenders, **settings):
    """Return what the best trial of each contender was trained with."""
    found = compare(
        objective, contenders, study_name="c", n_trials=1, storage="memory://", **settings
    )
    return {name: each.best_params for name, each in found.contenders.items()}


@pytest.fixture
def said(caplog):
    """What the log says."""
    optuna.logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield lambda: " ".join(record.getMessage() for record in caplog.records)
    optuna.logging.disable_propagation()


@pytest.mark.parametrize("name", ["adadelta", "Adadelta", "AdaDelta", "ADADELTA"])
@pytest.mark.parametrize("make", [of_torch, of_recommender])
def test_ranges_under_an_optimizers_name_are_of_that_optimizer(make, name):
    found = params_of(make(), {"adam": {"lr": (1e-4, 1e-2, "log")}, name: ADADELTA})
    assert found["adam"]["optimizer"] == "adam"
    assert found[name]["optimizer"] == "adadelta"
    assert found[name]["lr"] == 1.0
    assert "beta1" not in found[name]


def test_ranges_under_the_name_of_the_objectives_own_optimizer_keep_its_space():
    own = optimizer_space("adam").override(eps=1e-7, beta1=0.85)
    found = params_of(of_torch(own), {"adam": {"lr": (1e-4, 1e-2, "log")}})
    assert (found["adam"]["eps"], found["adam"]["beta1"]) == (1e-7, 0.85)


def test_ranges_under_an_optimizers_name_choose_its_branch():
    space = optimizer_space(["adam", "sgd"]) | schedule_space(["cosine", "step"], max_epochs=2)
    found = params_of(
        of_torch(space.override(**{"sgd.weight_decay": 0.1})),
        {"sgd": {"lr": (0.01, 0.1, "log")}, "momentum": {"schedule": "step"}},
    )
    assert found["sgd"]["optimizer"] == "sgd"
    assert (found["sgd"]["weight_decay"], found["sgd"]["schedule"]) == (0.1, "cosine")
    assert (found["momentum"]["optimizer"], found["momentum"]["schedule"]) == ("momentum", "step")


@pytest.mark.parametrize("name", ["sgd", "SGD", "adadelta"])
@pytest.mark.parametrize(
    "contender",
    [
        optimizer_space("adam"),
        {"optimizer": "adam", "lr": (0.1, 1.0)},
        optimizer_space(["adam", "adamw"]),
        of_torch(),
    ],
    ids=["space", "dict", "choice", "objective"],
)
def test_contender_is_not_called_an_optimizer_that_it_does_not_train(name, contender):
    with pytest.raises(InvalidArgument, match=f"got '{name}', whose optimizer is 'adam'"):
        params_of(of_torch(), {name: contender})


@pytest.mark.parametrize(
    ("make", "name", "kind"),
    [
        (of_recommender, "lightgcn", "trainer is 'mf'"),
        (of_recommender, "softmax", "loss is 'bpr'"),
        (of_lightgbm, "dart", "boosting is 'gbdt'"),
        (of_lightgbm, "GOSS", "boosting is 'gbdt'"),
        (of_sklearn, "linear", "kernel is 'rbf'"),
        (of_sklearn, "LogisticRegression", "estimator is 'Pipeline' or 'SVC'"),
    ],
)
def test_contender_is_not_called_what_another_training_is(make, name, kind):
    objective = make()
    tuned = next(iter(objective.search_space.distributions().values()))
    ranges = {next(iter(objective.search_space.names().values())): tuned}
    with pytest.raises(InvalidArgument, match=kind):
        params_of(objective, {name: ranges})


def test_contender_is_called_what_it_trains():
    dart = {"boosting": "dart", "drop_rate": (0.1, 0.5)}
    assert params_of(of_lightgbm(), {"dart": dart})["dart"]["boosting"] == "dart"
    linear = {"svc__kernel": "linear", "svc__C": (0.1, 10.0)}
    assert params_of(of_sklearn(), {"linear": linear})["linear"]["svc__kernel"] == "linear"
    softmax = recommender_space("mf", loss="softmax")
    assert params_of(of_recommender(), {"softmax": softmax})["softmax"]["loss"] == "softmax"


@pytest.mark.parametrize("name", ["adadelta-wide", "wide adadelta"])
def test_name_that_only_sounds_like_another_optimizer_is_said(name, said):
    params_of(of_torch(), {name: {"lr": (0.1, 1.0)}, "adam-narrow": {"lr": (1e-3, 2e-3)}})
    assert f"Contender '{name}' trains optimizer 'adam'" in said()
    assert "adam-narrow" not in said()


@pytest.mark.parametrize(
    ("make", "ranges", "unread"),
    [
        (of_torch, {"rho": (0.5, 0.9)}, "'rho': 'adadelta' reads it"),
        (of_torch, {"rho": 0.9}, "'rho'"),
        (of_torch, {"momentum": (0.5, 0.9)}, "'momentum'"),
        (of_torch, {"pct_start": (0.1, 0.5)}, "'pct_start': 'one_cycle' reads it"),
        (of_recommender, {"rho": (0.5, 0.9)}, "'rho'"),
        (of_recommender, {"loss": "softmax"}, "'n_negatives'"),
        (of_recommender, {"max_grad_norm": (0.5, 9.0)}, "'max_grad_norm'"),
        (of_lightgbm, {"drop_rate": (0.1, 0.5)}, "'drop_rate'"),
        (of_lightgbm, {"skip_drop": 0.9}, "'skip_drop'"),
        (of_sklearn, {"svc__degree": (2, 4)}, "'svc__degree'"),
    ],
)
def test_contender_whose_parameters_nothing_reads_is_refused(make, ranges, unread):
    with pytest.raises(InvalidArgument, match=unread):
        params_of(make(), {"plain": make().search_space, "mine": ranges})


def test_refused_contender_is_named():
    with pytest.raises(InvalidArgument) as caught:
        params_of(of_torch(), {"plain": {"lr": (1e-3, 1e-2)}, "mine": {"rho": (0.5, 0.9)}})
    assert caught.value.__notes__ == ["Raised for contender 'mine'."]


def test_names_of_optimizers_need_an_objective():
    with pytest.raises(InvalidType, match="must be an Objective where contenders are optimizers"):
        params_of(None, ["adam", "sgd"])


@pytest.mark.parametrize("contenders", [["adam"], {"adam": {"lr": (1e-3, 1e-2)}}])
def test_objective_without_optimizer_has_no_optimizers_as_contenders(contenders):
    objective = SklearnObjective(LogisticRegression(), X, Y, folds=2)
    with pytest.raises(InvalidArgument, match=r"'optimizer'|'lr'"):
        params_of(objective, contenders)


def build_with_slope(params):
    """A model that reads a name of an optimizer's under one choice alone."""
    slope = params["alpha"] if params["activation"] == "leaky" else 0.0
    return torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.LeakyReLU(slope))


def test_name_that_the_model_reads_under_a_choice_is_taken():
    mine = {"activation": ["relu", "leaky"], "alpha": (0.1, 0.3)}
    of_torch(optimizer_space("adam") | mine, build_with_slope).check()
    with pytest.raises(InvalidArgument, match="'alpha'"):
        of_torch(optimizer_space("adam") | {**mine, "activation": "relu"}, build_with_slope).check()


def test_own_optimizer_reads_names_of_its_own():
    def make(params, model):
        return torch.optim.SGD(model.parameters(), lr=params["lr"], momentum=params["momentum"])

    space = SearchSpace({"lr": (1e-3, 1e-1, "log"), "momentum": (0.5, 0.9)})
    of_torch(space, optimizer=make).check()
