"""Facts: what values depend on is compared, recorded, and said, whatever is stored by then."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import InMemoryStorage
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch.utils.data import DataLoader, Dataset

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    Objective,
    RecipeMismatch,
    SklearnObjective,
    TorchObjective,
    make_study,
    optimizer_space,
    run,
)
from hpolab.studies.facts import stored_facts
from hpolab.studies.recipe import REFERENCES_KEY

KNOWN, NOTED = "hpolab:known_facts", "hpolab:noted_facts"


def identity(params, reporter):
    return params["x"]


def negative(params, reporter):
    return -params["x"]


def make(function: Any = identity, **options: Any) -> FunctionObjective:
    settings = {"search_space": {"x": (0.0, 1.0)}, "direction": "minimize", "max_steps": 1}
    return FunctionObjective(function, **settings | options)


def go(storage: Any, objective: Objective, n_trials: int) -> optuna.Study:
    study = make_study("s", storage=storage, objective=objective, sampler="random")
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


@pytest.fixture
def said(caplog):
    """What the log says."""
    optuna.logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield lambda: " ".join(record.getMessage() for record in caplog.records)
    optuna.logging.disable_propagation()


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (make(negative), "'function': stored 'identity', asked for 'negative'"),
        (make(max_steps=2), "'max_steps': stored 1, asked for 2"),
        (make(metric="loss"), "'metric': stored 'value', asked for 'loss'"),
        (make(facts={"data": "b"}), "'data': stored None, asked for 'b'"),
    ],
)
def test_other_facts_are_refused_by_both_sides_and_what_to_do(other, shown):
    storage = InMemoryStorage()
    go(storage, make(), 2)
    with pytest.raises(RecipeMismatch, match=shown) as raised:
        go(storage, other, 3)
    assert "Take another `study_name`" in str(raised.value)
    assert len(go(storage, make(), 3).trials) == 3


def test_study_that_was_begun_without_facts_refuses_some():
    storage = InMemoryStorage()
    study = go(storage, make(), 1)
    assert "hpolab:facts" not in study.user_attrs or study.user_attrs["hpolab:facts"] == {}
    with pytest.raises(RecipeMismatch, match="'version'"):
        go(storage, make(facts={"version": 1}), 2)


@pytest.mark.parametrize("stored", [None, {"max_steps": 1}])
def test_study_of_an_older_version_resumes_and_what_it_lacked_binds(stored):
    storage = InMemoryStorage()
    study = make_study("s", storage=storage, objective=make(), sampler="random")
    study.optimize(make(), n_trials=1)  # nothing is stored
    if stored is not None:
        study.set_user_attr(KNOWN, stored)
    study = go(storage, make(), 2)
    assert study.user_attrs[KNOWN]["function"] == "identity"
    with pytest.raises(RecipeMismatch, match="'function'"):
        go(storage, make(negative), 3)


def test_name_that_only_the_study_has_is_passed_over():
    storage = InMemoryStorage()
    study = go(storage, make(), 1)
    study.set_user_attr(KNOWN, study.user_attrs[KNOWN] | {"a later version's": 1})
    assert len(go(storage, make(), 2).trials) == 2
    assert study.user_attrs[KNOWN]["a later version's"] == 1


def broken(params, reporter):
    raise ValueError("broken")


def test_study_whose_trials_all_failed_takes_the_corrected_objective():
    storage = InMemoryStorage()
    go(storage, make(broken, facts={"data": "a"}), 2)
    study = make_study("s", storage=storage)
    study.set_user_attr(REFERENCES_KEY, {"simple": {"value": 1.0}})
    study = go(storage, make(facts={"data": "b"}), 3)
    assert stored_facts(study.user_attrs) == {
        **{"class": "FunctionObjective", "metric": "value", "max_steps": 1},
        **{"function": "identity", "data": "b"},
    }
    assert not study.user_attrs[REFERENCES_KEY]  # they were of other data


def test_trial_that_was_interrupted_binds_the_facts():
    storage = InMemoryStorage()

    def interrupted(params, reporter):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(storage, make(interrupted), 1)
    with pytest.raises(RecipeMismatch, match="'function'"):
        go(storage, make(), 1)


def test_changed_code_and_patience_are_said_once_and_not_refused(said):
    def of_code(source):
        space: dict[str, Any] = {}
        exec(f"def train(params, reporter):\n    return {source}", space)
        return space["train"]

    storage = InMemoryStorage()
    go(storage, make(of_code("params['x']")), 1)
    go(storage, make(of_code("params['x']")), 2)
    assert said() == ""
    go(storage, make(of_code("1 - params['x']"), patience=3), 3)
    assert "the code of `function` and `patience` have changed" in said()
    before = said()
    go(storage, make(of_code("1 - params['x']"), patience=3), 4)
    assert said() == before


def test_plain_function_that_changed_is_said_once(said):
    def of_code(source):
        space: dict[str, Any] = {}
        exec(f"def objective(trial):\n    return {source}", space)
        return space["objective"]

    storage = InMemoryStorage()
    same, other = "trial.suggest_float('x', 0, 1)", "100 + trial.suggest_float('x', 0, 1)"
    for n_trials, source in enumerate([same, same, other, other], start=1):
        run(make_study("s", storage=storage), of_code(source), n_trials=n_trials)
    assert said().count("the code of `objective` has changed") == 1
    run(make_study("t", storage=storage), of_code(same), n_trials=1)
    for n_trials, scale in ((2, np.ones(3)), (3, np.zeros(3))):
        run(
            make_study("u", storage=storage),
            lambda trial, scale=scale: float(scale.sum()),
            n_trials=n_trials,
        )
    assert "the data that `objective` reads has changed" in said()


def test_code_of_another_python_is_not_taken_for_a_change(said):
    storage = InMemoryStorage()
    study = go(storage, make(), 1)
    older = {"the code of `function`": {"python": "3.9", "code": "0"}}
    study.set_user_attr(NOTED, study.user_attrs[NOTED] | older)
    go(storage, make(), 2)
    assert said() == ""


def test_array_that_a_function_reads_is_said_once_it_changes(said):
    storage = InMemoryStorage()

    def objective(data):
        return make(lambda params, reporter: params["x"] * data.sum())

    go(storage, objective(np.ones(3)), 1)
    go(storage, objective(np.ones(3)), 2)
    assert said() == ""
    go(storage, objective(np.ones(4)), 3)
    assert "the data that `function` reads has changed" in said()


@pytest.mark.parametrize(("one", "other"), [(1, 1000), ([1, 2], [1, 3]), ({"w": 1}, {"w": 2})])
def test_configuration_that_a_function_reads_is_said_once_it_changes(said, one, other):
    storage = InMemoryStorage()

    def objective(value):
        return make(lambda params, reporter: params["x"] * len(str(value)))

    go(storage, objective(one), 1)
    go(storage, objective(one), 2)
    assert said() == ""
    go(storage, objective(other), 3)
    assert "the configuration that `function` reads has changed" in said()


def test_helper_that_a_function_calls_is_said_once_it_changes(said):
    storage = InMemoryStorage()

    def objective(helper):
        return make(lambda params, reporter: helper(params["x"]))

    go(storage, objective(lambda x: x), 1)
    go(storage, objective(lambda x: x), 2)
    assert said() == ""
    go(storage, objective(lambda x: 1000 * x), 3)
    assert "the code that `function` calls has changed" in said()


def test_what_an_objective_of_ones_own_holds_is_said_once_it_changes(said):
    class Own(Objective):
        def __init__(self, X, weight=1.0):
            super().__init__(search_space={"x": (0.0, 1.0)}, direction="minimize", max_steps=1)
            self.X, self.weight, self.n_trained = X, weight, 0

        def train(self, params, reporter):
            self.n_trained += 1
            return params["x"] * self.weight * float(self.X.sum())

    storage = InMemoryStorage()
    go(storage, Own(np.ones(3)), 1)
    go(storage, Own(np.ones(3)).with_settings(timeout_seconds=60), 2)
    assert said() == ""
    go(storage, Own(np.full(3, 1000.0)), 3)
    assert said().count("what the objective holds has changed") == 1
    go(storage, Own(np.full(3, 1000.0), weight=2.0), 4)
    assert said().count("what the objective holds has changed") == 2


def test_function_inside_an_estimator_is_said_once_it_changes(said):
    rows = np.arange(40.0)[:, None], np.arange(40) % 2

    def objective(transform):
        steps = make_pipeline(FunctionTransformer(transform), LogisticRegression())
        space = {"logisticregression__C": (0.1, 10.0, "log")}
        return SklearnObjective(steps, rows, search_space=space)

    storage = InMemoryStorage()
    go(storage, objective(lambda X: X), 1)
    go(storage, objective(lambda X: X), 2)
    assert said() == ""
    go(storage, objective(lambda X: X / 1000), 3)
    assert "the code that `estimator` calls has changed" in said()


class Scaled(Dataset):
    """A data set of a user's own, which counts what is read."""

    def __init__(self, scale):
        self.X, self.n_read = torch.arange(32.0)[:, None] * scale, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        self.n_read += 1
        return self.X[row], self.X[row] / 2


