"""Trainers on Ray read memory that they share and cannot write to; what else workers hold on to."""

from __future__ import annotations

import os
import sys
import threading
import time

import cloudpickle
import numpy as np
import pytest
import ray
from optuna.trial import TrialState

from hpolab import (
    LightGBMObjective,
    RayExecutor,
    SearchSpace,
    SklearnObjective,
    TorchObjective,
    make_study,
    optimizer_space,
    run,
)

# A worker on Ray has no folder of tests in its search path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and labels of more bytes than travel with the rest."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1500, 12)).astype(np.float32)
    return features, (features[:, 0] > 0).astype(np.int64)


def linear(params):
    import torch

    return torch.nn.Linear(12, 2)


def torch_objective():
    return TorchObjective(
        linear,
        train=rows(0),
        valid=rows(1),
        score=rows(2),
        search_space=optimizer_space("sgd"),
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=2,
        batch_size=256,
    )


def lightgbm_objective():
    return LightGBMObjective(
        train=rows(0),
        valid=rows(1),
        score=rows(2),
        search_space=SearchSpace({"num_leaves": (4, 8)}),
        objective="binary",
        metric="auc",
        max_rounds=5,
    )


def sklearn_objective():
    from sklearn.linear_model import SGDClassifier

    return SklearnObjective(
        SGDClassifier(random_state=0),
        *rows(0),
        search_space=SearchSpace({"alpha": (1e-5, 1e-2, "log")}),
    )


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("make", [torch_objective, lightgbm_objective, sklearn_objective])
def test_each_family_trains_on_shared_memory_as_on_its_own(make, url):
    values = []
    for name, executor in {"alone": None, "on-ray": RayExecutor(n_workers=1)}.items():
        study = make_study(name, objective=make(), storage=url, sampler="random", seed=0)
        run(study, make(), n_trials=3, executor=executor)
        assert [t.state for t in study.trials if t.state == TrialState.FAIL] == []
        values.append([(trial.params, trial.value) for trial in study.trials])
    assert values[0] == values[1]


def slow(trial):
    time.sleep(0.4)
    return trial.suggest_float("x", -1, 1) ** 2


def test_keeper_that_dies_is_given_back_what_it_kept(ray_cluster, url):
    def kill_the_keeper() -> None:
        while len(ray_cluster.actors()) < 3 or len(study.trials) < 4:
            time.sleep(0.1)
        named = ray.util.list_named_actors(all_namespaces=True)
        place = next(each["namespace"] for each in named if each["name"] == "keeper")
        # Ray starts it again, as after a crash.
        ray.kill(ray.get_actor("keeper", namespace=place), no_restart=False)

    study = make_study("s", storage=url, sampler="random")
    killer = threading.Thread(target=kill_the_keeper)
    killer.start()
    run(study, slow, n_trials=16, executor=RayExecutor(n_workers=2))
    killer.join()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 16
    assert ray_cluster.actors() == []


@pytest.mark.usefixtures("ray_cluster")
def test_worker_without_gpus_sees_none_of_those_of_others(url):
    def objective(trial):
        trial.set_user_attr("visible", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return 0.0

    study = make_study("s", storage=url, sampler="random")
    run(study, objective, n_trials=1, executor=RayExecutor())
    assert study.trials[0].user_attrs["visible"] == ""


@pytest.mark.long  # a keeper takes ten seconds to see that nobody watches
def test_workers_that_a_dead_run_left_behind_are_replaced_if_they_do_something_else(
    ray_cluster, url, python, caplog
):
    script = """
import sys, time
from hpolab import RayExecutor, make_study, run
def slow(trial):
    time.sleep(0.4)
    return trial.suggest_float("x", -1, 1) ** 2
study = make_study("s", storage=sys.argv[1], sampler="random")
run(study, slow, n_trials=500, executor=RayExecutor(n_workers=2, address=sys.argv[2]))
"""
    study = make_study("s", storage=url, sampler="random")
    with python.start(script, url, ray_cluster.address, cold=True) as driver:
        deadline = time.monotonic() + 60
        while sum(trial.state == TrialState.COMPLETE for trial in study.trials) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        driver.kill()
        driver.communicate()
    time.sleep(11)  # until nobody watches any more
    n_done = len(study.trials)
    run(study, slow, n_trials=n_done + 4, executor=RayExecutor(n_workers=2))
    assert "They are replaced" in caplog.text
    assert "n_trials (theirs 500" in caplog.text
    finished = [trial.state for trial in study.trials if trial.state.is_finished()]
    assert set(finished) == {TrialState.COMPLETE}
    assert len(study.trials) <= n_done + 20
    assert ray_cluster.actors() == []