def of_batches(scale=1.0, **options):
    return TorchObjective(
        lambda params: torch.nn.Linear(1, 1),
        train=DataLoader(Scaled(scale), batch_size=8),
        valid=(torch.ones(4, 1), torch.ones(4, 1)),
        search_space=optimizer_space("sgd").override(lr=(1e-6, 1e-5)),
        **{"loss": "mse", "metric": "mse", "max_epochs": 1, **options},
    )


def test_data_set_of_ones_own_is_said_once_it_changes(said):
    storage = InMemoryStorage()
    go(storage, of_batches(), 1)
    go(storage, of_batches(), 2)
    assert said() == ""
    go(storage, of_batches(scale=2.0), 3)
    assert "what `train` holds has changed" in said()


def test_batches_that_are_read_otherwise_are_another_fact():
    storage = InMemoryStorage()
    go(storage, of_batches(), 1)
    with pytest.raises(RecipeMismatch, match="unpack settings"):
        go(storage, of_batches(unpack=lambda batch: (batch[0], batch[1] * 2)), 2)


def test_lambda_is_known_by_its_name_in_every_place():
    storage = InMemoryStorage()
    for n_trials, function in enumerate([lambda p, r: p["x"], lambda p, r: p["x"]], start=1):
        assert len(go(storage, make(function), n_trials).trials) == n_trials


def test_subclass_resumes_what_its_parent_has_run():
    class Watched(FunctionObjective):
        def train(self, params, reporter):
            return super().train(params, reporter)

    storage = InMemoryStorage()
    go(storage, make(), 1)
    watched = Watched(identity, search_space={"x": (0.0, 1.0)}, direction="minimize", max_steps=1)
    assert len(go(storage, watched, 2).trials) == 2


def test_corrected_scale_of_a_study_without_a_trial_is_taken():
    storage = InMemoryStorage()
    make_study("s", storage=storage, objective=make(search_space={"x": (0.1, 1.0)}))
    study = go(storage, make(search_space={"x": (0.1, 1.0, "log")}), 2)
    assert study.trials[0].distributions["x"].log


@pytest.mark.parametrize(
    "asked", [{"x": (0.1, 1.0, "log")}, {"x": [0.25, 0.5]}, {"x": (0.0, 1.0), "y": (1, 4)}]
)
def test_corrected_space_keeps_enqueued_trials(asked):
    storage = InMemoryStorage()
    study = make_study("s", storage=storage, objective=make())
    study.enqueue_trial({"x": 0.25})
    assert go(storage, make(search_space=asked), 2).trials[0].params["x"] == 0.25
    study = make_study("t", storage=storage, objective=make())
    study.enqueue_trial({"x": 0.25})
    with pytest.raises(InvalidArgument, match="Trial 0 of study 't'"):
        run(study, make(search_space={"x": (0.5, 1.0)}), n_trials=1)
